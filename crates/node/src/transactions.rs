//! Transactions between shards, as far as a core has to do with them: it carries what its leaders tell other
//! shards, and asks again where nobody has answered. It remembers nothing; all that matters is in the shards.

use crate::core::{Ask, Core};
use crate::event::Endpoint;
use crate::frame::Frame;
use base::{Now, ShardId};
use shard::transaction::Work;
use shard::{DataUnit, Shard};
use transactions::{Output, Unit};

/// Leaders look this often for what has to be asked again, in microseconds.
const RESEND_US: u64 = 250_000;
/// What one leader asks again at a time.
const RESENT_MAX: usize = 200;

impl Core {
    /// One output of a shard's transactions, in apply order.
    pub(crate) fn transactions_output(&mut self, now: Now, id: ShardId, output: Output<Work>) {
        match output {
            Output::Tell { to, unit } => {
                if self.replicas.get(id).is_some_and(Shard::is_leader) {
                    self.tell_shard(to, unit);
                }
            }
            Output::Reply {
                origin,
                id,
                outcome,
            } => {
                self.with_desk(now, |desk, cx| {
                    desk.handle_transaction(cx, origin, id, outcome);
                });
            }
        }
    }

    /// Asks again for what the shards that are led here wait for.
    pub(crate) fn resend_transactions(&mut self, now: Now) {
        if now.mono_us < self.timers.transactions_us {
            return;
        }
        self.timers.transactions_us = now.mono_us + RESEND_US;
        let time_ms = self.stamp_clock.read_ms(now);
        for id in self.replicas.ids() {
            let Some(shard) = self.replicas.get(id).filter(|s| s.is_leader()) else {
                continue;
            };
            let Some(data) = shard.machine().data() else {
                continue;
            };
            for (to, unit) in data.transactions.due(time_ms, RESENT_MAX) {
                self.tell_shard(to, unit);
            }
        }
    }

    /// Has a unit proposed to another shard, wherever that is led. It may be lost.
    fn tell_shard(&mut self, to: ShardId, unit: Unit<Work>) {
        let unit = DataUnit::Transactions(unit).encode();
        if !self.holds(to) {
            let core = crate::peers::core_of(to, self.config.lanes, self.config.cores);
            let address = self.config.address.clone();
            return self.send(Endpoint { address, core }, &Frame::Tell { shard: to, unit });
        }
        if self.router.leader(to).is_some() {
            self.asks.push(Ask::Propose(to, unit));
        }
    }
}
