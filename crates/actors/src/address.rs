//! Mailboxes: what sends into them, and what takes out of them.

use crate::actor::{Actor, CallError, Death, Failure};
use crate::context::{Context, Named};
use computing::actors::End;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Mutex, broadcast, mpsc, oneshot};

/// Death notices that a watcher may be behind; older ones are lost to it.
const DEATHS_MAX: usize = 64;

/// Says, at the moment that a message is about to be carried out, and again before its answer is given, whether it may be.
pub(crate) type Gate = Arc<dyn Fn() -> Result<(), CallError> + Send + Sync>;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, CallError>>;

pub(crate) enum Letter<A: Actor> {
    Message {
        message: A::Message,
        reply: Option<Reply<A::Answer>>,
        gate: Option<Gate>,
    },
    Stop,
}

/// What is counted of an actor, over all its incarnations.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub name: String,
    pub restarts: AtomicU64,
    pub handled: AtomicU64,
    pub deaths: broadcast::Sender<Death>,
}

impl Vitals {
    pub fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            restarts: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            deaths: broadcast::Sender::new(DEATHS_MAX),
        })
    }

    pub fn handle_death(&self, outcome: &Result<(), Failure>) {
        let (end, why) = match outcome {
            Ok(()) => (End::Normal, None),
            Err(failure) => (End::Failed, Some(failure.to_string())),
        };
        // Nobody may be watching.
        let _ = self.deaths.send(Death {
            name: self.name.clone(),
            end,
            why,
        });
    }
}

/// Where an actor is reached. It stays valid when a supervisor starts the actor again.
pub struct Address<A: Actor> {
    letters: mpsc::Sender<Letter<A>>,
    vitals: Arc<Vitals>,
}

impl<A: Actor> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self {
            letters: self.letters.clone(),
            vitals: self.vitals.clone(),
        }
    }
}

impl<A: Actor> Address<A> {
    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.vitals.name
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.letters.max_capacity() - self.letters.capacity()
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.vitals.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn has_ended(&self) -> CallError {
        CallError::NotDone(format!("the actor {:?} has ended", self.name()))
    }

    /// Puts a message into the mailbox; waits while that is full.
    ///
    /// # Errors
    ///
    /// The actor has ended.
    pub async fn tell(&self, message: A::Message) -> Result<(), CallError> {
        let letter = Letter::Message {
            message,
            reply: None,
            gate: None,
        };
        (self.letters.send(letter).await).map_err(|_| self.has_ended())
    }

    /// As [`Self::tell`], without waiting.
    ///
    /// # Errors
    ///
    /// The mailbox is full, or the actor has ended.
    pub fn try_tell(&self, message: A::Message) -> Result<(), CallError> {
        self.try_send(message, None, None)
    }

    pub(crate) fn try_send(
        &self,
        message: A::Message,
        reply: Option<Reply<A::Answer>>,
        gate: Option<Gate>,
    ) -> Result<(), CallError> {
        let letter = Letter::Message {
            message,
            reply,
            gate,
        };
        self.letters.try_send(letter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::NotDone(format!(
                "the mailbox of {:?} is full: {} messages wait",
                self.name(),
                self.letters.max_capacity()
            )),
            mpsc::error::TrySendError::Closed(_) => self.has_ended(),
        })
    }

    /// Sends a message and waits for its answer, for so long in all. A message whose sender has given up before its
    /// turn comes is not carried out.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn ask(
        &self,
        message: A::Message,
        deadline: Duration,
    ) -> Result<A::Answer, CallError> {
        let until = tokio::time::Instant::now() + deadline;
        let late = |what: &str| format!("{what} of {:?} within {deadline:?}", self.name());
        let room = match tokio::time::timeout_at(until, self.letters.reserve()).await {
            Ok(room) => room.map_err(|_| self.has_ended())?,
            Err(_) => return Err(CallError::NotDone(late("no room in the mailbox"))),
        };
        let (reply, answer) = oneshot::channel();
        room.send(Letter::Message {
            message,
            reply: Some(reply),
            gate: None,
        });
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Unknown(format!(
                "the actor {:?} ended before it answered",
                self.name()
            ))),
            Err(_) => Err(CallError::Unknown(late("no answer"))),
        }
    }

    /// Ends the actor behind all that it was sent before. A supervisor may start it again.
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub async fn stop(&self) -> Result<(), CallError> {
        (self.letters.send(Letter::Stop).await).map_err(|_| self.has_ended())
    }

    /// Waits until the actor has ended and is not started again.
    pub async fn ended(&self) {
        self.letters.closed().await;
    }
}

