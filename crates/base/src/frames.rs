//! Frames off a byte stream: a big-endian length, then that many bytes.
//!
//! Whole frames are slices of the input as it came; only a frame that is split between inputs is copied,
//! into a buffer that grows with what arrives and never with what is announced.

use bytes::{Buf, Bytes, BytesMut};

const LENGTH_BYTES: usize = 4;

/// A length that no frame has: the stream cannot be read further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthError {
    /// A frame announced a negative length.
    NegativeLength {
        /// The length.
        length: i32,
    },
    /// A frame announced a length beyond the cap.
    TooLong {
        /// The length.
        length: i32,
        /// The cap.
        frame_bytes_max: u32,
    },
}

/// The frames of one stream.
#[derive(Debug)]
pub struct Frames {
    frame_bytes_max: u32,
    /// The beginning of a frame, its length included. Empty when frames and inputs end together.
    partial: BytesMut,
    /// Input behind `partial` that was not looked at yet.
    input: Bytes,
}

impl Frames {
    /// Nothing arrived yet; no frame may be longer than this.
    pub fn new(frame_bytes_max: u32) -> Self {
        Self {
            frame_bytes_max,
            partial: BytesMut::new(),
            input: Bytes::new(),
        }
    }

    /// Takes input.
    pub fn push(&mut self, bytes: &Bytes) {
        if self.input.is_empty() {
            self.input = bytes.clone();
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len() + bytes.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(bytes);
            self.input = joined.freeze();
        }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.partial.len() + self.input.len()
    }

    /// True when no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what is held.
    pub fn clear(&mut self) {
        self.partial = BytesMut::new();
        self.input = Bytes::new();
    }

    /// The first four bytes, if they are there; takes nothing.
    pub fn peek_length(&mut self) -> Option<[u8; LENGTH_BYTES]> {
        if self.partial.is_empty()
            && let Some(head) = self.input.first_chunk()
        {
            return Some(*head);
        }
        self.fill(LENGTH_BYTES);
        self.partial.first_chunk().copied()
    }

    /// The next whole frame, without its length.
    pub fn poll(&mut self) -> Result<Option<Bytes>, LengthError> {
        let Some(head) = self.peek_length() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(head);
        let Ok(size) = u32::try_from(length) else {
            return Err(LengthError::NegativeLength { length });
        };
        if size > self.frame_bytes_max {
            return Err(LengthError::TooLong {
                length,
                frame_bytes_max: self.frame_bytes_max,
            });
        }
        let whole = LENGTH_BYTES + size as usize;
        if self.partial.is_empty() && self.input.len() >= whole {
            let mut frame = self.input.split_to(whole);
            frame.advance(LENGTH_BYTES);
            return Ok(Some(frame));
        }
        self.fill(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial).freeze();
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame))
    }

    /// Moves input to `partial` until that has `size` bytes or there is no more input.
    fn fill(&mut self, size: usize) {
        let missing = size.saturating_sub(self.partial.len());
        let take = missing.min(self.input.len());
        self.partial.extend_from_slice(&self.input[..take]);
        self.input.advance(take);
        if self.input.is_empty() {
            self.input = Bytes::new(); // lets the reader's buffer go
        }
    }
}
