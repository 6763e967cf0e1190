use super::*;
use crate::stream::event::Element;
use crate::stream::task::{Input, Output, Task, outputs};
use crate::stream::topology::Topology;
use base::{Rng, planted};
use std::sync::Arc;

fn ack(file: &str, offset: i64, outputs: u64) -> Ack {
    let position = Position {
        offset,
        newest_ms: None,
    };
    Ack {
        positions: [(offset as i32, position)].into(),
        file: file.to_owned(),
        outputs,
        watermark_ms: Some(offset),
        counts: Counts::default(),
    }
}

fn actions(master: &mut Master) -> Vec<Action> {
    std::iter::from_fn(|| master.poll()).collect()
}

/// One checkpoint of two workers, step by step.
#[test]
fn m16_checkpoint_is_stored_when_all_workers_acknowledged_it() {
    let mut master = Master::new(0, 2, 1_000);
    master.handle_worker(7);
    master.handle_tick(500);
    assert_eq!(actions(&mut master), []);
    master.handle_worker(9);
    master.handle_tick(501);
    assert_eq!(actions(&mut master), [Action::Claim]);
    let record = Record {
        epoch: 4,
        ..Record::default()
    };
    master.handle_claimed(600, Some((record.clone(), 3)));
    let members = vec![7, 9];
    let assign = Action::Assign {
        members: members.clone(),
        record: record.clone(),
    };
    assert_eq!(actions(&mut master), [Action::Sweep { record }, assign]);
    master.handle_tick(1_599);
    assert_eq!(actions(&mut master), []);
    master.handle_tick(1_600);
    let begin = Action::Begin {
        members,
        epoch: 4,
        checkpoint: 1,
    };
    assert_eq!(actions(&mut master), [begin]);
    master.handle_ack(7, 4, 1, ack("a", 1, 2));
    master.handle_ack(7, 4, 1, ack("a", 1, 2)); // repeated
    master.handle_ack(9, 3, 1, ack("x", 1, 2)); // of an earlier epoch
    master.handle_ack(8, 4, 1, ack("y", 1, 2)); // of a stranger
    assert_eq!(actions(&mut master), []);
    master.handle_ack(9, 4, 1, ack("b", 2, 1));
    let stored = Record {
        epoch: 4,
        checkpoint: 1,
        positions: [ack("", 1, 0).positions, ack("", 2, 0).positions]
            .into_iter()
            .flatten()
            .collect(),
        files: vec!["a".into(), "b".into()],
        outputs: 3,
        watermark_ms: Some(1),
        ..Record::default()
    };
    let store = |record: &Record, version| Action::Store {
        record: record.clone(),
        version,
    };
    assert_eq!(actions(&mut master), [store(&stored, 3)]);
    // Output goes step by step; nothing begins meanwhile.
    let mut next = stored;
    next.published = 2;
    master.handle_stored(1_700, 4, Some((next.clone(), 4)));
    master.handle_tick(9_000);
    assert_eq!(actions(&mut master), [store(&next, 4)]);
    next.published = 3;
    master.handle_stored(9_000, 4, Some((next.clone(), 5)));
    assert_eq!(actions(&mut master), [Action::Sweep { record: next }]);
    // Whoever is lost ends the epoch.
    master.handle_worker_lost(9_001, 9);
    assert_eq!(master.state(), State::Gathering);
    master.handle_tick(9_500);
    assert_eq!(actions(&mut master), []);
    master.handle_tick(9_001 + GATHER_MS);
    assert_eq!(actions(&mut master), [Action::Claim]);
}

