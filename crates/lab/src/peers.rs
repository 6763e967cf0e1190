//! Every algorithm among equals, under the same simulation.
//!
//! Reading order: [`simulation`] (one run), `net` (what messages and syncs meet), [`script`] and
//! [`troubles`] (what goes wrong), [`fields`] (what each family is asked for and what must hold), [`registry`]
//! (which algorithms there are), [`search`] (all orders of events of a small group),
//! [`impossible`] (what cannot be had, shown), [`study`] (a figure of a paper, measured again), [`logs`] (the same
//! checks on what real nodes wrote down), [`verbs`] (the command line), [`pages`] (the same for a console).

mod charts;
mod curves;
pub mod fields;
mod html;
pub mod impossible;
pub mod logs;
mod net;
pub mod pages;
pub mod raft;
pub mod registry;
pub mod replicated_commit;
pub mod script;
pub mod search;
pub mod simulation;
pub mod study;
mod text;
pub mod troubles;
pub mod verbs;
