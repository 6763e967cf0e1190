//! Seeded histories: whatever was reported durable is there after any crash, and a flipped bit never goes
//! unnoticed.

use super::sim::Disk;
use crate::{
    DiskResult, Frame, HardState, Journal, JournalConfig, JournalProgress, LaneVerdict, Mark,
    Position, Recovered, RecoveredEntry, ShardVerdict,
};
use base::{Now, ReplicaId, Rng, ShardId};
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    mark: Option<Mark>,
    hard_state: Option<HardState>,
    entries: Vec<RecoveredEntry>,
}

type State = BTreeMap<ShardId, Model>;

fn last(model: &Model) -> u64 {
    let mark = model.mark.as_ref().map_or(0, |m| m.index);
    model.entries.last().map_or(mark, |e| e.index)
}

struct World {
    rng: Rng,
    disk: Disk,
    journal: Journal,
    now: Now,
    replica: u64,
    /// The state after each frame and the position at which it is durable; the first is durable.
    history: Vec<(Position, State)>,
    releases: u64,
    freed: bool,
}

fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes_max: 1500,
        ..JournalConfig::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            disk: Disk::default(),
            journal: Journal::new(&Recovered::default(), config()),
            now: Now::default(),
            replica: 1,
            history: vec![(Position(0), State::new())],
            releases: 0,
            freed: false,
        }
    }

    fn state(&self) -> State {
        self.history.last().expect("never empty").1.clone()
    }

    fn append(&mut self, shard: ShardId, frame: Frame, state: State) {
        let position = self.journal.append(shard, frame);
        self.history.push((position, state));
    }

    fn append_something(&mut self) {
        let shard = ShardId(self.rng.range(1, 4));
        let mut state = self.state();
        if !state.contains_key(&shard) || self.rng.one_in(60) {
            self.replica += 1;
            if state.remove(&shard).is_some() && self.rng.one_in(2) {
                self.append(shard, Frame::Removed, state);
                return;
            }
            let index = self.rng.range(0, 3) * 10;
            let mark = self.mark(self.replica, index, u64::from(index > 0));
            let model = Model {
                mark: Some(mark.clone()),
                ..Model::default()
            };
            state.insert(shard, model);
            return self.append(shard, frame_of(mark), state);
        }
        let model = state.get_mut(&shard).expect("looked at above");
        let first = model.mark.as_ref().map_or(0, |m| m.index) + 1;
        let end = last(model) + 1;
        let term = model.hard_state.map_or(1, |h| h.term);
        match self.rng.range(0, 12) {
            0 | 1 => {
                let new = HardState {
                    term: term + self.rng.range(0, 2),
                    vote: self.rng.range(0, 3),
                    commit: end - 1,
                };
                model.hard_state = Some(new);
                let HardState { term, vote, commit } = new;
                self.append(shard, Frame::HardState { term, vote, commit }, state);
            }
            2 if end > first => {
                let at = self.rng.range(first, end);
                let replica = model.mark.as_ref().expect("each has one").replica.0;
                let kept = &model.entries[(at - first) as usize];
                let install = self.rng.one_in(4);
                let mark = if install {
                    // From a leader whose log is another one.
                    let index = at + self.rng.range(0, 5);
                    self.mark(replica, index, term + 100)
                } else {
                    self.mark(replica, at, kept.term)
                };
                model.entries.retain(|e| !install && e.index > at);
                model.mark = Some(mark.clone());
                self.append(shard, frame_of(mark), state);
                if self.rng.one_in(2) {
                    self.releases += 1;
                    self.journal.release(shard, at);
                }
            }
            what => {
                let conflict = what == 3 && end > first;
                let index = if conflict {
                    self.rng.range(first, end)
                } else {
                    end
                };
                let mut data = vec![0; self.rng.range(0, 90) as usize];
                self.rng.fill(&mut data);
                let entry = RecoveredEntry {
                    index,
                    term: term + u64::from(conflict),
                    kind: self.rng.range(0, 3) as u8,
                    context: Bytes::from_static(b"ctx"),
                    data: Bytes::from(data),
                };
                model.entries.retain(|e| e.index < index);
                model.entries.push(entry.clone());
                let RecoveredEntry {
                    index,
                    term,
                    kind,
                    context,
                    data,
                } = entry;
                let frame = Frame::Entry {
                    index,
                    term,
                    kind,
                    context,
                    data,
                };
                self.append(shard, frame, state);
            }
        }
    }

    fn mark(&self, replica: u64, index: u64, term: u64) -> Mark {
        Mark {
            replica: ReplicaId(replica),
            index,
            term,
            conf: Bytes::from_static(b"members"),
        }
    }

    /// Flushes, and carries out what was asked for up to a point; true when everything was.
    fn write(&mut self, whole: bool) -> bool {
        self.now.mono_us += self.rng.range(0, 8_000);
        self.journal.handle_tick(self.now);
        self.journal.flush(self.now);
        loop {
            let mut tickets = Vec::new();
            let mut failed = false;
            while let Some(op) = self.journal.poll_op() {
                if !whole && self.rng.one_in(4) {
                    return false;
                }
                if !whole && matches!(op, crate::DiskOp::Sync { .. }) && self.rng.one_in(15) {
                    failed = true;
                    // What a failed sync was to write is on the disk or is not.
                    self.disk.failing = self.rng.one_in(2);
                }
                self.freed |= matches!(op, crate::DiskOp::Delete { .. });
                tickets.extend(self.disk.carry_out_one(op));
            }
            self.disk.failing = false;
            if tickets.is_empty() {
                return true;
            }
            for ticket in tickets {
                if failed {
                    let result = DiskResult::Failed("input/output error".into());
                    let progress = self.journal.handle_done(self.now, ticket, &result);
                    assert!(matches!(progress, JournalProgress::Failed(_)));
                    return false;
                }
                let full = self.rng.one_in(20);
                let result = if full {
                    DiskResult::Full
                } else {
                    DiskResult::Done(Bytes::new())
                };
                match self.journal.handle_done(self.now, ticket, &result) {
                    JournalProgress::Synced(position) => {
                        let durable = self.history.iter().rposition(|(p, _)| *p <= position);
                        self.history.drain(..durable.unwrap_or(0));
                    }
                    JournalProgress::Full => self.journal.flush(self.now),
                    JournalProgress::Pending => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn write_all(&mut self) {
        assert!(self.write(true));
        assert!(self.journal.durable() >= self.journal.appended());
        assert_eq!(self.history.len(), 1);
    }

    fn restart(&mut self, recovered: &Recovered) {
        self.journal = Journal::new(recovered, config());
        self.now.mono_us += 1_000_000;
        let opened = self.journal.opened();
        for (position, _) in &mut self.history {
            *position = opened;
        }
    }
}

fn frame_of(mark: Mark) -> Frame {
    let Mark {
        replica,
        index,
        term,
        conf,
    } = mark;
    Frame::Mark {
        replica,
        index,
        term,
        conf,
    }
}

fn clean_state(recovered: &Recovered) -> State {
    let mut state = State::new();
    for (shard, found) in &recovered.shards {
        assert_eq!(found.verdict, ShardVerdict::Clean, "{shard}");
        if !found.removed {
            let model = Model {
                mark: found.mark.clone(),
                hard_state: found.hard_state,
                entries: found.entries.clone(),
            };
            state.insert(*shard, model);
        }
    }
    state
}

#[test]
fn crash_at_any_point_keeps_all_that_was_reported_durable_in_order() {
    let (mut freed, mut torn, mut lost) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..12 {
            for _ in 0..world.rng.range(0, 25) {
                for _ in 0..world.rng.range(0, 6) {
                    world.append_something();
                }
                if !world.write(false) {
                    break;
                }
            }
            let killed_only = world.rng.one_in(3);
            if !killed_only {
                world.disk.crash_at_random(&mut world.rng);
            }
            let recovered = world.disk.recover();
            assert!(
                !matches!(recovered.verdict, LaneVerdict::Rotten(_)),
                "seed {seed}: {:?}",
                recovered.verdict
            );
            torn += u64::from(matches!(recovered.verdict, LaneVerdict::TornTail { .. }));
            let state = clean_state(&recovered);
            let at = world.history.iter().rposition(|(_, s)| *s == state);
            let at = at.unwrap_or_else(|| {
                panic!(
                    "seed {seed}: {state:#?} is not what was written; durable was {:#?}",
                    world.history[0]
                )
            });
            lost += u64::from(at + 1 < world.history.len());
            world.history.truncate(at + 1);
            if !killed_only {
                world.history.drain(..at);
            }
            world.restart(&recovered);
        }
        freed += u64::from(world.freed);
    }
    assert!(
        freed > 100 && torn > 100 && lost > 100,
        "{freed} freed, {torn} torn, {lost} lost"
    );
}

#[test]
fn one_flipped_bit_is_never_taken_for_what_was_written() {
    let (mut rotten, mut harmless, mut lanes, mut tails) = (0, 0, 0, 0);
    for seed in 0..1500 {
        let mut world = World::new(seed);
        // The states of the last segment and before: a cut may fall back to any of them.
        let mut states = vec![State::new()];
        for _ in 0..world.rng.range(3, 25) {
            for _ in 0..world.rng.range(1, 5) {
                world.append_something();
                states.push(world.state());
            }
            world.write_all();
        }
        let sealed = world.rng.one_in(2);
        if sealed {
            world.now.mono_us += 20_000;
            world.journal.handle_tick(world.now);
            world.disk.carry_out(&mut world.journal);
        }
        let written = world.state();
        let mut disk = world.disk.clone();
        let numbers: Vec<u64> = disk.files.keys().copied().collect();
        let number = numbers[world.rng.range(0, numbers.len() as u64) as usize];
        let file = disk.files.get_mut(&number).expect("just listed");
        let bytes = file.seen().len();
        let offset = world.rng.range(0, bytes as u64) as usize;
        let bit = 1 << world.rng.range(0, 8);
        file.change(|content| content[offset] ^= bit);
        let mut previous = None;
        let mut cut = false;
        // Once, and again after a restart that has written nothing else.
        for round in 0..2 {
            let recovered = disk.recover();
            let place =
                format!("seed {seed} round {round}: segment {number} offset {offset} of {bytes}");
            let torn = matches!(recovered.verdict, LaneVerdict::TornTail { .. });
            let lane = matches!(recovered.verdict, LaneVerdict::Rotten(_));
            cut |= torn;
            let in_seal = offset + crate::wire::SEAL_BYTES >= bytes;
            let last = Some(&number) == numbers.last();
            assert!(
                !torn || last && (!sealed || in_seal),
                "{place}: called torn"
            );
            if round == 0 {
                tails += u64::from(torn);
                lanes += u64::from(lane);
            }
            let mut damaged = false;
            for (shard, found) in &recovered.shards {
                if found.verdict != ShardVerdict::Clean {
                    damaged = true;
                    continue;
                }
                if found.removed {
                    assert!(cut || !written.contains_key(shard), "{place}: {shard}");
                    continue;
                }
                let same = |model: &Model| {
                    let promise = |h: Option<HardState>| h.map(|h| (h.term, h.vote));
                    model.mark == found.mark
                        && model.entries == found.entries
                        && promise(model.hard_state) == promise(found.hard_state)
                };
                let right = if cut {
                    states.iter().any(|s| s.get(shard).is_some_and(same))
                } else {
                    written.get(shard).is_some_and(same)
                };
                assert!(
                    right,
                    "{place}: {shard} is {found:#?}, was {:#?}",
                    written.get(shard)
                );
            }
            if !cut && !lane {
                for shard in written.keys() {
                    assert!(
                        recovered.shards.contains_key(shard),
                        "{place}: {shard} vanished"
                    );
                }
            }
            if round == 0 {
                rotten += u64::from(damaged);
                harmless += u64::from(!damaged && !torn && !lane);
            }
            let live: BTreeMap<_, _> = recovered
                .shards
                .iter()
                .filter(|(_, s)| !s.removed)
                .map(|(id, s)| (*id, (s.verdict.clone(), s.entries.clone())))
                .collect();
            let result = (lane, live);
            if let Some(previous) = previous.replace(result.clone()) {
                assert_eq!(previous, result, "{place}: another result after a restart");
            }
            let mut journal = Journal::new(&recovered, config());
            journal.flush(world.now);
            while let tickets = disk.carry_out(&mut journal)
                && !tickets.is_empty()
            {
                for ticket in tickets {
                    journal.handle_done(world.now, ticket, &DiskResult::Done(Bytes::new()));
                }
            }
        }
    }
    assert!(
        rotten > 200 && harmless > 50 && tails > 20,
        "{rotten} rotten, {harmless} harmless, {lanes} lanes, {tails} torn"
    );
}
