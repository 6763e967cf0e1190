//! Calls about jobs and agents.

use super::{CallReply, Seen, Watched};
use base::{Origin, ShardId};
use catalog::TREE_SHARD;
use scheduling::query::{
    AgentView, CellView, FrameworkSummary, FrameworkView, JobSummary, JobView, Work,
};
use scheduling::{AgentId, Command, Refusal, Scheduling, Unit};
use shard::DataUnit;

/// The shard that holds jobs and agents.
pub const SHARD: ShardId = TREE_SHARD;

/// A question about jobs and agents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobsQuery {
    /// All jobs in short.
    Jobs,
    /// One job in full.
    Job {
        /// Its name.
        name: String,
    },
    /// All agents.
    Agents,
    /// What an agent has to run.
    Work {
        /// Which.
        agent: AgentId,
        /// In which generation.
        generation: u64,
    },
    /// What a scheduler outside works on.
    Cell {
        /// Its name.
        scheduler: String,
    },
    /// What a framework is offered, and how its tasks are.
    Offers {
        /// Its name.
        framework: String,
        /// In which generation.
        generation: u64,
    },
    /// All frameworks in short.
    Frameworks,
}

/// The answer to the question of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobsAnswer {
    /// All jobs in short, by name.
    Jobs(Vec<JobSummary>),
    /// One job in full.
    Job(Result<JobView, Refusal>),
    /// All agents.
    Agents(Vec<AgentView>),
    /// What an agent has to run.
    Work(Result<Vec<Work>, Refusal>),
    /// What a scheduler outside works on.
    Cell(CellView),
    /// What a framework is told.
    Offers(Result<FrameworkView, Refusal>),
    /// All frameworks, by name.
    Frameworks(Vec<FrameworkSummary>),
}

/// The unit of a command.
pub fn unit(origin: Origin, command: Command) -> DataUnit {
    DataUnit::Scheduling(Unit { origin, command })
}

/// What a query sees.
pub fn look(cell: &Scheduling, query: &JobsQuery) -> Seen {
    let whole = cell.revision();
    let (answer, index, watched) = match query {
        JobsQuery::Jobs => (JobsAnswer::Jobs(cell.summaries()), whole, Watched::Cell),
        JobsQuery::Job { name } => match cell.view(name) {
            Ok((index, view)) => {
                let watched = Watched::Job(name.clone());
                (JobsAnswer::Job(Ok(view)), index, watched)
            }
            Err(refusal) => (JobsAnswer::Job(Err(refusal)), 0, Watched::Cell),
        },
        JobsQuery::Agents => (JobsAnswer::Agents(cell.agent_views()), whole, Watched::Cell),
        JobsQuery::Work { agent, generation } => match cell.work(*agent, *generation) {
            Ok((index, work)) => {
                let watched = Watched::Agent(*agent);
                (JobsAnswer::Work(Ok(work)), index, watched)
            }
            Err(refusal) => (JobsAnswer::Work(Err(refusal)), 0, Watched::Cell),
        },
        JobsQuery::Cell { scheduler } => {
            let view = cell.cell_view(scheduler);
            (JobsAnswer::Cell(view), whole, Watched::Cell)
        }
        JobsQuery::Offers {
            framework,
            generation,
        } => match cell.framework_view(framework, *generation) {
            Ok((index, view)) => {
                let watched = Watched::Job(framework.clone());
                (JobsAnswer::Offers(Ok(view)), index, watched)
            }
            Err(refusal) => (JobsAnswer::Offers(Err(refusal)), 0, Watched::Cell),
        },
        JobsQuery::Frameworks => {
            let all = cell.framework_summaries();
            (JobsAnswer::Frameworks(all), whole, Watched::Cell)
        }
    };
    Seen {
        reply: CallReply::Jobs {
            index,
            answer: Box::new(answer),
        },
        index,
        watched: vec![watched],
    }
}
