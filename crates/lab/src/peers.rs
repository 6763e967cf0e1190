//! Every algorithm among equals, under the same simulation.
//!
//! Reading order: [`simulation`] (one run), `net` (what messages and syncs meet), [`script`] and
//! [`troubles`] (what goes wrong), [`fields`] (what each family is asked for and what must hold), [`registry`]
//! (which algorithms there are), [`search`] (all orders of events of a small group), [`verbs`] (the command line).

pub mod fields;
mod html;
mod net;
pub mod raft;
pub mod registry;
pub mod script;
pub mod search;
pub mod simulation;
mod text;
pub mod troubles;
pub mod verbs;
