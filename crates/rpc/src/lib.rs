//! Calls between services over gRPC, by name: a library for users of a cluster, no part of a node.
//!
//! A provider keeps itself registered ([`Registration`]); a caller's [`Channel`] stands under any client that `tonic`
//! generates, follows the registry, and gives each call to one of the instances there are; both count their calls and tell
//! the cluster ([`Layer`], [`Agent`]).
//!
//! What a channel promises:
//!
//! * One deadline for a call with all its attempts; it goes along (`grpc-timeout`), and what the callee calls in turn has
//!   no more time than that.
//! * A call that was surely not carried out (no connection, refused) is tried at another instance. One whose fate is unknown
//!   is tried again only if its proto says that this does no harm (`option idempotency_level`), within a budget.
//!   Otherwise the caller is told that it is unknown ([`fate`]).
//! * One id for all attempts of a call (`althing-call-id`, with `althing-call-attempt` beside it).
//!
//! Not there: TLS, repeated streams, compression, anything but `http://` between services.

mod agent;
mod attempt;
mod channel;
mod context;
mod counted;
mod methods;
mod monitor;
mod pool;
mod provider;
mod registration;
mod watch;

pub use agent::{Agent, AgentError};
pub use channel::{Builder, Channel};
pub use context::{CALL_ATTEMPT, CALL_ID, CALLER, Fate, fate};
pub use provider::Layer;
pub use registration::{Registered, Registration};
pub use traffic::balance::Method;
