//! Who takes part in a run as a client, and ZooKeeper's.

use crate::client::{Client, Context};
use crate::history::{Op, OperationId};
use crate::workload::{Intentions, foundation};
use crate::world::{ConnectionNote, Probing};
use base::Rng;
use node::{CallReply, ClientId, RequestId};

const OUTSTANDING_MAX: usize = 8;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The first client of each kind makes what the others need.
    Setup,
    /// Everybody does something of everything.
    Work,
    /// Faults have ended; every client must get a write through.
    Heal,
    /// Nothing new but the last look.
    Look,
    /// Sessions that were left behind run out.
    Quiet,
    /// Everything is read.
    Dump,
    /// It is over.
    Done,
}

/// A client with intentions, whatever it speaks.
pub trait Player {
    /// A phase begins.
    fn begin(&mut self, phase: Phase);
    /// What the phase asks of it is done.
    fn is_done(&self) -> bool;
    /// Takes what arrived on a connection, if that is its own.
    fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote);
    /// Takes the answer to a call, if that is its own.
    fn handle_called(&mut self, _: &mut Context<'_>, _: RequestId, _: &CallReply) {}
    /// Answers a node's question whether something answers, or will; false when it stands for no such thing.
    fn handle_probe(&mut self, _: &mut Context<'_>, _: &Probing) -> bool {
        false
    }
    /// Does something.
    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase);
    /// Its own randomness: how soon it does something again is drawn from that.
    fn rng(&mut self) -> &mut Rng;
    /// Calls to desks that it sent, and those that were answered.
    fn calls(&self) -> (usize, usize) {
        (0, 0)
    }
    /// What it is and where, in words.
    fn describe(&self) -> String;
    /// What is wrong with how it ends.
    fn objection(&self) -> Option<String> {
        None
    }
}

/// One of ZooKeeper's clients.
#[derive(Debug)]
pub struct Zookeeper {
    client: Client,
    intentions: Intentions,
    /// Clients that there are.
    clients: usize,
    /// The setup's next node, or the last write or look under way.
    pending: Vec<OperationId>,
    progress: usize,
    done: bool,
}

impl Zookeeper {
    /// Of so many clients the one with this number.
    pub fn new(number: usize, clients: usize, mut rng: Rng, padding: usize) -> Self {
        let timeout_ms = rng.range(1_500, 6_000) as u32;
        let intentions = Intentions::new(number, rng.fork(1), padding);
        let mut client = Client::new(number, rng, timeout_ms);
        client.credentials = number % 2 == 1;
        Self {
            client,
            intentions,
            clients,
            pending: Vec::new(),
            progress: 0,
            done: number > 0,
        }
    }

    fn set_up(&mut self, cx: &mut Context<'_>) {
        if self.done || self.client.outstanding() > 0 {
            return;
        }
        let settled = self.pending.first().is_some_and(|id| {
            let reply = &cx.history.operations[*id].reply;
            reply
                .as_ref()
                .is_some_and(|r| matches!(r.result, Ok(_) | Err(-110)))
        });
        if settled {
            self.progress += 1;
        }
        let mut nodes = foundation();
        if self.progress == nodes.len() {
            self.done = true;
            return;
        }
        let mut op = nodes.swap_remove(self.progress);
        if let Op::Create { value, .. } = &mut op {
            // Attempts of unknown outcome must be told apart.
            *value = format!("{value}#{}", cx.history.operations.len());
        }
        self.pending = self.client.send(cx, vec![op]);
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let client = &mut self.client;
        if client.outstanding() >= OUTSTANDING_MAX {
            return;
        }
        if client.has_ghost() && client.rng.one_in(2) {
            client.send_as_ghost(cx, self.intentions.as_ghost());
        }
        match client.rng.range(0, 1_000) {
            0..3 => {
                let timeout_us = u64::from(client.timeout_ms) * 1000;
                client.nap_until_us =
                    now_us + client.rng.range(timeout_us / 2, timeout_us * 8 / 10);
            }
            3..10 => client.steal(cx),
            10..18 => {
                let silently = client.rng.one_in(2);
                client.abandon(cx, silently);
            }
            18..20 => {
                client.send(cx, vec![Op::Close]);
            }
            20..40 => {
                client.send(cx, self.intentions.add_watch());
            }
            _ => {
                client.send(cx, self.intentions.next(self.clients));
            }
        }
    }

    /// Sends the same until all of it is answered on one connection.
    fn insist(&mut self, cx: &mut Context<'_>, what: impl FnOnce(&mut Intentions) -> Vec<Op>) {
        if self.done || self.client.outstanding() > 0 {
            return;
        }
        let answered = |id: &OperationId| {
            let reply = &cx.history.operations[*id].reply;
            reply
                .as_ref()
                .is_some_and(|r| matches!(r.result, Ok(_) | Err(-101)))
        };
        if !self.pending.is_empty() && self.pending.iter().all(answered) {
            self.done = true;
            return;
        }
        self.pending = self.client.send(cx, what(&mut self.intentions));
    }
}

impl Player for Zookeeper {
    fn begin(&mut self, phase: Phase) {
        self.done = phase == Phase::Dump;
        self.pending.clear();
        self.progress = 0;
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        self.client.handle(cx, id, note.clone());
        if self.client.take_moved() {
            let ops = self.intentions.as_ghost();
            self.client.send_as_ghost(cx, ops);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        self.client.tick(cx);
        if !self.client.is_ready() || cx.world.now_us < self.client.nap_until_us {
            return;
        }
        match phase {
            Phase::Setup if self.client.number == 0 => self.set_up(cx),
            Phase::Work => self.work(cx),
            Phase::Heal => self.insist(cx, |intentions| intentions.last_write()),
            Phase::Look => self.insist(cx, |_| Intentions::last_look()),
            Phase::Setup | Phase::Quiet | Phase::Dump | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.client.rng
    }

    fn describe(&self) -> String {
        let (number, node) = (self.client.number, self.client.node());
        let ready = self.client.is_ready();
        format!("client {number} (connected to {node:?}, ready {ready})")
    }

    fn objection(&self) -> Option<String> {
        let number = self.client.number;
        self.client.has_ghost().then(|| {
            format!("client {number}'s session moved, and its old home never closed the connection")
        })
    }
}
