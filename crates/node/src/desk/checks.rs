//! What a node does for checks unasked.
//!
//! The leader of the services' shard keeps the time-outs of checks that are told, on its monotonic clock: it
//! *proposes* that one has expired, with how often it had been told, and grants all of them a full time-out
//! when it comes to lead. It removes instances that were critical too long, and it names the node that runs a
//! check: the one it was registered at while that is heard, else the one of the others that rendezvous hashing
//! prefers (Thaler and Ravishankar, 1998), so that the death of a node moves its checks and no others.
//!
//! The node that is named looks, as often as the check says, and proposes what it saw when that is news. Both
//! proposals name the check's number and epoch: `apply` refuses what was decided before another decision.

use crate::core::Ask;
use crate::event::Action;
use crate::front::Context;
use base::planted::{Bug, planted};
use base::{CoreAddress, NodeId, Origin, Rng};
use catalog::TREE_SHARD;
use coordination::Leases;
use coordination::services::{Check, CheckKind, Command, Pace, Services, Status};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};

/// Instances whose time is over, and nodes that run checks, are looked at so often.
const DUE_US: u64 = 500_000;
/// A node that was not heard for so long does not run checks.
const UNHEARD_US: u64 = 2_000_000;
/// Commands that are proposed at a time; the rest follow.
const COMMANDS_MAX: usize = 1_000;
/// A new check is looked at within this time, if its interval is longer.
const FIRST_LOOK_US: u64 = 500_000;
/// The same in other words is proposed this often at most.
const WORDS_US: u64 = 60_000_000;

/// What a probe is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Probe {
    /// A look of a check.
    Check {
        /// The check's number.
        number: u64,
        /// The epoch in which this node is to run it.
        epoch: u32,
    },
    /// A branch of a global transaction.
    Call {
        /// Which call of this core.
        number: u64,
    },
}

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeTarget {
    /// An HTTP server.
    Http {
        /// As `http://host:port/path`.
        url: String,
        /// As `GET`.
        method: String,
        /// With these headers.
        headers: Vec<(String, String)>,
        /// With this body.
        body: String,
    },
    /// Whatever takes connections.
    Tcp {
        /// As `host:port`.
        address: String,
    },
}

/// What a probe has seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeResult {
    /// The connection was taken.
    Connected,
    /// An HTTP server answered.
    Answered {
        /// Its status code.
        code: u16,
        /// The beginning of the body.
        body: String,
    },
    /// Nothing, or nothing understood.
    Failed {
        /// In words.
        why: String,
    },
}

/// A check that this node runs.
#[derive(Debug)]
struct Run {
    epoch: u32,
    pace: Pace,
    /// When to look next, monotonic microseconds; `None` while a look is under way.
    next_us: Option<u64>,
    /// Good ones, and bad ones, in a row.
    good: u32,
    bad: u32,
    /// When something was proposed last.
    proposed_us: Option<u64>,
}

/// The duties of this core.
#[derive(Debug)]
pub struct Checks {
    me: CoreAddress,
    /// Since when the services' shard is led here, monotonic microseconds.
    leads_since_us: Option<u64>,
    leases: Leases<u64, u64>,
    due_us: u64,
    /// Who can run checks, as was last seen.
    runners: BTreeSet<NodeId>,
    /// Checks came, or changed, since all were compared with that.
    is_changed: bool,
    /// What is run here was not yet read from the state.
    is_unread: bool,
    runs: BTreeMap<u64, Run>,
    queue: BTreeSet<(u64, u64)>,
    probes: u64,
}

impl Checks {
    /// Nothing to do yet.
    pub fn new(me: CoreAddress) -> Self {
        Self {
            me,
            leads_since_us: None,
            leases: Leases::new(),
            due_us: 0,
            runners: BTreeSet::new(),
            is_changed: false,
            is_unread: true,
            runs: BTreeMap::new(),
            queue: BTreeSet::new(),
            probes: 0,
        }
    }

    /// Probes that were run here.
    pub fn probe_count(&self) -> u64 {
        self.probes
    }

    /// The core was not run for so long, in microseconds.
    pub fn stalled(&mut self, by_us: u64) {
        self.leases.stalled(by_us);
    }

