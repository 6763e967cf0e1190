//! Transactions over chapters and shards: bare machines, with a network between them that loses, repeats and
//! reorders, and replicas that are filled from snapshots at any moment.

use base::{CoreAddress, CoreId, NodeId, Origin, Rng, ShardId, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use messaging::{LogConfig, NewBatch, PartitionId, TopicId};
use shard::transaction::{Condition, Step, Work, WorkRefusal};
use shard::{DataUnit, ShardMachine, ShardOutput};
use std::collections::{BTreeMap, VecDeque};
use storage::cache::transaction::KeyCondition;
use storage::cache::{self, Command, Reply};
use transactions::{Outcome, Output, Part, Refusal, TxnId, Unit};

const SHARDS: u64 = 3;
const ACCOUNTS: u64 = 4;
const FUNDS: i64 = 100;

fn command(words: &[&str]) -> Command {
    let id = cache::spec(words[0].as_bytes()).expect("a command").id;
    let args = words[1..].iter();
    Command {
        id,
        args: args.map(|w| Bytes::copy_from_slice(w.as_bytes())).collect(),
    }
}

fn cache_step(words: &[&str]) -> Step {
    Step::Cache {
        database: 0,
        command: command(words),
    }
}

fn append() -> Step {
    Step::Append {
        partition: PARTITION,
        batch: NewBatch {
            count: 1,
            max_timestamp_ms: 5,
            producer: None,
            bytes: Bytes::from_static(b"record"),
        },
    }
}

fn create(path: &str, sequential: bool) -> Step {
    Step::Tree(TreeOp::Create {
        path: path.into(),
        data: Bytes::new(),
        acl: vec![Acl::open()],
        mode: CreateMode::Persistent { sequential },
    })
}

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(1),
    index: 0,
};

fn key_is(key: &str, is: KeyCondition) -> Condition {
    Condition::Key {
        database: 0,
        key: Bytes::copy_from_slice(key.as_bytes()),
        is,
    }
}

fn work(conditions: Vec<Condition>, steps: Vec<Step>) -> Work {
    Work {
        conditions: (0..).zip(conditions).collect(),
        steps: (0..).zip(steps).collect(),
    }
}

fn id(number: u64) -> TxnId {
    TxnId::new(&format!("t{number}")).expect("an id")
}

fn origin(token: u64) -> Origin {
    Origin {
        home: CoreAddress {
            node: NodeId(1),
            core: CoreId(0),
        },
        token,
    }
}

fn cache_unit(token: u64, words: &[&str]) -> DataUnit {
    DataUnit::Cache(cache::Unit {
        origin: origin(token),
        database: 0,
        body: cache::Body::One(command(words)),
    })
}

/// A shard of one replica.
struct Shard {
    machine: ShardMachine,
    stamp: Stamp,
}

impl Shard {
    fn new(number: u64) -> Self {
        let mut shard = Self {
            machine: ShardMachine::empty(ShardId(number)),
            stamp: Stamp {
                time_ms: 1_000,
                seed: number,
            },
        };
        for account in 0..ACCOUNTS {
            let funds = FUNDS.to_string();
            let words = ["SET", &key(number, account), &funds];
            shard.apply(&cache_unit(0, &words));
        }
        shard.apply(&DataUnit::Topics(messaging::Unit {
            origin: Origin::default(),
            command: messaging::Command::OpenPartition {
                partition: PARTITION,
                name: "t".into(),
                config: LogConfig::default(),
            },
        }));
        let parent = work(vec![], vec![create("/done", false)]);
        shard.apply(&begin(9_000 + number, 0, vec![(number, parent)]));
        shard
    }

    fn apply(&mut self, unit: &DataUnit) -> Vec<ShardOutput> {
        self.stamp.time_ms += 1;
        self.stamp.seed += 1;
        let mut out = Vec::new();
        let bytes = unit.encode();
        assert_eq!(DataUnit::decode(&bytes).as_ref(), Ok(unit));
        (self.machine.apply(self.stamp, &bytes, &mut out)).expect("it is known");
        while let Some(applied) = self.machine.apply_parked(&mut out) {
            applied.expect("it is known");
        }
        out
    }

    /// Another replica takes its place.
    fn refill(&mut self) {
        self.machine.begin_snapshot();
        let mut copy = ShardMachine::empty(ShardId(7));
        while let SnapshotPoll::Chunk(chunk) = self.machine.poll_snapshot(64) {
            copy.restore(&chunk).expect("a chunk");
        }
        copy.finish_restore().expect("it is whole");
        assert_eq!(copy.digest(), self.machine.digest());
        let mut out = Vec::new();
        assert!(copy.apply_parked(&mut out).is_none(), "it waits here too");
        self.machine = copy;
    }

