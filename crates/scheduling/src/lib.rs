//! Scheduling: which node runs a task, and who gets how much.
//!
//! Everything here is a function of what is handed in: nodes as they are seen, tasks as they are wanted.
//! All figures are integers, so each replica that computes them gets the same.
//!
//! * [`resources`]: what nodes have and tasks want.
//! * [`placement`]: feasibility, scores, preemption, and why a node was chosen or none was.
//! * [`fair`]: max-min and dominant resource fairness.
//! * [`offers`]: two levels; a master offers resources to frameworks, which place.
//! * [`cell`]: shared state; schedulers decide on copies and commit.
//! * [`simulate`]: one, two levels and shared state on the same trace.

pub mod cell;
pub mod fair;
pub mod offers;
pub mod placement;
pub mod resources;
pub mod simulate;

pub use placement::{Choice, NodeView, Rule, TaskSpec, WhyNot, place};
pub use resources::Resources;
