//! Calls about global transactions, and what the leader of their shard does for them unasked: it has their
//! services called, as [`Driver`] says, and proposes what came of it.

use super::checks::{Probe, ProbeResult, ProbeTarget};
use super::{CallReply, Seen, Watched};
use crate::core::Ask;
use crate::event::Action;
use crate::front::Context;
use base::planted::{Bug, planted};
use base::{Origin, ShardId};
use catalog::TREE_SHARD;
use shard::{DataUnit, Shard};
use transactions::global::{
    Command, Driver, Global, Globals, Kind, Outcome, Request, Status, Todo, Unit, judge,
};

/// The shard that holds them: the one of which a node's calls find every replica, and whose order of all
/// transactions a list shows.
pub const SHARD: ShardId = TREE_SHARD;

/// Rows that a list looks at; the rest is for the next.
const LOOKED_MAX: usize = 10_000;

/// A question about global transactions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GlobalsQuery {
    /// One of them.
    One {
        /// Which.
        gid: String,
    },
    /// Some of them, by gid.
    List {
        /// Behind this one.
        after: String,
        /// At most so many.
        count_max: usize,
        /// Only parked ones.
        parked: bool,
        /// Only those in this state.
        status: Option<Status>,
        /// Only those of this kind.
        kind: Option<Kind>,
        /// Only those begun from the first on and before the second, Unix milliseconds.
        created_ms: (i64, i64),
    },
}

/// The answer to the question of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GlobalsAnswer {
    /// It, if it is there.
    One(Option<Global>),
    /// Some of them.
    List {
        /// With their gids.
        rows: Vec<(String, Global)>,
        /// Where to go on; `None`: that was all.
        next: Option<String>,
    },
}

/// The unit of a command.
pub fn unit(origin: Origin, command: Command) -> DataUnit {
    DataUnit::Globals(Unit { origin, command })
}

/// What a query sees.
pub fn look(globals: &Globals, query: &GlobalsQuery) -> Seen {
    let (answer, index, watched) = match query {
        GlobalsQuery::One { gid } => {
            let global = globals.get(gid).cloned();
            let version = global.as_ref().map_or(0, |global| global.version);
            let watched = vec![Watched::Global(gid.clone())];
            (GlobalsAnswer::One(global), version, watched)
        }
        GlobalsQuery::List {
            after,
            count_max,
            parked,
            status,
            kind,
            created_ms: (from_ms, until_ms),
        } => {
            let (mut rows, mut last, mut has_more) = (Vec::new(), None, false);
            for (looked, (gid, global)) in globals.after(after).enumerate() {
                if looked >= LOOKED_MAX || rows.len() >= *count_max {
                    has_more = true;
                    break;
                }
                last = Some(gid);
                if (!parked || global.parked.is_some())
                    && status.is_none_or(|status| status == global.status)
                    && kind.is_none_or(|kind| kind == global.kind)
                    && (*from_ms..*until_ms).contains(&global.created_ms)
                {
                    rows.push((gid.clone(), global.clone()));
                }
            }
            let next = last.filter(|_| has_more).cloned();
            (GlobalsAnswer::List { rows, next }, 0, Vec::new())
        }
    };
    Seen {
        reply: CallReply::Globals {
            index,
            answer: Box::new(answer),
        },
        index,
        watched,
    }
}

/// A leader's part.
#[derive(Debug, Default)]
pub struct Calls {
    driver: Driver,
    leads: bool,
    /// There may be something to do.
    is_due: bool,
    calls: u64,
}

impl Calls {
    /// Calls of services that were made here.
    pub fn call_count(&self) -> u64 {
        self.calls
    }

    /// Some transaction has changed.
    pub fn handle_changed(&mut self) {
        self.is_due = true;
    }

    /// Does what became due in this turn.
    pub fn serve(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.is_due) {
            self.handle_tick(cx);
        }
    }

    /// Does what is due.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>) {
        let shard = cx.shard(SHARD).filter(|shard| Shard::is_leader(shard));
        let data = shard.and_then(|shard| shard.machine().data());
        let Some(data) = data else {
            if std::mem::take(&mut self.leads) {
                self.driver.forget();
            }
            return;
        };
        self.leads = true;
        for todo in self.driver.poll(&data.globals, cx.time_ms) {
            match todo {
                Todo::Propose(command) => propose(cx, command),
                Todo::Call { number, request } => {
                    self.calls += 1;
                    call(cx, number, request);
                }
            }
        }
    }

    /// A call has ended.
    pub fn handle_called(&mut self, cx: &mut Context<'_>, number: u64, result: &ProbeResult) {
        let outcome = match result {
            ProbeResult::Answered { code, body } => judge(*code, body),
            ProbeResult::Connected => Outcome::Unknown("no answer".into()),
            ProbeResult::Failed { .. } if planted(Bug::CountSilenceAsDone) => Outcome::Done,
            ProbeResult::Failed { why } => Outcome::Unknown(why.clone()),
        };
        let command = (self.driver).handle_called(number, outcome, cx.time_ms);
        if let Some(command) = command {
            propose(cx, command);
        }
    }
}

fn call(cx: &mut Context<'_>, number: u64, request: Request) {
    let target = ProbeTarget::Http {
        url: request.url,
        method: request.method.into(),
        headers: request.headers,
        body: String::from_utf8_lossy(&request.body).into_owned(),
    };
    cx.actions.push_back(Action::Probe {
        probe: Probe::Call { number },
        target,
        timeout_us: request.timeout_ms.saturating_mul(1_000),
    });
}

fn propose(cx: &mut Context<'_>, command: Command) {
    // One that is lost is due again.
    let unit = unit(Origin::default(), command);
    cx.asks.push(Ask::Propose(SHARD, unit.encode()));
}
