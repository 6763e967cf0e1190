//! The cluster as one node sees it: who is reachable ([`gossip`]), how far clocks are apart, and which time a leader
//! writes on its entries. Membership itself is the catalog's; this is only what is heard. For comparison, the
//! usual failure detectors ([`detection`]), rules for a cluster that falls apart ([`split_brain`]), clocks ([`clocks`]), textbook gossip
//! ([`spread`]) and placements ([`placement`]).

pub mod clock;
pub mod clocks;
pub mod detection;
pub mod detector;
pub mod gossip;
pub mod placement;
pub mod split_brain;
pub mod spread;

pub use clock::{ClockOffsets, StampClock};
pub use detector::{Detector, Patience};
pub use gossip::Gossip;
