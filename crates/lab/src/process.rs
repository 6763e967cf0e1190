//! What the world runs: a core, or in the world's own tests something simpler.

use base::{LaneId, Now};
use node::{Action, Core, CoreConfig, Endpoint, Event, Hello};

/// A sans-IO process. The methods are those of [`node::Core`].
pub trait Process {
    /// Takes one event.
    fn handle(&mut self, now: Now, event: Event);
    /// Called once after a batch of events.
    fn flush(&mut self, now: Now);
    /// The next action, in order.
    fn poll_action(&mut self) -> Option<Action>;
    /// Monotonic microseconds at which a tick is wanted.
    fn deadline_us(&self) -> u64;
    /// What is said first on a stream dialled to `to`.
    fn hello(&self, to: &Endpoint) -> Hello;
}

impl Process for Core {
    fn handle(&mut self, now: Now, event: Event) {
        Core::handle(self, now, event);
    }
    fn flush(&mut self, now: Now) {
        Core::flush(self, now);
    }
    fn poll_action(&mut self) -> Option<Action> {
        Core::poll_action(self)
    }
    fn deadline_us(&self) -> u64 {
        Core::deadline_us(self)
    }
    fn hello(&self, to: &Endpoint) -> Hello {
        Core::hello(self, to)
    }
}

/// How a core is started from what its lanes hold.
pub type Boot = fn(Now, CoreConfig, &crate::disk::Disk) -> Box<dyn Process>;

/// Starts a real core.
pub fn boot_core(now: Now, config: CoreConfig, disk: &crate::disk::Disk) -> Box<dyn Process> {
    let lanes = (0..config.lanes)
        .filter(|lane| lane % config.cores == config.core.0)
        .map(|number| {
            let lane = LaneId(number);
            let mut recovery = journal::Recovery::new();
            for (segment, content) in disk.segments(lane) {
                recovery.feed(segment, content);
            }
            let start = node::LaneStart {
                recovery,
                identity: disk.identity(lane),
                snapshots: disk.snapshots(lane),
            };
            (lane, start)
        })
        .collect();
    Box::new(Core::new(now, config, lanes))
}
