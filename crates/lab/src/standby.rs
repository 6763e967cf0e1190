//! Two clusters in one world: a primary, and a stand-by that follows it through faults of both and of what is between
//! them, is promoted, and meets the old primary again.
//!
//! What is looked for: what the stand-by has is always a prefix of what the primary was told, across all writers; what
//! is there when the promoted cluster takes its first write stays so; an old primary that reaches the promoted cluster
//! takes no more writes, at once when it has started anew, and within [`HEARD_US`] when it ran all along; one that cannot
//! look whether it was superseded waits for [`LOOK_US`] before it serves.

use crate::caller::Caller;
use crate::client::Context;
use crate::history::History;
use crate::process::boot_core;
use crate::run::{Options, Report, address};
use crate::trace::Trace;
use crate::world::{News, Place, World};
use base::Rng;
use node::{
    AdminCommand, AdminReply, Call, CallReply, CoreConfig, FilesAnswer, FilesQuery, ProbeResult,
    RequestId, Status,
};
use std::collections::BTreeMap;
use storage::files::{Command, FileStat, Refusal};

/// Nodes of each cluster.
const NODES: usize = 3;
const WRITERS: usize = 3;
const TICK_US: u64 = 10_000;
const PATIENCE_US: u64 = 4_000_000;
/// A running primary has heard that it was superseded so long after it can.
const HEARD_US: u64 = 3_000_000;
/// A node that cannot look serves no sooner after its start; its clock runs a little faster than time, perhaps.
const LOOK_US: u64 = 4_900_000;
/// Both clusters are there by then.
const FORMED_US: u64 = 30_000_000;
/// What must come to pass once nothing is broken any more does so in this time.
const HEAL_US: u64 = 30_000_000;

/// What becomes of the primary when its stand-by is promoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disaster {
    /// All its nodes die, and come back where they reach the promoted cluster.
    Dies,
    /// All its nodes die, and come back where they do not reach it, for a while.
    DiesAndIsCutOff,
    /// It runs on, cut off for a while.
    IsCutOff,
    /// It runs on.
    RunsOn,
}

impl Disaster {
    const ALL: [Self; 4] = [
        Self::Dies,
        Self::DiesAndIsCutOff,
        Self::IsCutOff,
        Self::RunsOn,
    ];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Forming,
    Following,
    Promoting,
    /// The promoted cluster is there, and the disaster lasts.
    Apart,
    /// Everything reaches everything.
    Together,
    Done,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Write(usize),
    /// At the stand-by, or at the primary.
    List(bool),
}

/// A writer's steps: make 1, make 2, remove 1, make 3, remove 2, … A set of names says how many were taken.
#[derive(Clone, Debug, Default)]
struct Writer {
    /// When each step was first asked for, and when it was answered.
    steps: Vec<(u64, Option<u64>)>,
    next_us: u64,
}

/// The cluster that a writer writes to, and under which directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Desk {
    writer: usize,
    is_standby: bool,
    directory: &'static str,
}

struct Pair {
    world: World,
    history: History,
    rng: Rng,
    caller: Caller<What>,
    /// Those of before the promotion, those of the promoted cluster, and those who still write to the old one.
    writers: Vec<Writer>,
    phase: Phase,
    since_us: u64,
    disaster: Disaster,
    /// From when on nobody may be told by the old primary that a write was done.
    fenced_us: Option<u64>,
    promoted_us: Option<u64>,
    promote: Option<RequestId>,
    /// The first write of the promoted cluster's own was answered then.
    own_us: Option<u64>,
    /// What it had taken over, as it was read after that.
    taken_over: Option<Vec<usize>>,
    /// Steps of each writer that the stand-by was seen to have, and when that was answered.
    seen: Vec<(u64, Vec<usize>)>,
    /// The number of what each name was seen to have.
    inodes: BTreeMap<String, u64>,
    statuses: BTreeMap<usize, Status>,
    asked: BTreeMap<RequestId, usize>,
    lists: usize,
    violations: Vec<String>,
}

