//! Slots: the unit of placement, of migration and of memory layout.
//!
//! A pool has 16,384 slots; a key's slot is CRC-16 (XMODEM) of it, or of its hash tag (the text between
//! the first `{` and the next `}`, when there is any).

/// Slots of a pool.
pub const SLOTS: u16 = 16_384;
/// What of a key is hashed.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|b| *b == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|b| *b == b'}') {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

/// The slot of a key, 0 to 16,383.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_slots_golden() {
        assert_eq!(slot_of(b"foo"), 12_182);
        let thirds = [0..=5500, 5501..=11000, 11001..=16383u16];
        let third = thirds.iter().position(|r| r.contains(&slot_of(b"foo")));
        assert_eq!(third, Some(2), "the third node's");
    }

    #[test]
    fn hash_tags_co_locate() {
        assert_eq!(slot_of(b"{user1}.a"), slot_of(b"{user1}.b"));
        assert_eq!(hash_tag(b"a{}b"), b"a{}b");
        assert_eq!(hash_tag(b"a{b"), b"a{b");
        assert_eq!(hash_tag(b"{{x}y"), b"{x");
    }
}
