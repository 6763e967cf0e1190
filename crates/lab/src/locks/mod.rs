//! Contenders for locks in a run: the recipes of `coordination::lock`, over real bytes to simulated nodes, and what
//! the locks protect.
//!
//! Some players contend on the tree, others on the cache; those of a kind contend for one lock. Whoever holds it
//! exclusively writes to a resource now and then, and each write may be on its way for longer than the lock is
//! held, so that writes of an earlier holder arrive behind those of a later one. The resource looks at fences.

pub mod cache;
pub mod tree;

use crate::client::Context;
use crate::player::Phase;
use base::Rng;
use coordination::lock::Mode;
use coordination::lock::guard::Guard;
use std::collections::BTreeMap;

/// The lock on the tree, and that on the cache.
pub const LOCKS: [&str; 2] = ["/locks/a", "a"];

/// One time that somebody held a lock.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Who.
    pub player: usize,
    /// Which lock.
    pub lock: &'static str,
    /// How.
    pub mode: Mode,
    /// With which fence.
    pub fence: u64,
    /// Since when it had wanted it.
    pub wanted_us: u64,
    /// When it learned that it has it.
    pub held_us: u64,
    /// A request sent then was answered in a way that shows that it had the lock still.
    pub confirmed_us: u64,
}

/// What a lock protects.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    guard: Guard,
    /// Fences of the writes that were taken, in their order.
    pub taken: Vec<u64>,
    /// How many were refused.
    pub refused: u64,
    /// Writes under way: when they arrive, in order, and their fence.
    on_the_way: BTreeMap<(u64, u64), u64>,
    sent: u64,
}

impl Resource {
    fn send(&mut self, arrives_us: u64, fence: u64) {
        self.sent += 1;
        self.on_the_way.insert((arrives_us, self.sent), fence);
    }

    fn receive(&mut self, now_us: u64) {
        while let Some(first) = self.on_the_way.first_entry()
            && first.key().0 <= now_us
        {
            let fence = first.remove();
            match self.guard.admit(fence) {
                true => self.taken.push(fence),
                false => self.refused += 1,
            }
        }
    }
}

/// What contenders did and saw.
#[derive(Clone, Debug, Default)]
pub struct LockHistory {
    /// In the order in which they began.
    pub holds: Vec<Hold>,
    /// By lock.
    pub resources: BTreeMap<&'static str, Resource>,
}

/// What a player is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// Contend, break connections, stop waiting.
    Freely,
    /// Hold the lock once more, then rest.
    Once,
    /// Only stay connected.
    Rest,
}

impl Play {
    /// What a phase asks.
    fn of(phase: Phase) -> Self {
        match phase {
            Phase::Work => Self::Freely,
            Phase::Heal => Self::Once,
            _ => Self::Rest,
        }
    }

    /// True for a phase that asks nothing of a contender.
    fn is_done_in(phase: Phase) -> bool {
        matches!(phase, Phase::Setup | Phase::Dump)
    }
}

/// Lets what has arrived at the resources take effect.
fn receive(cx: &mut Context<'_>) {
    for resource in cx.history.locks.resources.values_mut() {
        resource.receive(cx.world.now_us);
    }
}

/// A hold under way.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Its position in [`LockHistory::holds`].
    number: usize,
    until_us: u64,
    write_us: u64,
}

/// Begins a hold, and lets the holder write.
fn hold(
    cx: &mut Context<'_>,
    rng: &mut Rng,
    held: &mut Option<Held>,
    begin: impl FnOnce(u64) -> Hold,
) {
    let now_us = cx.world.now_us;
    let locks = &mut cx.history.locks;
    let held = held.get_or_insert_with(|| {
        locks.holds.push(begin(now_us));
        Held {
            number: locks.holds.len() - 1,
            until_us: now_us + rng.range(20_000, 600_000),
            write_us: now_us,
        }
    });
    let Hold {
        lock, fence, mode, ..
    } = locks.holds[held.number];
    if mode == Mode::Exclusive && now_us >= held.write_us {
        held.write_us = now_us + rng.range(10_000, 150_000);
        let delay_us = [1_000, 1_000, 1_000, 1_500_000][rng.range(0, 4) as usize];
        let arrives_us = now_us + rng.range(delay_us / 2, delay_us);
        locks
            .resources
            .entry(lock)
            .or_default()
            .send(arrives_us, fence);
    }
}
