//! Checkers of what Kafka's clients saw.

pub mod bounds;
pub mod groups;
pub mod logs;
pub mod positions;

#[cfg(test)]
pub(crate) mod build {
    //! Small histories for the checkers' tests.

    use crate::history::History;
    use crate::kafka::{BRIEF, Fate, KEPT, Partition, Read, Run, Sent};
    use node::ClientId;

    pub const P: Partition = Partition(KEPT, 0);
    pub const Q: Partition = Partition(BRIEF, 0);

    pub fn run(first: u64, count: u32) -> Run {
        Run { first, count }
    }

    /// An idempotent producer's batch, sent at `from_us`.
    pub fn sent(h: &mut History, from_us: u64, partition: Partition, run: Run, fate: Fate) {
        h.kafka.sent.push(Sent {
            client: 0,
            connection: ClientId(1),
            is_idempotent: true,
            partition,
            run,
            invoked_us: from_us,
            fate,
        });
    }

    /// What was found from `asked` on, of a log that begins at 0 and ends at `end`.
    pub fn read(h: &mut History, asked: i64, end: i64, batches: &[(i64, Run)]) {
        h.kafka.reads.push(Read {
            node: 0,
            partition: P,
            asked,
            start: 0,
            end,
            batches: batches.to_vec(),
        });
    }
}
