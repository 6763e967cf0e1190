//! Clocks: the leader's slewed stamp clock, and the offsets of the others' wall clocks.

use base::Now;
use std::collections::BTreeMap;

/// The clock that a leader stamps entries with: it advances by the monotonic clock, is slewed towards
/// the wall clock by at most one part in [`SLEW`], and never goes back.
///
/// A step of the wall clock is thus smoothed: lifetimes that count in stamp time stretch or shrink by
/// at most 1/[`SLEW`]. A wall clock that is far ahead (more than [`JUMP_MS`]) of a *new* leader's last
/// stamp is taken over at once: the cluster may have been off for a while.
#[derive(Clone, Debug, Default)]
pub struct StampClock {
    last_us: i64,
    last_mono_us: u64,
    started: bool,
}

/// At most one part in this of elapsed time is added or withheld to follow the wall clock.
pub const SLEW: i64 = 20;
/// How far the wall clock may be ahead at a leader's start before it is taken over at once.
pub const JUMP_MS: i64 = 1_000;

impl StampClock {
    /// A new leadership: `floor_ms` is the last stamp in the log.
    pub fn start(&mut self, now: Now, floor_ms: i64) {
        let ahead = now.wall_ms - floor_ms;
        let base_ms = if !(0..=JUMP_MS).contains(&ahead) && ahead > 0 {
            now.wall_ms
        } else {
            floor_ms
        };
        self.last_us = base_ms * 1000;
        self.last_mono_us = now.mono_us;
        self.started = true;
    }

    /// The stamp time now, in milliseconds since 1970.
    pub fn read_ms(&mut self, now: Now) -> i64 {
        if !self.started {
            self.start(now, now.wall_ms);
        }
        let elapsed = now.mono_us.saturating_sub(self.last_mono_us) as i64;
        self.last_mono_us = now.mono_us.max(self.last_mono_us);
        let behind = now.wall_ms * 1000 - (self.last_us + elapsed);
        let slew = behind.clamp(-elapsed / SLEW, elapsed / SLEW);
        self.last_us += elapsed + slew;
        self.last_us / 1000
    }
}

/// What a peer's clock counts among others' after it was last heard, in microseconds. Ours may be set meanwhile, or
/// the peer have left: an old offset would make one member take another for the median than the others do, and
/// leadership would go to and fro between them.
pub const OFFSET_FRESH_US: u64 = 2_000_000;

/// Offsets of the others' wall clocks against ours, from what they say in their heartbeats.
#[derive(Clone, Debug, Default)]
pub struct ClockOffsets {
    /// With when they were heard, on our monotonic clock.
    offsets_ms: BTreeMap<u64, (i64, u64)>,
}

impl ClockOffsets {
    /// A round trip that began at `sent` and ends `now` brought `wall_ms` of `peer`: Cristian's estimate,
    /// its error is at most half the round trip.
    pub fn heard(&mut self, peer: u64, sent: Now, now: Now, wall_ms: i64) {
        let round_trip_ms = (now.mono_us.saturating_sub(sent.mono_us) / 1000) as i64;
        let offset = wall_ms + round_trip_ms / 2 - now.wall_ms;
        self.offsets_ms.insert(peer, (offset, now.mono_us));
    }

    /// Forgets a peer.
    pub fn forget(&mut self, peer: u64) {
        self.offsets_ms.remove(&peer);
    }

    /// A peer's clock less ours.
    pub fn offset_ms(&self, peer: u64) -> Option<i64> {
        self.offsets_ms.get(&peer).map(|(offset, _)| *offset)
    }

    /// The median clock (ours among them, and those heard lately) less ours.
    pub fn median_ms(&self, now: Now) -> i64 {
        let heard = self.offsets_ms.values();
        let fresh = heard.filter(|(_, at_us)| at_us + OFFSET_FRESH_US >= now.mono_us);
        let mut all: Vec<i64> = fresh.map(|(offset, _)| *offset).collect();
        all.push(0);
        all.sort_unstable();
        all[all.len() / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now {
            mono_us: mono_ms * 1000,
            wall_ms,
        }
    }

    #[test]
    fn stamp_never_goes_back_when_the_wall_clock_does() {
        let mut clock = StampClock::default();
        clock.start(at(0, 10_000), 10_000);
        let mut last = 0;
        for ms in 0..500 {
            let t = clock.read_ms(at(ms, 10_000 + ms as i64 - 5_000));
            assert!(t >= last);
            last = t;
        }
        // Slewed by a twentieth of 499 ms at most.
        assert!((10_474..=10_476).contains(&last), "{last}");
    }

    #[test]
    fn stamp_takes_over_a_wall_clock_far_ahead_only_at_a_start() {
        let mut clock = StampClock::default();
        clock.start(at(0, 90_000), 10_000);
        assert_eq!(clock.read_ms(at(0, 90_000)), 90_000);
        let t = clock.read_ms(at(100, 190_000));
        assert_eq!(t, 90_105);
    }

    #[test]
    fn stamp_stays_at_the_log_when_the_wall_clock_is_behind_it() {
        let mut clock = StampClock::default();
        clock.start(at(0, 10_000), 12_000);
        assert_eq!(clock.read_ms(at(0, 10_000)), 12_000);
    }

    #[test]
    fn median_sees_that_ours_is_the_odd_one() {
        let mut offsets = ClockOffsets::default();
        for peer in [2, 3] {
            offsets.heard(peer, at(0, 0), at(2, 2), 5_001);
        }
        assert_eq!(offsets.median_ms(at(2, 2)), 5_000);
        offsets.heard(3, at(0, 0), at(2, 2), 1);
        assert_eq!(offsets.median_ms(at(2, 2)), 0);
    }

    #[test]
    fn median_is_of_those_who_were_heard_lately() {
        let mut offsets = ClockOffsets::default();
        for (peer, wall_ms) in [(2, 46_000), (3, 47_000), (4, -3_000)] {
            offsets.heard(peer, at(0, 0), at(2, 2), wall_ms);
        }
        offsets.heard(2, at(3_000, 0), at(3_000, 0), 46_000);
        offsets.heard(4, at(3_000, 0), at(3_000, 0), -3_000);
        assert_eq!(offsets.median_ms(at(3_000, 0)), 0, "3 has left");
    }
}