#[test]
fn stop_ends_with_a_last_checkpoint() {
    let mut master = Master::new(0, 1, 1_000_000);
    master.handle_worker(1);
    master.handle_tick(PAUSE_MS);
    master.handle_claimed(300, Some((Record::default(), 0)));
    master.handle_stop();
    master.handle_tick(301);
    master.handle_ack(1, 0, 1, ack("a", 1, 0));
    let all = actions(&mut master);
    let Some(Action::Store { record, version: 0 }) = all.last() else {
        panic!("{all:?}")
    };
    master.handle_stored(400, 0, Some((record.clone(), 1)));
    assert_eq!(actions(&mut master).last(), Some(&Action::End));
    assert_eq!(master.state(), State::Ended);
}

/// What all share, and what is not lost: the record, the files, the sink.
#[derive(Default)]
struct Store {
    record: Record,
    version: i32,
    files: BTreeMap<String, Vec<u8>>,
    sink: Vec<Output>,
}

enum Told {
    Assign(usize, Vec<u64>, Record),
    Begin(u64, u64),
}

enum Heard {
    Ack(u64, u64, Ack),
    Failed(u64),
}

#[derive(Default)]
struct Worker {
    is_dead: bool,
    epoch: u64,
    task: Option<Task>,
    members: Vec<u64>,
    index: usize,
    /// By the task that sent.
    channels: Vec<VecDeque<Element>>,
    /// What goes to peers that have not begun yet.
    waiting: VecDeque<(usize, Element)>,
}

struct Leader {
    master: Master,
    known: BTreeSet<u64>,
    /// What the store was asked and has not answered.
    asked: VecDeque<Action>,
    /// To and from each worker, in order.
    to: BTreeMap<u64, VecDeque<Told>>,
    from: BTreeMap<u64, VecDeque<Heard>>,
}

const TOPOLOGY: &str = r#"
name = "simulated"
workers = 3
checkpoint_ms = 300
[source]
topic = "in"
out_of_order_ms = 20
[[operator]]
key_by = "value"
[[operator]]
window = { sliding_ms = 20, every_ms = 10, aggregate = "count" }
[sink]
topic = "out"
"#;

