//! The cluster as one node sees it: who is reachable ([`gossip`]), how far clocks are apart, and which time a leader
//! writes on its entries; and, for comparison, the usual failure detectors ([`detection`]). Membership itself is the catalog's; this is only what is heard.

pub mod clock;
pub mod detection;
pub mod detector;
pub mod gossip;

pub use clock::{ClockOffsets, StampClock};
pub use detector::{Detector, Patience};
pub use gossip::Gossip;
