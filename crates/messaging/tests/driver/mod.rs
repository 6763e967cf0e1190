//! A machine under random units, for the tests that need one in motion.

use base::{CoreAddress, CoreId, NodeId, Origin, Rng, Stamp};
use bytes::Bytes;
use messaging::{
    Command, GroupProtocol, Join, LogConfig, MemberName, NewBatch, OffsetCommit, Output,
    PartitionId, ProducerMark, Sync, TopicId, Topics, Unit,
};

/// Draws units and applies them.
pub struct Driver {
    pub rng: Rng,
    pub machine: Topics,
    pub time_ms: i64,
    pub token: u64,
}

impl Driver {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            machine: Topics::new(),
            time_ms: 1,
            token: 0,
        }
    }

    pub fn partition(&mut self) -> PartitionId {
        PartitionId {
            topic: TopicId(self.rng.range(1, 4)),
            index: self.rng.range(0, 3) as u32,
        }
    }

    fn group(&mut self) -> String {
        format!("g{}", self.rng.range(0, 4))
    }

    /// A member of the group, or somebody else.
    fn member(&mut self, group: &str) -> MemberName {
        let instance = self
            .rng
            .one_in(4)
            .then(|| format!("s{}", self.rng.range(0, 2)));
        let Some(found) = self.machine.group(group) else {
            let id = String::new();
            return MemberName { id, instance };
        };
        let all: Vec<_> = (found.members.iter())
            .map(|(id, m)| (id.clone(), m.instance.clone()))
            .chain(found.pending.keys().map(|id| (id.clone(), None)))
            .collect();
        if all.is_empty() || self.rng.one_in(5) {
            let id = if self.rng.one_in(2) { "ghost" } else { "" }.to_owned();
            return MemberName { id, instance };
        }
        let (id, instance) = all[self.rng.range(0, all.len() as u64) as usize].clone();
        MemberName { id, instance }
    }

    fn generation(&mut self, group: &str) -> i32 {
        let now = self.machine.group(group).map_or(-1, |g| g.generation);
        if self.rng.one_in(8) {
            self.rng.range(0, 3) as i32 - 1
        } else {
            now
        }
    }

    pub fn batch(&mut self) -> NewBatch {
        let size = self.rng.range(1, 80) as usize;
        let mut bytes = vec![0; size];
        self.rng.fill(&mut bytes);
        NewBatch {
            count: self.rng.range(1, 5) as u32,
            max_timestamp_ms: self.time_ms - self.rng.range(0, 50) as i64,
            producer: self.rng.one_in(2).then(|| ProducerMark {
                id: self.rng.range(1, 4) as i64,
                epoch: self.rng.range(0, 2) as i16,
                sequence: self.rng.range(0, 6) as i32,
            }),
            bytes: Bytes::from(bytes),
        }
    }

    pub fn command(&mut self) -> Command {
        match self.rng.range(0, 40) {
            0..=1 => Command::OpenPartition {
                partition: self.partition(),
                name: "logs".into(),
                config: LogConfig {
                    retention_bytes: 500,
                    retention_records: self.rng.one_in(3).then_some(20),
                    retention_ms: self.rng.one_in(2).then_some(300),
                    segment_bytes: self.rng.range(50, 300),
                    batch_bytes_max: 70,
                },
            },
            2 if self.rng.one_in(3) => Command::DropPartition {
                partition: self.partition(),
            },
            3 => {
                let partition = self.partition();
                let end = self.machine.partition(partition).map_or(3, |v| v.log_end);
                Command::Trim {
                    partition,
                    log_start: self.rng.range(0, end as u64 + 2) as i64 - 1,
                }
            }
            4..=15 => Command::Append {
                partition: self.partition(),
                batch: self.batch(),
            },
            16..=22 => Command::Join(self.join()),
            23..=27 => {
                let group = self.group();
                let member = self.member(&group);
                let found = self.machine.group(&group);
                let ids = found.map(|g| g.members.keys().cloned().collect::<Vec<_>>());
                Command::Sync(Sync {
                    generation: self.generation(&group),
                    protocol_type: None,
                    protocol: None,
                    assignments: (ids.unwrap_or_default().into_iter())
                        .map(|id| (id, Bytes::from(format!("share {}", self.token))))
                        .collect(),
                    group,
                    member,
                })
            }
            28 => {
                let group = self.group();
                let members = (0..self.rng.range(0, 3))
                    .map(|_| self.member(&group))
                    .collect();
                Command::Leave { group, members }
            }
            29..=33 => {
                let group = self.group();
                Command::Commit {
                    member: self.member(&group),
                    generation: self.generation(&group),
                    offsets: (0..self.rng.range(0, 3))
                        .map(|_| OffsetCommit {
                            partition: self.partition(),
                            offset: self.rng.range(0, 100) as i64,
                            leader_epoch: -1,
                            metadata: "m".repeat(self.rng.range(0, 3) as usize),
                        })
                        .collect(),
                    group,
                }
            }
            34..=35 => {
                let group = self.group();
                Command::ExpireMember {
                    member: self.member(&group).id,
                    generation: self.generation(&group),
                    group,
                }
            }
            36..=37 => {
                let group = self.group();
                Command::EndRebalance {
                    generation: self.generation(&group),
                    joining: self.rng.one_in(2),
                    group,
                }
            }
            38 => Command::DeleteGroup {
                group: self.group(),
            },
            _ => Command::ForgetTopic {
                topic: TopicId(self.rng.range(1, 4)),
            },
        }
    }

    fn join(&mut self) -> Join {
        let group = self.group();
        let member = self.member(&group);
        let names: &[&str] = match self.rng.range(0, 6) {
            0 => &["sticky"],
            1 => &["sticky", "range"],
            _ => &["range", "sticky"],
        };
        Join {
            group,
            member,
            needs_id: self.rng.one_in(2),
            client_id: format!("c{}", self.token),
            client_host: String::new(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: self.rng.range(1, 5) as u32 * 1000,
            protocol_type: "consumer".into(),
            protocols: (names.iter())
                .map(|name| GroupProtocol {
                    name: (*name).into(),
                    metadata: Bytes::from(vec![7; self.rng.range(0, 3) as usize]),
                })
                .collect(),
        }
    }

    /// Applies a command from somebody who waits; the token by which the answer is known.
    pub fn apply(&mut self, command: Command, out: &mut Vec<Output>) -> Origin {
        self.token += 1;
        let origin = Origin {
            home: CoreAddress {
                node: NodeId(1),
                core: CoreId(0),
            },
            token: self.token,
        };
        self.time_ms += self.rng.range(0, 4) as i64;
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: self.rng.next_u64(),
        };
        (self.machine).apply_unit(stamp, Unit { origin, command }, out);
        origin
    }

    /// One random unit, or what is due.
    pub fn step(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        if self.rng.one_in(20) {
            for command in self.machine.due(self.time_ms, 10) {
                self.apply(command, &mut out);
            }
        } else {
            let command = self.command();
            self.apply(command, &mut out);
        }
        out
    }
}
