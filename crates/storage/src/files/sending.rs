//! What a writer decides about one chunk, without IO: where it goes, and whether enough nodes have it.
//!
//! A chunk goes along a chain of nodes (GFS §3.2). Where too few of them have it in the end, it is sent again to
//! others, as its next generation; copies of the one before count for nothing (GFS §3.1, HDFS' pipeline recovery).

use super::command::{ChunkId, NewChunk};
use base::NodeId;
use base::planted::{Bug, planted};
use std::collections::BTreeSet;
use std::fmt;

/// Attempts at a chunk.
pub const GENERATIONS_MAX: u32 = 6;

/// A chunk server, as who writes sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// It.
    pub node: NodeId,
    /// It is heard and has room on its disk.
    pub is_able: bool,
    /// Chunks that it has, or is to get.
    pub held: usize,
}

/// One attempt at a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Its number, from 1.
    pub generation: u32,
    /// Who shall have it, in the order of the chain.
    pub targets: Vec<NodeId>,
    /// So many are enough.
    pub least: usize,
}

/// Why a chunk was given up; nothing of the write is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GivenUp {
    /// There is no node that is heard and has room.
    NobodyAble,
    /// No attempt put it on enough disks.
    TooFew(ChunkId),
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyAble => write!(
                f,
                "no node that keeps chunks is there and has room on its disk"
            ),
            Self::TooFew(id) => write!(
                f,
                "chunk {id} could not be put on enough disks in {GENERATIONS_MAX} attempts; nothing of this write is \
                 kept"
            ),
        }
    }
}

/// A chunk on its way to enough disks.
#[derive(Clone, Debug)]
pub struct Sending {
    id: ChunkId,
    copies: u8,
    copies_min: u8,
    own: NodeId,
    generation: u32,
    failed: BTreeSet<NodeId>,
}

impl Sending {
    /// A chunk that shall have `copies`, and `copies_min` of them before it is acknowledged where there are so many
    /// nodes. `own` is the node that sends it.
    pub fn new(id: ChunkId, copies: u8, copies_min: u8, own: NodeId) -> Self {
        Self {
            id,
            copies,
            copies_min,
            own,
            generation: 0,
            failed: BTreeSet::new(),
        }
    }

    /// The next attempt: this node first, then those with the fewest chunks; those that failed only where there are no
    /// others. Ties are spread by the chunk.
    pub fn attempt(&mut self, servers: &[Target]) -> Result<Attempt, GivenUp> {
        if self.generation == GENERATIONS_MAX {
            return Err(GivenUp::TooFew(self.id));
        }
        let mut able: Vec<&Target> = servers.iter().filter(|server| server.is_able).collect();
        if able.is_empty() {
            return Err(GivenUp::NobodyAble);
        }
        let least = usize::from(self.copies.min(self.copies_min)).clamp(1, able.len());
        able.sort_by_key(|server| {
            let spread = server.node.0 ^ self.id.write.rotate_left(32) ^ u64::from(self.id.number);
            (
                self.failed.contains(&server.node),
                server.node != self.own,
                server.held,
                spread.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            )
        });
        able.truncate(usize::from(self.copies));
        self.generation += 1;
        Ok(Attempt {
            generation: self.generation,
            targets: able.iter().map(|server| server.node).collect(),
            least,
        })
    }

    /// An attempt has ended: `holders` have the chunk on disk. What to commit, or `None` when it is to be sent again.
    pub fn ended(
        &mut self,
        attempt: &Attempt,
        mut holders: Vec<NodeId>,
        length: u32,
        checksum: u32,
    ) -> Option<NewChunk> {
        if planted(Bug::CommitUnheard) && !holders.is_empty() {
            holders.clone_from(&attempt.targets);
        }
        if holders.len() < attempt.least {
            let missing = |node: &&NodeId| !holders.contains(node);
            self.failed.extend(attempt.targets.iter().filter(missing));
            return None;
        }
        Some(NewChunk {
            generation: attempt.generation,
            length,
            checksum,
            copies: holders,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(held: [usize; 4]) -> Vec<Target> {
        let of = |(at, held): (usize, &usize)| Target {
            node: NodeId(1 + at as u64),
            is_able: *held < 100,
            held: *held,
        };
        held.iter().enumerate().map(of).collect()
    }

    fn sending(copies: u8) -> Sending {
        let id = ChunkId {
            write: 7,
            number: 0,
        };
        Sending::new(id, copies, 2, NodeId(3))
    }

    fn nodes(of: &[u64]) -> Vec<NodeId> {
        of.iter().map(|node| NodeId(*node)).collect()
    }

    #[test]
    fn own_node_is_first_and_then_those_with_the_fewest() {
        let attempt = sending(3).attempt(&servers([5, 1, 9, 2])).unwrap();
        assert_eq!(attempt.targets, nodes(&[3, 2, 4]));
        assert_eq!((attempt.generation, attempt.least), (1, 2));
    }

    #[test]
    fn who_is_not_able_gets_none_and_fewer_are_enough_where_there_are_no_more() {
        let attempt = sending(3).attempt(&servers([100, 1, 100, 100])).unwrap();
        assert_eq!((attempt.targets, attempt.least), (nodes(&[2]), 1));
        let nobody = sending(3).attempt(&servers([100; 4]));
        assert_eq!(nobody, Err(GivenUp::NobodyAble));
    }

    #[test]
    fn who_failed_is_asked_last_and_too_few_are_not_committed() {
        let mut sending = sending(2);
        let first = sending.attempt(&servers([0; 4])).unwrap();
        assert_eq!(first.targets[0], NodeId(3));
        assert_eq!(sending.ended(&first, nodes(&[3]), 10, 1), None);
        let second = sending.attempt(&servers([0; 4])).unwrap();
        assert_eq!(second.generation, 2);
        assert!(!second.targets.contains(&first.targets[1]));
        let new = sending.ended(&second, second.targets.clone(), 10, 1);
        assert_eq!(new.map(|new| new.generation), Some(2));
    }

    #[test]
    fn chunk_is_given_up_in_the_end() {
        let mut sending = sending(3);
        for _ in 0..GENERATIONS_MAX {
            let attempt = sending.attempt(&servers([0; 4])).unwrap();
            assert_eq!(sending.ended(&attempt, Vec::new(), 10, 1), None);
        }
        let end = sending.attempt(&servers([0; 4]));
        assert!(matches!(end, Err(GivenUp::TooFew(_))));
    }
}
