//! Striped (segmented) locks: what one lock would guard is split over several, and whoever needs one part of it
//! leaves the others alone. A counter or a stock is kept as as many parts as there are stripes.

use std::hash::Hasher;
use twox_hash::XxHash64;

/// Most stripes of a lock.
pub const STRIPES_MAX: u32 = 4_096;

/// The stripe, from 0, of `key` among `stripes` (1 to [`STRIPES_MAX`]): the same everywhere and in every version.
pub fn stripe_of(key: &[u8], stripes: u32) -> u32 {
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(key);
    // The remainder of 64 bits by at most 4,096 favours no stripe by more than 2^-52.
    (hasher.finish() % u64::from(stripes.clamp(1, STRIPES_MAX))) as u32
}

/// The lock of a stripe.
pub fn name(lock: &str, stripe: u32) -> String {
    format!("{lock}.{stripe}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_stripes_and_stay_where_they_are() {
        let mut counts = [0; 8];
        for n in 0..8_000_u32 {
            counts[stripe_of(&n.to_be_bytes(), 8) as usize] += 1;
        }
        assert!(
            counts.iter().all(|n| (800..1_200).contains(n)),
            "{counts:?}"
        );
        // These must not change: clients of two versions would use different locks for the same key.
        assert_eq!([stripe_of(b"", 16), stripe_of(b"item-7", 16)], [9, 10]);
        assert_eq!(stripe_of(b"item-7", 1), 0);
        assert_eq!(name("stock", 4), "stock.4");
    }
}