    /// The state was replaced.
    pub fn handle_installed(&mut self) {
        self.is_unread = true;
    }

    /// A check came, went, was told, or changed.
    pub fn check_changed(&mut self, cx: &Context<'_>, number: u64) {
        let Some(services) = services(cx) else {
            return;
        };
        let check = services.check(number);
        if self.leads_since_us.is_some() {
            self.is_changed = true;
            match check.and_then(lease) {
                // Planted: only the first time.
                Some((_, beats)) if beats > 1 && planted(Bug::ExpireToldCheck) => {}
                Some((ttl_ms, beats)) => {
                    let now_us = cx.now.mono_us;
                    self.leases.opened(now_us, number, beats, ttl_ms);
                }
                None => self.leases.ended(number),
            }
        }
        self.update_run(cx, number, check);
    }

    // --- running ---

    fn update_run(&mut self, cx: &Context<'_>, number: u64, check: Option<&Check>) {
        let mine = check.filter(|check| check.runner == self.me.node);
        let wanted = mine.and_then(|check| Some((check.epoch, check.spec.kind.pace()?)));
        let has = self.runs.get(&number).map(|run| (run.epoch, run.pace));
        if wanted == has {
            return;
        }
        if let Some(Run {
            next_us: Some(next_us),
            ..
        }) = self.runs.remove(&number)
        {
            self.queue.remove(&(next_us, number));
        }
        if let Some((epoch, pace)) = wanted {
            // Checks that came together are not looked at together.
            let within_us = (pace.interval_ms * 1_000).min(FIRST_LOOK_US);
            let next_us = cx.now.mono_us + Rng::new(number).range(0, within_us);
            let run = Run {
                epoch,
                pace,
                next_us: Some(next_us),
                good: 0,
                bad: 0,
                proposed_us: None,
            };
            self.runs.insert(number, run);
            self.queue.insert((next_us, number));
        }
    }

    fn read_all(&mut self, cx: &Context<'_>) {
        let Some(services) = services(cx) else {
            return;
        };
        self.is_unread = false;
        for number in self.runs.keys().copied().collect::<Vec<u64>>() {
            self.update_run(cx, number, services.check(number));
        }
        for check in services.checks() {
            self.update_run(cx, check.number, Some(check));
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        while let Some((next_us, number)) = self.queue.first().copied()
            && next_us <= cx.now.mono_us
        {
            self.queue.remove(&(next_us, number));
            let check = services(cx).and_then(|services| services.check(number));
            let (Some(run), Some(check)) = (self.runs.get_mut(&number), check) else {
                continue;
            };
            let target = match &check.spec.kind {
                CheckKind::Ttl { .. } => continue,
                CheckKind::Http {
                    url,
                    method,
                    headers,
                    body,
                    ..
                } => ProbeTarget::Http {
                    url: url.clone(),
                    method: method.clone(),
                    headers: headers.clone(),
                    body: body.clone(),
                },
                CheckKind::Tcp { address, .. } => ProbeTarget::Tcp {
                    address: address.clone(),
                },
            };
            run.next_us = None;
            self.probes += 1;
            let epoch = run.epoch;
            cx.actions.push_back(Action::Probe {
                probe: Probe::Check { number, epoch },
                target,
                timeout_us: run.pace.timeout_ms * 1_000,
            });
        }
    }

    /// What a probe has seen.
    pub fn handle_probed(
        &mut self,
        cx: &mut Context<'_>,
        (number, epoch): (u64, u32),
        result: &ProbeResult,
    ) {
        let Some(run) = self.runs.get_mut(&number) else {
            return;
        };
        if run.epoch != epoch || run.next_us.is_some() {
            return;
        }
        let next_us = cx.now.mono_us + run.pace.interval_ms * 1_000;
        run.next_us = Some(next_us);
        self.queue.insert((next_us, number));
        let (seen, output) = judge(result);
        let Some(status) = count(run, seen) else {
            return;
        };
        let Some(check) = services(cx).and_then(|services| services.check(number)) else {
            return;
        };
        let is_old = (run.proposed_us).is_none_or(|us| cx.now.mono_us >= us + WORDS_US);
        if check.status != status || (check.output != output && is_old) {
            run.proposed_us = Some(cx.now.mono_us);
            propose(
                cx,
                Command::Observe {
                    number,
                    epoch,
                    status,
                    output,
                },
            );
        }
    }

    // --- leading ---

    /// Time passed.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>) {
        if self.is_unread {
            self.read_all(cx);
        }
        self.look(cx);
        let leads = cx.shard(TREE_SHARD).is_some_and(Shard::is_leader);
        match (leads, services(cx)) {
            (true, Some(services)) if self.leads_since_us.is_none() => {
                self.leads_since_us = Some(cx.now.mono_us);
                self.is_changed = true;
                let all = services.checks();
                let told = all.filter_map(|check| {
                    let (ttl_ms, beats) = lease(check)?;
                    Some((check.number, beats, ttl_ms))
                });
                self.leases.reset(cx.now.mono_us, told);
            }
            (true, Some(_)) => {}
            _ => {
                self.leads_since_us = None;
                self.leases = Leases::new();
                return;
            }
        }
        for (number, beats) in self.leases.poll_expired(cx.now.mono_us, COMMANDS_MAX) {
            propose(cx, Command::Expire { number, beats });
        }
        if cx.now.mono_us >= self.due_us {
            self.due_us = cx.now.mono_us + DUE_US;
            let due = services(cx).map(|s| s.reapable(cx.time_ms, COMMANDS_MAX));
            for command in due.unwrap_or_default() {
                propose(cx, command);
            }
            self.assign(cx);
        }
    }

