//! What people are told of jobs and agents.

use crate::admin::JobsStatus;
use crate::core::Core;
use catalog::TREE_SHARD;

/// Jobs, agents and attempts that are shown.
const JOBS_SHOWN: usize = 50;
const AGENTS_SHOWN: usize = 100;
const ATTEMPTS_SHOWN: usize = 30;

impl Core {
    pub(super) fn jobs_status(&self) -> Option<JobsStatus> {
        let cell = &(self.replicas.get(TREE_SHARD)?.machine().data()?).scheduling;
        (cell.revision() > 0).then(|| JobsStatus {
            jobs: cell.job_count() as u64,
            live: cell.live_count() as u64,
            pending: cell.pending_count() as u64,
            newest: cell.newest(JOBS_SHOWN),
            agents: cell.agent_views().into_iter().take(AGENTS_SHOWN).collect(),
            attempts: cell.newest_attempts(ATTEMPTS_SHOWN),
            frameworks: cell.framework_summaries(),
            tally: cell.tally(),
            by_state: cell.by_state(),
        })
    }
}
