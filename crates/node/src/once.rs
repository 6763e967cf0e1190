//! What was sent once is taken once: numbered messages of one sender, of which some may come twice or late.
//!
//! The window of RFC 4303 (IPsec ESP, 3.4.3): the highest number seen and a bit for each of those just below it.
//! What lies further behind is refused unseen; whoever sent it has long been told that its stream broke.

/// Which numbers of one sender were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Once {
    last: u64,
    /// Bit i: `last - i` was seen.
    seen: u64,
}

impl Once {
    /// True when this number (from 1) was not seen before; from now on it was.
    pub fn is_first(&mut self, number: u64) -> bool {
        if number > self.last {
            let ahead = u32::try_from(number - self.last).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.last = number;
            return true;
        }
        let behind = u32::try_from(self.last - number).unwrap_or(u32::MAX);
        let Some(bit) = 1u64.checked_shl(behind) else {
            return false;
        };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_first_once_in_any_near_order() {
        let mut once = Once::default();
        let numbers = [1, 1, 3, 2, 2, 3, 70, 8, 7, 6, 8, 70, 200, 136, 137, 137];
        let first = numbers.map(|number| once.is_first(number));
        let expected = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0];
        assert_eq!(first.map(u8::from), expected);
    }
}
