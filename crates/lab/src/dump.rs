//! Reads the whole tree through one node, after a sync.

use crate::client::{Client, Context};
use crate::history::{Answer, Op, OperationId, Tree};
use base::Rng;
use node::ClientId;
use std::collections::VecDeque;

const OUTSTANDING_MAX: usize = 64;

/// A client that reads everything. It starts again when its connection breaks.
#[derive(Debug)]
pub(crate) struct Dumper {
    pub(crate) client: Client,
    pub(crate) node: usize,
    connection: Option<ClientId>,
    wanted: VecDeque<Op>,
    under_way: VecDeque<OperationId>,
    tree: Tree,
    done: bool,
}

impl Dumper {
    pub(crate) fn new(number: usize, node: usize, rng: Rng) -> Self {
        let mut client = Client::new(number, rng, 10_000);
        client.pinned = Some(node);
        client.credentials = true;
        Self {
            client,
            node,
            connection: None,
            wanted: VecDeque::new(),
            under_way: VecDeque::new(),
            tree: Tree::new(),
            done: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn take(&mut self) -> Tree {
        std::mem::take(&mut self.tree)
    }

    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.client.tick(cx);
        if self.done || !self.client.is_ready() {
            return;
        }
        if self.connection != self.client.connection() {
            self.connection = self.client.connection();
            self.tree.clear();
            self.wanted.clear();
            self.under_way = self.client.send(cx, vec![Op::Sync, children("/")]).into();
        }
        while let Some(id) = self.under_way.front() {
            let operation = &cx.history.operations[*id];
            let Some(reply) = &operation.reply else { break };
            match (&operation.op, &reply.result) {
                (Op::Children { path, .. }, Ok(Answer::Children(names, _))) => {
                    let parent = path.trim_end_matches('/');
                    for name in names {
                        let path = format!("{parent}/{name}");
                        self.wanted.push_back(Op::Get {
                            path: path.clone(),
                            watch: false,
                        });
                    }
                }
                (Op::Get { path, .. }, Ok(Answer::Data(value, stat))) => {
                    if stat.num_children > 0 {
                        self.wanted.push_back(children(path));
                    }
                    self.tree.insert(path.clone(), (value.clone(), *stat));
                }
                _ => {}
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

fn children(path: &str) -> Op {
    Op::Children {
        path: path.into(),
        watch: false,
    }
}
