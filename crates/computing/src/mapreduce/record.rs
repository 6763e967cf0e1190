//! Lines as records.

use base::map::Fnv;
use std::hash::Hasher;

/// The key of a line: what stands before the first tab; without a tab, all of it.
pub fn key(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| *byte == b'\t');
    &line[..end.unwrap_or(line.len())]
}

/// The partition of `key`, `0..partitions`: FNV-1a with the finalizer of SplitMix64, the same on every machine.
///
/// # Panics
/// When `partitions` is 0.
pub fn partition(key: &[u8], partitions: usize) -> usize {
    let mut fnv = Fnv::default();
    fnv.write(key);
    let mut z = fnv.finish();
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) % partitions as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_what_stands_before_the_first_tab_or_all_of_the_line() {
        assert_eq!(key(b"a\tb\tc"), b"a");
        assert_eq!(key(b"a b"), b"a b");
        assert_eq!(key(b"\tb"), b"");
        assert_eq!(key(b""), b"");
    }

    #[test]
    fn partitions_are_even() {
        let mut counts = [0; 7];
        for word in 0..7000 {
            counts[partition(format!("word{word}").as_bytes(), 7)] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
