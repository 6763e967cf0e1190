//! What may be asked of the cell, and the byte form.

use crate::cell::{Check, Commit};
use crate::model::{AgentId, AgentSpec, End, Framework, InstanceId, JobSpec, PlacedBy, Task};
use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One replicated unit: a command and who waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits; the default when nobody does, and then no reply is told.
    pub origin: Origin,
    /// What to do.
    pub command: Command,
}

/// Everything that the log may hold for this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Wants a job. One of the same name that has ended makes room for it.
    Run {
        /// The job.
        job: JobSpec,
    },
    /// Wants a job no more: its tasks are told to end.
    Stop {
        /// Its name.
        name: String,
    },
    /// Forgets a job that has ended.
    Remove {
        /// Its name.
        name: String,
    },
    /// An agent is there, or there again.
    Register {
        /// It.
        agent: AgentSpec,
        /// The instances that it still has, from before.
        has: Vec<InstanceId>,
        /// Raised by the agent each time it asks, also if it was started again: what it had when it asked earlier is
        /// not what it has. 0: it does not count.
        attempt: u64,
    },
    /// An agent was not heard in time, as the leader saw it; or it leaves of its own will.
    Lose {
        /// It.
        agent: AgentId,
        /// The generation that was not heard. One that has registered since is not lost.
        generation: u64,
        /// Whether it is forgotten, too.
        forget: bool,
    },
    /// What an agent has seen of its instances.
    Report {
        /// It.
        agent: AgentId,
        /// Its generation: what an older one saw does not count.
        generation: u64,
        /// In order.
        seen: Vec<Seen>,
    },
    /// Tasks get their agents, as the leader planned it. Each is carried out if it still can be; the others are not.
    Place {
        /// In order.
        placements: Vec<Placement>,
    },
    /// A scheduler outside commits what it decided.
    Commit {
        /// Its name.
        scheduler: String,
        /// What it decided; of these the more important first, else in order.
        claims: Vec<Claim>,
        /// What becomes of the others when one cannot be carried out.
        commit: Commit,
        /// When one cannot be carried out.
        check: Check,
    },
    /// A framework is there, or there again.
    Join {
        /// Its name, and its job's.
        name: String,
        /// Of its tasks.
        priority: u32,
        /// It; the generation is given, not taken.
        framework: Framework,
    },
    /// A framework lives.
    Renew {
        /// Its name.
        name: String,
        /// In which generation.
        generation: u64,
        /// Whether it has anything to run.
        wants: bool,
    },
    /// A framework leaves, or was not heard in time, as the leader saw it.
    Quit {
        /// Its name.
        name: String,
        /// In which generation.
        generation: u64,
        /// The renewals that were heard: after another it has not been silent. `None`: it leaves.
        renewals: Option<u64>,
    },
    /// Offers are made that are due, and withdrawn that are over.
    Offer,
    /// A framework answers an offer.
    Answer {
        /// Its name.
        name: String,
        /// In which generation.
        generation: u64,
        /// Which offer.
        offer: u64,
        /// What it runs there; none: it does not want it.
        tasks: Vec<Task>,
        /// Then it is offered nothing of this agent for so long, milliseconds.
        filter_ms: u64,
    },
}

/// What a scheduler outside decided: a task and its agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Which task.
    pub slot: Slot,
    /// Where.
    pub agent: AgentId,
    /// The agent's version that was looked at.
    #[serde(rename = "version")]
    pub seen: u64,
}

/// What an agent has seen of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub instance: InstanceId,
    /// How it ended; `None`: it runs.
    pub end: Option<End>,
}

/// Which of the wanted instances of a job's tasks.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Slot {
    /// The job's number.
    pub job: u64,
    /// Which of its tasks, from 0.
    pub task: u16,
    /// Which of that task's instances, from 0.
    pub index: u32,
}

/// A task and its agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Which task.
    pub slot: Slot,
    /// Where.
    pub agent: AgentId,
    /// As the planner knew it.
    pub generation: u64,
    /// Instances of lower priority that have to end first.
    pub evict: Vec<InstanceId>,
    /// Why there.
    pub why: Why,
}

