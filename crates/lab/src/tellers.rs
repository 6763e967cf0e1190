//! Tellers: clients that call for transactions over shards and chapters, each until it hears what became of it.
//!
//! Money moves between accounts that lie in several shards; with it goes an element of a list and a node of the
//! tree, both named after the transaction. Now and then all accounts are read at once. What is not answered is
//! asked again under the same id, of any node.

use crate::client::Context;
use crate::player::{Phase, Player};
use crate::world::{ConnectionNote, Place};
use base::Rng;
use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use node::{Call, CallReply, ClientId, Condition, Operation, RequestId, Transacted, Transaction};
use storage::cache::transaction::KeyCondition;
use transactions::TxnId;

/// What each account holds at first.
pub const FUNDS: i64 = 100;
/// The node below which each move leaves one.
pub const MOVES: &str = "/moves";
/// Lists to which each move adds an element.
const LISTS: u64 = 3;
/// What was not answered for so long is asked again, of another node.
const PATIENCE_US: u64 = 2_000_000;

/// The accounts: of the tree's shard, and of slots all over.
pub fn accounts() -> Vec<String> {
    let spread = (0..8).map(|n| format!("account.{n}"));
    spread
        .chain(["{tree}account.0".into(), "{tree}account.1".into()])
        .collect()
}

fn list(number: u64) -> String {
    format!("moves.{number}")
}

/// What a transaction was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Makes everything.
    Found,
    /// Moves money; leaves a node only if so.
    Move { leaves_node: bool },
    /// Reads all accounts.
    Read,
    /// Reads all accounts and lists, when all is over.
    Look,
}

/// A transaction, and what was heard of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What for.
    pub kind: Kind,
    /// What was asked.
    pub transaction: Transaction,
    /// Every answer, in order.
    pub heard: Vec<Transacted>,
}

#[derive(Debug)]
struct Pending {
    /// Its place in the history.
    asked: usize,
    place: Place,
    life: u64,
    request: RequestId,
    since_us: u64,
}

/// A client that calls.
#[derive(Debug)]
pub(crate) struct Teller {
    number: usize,
    rng: Rng,
    pending: Option<Pending>,
    /// To be asked, for want of a node that could be.
    waiting: Option<usize>,
    count: u64,
    /// What it has asked for in this phase.
    step: usize,
    done: bool,
}

fn cache(words: &[&str]) -> Operation {
    Operation::Cache {
        database: 0,
        words: words
            .iter()
            .map(|w| Bytes::copy_from_slice(w.as_bytes()))
            .collect(),
    }
}

fn create(path: String) -> Operation {
    Operation::Tree(TreeOp::Create {
        path,
        data: Bytes::new(),
        acl: vec![Acl::open()],
        mode: CreateMode::Persistent { sequential: false },
    })
}

