//! Scheduling: which node runs a task, and who gets how much.
//!
//! Everything here is a function of what is handed in: nodes as they are seen, tasks as they are wanted.
//! All figures are integers, so each replica that computes them gets the same.
//!
//! * [`resources`]: what nodes have and tasks want.
//! * [`placement`]: feasibility, scores, preemption, and why a node was chosen or none was.

pub mod placement;
pub mod resources;

pub use placement::{Choice, NodeView, Rule, TaskSpec, WhyNot, place};
pub use resources::Resources;