/// Why a node was chosen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Why {
    /// Agents that were looked at.
    pub considered: u32,
    /// Those that could have run it.
    pub feasible: u32,
    /// The best of them, the chosen one first.
    pub scores: Vec<Score>,
}

/// How good an agent was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Score {
    /// Which.
    pub agent: AgentId,
    /// The sum.
    pub total: u64,
    /// What it was made of: name and weighted value.
    pub parts: Vec<(String, u64)>,
}

impl Slot {
    pub(crate) fn encode_into(self, w: &mut Writer) {
        w.u64(self.job).u16(self.task).u32(self.index);
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job: r.u64()?,
            task: r.u16()?,
            index: r.u32()?,
        })
    }
}

impl Why {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u32(self.considered).u32(self.feasible);
        w.u32(self.scores.len() as u32);
        for score in &self.scores {
            w.u64(score.agent.0).u64(score.total);
            w.u32(score.parts.len() as u32);
            for (name, value) in &score.parts {
                w.str(name).u64(*value);
            }
        }
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (considered, feasible) = (r.u32()?, r.u32()?);
        let mut scores = Vec::new();
        for _ in 0..r.count(20)? {
            scores.push(Score {
                agent: AgentId(r.u64()?),
                total: r.u64()?,
                parts: (0..r.count(12)?)
                    .map(|_| Ok((r.str()?.to_owned(), r.u64()?)))
                    .collect::<Result<_, DecodeError>>()?,
            });
        }
        Ok(Self {
            considered,
            feasible,
            scores,
        })
    }
}

pub(crate) fn put_instances(w: &mut Writer, instances: impl ExactSizeIterator<Item = InstanceId>) {
    w.u32(instances.len() as u32);
    for instance in instances {
        w.u64(instance.0);
    }
}

pub(crate) fn read_instances<T: FromIterator<InstanceId>>(
    r: &mut Reader<'_>,
) -> Result<T, DecodeError> {
    (0..r.count(8)?).map(|_| Ok(InstanceId(r.u64()?))).collect()
}

pub(crate) fn put_end(w: &mut Writer, end: Option<&End>) {
    w.bool(end.is_some());
    if let Some(end) = end {
        end.encode_into(w);
    }
}

pub(crate) fn read_end(r: &mut Reader<'_>) -> Result<Option<End>, DecodeError> {
    r.bool()?.then(|| End::decode_from(r)).transpose()
}

