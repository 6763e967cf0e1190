//! Actors of names: who they are, and messages to them, wherever they run.

use crate::actor::{Actor, CallError};
use crate::host::{HostData, OwnerData, WantedData};
use crate::tree::{Tree, TreeError};
use crate::wire::{self, Answer, Outcome, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Before a message that was surely not carried out is sent again.
const PAUSE: Duration = Duration::from_millis(50);
/// Who waits for an answer looks so often whether its owner still has the name.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Requests to one host that wait to be written.
const FRAMES_MAX: usize = 1_000;

pub(crate) const WANTED: &str = "/althing/actors/wanted";
pub(crate) const OWNERS: &str = "/althing/actors/owners";
pub(crate) const HOSTS: &str = "/althing/actors/hosts";
pub(crate) const STATES: &str = "/althing/actors/states";

pub(crate) fn at(directory: &str, name: &str) -> String {
    format!("{directory}/{name}")
}

/// Why names could not be read or changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamesError(String);

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NamesError {}

impl From<TreeError> for NamesError {
    fn from(error: TreeError) -> Self {
        Self(error.to_string())
    }
}

/// Refuses what cannot stand in a path.
fn check(name: &str) -> Result<(), NamesError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match (1..=128).contains(&name.len()) && name.chars().all(is_fine) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(NamesError(format!(
            "{name:?} is no name of an actor: use 1 to 128 letters, digits, '-', '_' and '.', and none in front"
        ))),
    }
}

/// An actor of a name, as the tree tells of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Where it runs; `None` while nobody does.
    pub address: Option<String>,
    /// Of its owner, 0 without one.
    pub generation: i64,
    /// Messages that waited when its host last told, at most some seconds ago.
    pub mailbox: u64,
    /// How often its host has started it again.
    pub restarts: u64,
    /// Messages that it has handled there.
    pub handled: u64,
}

/// The actors of a cluster, from outside. Clones share connections.
#[derive(Clone)]
pub struct Names {
    tree: Tree,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    owners: Mutex<HashMap<String, Owner>>,
    links: Mutex<HashMap<String, Link>>,
    last_id: AtomicU64,
}

#[derive(Clone)]
struct Owner {
    address: String,
    generation: i64,
}

/// What one attempt to send has come to.
enum Attempt {
    Done(Value),
    /// Surely not carried out; another attempt may be.
    Again(String),
    Over(CallError),
}

impl Names {
    /// Connects to the tree of a cluster: its ZooKeeper addresses (`host:port`, by commas). Must be called within a
    /// runtime of tokio.
    pub fn connect(servers: &str) -> Self {
        Self::over(Tree::connect(servers, Duration::from_secs(10)))
    }

    pub(crate) fn over(tree: Tree) -> Self {
        Self {
            tree,
            shared: Arc::default(),
        }
    }

    /// From now on there shall be an actor of this name: one of the hosts that know its kind runs it. False where there
    /// was one already; it stays as it is.
    ///
    /// # Errors
    ///
    /// It is no name, or the tree does not answer.
    pub async fn want(&self, name: &str, kind: &str, with: Value) -> Result<bool, NamesError> {
        check(name)?;
        check(kind)?;
        let wanted = WantedData {
            kind: kind.to_owned(),
            with,
        };
        let data = serde_json::to_vec(&wanted).map_err(|error| NamesError(error.to_string()))?;
        let created = self.tree.create(&at(WANTED, name), &data, false).await?;
        Ok(created.is_some())
    }

    /// There shall be no actor of this name any more; `forget` what it has kept, too. False where there was none.
    ///
    /// # Errors
    ///
    /// It is no name, or the tree does not answer.
    pub async fn unwant(&self, name: &str, forget: bool) -> Result<bool, NamesError> {
        check(name)?;
        let was = self.tree.delete(&at(WANTED, name)).await?;
        if forget {
            // What is still running would write it again.
            while self.tree.get(&at(OWNERS, name), false).await?.is_some() {
                tokio::time::sleep(PAUSE).await;
                self.tree.sync(OWNERS).await?;
            }
            self.tree.delete(&at(STATES, name)).await?;
        }
        Ok(was)
    }

