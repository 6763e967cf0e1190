//! A host of actors of names: it runs those that fall to it, and gives them up in time.
//!
//! All that a host knows of others is in the tree, below `/althing/actors`: `wanted` (that there shall be an actor of a
//! name, of which kind), `owners` (who runs it now: ephemeral), `hosts` (who could: ephemeral), `states` (what actors
//! keep). Each round looks at all of it and does what is missing; a round that fails half-way is followed by another.

use crate::actor::{Actor, Failure};
use crate::context::Named;
use crate::host::{Door, Doors, Entry, HostData, OwnerData, Told, WantedData};
use crate::names::{HOSTS, Names, OWNERS, STATES, WANTED, at};
use crate::supervisor::{Running, Supervisor};
use crate::tree::{Session, Tree, TreeError};
use computing::actors::{Host, Limits, Restart, Strategy, owner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A look at everything at least so often.
const ROUND: Duration = Duration::from_millis(500);
/// What a host says of its actors is at most so old.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// A host on which an actor failed too often does not run it for so long.
const REFUSE_TIME: Duration = Duration::from_secs(30);
/// Messages that may wait for an actor of a name, where nothing else is said.
const MAILBOX_MAX: usize = 1_000;

/// What an actor of a name is made from.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// What was said when it was wanted.
    pub with: Value,
}

type Make = dyn Fn(Start, Named, Bounds) -> (Supervisor, Arc<dyn Door>) + Send + Sync;

/// What is said of all actors of a host.
#[derive(Clone, Copy)]
struct Bounds {
    mailbox_max: usize,
    limits: Limits,
}

/// A host that is to be.
pub struct Builder {
    servers: String,
    listen: String,
    advertise: Option<String>,
    session: Duration,
    bounds: Bounds,
    kinds: BTreeMap<String, Arc<Make>>,
}

/// A host that runs. [`System::leave`] gives its actors up in order; dropping it does so without waiting.
pub struct System {
    names: Names,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    listener: JoinHandle<()>,
}

impl System {
    /// A host for the cluster with these ZooKeeper addresses (`host:port`, by commas).
    pub fn builder(servers: impl Into<String>) -> Builder {
        Builder {
            servers: servers.into(),
            listen: "127.0.0.1:0".into(),
            advertise: None,
            session: Duration::from_secs(6),
            bounds: Bounds {
                mailbox_max: MAILBOX_MAX,
                limits: Limits::default(),
            },
            kinds: BTreeMap::new(),
        }
    }

    /// The cluster's actors.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Where other hosts reach this one.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops the actors that run here, gives their names up, and waits for both.
    pub async fn leave(mut self) {
        self.stop = None;
        let _ = (&mut self.task).await;
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Builder {
    /// Where messages from other hosts are taken: `host:port`; port 0 takes a free one. `127.0.0.1:0` without a word
    /// about it. Whoever reaches it may talk to the actors.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Where others reach it, when that is another address.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// After so long without a word from it, others run its actors: 6 s without a word about it. The cluster has
    /// bounds for it (`zookeeper.session_timeout_ms`).
    #[must_use]
    pub fn session(mut self, timeout: Duration) -> Self {
        self.session = timeout;
        self
    }

    /// Messages that may wait for each actor; 1,000 without a word about it.
    #[must_use]
    pub fn mailbox(mut self, most: usize) -> Self {
        self.bounds.mailbox_max = most;
        self
    }

    /// How often an actor may fail here before another host is to try.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.bounds.limits = limits;
        self
    }

    /// A kind of actors that this host can run: `make` makes each incarnation.
    #[must_use]
    pub fn kind<A: Actor>(
        mut self,
        kind: impl Into<String>,
        make: impl Fn(&Start) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A::Message: DeserializeOwned,
        A::Answer: Serialize,
    {
        let make = Arc::new(make);
        let start = move |start: Start, named: Named, bounds: Bounds| {
            let make = make.clone();
            let name = start.name.clone();
            let mut supervisor =
                Supervisor::new(name.clone(), Strategy::OneForOne).limits(bounds.limits);
            let (restart, named) = (Restart::Permanent, Some(named));
            let make = move || make(&start);
            let address = supervisor.add(name, restart, bounds.mailbox_max, named, make);
            (supervisor, Arc::new(address) as Arc<dyn Door>)
        };
        self.kinds.insert(kind.into(), Arc::new(start));
        self
    }

    /// Starts it, within a runtime of tokio.
    ///
    /// # Errors
    ///
    /// It cannot listen there. That no node of the cluster answers is no error: it goes on trying.
    pub async fn start(self) -> Result<System, Failure> {
        let listener = TcpListener::bind(&self.listen).await.map_err(|error| {
            Failure::new(format!("cannot take messages at {}: {error}", self.listen))
        })?;
        let address = match self.advertise {
            Some(address) => address,
            None => listener.local_addr()?.to_string(),
        };
        let tree = Tree::connect(&self.servers, self.session);
        let doors = Arc::new(Doors::new(tree.clone()));
        let listener = tokio::spawn(doors.clone().serve(listener));
        let (stop, stopped) = oneshot::channel();
        let host = Hosting {
            session: tree.session(),
            tree: tree.clone(),
            doors,
            kinds: self.kinds,
            bounds: self.bounds,
            address: address.clone(),
            held: BTreeMap::new(),
            claimed: BTreeSet::new(),
            refused: BTreeMap::new(),
            told: None,
        };
        Ok(System {
            names: Names::over(tree),
            address,
            stop: Some(stop),
            task: tokio::spawn(host.run(stopped)),
            listener,
        })
    }
}

/// An actor that runs here, or has not quite ended.
struct Held {
    entry: Entry,
    running: Running,
    is_stopping: bool,
}

struct Hosting {
    session: watch::Receiver<Session>,
    tree: Tree,
    doors: Arc<Doors>,
    kinds: BTreeMap<String, Arc<Make>>,
    bounds: Bounds,
    address: String,
    held: BTreeMap<String, Held>,
    /// Names that this session has tried to own, and may.
    claimed: BTreeSet<(i64, String)>,
    /// Until when.
    refused: BTreeMap<String, Instant>,
    /// What was told, with which session, and when.
    told: Option<(i64, HostData, Instant)>,
}

impl Hosting {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let (wake, mut woken) = mpsc::channel(1);
        // Rounds may be slow when the tree is; leases are looked at meanwhile.
        let guard = tokio::spawn(watch_leases(self.tree.clone(), wake));
        loop {
            self.session.borrow_and_update();
            let round = self.round();
            tokio::select! {
                done = round => {
                    // The next one finds what is missing.
                    let _: Result<(), TreeError> = done;
                }
                _ = &mut stop => break,
                _ = woken.recv() => {}
            }
            self.end_what_is_over();
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                _ = woken.recv() => {}
                _ = self.changed() => {}
                _ = &mut stop => break,
            }
        }
        guard.abort();
        self.leave().await;
    }