/// Runs once.
pub(crate) fn run(options: &Options) -> Report {
    let mut pair = Pair::new(options);
    pair.play();
    let steps = pair.writers.iter().flat_map(|writer| &writer.steps);
    let answered = steps.clone().filter(|(_, ended)| ended.is_some()).count();
    let asked = steps.count();
    Report {
        seed: options.seed,
        trace_hash: pair.world.trace.hash(),
        events: pair.world.trace.events,
        operations: (asked + pair.lists, answered + pair.lists),
        simulated_ms: pair.world.now_us / 1_000,
        violations: pair.violations,
    }
}

fn desk(number: usize) -> Desk {
    let directories = ["w", "n", "o"];
    Desk {
        writer: number,
        is_standby: number / WRITERS == 1,
        directory: directories[number / WRITERS],
    }
}

/// The path that a step makes or removes, and which of both.
fn step(desk: Desk, number: usize) -> (String, bool) {
    let of = |name: usize| format!("/{}/{}-{name}", desk.directory, desk.writer % WRITERS);
    match number {
        0 => (of(1), true),
        _ if number % 2 == 1 => (of(number / 2 + 2), true),
        _ => (of(number / 2), false),
    }
}

/// How many steps led to these names; `None`: no number of them did.
fn steps_to(mut names: Vec<usize>) -> Option<usize> {
    names.sort_unstable();
    match names[..] {
        [] => Some(0),
        [a] => Some(2 * a - 1),
        [a, b] if b == a + 1 => Some(2 * a),
        _ => None,
    }
}

impl Pair {
    fn new(options: &Options) -> Self {
        let seed = Rng::new(options.seed ^ 0x7374_616e_6462_7921);
        let mut rng = seed.fork(1);
        let trace = Trace::new(options.trace);
        let mut world = World::new(seed.fork(2).next_u64(), boot_core, trace);
        let template = CoreConfig {
            snapshot_chunk_bytes: [1 << 10, 256 << 10][rng.range(0, 2) as usize],
            snapshot_log_bytes: [8 << 10, 64 << 10, 64 << 20][rng.range(0, 3) as usize],
            lanes: options.lanes.unwrap_or(1),
            cores: options.cores.unwrap_or(1),
            ..CoreConfig::default()
        };
        let addresses = |from: usize| (from..from + NODES).map(address).collect::<Vec<_>>();
        for number in 0..2 * NODES {
            let is_standby = number >= NODES;
            world.add_node(CoreConfig {
                address: address(number),
                initial_members: addresses(if is_standby { NODES } else { 0 }),
                standby_of: if is_standby { addresses(0) } else { Vec::new() },
                ..template.clone()
            });
            let late_us = if is_standby { 3_000_000 } else { 300_000 };
            world.boot_at(rng.range(0, late_us), number);
        }
        world.set_alarm(TICK_US, 0);
        let disaster = Disaster::ALL[rng.range(0, 4) as usize];
        Self {
            world,
            history: History::default(),
            rng,
            caller: Caller::new(),
            writers: vec![Writer::default(); 3 * WRITERS],
            phase: Phase::Forming,
            since_us: 0,
            disaster,
            fenced_us: None,
            promoted_us: None,
            promote: None,
            own_us: None,
            taken_over: None,
            seen: Vec::new(),
            inodes: BTreeMap::new(),
            statuses: BTreeMap::new(),
            asked: BTreeMap::new(),
            lists: 0,
            violations: Vec::new(),
        }
    }

    fn enter(&mut self, phase: Phase) {
        let text = format!("phase {phase:?} ({:?})", self.disaster);
        self.world.trace.note(self.world.now_us, &text);
        self.phase = phase;
        self.since_us = self.world.now_us;
    }

