//! What people are shown of global transactions.

use crate::admin::{GlobalRow, GlobalsStatus};
use crate::core::Core;
use base::Now;
use catalog::TREE_SHARD;
use std::collections::BTreeSet;
use transactions::global::{Call, Global};

/// Transactions under way that are shown.
const UNDER_WAY_SHOWN: usize = 100;
/// Ended ones that are shown.
const LAST_SHOWN: usize = 50;

impl Core {
    pub(super) fn globals_status(&self, now: Now) -> Option<GlobalsStatus> {
        let globals = &self.replicas.get(TREE_SHARD)?.machine().data()?.globals;
        let counts = globals.counts();
        if counts.begun == 0 {
            return None;
        }
        let row = |(gid, global): (&String, &Global)| row(gid, global, now.wall_ms);
        let parked = globals.parked();
        let mut seen = BTreeSet::new();
        let list = (parked.chain(globals.busy())).filter(|(gid, _)| seen.insert(*gid));
        Some(GlobalsStatus {
            under_way: counts.under_way,
            parked: counts.parked,
            wanted: counts.wanted,
            begun: counts.begun,
            succeeded: counts.succeeded,
            failed: counts.failed,
            called: counts.called,
            calls_made: self.desk.called_count(),
            list: list.take(UNDER_WAY_SHOWN).map(row).collect(),
            last: globals.last_ended().take(LAST_SHOWN).map(row).collect(),
        })
    }
}

fn row(gid: &str, global: &Global, wall_ms: i64) -> GlobalRow {
    let since_ms = match global.status.is_ended() {
        true => global.ended_ms,
        false => global.created_ms,
    };
    GlobalRow {
        gid: gid.to_owned(),
        kind: global.kind.name().into(),
        status: global.status.name().into(),
        parked: global.parked.clone().unwrap_or_default(),
        since_ms: u64::try_from(wall_ms - since_ms).unwrap_or(0),
        words: match global.status.is_ended() {
            true => global.reason.clone(),
            false => doing(global, wall_ms),
        },
    }
}

/// The first operation that is under way, or waits.
fn doing(global: &Global, wall_ms: i64) -> String {
    let branch = global.branches.iter().find(|b| b.call != Call::No);
    let Some(branch) = branch else {
        return String::new();
    };
    let what = format!("{} of branch {}", branch.op.name(), branch.id);
    match branch.call {
        Call::Waits { until_ms } => {
            let seconds = (until_ms - wall_ms).max(0) / 1_000;
            format!(
                "{what} again in {seconds} s ({} so far): {}",
                branch.attempts, branch.words
            )
        }
        Call::Wanted { .. } | Call::No => format!("{what} is being called at {}", branch.url),
    }
}
