//! What an actor is, and what may come of a message.

use crate::context::Context;
use computing::actors::End;
use std::fmt;
use std::future::Future;

/// State that only its own messages change. One message is handled at a time.
pub trait Actor: Send + Sized + 'static {
    /// What it is told and asked.
    type Message: Send + 'static;
    /// What it answers to who asks.
    type Answer: Send + 'static;

    /// Before the first message of each incarnation: the place to [`Context::load`] what was kept.
    ///
    /// # Errors
    ///
    /// It failed; its supervisor decides.
    fn started(
        &mut self,
        cx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = cx;
        std::future::ready(Ok(()))
    }

    /// Its behaviour. What a sender did wrong belongs into the answer.
    ///
    /// # Errors
    ///
    /// It failed, and its state is not to be trusted any more: its supervisor decides. A panic is the same.
    fn handle(
        &mut self,
        message: Self::Message,
        cx: &mut Context<Self>,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Behind the last message of an incarnation that ends in order; not when it failed.
    fn stopping(&mut self, cx: &mut Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = cx;
        std::future::ready(())
    }
}

/// Why an actor failed. Made of any error by `?`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(String);

impl Failure {
    /// In words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// It is no `Error` itself: it could not be made of every other one then.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Why a message was not answered, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// It was not carried out, and will not be.
    NotDone(String),
    /// The actor failed while it handled it: part of it may be done. It is not handled again.
    Failed(String),
    /// Whether it was or will be carried out is not known.
    Unknown(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(why) => write!(f, "not carried out: {why}"),
            Self::Failed(why) => write!(f, "the actor failed: {why}"),
            Self::Unknown(why) => write!(f, "not known whether it was carried out: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

/// An incarnation of an actor has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    /// Whose.
    pub name: String,
    /// How.
    pub end: End,
    /// Why, where it failed.
    pub why: Option<String>,
}