impl Teller {
    pub(crate) fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            pending: None,
            waiting: None,
            count: 0,
            step: 0,
            done: number > 0,
        }
    }

    /// True while an answer is awaited, which is asked for again if need be.
    fn is_busy(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pending) = &self.pending {
            let lives = cx.world.nodes[pending.place.node].lives(pending.life);
            if lives && cx.world.now_us < pending.since_us + PATIENCE_US {
                return true;
            }
            self.waiting = Some(pending.asked);
            self.pending = None;
        }
        if let Some(asked) = self.waiting {
            self.call(cx, asked, None);
            return true;
        }
        false
    }

    fn ask(&mut self, cx: &mut Context<'_>, kind: Kind, operations: Vec<Operation>) {
        self.count += 1;
        let transaction = Transaction {
            id: TxnId::new(&format!("t{}-{}", self.number, self.count)),
            content: self.count,
            conditions: Vec::new(),
            operations,
        };
        self.ask_for(cx, kind, transaction);
    }

    fn ask_for(&mut self, cx: &mut Context<'_>, kind: Kind, transaction: Transaction) {
        cx.history.asked.push(Asked {
            kind,
            transaction,
            heard: Vec::new(),
        });
        self.call(cx, cx.history.asked.len() - 1, None);
    }

    /// Calls a core: the one named, or the first of any node.
    fn call(&mut self, cx: &mut Context<'_>, asked: usize, place: Option<Place>) {
        let up: Vec<usize> = (cx.nodes.iter().copied())
            .filter(|node| cx.world.is_up(*node))
            .collect();
        self.waiting = Some(asked);
        let place = match place {
            Some(place) => place,
            None if up.is_empty() => return,
            None => Place {
                node: up[self.rng.range(0, up.len() as u64) as usize],
                core: 0,
            },
        };
        let call = Call::Transact(Box::new(cx.history.asked[asked].transaction.clone()));
        self.waiting = None;
        self.pending = Some(Pending {
            asked,
            place,
            life: cx.world.nodes[place.node].life,
            request: cx.world.call(place, call),
            since_us: cx.world.now_us,
        });
    }

    fn set_up(&mut self, cx: &mut Context<'_>) {
        if self.is_busy(cx) || self.done {
            return;
        }
        self.step += 1;
        if self.step > 1 {
            self.done = true;
            return;
        }
        let funds = FUNDS.to_string();
        let mut operations: Vec<Operation> = (accounts().iter())
            .map(|account| cache(&["SET", account, &funds]))
            .collect();
        operations.push(create(MOVES.into()));
        self.ask(cx, Kind::Found, operations);
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        if self.is_busy(cx) {
            return;
        }
        match self.rng.range(0, 10) {
            0..2 => self.read(cx),
            2 => {
                // Alone in its shard, between those that are not.
                let accounts = accounts();
                let account = &accounts[self.rng.range(0, accounts.len() as u64) as usize];
                let steps = vec![
                    cache(&["INCRBY", account, "7"]),
                    cache(&["DECRBY", account, "7"]),
                ];
                self.ask(cx, Kind::Move { leaves_node: false }, steps);
            }
            3 => self.repeat(cx),
            _ => self.transfer(cx),
        }
    }

    fn transfer(&mut self, cx: &mut Context<'_>) {
        let accounts = accounts();
        let any = |rng: &mut Rng| &accounts[rng.range(0, accounts.len() as u64) as usize];
        let (from, to) = (any(&mut self.rng), any(&mut self.rng));
        let amount = self.rng.range(1, 40).to_string();
        let id = format!("t{}-{}", self.number, self.count + 1);
        let mut operations = vec![
            cache(&["DECRBY", from, &amount]),
            cache(&["INCRBY", to, &amount]),
            cache(&["RPUSH", &list(self.rng.range(0, LISTS)), &id]),
        ];
        let leaves_node = !self.rng.one_in(3);
        if leaves_node {
            operations.push(create(format!("{MOVES}/{id}")));
        }
        if self.rng.one_in(3) {
            // What others count by is held for a moment.
            operations.push(cache(&["GET", &crate::cache::key("a", "count")]));
        }
        self.count += 1;
        let mut conditions = Vec::new();
        if self.rng.one_in(5) {
            conditions.push(Condition::Key {
                database: 0,
                key: Bytes::from(from.clone()),
                is: KeyCondition::Equals(Bytes::from(FUNDS.to_string())),
            });
        }
        if self.rng.one_in(8) {
            let (path, version) = ("/".into(), -1);
            conditions.push(Condition::Node { path, version });
        }
        let transaction = Transaction {
            id: TxnId::new(&id),
            content: self.count,
            conditions,
            operations,
        };
        self.ask_for(cx, Kind::Move { leaves_node }, transaction);
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        let reads = accounts().iter().map(|a| cache(&["GET", a])).collect();
        self.ask(cx, Kind::Read, reads);
    }

    /// Asks again for something that has ended.
    fn repeat(&mut self, cx: &mut Context<'_>) {
        let asked = self.rng.range(0, cx.history.asked.len() as u64) as usize;
        if !cx.history.asked[asked].heard.is_empty() {
            self.call(cx, asked, None);
        }
    }

    /// One more move goes through.
    fn insist_on_moving(&mut self, cx: &mut Context<'_>) {
        if self.is_busy(cx) || self.done {
            return;
        }
        self.step += 1;
        match self.step {
            1 => self.transfer(cx),
            _ => self.done = true,
        }
    }

    /// Everything is read, and some of what has ended asked for again.
    fn insist_on_reading(&mut self, cx: &mut Context<'_>) {
        if self.is_busy(cx) || self.done {
            return;
        }
        self.step += 1;
        match self.step {
            1 => {
                let mut reads: Vec<Operation> =
                    accounts().iter().map(|a| cache(&["GET", a])).collect();
                reads.extend((0..LISTS).map(|n| cache(&["LRANGE", &list(n), "0", "-1"])));
                self.ask(cx, Kind::Look, reads);
            }
            2..6 => self.repeat(cx),
            _ => self.done = true,
        }
    }
}

impl Player for Teller {
    fn begin(&mut self, phase: Phase) {
        self.step = 0;
        self.done = matches!(phase, Phase::Quiet | Phase::Dump | Phase::Done);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        let Some(pending) = self.pending.take_if(|p| p.request == request) else {
            return;
        };
        match reply {
            CallReply::Transacted { transacted, .. } => {
                cx.history.asked[pending.asked]
                    .heard
                    .push(transacted.clone());
            }
            CallReply::NotHere { .. } => {
                let node = &cx.world.nodes[pending.place.node];
                let next = Place {
                    core: pending.place.core + 1,
                    ..pending.place
                };
                if node.lives(pending.life) && next.core < node.cores() {
                    return self.call(cx, pending.asked, Some(next));
                }
                self.waiting = Some(pending.asked);
            }
            _ => self.waiting = Some(pending.asked),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        match phase {
            Phase::Setup if self.number == 0 => self.set_up(cx),
            Phase::Work => self.work(cx),
            Phase::Heal => self.insist_on_moving(cx),
            Phase::Look => self.insist_on_reading(cx),
            Phase::Setup | Phase::Quiet | Phase::Dump | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn describe(&self) -> String {
        let (number, pending) = (self.number, &self.pending);
        format!("teller {number} ({pending:?}, waiting {:?})", self.waiting)
    }
}
