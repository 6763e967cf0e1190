//! A short piece of bytes that owns itself: up to 22 bytes in place, more in an allocation of exactly
//! their length. 24 bytes large. It never holds on to the buffer that its bytes came from.

use std::fmt;

const INLINE_MAX: usize = 22;

/// Bytes of an element, a member or a field.
#[derive(Clone)]
pub enum Blob {
    /// Length, and the bytes from the front.
    Inline(u8, [u8; INLINE_MAX]),
    /// Longer ones.
    Heap(Box<[u8]>),
}

impl Blob {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_MAX {
            let mut inline = [0; INLINE_MAX];
            inline[..bytes.len()].copy_from_slice(bytes);
            Self::Inline(bytes.len() as u8, inline)
        } else {
            Self::Heap(bytes.into())
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_their_length() {
        assert_eq!(size_of::<Blob>(), 24);
        for length in [0, 1, 22, 23, 1000] {
            let bytes = vec![7; length];
            assert_eq!(Blob::new(&bytes).as_slice(), bytes);
        }
    }
}
