//! The console: pages from status values. Pure: nothing is fetched, nothing is remembered.
//!
//! Pages work without scripts; the charts are drawn by a short inline one from
//! `/v1/series`. Nothing is loaded from elsewhere.

mod actors;
mod cache;
mod calls;
mod files;
mod gateway;
mod globals;
mod groups;
mod jobs;
mod keys;
mod lab;
mod layout;
mod members;
mod overview;
mod services;
mod sessions;
mod shards;
mod streams;
mod text;
mod topics;
mod transactions;
mod tree;

pub use actors::{ActorRow, Actors};
pub use lab::{Algorithm, Laboratory};
use node::Status;
use node::admin::{KeysPage, TopicsPage, TreePage};
pub use streams::StreamRow;
use traffic::calls::Table;
use traffic::report::GatewayReport;

/// A page of the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// The golden signals and the node's state.
    Overview,
    /// The members of the cluster.
    Members,
    /// Replicas on this node.
    Shards,
    /// Sessions and watches.
    Sessions,
    /// Groups of nodes that run protocols among equals.
    Groups,
    /// Services and their checks.
    Services,
    /// Calls between services.
    Calls,
    /// The tree, a node at a time.
    Tree,
    /// The cache.
    Cache,
    /// Keys of the cache.
    Keys,
    /// Topics and consumer groups.
    Topics,
    /// Routes and servers of the gateway.
    Gateway,
    /// Transactions over chapters.
    Transactions,
    /// Global transactions of services.
    Globals,
    /// Files and their chunks.
    Files,
    /// Jobs and agents.
    Jobs,
    /// Algorithms under simulated faults.
    Lab,
    /// Actors of names.
    Actors,
    /// Streams over topics.
    Streams,
}

impl Page {
    /// All, by what they are about, in the order of the navigation.
    pub const ALL: &[(&str, &[Self])] = &[
        ("Cluster", &[Self::Overview, Self::Members, Self::Shards]),
        ("Coordination", &[Self::Tree, Self::Sessions, Self::Groups]),
        (
            "Communication",
            &[Self::Services, Self::Calls, Self::Topics],
        ),
        ("Storage", &[Self::Cache, Self::Keys, Self::Files]),
        ("Transactions", &[Self::Transactions, Self::Globals]),
        ("Scheduling", &[Self::Jobs]),
        ("Computing", &[Self::Streams, Self::Actors]),
        ("Availability", &[Self::Gateway]),
        ("Laboratory", &[Self::Lab]),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .flat_map(|(_, pages)| pages.iter().copied())
    }

    /// The page at a URL's path.
    pub fn at(path: &str) -> Option<Self> {
        Self::all().find(|page| page.path() == path)
    }

    /// The path of its URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Members => "/members",
            Self::Shards => "/shards",
            Self::Sessions => "/sessions",
            Self::Groups => "/groups",
            Self::Services => "/services",
            Self::Calls => "/calls",
            Self::Tree => "/tree",
            Self::Cache => "/cache",
            Self::Keys => "/keys",
            Self::Topics => "/topics",
            Self::Gateway => "/gateway",
            Self::Transactions => "/transactions",
            Self::Globals => "/globals",
            Self::Files => "/files",
            Self::Jobs => "/jobs",
            Self::Lab => "/lab",
            Self::Actors => "/actors",
            Self::Streams => "/streams",
        }
    }

    /// Its name in the navigation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Members => "Members",
            Self::Shards => "Shards",
            Self::Sessions => "Sessions",
            Self::Groups => "Groups",
            Self::Services => "Services",
            Self::Calls => "Calls",
            Self::Tree => "Tree",
            Self::Cache => "Cache",
            Self::Keys => "Keys",
            Self::Topics => "Topics",
            Self::Gateway => "Gateway",
            Self::Transactions => "Transactions",
            Self::Globals => "Global transactions",
            Self::Files => "Files",
            Self::Jobs => "Jobs",
            Self::Lab => "Algorithms",
            Self::Actors => "Actors",
            Self::Streams => "Streams",
        }
    }
}

/// What a page is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// Of each core of the node.
    pub statuses: &'a [Status],
    /// The node of the tree that was asked for.
    pub path: &'a str,
    /// What it holds, or why it cannot be shown; for [`Page::Tree`].
    pub tree: Option<&'a Result<TreePage, String>>,
    /// The keys that were asked for, or why they cannot be shown; for [`Page::Keys`].
    pub keys: Option<&'a Result<KeysPage, String>>,
    /// The topics that were asked for, or why they cannot be shown; for [`Page::Topics`].
    pub topics: Option<&'a Result<TopicsPage, String>>,
    /// What the node's gateway tells, if there is one; for [`Page::Gateway`].
    pub gateway: Option<&'a GatewayReport>,
    /// What nodes were told of calls; for [`Page::Calls`].
    pub calls: Option<&'a Table>,
    /// What the laboratory says of itself, where there is one; for [`Page::Lab`].
    pub lab: Option<&'a Laboratory>,
    /// What the tree tells of actors, or why it cannot be shown; for [`Page::Actors`].
    pub actors: Option<&'a Result<Actors, String>>,
    /// What the tree and the topics tell of streams, or why it cannot be shown; for [`Page::Streams`].
    pub streams: Option<&'a Result<Vec<StreamRow>, String>>,
}

/// The page as HTML.
pub fn render(page: Page, view: &View<'_>) -> String {
    let body = match page {
        Page::Overview => overview::body(view),
        Page::Members => members::body(view),
        Page::Shards => shards::body(view),
        Page::Sessions => sessions::body(view),
        Page::Groups => groups::body(view),
        Page::Services => services::body(view),
        Page::Calls => calls::body(view),
        Page::Tree => tree::body(view),
        Page::Cache => cache::body(view),
        Page::Keys => keys::body(view),
        Page::Topics => topics::body(view),
        Page::Gateway => gateway::body(view),
        Page::Transactions => transactions::body(view),
        Page::Globals => globals::body(view),
        Page::Files => files::body(view),
        Page::Jobs => jobs::body(view),
        Page::Lab => lab::body(view),
        Page::Actors => actors::body(view),
        Page::Streams => streams::body(view),
    };
    layout::page(page, view, &body).into_string()
}