struct World {
    rng: Rng,
    topology: Arc<Topology>,
    log: Vec<Vec<Input>>,
    store: Store,
    workers: BTreeMap<u64, Worker>,
    leaders: Vec<Leader>,
    now_ms: u64,
    next_worker: u64,
    /// Steps that were to be: epochs, deaths, refused stores.
    seen: [u64; 3],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = rng.range(1, 5);
        let log = (0..partitions)
            .map(|_| {
                let mut newest = 0;
                let mut all: Vec<Input> = (0..rng.range(0, 150))
                    .map(|offset| {
                        newest += rng.range(0, 6) as i64;
                        Input {
                            offset: offset as i64,
                            key: None,
                            value: Some(format!("k{}", rng.range(0, 6)).into()),
                            time_ms: newest - rng.range(0, 20) as i64,
                        }
                    })
                    .collect();
                all.push(Input {
                    offset: all.len() as i64,
                    value: Some("end".into()),
                    time_ms: 1_000_000,
                    ..Input::default()
                });
                all
            })
            .collect();
        Self {
            rng,
            topology: Arc::new(Topology::parse(TOPOLOGY).expect("it can be read")),
            log,
            store: Store::default(),
            workers: BTreeMap::new(),
            leaders: Vec::new(),
            now_ms: 0,
            next_worker: 0,
            seen: [0; 3],
        }
    }

    /// What the sink is to have at last.
    fn wanted(&self) -> Vec<String> {
        let mut counts = BTreeMap::new();
        for input in self.log.iter().flatten() {
            let key = String::from_utf8(input.value.clone().unwrap_or_default()).expect("text");
            if key != "end" {
                let last = input.time_ms.div_euclid(10) * 10;
                for start in [last, last - 10] {
                    *counts.entry((key.clone(), start)).or_insert(0) += 1;
                }
            }
        }
        let lines = counts.into_iter();
        let mut all: Vec<String> = lines
            .map(|((key, start), count)| format!("{key},{start},{},{count}", start + 20))
            .collect();
        all.sort();
        all
    }

    fn faults(&mut self) {
        if self.rng.one_in(400) {
            // A worker dies; another one comes sooner or later.
            let at = self.rng.range(0, self.workers.len().max(1) as u64) as usize;
            if let Some(worker) = self.workers.values_mut().nth(at) {
                worker.is_dead = true;
                self.seen[1] += 1;
            }
        }
        if self.rng.one_in(700) {
            // The connection of a master with a worker breaks, with what is under way on it.
            let at = self.rng.range(0, self.leaders.len() as u64) as usize;
            let leader = &mut self.leaders[at];
            if let Some(worker) = leader.known.pop_first() {
                leader.to.remove(&worker);
                leader.from.remove(&worker);
                leader.master.handle_worker_lost(self.now_ms, worker);
            }
        }
        if self.rng.one_in(900) {
            // Another master leads; the old one may go on for a while, and what it asked the store may come late.
            if self.rng.one_in(2) {
                self.leaders.clear();
            }
            self.lead();
        }
        if self.leaders.len() > 1 && self.rng.one_in(150) {
            self.leaders.remove(0);
        }
    }

    fn lead(&mut self) {
        self.leaders.push(Leader {
            master: Master::new(self.now_ms, 3, 300),
            known: BTreeSet::new(),
            asked: VecDeque::new(),
            to: BTreeMap::new(),
            from: BTreeMap::new(),
        });
    }

    fn step(&mut self, with_faults: bool) -> Result<(), String> {
        self.now_ms += 5;
        if self.leaders.is_empty() {
            self.lead();
        }
        if with_faults {
            self.faults();
        }
        if self.workers.len() < 4 && self.rng.one_in(30) {
            self.next_worker += 1;
            self.workers.insert(self.next_worker, Worker::default());
        }
        for at in 0..self.leaders.len() {
            self.step_leader(at)?;
        }
        let dead = |worker: &Worker| worker.is_dead;
        let gone: Vec<u64> = (self.workers.iter())
            .filter(|(_, worker)| dead(worker))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            // The masters hear of it when they look; its peers see their channels break.
            self.workers.remove(&id);
        }
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        for id in ids {
            for _ in 0..3 {
                self.step_worker(id)?;
            }
        }
        Ok(())
    }

    fn step_leader(&mut self, at: usize) -> Result<(), String> {
        let leader = &mut self.leaders[at];
        let now_ms = self.now_ms;
        for id in self.workers.keys() {
            if !leader.known.contains(id) && self.rng.one_in(10) {
                leader.known.insert(*id);
                leader.master.handle_worker(*id);
            }
        }
        let known: Vec<u64> = leader.known.iter().copied().collect();
        for id in known {
            if !self.workers.contains_key(&id) && self.rng.one_in(5) {
                leader.known.remove(&id);
                leader.to.remove(&id);
                leader.from.remove(&id);
                leader.master.handle_worker_lost(now_ms, id);
            }
        }
        leader.master.handle_tick(now_ms);
        for (id, heard) in &mut leader.from {
            if self.rng.one_in(3) {
                let repeats = 1 + u64::from(self.rng.one_in(10));
                match heard.pop_front() {
                    Some(Heard::Ack(epoch, checkpoint, ack)) => {
                        for _ in 0..repeats {
                            leader
                                .master
                                .handle_ack(*id, epoch, checkpoint, ack.clone());
                        }
                    }
                    Some(Heard::Failed(epoch)) => leader.master.handle_failed(now_ms, *id, epoch),
                    None => {}
                }
            }
        }
        while let Some(action) = leader.master.poll() {
            match action {
                Action::Assign { members, record } => {
                    self.seen[0] += 1;
                    for (index, id) in members.iter().enumerate() {
                        let told = Told::Assign(index, members.clone(), record.clone());
                        leader.to.entry(*id).or_default().push_back(told);
                    }
                }
                Action::Begin {
                    members,
                    epoch,
                    checkpoint,
                } => {
                    for id in members {
                        let told = Told::Begin(epoch, checkpoint);
                        leader.to.entry(id).or_default().push_back(told);
                    }
                }
                Action::End => return Err("it ended".to_owned()),
                asked => leader.asked.push_back(asked),
            }
        }
        if self.rng.one_in(4)
            && let Some(asked) = leader.asked.pop_front()
        {
            let is_lost = self.rng.one_in(20);
            let store = &mut self.store;
            match asked {
                Action::Claim => {
                    store.record.epoch += 1;
                    store.version += 1;
                    let claimed = (store.record.clone(), store.version);
                    leader
                        .master
                        .handle_claimed(now_ms, (!is_lost).then_some(claimed));
                }
                Action::Store {
                    mut record,
                    version,
                } => {
                    let epoch = record.epoch;
                    if version != store.version {
                        self.seen[2] += 1;
                        leader.master.handle_stored(now_ms, epoch, None);
                        return Ok(());
                    }
                    let mut all = Vec::new();
                    for file in &record.files {
                        let bytes = store.files.get(file);
                        let bytes = bytes.ok_or(format!("{file} is gone"))?;
                        all.extend(outputs(&self.topology, bytes).map_err(|e| e.to_string())?);
                    }
                    let from = record.published as usize;
                    let to = all.len().min(from + self.rng.range(1, 10) as usize);
                    store.sink.extend(all[from..to].iter().cloned());
                    record.published = to as u64;
                    store.record = record.clone();
                    store.version += 1;
                    let stored = (record, store.version);
                    (leader.master).handle_stored(now_ms, epoch, (!is_lost).then_some(stored));
                }
                Action::Sweep { record } => {
                    (store.files).retain(|file, _| !record.is_left_over(file));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn step_worker(&mut self, id: u64) -> Result<(), String> {
        let Some(mut worker) = self.workers.remove(&id) else {
            return Ok(());
        };
        for leader in &mut self.leaders {
            if self.rng.one_in(3)
                && leader.known.contains(&id)
                && let Some(told) = leader.to.get_mut(&id).and_then(VecDeque::pop_front)
            {
                match told {
                    Told::Assign(index, members, record) if record.epoch > worker.epoch => {
                        let tasks = members.len();
                        let positions = (0..self.log.len() as i32)
                            .filter(|partition| *partition as usize % tasks == index)
                            .map(|p| (p, record.positions.get(&p).copied().unwrap_or_default()))
                            .collect();
                        let mut task =
                            Task::new(Arc::clone(&self.topology), index, tasks, positions);
                        let mut is_there = true;
                        for file in &record.files {
                            match self.store.files.get(file) {
                                Some(bytes) => task.restore(bytes).map_err(|e| e.to_string())?,
                                // Another epoch has begun.
                                None => is_there = false,
                            }
                        }
                        if !is_there {
                            let heard = leader.from.entry(id).or_default();
                            heard.push_back(Heard::Failed(record.epoch));
                        }
                        worker = Worker {
                            epoch: record.epoch,
                            task: is_there.then_some(task),
                            members,
                            index,
                            waiting: VecDeque::new(),
                            channels: (0..tasks).map(|_| VecDeque::new()).collect(),
                            is_dead: false,
                        };
                    }
                    Told::Begin(epoch, checkpoint) if epoch == worker.epoch => {
                        if let Some(task) = &mut worker.task {
                            task.handle_begin(checkpoint);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.work(id, &mut worker);
        self.workers.insert(id, worker);
        Ok(())
    }

    fn work(&mut self, id: u64, worker: &mut Worker) {
        let (epoch, index) = (worker.epoch, worker.index);
        let Some(task) = &mut worker.task else { return };
        for (partition, position) in task.positions() {
            if self.rng.one_in(4) {
                let log = &self.log[partition as usize];
                let from = (position.offset as usize).min(log.len());
                let to = log.len().min(from + self.rng.range(0, 8) as usize);
                task.handle_records(partition, log[from..to].to_vec(), to as i64);
            }
        }
        task.handle_tick(self.now_ms);
        let from = self.rng.range(0, worker.members.len() as u64) as usize;
        if task.is_open(from)
            && let Some(element) = worker.channels[from].pop_front()
        {
            task.handle_element(from, element);
        }
        let mut broke = false;
        worker
            .waiting
            .extend(std::iter::from_fn(|| task.poll_send()));
        while let Some((to, element)) = worker.waiting.pop_front() {
            if to == index {
                worker.channels[index].push_back(element);
                continue;
            }
            match self.workers.get_mut(&worker.members[to]) {
                Some(peer) if peer.epoch == epoch => peer.channels[index].push_back(element),
                Some(peer) if peer.epoch < epoch => {
                    worker.waiting.push_front((to, element));
                    break;
                }
                // It is gone, or at something else.
                _ => broke = true,
            }
        }
        if let Some(done) = task.poll_done() {
            let file = Record::file(epoch, done.checkpoint, index);
            self.store.files.insert(file.clone(), done.bytes);
            let ack = Ack {
                positions: done.positions,
                file,
                outputs: done.outputs,
                watermark_ms: done.watermark_ms,
                counts: done.counts,
            };
            for leader in &mut self.leaders {
                // It answers on the connection that it was assigned on; to the others it is a stranger's word.
                if leader.known.contains(&id) {
                    let heard = Heard::Ack(epoch, done.checkpoint, ack.clone());
                    leader.from.entry(id).or_default().push_back(heard);
                }
            }
        }
        if broke {
            worker.task = None;
            for leader in &mut self.leaders {
                if leader.known.contains(&id) {
                    let heard = Heard::Failed(epoch);
                    leader.from.entry(id).or_default().push_back(heard);
                }
            }
        }
    }
}

/// Input through three tasks that die, move and are led by masters that die or go on too long. What is wrong with the
/// output, if anything is.
fn simulate(seed: u64) -> Result<[u64; 3], String> {
    let mut world = World::new(seed);
    let wanted = world.wanted();
    for step in 0..60_000 {
        world
            .step(step < 4_000)
            .map_err(|why| format!("seed {seed}: {why}"))?;
        if step % 50 == 0 {
            if let Some(late) = world.store.sink.iter().find(|output| output.is_aside) {
                return Err(format!("seed {seed}: {late:?} is late"));
            }
            let mut lines: Vec<String> = (world.store.sink.iter())
                .map(|output| output.event.value.clone())
                .collect();
            lines.sort();
            if lines.len() >= wanted.len() && step >= 4_000 {
                return match lines == wanted {
                    true => Ok(world.seen),
                    false => Err(format!("seed {seed}: {lines:?} in place of {wanted:?}")),
                };
            }
        }
    }
    let (told, record) = (world.store.sink.len(), &world.store.record);
    Err(format!(
        "seed {seed}: {told} of {} lines, and no more: {record:?}",
        wanted.len()
    ))
}

#[test]
fn m16_every_record_counts_once_however_workers_and_masters_die() {
    let mut sum = [0; 3];
    for seed in 0..60 {
        let seen = simulate(seed).unwrap();
        (0..3).for_each(|at| sum[at] += seen[at]);
    }
    // What should have been tried was tried.
    assert!(sum[0] > 600 && sum[1] > 300 && sum[2] > 10, "{sum:?}");
}

#[test]
fn planted_bugs_of_a_streams_master_and_tasks_are_found() {
    for bug in [
        ComputingBug::CompleteEarly,
        ComputingBug::OffsetsWithoutState,
        ComputingBug::ReadPastBarrier,
    ] {
        planted::plant(Some(Bug::Computing(bug)));
        let found = (0..60).find_map(|seed| simulate(seed).err());
        planted::plant(None);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
