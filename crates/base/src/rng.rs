//! A seeded generator: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", OOPSLA 2014). Not for secrets unless its seed is one.

/// A deterministic stream of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `low..high`; `low` when the range is empty.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        // The bias of the multiply-shift reduction is below 2^-32 for the ranges used here.
        low + ((u128::from(self.next_u64()) * u128::from(high - low)) >> 64) as u64
    }

    /// True once in `n` draws; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.range(0, n) == 0
    }

    /// An independent stream, named so that adding one does not reshuffle the others.
    pub fn fork(&self, name: u64) -> Self {
        let mut child = Self::new(self.state ^ name.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        child.next_u64();
        child
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_be_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_stream() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }

    #[test]
    fn range_stays_inside() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| (3..9).contains(&rng.range(3, 9))));
        assert_eq!(rng.range(5, 5), 5);
    }

    #[test]
    fn forks_differ_by_name() {
        let rng = Rng::new(1);
        assert_ne!(rng.fork(1).next_u64(), rng.fork(2).next_u64());
    }
}
