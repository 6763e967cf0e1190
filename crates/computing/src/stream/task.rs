//! One of the workers' share of a stream, in one epoch: some partitions of the source, and some of the keys.
//!
//! There is a channel from every task to every task, itself among them. Everything that has an effect goes along a
//! channel; so what a task has when the barrier has come on all of them is what follows from all that the sources
//! gave before their barriers, and nothing else. Once the barrier has come on a channel, nothing more may be handed in
//! from it until it has come on all ([`Task::is_open`]): this is what aligns them.

use super::event::{Element, Event, Time, task_of};
use super::record::Position;
use super::step::{field, through};
use super::topology::{KeyOf, TimeOf, Topology};
use super::window::{NO_TIME, Taken, Windows};
use base::planted::{Bug, ComputingBug, planted};
use base::{DecodeError, Reader, Writer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// With so much output not in a checkpoint, a task reads no more.
pub const OUTPUTS_MAX: usize = 50_000;

/// A record as the source gives it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Input {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its time, in milliseconds since 1970.
    pub time_ms: i64,
}

/// A record for the sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// For the side topic.
    pub is_aside: bool,
    /// The record.
    pub event: Event,
}

/// What happened since the task began, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Records read from the source.
    pub read: u64,
    /// Records that came too late for all their windows.
    pub late: u64,
    /// Records that cannot be read: no UTF-8, no time, no number.
    pub unreadable: u64,
}

/// A task's part of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The checkpoint.
    pub checkpoint: u64,
    /// Where its sources read on.
    pub positions: BTreeMap<i32, Position>,
    /// State and output, for [`Task::restore`] and [`outputs`].
    pub bytes: Vec<u8>,
    /// How many records of output there are.
    pub outputs: u64,
    /// The watermark, if there is one.
    pub watermark_ms: Option<i64>,
    /// What happened since the barrier before.
    pub counts: Counts,
}

#[derive(Clone, Debug)]
struct Partition {
    position: Position,
    /// Since when its end is reached.
    caught_up_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Channel {
    /// What was said last of time.
    time: Time,
    has_barrier: bool,
}

/// The task.
#[derive(Clone, Debug)]
pub struct Task {
    topology: Arc<Topology>,
    index: usize,
    partitions: BTreeMap<i32, Partition>,
    windows: Option<Windows>,
    channels: Vec<Channel>,
    /// What its sources said of time last.
    told: Time,
    /// The checkpoint whose barrier it is waiting for on some channels, and what its sources had at theirs.
    aligning: Option<(u64, BTreeMap<i32, Position>, Counts)>,
    sends: VecDeque<(usize, Element)>,
    outputs: Vec<Output>,
    done: Option<Snapshot>,
    /// Of what was read, since the last barrier.
    read: Counts,
    /// Of what came by channels, since the last snapshot.
    taken: Counts,
}

impl Task {
    /// The task with this number, below `tasks`, which has these partitions.
    pub fn new(
        topology: Arc<Topology>,
        index: usize,
        tasks: usize,
        positions: BTreeMap<i32, Position>,
    ) -> Self {
        let separator = &topology.source.separator;
        let windows = topology.keyed.as_ref();
        let windows = windows.map(|keyed| Windows::new(keyed.window, separator));
        let partition = |position| Partition {
            position,
            caught_up_ms: None,
        };
        Self {
            windows,
            topology,
            index,
            partitions: (positions.into_iter())
                .map(|(at, position)| (at, partition(position)))
                .collect(),
            channels: vec![
                Channel {
                    time: Time::NONE,
                    has_barrier: false,
                };
                tasks
            ],
            told: Time::NONE,
            aligning: None,
            sends: VecDeque::new(),
            outputs: Vec::new(),
            done: None,
            read: Counts::default(),
            taken: Counts::default(),
        }
    }

    /// Takes what is its own from a file of the checkpoint; to be called with all of them before anything else.
    ///
    /// # Errors
    /// Other bytes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new(bytes);
        let (index, tasks) = (self.index, self.channels.len());
        match &mut self.windows {
            Some(windows) => windows.restore(&mut r, |key| task_of(key, tasks) == index),
            None => Ok(()),
        }
    }

    /// Where partitions are read on.
    pub fn positions(&self) -> BTreeMap<i32, Position> {
        let all = self.partitions.iter();
        all.map(|(at, partition)| (*at, partition.position))
            .collect()
    }

