//! Traffic: which server gets a request, whether it may come at all, and what is answered when it may not.
//!
//! Everything here is a state that is asked: time comes as `now_us` (monotonic microseconds), randomness as a
//! seeded generator, and each decision is one call that also takes what it grants: there is no check apart
//! from the taking, so two requests are never let through on the strength of one free place.
//!
//! * [`balance`]: which of several servers, one method a file.
//! * [`health`]: which servers are asked at all.
//! * [`limit`]: whether a request goes on, waits, or is refused, one method a file.
//! * [`breaker`]: a server that fails or drags is left alone for a while.
//! * [`budget`]: how many of all requests may be repeated.
//! * [`calls`]: who called which service how often, how it ended and how long it took.
//! * [`degrade`]: how badly a route fares, and the switches that send it to its fallback.
//! * [`signals`]: latency, traffic, errors and saturation of a route, and its alarms.
//! * [`report`]: what is told of all this.
//! * [`window`]: what was counted lately; the others lean on it.

pub mod balance;
pub mod breaker;
pub mod budget;
pub mod calls;
pub mod degrade;
pub mod health;
pub mod limit;
pub mod report;
pub mod signals;
pub mod window;

/// 64 bits of a key that clients choose: FNV-1a, then the finalizer of SplitMix64, since the low bits of
/// FNV alone spread too little over a ring.
pub fn hash(key: &[u8]) -> u64 {
    let mut fnv = base::map::Fnv::default();
    std::hash::Hasher::write(&mut fnv, key);
    mix(std::hash::Hasher::finish(&fnv))
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
