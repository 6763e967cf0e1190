//! What an actor may do while it handles a message.

use crate::actor::{Actor, Death, Failure};
use crate::address::{Address, Cell};
use crate::tree::{Set, Tree};
use computing::actors::Checkpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// What an actor of a name has besides.
#[derive(Clone)]
pub(crate) struct Named {
    pub tree: Tree,
    pub generation: i64,
    /// Where its state is kept.
    pub path: String,
}

/// An incarnation's own means. What it has begun ends with it.
pub struct Context<A: Actor> {
    cell: Arc<Cell<A>>,
    named: Option<Named>,
    checkpoint: Option<Checkpoint>,
    tasks: JoinSet<()>,
    is_ending: bool,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>, named: Option<Named>) -> Self {
        Self {
            cell,
            named,
            checkpoint: None,
            tasks: JoinSet::new(),
            is_ending: false,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Its own address; `None` when nobody else has it any more.
    pub fn me(&self) -> Option<Address<A>> {
        self.cell.address()
    }

    /// Ends in order behind this message.
    pub fn stop(&mut self) {
        self.is_ending = true;
    }

    /// Sends itself a message after a while.
    pub fn after(&mut self, time: Duration, message: A::Message) {
        let cell = self.cell.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(me) = cell.address() {
                let _ = me.tell(message).await;
            }
        });
    }

    /// From now on each end of an incarnation of `other` comes as a message.
    pub fn watch<B: Actor>(
        &mut self,
        other: &Address<B>,
        notice: impl Fn(Death) -> A::Message + Send + Sync + 'static,
    ) {
        let mut deaths = other.vitals().deaths.subscribe();
        let cell = self.cell.clone();
        self.tasks.spawn(async move {
            loop {
                let death = match deaths.recv().await {
                    Ok(death) => death,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                match cell.address() {
                    Some(me) if me.tell(notice(death)).await.is_ok() => {}
                    _ => return,
                }
            }
        });
    }

    /// The generation under which it runs: greater than that of every earlier owner of its name. For fencing what it
    /// writes elsewhere. `None` for an actor without a name in the cluster.
    pub fn generation(&self) -> Option<i64> {
        self.named.as_ref().map(|named| named.generation)
    }

    fn named(&self) -> Result<&Named, Failure> {
        (self.named.as_ref()).ok_or_else(|| {
            Failure::new("state is kept for actors of a System only: this one has no name there")
        })
    }

    /// Takes over the state that earlier incarnations have kept: what they still write from now on is refused.
    ///
    /// # Errors
    ///
    /// The tree cannot be reached, what is kept cannot be read, or the actor has no name in the cluster.
    pub async fn load<S: DeserializeOwned>(&mut self) -> Result<Option<S>, Failure> {
        let named = self.named()?.clone();
        loop {
            named.tree.sync(&named.path).await?;
            let (data, version) = match named.tree.get(&named.path, false).await? {
                Some((data, stat)) => (data, stat.version),
                None => {
                    named.tree.create(&named.path, b"", false).await?;
                    continue;
                }
            };
            // Somebody else has written meanwhile: again.
            if let Set::Done(stat) = named.tree.set(&named.path, &data, version).await? {
                self.checkpoint = Some(Checkpoint::new(stat.version));
                return match data.is_empty() {
                    true => Ok(None),
                    false => Ok(Some(serde_json::from_slice(&data)?)),
                };
            }
        }
    }

    /// Keeps the state in the tree: all of it or, with an error, nothing or all. [`Self::load`] comes first. At most
    /// 1 MiB of JSON.
    ///
    /// # Errors
    ///
    /// Another incarnation has taken the state over, or the tree cannot be reached. Pass it on: the next incarnation
    /// loads what is kept.
    pub async fn save<S: Serialize + Sync>(&mut self, state: &S) -> Result<(), Failure> {
        let checkpoint = (self.checkpoint)
            .ok_or_else(|| Failure::new("nothing can be saved before `load` was called"))?;
        let data = serde_json::to_vec(state)?;
        let named = self.named()?;
        let set = named.tree.set(&named.path, &data, checkpoint.expects());
        match set.await? {
            Set::Done(stat) => {
                self.checkpoint = Some(Checkpoint::new(stat.version));
                Ok(())
            }
            Set::OtherVersion | Set::NoNode => Err(Failure::new(
                "another incarnation of this actor has taken over its state",
            )),
        }
    }
}