    /// Names nodes for checks whose node cannot run them, or can again.
    fn assign(&mut self, cx: &mut Context<'_>) {
        let runners = self.find_runners(cx);
        if !self.is_changed && runners == self.runners {
            return;
        }
        self.is_changed = false;
        self.runners = runners;
        let mut commands = Vec::new();
        let all = services(cx).into_iter().flat_map(Services::checks);
        for check in all.filter(|check| check.spec.kind.pace().is_some()) {
            let wanted = runner(&self.runners, check);
            if let Some(runner) = wanted.filter(|node| *node != check.runner) {
                if commands.len() >= COMMANDS_MAX {
                    self.is_changed = true;
                    break;
                }
                commands.push(Command::Assign {
                    number: check.number,
                    epoch: check.epoch,
                    runner,
                });
            }
        }
        for command in commands {
            propose(cx, command);
        }
    }

    /// Nodes with a replica of the services that are heard. A new leader waits before it believes that one is
    /// not.
    fn find_runners(&self, cx: &Context<'_>) -> BTreeSet<NodeId> {
        let now_us = cx.now.mono_us;
        let is_new = (self.leads_since_us).is_some_and(|since| now_us < since + UNHEARD_US);
        let is_heard = |node: &NodeId| {
            let silent_us = cx.peers.detector.silent_us(node.0, now_us);
            is_new || *node == self.me.node || silent_us.is_some_and(|us| us < UNHEARD_US)
        };
        let record = cx.catalog.shards.get(&TREE_SHARD);
        let holders = record
            .into_iter()
            .flat_map(|r| r.replicas.values().copied());
        holders.filter(is_heard).collect()
    }
}

/// The node that is to run a check.
fn runner(runners: &BTreeSet<NodeId>, check: &Check) -> Option<NodeId> {
    if runners.contains(&check.home) {
        return Some(check.home);
    }
    let weight = |node: &NodeId| Rng::new(node.0 ^ check.number.rotate_left(32)).next_u64();
    runners.iter().copied().max_by_key(weight)
}

fn services<'a>(cx: &Context<'a>) -> Option<&'a Services> {
    Some(&cx.data(TREE_SHARD)?.services)
}

/// The time-out of a check that must be told, in milliseconds, and how often it was.
fn lease(check: &Check) -> Option<(u32, u64)> {
    match check.spec.kind {
        CheckKind::Ttl { ttl_ms } if check.status != Status::Critical => {
            Some((u32::try_from(ttl_ms).unwrap_or(u32::MAX), check.beats))
        }
        _ => None,
    }
}

fn judge(result: &ProbeResult) -> (Status, String) {
    match result {
        ProbeResult::Connected => (Status::Passing, "connected".into()),
        ProbeResult::Answered { code, body } => {
            let status = match code {
                200..=299 => Status::Passing,
                429 => Status::Warning,
                _ => Status::Critical,
            };
            (status, format!("HTTP {code}: {body}"))
        }
        ProbeResult::Failed { why } => (Status::Critical, why.clone()),
    }
}

