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

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0; a byte at a time.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let top = (crc >> 8) as u8 ^ byte;
        crc << 8 ^ CRC16[usize::from(top)]
    })
}

/// What a byte in front contributes.
static CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

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
    fn crc16_golden() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn hash_tags_co_locate() {
        assert_eq!(slot_of(b"{user1}.a"), slot_of(b"{user1}.b"));
        assert_eq!(hash_tag(b"a{}b"), b"a{}b");
        assert_eq!(hash_tag(b"a{b"), b"a{b");
        assert_eq!(hash_tag(b"{{x}y"), b"{x");
    }
}