    /// The watermark, if there is one.
    pub fn watermark_ms(&self) -> Option<i64> {
        let windows = self.windows.as_ref()?;
        (windows.watermark_ms() != NO_TIME).then(|| windows.watermark_ms())
    }

    /// False when it has so much that is in no checkpoint that nothing more shall be read.
    pub fn wants_input(&self) -> bool {
        self.outputs.len() < OUTPUTS_MAX
    }

    /// True when elements of that channel may be handed in.
    pub fn is_open(&self, from: usize) -> bool {
        let reads_on = planted(Bug::Computing(ComputingBug::ReadPastBarrier));
        (self.channels.get(from)).is_some_and(|channel| !channel.has_barrier || reads_on)
    }

    /// A partition gave records, in order; it is read on at `next`.
    pub fn handle_records(&mut self, partition: i32, records: Vec<Input>, next: i64) {
        let tasks = self.channels.len();
        let mut to: Vec<Vec<Event>> = vec![Vec::new(); tasks];
        let mut unreadable = Vec::new();
        let Some(state) = self.partitions.get_mut(&partition) else {
            return;
        };
        let topology = Arc::clone(&self.topology);
        let separator = &topology.source.separator;
        for record in records {
            if record.offset < state.position.offset {
                continue;
            }
            self.read.read += 1;
            let event = match event_of(&topology, record) {
                Ok(event) => event,
                Err(event) => {
                    self.read.unreadable += 1;
                    unreadable.push(event);
                    continue;
                }
            };
            let newest_ms = &mut state.position.newest_ms;
            *newest_ms = Some(newest_ms.map_or(event.time_ms, |newest| newest.max(event.time_ms)));
            for mut event in through(&topology.before, event, separator) {
                let at = match topology.keyed.as_ref().map(|keyed| keyed.by) {
                    None => self.index,
                    Some(by) => {
                        match by {
                            KeyOf::Key => {}
                            KeyOf::Value => event.key.clone_from(&event.value),
                            KeyOf::Field(at) => {
                                let found = field(&event.value, separator, at);
                                event.key = found.unwrap_or_default().to_owned();
                            }
                        }
                        task_of(&event.key, tasks)
                    }
                };
                to[at].push(event);
            }
        }
        state.position.offset = state.position.offset.max(next);
        state.caught_up_ms = None;
        if !unreadable.is_empty() {
            let element = Element::Unreadable(unreadable);
            self.sends.push_back((self.index, element));
        }
        for (at, events) in to.into_iter().enumerate() {
            if !events.is_empty() {
                self.sends.push_back((at, Element::Events(events)));
            }
        }
    }

