//! Machine versions: which commands a shard's log may hold.
//!
//! A shard begins at version 1. Its leader raises the version by a committed unit of its own kind once every
//! member of the group says that it can apply it; from then on commands that came with that version may be
//! proposed. A replica that meets a version beyond its own falls silent instead of skipping anything.

use base::Writer;
use bytes::Bytes;

/// The version that this build can apply.
pub const MACHINE_VERSION: u16 = 1;
/// The version that every shard begins with.
pub const FIRST_VERSION: u16 = 1;

/// The first byte of such a unit; no machine's units begin with it.
const RAISE: u8 = 0;

/// The unit that raises a shard to `version`.
pub(crate) fn raise(version: u16) -> Bytes {
    let mut w = Writer::with_capacity(3);
    w.u8(RAISE).u16(version);
    w.into_bytes()
}

/// The version that a unit raises its shard to; `None` for a machine's unit.
pub(crate) fn raised(unit: &[u8]) -> Option<u16> {
    match unit {
        [RAISE, high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Why a replica of this build cannot follow.
pub(crate) fn unknown(version: u16, known: u16) -> String {
    format!(
        "the shard is at machine version {version}, this build knows up to {known}; upgrade this node"
    )
}
