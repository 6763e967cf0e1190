//! Calls of a client to the desks of nodes: any node that is up is asked, its cores in turn until one does not
//! say that it is not there. What a node that died was asked is never answered.

use crate::client::Context;
use crate::world::Place;
use base::Rng;
use node::{Call, CallReply, RequestId};

/// A call under way, with what it was for.
#[derive(Clone, Debug)]
pub(crate) struct Pending<T> {
    /// What for.
    pub what: T,
    /// Where it is.
    pub place: Place,
    /// When it was sent.
    pub invoked_us: u64,
    call: Call,
    life: u64,
}

/// A client's calls.
#[derive(Debug)]
pub(crate) struct Caller<T> {
    calls: Vec<(RequestId, Pending<T>)>,
    /// Calls sent, and those that were answered.
    pub counts: (usize, usize),
}

impl<T> Caller<T> {
    pub(crate) fn new() -> Self {
        Self {
            calls: Vec::new(),
            counts: (0, 0),
        }
    }

    /// True while a call of a kind is under way.
    pub(crate) fn is_calling(&self, is_it: impl Fn(&T) -> bool) -> bool {
        self.calls.iter().any(|(_, pending)| is_it(&pending.what))
    }

    /// Asks a node that is up, if there is one.
    pub(crate) fn call(&mut self, cx: &mut Context<'_>, rng: &mut Rng, what: T, call: Call) {
        let up: Vec<usize> = (cx.nodes.iter().copied())
            .filter(|node| cx.world.is_up(*node))
            .collect();
        if up.is_empty() {
            return;
        }
        let node = up[rng.range(0, up.len() as u64) as usize];
        self.call_at(cx, node, what, call);
    }

    /// Asks this node, if it is up.
    pub(crate) fn call_at(&mut self, cx: &mut Context<'_>, node: usize, what: T, call: Call) {
        if cx.world.is_up(node) {
            self.counts.0 += 1;
            let invoked_us = cx.world.now_us;
            self.send(cx, what, call, Place { node, core: 0 }, invoked_us);
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, what: T, call: Call, place: Place, invoked_us: u64) {
        let life = cx.world.nodes[place.node].life;
        let request = cx.world.call(place, call.clone());
        let pending = Pending {
            what,
            place,
            invoked_us,
            call,
            life,
        };
        self.calls.push((request, pending));
    }

    /// Takes the answer to one of its calls; `None` when it is another's, or the node's next core is asked.
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        reply: &CallReply,
    ) -> Option<Pending<T>> {
        let at = self.calls.iter().position(|(own, _)| *own == request)?;
        let (_, pending) = self.calls.remove(at);
        let node = &cx.world.nodes[pending.place.node];
        let next = Place {
            core: pending.place.core + 1,
            ..pending.place
        };
        let is_elsewhere = matches!(reply, CallReply::NotHere { .. });
        if is_elsewhere && node.lives(pending.life) && next.core < node.cores() {
            let since_us = pending.invoked_us;
            self.send(cx, pending.what, pending.call, next, since_us);
            return None;
        }
        self.counts.1 += usize::from(!is_elsewhere);
        Some(pending)
    }

    /// Forgets those that will not be answered: the node has died, or the caller's patience with this kind of call, in
    /// microseconds, is over. Yields the latter.
    pub(crate) fn forget_lost(
        &mut self,
        cx: &Context<'_>,
        patience_us: impl Fn(&T) -> u64,
    ) -> Vec<Pending<T>> {
        let world = &cx.world;
        let lives = |p: &Pending<T>| world.nodes[p.place.node].lives(p.life);
        let is_late = |p: &Pending<T>| world.now_us > p.invoked_us + patience_us(&p.what);
        let lost = (self.calls).extract_if(.., |(_, p)| !lives(p) || is_late(p));
        lost.map(|(_, p)| p).filter(lives).collect()
    }

    /// What the calls under way are for.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &T> {
        self.calls.iter().map(|(_, pending)| &pending.what)
    }

    /// Nobody waits for any of them any more.
    pub(crate) fn forget(&mut self) {
        self.calls.clear();
    }
}