    fn play(&mut self) {
        while self.phase != Phase::Done {
            if let Some(news) = self.world.step(u64::MAX - 1) {
                self.hear(news);
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Alarm(_) => {
                self.tick();
                self.world.set_alarm(self.world.now_us + TICK_US, 0);
            }
            News::Admin(request, AdminReply::Status(status)) => {
                if let Some(node) = self.asked.remove(&request) {
                    self.statuses.insert(node, *status);
                }
            }
            News::Admin(request, reply) => {
                if self.promote == Some(request) {
                    self.promote = None;
                    if let AdminReply::Done { .. } = reply {
                        self.promoted_us.get_or_insert(self.world.now_us);
                    }
                }
            }
            News::Called(request, reply) => self.called(request, &reply),
            News::Probe(probing) => {
                let why = "connection refused".to_owned();
                self.world.probed(&probing, ProbeResult::Failed { why });
            }
            News::Stopped(node, reason) => {
                let text = format!("node{node} stopped: {reason}");
                self.violations.push(text);
                self.world.boot_at(self.world.now_us + 500_000, node);
            }
            News::Client(..) => {}
        }
    }

    /// Calls a node that is up of one of both clusters.
    fn call(&mut self, is_standby: bool, what: What, call: Call) {
        let from = if is_standby { NODES } else { 0 };
        let up: Vec<usize> = (from..from + NODES)
            .filter(|node| self.world.is_up(*node))
            .collect();
        if up.is_empty() {
            return;
        }
        let node = up[self.rng.range(0, up.len() as u64) as usize];
        let mut cx = Context {
            world: &mut self.world,
            history: &mut self.history,
            nodes: &[],
        };
        self.caller.call_at(&mut cx, node, what, call);
    }

    fn write(&mut self, number: usize) {
        let now_us = self.world.now_us;
        let what = What::Write(number);
        if now_us < self.writers[number].next_us || self.caller.is_calling(|w| *w == what) {
            return;
        }
        let pause_us = self.rng.range(1_000, 60_000);
        let writer = &mut self.writers[number];
        writer.next_us = now_us + pause_us;
        if writer.steps.last().is_none_or(|(_, ended)| ended.is_some()) {
            writer.steps.push((now_us, None));
        }
        let desk = desk(number);
        let (path, makes) = step(desk, writer.steps.len() - 1);
        let command = match makes {
            true => Command::MakeDirectory { path },
            false => Command::Delete {
                path,
                recursive: false,
            },
        };
        self.call(desk.is_standby, what, Call::ChangeFiles(command));
    }

    fn list(&mut self) {
        let is_standby = self.phase != Phase::Following || self.rng.one_in(2);
        let what = What::List(is_standby);
        if self.caller.is_calling(|other| *other == what) || !self.rng.one_in(4) {
            return;
        }
        let query = FilesQuery::List {
            path: "/w".into(),
            after: String::new(),
            count_max: 1_000,
        };
        self.call(is_standby, what, Call::ReadFiles(query));
    }

    fn called(&mut self, request: RequestId, reply: &CallReply) {
        let mut cx = Context {
            world: &mut self.world,
            history: &mut self.history,
            nodes: &[],
        };
        let Some(pending) = self.caller.take(&mut cx, request, reply) else {
            return;
        };
        let now_us = self.world.now_us;
        match (pending.what, reply) {
            // One whose outcome was not known is asked for again.
            (What::Write(number), CallReply::FilesChanged(Ok(_) | Err(Refusal::NotFound))) => {
                if let Some(step) = self.writers[number].steps.last_mut() {
                    step.1 = Some(now_us);
                }
                match number / WRITERS {
                    1 => drop(self.own_us.get_or_insert(now_us)),
                    2 => self.told_by_the_old(pending.invoked_us),
                    _ => {}
                }
            }
            (What::List(is_standby), CallReply::Files(answer)) => {
                if let FilesAnswer::List(listed) = &**answer {
                    let names = listed.as_ref().map(|(rows, _)| &rows[..]).unwrap_or(&[]);
                    self.compare(names);
                    let names: Vec<&str> = names.iter().map(|row| &row.name[..]).collect();
                    if is_standby {
                        self.listed(pending.invoked_us, &names);
                    }
                }
            }
            _ => {}
        }
    }

    /// The old primary has taken a write that was asked for then.
    fn told_by_the_old(&mut self, invoked_us: u64) {
        if self.fenced_us.is_some_and(|us| invoked_us > us) {
            self.violations.push(format!(
                "the old primary took a write that was asked for at {invoked_us}, superseded and to know it since {}",
                self.fenced_us.unwrap_or(0)
            ));
        }
    }

    /// What has a name is the same on both sides: the primary's log was carried out once.
    fn compare(&mut self, rows: &[FileStat]) {
        for row in rows {
            let known = *self.inodes.entry(row.name.clone()).or_insert(row.inode);
            if known != row.inode {
                let (name, inode) = (&row.name, row.inode);
                let text =
                    format!("{name} has number {known} on one side and {inode} on the other");
                self.violations.push(text);
            }
        }
    }

    fn listed(&mut self, invoked_us: u64, names: &[&str]) {
        self.lists += 1;
        let mut of: [Vec<usize>; WRITERS] = Default::default();
        for name in names {
            if let Some((writer, number)) = name.split_once('-')
                && let (Ok(writer), Ok(number)) = (writer.parse::<usize>(), number.parse())
            {
                of[writer].push(number);
            }
        }
        let has: Option<Vec<usize>> = of.into_iter().map(steps_to).collect();
        let Some(has) = has else {
            return (self.violations).push(format!("no order of writes leads to {names:?}"));
        };
        for (writer, count) in has.iter().enumerate() {
            if *count > self.writers[writer].steps.len() {
                let text = format!("writer {writer} never got to step {count}: {names:?}");
                return self.violations.push(text);
            }
        }
        // What was done before something that is here was asked for is here too.
        let newest_us = (has.iter().enumerate())
            .filter_map(|(writer, count)| {
                let last = count.checked_sub(1)?;
                Some(self.writers[writer].steps[last].0)
            })
            .max();
        for (writer, count) in has.iter().enumerate() {
            let is_before = |step: &&(u64, Option<u64>)| {
                step.1
                    .is_some_and(|ended| newest_us.is_some_and(|us| ended < us))
            };
            let before = self.writers[writer].steps.iter().filter(is_before).count();
            if before > *count {
                self.violations.push(format!(
                    "the stand-by has what came after step {before} of writer {writer}, and of that one {count} steps"
                ));
            }
        }
        let earlier = self.seen.iter().rfind(|(us, _)| *us < invoked_us);
        if let Some((_, had)) = earlier
            && had.iter().zip(&has).any(|(had, has)| had > has)
        {
            let text = format!("the stand-by had steps {had:?}, and later {has:?}");
            self.violations.push(text);
        }
        if self.own_us.is_some_and(|us| us < invoked_us) {
            let taken_over = self.taken_over.get_or_insert_with(|| has.clone());
            if *taken_over != has {
                let text = format!("promoted with steps {taken_over:?}, it has {has:?} later");
                self.violations.push(text);
            }
        }
        self.seen.push((self.world.now_us, has));
    }

    fn tick(&mut self) {
        let now_us = self.world.now_us;
        let cx = Context {
            world: &mut self.world,
            history: &mut self.history,
            nodes: &[],
        };
        self.caller.forget_lost(&cx, |_| PATIENCE_US);
        if now_us % 250_000 < TICK_US {
            self.ask_statuses();
        }
        let writes = match self.phase {
            Phase::Forming | Phase::Following => 0..WRITERS,
            Phase::Promoting => 0..0,
            Phase::Apart | Phase::Together | Phase::Done => WRITERS..3 * WRITERS,
        };
        for number in writes {
            self.write(number);
        }
        if self.phase != Phase::Forming {
            self.list();
        }
        self.suffer();
        self.advance();
    }

    fn ask_statuses(&mut self) {
        for node in 0..2 * NODES {
            if self.world.is_up(node) {
                let place = Place { node, core: 0 };
                let request = self.world.ask_core(place, AdminCommand::Status);
                self.asked.insert(request, node);
            }
        }
    }

    fn are(&self, nodes: std::ops::Range<usize>, phase: &str) -> bool {
        let mut nodes = nodes;
        nodes.all(|node| (self.statuses.get(&node)).is_some_and(|status| status.phase == phase))
    }

    fn is_whole(&self, is_standby: bool) -> bool {
        let from = if is_standby { NODES } else { 0 };
        (from..from + NODES).all(|node| self.world.is_up(node))
    }

    /// Something breaks, perhaps: of each cluster one node at a time, and what is between them.
    fn suffer(&mut self) {
        let now_us = self.world.now_us;
        match self.phase {
            // What was to come back from an earlier death does not.
            Phase::Promoting | Phase::Apart if self.dies() && self.fenced_us.is_none() => {
                for node in 0..NODES {
                    self.world.crash(node, false);
                }
            }
            Phase::Following => {
                let node = self.rng.range(0, 2 * NODES as u64) as usize;
                match self.rng.range(0, 400) {
                    0..3 if self.is_whole(node >= NODES) => {
                        let power = self.rng.one_in(2);
                        self.world.crash(node, power);
                        let down_us = self.rng.range(100_000, 1_500_000);
                        self.world.boot_at(now_us + down_us, node);
                    }
                    3..7 => {
                        let other = self.rng.range(0, 2 * NODES as u64) as usize;
                        self.world.break_streams(node, other);
                    }
                    7 => self.cut(true),
                    8..12 => self.world.unblock_all(),
                    12 => self.world.duplicate(true),
                    13 | 14 => self.world.duplicate(false),
                    15..18 => {
                        let shard = "tree".into();
                        self.world.ask(node, AdminCommand::Snapshot { shard });
                    }
                    18 => {
                        let until_us = now_us + self.rng.range(100_000, 2_000_000);
                        self.world.pause(node, until_us);
                    }
                    _ => {}
                }
            }
            // The old primary's nodes are killed while they hear, and before they have written it down.
            Phase::Together if now_us < self.since_us + 4_000_000 => {
                let node = self.rng.range(0, NODES as u64) as usize;
                if self.rng.one_in(25) && self.world.is_up(node) {
                    self.world.crash(node, false);
                    let down_us = self.rng.range(1_000, 300_000);
                    self.world.boot_at(now_us + down_us, node);
                }
            }
            _ => {}
        }
    }

    /// Cuts the clusters apart, wholly or in places.
    fn cut(&mut self, in_places: bool) {
        for a in 0..NODES {
            for b in NODES..2 * NODES {
                if !in_places || self.rng.one_in(2) {
                    self.world.block(a, b);
                    self.world.block(b, a);
                }
            }
        }
    }

    fn advance(&mut self) {
        let now_us = self.world.now_us;
        let waited_us = now_us - self.since_us;
        match self.phase {
            Phase::Forming => {
                let writes = self.writers[0].steps.len() > 3;
                if writes && self.are(NODES..2 * NODES, "following") {
                    self.enter(Phase::Following);
                } else if waited_us > FORMED_US {
                    self.give_up("both clusters are there");
                }
            }
            Phase::Following if waited_us > 10_000_000 => self.begin_disaster(),
            Phase::Promoting => {
                if self.promoted_us.is_some() {
                    return self.enter(Phase::Apart);
                }
                if waited_us > HEAL_US {
                    return self.give_up("the stand-by is promoted");
                }
                if self.promote.is_none() || waited_us % 1_000_000 < TICK_US {
                    self.order_promotion();
                }
            }
            Phase::Apart => self.be_apart(waited_us),
            Phase::Together => {
                let taken = |from: usize| {
                    let steps = (self.writers[from..from + WRITERS].iter()).flat_map(|w| &w.steps);
                    steps.filter_map(|(_, ended)| *ended).max().unwrap_or(0)
                };
                let is_over = waited_us > 6_000_000
                    && taken(WRITERS) > self.since_us + 5_000_000
                    && self.taken_over.is_some()
                    && self.are(0..NODES, "superseded")
                    && self.are(NODES..2 * NODES, "serving");
                if is_over {
                    self.phase = Phase::Done;
                } else if waited_us > HEAL_US {
                    self.give_up("the new cluster serves, and the old one does not");
                }
            }
            _ => {}
        }
    }

    fn order_promotion(&mut self) {
        let node = NODES + self.rng.range(0, NODES as u64) as usize;
        if self.world.is_up(node) {
            let command = AdminCommand::Promote { force: true };
            self.promote = Some(self.world.ask(node, command));
        }
    }

    fn give_up(&mut self, what: &str) {
        let phases: Vec<String> = (self.statuses.iter())
            .map(|(node, s)| format!("node{node} {} ({})", s.phase, s.waiting_for))
            .collect();
        let phase = self.phase;
        (self.violations).push(format!(
            "it did not come to pass that {what}, in {phase:?} ({:?}): {phases:?}",
            self.disaster
        ));
        self.phase = Phase::Done;
    }

    fn dies(&self) -> bool {
        matches!(self.disaster, Disaster::Dies | Disaster::DiesAndIsCutOff)
    }

    fn begin_disaster(&mut self) {
        let now_us = self.world.now_us;
        self.world.unblock_all();
        self.world.duplicate(false);
        for node in 0..2 * NODES {
            self.world.nodes[node].paused_until_us = 0;
            if node < NODES && self.dies() {
                let power = self.rng.one_in(2);
                self.world.crash(node, power);
            } else {
                self.world.boot_at(now_us, node);
            }
        }
        if !matches!(self.disaster, Disaster::RunsOn | Disaster::Dies) {
            self.cut(false);
        }
        self.enter(Phase::Promoting);
    }

    /// The promoted cluster serves; then the old one comes back, or is reached again.
    fn be_apart(&mut self, waited_us: u64) {
        let now_us = self.world.now_us;
        let Some(own_us) = self.own_us else {
            if waited_us > HEAL_US {
                self.give_up("the promoted cluster takes a write");
            } else if waited_us % 2_000_000 < TICK_US {
                // What was proposed may be lost with a leader.
                self.order_promotion();
            }
            return;
        };
        let is_due = |us: u64| now_us >= own_us + us && now_us < own_us + us + TICK_US;
        match self.disaster {
            Disaster::Dies => {
                self.fenced_us = Some(own_us);
                self.boot_the_old();
                self.enter(Phase::Together);
            }
            Disaster::DiesAndIsCutOff => {
                if is_due(500_000) {
                    self.boot_the_old();
                    self.fenced_us = Some(own_us);
                } else if now_us >= own_us + 500_000 + LOOK_US {
                    // It may have begun to serve, since it was not told otherwise.
                    self.fenced_us = Some(u64::MAX);
                    if now_us >= own_us + 9_000_000 {
                        self.world.unblock_all();
                        self.fenced_us = Some(now_us + HEARD_US);
                        self.enter(Phase::Together);
                    }
                }
            }
            Disaster::IsCutOff | Disaster::RunsOn => {
                if now_us >= own_us + 2_000_000 {
                    self.world.unblock_all();
                    self.fenced_us = Some(now_us + HEARD_US);
                    self.enter(Phase::Together);
                }
            }
        }
    }

    fn boot_the_old(&mut self) {
        for node in 0..NODES {
            let at_us = self.world.now_us + self.rng.range(1_000, 400_000);
            self.world.boot_at(at_us, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn steps_are_told_from_names() {
        for number in 0..3 {
            let mut names = BTreeSet::new();
            for at in 0..20 {
                let (path, makes) = step(desk(number), at);
                let name: usize = path.split('-').next_back().unwrap().parse().unwrap();
                assert_eq!(names.contains(&name), !makes);
                match makes {
                    true => names.insert(name),
                    false => names.remove(&name),
                };
                assert_eq!(steps_to(names.iter().copied().collect()), Some(at + 1));
            }
        }
        assert_eq!(steps_to(vec![1, 3]), None);
        assert_eq!(steps_to(vec![1, 2, 3]), None);
    }
}