    /// The end of a partition is reached.
    pub fn handle_caught_up(&mut self, now_ms: u64, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.caught_up_ms.get_or_insert(now_ms);
        }
    }

    /// Tells what its sources know of time, if that is something new. To be called now and then.
    pub fn handle_tick(&mut self, now_ms: u64) {
        let source = &self.topology.source;
        let of_one = |partition: &Partition| Time {
            watermark_ms: match partition.position.newest_ms {
                Some(newest_ms) => newest_ms.saturating_sub(source.out_of_order_ms),
                None => NO_TIME,
            },
            is_idle: (partition.caught_up_ms)
                .is_some_and(|since| now_ms.saturating_sub(since) >= source.idle_ms),
        };
        let time = Time::of(self.partitions.values().map(of_one));
        if self.told != time {
            self.told = time;
            self.send_all(&Element::Time(time));
        }
    }

    /// Its sources shall put a barrier behind what they gave.
    pub fn handle_begin(&mut self, checkpoint: u64) {
        if self.aligning.is_none() {
            let read = std::mem::take(&mut self.read);
            self.aligning = Some((checkpoint, self.positions(), read));
            self.send_all(&Element::Barrier(checkpoint));
        }
    }

    fn send_all(&mut self, element: &Element) {
        let all = 0..self.channels.len();
        self.sends.extend(all.map(|to| (to, element.clone())));
    }

    /// Takes what came on a channel that is open.
    pub fn handle_element(&mut self, from: usize, element: Element) {
        assert!(self.is_open(from), "channel {from} is to wait");
        let mut results = Vec::new();
        match element {
            Element::Events(events) => match &mut self.windows {
                None => results = events,
                Some(windows) => {
                    for event in events {
                        match windows.add(&event, &mut results) {
                            Taken::Counted => {}
                            taken => {
                                let late = taken == Taken::Late;
                                self.taken.late += u64::from(late);
                                self.taken.unreadable += u64::from(!late);
                                self.outputs.push(Output {
                                    is_aside: true,
                                    event,
                                });
                            }
                        }
                    }
                }
            },
            Element::Unreadable(events) => {
                self.outputs.extend(events.into_iter().map(|event| Output {
                    is_aside: true,
                    event,
                }));
            }
            Element::Time(time) => {
                self.channels[from].time = time;
                let time = Time::of(self.channels.iter().map(|channel| channel.time));
                if let Some(windows) = &mut self.windows {
                    windows.advance(time.watermark_ms, &mut results);
                }
            }
            Element::Barrier(checkpoint) => {
                self.channels[from].has_barrier = true;
                if self.channels.iter().all(|channel| channel.has_barrier) {
                    self.channels
                        .iter_mut()
                        .for_each(|channel| channel.has_barrier = false);
                    self.snapshot(checkpoint);
                }
            }
        }
        let separator = &self.topology.source.separator;
        for event in results {
            let all = through(&self.topology.after, event, separator).into_iter();
            self.outputs.extend(all.map(|event| Output {
                is_aside: false,
                event,
            }));
        }
    }

    fn snapshot(&mut self, checkpoint: u64) {
        // Its own channel has brought the barrier, so its sources have begun.
        let Some((_, positions, read)) = self.aligning.take() else {
            return;
        };
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain(|output| !output.is_aside || self.topology.sink.side_topic.is_some());
        let mut w = Writer::new();
        if let Some(windows) = &self.windows {
            windows.snapshot(&mut w);
        }
        w.u32(outputs.len() as u32);
        for output in &outputs {
            output.event.encode(w.bool(output.is_aside));
        }
        let taken = std::mem::take(&mut self.taken);
        self.done = Some(Snapshot {
            checkpoint,
            positions,
            bytes: w.into_vec(),
            outputs: outputs.len() as u64,
            watermark_ms: self.watermark_ms(),
            counts: Counts {
                read: read.read,
                late: taken.late,
                unreadable: read.unreadable + taken.unreadable,
            },
        });
    }

    /// What is to be sent next, and to which task.
    pub fn poll_send(&mut self) -> Option<(usize, Element)> {
        self.sends.pop_front()
    }

    /// Its part of a checkpoint, once it has it.
    pub fn poll_done(&mut self) -> Option<Snapshot> {
        self.done.take()
    }
}

/// The output in a file of a checkpoint.
///
/// # Errors
/// Other bytes.
pub fn outputs(topology: &Topology, bytes: &[u8]) -> Result<Vec<Output>, DecodeError> {
    let mut r = Reader::new(bytes);
    if let Some(keyed) = &topology.keyed {
        Windows::new(keyed.window, &topology.source.separator).restore(&mut r, |_| false)?;
    }
    let count = r.count(17)?;
    let all = (0..count)
        .map(|_| {
            Ok(Output {
                is_aside: r.bool()?,
                event: Event::decode(&mut r)?,
            })
        })
        .collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(all)
}

/// The event; as an error what can be said of a record that is none.
fn event_of(topology: &Topology, record: Input) -> Result<Event, Event> {
    let text = |bytes: Option<Vec<u8>>| match String::from_utf8(bytes.unwrap_or_default()) {
        Ok(text) => (text, true),
        Err(other) => (
            String::from_utf8_lossy(other.as_bytes()).into_owned(),
            false,
        ),
    };
    let ((key, is_text), (value, is_too)) = (text(record.key), text(record.value));
    let time_ms = match topology.source.time {
        TimeOf::Record => Some(record.time_ms),
        TimeOf::Field(at) => {
            field(&value, &topology.source.separator, at).and_then(|text| text.trim().parse().ok())
        }
    };
    let event = Event {
        key,
        value,
        time_ms: time_ms.unwrap_or(record.time_ms),
    };
    match time_ms {
        Some(_) if is_text && is_too => Ok(event),
        _ => Err(event),
    }
}
