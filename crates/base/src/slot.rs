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

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0; four bytes at a time, whose look-ups do not wait for
/// each other (Kounavis, Berry: "A systematic approach to building high performance software-based CRC
/// generators", ISCC 2005).
fn crc16(bytes: &[u8]) -> u16 {
    let [t0, t1, t2, t3] = &CRC16;
    let at = |table: &[u16; 256], byte: u8| table[usize::from(byte)];
    let mut fours = bytes.chunks_exact(4);
    let mut crc = 0u16;
    for four in &mut fours {
        let [high, low] = crc.to_be_bytes();
        crc = at(t3, high ^ four[0]) ^ at(t2, low ^ four[1]) ^ at(t1, four[2]) ^ at(t0, four[3]);
    }
    fours.remainder().iter().fold(crc, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        u16::from(low) << 8 ^ at(t0, high ^ byte)
    })
}

/// What a byte contributes with none to three bytes behind it.
static CRC16: [[u16; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 32 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
            bit += 1;
            if bit % 8 == 0 {
                tables[bit / 8 - 1][byte] = crc;
            }
        }
        byte += 1;
    }
    tables
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
        // Bit by bit, whatever the length.
        let bytes: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(57) ^ 0xa5).collect();
        for length in 0..bytes.len() {
            let mut crc = 0u16;
            for byte in &bytes[..length] {
                crc ^= u16::from(*byte) << 8;
                for _ in 0..8 {
                    let carry = crc & 0x8000 != 0;
                    crc = crc << 1 ^ if carry { 0x1021 } else { 0 };
                }
            }
            assert_eq!(crc16(&bytes[..length]), crc, "{length} bytes");
        }
    }

    #[test]
    fn hash_tags_co_locate() {
        assert_eq!(slot_of(b"{user1}.a"), slot_of(b"{user1}.b"));
        assert_eq!(hash_tag(b"a{}b"), b"a{}b");
        assert_eq!(hash_tag(b"a{b"), b"a{b");
        assert_eq!(hash_tag(b"{{x}y"), b"{x");
    }
}