    fn data(&self) -> &shard::Data {
        self.machine.data().expect("a data shard")
    }

    fn number(&self, key: &str) -> i64 {
        let reply = (self.data().cache).read(self.stamp.time_ms, 0, &command(&["GET", key]));
        let Reply::Bulk(text) = reply else {
            panic!("{key}: {reply:?}");
        };
        String::from_utf8_lossy(&text).parse().expect("a number")
    }

    fn appended(&self) -> i64 {
        self.data().topics.bounds(PARTITION).expect("it is open").1
    }

    fn created(&self) -> i64 {
        let stat = self.data().coordination.stat("/done").expect("it is there");
        i64::from(stat.num_children)
    }
}

fn key(shard: u64, account: u64) -> String {
    format!("account:{shard}:{account}")
}

fn begin(number: u64, token: u64, parts: Vec<(u64, Work)>) -> DataUnit {
    DataUnit::Transactions(Unit::Begin {
        origin: origin(token),
        id: id(number),
        content: number,
        parts: parts
            .into_iter()
            .map(|(shard, work)| Part {
                shard: ShardId(shard),
                work,
            })
            .collect(),
    })
}

fn outcome(out: &[ShardOutput]) -> &Outcome {
    match out.last() {
        Some(ShardOutput::Transactions(Output::Reply { outcome, .. })) => outcome,
        other => panic!("no outcome but {other:?}"),
    }
}

