//! How soon a dead leader is replaced, by how election time-outs are chosen. Source: Ongaro, Ousterhout: "In Search of
//! an Understandable Consensus Algorithm" (USENIX ATC 2014), section 9.3 and figure 16.
//!
//! Five servers run the product's engine. The leader sends heartbeats, to all at once, every half of the least time-out,
//! and dies at some moment in between; one of the other four lacks its last entry and cannot be elected. A broadcast
//! takes 15 ms there and back. The paper does not say how these are spent. What matters is how soon a
//! request is with the others: who times out meanwhile votes for itself. Here that takes 2.75 ms, and the answer
//! the rest; [`Split::Even`] shows what an even split does.

use super::fields::election::Terms;
use super::fields::{Desk, Field, Safety};
use super::raft::{Raft, Settings};
use super::script::{Fault, Planned, Script};
use super::simulation::{Outcome, Pace, Plan, run};
use base::Rng;
use base::peer::PeerId;
use coordination::election::{Decision, Request};

const NODES: usize = 5;
/// Who leads and dies.
const LEADER: PeerId = NODES;
/// A trial without a new leader ends after this.
pub const LIMIT_US: u64 = 10_000_000;
/// Of a setting of which every trial takes as long as that, so many are enough.
const ENDLESS_TRIALS: u64 = 100;
/// What a tick of the engine stands for.
const TICK_US: u64 = 1_000;

/// How the 15 ms of a broadcast are spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split {
    /// A request is with the others after 2.75 ms.
    Early,
    /// Half of the time there, half back.
    Even,
}

/// What differs between the curves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Election time-outs are drawn from this many milliseconds…
    pub least_ms: u32,
    /// …to this many.
    pub most_ms: u32,
    /// Of the broadcast.
    pub split: Split,
    /// How many of the four that remain lack entries, each more than the next: 0, 1 or 3.
    pub shorter: usize,
}

impl Setting {
    /// As in the figure.
    pub const fn usual(least_ms: u32, most_ms: u32) -> Self {
        Self {
            least_ms,
            most_ms,
            split: Split::Early,
            shorter: 1,
        }
    }

    /// In words.
    pub fn told(&self) -> String {
        let split = match self.split {
            Split::Early => "",
            Split::Even => ", 7.5 ms there and 7.5 back",
        };
        let logs = match self.shorter {
            0 => ", all logs alike",
            1 => "",
            _ => ", no two logs alike",
        };
        format!("{}-{} ms{split}{logs}", self.least_ms, self.most_ms)
    }

    /// What the paper says of it.
    pub fn paper(&self) -> &'static str {
        match (self.least_ms, self.most_ms, self.split, self.shorter) {
            (150, 150, Split::Early, 1) => "over 10 s",
            (150, 155, Split::Early, 1) => "median 287",
            (150, 200, Split::Early, 1) => "worst 513",
            (12, 24, Split::Early, 1) => "mean 35, worst 152",
            _ => "",
        }
    }

    /// How many trials, when that many are wanted.
    pub fn trials(&self, wanted: u64) -> u64 {
        match self.most_ms - self.least_ms {
            0 | 1 => wanted.min(ENDLESS_TRIALS),
            _ => wanted,
        }
    }

    fn raft(&self) -> Settings {
        Settings {
            tick_us: TICK_US,
            election_ticks: self.least_ms,
            spread_ticks: self.most_ms - self.least_ms,
            heartbeat_ticks: self.least_ms / 2,
            pre_vote: false,
            answer_us: match self.split {
                Split::Early => 9_500,
                Split::Even => 0,
            },
        }
    }

    fn pace(&self) -> Pace {
        let delay_us = match self.split {
            Split::Early => (2_250, 2_250),
            Split::Even => (7_000, 7_000),
        };
        Pace {
            delay_us,
            sync_us: (500, 500),
        }
    }

    /// The leader writes what some do not hear; then it dies, some time after a heartbeat.
    fn script(&self, seed: u64) -> Script {
        let mut faults = Vec::new();
        let mut at_ms = 500 + 4 * u64::from(self.most_ms);
        let mut fault = |at_ms: u64, until_ms: Option<u64>, fault| {
            faults.push(Planned {
                at_ms,
                until_ms,
                fault,
            });
        };
        let deaf = |count: usize| (1..=count).collect::<Vec<PeerId>>();
        let apart_ms = at_ms;
        for count in 1..=self.shorter {
            let (from, to) = (vec![LEADER], deaf(count));
            fault(at_ms, Some(at_ms + 3), Fault::OneWay { from, to });
            let request = format!("write {count}");
            let node = LEADER;
            fault(at_ms + 1, None, Fault::Ask { node, request });
            at_ms += 4;
        }
        let heartbeat_ms = u64::from(self.least_ms / 2);
        let after_ms = at_ms + 10 + 2 * heartbeat_ms;
        // Its phase is drawn, too: the heartbeats' is fixed by when it came to lead.
        let dies_ms = Rng::new(seed)
            .fork(11)
            .range(after_ms, after_ms + heartbeat_ms);
        if self.shorter > 0 {
            // The leader does not hear what is missing, and so does not mend it.
            let (from, to) = (deaf(self.shorter), vec![LEADER]);
            fault(apart_ms, Some(dies_ms), Fault::OneWay { from, to });
        }
        fault(dies_ms, None, Fault::Crash { node: LEADER });
        faults.sort_by_key(|planned| planned.at_ms);
        Script { faults }
    }
}