/// Counts a look; what the check says by that, or `None` while it says what it said.
fn count(run: &mut Run, seen: Status) -> Option<Status> {
    let pace = run.pace;
    if seen != Status::Critical {
        run.good = run.good.saturating_add(1);
        run.bad = 0;
        return (run.good >= pace.successes).then_some(seen);
    }
    run.bad = run.bad.saturating_add(1);
    run.good = 0;
    if run.bad >= pace.failures {
        return Some(Status::Critical);
    }
    let warns = pace.failures_to_warn > 0 && run.bad >= pace.failures_to_warn;
    warns.then_some(Status::Warning)
}

fn propose(cx: &mut Context<'_>, command: Command) {
    // One that is lost is due again.
    let unit = super::services::unit(Origin::default(), command);
    cx.asks.push(Ask::Propose(TREE_SHARD, unit.encode()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(successes: u32, failures_to_warn: u32, failures: u32) -> Run {
        Run {
            epoch: 0,
            pace: Pace {
                interval_ms: 1_000,
                timeout_ms: 1_000,
                successes,
                failures_to_warn,
                failures,
            },
            next_us: None,
            good: 0,
            bad: 0,
            proposed_us: None,
        }
    }

    #[test]
    fn status_changes_after_as_many_looks_in_a_row_as_are_wanted() {
        use Status::{Critical, Passing, Warning};
        let cases = [
            ((0, 0, 0), vec![Critical], Some(Critical)),
            ((0, 0, 0), vec![Passing], Some(Passing)),
            ((2, 0, 0), vec![Passing], None),
            ((2, 0, 0), vec![Passing, Critical, Passing], None),
            ((2, 0, 0), vec![Passing, Passing], Some(Passing)),
            ((0, 0, 3), vec![Critical, Critical], None),
            ((0, 0, 3), vec![Critical, Critical, Passing, Critical], None),
            ((0, 0, 3), vec![Critical; 3], Some(Critical)),
            ((0, 2, 3), vec![Critical; 2], Some(Warning)),
            ((0, 0, 0), vec![Warning], Some(Warning)),
        ];
        for ((successes, to_warn, failures), seen, said) in cases {
            let mut run = run(successes, to_warn, failures);
            let last = seen.iter().map(|seen| count(&mut run, *seen)).last();
            assert_eq!(
                last,
                Some(said),
                "{successes} {to_warn} {failures} {seen:?}"
            );
        }
    }

    #[test]
    fn death_of_a_node_moves_its_checks_and_no_others() {
        let check = |number, home| Check {
            number,
            home: NodeId(home),
            runner: NodeId(home),
            ..tcp()
        };
        let three: BTreeSet<NodeId> = [1, 2, 3].map(NodeId).into();
        let two: BTreeSet<NodeId> = [1, 3].map(NodeId).into();
        let mut moved = BTreeMap::new();
        for number in 0..100 {
            for home in [1, 3] {
                assert_eq!(runner(&three, &check(number, home)), Some(NodeId(home)));
                assert_eq!(runner(&two, &check(number, home)), Some(NodeId(home)));
            }
            let to = runner(&two, &check(number, 2)).expect("two are left");
            *moved.entry(to).or_insert(0) += 1;
        }
        assert!(moved.values().all(|n| *n > 25), "{moved:?}");
        assert_eq!(runner(&BTreeSet::new(), &check(1, 1)), None);
    }

    fn tcp() -> Check {
        Check {
            spec: coordination::services::CheckSpec {
                id: "c".into(),
                name: "c".into(),
                notes: String::new(),
                instance: "i".into(),
                kind: CheckKind::Tcp {
                    address: "127.0.0.1:1".into(),
                    pace: run(0, 0, 0).pace,
                },
                initial: Status::Critical,
                deregister_after_ms: 0,
            },
            number: 1,
            home: NodeId(1),
            runner: NodeId(1),
            epoch: 0,
            beats: 0,
            status: Status::Critical,
            output: String::new(),
            since_ms: 0,
            created: 1,
            modified: 1,
        }
    }
}
