//! Transactions over the chapters of a shard: what a part of one is made of ([`work`]), what it meets on its way
//! ([`touch`]), and how it is tried and carried out ([`store`]).

pub mod store;
pub mod touch;
pub mod work;

pub use work::{Condition, Place, Step, StepResult, Work, WorkRefusal, decode_results};