fn words(outcome: &Outcome) -> WorkRefusal {
    match outcome {
        Outcome::Refused(Refusal::Work(words)) => WorkRefusal::decode(words).expect("words"),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_cache_write_an_append_and_a_node_are_one_unit_and_wake_who_waits() {
    let mut shard = Shard::new(2);
    let all = work(
        vec![
            key_is("account:2:0", KeyCondition::Equals("100".into())),
            Condition::NoNode {
                path: "/done/first".into(),
            },
            Condition::LogEnd {
                partition: PARTITION,
                offset: 0,
            },
        ],
        vec![
            cache_step(&["RPUSH", "queue", "job"]),
            append(),
            create("/done/n-", true),
        ],
    );
    let out = shard.apply(&begin(1, 1, vec![(2, all.clone())]));
    let Outcome::Committed(parts) = outcome(&out) else {
        panic!("{out:?}");
    };
    let results = shard::transaction::decode_results(parts[0].as_ref().expect("results"));
    let results = format!("{:?}", results.expect("readable"));
    assert!(
        results.contains("Integer(1)")
            && results.contains("Appended { offset: 0 }")
            && results.contains("/done/n-0000000000"),
        "{results}"
    );
    let told = format!("{out:?}");
    for event in ["Ready", "Appended", "ChildrenChanged", "Created"] {
        assert!(told.contains(event), "{event} is missing: {told}");
    }
    // The same id is answered as it was, and nothing is done again.
    let digest = shard.data().cache.digest();
    let again = shard.apply(&begin(1, 2, vec![(2, all.clone())]));
    assert_eq!(outcome(&again), outcome(&out));
    assert_eq!((shard.appended(), shard.data().cache.digest()), (1, digest));
    // A new one meets a log that has grown.
    let refused = shard.apply(&begin(2, 3, vec![(2, all)]));
    let refusal = words(outcome(&refused));
    assert_eq!(refusal.words, "the next offset is 1");
    assert_eq!(refusal.place, shard::transaction::Place::Condition(2));
}

#[test]
fn a_refused_transaction_leaves_every_chapter_as_it_was() {
    let mut rng = Rng::new(11);
    let mut shard = Shard::new(2);
    let (mut refused, mut committed) = (0, 0);
    for number in 0..4_000 {
        let mut steps = Vec::new();
        for _ in 0..rng.range(1, 6) {
            let key = key(2, rng.range(0, ACCOUNTS + 1));
            let list = format!("list:{}", rng.range(0, 3));
            let node = format!("/done/{}", rng.range(0, 4));
            steps.push(match rng.range(0, 14) {
                0 => cache_step(&["INCRBY", &key, "1"]),
                1 => cache_step(&["RPUSH", &list, "x"]),
                2 => cache_step(&["LSET", &list, "0", "y"]),
                3 => cache_step(&["LPOP", &list]),
                4 => cache_step(&["SET", &key, "text", "PX", "3"]),
                5 => cache_step(&["SET", &key, "7"]),
                6 => cache_step(&["RENAME", &key, &list]),
                7 => create(&node, false),
                8 => create("/done/n-", true),
                9 => Step::Tree(TreeOp::Delete {
                    path: node,
                    version: -1,
                }),
                10 => Step::Tree(TreeOp::SetData {
                    path: node,
                    data: "d".into(),
                    version: rng.range(0, 2) as i32,
                }),
                11 => cache_step(&["SADD", "set", &list, &node]),
                12 => cache_step(&["DEL", &key, &list]),
                _ => append(),
            });
        }
        let conditions = match rng.range(0, 4) {
            0 => vec![key_is(
                &key(2, rng.range(0, ACCOUNTS)),
                KeyCondition::Exists,
            )],
            _ => vec![],
        };
        if number % 50 == 0 {
            shard.machine.begin_snapshot();
        }
        // Time passes for the chapters too, so that only the transaction can make a difference.
        shard.apply(&cache_unit(0, &["GET", "x"]));
        let data = shard.data();
        let chapters = |d: &shard::Data| {
            let cache = d.cache.data_digest();
            let revisions = (
                d.cache.revision(),
                d.topics.revision(),
                d.coordination.zxid(),
            );
            (
                cache,
                d.coordination.tree_digest(),
                d.topics.digest(),
                revisions,
            )
        };
        let before = chapters(data);
        let out = shard.apply(&begin(number, 1, vec![(2, work(conditions, steps))]));
        match outcome(&out) {
            Outcome::Refused(_) => {
                refused += 1;
                assert_eq!(out.len(), 1, "nothing is told of it: {out:?}");
                assert_eq!(chapters(shard.data()), before);
            }
            Outcome::Committed(_) => committed += 1,
        }
    }
    assert!(refused > 500 && committed > 500, "{refused} {committed}");
}

/// Shards, and what is on its way between them.
struct World {
    rng: Rng,
    shards: BTreeMap<u64, Shard>,
    flying: VecDeque<(u64, DataUnit)>,
    outcomes: BTreeMap<String, Outcome>,
    answers: u64,
    writes_answered: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut shards: BTreeMap<u64, Shard> =
            (2..2 + SHARDS).map(|n| (n, Shard::new(n))).collect();
        if seed % 2 == 1 {
            // Nobody keeps clocks of different shards together.
            for (number, shard) in &mut shards {
                shard.stamp.time_ms += (*number as i64 * 7 % 5) * 3_600_000;
            }
        }
        Self {
            rng: Rng::new(seed),
            shards,
            flying: VecDeque::new(),
            outcomes: BTreeMap::new(),
            answers: 0,
            writes_answered: 0,
        }
    }

    fn deliver(&mut self, to: u64, unit: &DataUnit) {
        let shard = self.shards.get_mut(&to).expect("a shard");
        for output in shard.apply(unit) {
            match output {
                ShardOutput::Transactions(Output::Tell { to, unit }) => {
                    self.flying.push_back((to.0, DataUnit::Transactions(unit)));
                }
                ShardOutput::Transactions(Output::Reply { id, outcome, .. }) => {
                    self.answers += 1;
                    let first = self.outcomes.entry(id.to_string());
                    let first = first.or_insert_with(|| outcome.clone());
                    assert_eq!(*first, outcome, "{id} has two outcomes");
                }
                ShardOutput::Cache(cache::Output::Reply { origin, .. }) if origin.token > 0 => {
                    self.writes_answered += 1;
                }
                _ => {}
            }
        }
    }

    fn resend(&mut self) {
        for shard in self.shards.values_mut() {
            shard.stamp.time_ms += 400;
            let due = shard.data().transactions.due(shard.stamp.time_ms, 100);
            let units = due.into_iter();
            self.flying
                .extend(units.map(|(to, unit)| (to.0, DataUnit::Transactions(unit))));
        }
    }

    fn step(&mut self, is_healed: bool) {
        if self.flying.is_empty() {
            return self.resend();
        }
        let at = self.rng.range(0, self.flying.len() as u64) as usize;
        let (to, unit) = self.flying.remove(at).expect("it is there");
        if !is_healed {
            if self.rng.one_in(6) {
                return; // lost
            }
            if self.rng.one_in(5) {
                self.flying.push_back((to, unit.clone()));
            }
        }
        self.deliver(to, &unit);
    }

    fn transfer(&mut self, number: u64) {
        let mut parts: BTreeMap<u64, Work> = BTreeMap::new();
        let mut put = |shard: u64, step: Step| {
            let work = parts.entry(shard).or_default();
            work.steps.push((0, step));
        };
        let rng = &mut self.rng;
        let (from, to) = (2 + rng.range(0, SHARDS), 2 + rng.range(0, SHARDS));
        let amount = rng.range(1, 60).to_string();
        let (a, b) = (rng.range(0, ACCOUNTS), rng.range(0, ACCOUNTS));
        put(from, cache_step(&["DECRBY", &key(from, a), &amount]));
        put(to, cache_step(&["INCRBY", &key(to, b), &amount]));
        put(2 + rng.range(0, SHARDS), append());
        put(2 + rng.range(0, SHARDS), create("/done/n-", true));
        if rng.one_in(4) {
            let condition = key_is(&key(from, a), KeyCondition::Equals("100".into()));
            let work = parts.get_mut(&from).expect("it is a part");
            work.conditions.push((0, condition));
        }
        let first = *parts.keys().next().expect("parts");
        let unit = begin(number, 1, parts.into_iter().collect());
        // A client that was not answered asks again.
        if rng.one_in(3) {
            self.flying.push_back((first, unit.clone()));
        }
        self.flying.push_back((first, unit));
    }
}

/// Money moves between shards, with an append and a node each time.
fn run(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    let (mut writes, mut asked) = (0, 0);
    for number in 0..60 {
        asked += 1;
        world.transfer(number);
        for _ in 0..world.rng.range(0, 12) {
            world.step(false);
        }
        // Others use the same keys meanwhile, and change nothing for good.
        let shard = 2 + world.rng.range(0, SHARDS);
        let account = key(shard, world.rng.range(0, ACCOUNTS));
        for words in [["INCRBY", &account, "3"], ["DECRBY", &account, "3"]] {
            writes += 1;
            world.deliver(shard, &cache_unit(1, &words));
        }
        let shard = 2 + world.rng.range(0, SHARDS);
        if world.rng.one_in(8) {
            world.shards.get_mut(&shard).expect("a shard").refill();
        }
        if world.rng.one_in(20) {
            // A leader whose clock is ahead.
            let shard = 2 + world.rng.range(0, SHARDS);
            let shard = world.shards.get_mut(&shard).expect("a shard");
            shard.stamp.time_ms += 90_000;
        }
    }
    for _ in 0..20_000 {
        world.step(true);
        let is_idle = |shard: &Shard| {
            let counts = shard.data().transactions.counts();
            counts.records + counts.promises == 0
        };
        if world.flying.is_empty() && world.shards.values().all(is_idle) {
            break;
        }
    }
    let mut sum = 0;
    let (mut appended, mut created) = (0, 0);
    for (number, shard) in &world.shards {
        let counts = shard.data().transactions.counts();
        assert_eq!(
            (counts.records, counts.promises, counts.locks, counts.parked),
            (0, 0, 0, 0),
            "seed {seed}: shard {number} is not done"
        );
        sum += (0..ACCOUNTS)
            .map(|account| shard.number(&key(*number, account)))
            .sum::<i64>();
        appended += shard.appended();
        created += shard.created();
    }
    let committed = (world.outcomes.values())
        .filter(|outcome| matches!(outcome, Outcome::Committed(_)))
        .count() as i64;
    assert_eq!(sum, FUNDS * (SHARDS * ACCOUNTS) as i64, "seed {seed}");
    assert_eq!((appended, created), (committed, committed), "seed {seed}");
    assert_eq!(world.writes_answered, writes, "seed {seed}");
    assert!(world.outcomes.len() <= asked as usize);
    (committed as u64, world.outcomes.len() as u64)
}

#[test]
fn m06_money_moves_between_shards_and_the_sum_never_changes() {
    let (mut committed, mut ended) = (0, 0);
    for seed in 0..300 {
        let (done, all) = run(seed);
        committed += done;
        ended += all;
    }
    assert!(
        committed > ended / 2 && committed < ended,
        "{committed} of {ended}"
    );
}

#[cfg(debug_assertions)]
#[test]
fn planted_bugs_of_transactions_are_found() {
    use base::planted::{Bug, plant};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for bug in [
        Bug::CommitBeforeDecision,
        Bug::ForgetLocksOnSnapshot,
        Bug::CommitWithoutRecord,
    ] {
        plant(Some(bug));
        let found = (0..300).find(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err());
        plant(None);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
