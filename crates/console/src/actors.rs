//! Actors of names: who runs them, and how they fare.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::count;
use maud::{Markup, html};

/// An actor that is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ActorRow {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Where its host takes messages; empty while nobody runs it.
    pub address: String,
    /// Under which its host owns the name.
    pub generation: String,
    /// Messages that waited when its host last told.
    pub mailbox: u64,
    /// How often its host has started it again.
    pub restarts: u64,
    /// Messages that it has handled there.
    pub handled: u64,
}

/// What the tree tells of actors.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Actors {
    /// The first of them, by name.
    pub list: Vec<ActorRow>,
    /// All that are wanted.
    pub wanted: u64,
    /// Hosts that live, and the kinds that they can run.
    pub hosts: Vec<(String, String)>,
}

pub fn body(view: &View<'_>) -> Markup {
    let actors = match view.actors {
        None => return html! { h1 { "Actors" } },
        Some(Err(why)) => {
            return html! { h1 { "Actors" } p.empty { "There is nothing to show: " (why) "." } };
        }
        Some(Ok(actors)) => actors,
    };
    let rows: Vec<Vec<Markup>> = actors.list.iter().map(row).collect();
    let hosts: Vec<Vec<Markup>> = (actors.hosts.iter())
        .map(|(address, kinds)| vec![code(address), plain(kinds)])
        .collect();
    let lonely = actors.list.iter().filter(|row| row.address.is_empty());
    let restarts = actors.list.iter().map(|row| row.restarts).sum();
    html! {
        h1 { "Actors" }
        div.figures {
            (figure("Actors", count(actors.wanted), "that are wanted"))
            (figure("Without a host", count(lonely.count() as u64), "among those below"))
            (figure("Restarts", count(restarts), "by their present hosts"))
            (figure("Hosts", count(actors.hosts.len() as u64), "that live"))
        }
        h2 {
            "By name"
            @if actors.wanted > rows.len() as u64 { " · the first " (count(rows.len() as u64)) " of " (count(actors.wanted)) }
        }
        (table(
            &[
                ("Name", false), ("Kind", false), ("Host", false), ("Generation", true),
                ("Mailbox", true), ("Restarts", true), ("Handled", true),
            ],
            &rows,
            "None is wanted: althing actor start NAME KIND.",
        ))
        h2 { "Hosts" }
        (table(&[("Address", false), ("Kinds", false)], &hosts, "None lives."))
        p.dim { "From the tree, below /althing/actors. Hosts tell figures every two seconds." }
    }
}

fn row(row: &ActorRow) -> Vec<Markup> {
    vec![
        html! { strong { (row.name) } },
        plain(&row.kind),
        html! { @if row.address.is_empty() { strong { "nobody" } } @else { (code(&row.address)) } },
        plain(&row.generation),
        plain(count(row.mailbox)),
        plain(count(row.restarts)),
        plain(count(row.handled)),
    ]
}
