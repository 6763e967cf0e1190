//! Random units against what they must keep: a log that is a plain list, producers that are doubled by
//! nobody, groups in which everybody who waits is answered exactly once.

#[path = "driver/mod.rs"]
mod driver;

use base::planted::{Bug, plant};
use base::{Machine, Rng, Stamp, State};
use bytes::Bytes;
use driver::Driver;
use messaging::{
    Command, Group, GroupTimers, LogConfig, NewBatch, Output, PartitionId, Phase, ProducerMark,
    Reply, Topics, Unit, Waiting,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a partition is, said simply.
#[derive(Default)]
struct Plain {
    /// Offset, records, bytes.
    batches: Vec<(i64, u32, Bytes)>,
    start: i64,
    end: i64,
}

fn compare(machine: &Topics, id: PartitionId, plain: &Plain) {
    let view = machine.partition(id).expect("it was opened");
    assert_eq!((view.log_start, view.log_end), (plain.start, plain.end));
    for offset in [plain.start, (plain.start + plain.end) / 2, plain.end] {
        let found = machine
            .read(id, offset, usize::MAX, false)
            .expect("in range");
        let found = found
            .batches
            .into_iter()
            .map(|b| (b.base_offset, b.count, b.bytes));
        let want = plain
            .batches
            .iter()
            .filter(|(base, n, _)| base + i64::from(*n) > offset);
        assert!(found.eq(want.cloned()), "{id} from {offset}");
    }
    let held = plain
        .batches
        .iter()
        .filter(|(base, n, _)| base + i64::from(*n) > plain.start);
    let held: u64 = held.map(|(_, _, bytes)| bytes.len() as u64).sum();
    assert!(view.bytes >= held, "{id} lost bytes");
}

#[test]
fn m21_random_appends_and_trims_do_what_a_list_does() {
    for seed in 0..60 {
        let mut driver = Driver::new(seed);
        let mut model: BTreeMap<PartitionId, Plain> = BTreeMap::new();
        for _ in 0..600 {
            let command = driver.command();
            let mut out = Vec::new();
            let origin = driver.apply(command.clone(), &mut out);
            let answer = out.iter().find_map(|o| match o {
                Output::Reply { origin: to, reply } if *to == origin => Some(reply.clone()),
                _ => None,
            });
            let grew = out.iter().any(|o| matches!(o, Output::Appended { .. }));
            match (command, answer) {
                (Command::OpenPartition { partition, .. }, Some(Ok(_))) => {
                    model.entry(partition).or_default();
                }
                (Command::DropPartition { partition }, Some(Ok(_))) => {
                    assert!(model.remove(&partition).is_some());
                }
                (Command::Append { partition, batch }, Some(Ok(reply))) => {
                    let Reply::Appended { base_offset, .. } = reply else {
                        panic!("an append is answered by {reply:?}");
                    };
                    let plain = model.get_mut(&partition).expect("it was opened");
                    if grew {
                        assert_eq!(base_offset, plain.end);
                        let entry = (base_offset, batch.count, batch.bytes);
                        plain.batches.push(entry);
                        plain.end += i64::from(batch.count);
                    } else {
                        assert!(base_offset < plain.end, "a repetition was there before");
                    }
                }
                (Command::Trim { partition, .. }, Some(Ok(reply))) => {
                    let Reply::Trimmed { log_start } = reply else {
                        panic!("a trim is answered by {reply:?}");
                    };
                    let plain = model.get_mut(&partition).expect("it was opened");
                    plain.start = log_start;
                }
                _ => {}
            }
            if driver.rng.one_in(30) {
                model
                    .iter()
                    .for_each(|(id, p)| compare(&driver.machine, *id, p));
            }
        }
        assert_eq!(driver.machine.partitions().count(), model.len());
        model
            .iter()
            .for_each(|(id, p)| compare(&driver.machine, *id, p));
    }
}

fn check_group(name: &str, group: &Group, waiting: &BTreeSet<u64>) {
    let say = |what: &str| panic!("{name}: {what}: {group:?}");
    let joined = |w: &Waiting| matches!(w, Waiting::Join(_));
    match group.phase {
        Phase::Empty if !group.members.is_empty() => say("an empty group has members"),
        Phase::Joining | Phase::Syncing | Phase::Stable if group.members.is_empty() => {
            say("a group without members is not empty")
        }
        Phase::Joining
            if group.pending.is_empty() && group.members.values().all(|m| joined(&m.waiting)) =>
        {
            say("all have joined, and still they wait")
        }
        Phase::Syncing if group.members[&group.leader].waiting != Waiting::No => {
            say("the leader waits for its own shares")
        }
        Phase::Stable if group.members.values().any(|m| m.waiting != Waiting::No) => {
            say("somebody waits in a stable group")
        }
        _ => {}
    }
    if group.phase != Phase::Empty && !group.members.contains_key(&group.leader) {
        say("nobody leads");
    }
    let names: Vec<_> = group
        .members
        .values()
        .filter_map(|m| m.instance.as_ref())
        .collect();
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        say("two members have one name");
    }
    for member in group.members.values() {
        if let Waiting::Join(origin) | Waiting::Sync(origin) = member.waiting
            && !waiting.contains(&origin.token)
        {
            say("a member waits for what was answered");
        }
    }
}