impl Unit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        self.origin.encode_into(w);
        match &self.command {
            Command::Run { job } => {
                match &job.placed_by {
                    PlacedBy::Cell => drop(w.u8(1)),
                    other => other.encode_into(w.u8(9)),
                }
                job.encode_into(w);
            }
            Command::Stop { name } => {
                w.u8(2).str(name);
            }
            Command::Remove { name } => {
                w.u8(3).str(name);
            }
            Command::Register {
                agent,
                has,
                attempt,
            } => {
                w.u8(8);
                agent.encode_into(w);
                put_instances(w, has.iter().copied());
                w.u64(*attempt);
            }
            Command::Lose {
                agent,
                generation,
                forget,
            } => {
                w.u8(5).u64(agent.0).u64(*generation).bool(*forget);
            }
            Command::Report {
                agent,
                generation,
                seen,
            } => {
                w.u8(6).u64(agent.0).u64(*generation);
                w.u32(seen.len() as u32);
                for seen in seen {
                    w.u64(seen.instance.0);
                    put_end(w, seen.end.as_ref());
                }
            }
            Command::Place { placements } => {
                w.u8(7).u32(placements.len() as u32);
                for placement in placements {
                    placement.slot.encode_into(w);
                    w.u64(placement.agent.0).u64(placement.generation);
                    put_instances(w, placement.evict.iter().copied());
                    placement.why.encode_into(w);
                }
            }
            Command::Commit {
                scheduler,
                claims,
                commit,
                check,
            } => {
                w.u8(10).str(scheduler);
                w.bool(*commit == Commit::AllOrNothing);
                w.bool(*check == Check::Version);
                w.u32(claims.len() as u32);
                for claim in claims {
                    claim.slot.encode_into(w);
                    w.u64(claim.agent.0).u64(claim.seen);
                }
            }
            Command::Join {
                name,
                priority,
                framework,
            } => {
                w.u8(11).str(name).u32(*priority);
                w.u32(framework.weight).u32(framework.lease_ms);
            }
            Command::Renew {
                name,
                generation,
                wants,
            } => {
                w.u8(12).str(name).u64(*generation).bool(*wants);
            }
            Command::Quit {
                name,
                generation,
                renewals,
            } => {
                w.u8(13).str(name).u64(*generation);
                w.bool(renewals.is_some()).u64(renewals.unwrap_or(0));
            }
            Command::Offer => {
                w.u8(14);
            }
            Command::Answer {
                name,
                generation,
                offer,
                tasks,
                filter_ms,
            } => {
                w.u8(15).str(name).u64(*generation).u64(*offer);
                w.u32(tasks.len() as u32);
                for task in tasks {
                    task.encode_into(w);
                }
                w.u64(*filter_ms);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = match r.u8()? {
            1 => Command::Run {
                job: JobSpec::decode_from(&mut r)?,
            },
            2 => Command::Stop {
                name: r.str()?.to_owned(),
            },
            3 => Command::Remove {
                name: r.str()?.to_owned(),
            },
            // Of the first form, without a count.
            4 => Command::Register {
                agent: AgentSpec::decode_from(&mut r)?,
                has: read_instances(&mut r)?,
                attempt: 0,
            },
            8 => Command::Register {
                agent: AgentSpec::decode_from(&mut r)?,
                has: read_instances(&mut r)?,
                attempt: r.u64()?,
            },
            5 => Command::Lose {
                agent: AgentId(r.u64()?),
                generation: r.u64()?,
                forget: r.bool()?,
            },
            6 => Command::Report {
                agent: AgentId(r.u64()?),
                generation: r.u64()?,
                seen: (0..r.count(9)?)
                    .map(|_| {
                        Ok(Seen {
                            instance: InstanceId(r.u64()?),
                            end: read_end(&mut r)?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            },
            7 => Command::Place {
                placements: (0..r.count(46)?)
                    .map(|_| {
                        Ok(Placement {
                            slot: Slot::decode_from(&mut r)?,
                            agent: AgentId(r.u64()?),
                            generation: r.u64()?,
                            evict: read_instances(&mut r)?,
                            why: Why::decode_from(&mut r)?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            },
            9 => {
                let placed_by = PlacedBy::decode_from(&mut r)?;
                let job = JobSpec::decode_from(&mut r)?;
                let job = JobSpec { placed_by, ..job };
                Command::Run { job }
            }
            10 => Command::Commit {
                scheduler: r.str()?.to_owned(),
                commit: match r.bool()? {
                    true => Commit::AllOrNothing,
                    false => Commit::Incremental,
                },
                check: match r.bool()? {
                    true => Check::Version,
                    false => Check::Fit,
                },
                claims: (0..r.count(30)?)
                    .map(|_| {
                        Ok(Claim {
                            slot: Slot::decode_from(&mut r)?,
                            agent: AgentId(r.u64()?),
                            seen: r.u64()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            },
            11 => Command::Join {
                name: r.str()?.to_owned(),
                priority: r.u32()?,
                framework: Framework {
                    weight: r.u32()?,
                    lease_ms: r.u32()?,
                    generation: 0,
                },
            },
            12 => Command::Renew {
                name: r.str()?.to_owned(),
                generation: r.u64()?,
                wants: r.bool()?,
            },
            13 => Command::Quit {
                name: r.str()?.to_owned(),
                generation: r.u64()?,
                renewals: {
                    let (is_some, renewals) = (r.bool()?, r.u64()?);
                    is_some.then_some(renewals)
                },
            },
            14 => Command::Offer,
            15 => Command::Answer {
                name: r.str()?.to_owned(),
                generation: r.u64()?,
                offer: r.u64()?,
                tasks: (0..r.count(60)?)
                    .map(|_| Task::decode_from(&mut r))
                    .collect::<Result<_, DecodeError>>()?,
                filter_ms: r.u64()?,
            },
            _ => return Err(DecodeError::Invalid("scheduling command")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}

impl Command {
    /// True for one that needs room.
    pub fn adds(&self) -> bool {
        match self {
            Self::Run { .. } | Self::Join { .. } => true,
            Self::Answer { tasks, .. } => !tasks.is_empty(),
            _ => false,
        }
    }
}
