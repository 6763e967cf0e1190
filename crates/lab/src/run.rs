//! One run: a cluster, clients, faults; then healing, a last look, and the checkers.

use crate::cache;
use crate::check;
use crate::client::Context;
use crate::dump::Dumper;
use crate::faults::{self, Faults, Planned};
use crate::files;
use crate::globals;
use crate::gossip;
use crate::groups;
use crate::history::History;
use crate::jobs;
use crate::kafka;
use crate::kinds::{Kind, Workload};
use crate::locks;
use crate::player::{self, Phase, Player};
use crate::process::boot_core;
use crate::services;
use crate::standby;
use crate::tellers::Teller;
use crate::trace::Trace;
use crate::world::{News, Place, World};
use base::Rng;
use node::admin::TransactionsStatus;
use node::{AdminCommand, AdminReply, CoreConfig, FrontEnd, ProbeResult, RequestId, Status};
use std::collections::BTreeMap;

const SETTLE_US: u64 = 3_000_000;
const PROBE_EVERY_US: u64 = 250_000;
/// Time within which everything must work again once all faults are healed.
const HEAL_US: u64 = 30_000_000;
const EVENTS_MAX: u64 = 60_000_000;

/// What a run is made from. Equal options give equal runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// Members at the start.
    pub nodes: usize,
    /// Clients of each kind; those of ZooKeeper's have a session each.
    pub clients: usize,
    /// Which kinds of clients.
    pub workload: Workload,
    /// How long faults go on, in simulated milliseconds.
    pub duration_ms: u64,
    /// Which faults.
    pub faults: Faults,
    /// Journal lanes of each node; drawn from the seed when not given.
    pub lanes: Option<u16>,
    /// Each start of a node draws its number of cores from 1 to this; drawn from the seed when not given.
    pub cores: Option<u16>,
    /// Cache keys lie in a pool of single copies: they are away while their node is.
    pub single: bool,
    /// Print every event and action.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            clients: 4,
            workload: Workload::All,
            duration_ms: 12_000,
            faults: Faults::All,
            lanes: None,
            cores: None,
            single: false,
            trace: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Over every event delivered and action taken.
    pub trace_hash: u64,
    /// Events and actions.
    pub events: u64,
    /// Requests that clients sent, and those that were answered.
    pub operations: (usize, usize),
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
    /// What the checkers object to; empty when all is well.
    pub violations: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Alarm {
    Client(usize),
    Dumper(usize),
    Fault(usize),
    Unblock,
    RotElect {
        victim: usize,
        other: usize,
        lose: bool,
    },
    DuplicatesEnd,
    SlowEnds(usize),
    FullEnds(usize),
    FailEnds(usize, u64),
    Probe,
    Join(usize),
    Leave(usize),
}

pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) history: History,
    workload: Workload,
    players: Vec<Box<dyn Player>>,
    dumpers: Vec<Dumper>,
    cache_dumpers: Vec<cache::dump::Dumper>,
    /// Node numbers of those that are members, as far as the run knows.
    pub(crate) members: Vec<usize>,
    /// A node whose log was lost and that does not serve again yet, and the life in which it must.
    pub(crate) victim: Option<(usize, u64)>,
    pub(crate) joining: Option<usize>,
    pub(crate) leaving: Option<usize>,
    pub(crate) violations: Vec<String>,
    /// Until when a node may stop because of its disk.
    pub(crate) excused_until_us: BTreeMap<usize, u64>,
    pub(crate) rng: Rng,
    pub(crate) initial: usize,
    pub(crate) template: CoreConfig,
    pub(crate) statuses: BTreeMap<usize, (u64, u64, Status)>,
    asked: BTreeMap<RequestId, (Place, u64)>,
    /// The latest status of each core, and the node's life then.
    told: BTreeMap<Place, (u64, Status)>,
    leaders: BTreeMap<(String, u64), String>,
    schedule: Vec<Planned>,
    alarms: BTreeMap<u64, Alarm>,
    next_alarm: u64,
    phase: Phase,
    phase_since_us: u64,
    faults_end_us: u64,
}

/// Where node `number` is reached.
pub(crate) fn address(number: usize) -> String {
    format!("10.0.0.{}:7401", number + 1)
}

/// Runs once.
pub fn run(options: &Options) -> Report {
    let outcome = std::panic::catch_unwind(|| run_inner(options));
    outcome.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        Report {
            seed: options.seed,
            trace_hash: 0,
            events: 0,
            operations: (0, 0),
            simulated_ms: 0,
            violations: vec![format!("panic: {words}")],
        }
    })
}

