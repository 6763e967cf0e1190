//! Frames between nodes: length (`u32`), CRC-32 of the payload (`u32`), payload; big-endian.

use bytes::{Bytes, BytesMut};
use std::fmt;

/// Largest payload. What a core sends is far below; a longer claim is damage or an attack.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Largest greeting.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// Length and checksum.
pub const HEADER_BYTES: usize = 8;

/// Why a stream cannot be read further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A length above the cap.
    TooLong {
        /// The length claimed.
        length: usize,
        /// The cap.
        max: usize,
    },
    /// The payload is not what was sent.
    BadChecksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, max } => {
                write!(f, "a frame of {length} bytes exceeds the cap of {max}")
            }
            Self::BadChecksum => f.write_str("a frame's checksum does not match"),
        }
    }
}

/// The header of `payload`.
pub fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
    header
}

/// Takes the first whole frame off `buffer`, without copying it; `None` when more bytes are needed.
/// Nothing is allocated on the word of a length: the buffer grows only as bytes arrive.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    if buffer.len() < HEADER_BYTES {
        return Ok(None);
    }
    let word = |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
    let (length, checksum) = (word(0) as usize, word(4));
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    let mut whole = buffer.split_to(HEADER_BYTES + length).freeze();
    let payload = whole.split_off(HEADER_BYTES);
    if crc32fast::hash(&payload) != checksum {
        return Err(FrameError::BadChecksum);
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&header(payload)[..], payload].concat()
    }

    #[test]
    fn frames_fed_byte_by_byte_come_out_whole_and_in_order() {
        let sent = [&framed(b"one")[..], &framed(b""), &framed(&[7; 300])].concat();
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for byte in sent {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = take(&mut buffer, FRAME_BYTES_MAX).unwrap() {
                got.push(frame.to_vec());
            }
        }
        assert_eq!(got, [b"one".to_vec(), Vec::new(), vec![7; 300]]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn flipped_bit_is_a_bad_checksum() {
        for bit in 32..(HEADER_BYTES + 3) * 8 {
            let mut bytes = framed(b"abc");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut buffer = BytesMut::from(&bytes[..]);
            assert_eq!(take(&mut buffer, 1_000), Err(FrameError::BadChecksum));
        }
    }

    #[test]
    fn length_above_the_cap_is_refused_before_the_payload_arrives() {
        let mut buffer = BytesMut::from(&[0xff; HEADER_BYTES][..]);
        assert_eq!(
            take(&mut buffer, FRAME_BYTES_MAX),
            Err(FrameError::TooLong {
                length: u32::MAX as usize,
                max: FRAME_BYTES_MAX
            })
        );
    }
}
