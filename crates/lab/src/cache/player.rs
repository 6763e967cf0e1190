//! One of the cache's clients with what it is about.

use super::client::Client;
use super::workload::{Intentions, foundation, last_look};
use super::{Answer, Op, OperationId, accounts};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use node::ClientId;

const OUTSTANDING_MAX: usize = 8;
/// Own keys that are read again.
const MORTALS_MAX: usize = 8;

/// A transfer whose balances are being read under a watch.
#[derive(Debug)]
struct Transfer {
    accounts: [String; 2],
    watch: OperationId,
    read: OperationId,
}

/// A key that ends, and its owner's next step with it.
#[derive(Debug)]
struct Mortal {
    key: String,
    /// The latest write.
    write: OperationId,
    step: u32,
    /// Not before.
    due_us: u64,
}

/// A client and its intentions.
#[derive(Debug)]
pub struct Player {
    client: Client,
    intentions: Intentions,
    transfer: Option<Transfer>,
    mortal: Option<Mortal>,
    mortals: Vec<String>,
    pending: Vec<OperationId>,
    done: bool,
}

impl Player {
    /// A client with intentions.
    pub fn new(number: usize, rng: Rng, padding: usize) -> Self {
        Self {
            intentions: Intentions::new(number, rng.fork(1), padding),
            client: Client::new(number, rng),
            transfer: None,
            mortal: None,
            mortals: Vec::new(),
            pending: Vec::new(),
            done: number > 0,
        }
    }

    /// Something of everything.
    fn work(&mut self, cx: &mut Context<'_>) {
        if self.client.outstanding() >= OUTSTANDING_MAX {
            return;
        }
        self.go_on_with_mortal(cx);
        if self.transfer.is_some() {
            return self.go_on_with_transfer(cx);
        }
        match self.client.rng.range(0, 1_000) {
            0..8 => {
                let silently = self.client.rng.one_in(2);
                self.client.abandon(cx, silently);
            }
            8..90 => self.begin_transfer(cx),
            90..140 if !self.mortals.is_empty() => {
                let pick = self.client.rng.range(0, self.mortals.len() as u64);
                let key = self.mortals[pick as usize].clone();
                self.client.send(cx, vec![Op::Get(key)]);
            }
            _ => {
                let ops = self.intentions.next();
                self.client.send(cx, ops);
            }
        }
    }

    fn begin_transfer(&mut self, cx: &mut Context<'_>) {
        let accounts = accounts(self.intentions.tag());
        let ops = vec![Op::Watch(accounts.to_vec()), Op::GetAll(accounts.to_vec())];
        if let [watch, read] = self.client.send(cx, ops)[..] {
            self.transfer = Some(Transfer {
                accounts,
                watch,
                read,
            });
        }
    }

    fn go_on_with_transfer(&mut self, cx: &mut Context<'_>) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let operations = &cx.history.cache.operations;
        let (watch, read) = (&operations[transfer.watch], &operations[transfer.read]);
        let is_here = self.client.connection() == Some(read.connection);
        if is_here && read.reply.is_none() {
            return;
        }
        let balances = match (is_here, watch.answer(), read.answer()) {
            (true, Some(_), Some(Answer::Many(values))) => balances(values),
            _ => None,
        };
        let accounts = transfer.accounts.clone();
        self.transfer = None;
        if let Some(balances) = balances {
            let exec = self.intentions.transfer(accounts, balances);
            self.client.send(cx, vec![exec]);
        }
    }

    /// A key of its own: it is set to end soon, set anew when that is about to happen, read, deleted, read.
    fn go_on_with_mortal(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let Some(mortal) = &mut self.mortal else {
            let key = self.intentions.mortal();
            let ends_ms = self.client.rng.range(30, 150) as u32;
            let value = self.intentions.value();
            let set = Op::Set {
                key: key.clone(),
                value,
                ends_ms: Some(ends_ms),
            };
            if let [write] = self.client.send(cx, vec![set])[..] {
                self.mortal = Some(Mortal {
                    key,
                    write,
                    step: 1,
                    due_us: now_us + u64::from(ends_ms) * 1_000 + self.client.rng.range(0, 100_000),
                });
            }
            return;
        };
        let operation = &cx.history.cache.operations[mortal.write];
        let is_here = self.client.connection() == Some(operation.connection);
        if operation.answer().is_none() {
            // Another write behind one of unknown outcome would be in no known order with it.
            if !is_here || operation.reply.is_some() {
                self.mortal = None;
            }
            return;
        }
        if now_us < mortal.due_us {
            return;
        }
        let rng = &mut self.client.rng;
        mortal.due_us = now_us + rng.range(20_000, 200_000);
        let key = mortal.key.clone();
        let op = match mortal.step {
            1 => Op::Set {
                key,
                value: self.intentions.value(),
                ends_ms: rng.one_in(3).then(|| rng.range(4_000, 6_000) as u32),
            },
            3 if !matches!(operation.op, Op::Set { ends_ms: None, .. }) || rng.one_in(4) => {
                self.mortals.push(key);
                if self.mortals.len() > MORTALS_MAX {
                    self.mortals.remove(0);
                }
                self.mortal = None;
                return;
            }
            3 => Op::Delete(key),
            _ => Op::Get(key),
        };
        let is_write = !matches!(op, Op::Get(_));
        let sent = self.client.send(cx, vec![op]);
        mortal.step += 1;
        if let ([write], true) = (&sent[..], is_write) {
            mortal.write = *write;
        }
        if mortal.step > 4 {
            self.mortal = None;
        }
    }

    /// Sends the same until all of it is answered on one connection.
    fn insist(&mut self, cx: &mut Context<'_>, what: impl FnOnce(&mut Intentions) -> Vec<Op>) {
        if self.done || self.client.outstanding() > 0 {
            return;
        }
        let operations = &cx.history.cache.operations;
        let answered = |id: &OperationId| operations[*id].answer().is_some();
        if !self.pending.is_empty() && self.pending.iter().all(answered) {
            self.done = true;
            return;
        }
        let ops = what(&mut self.intentions);
        self.pending = self.client.send(cx, ops);
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.done = phase == Phase::Dump;
        self.pending.clear();
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        self.client.handle(cx, id, note.clone());
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        self.client.tick(cx);
        if !self.client.is_ready() {
            return;
        }
        match phase {
            Phase::Setup if self.client.number == 0 => self.insist(cx, |_| foundation()),
            Phase::Work => self.work(cx),
            Phase::Heal => self.insist(cx, Intentions::last_write),
            Phase::Look => self.insist(cx, |_| last_look()),
            Phase::Setup | Phase::Quiet | Phase::Dump | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.client.rng
    }

    fn describe(&self) -> String {
        let (number, node) = (self.client.number, self.client.node());
        let ready = self.client.is_ready();
        format!("cache client {number} (connected to {node:?}, ready {ready})")
    }
}

fn balances(values: &[Answer]) -> Option<[i64; 2]> {
    match values {
        [Answer::Text(from), Answer::Text(to)] => Some([from.parse().ok()?, to.parse().ok()?]),
        _ => None,
    }
}