/// The figure's two charts, and what else there is to compare.
pub fn all() -> (Vec<Setting>, Vec<Setting>, Vec<Setting>) {
    let top = [
        (150, 150),
        (150, 151),
        (150, 155),
        (150, 175),
        (150, 200),
        (150, 300),
    ];
    let bottom = [(12, 24), (25, 50), (50, 100), (100, 200), (150, 300)];
    let usual = |pairs: &[(u32, u32)]| {
        let all = pairs
            .iter()
            .map(|(least, most)| Setting::usual(*least, *most));
        all.collect::<Vec<_>>()
    };
    let of = Setting::usual(150, 155);
    let others = vec![
        Setting { shorter: 0, ..of },
        Setting { shorter: 3, ..of },
        Setting {
            split: Split::Even,
            ..of
        },
    ];
    (usual(&top), usual(&bottom), others)
}

/// Five servers, of which the last is made to lead; from its death on it is waited for another.
#[derive(Clone, Debug)]
struct Downtime {
    safety: Terms,
    leads: bool,
    died_us: Option<u64>,
}

impl Field for Downtime {
    type Request = Request;
    type Decision = Decision;

    fn begin(&mut self, desk: &mut Desk<Request>) {
        desk.ask(0, LEADER, Request::Suspect);
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        match (*decision, self.died_us) {
            (Decision::Leader { leader, .. }, None) if node == LEADER => {
                self.leads = leader == LEADER;
                if !self.leads {
                    desk.ask(1_000, LEADER, Request::Suspect);
                }
            }
            (Decision::Leaderless, None) if node == LEADER => self.leads = false,
            (Decision::Leader { leader, .. }, Some(died_us)) if leader == node => {
                desk.figure("downtime", desk.now_us - died_us);
                desk.enough = true;
            }
            _ => {}
        }
    }

    fn crashed(&mut self, desk: &mut Desk<Request>, _: PeerId) {
        if !self.leads {
            // It was not to be: nothing is measured.
            desk.figure("discarded", 1);
            desk.enough = true;
        }
        self.died_us = Some(desk.now_us);
    }

    fn finish(&mut self, _: &mut Desk<Request>) {}

    fn parse(&self, word: &str) -> Option<Request> {
        Some(Request::Write(word.strip_prefix("write ")?.parse().ok()?))
    }
}

/// One trial.
pub fn trial(setting: &Setting, seed: u64) -> Outcome {
    let script = setting.script(seed);
    let until_ms = script.end_ms() + LIMIT_US / 1_000;
    let plan = Plan {
        nodes: NODES,
        seed,
        script,
        until_ms,
        pace: setting.pace(),
        keep: false,
    };
    let field = Downtime {
        safety: Terms::default(),
        leads: false,
        died_us: None,
    };
    run(&plan, &|me| Raft::with(me, NODES, setting.raft()), field)
}

/// What the trials of a setting came to.
#[derive(Clone, Debug)]
pub struct Downtimes {
    /// Which.
    pub setting: Setting,
    /// How long there was no leader, in microseconds; [`LIMIT_US`] where there was none at the end.
    pub sorted_us: Vec<u64>,
    /// How many these are.
    pub leaderless: u64,
    /// Trials in which the leader had lost its office before.
    pub discarded: u64,
}

impl Downtimes {
    /// No trial yet.
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            sorted_us: Vec::new(),
            leaderless: 0,
            discarded: 0,
        }
    }

    /// One more.
    pub fn add(&mut self, trial: &Outcome) {
        if trial.figures.contains_key("discarded") {
            self.discarded += 1;
            return;
        }
        let took_us = trial.figures.get("downtime").and_then(|took| took.first());
        self.leaderless += u64::from(took_us.is_none());
        self.sorted_us.push(took_us.copied().unwrap_or(LIMIT_US));
    }

    /// All are in.
    pub fn sort(&mut self) {
        self.sorted_us.sort_unstable();
    }

    /// What so many of a thousand trials do not exceed, in milliseconds.
    pub fn ms(&self, per_mille: usize) -> f64 {
        super::text::quantile(&self.sorted_us, per_mille) as f64 / 1_000.0
    }
}