    /// All that shall be, by name.
    ///
    /// # Errors
    ///
    /// The tree does not answer.
    pub async fn list(&self) -> Result<Vec<Listed>, NamesError> {
        self.tree.sync(WANTED).await?;
        let mut hosts = HashMap::new();
        for id in self.tree.children(HOSTS, false).await? {
            if let Some(host) = self.read::<HostData>(&at(HOSTS, &id)).await? {
                hosts.insert(id, host.1);
            }
        }
        let mut names = self.tree.children(WANTED, false).await?;
        names.sort();
        let mut all = Vec::new();
        for name in names {
            let Some((_, wanted)) = self.read::<WantedData>(&at(WANTED, &name)).await? else {
                continue;
            };
            let owner = self.read::<OwnerData>(&at(OWNERS, &name)).await?;
            let (generation, owner) = owner.map_or((0, None), |(at, owner)| (at, Some(owner)));
            let told = (owner.as_ref())
                .and_then(|owner| hosts.get(&owner.host)?.actors.get(&name))
                .filter(|told| told.generation == generation);
            all.push(Listed {
                kind: wanted.kind,
                address: owner.as_ref().map(|owner| owner.address.clone()),
                generation,
                mailbox: told.map_or(0, |told| told.mailbox),
                restarts: told.map_or(0, |told| told.restarts),
                handled: told.map_or(0, |told| told.handled),
                name,
            });
        }
        Ok(all)
    }

    /// Data of a node, with the revision that made it; `None` where there is none that can be read.
    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(i64, T)>, TreeError> {
        let found = self.tree.get(path, false).await?;
        Ok(found.and_then(|(data, stat)| Some((stat.czxid, serde_json::from_slice(&data).ok()?))))
    }

    /// The actor of a name, by its type. Whether there is one shows when it is asked.
    pub fn named<A: Actor>(&self, name: impl Into<String>) -> Ref<A> {
        Ref {
            names: self.clone(),
            name: name.into(),
            of: PhantomData,
        }
    }

    /// Asks the actor of a name, wherever it runs. What was surely not carried out (nobody runs it yet, its mailbox is
    /// full, it has moved) is tried again until the deadline; nothing else is.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn ask(
        &self,
        name: &str,
        message: Value,
        deadline: Duration,
    ) -> Result<Value, CallError> {
        self.send(name, message, true, deadline).await
    }

    /// Puts a message into the mailbox of the actor of a name, wherever it runs; as [`Self::ask`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn tell(
        &self,
        name: &str,
        message: Value,
        deadline: Duration,
    ) -> Result<(), CallError> {
        self.send(name, message, false, deadline).await.map(drop)
    }

    async fn send(
        &self,
        name: &str,
        message: Value,
        ask: bool,
        deadline: Duration,
    ) -> Result<Value, CallError> {
        check(name).map_err(|error| CallError::NotDone(error.to_string()))?;
        let until = Instant::now() + deadline;
        let mut last = String::from("the tree did not answer");
        loop {
            let sent = AtomicBool::new(false);
            let attempt = self.attempt(name, &message, ask, until, &sent);
            let attempt = tokio::time::timeout_at(until, attempt).await;
            if !matches!(attempt, Ok(Attempt::Done(_))) {
                lock(&self.shared.owners).remove(name);
            }
            match attempt {
                Ok(Attempt::Done(answer)) => return Ok(answer),
                Ok(Attempt::Over(error)) => return Err(error),
                Ok(Attempt::Again(why)) => last = why,
                Err(_) if sent.load(Ordering::Relaxed) => {
                    return Err(CallError::Unknown(format!(
                        "{name:?} did not answer within {deadline:?}"
                    )));
                }
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= until {
                return Err(CallError::NotDone(format!("{last}, for {deadline:?}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        name: &str,
        message: &Value,
        ask: bool,
        until: Instant,
        sent: &AtomicBool,
    ) -> Attempt {
        let owner = match self.owner(name).await {
            Ok(owner) => owner,
            Err(attempt) => return attempt,
        };
        let link = match self.link(&owner.address).await {
            Ok(link) => link,
            Err(why) => return Attempt::Again(why),
        };
        let id = self.shared.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let request = Request {
            id,
            to: name.to_owned(),
            generation: owner.generation,
            ask,
            left_ms: until.duration_since(Instant::now()).as_millis() as u64,
            message: message.clone(),
        };
        let frame = match wire::frame(&request) {
            Ok(frame) => frame,
            Err(why) => return Attempt::Over(CallError::NotDone(why)),
        };
        let gone = || Attempt::Again(format!("{} closed the connection", owner.address));
        let Some(place) = link.wait(id) else {
            return gone();
        };
        let Ok(room) = link.frames.reserve().await else {
            return gone();
        };
        sent.store(true, Ordering::Relaxed);
        room.send(frame);
        let answer = tokio::select! {
            answer = place.answer() => answer.map_err(|_| "closed the connection"),
            () = self.lost(name, owner.generation) => Err("has lost the name"),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(how) => {
                let why = format!("{} {how} before it answered", owner.address);
                return Attempt::Over(CallError::Unknown(why));
            }
        };
        match answer.outcome {
            Outcome::Answer(answer) => Attempt::Done(answer),
            Outcome::Taken => Attempt::Done(Value::Null),
            Outcome::Refused { again: true, why } => Attempt::Again(why),
            Outcome::Refused { again: false, why } => Attempt::Over(CallError::NotDone(why)),
            Outcome::Failed(why) => Attempt::Over(CallError::Failed(why)),
            Outcome::Unknown(why) => Attempt::Over(CallError::Unknown(why)),
        }
    }

    /// Who owns a name: as it was when it last answered, or else as the tree says now.
    async fn owner(&self, name: &str) -> Result<Owner, Attempt> {
        if let Some(owner) = lock(&self.shared.owners).get(name) {
            return Ok(owner.clone());
        }
        let look = async {
            self.tree.sync(OWNERS).await?;
            match self.read::<OwnerData>(&at(OWNERS, name)).await? {
                Some((generation, owner)) => Ok(Ok(Owner {
                    address: owner.address,
                    generation,
                })),
                None => {
                    let wanted = self.tree.get(&at(WANTED, name), false).await?;
                    Ok(Err(wanted.is_some()))
                }
            }
        };
        let found: Result<_, TreeError> = look.await;
        match found {
            Ok(Ok(owner)) => {
                lock(&self.shared.owners).insert(name.to_owned(), owner.clone());
                Ok(owner)
            }
            Ok(Err(true)) => Err(Attempt::Again(format!("no host runs {name:?}"))),
            Ok(Err(false)) => Err(Attempt::Over(CallError::NotDone(format!(
                "there is no actor {name:?}: `althing actor start NAME KIND`, or Names::want"
            )))),
            Err(error) => Err(Attempt::Again(error.to_string())),
        }
    }

    /// Waits until somebody else owns the name, or nobody: a host that sleeps does not say so itself.
    async fn lost(&self, name: &str, generation: i64) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Ok(found) = self.tree.get(&at(OWNERS, name), false).await
                && found.is_none_or(|(_, stat)| stat.czxid > generation)
            {
                return;
            }
        }
    }

    async fn link(&self, address: &str) -> Result<Link, String> {
        if let Some(link) = lock(&self.shared.links).get(address)
            && !lock(&link.waiting).is_closed
        {
            return Ok(link.clone());
        }
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (mut from, to) = stream.into_split();
        let (frames, taken) = mpsc::channel(FRAMES_MAX);
        let link = Link {
            frames,
            waiting: Arc::default(),
        };
        tokio::spawn(wire::write(to, taken));
        let waiting = link.waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(answer)) = wire::read::<Answer>(&mut from).await {
                let waiter = lock(&waiting).by_id.remove(&answer.id);
                if let Some(waiter) = waiter {
                    let _ = waiter.send(answer);
                }
            }
            let mut waiting = lock(&waiting);
            waiting.is_closed = true;
            waiting.by_id.clear();
        });
        lock(&self.shared.links).insert(address.to_owned(), link.clone());
        Ok(link)
    }
}