fn run_inner(options: &Options) -> Report {
    if options.workload == Workload::Standby {
        return standby::run(options);
    }
    let mut run = Run::new(options);
    run.play();
    let violations = run.judge();
    let operations = &run.history.operations;
    let cached = &run.history.cache.operations;
    let kafka = run.history.kafka.requests;
    let calls = (run.players.iter()).map(|player| player.calls());
    let calls = calls.fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    let answered = operations.iter().filter(|o| o.reply.is_some()).count();
    let asked = &run.history.asked;
    let asked_answered = asked.iter().filter(|asked| !asked.heard.is_empty()).count();
    let cache_answered = cached.iter().filter(|o| o.reply.is_some()).count();
    Report {
        seed: options.seed,
        trace_hash: run.world.trace.hash(),
        events: run.world.trace.events,
        operations: (
            operations.len() + cached.len() + kafka.0 + asked.len() + calls.0,
            answered + cache_answered + kafka.1 + asked_answered + calls.1,
        ),
        simulated_ms: run.world.now_us / 1000,
        violations,
    }
}

impl Run {
    pub(crate) fn new(options: &Options) -> Self {
        let seed = Rng::new(options.seed ^ 0x616c_7468_696e_6721);
        let mut shape = seed.fork(1);
        let world = World::new(
            seed.fork(2).next_u64(),
            boot_core,
            Trace::new(options.trace),
        );
        let mut template = CoreConfig {
            initial_members: (0..options.nodes).map(address).collect(),
            snapshot_chunk_bytes: [64, 1 << 10, 256 << 10][shape.range(0, 3) as usize],
            snapshot_log_bytes: [8 << 10, 64 << 10, 64 << 20][shape.range(0, 3) as usize],
            files_copy_after_us: 2_000_000,
            ..CoreConfig::default()
        };
        let padding = [0, 0, 200, 2_000][shape.range(0, 4) as usize];
        // Most nodes are of one core; the others are restarted with another number of them.
        let is_spread = shape.one_in(5) && options.workload != Workload::Kafka;
        let drawn = if is_spread { (2, 2) } else { (1, 1) };
        template.lanes = options.lanes.unwrap_or(drawn.0);
        template.cores = options.cores.unwrap_or(drawn.1);
        if options.workload != Workload::Zookeeper {
            let most = if template.cores == 1 { 2 } else { 4 };
            let shards = seed.fork(6).range(1, most + 1) as u16;
            template.pools = vec![catalog::PoolSpec::main(shards)];
            if options.single {
                template.cache_pool = "cache".into();
                template.pools.push(catalog::PoolSpec {
                    name: template.cache_pool.clone(),
                    policy: catalog::Policy::Single,
                    ..catalog::PoolSpec::main(shards)
                });
            }
        }
        if options.workload == Workload::Transactions {
            let shards = seed.fork(6).range(2, 5) as u16;
            template.pools = vec![catalog::PoolSpec::main(shards)];
        }
        let faults_end_us = SETTLE_US + options.duration_ms * 1000;
        let mut run = Self {
            world,
            history: History {
                cut_off: options.faults.may_cut_off(),
                ..History::default()
            },
            workload: options.workload,
            players: Vec::new(),
            dumpers: Vec::new(),
            cache_dumpers: Vec::new(),
            members: (0..options.nodes).collect(),
            victim: None,
            joining: None,
            leaving: None,
            violations: Vec::new(),
            excused_until_us: BTreeMap::new(),
            rng: seed.fork(3),
            initial: options.nodes,
            template,
            statuses: BTreeMap::new(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            leaders: BTreeMap::new(),
            schedule: Vec::new(),
            alarms: BTreeMap::new(),
            next_alarm: 1,
            phase: Phase::Setup,
            phase_since_us: 0,
            faults_end_us,
        };
        for number in 0..options.nodes {
            let config = run.config(number);
            run.world.add_node(config);
            let at_us = run.rng.range(0, 300_000);
            run.world.boot_at(at_us, number);
        }
        let workload = options.workload;
        for kind in Kind::ALL.iter().copied().filter(|kind| workload.has(*kind)) {
            // Cores do not ask each other for topics yet.
            if kind == Kind::Kafka && run.template.lanes > 1 && run.template.cores > 1 {
                continue;
            }
            let (fork, first_us) = kind.beginning();
            let rng = seed.fork(fork);
            for number in 0..options.clients {
                let rng = rng.fork(number as u64);
                let player: Box<dyn Player> = match kind {
                    Kind::Zookeeper => {
                        let clients = options.clients;
                        Box::new(player::Zookeeper::new(number, clients, rng, padding))
                    }
                    Kind::Redis => Box::new(cache::player::Player::new(number, rng, padding)),
                    Kind::Kafka => Box::new(kafka::player::Player::new(number, rng, padding)),
                    Kind::TreeLock => Box::new(locks::tree::Player::new(number, rng)),
                    Kind::CacheLock => Box::new(locks::cache::Player::new(number, rng)),
                    Kind::Transactions => Box::new(Teller::new(number, rng)),
                    Kind::Services => Box::new(services::player::Player::new(number, rng)),
                    Kind::Jobs => {
                        let clients = options.clients;
                        Box::new(jobs::player::Player::new(number, clients, rng))
                    }
                    Kind::Globals => Box::new(globals::player::Player::new(number, rng)),
                    Kind::Files => {
                        let (clients, nodes) = (options.clients, options.nodes);
                        Box::new(files::player::Player::new(number, clients, nodes, rng))
                    }
                    Kind::Groups => {
                        let protocol = groups::draw(&mut seed.fork(16), options.nodes);
                        Box::new(groups::player::Player::new(number, protocol, rng))
                    }
                };
                run.alarm(first_us + number as u64, Alarm::Client(run.players.len()));
                run.players.push(player);
            }
        }
        for planned in faults::schedule(&seed.fork(4), &options.faults, SETTLE_US, faults_end_us) {
            run.plan(planned);
        }
        run.alarm(PROBE_EVERY_US, Alarm::Probe);
        run
    }

    /// What a node is configured with.
    pub(crate) fn config(&self, number: usize) -> CoreConfig {
        let mut config = self.template.clone();
        config.address = address(number);
        if self.workload.has(Kind::Files) {
            config.chunks_address = Some(format!("10.0.0.{}:7400", number + 1));
        }
        if self.workload.has(Kind::Kafka) {
            let kafka = kafka::client::host(number) + ":9092";
            config.listeners.insert(FrontEnd::Kafka, kafka);
        }
        config
    }

    /// One more fault.
    pub(crate) fn plan(&mut self, planned: Planned) {
        self.history.clocks_set |= matches!(planned.fault, faults::Fault::Step { .. });
        self.alarm(planned.at_us, Alarm::Fault(self.schedule.len()));
        self.schedule.push(planned);
    }

    pub(crate) fn alarm(&mut self, at_us: u64, alarm: Alarm) {
        let token = self.next_alarm;
        self.next_alarm += 1;
        self.alarms.insert(token, alarm);
        self.world.set_alarm(at_us, token);
    }

    fn enter(&mut self, phase: Phase) {
        self.world
            .trace
            .note(self.world.now_us, &format!("phase {phase:?}"));
        self.phase = phase;
        self.phase_since_us = self.world.now_us;
        for player in &mut self.players {
            player.begin(phase);
        }
    }

    pub(crate) fn play(&mut self) {
        self.play_until(u64::MAX - 1);
    }

    /// Goes on until the run is over or it is so late.
    pub(crate) fn play_until(&mut self, until_us: u64) {
        while self.phase != Phase::Done && self.world.now_us < until_us {
            if self.world.trace.events > EVENTS_MAX {
                self.violations
                    .push("the world spins: too many events".into());
                return;
            }
            if let Some(news) = self.world.step(until_us) {
                self.hear(news);
            }
            self.advance();
        }
    }

    fn advance(&mut self) {
        let now_us = self.world.now_us;
        let waited_us = now_us - self.phase_since_us;
        let all_done = self.players.iter().all(|player| player.is_done());
        match self.phase {
            Phase::Setup if all_done => self.enter(Phase::Work),
            Phase::Work if now_us >= self.faults_end_us => {
                self.heal();
                self.enter(Phase::Heal);
            }
            Phase::Heal if all_done && self.is_whole() => self.enter(Phase::Look),
            Phase::Look if all_done => self.enter(Phase::Quiet),
            Phase::Quiet if waited_us > 16_000_000 => {
                self.enter(Phase::Dump);
                self.start_dump();
            }
            Phase::Dump if all_done && self.dump_is_done() => self.finish(),
            Phase::Setup | Phase::Heal | Phase::Look | Phase::Dump if waited_us > HEAL_US => {
                let what = self.what_is_missing();
                self.violations.push(format!(
                    "no progress within {} s in phase {:?}: {what}",
                    HEAL_US / 1_000_000,
                    self.phase
                ));
                self.phase = Phase::Done;
            }
            _ => {}
        }
    }

    /// Every member serves and no change of membership is under way.
    fn is_whole(&self) -> bool {
        self.victim.is_none()
            && self.joining.is_none()
            && self.leaving.is_none()
            && self.members.iter().all(|m| self.serves(*m))
    }

    pub(crate) fn serves(&self, node: usize) -> bool {
        self.statuses.get(&node).is_some_and(|(_, life, status)| {
            *life == self.world.nodes[node].life
                && status.ready
                && status.phase == "serving"
                && status.tree.is_some()
                && status.shards.iter().all(|shard| match &shard.role[..] {
                    "leader" | "follower" => true,
                    // Whoever is one too many follows without a vote.
                    "learner" => status.members.len() > catalog::VOTERS_MAX,
                    _ => false,
                })
        })
    }

    fn what_is_missing(&self) -> String {
        let mut words = Vec::new();
        let late = self.players.iter().filter(|player| !player.is_done());
        words.extend(late.map(|player| player.describe()));
        for member in &self.members {
            if !self.serves(*member) {
                let told = self.statuses.get(member).map(|(at_us, _, s)| {
                    let roles: Vec<String> = s
                        .shards
                        .iter()
                        .map(|s| format!("{} {} term {} {}", s.name, s.role, s.term, s.fault))
                        .collect();
                    format!("at {at_us} {} ({}) {roles:?}", s.phase, s.waiting_for)
                });
                let state = &self.world.nodes[*member].state;
                words.push(format!(
                    "node{member} {state:?} {}",
                    told.unwrap_or_default()
                ));
            }
        }
        words.push(format!(
            "victim {:?}, joining {:?}, leaving {:?}",
            self.victim, self.joining, self.leaving
        ));
        words.join("; ")
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Alarm(token) => {
                if let Some(alarm) = self.alarms.remove(&token) {
                    self.ring(alarm);
                }
            }
            News::Client(id, note) => {
                let mut cx = Context {
                    world: &mut self.world,
                    history: &mut self.history,
                    nodes: &self.members,
                };
                for player in &mut self.players {
                    player.handle(&mut cx, id, &note);
                }
                for dumper in &mut self.dumpers {
                    dumper.client.handle(&mut cx, id, note.clone());
                }
                for dumper in &mut self.cache_dumpers {
                    dumper.client.handle(&mut cx, id, note.clone());
                }
            }
            News::Admin(request, reply) => self.admin(request, reply),
            News::Called(request, reply) => {
                let mut cx = Context {
                    world: &mut self.world,
                    history: &mut self.history,
                    nodes: &self.members,
                };
                for player in &mut self.players {
                    player.handle_called(&mut cx, request, &reply);
                }
                (self.world.trace).comment(self.world.now_us, || format!("{request:?}: {reply:?}"));
            }
            News::Probe(probing) => {
                let mut cx = Context {
                    world: &mut self.world,
                    history: &mut self.history,
                    nodes: &self.members,
                };
                let mut players = self.players.iter_mut();
                if !players.any(|player| player.handle_probe(&mut cx, &probing)) {
                    let why = "connection refused".to_owned();
                    (self.world).probed(&probing, ProbeResult::Failed { why });
                }
            }
            News::Stopped(node, reason) => self.stopped(node, &reason),
        }
    }

    fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Client(number) => {
                let mut cx = Context {
                    world: &mut self.world,
                    history: &mut self.history,
                    nodes: &self.members,
                };
                let player = &mut self.players[number];
                player.drive(&mut cx, self.phase);
                let think_us = player.rng().range(500, 40_000);
                self.alarm(self.world.now_us + think_us, Alarm::Client(number));
            }
            Alarm::Dumper(number) => {
                let mut cx = Context {
                    world: &mut self.world,
                    history: &mut self.history,
                    nodes: &self.members,
                };
                self.dumpers[number].drive(&mut cx);
                if let Some(dumper) = self.cache_dumpers.get_mut(number) {
                    dumper.drive(&mut cx);
                }
                self.alarm(self.world.now_us + 2_000, Alarm::Dumper(number));
            }
            Alarm::Fault(number) => {
                let fault = self.schedule[number].fault.clone();
                self.inject(&fault);
            }
            Alarm::Probe => {
                self.probe();
                self.alarm(self.world.now_us + PROBE_EVERY_US, Alarm::Probe);
            }
            other => self.follow_up(other),
        }
    }

    fn probe(&mut self) {
        let mut nodes = self.members.clone();
        nodes.extend(self.joining);
        for node in nodes {
            if self.world.is_up(node) {
                let life = self.world.nodes[node].life;
                for core in 0..self.world.nodes[node].cores() {
                    let place = Place { node, core };
                    let request = self.world.ask_core(place, AdminCommand::Status);
                    self.asked.insert(request, (place, life));
                }
            }
        }
    }

    fn admin(&mut self, request: RequestId, reply: AdminReply) {
        let AdminReply::Status(status) = reply else {
            if self.world.trace.is_text() {
                self.world
                    .trace
                    .note(self.world.now_us, &format!("admin: {reply:?}"));
            }
            return;
        };
        let Some((place, life)) = self.asked.remove(&request) else {
            return;
        };
        for shard in &status.shards {
            if shard.role == "leader" {
                let key = (shard.name.clone(), shard.term);
                let leader = self.leaders.entry(key).or_insert(status.node.clone());
                if *leader != status.node {
                    self.violations.push(format!(
                        "{} has two leaders in term {}: {leader} and {}",
                        shard.name, shard.term, status.node
                    ));
                }
            }
        }
        let node = place.node;
        self.told.insert(place, (life, *status));
        if life != self.world.nodes[node].life {
            return;
        }
        let cores = (0..self.world.nodes[node].cores()).map(|core| {
            let told = self.told.get(&Place { node, core });
            told.filter(|(of, _)| *of == life).map(|(_, s)| s.clone())
        });
        if let Some(whole) = whole_status(cores) {
            self.statuses.insert(node, (self.world.now_us, life, whole));
            self.watch_members(node);
        }
    }

    fn start_dump(&mut self) {
        for member in self.members.clone() {
            let number = self.dumpers.len();
            let rng = self.rng.fork(5_000 + number as u64);
            if self.workload.has(Kind::Redis) {
                let rng = rng.fork(2);
                let dumper = cache::dump::Dumper::new(10_000 + number, member, rng);
                self.cache_dumpers.push(dumper);
            }
            self.dumpers.push(Dumper::new(10_000 + number, member, rng));
            self.alarm(self.world.now_us, Alarm::Dumper(number));
        }
    }

    fn dump_is_done(&self) -> bool {
        self.dumpers.iter().all(Dumper::is_done)
            && self.cache_dumpers.iter().all(cache::dump::Dumper::is_done)
            && {
                let figures = |node: &usize| {
                    self.statuses.get(node).map(|(at_us, _, status)| {
                        let shards: Vec<_> = status
                            .shards
                            .iter()
                            .filter(|s| !s.name.starts_with("cache"))
                            .map(|s| (s.name.clone(), s.applied))
                            .collect();
                        let fresh = *at_us > self.phase_since_us;
                        (fresh, status.tree.as_ref().map(|tree| tree.zxid), shards)
                    })
                };
                let first = self.members.first().and_then(figures);
                first.as_ref().is_some_and(|(fresh, ..)| *fresh)
                    && self.members.iter().all(|member| figures(member) == first)
            }
    }

    /// What is wrong with what happened.
    pub(crate) fn judge(&mut self) -> Vec<String> {
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(check::all(&self.history));
        violations
    }

    fn finish(&mut self) {
        for dumper in &mut self.dumpers {
            self.history.trees.push((dumper.node, dumper.take()));
        }
        for dumper in &mut self.cache_dumpers {
            self.history.cache.dumps.push(dumper.take());
        }
        for (node, (_, _, status)) in &self.statuses {
            let is_member = self.members.contains(node);
            let is_open = |s: &&TransactionsStatus| s.records + s.promises + s.locks + s.parked > 0;
            let open = status
                .transactions
                .iter()
                .filter(|s| is_member && is_open(s));
            self.violations.extend(
                open.map(|s| format!("node{node} still has transactions under way: {s:?}")),
            );
        }
        let gossip = gossip::agreement(&self.members, &self.statuses);
        self.violations.extend(gossip);
        let objections = self.players.iter().filter_map(|player| player.objection());
        self.violations.extend(objections);
        self.phase = Phase::Done;
    }
}

/// A node's status from those of its cores, once all are there.
fn whole_status(cores: impl Iterator<Item = Option<Status>>) -> Option<Status> {
    let mut cores = cores.collect::<Option<Vec<Status>>>()?.into_iter();
    let mut whole = cores.next()?;
    for core in cores {
        if whole.phase == "serving" {
            whole.phase = core.phase;
            whole.waiting_for = core.waiting_for;
        }
        whole.ready &= core.ready;
        whole.tree = whole.tree.or(core.tree);
        whole.shards.extend(core.shards);
        whole.transactions.extend(core.transactions);
    }
    // Which core holds a shard depends on the number of cores.
    whole.shards.sort_by(|a, b| a.name.cmp(&b.name));
    Some(whole)
}
