//! What a host does with messages from outside: to the actor's mailbox, if this is still who owns the name.

use crate::actor::{Actor, CallError};
use crate::address::{Address, Gate};
use crate::tree::Tree;
use crate::wire::{self, Answer, Outcome, Request};
use computing::actors::{Objection, Tenure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// Other hosts and clients that are served at once.
const CONNECTIONS_MAX: usize = 1_000;
/// Asks of one connection that wait for an answer; beyond them it is not read from.
const ASKS_MAX: usize = 1_000;

type Later = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// An actor, whatever its types.
pub trait Door: Send + Sync {
    /// Puts a message into its mailbox. What comes of it later, or at once where nothing does.
    fn put(&self, request: Request, gate: Gate) -> Result<Later, Outcome>;
    /// Messages that wait, restarts, messages handled.
    fn figures(&self) -> [u64; 3];
}

impl<A: Actor> Door for Address<A>
where
    A::Message: DeserializeOwned,
    A::Answer: Serialize,
{
    fn put(&self, request: Request, gate: Gate) -> Result<Later, Outcome> {
        let message =
            serde_json::from_value(request.message).map_err(|error| Outcome::Refused {
                again: false,
                why: format!("{:?} cannot read the message: {error}", request.to),
            })?;
        if !request.ask {
            self.try_send(message, None, Some(gate)).map_err(outcome)?;
            return Err(Outcome::Taken);
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.try_send(message, Some(reply), Some(gate))
            .map_err(outcome)?;
        // When that time is over and its turn has not come, it is not carried out.
        let left = Duration::from_millis(request.left_ms);
        Ok(Box::pin(async move {
            match tokio::time::timeout(left, answer).await {
                Ok(Ok(Ok(answer))) => match serde_json::to_value(answer) {
                    Ok(answer) => Outcome::Answer(answer),
                    Err(error) => Outcome::Unknown(format!("no JSON of the answer: {error}")),
                },
                Ok(Ok(Err(error))) => outcome(error),
                Ok(Err(_)) => Outcome::Unknown("the actor ended before it answered".into()),
                Err(_) => Outcome::Unknown("the actor did not answer in time".into()),
            }
        }))
    }

    fn figures(&self) -> [u64; 3] {
        let handled = self.vitals().handled.load(Ordering::Relaxed);
        [self.waiting() as u64, self.restarts(), handled]
    }
}

fn outcome(error: CallError) -> Outcome {
    match error {
        CallError::NotDone(why) => Outcome::Refused { again: true, why },
        CallError::Failed(why) => Outcome::Failed(why),
        CallError::Unknown(why) => Outcome::Unknown(why),
    }
}

/// An actor of a name that runs here.
#[derive(Clone)]
pub struct Entry {
    /// Under which it owns its name.
    pub generation: i64,
    /// Of the session that owns it.
    pub session: i64,
    /// The actor.
    pub door: Arc<dyn Door>,
}

impl Entry {
    /// Whether a message to `generation` may be carried out, or its answer given, now.
    fn admit(&self, tree: &Tree, generation: i64) -> Result<(), CallError> {
        let session = tree.session().borrow().clone();
        let mut tenure = Tenure::new(self.generation, 0);
        if session.id == self.session {
            tenure.handle_granted(session.asked_us, session.lease_us);
        }
        tenure.admit(tree.now_us(), generation).map_err(|why| {
            CallError::NotDone(match why {
                Objection::Over => "the host's lease on the name is over".into(),
                Objection::Generation(here) => {
                    format!("the message is for generation {generation}, and here is {here}")
                }
            })
        })
    }

    /// Whether it may act at all.
    pub fn is_valid(&self, tree: &Tree) -> bool {
        self.admit(tree, self.generation).is_ok()
    }
}

/// The actors that run here, by name.
pub struct Doors {
    tree: Tree,
    entries: RwLock<BTreeMap<String, Entry>>,
}

impl Doors {
    /// None yet.
    pub fn new(tree: Tree) -> Self {
        Self {
            tree,
            entries: RwLock::default(),
        }
    }

    /// Opens or, with `None`, closes one.
    pub fn set(&self, name: &str, entry: Option<Entry>) {
        // Nothing panics while it holds the lock.
        let mut entries = (self.entries.write()).unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) => entries.insert(name.to_owned(), entry),
            None => entries.remove(name),
        };
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Entry> {
        let entries = self.entries.read();
        entries.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn handle(&self, request: Request) -> Result<Later, Outcome> {
        let entries = (self.entries.read()).unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get(&request.to).cloned() else {
            let why = format!("{:?} does not run here", request.to);
            return Err(Outcome::Refused { again: true, why });
        };
        drop(entries);
        let (door, generation, tree) = (entry.door.clone(), request.generation, self.tree.clone());
        let gate: Gate = Arc::new(move || entry.admit(&tree, generation));
        gate().map_err(outcome)?;
        door.put(request, gate)
    }

    /// Takes messages from whoever connects.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let doors = self.clone();
                    tokio::spawn(async move {
                        doors.converse(stream).await;
                        drop(place);
                    });
                }
                // For example too many open files: somebody will close one.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Messages go into mailboxes in the order in which they come.
    async fn converse(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (mut from, to) = stream.into_split();
        let (frames, taken) = mpsc::channel(ASKS_MAX);
        tokio::spawn(wire::write(to, taken));
        let asks = Arc::new(Semaphore::new(ASKS_MAX));
        while let Ok(Some(request)) = wire::read::<Request>(&mut from).await {
            let (id, generation) = (request.id, request.generation);
            let frames = frames.clone();
            let answer = move |outcome| {
                let answer = |outcome| Answer {
                    id,
                    generation,
                    outcome,
                };
                wire::frame(&answer(outcome)).or_else(|why| {
                    wire::frame(&answer(Outcome::Unknown(format!("done, but {why}"))))
                })
            };
            match self.handle(request) {
                Ok(later) => {
                    let place = asks.clone().acquire_owned().await;
                    tokio::spawn(async move {
                        if let Ok(frame) = answer(later.await) {
                            let _ = frames.send(frame).await;
                        }
                        drop(place);
                    });
                }
                Err(outcome) => {
                    if let Ok(frame) = answer(outcome) {
                        let _ = frames.send(frame).await;
                    }
                }
            }
        }
    }
}

/// What a host says of an actor that it runs.
#[derive(Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
pub struct Told {
    /// Under which it owns its name.
    pub generation: i64,
    /// Messages that wait.
    pub mailbox: u64,
    /// How often it was started again here.
    pub restarts: u64,
    /// Messages that were handled here.
    pub handled: u64,
}

/// What a host says of itself: data of its node in the tree.
#[derive(Serialize, serde::Deserialize, Clone, PartialEq, Debug, Default)]
pub struct HostData {
    /// Where it takes messages.
    pub address: String,
    /// Kinds of actors that it can run.
    pub kinds: Vec<String>,
    /// Names that it has given up on for a while.
    pub refuses: Vec<String>,
    /// Actors that it runs, by name.
    pub actors: BTreeMap<String, Told>,
}

/// That an actor of a name shall be: data of its node in the tree.
#[derive(Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
pub struct WantedData {
    /// Which.
    pub kind: String,
    /// What it is made from.
    #[serde(default)]
    pub with: Value,
}

/// Who runs it: data of the ephemeral node of a name.
#[derive(Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
pub struct OwnerData {
    /// Its node's name among the hosts.
    pub host: String,
    /// Where it takes messages.
    pub address: String,
}
