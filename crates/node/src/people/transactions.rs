//! What people are shown of transactions over chapters.

use crate::admin::TransactionsStatus;
use crate::core::Core;
use base::{Now, ShardId};
use shard::Shard;
use shard::transaction::{Place, WorkRefusal};
use transactions::{Outcome, Refusal};

const UNDER_WAY_MAX: usize = 50;
const LAST_MAX: usize = 20;

impl Core {
    pub(super) fn transactions_status(&self, now: Now) -> Vec<TransactionsStatus> {
        let shards = self.replicas.iter();
        shards
            .filter_map(|shard| self.transactions_of(now, shard))
            .collect()
    }

    fn transactions_of(&self, now: Now, shard: &Shard) -> Option<TransactionsStatus> {
        let all = &shard.machine().data()?.transactions;
        let counts = all.counts();
        if counts.records + counts.promises + counts.ended == 0 && counts.committed == 0 {
            return None;
        }
        let time_ms = now.wall_ms;
        let label = |shard: ShardId| self.label(shard);
        let since = |at_ms: i64| u64::try_from(time_ms - at_ms).unwrap_or(0);
        let under_way = all.views(UNDER_WAY_MAX).into_iter().map(|view| {
            (
                view.id.to_string(),
                label(view.record),
                since(view.since_ms),
                view.state.to_owned(),
                view.waits_for.into_iter().map(label).collect(),
            )
        });
        let last = all
            .outcomes(LAST_MAX)
            .into_iter()
            .map(|(id, until_ms, outcome)| {
                let left = u64::try_from(until_ms - time_ms).unwrap_or(0);
                (id.to_string(), left, self.outcome_words(outcome))
            });
        Some(TransactionsStatus {
            shard: label(shard.id()),
            leads: shard.is_leader(),
            records: counts.records as u64,
            promises: counts.promises as u64,
            locks: counts.locks as u64,
            parked: counts.parked as u64,
            committed: counts.committed,
            refused: counts.refused,
            under_way: under_way.collect(),
            last: last.collect(),
        })
    }

    fn outcome_words(&self, outcome: &Outcome) -> String {
        let refused = match outcome {
            Outcome::Committed(_) => return "committed".into(),
            Outcome::Refused(refused) => refused,
        };
        match refused {
            Refusal::Work(words) => match WorkRefusal::decode(words) {
                Ok(WorkRefusal { place, words }) => match place {
                    Place::Condition(at) => format!("refused: condition {at}: {words}"),
                    Place::Operation(at) => format!("refused: operation {at}: {words}"),
                },
                Err(_) => "refused".into(),
            },
            Refusal::TooLate(shard) => format!("refused: {} was too late", self.label(*shard)),
            Refusal::TooMany(shard) => format!("refused: {} has too many", self.label(*shard)),
            Refusal::OtherContent => "refused".into(),
        }
    }
}