    /// Waits until something may have changed in the tree.
    async fn changed(&mut self) {
        let before = self.session.borrow().changes;
        let is_other = |session: &Session| session.changes != before;
        if self.session.wait_for(is_other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn leave(mut self) {
        for (name, held) in &mut self.held {
            self.doors.set(name, None);
            held.running.begin_stop();
        }
        for held in self.held.values_mut() {
            let _ = held.running.ended().await;
        }
        // Names are free with the session's end.
        let _ = self.tree.close().await;
    }

    /// Cuts off what may not act any more.
    fn end_what_is_over(&mut self) {
        for (name, held) in &mut self.held {
            if !held.entry.is_valid(&self.tree) {
                self.doors.set(name, None);
                held.running.abort();
                held.is_stopping = true;
            }
        }
    }

    async fn round(&mut self) -> Result<(), TreeError> {
        self.end_what_is_over();
        let session = self.session.borrow().id;
        if session == 0 {
            return Ok(());
        }
        let id = format!("{}-{session:x}", self.address);
        self.bury(session).await?;
        self.tell(session, &id).await?;

        for directory in [WANTED, OWNERS, STATES] {
            if self.tree.get(directory, false).await?.is_none() {
                self.tree.create(directory, b"", false).await?;
            }
        }
        let wanted = self.tree.children(WANTED, true).await?;
        let wanted: BTreeSet<String> = wanted.into_iter().collect();
        let owned = self.tree.children(OWNERS, true).await?;
        let owned: BTreeSet<String> = owned.into_iter().collect();
        let mut hosts = BTreeMap::new();
        for id in self.tree.children(HOSTS, true).await? {
            if let Some((data, _)) = self.tree.get(&at(HOSTS, &id), false).await?
                && let Ok(data) = serde_json::from_slice::<HostData>(&data)
            {
                hosts.insert(id, data);
            }
        }
        for (name, held) in &mut self.held {
            if !wanted.contains(name) && !held.is_stopping {
                self.doors.set(name, None);
                held.running.begin_stop();
                held.is_stopping = true;
            }
        }
        for name in &wanted {
            if !self.held.contains_key(name) {
                let is_owned = owned.contains(name);
                self.consider(session, &id, name, is_owned, &hosts).await?;
            }
        }
        Ok(())
    }

    /// Gives up the names of actors that have ended.
    async fn bury(&mut self, session: i64) -> Result<(), TreeError> {
        let ended = |(name, held): (&String, &Held)| {
            let is_over = held.running.is_finished();
            is_over.then(|| (name.clone(), held.is_stopping))
        };
        let ended: Vec<_> = self.held.iter().filter_map(ended).collect();
        for (name, was_stopped) in ended {
            self.doors.set(&name, None);
            if !was_stopped {
                // It failed too often here.
                let until = Instant::now() + REFUSE_TIME;
                self.refused.insert(name.clone(), until);
            }
            if self.owns(session, &name).await?.is_some() {
                self.tree.delete(&at(OWNERS, &name)).await?;
            }
            self.claimed.remove(&(session, name.clone()));
            self.held.remove(&name);
        }
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        Ok(())
    }

    /// The generation under which this session owns a name.
    async fn owns(&self, session: i64, name: &str) -> Result<Option<i64>, TreeError> {
        let found = self.tree.get(&at(OWNERS, name), false).await?;
        let mine = found.filter(|(_, stat)| stat.ephemeral_owner == session);
        Ok(mine.map(|(_, stat)| stat.czxid))
    }

    /// Says who this is and what runs here: at once when something else can or cannot run here, figures from time to time.
    async fn tell(&mut self, session: i64, id: &str) -> Result<(), TreeError> {
        let actors = (self.doors.all().into_iter()).map(|(name, entry)| {
            let [mailbox, restarts, handled] = entry.door.figures();
            let told = Told {
                generation: entry.generation,
                mailbox,
                restarts,
                handled,
            };
            (name, told)
        });
        let data = HostData {
            address: self.address.clone(),
            kinds: self.kinds.keys().cloned().collect(),
            refuses: self.refused.keys().cloned().collect(),
            actors: actors.collect(),
        };
        if let Some((told_by, told, at)) = &self.told
            && *told_by == session
        {
            let is_due = at.elapsed() >= TELL_EVERY;
            if *told == data || told.refuses == data.refuses && !is_due {
                return Ok(());
            }
        }
        let (path, bytes) = (at(HOSTS, id), serde_json::to_vec(&data).unwrap_or_default());
        if self.tree.create(&path, &bytes, true).await?.is_none() {
            self.tree.set(&path, &bytes, -1).await?;
        }
        self.told = Some((session, data, Instant::now()));
        Ok(())
    }

    /// An actor that is wanted and does not run here.
    async fn consider(
        &mut self,
        session: i64,
        id: &str,
        name: &str,
        is_owned: bool,
        hosts: &BTreeMap<String, HostData>,
    ) -> Result<(), TreeError> {
        let claim = (session, name.to_owned());
        if is_owned && !self.claimed.contains(&claim) {
            return Ok(());
        }
        let path = at(WANTED, name);
        let Some((wanted, _)) = self.tree.get(&path, false).await? else {
            return Ok(());
        };
        let Ok(wanted) = serde_json::from_slice::<WantedData>(&wanted) else {
            return Ok(());
        };
        let able = hosts.iter().map(|(id, host)| Host {
            id,
            is_able: host.kinds.contains(&wanted.kind)
                && !host.refuses.iter().any(|refused| refused == name),
        });
        let Some(make) = self.kinds.get(&wanted.kind).cloned() else {
            return Ok(());
        };
        if !is_owned {
            if owner(name, able) != Some(id) {
                return Ok(());
            }
            let data = OwnerData {
                host: id.to_owned(),
                address: self.address.clone(),
            };
            let data = serde_json::to_vec(&data).unwrap_or_default();
            // Whether this succeeds is seen from the tree, also when its answer is lost.
            self.claimed.insert(claim);
            self.tree.create(&at(OWNERS, name), &data, true).await?;
        }
        let Some(generation) = self.owns(session, name).await? else {
            return Ok(());
        };
        let named = Named {
            tree: self.tree.clone(),
            generation,
            path: at(STATES, name),
        };
        let start = Start {
            name: name.to_owned(),
            with: wanted.with,
        };
        let (supervisor, door) = make(start, named, self.bounds);
        let entry = Entry {
            generation,
            session,
            door,
        };
        self.doors.set(name, Some(entry.clone()));
        let held = Held {
            entry,
            running: supervisor.start(),
            is_stopping: false,
        };
        self.held.insert(name.to_owned(), held);
        Ok(())
    }
}

/// Wakes a host when its session's lease is over, or another session has begun.
async fn watch_leases(tree: Tree, wake: mpsc::Sender<()>) {
    let mut sessions = tree.session();
    loop {
        let session = sessions.borrow_and_update().clone();
        let over_us = session.asked_us + session.lease_us - session.lease_us / 20;
        let left = Duration::from_micros(over_us.saturating_sub(tree.now_us()));
        let is_over = left.is_zero();
        tokio::select! {
            () = tokio::time::sleep(left), if !is_over => {}
            changed = sessions.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        let _ = wake.try_send(());
    }
}