/// Nothing panics while it holds a lock; if something did, what it guards is still whole.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to a host.
#[derive(Clone)]
struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    is_closed: bool,
    by_id: HashMap<u64, oneshot::Sender<Answer>>,
}

impl Link {
    /// A place for the answer; `None` when the connection is closed.
    fn wait(&self, id: u64) -> Option<Place> {
        let mut waiting = lock(&self.waiting);
        let (waiter, answer) = oneshot::channel();
        (!waiting.is_closed).then(|| {
            waiting.by_id.insert(id, waiter);
            Place {
                id,
                answer,
                waiting: self.waiting.clone(),
            }
        })
    }
}

/// Given up when it is dropped.
struct Place {
    id: u64,
    answer: oneshot::Receiver<Answer>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Place {
    async fn answer(mut self) -> Result<Answer, oneshot::error::RecvError> {
        (&mut self.answer).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.waiting).by_id.remove(&self.id);
    }
}

/// An actor of a name, wherever it runs.
pub struct Ref<A: Actor> {
    names: Names,
    name: String,
    of: PhantomData<fn() -> A>,
}

impl<A: Actor> Clone for Ref<A> {
    fn clone(&self) -> Self {
        self.names.named(self.name.clone())
    }
}

impl<A: Actor> Ref<A>
where
    A::Message: Serialize,
    A::Answer: DeserializeOwned,
{
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn value(message: &A::Message) -> Result<Value, CallError> {
        let value = serde_json::to_value(message);
        value.map_err(|error| CallError::NotDone(format!("no JSON of the message: {error}")))
    }

    /// See [`Names::ask`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn ask(
        &self,
        message: &A::Message,
        deadline: Duration,
    ) -> Result<A::Answer, CallError> {
        let message = Self::value(message)?;
        let answer = self.names.ask(&self.name, message, deadline).await?;
        serde_json::from_value(answer).map_err(|error| {
            CallError::Unknown(format!("done, but the answer is another: {error}"))
        })
    }

    /// See [`Names::tell`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn tell(&self, message: &A::Message, deadline: Duration) -> Result<(), CallError> {
        let message = Self::value(message)?;
        self.names.tell(&self.name, message, deadline).await
    }
}
