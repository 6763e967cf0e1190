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
//! * [`model`], [`command`], [`reply`]: jobs, agents and instances of tasks; what may be asked for.
//! * [`machine`]: the replicated state, with schedulers and frameworks outside ([`cell`], [`offers`] on real agents). [`plan`]: what its leader proposes next. [`query`]: what may be read.

pub mod cell;
pub mod command;
pub mod fair;
pub mod machine;
pub mod model;
pub mod offers;
pub mod placement;
pub mod plan;
pub mod query;
pub mod reply;
pub mod resources;
pub mod simulate;
mod snapshot;

pub use command::{Command, Unit};
pub use machine::Scheduling;
pub use model::{AgentId, InstanceId, JobSpec, Task};
pub use placement::{Choice, NodeView, Rule, TaskSpec, WhyNot, place};
pub use reply::{Output, Refusal, Reply};
pub use resources::Resources;
