//! Reads every key through one node.

use super::client::Client;
use super::workload::last_look;
use super::{Answer, Dump, Op, OperationId};
use crate::client::Context;
use base::Rng;
use node::ClientId;
use std::collections::{BTreeSet, VecDeque};

const OUTSTANDING_MAX: usize = 64;

/// A client that reads everything. It starts again when its connection breaks.
#[derive(Debug)]
pub struct Dumper {
    /// The client.
    pub client: Client,
    /// Its node.
    pub node: usize,
    connection: Option<ClientId>,
    since_us: u64,
    wanted: VecDeque<Op>,
    under_way: VecDeque<OperationId>,
    dump: Dump,
    done: bool,
}

impl Dumper {
    /// A client that reads from `node`.
    pub fn new(number: usize, node: usize, rng: Rng) -> Self {
        let mut client = Client::new(number, rng);
        client.pinned = Some(node);
        Self {
            client,
            node,
            connection: None,
            since_us: 0,
            wanted: VecDeque::new(),
            under_way: VecDeque::new(),
            dump: Dump::new(),
            done: false,
        }
    }

    /// True when everything was read.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What was read: the node, when that began, the keys that are there.
    pub fn take(&mut self) -> (usize, u64, Dump) {
        (self.node, self.since_us, std::mem::take(&mut self.dump))
    }

    /// Goes on.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        self.client.tick(cx);
        if self.done || !self.client.is_ready() {
            return;
        }
        if self.connection != self.client.connection() {
            self.connection = self.client.connection();
            self.since_us = cx.world.now_us;
            self.dump.clear();
            self.under_way.clear();
            self.wanted = last_look().into();
            let mortals: BTreeSet<&String> = (cx.history.cache.operations.iter())
                .filter_map(|operation| match &operation.op {
                    Op::Set { key, .. } if key.contains("}mortal.") => Some(key),
                    _ => None,
                })
                .collect();
            self.wanted
                .extend(mortals.into_iter().cloned().map(Op::Get));
        }
        while let Some(id) = self.under_way.front() {
            let operation = &cx.history.cache.operations[*id];
            let Some(reply) = &operation.reply else { break };
            match (&operation.op, &reply.result) {
                (Op::Get(_), Ok(Answer::Nil)) => {}
                (Op::Get(key) | Op::Range(key), Ok(answer)) => {
                    self.dump.insert(key.clone(), answer.clone());
                }
                (op, _) => self.wanted.push_back(op.clone()),
            }
            self.under_way.pop_front();
        }
        let room = OUTSTANDING_MAX.saturating_sub(self.client.outstanding());
        let batch: Vec<Op> = self.wanted.drain(..room.min(self.wanted.len())).collect();
        if !batch.is_empty() {
            self.under_way.extend(self.client.send(cx, batch));
        }
        self.done = self.under_way.is_empty() && self.wanted.is_empty();
    }
}