/// A mailbox, and what makes the incarnations that take from it, one after the other.
pub(crate) struct Cell<A: Actor> {
    mailbox: Mutex<mpsc::Receiver<Letter<A>>>,
    letters: mpsc::WeakSender<Letter<A>>,
    vitals: Arc<Vitals>,
    named: Option<Named>,
    make: Box<dyn Fn() -> A + Send + Sync>,
}

impl<A: Actor> Cell<A> {
    pub fn new(
        name: String,
        mailbox_max: usize,
        named: Option<Named>,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> (Arc<Self>, Address<A>) {
        let (letters, mailbox) = mpsc::channel(mailbox_max.max(1));
        let vitals = Vitals::new(name);
        let cell = Self {
            mailbox: Mutex::new(mailbox),
            letters: letters.downgrade(),
            vitals: vitals.clone(),
            named,
            make: Box::new(make),
        };
        (Arc::new(cell), Address { letters, vitals })
    }

    /// Its own address, while anybody else has it.
    pub fn address(&self) -> Option<Address<A>> {
        self.letters.upgrade().map(|letters| Address {
            letters,
            vitals: self.vitals.clone(),
        })
    }

    /// One incarnation, until it is told to stop, has ended, or failed. An earlier one that has not quite ended is waited
    /// for: it holds the mailbox.
    pub async fn live(self: Arc<Self>, mut stop: oneshot::Receiver<()>) -> Result<(), Failure> {
        let mut mailbox = self.mailbox.lock().await;
        let mut actor = guarded(async { Ok((self.make)()) }).await?;
        let mut cx = Context::new(self.clone(), self.named.clone());
        guarded(actor.started(&mut cx)).await?;
        while !cx.is_ending() {
            let letter = tokio::select! {
                biased;
                _ = &mut stop => break,
                letter = mailbox.recv() => letter,
            };
            let Some(Letter::Message {
                message,
                reply,
                gate,
            }) = letter
            else {
                break;
            };
            if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
                continue;
            }
            let answer = |answer| reply.map(|reply| reply.send(answer));
            let may = || gate.as_ref().map_or(Ok(()), |gate| gate());
            if let Err(why) = may() {
                answer(Err(why));
                continue;
            }
            let done = guarded(actor.handle(message, &mut cx)).await;
            self.vitals.handled.fetch_add(1, Ordering::Relaxed);
            match done {
                Ok(done) => {
                    let unknown = |why| CallError::Unknown(format!("done, but {why}"));
                    answer(may().map_err(unknown).map(|()| done));
                }
                Err(failure) => {
                    answer(Err(CallError::Failed(failure.to_string())));
                    return Err(failure);
                }
            }
        }
        guarded(async {
            actor.stopping(&mut cx).await;
            Ok(())
        })
        .await
    }
}

/// Nobody handles what waits any more, and who waits for an answer is told.
impl<A: Actor> Drop for Cell<A> {
    fn drop(&mut self) {
        let mailbox = self.mailbox.get_mut();
        mailbox.close();
        while let Ok(letter) = mailbox.try_recv() {
            if let Letter::Message {
                reply: Some(reply), ..
            } = letter
            {
                let why = format!("the actor {:?} has ended", self.vitals.name);
                let _ = reply.send(Err(CallError::NotDone(why)));
            }
        }
    }
}

/// Makes a failure of a panic.
async fn guarded<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(Failure::new(words(&*panic)))),
        },
    )
    .await
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without words"))
}

/// An actor without a supervisor: it ends when it fails, when it is stopped, and when nobody has its address any more.
pub fn spawn<A: Actor>(
    name: impl Into<String>,
    mailbox_max: usize,
    make: impl Fn() -> A + Send + Sync + 'static,
) -> Address<A> {
    let (cell, address) = Cell::new(name.into(), mailbox_max, None, make);
    let vitals = address.vitals.clone();
    tokio::spawn(async move {
        let (_running, stop) = oneshot::channel();
        let outcome = cell.live(stop).await;
        vitals.handle_death(&outcome);
    });
    address
}