#[test]
fn m21_everybody_who_waits_for_a_group_is_answered_exactly_once() {
    for seed in 0..80 {
        let mut driver = Driver::new(seed);
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        let mut leaders: BTreeMap<(String, i32), String> = BTreeMap::new();
        for _ in 0..800 {
            let command = driver.command();
            let group = match &command {
                Command::Join(join) => Some(join.group.clone()),
                _ => None,
            };
            let deleted = match &command {
                Command::DeleteGroup { group } => Some(group.clone()),
                _ => None,
            };
            let mut out = Vec::new();
            let origin = driver.apply(command, &mut out);
            waiting.insert(origin.token);
            for output in out {
                let Output::Reply { origin, reply } = output else {
                    continue;
                };
                assert!(waiting.remove(&origin.token), "seed {seed}: answered twice");
                if let (Ok(Reply::Joined(joined)), Some(group)) = (&reply, &group) {
                    // A static leader may be followed by its successor within a generation.
                    let key = (group.clone(), joined.generation);
                    let name = |id: &str| id.split('-').next().map(str::to_owned);
                    let known = leaders.entry(key).or_insert(joined.leader.clone());
                    let is_static = known.starts_with('s');
                    assert!(
                        *known == joined.leader || is_static && name(known) == name(&joined.leader),
                        "seed {seed}: two leaders of one generation"
                    );
                }
                if let (Ok(Reply::Done), Some(group)) = (&reply, &deleted) {
                    leaders.retain(|(name, _), _| name != group);
                }
            }
            let held: BTreeSet<u64> = (driver.machine.groups())
                .flat_map(|(_, g)| g.members.values())
                .filter_map(|m| match m.waiting {
                    Waiting::Join(o) | Waiting::Sync(o) => Some(o.token),
                    Waiting::No => None,
                })
                .collect();
            for (name, group) in driver.machine.groups() {
                check_group(name, group, &waiting);
            }
            // Commands that a leader proposes for nobody's sake are not answered when nothing was due.
            waiting.retain(|token| *token != driver.token || held.contains(token));
            assert_eq!(waiting, held, "seed {seed}: somebody was forgotten");
        }
    }
}

#[test]
fn a_group_whose_members_are_all_silent_is_empty_in_the_end() {
    for seed in 0..40 {
        let mut driver = Driver::new(seed);
        for _ in 0..driver.rng.range(1, 300) {
            driver.step();
        }
        let mut timers = GroupTimers::new();
        let mut now_us = 5_000_000;
        timers.reset(now_us, &driver.machine);
        for _ in 0..200 {
            now_us += 1_000_000;
            for command in timers.poll_expired(now_us, 50) {
                let mut out = Vec::new();
                driver.apply(command, &mut out);
                for output in out {
                    if let Output::GroupChanged { group } = output {
                        timers.group_changed(now_us, &driver.machine, &group);
                    }
                }
            }
        }
        for (name, group) in driver.machine.groups() {
            assert_eq!(group.phase, Phase::Empty, "seed {seed}: {name}");
            assert!(group.pending.is_empty(), "seed {seed}: {name}");
        }
        assert_eq!(timers.deadline_us(), u64::MAX, "seed {seed}");
    }
}

/// An idempotent producer that sends everything up to three times, over a network that repeats and drops.
fn doubled(seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let mut topics = Topics::new();
    let id = PartitionId::default();
    let apply = |topics: &mut Topics, command| {
        let unit = Unit {
            origin: base::Origin::default(),
            command,
        };
        topics.apply_unit(Stamp::default(), unit, &mut Vec::new());
    };
    let open = Command::OpenPartition {
        partition: id,
        name: "logs".into(),
        config: LogConfig::default(),
    };
    apply(&mut topics, open);
    let mut sent = Vec::new();
    for sequence in 0..100 {
        let bytes = Bytes::from(format!("record {sequence}"));
        sent.push(bytes.clone());
        let batch = NewBatch {
            count: 1,
            max_timestamp_ms: 1,
            producer: Some(ProducerMark {
                id: 1,
                epoch: 0,
                sequence,
            }),
            bytes,
        };
        for _ in 0..rng.range(1, 4) {
            let batch = batch.clone();
            let partition = id;
            apply(&mut topics, Command::Append { partition, batch });
        }
    }
    let found = topics.read(id, 0, usize::MAX, true).expect("in range");
    let found: Vec<Bytes> = found.batches.into_iter().map(|b| b.bytes).collect();
    found != sent
}

#[test]
fn planted_bug_doubles_an_idempotent_producers_records_and_is_found() {
    assert!(!(0..20).any(doubled));
    plant(Some(Bug::RepeatBatch));
    let found = (0..20).any(doubled);
    plant(None);
    assert!(found);
}

#[test]
fn units_survive_their_byte_form_and_broken_ones_are_refused_without_a_panic() {
    let mut driver = Driver::new(4);
    let mut rng = Rng::new(5);
    for _ in 0..3000 {
        let command = driver.command();
        let origin = driver.apply(command.clone(), &mut Vec::new());
        let unit = Unit { origin, command };
        let bytes = Bytes::from(unit.encode());
        assert_eq!(Unit::decode(&bytes), Ok(unit));
        let cut = rng.range(0, bytes.len() as u64) as usize;
        assert!(Unit::decode(&bytes.slice(..cut)).is_err());
        let mut broken = bytes.to_vec();
        broken[cut] ^= 1 << rng.range(0, 8);
        let mut other = Topics::new();
        // Refused as unknown, or applied as another unit: both alike on all replicas.
        let _ = other.apply(Stamp::default(), &broken, &mut Vec::new());
    }
}

#[test]
fn same_units_give_same_state_and_output() {
    let run = || {
        let mut driver = Driver::new(77);
        let out: Vec<Output> = (0..2000).flat_map(|_| driver.step()).collect();
        (driver.machine.digest(), out)
    };
    assert_eq!(run(), run());
}
