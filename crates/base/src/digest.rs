//! What the rows of a machine come to, kept up while they come and go.

use crate::Writer;
use twox_hash::XxHash64;

/// The bytes of rows, and a hash that does not depend on their order (the sum of theirs).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// Bytes, as they are encoded.
    pub bytes: u64,
    /// The sum of their hashes, modulo 2^64.
    pub hash: u64,
}

impl Digest {
    /// A row of this kind has come.
    pub fn add(&mut self, kind: u64, encode: impl FnOnce(&mut Writer)) {
        let row = Self::of(kind, encode);
        self.bytes += row.bytes;
        self.hash = self.hash.wrapping_add(row.hash);
    }

    /// A row of this kind, as it was when it came, has gone.
    pub fn remove(&mut self, kind: u64, encode: impl FnOnce(&mut Writer)) {
        let row = Self::of(kind, encode);
        self.bytes -= row.bytes;
        self.hash = self.hash.wrapping_sub(row.hash);
    }

    fn of(kind: u64, encode: impl FnOnce(&mut Writer)) -> Self {
        let mut w = Writer::new();
        encode(&mut w);
        Self {
            bytes: w.len() as u64,
            hash: XxHash64::oneshot(kind, w.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_and_go_in_any_order() {
        let row = |number: u32| {
            move |w: &mut Writer| {
                w.u32(number);
            }
        };
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(1, row(7));
        one.add(1, row(8));
        other.add(1, row(8));
        other.add(2, row(9));
        other.add(1, row(7));
        assert_ne!(one, other);
        other.remove(2, row(9));
        assert_eq!((one, one.bytes), (other, 8));
        // The same bytes of another kind are another row.
        let mut third = Digest::default();
        third.add(2, row(7));
        third.add(1, row(8));
        assert_ne!(third.hash, one.hash);
    }
}
