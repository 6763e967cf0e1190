//! A hash table with dense items and a stable order for scans.
//!
//! Items stand in one vector; a power-of-two index of 4-byte words says where. The home of an item is the
//! upper bits of its hash, displaced linearly; a word holds the place in its lower bits and bits of the hash
//! above, so that a probe rarely reads a wrong item. Up to [`LINEAR_MAX`] items there is no index at all.
//!
//! A scan goes by ascending hash, whatever the size of the index: an item that stays while others come and
//! go, and the index grows or shrinks, is met exactly once. The vector makes a random choice cost O(1).
//! Cost: item plus 5 to 11 bytes; a look-up reads one word and one item as a rule. A removal moves the last
//! item into the gap, so the order of the vector depends on history: a snapshot keeps it.

/// What a table can hold.
pub trait Keyed {
    /// The hash of the key, the same for as long as the item is in the table.
    fn hash(&self) -> u32;
    /// The key.
    fn key(&self) -> &[u8];
}

/// Items up to which a table is a plain vector.
const LINEAR_MAX: usize = 8;

/// The table.
#[derive(Clone, Debug)]
pub struct Table<T> {
    items: Vec<T>,
    /// 0 is free; otherwise the place + 1 in the bits of the mask, and the hash above them.
    index: Box<[u32]>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            index: Box::default(),
        }
    }
}

impl<T: Keyed> Table<T> {
    /// Items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True without items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items, in the order of the vector.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// The item at a place.
    #[inline]
    pub fn at(&self, at: usize) -> &T {
        &self.items[at]
    }

    /// The item at a place; its hash and key must stay.
    #[inline]
    pub fn at_mut(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }

    #[inline]
    fn mask(&self) -> u32 {
        self.index.len() as u32 - 1
    }

    /// How far a hash is shifted to be its home. Only with an index.
    #[inline]
    fn shift(&self) -> u32 {
        self.mask().leading_zeros()
    }

    /// The place of the item with this key.
    #[inline]
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        self.find_by(hash, |item| item.key() == key)
    }

    /// The place of the first item of this hash that `is_it` agrees to.
    #[inline]
    pub fn find_by(&self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        if self.index.is_empty() {
            return self
                .items
                .iter()
                .position(|item| item.hash() == hash && is_it(item));
        }
        let mask = self.mask();
        let mut position = hash >> self.shift();
        loop {
            let word = self.index[position as usize];
            if word == 0 {
                return None;
            }
            if word & !mask == hash & !mask {
                let at = (word & mask) as usize - 1;
                let item = &self.items[at];
                if item.hash() == hash && is_it(item) {
                    return Some(at);
                }
            }
            position = (position + 1) & mask;
        }
    }

    /// Reads what a look-up of this hash will read first, so that it is near when that comes. Yields a number of no
    /// meaning, for the caller to keep: else the reads would be left out.
    #[inline]
    pub fn approach(&self, hash: u32) -> u32 {
        if self.index.is_empty() {
            return self.items.iter().fold(0, |sum, item| sum ^ item.hash());
        }
        self.index[(hash >> self.shift()) as usize]
    }

    /// Adds an item whose key is not there. Yields its place.
    pub fn insert(&mut self, item: T) -> usize {
        let at = self.items.len();
        if at == self.items.capacity() {
            self.items
                .reserve_exact((at / 4).max(if at == 0 { 1 } else { 4 }));
        }
        let hash = item.hash();
        self.items.push(item);
        if self.items.len() > LINEAR_MAX && self.items.len() * 4 > self.index.len() * 3 {
            self.rebuild();
        } else if !self.index.is_empty() {
            self.place(hash, at);
        }
        at
    }

    /// Takes the item at a place out; the last one moves there.
    pub fn swap_remove(&mut self, at: usize) -> T {
        if !self.index.is_empty() {
            self.erase(self.position_of(at));
            let last = self.items.len() - 1;
            if at != last {
                let mask = self.mask();
                let position = self.position_of(last);
                self.index[position as usize] = self.items[last].hash() & !mask | (at as u32 + 1);
            }
        }
        let item = self.items.swap_remove(at);
        if self.items.len() * 8 < self.index.len() {
            self.rebuild();
        }
        if self.items.capacity() > 16 && self.items.len() * 4 < self.items.capacity() {
            self.items.shrink_to(self.items.len() * 5 / 4);
        }
        item
    }

    /// Meets items with hash `from` or above, by ascending home, until at least `count` were met. Yields the
    /// hash to go on from, `None` at the end.
    pub fn scan<'a>(&'a self, from: u32, count: usize, mut meet: impl FnMut(&'a T)) -> Option<u32> {
        if self.index.is_empty() {
            let due = self.items.iter().filter(|item| item.hash() >= from);
            due.for_each(meet);
            return None;
        }
        let (mask, shift) = (self.mask(), self.shift());
        let mut met = 0;
        for home in from >> shift..=mask {
            let mut position = home;
            loop {
                let word = self.index[position as usize];
                if word == 0 {
                    break;
                }
                let item = &self.items[(word & mask) as usize - 1];
                if item.hash() >> shift == home && item.hash() >= from {
                    met += 1;
                    meet(item);
                }
                position = (position + 1) & mask;
            }
            if met >= count && home < mask {
                return Some((home + 1) << shift);
            }
        }
        None
    }

    fn position_of(&self, at: usize) -> u32 {
        let mask = self.mask();
        let mut position = self.items[at].hash() >> self.shift();
        while self.index[position as usize] & mask != at as u32 + 1 {
            position = (position + 1) & mask;
        }
        position
    }

    fn place(&mut self, hash: u32, at: usize) {
        let mask = self.mask();
        let mut position = hash >> self.shift();
        while self.index[position as usize] != 0 {
            position = (position + 1) & mask;
        }
        self.index[position as usize] = hash & !mask | (at as u32 + 1);
    }

    /// Frees a position; what was displaced behind it moves up (Knuth, TAOCP 3, 6.4, algorithm R).
    fn erase(&mut self, position: u32) {
        let (mask, shift) = (self.mask(), self.shift());
        let (mut hole, mut next) = (position, position);
        loop {
            next = (next + 1) & mask;
            let word = self.index[next as usize];
            if word == 0 {
                break;
            }
            let home = self.items[(word & mask) as usize - 1].hash() >> shift;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.index[hole as usize] = word;
                hole = next;
            }
        }
        self.index[hole as usize] = 0;
    }

    fn rebuild(&mut self) {
        let length = match self.items.len() {
            0..=LINEAR_MAX => 0,
            items => (items * 3 / 2).next_power_of_two(),
        };
        self.index = vec![0; length].into();
        if length > 0 {
            for at in 0..self.items.len() {
                self.place(self.items[at].hash(), at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;
    use std::collections::BTreeSet;

    impl Keyed for (u32, Vec<u8>) {
        fn hash(&self) -> u32 {
            self.0
        }
        fn key(&self) -> &[u8] {
            &self.1
        }
    }

    fn item(n: u64) -> (u32, Vec<u8>) {
        // A poor hash on purpose: many share one, and the upper end wraps around.
        let hash = [
            0,
            5,
            u32::MAX,
            u32::MAX - 1,
            (n as u32).wrapping_mul(0x9E37_79B9),
        ];
        (hash[n as usize % 5], n.to_be_bytes().to_vec())
    }

    #[test]
    fn table_holds_what_a_set_holds() {
        let mut rng = Rng::new(1);
        let (mut table, mut model) = (Table::default(), BTreeSet::new());
        for step in 0..40_000 {
            let limit = if step < 20_000 { 600 } else { 20 };
            let n = rng.range(0, limit);
            let (hash, key) = item(n);
            match table.find(hash, &key) {
                Some(at) => {
                    assert!(model.remove(&n));
                    assert_eq!(table.swap_remove(at), (hash, key));
                }
                None => {
                    assert!(model.insert(n));
                    table.insert((hash, key));
                }
            }
            assert_eq!(table.len(), model.len());
        }
        let left: BTreeSet<_> = table.iter().cloned().collect();
        assert_eq!(left, model.iter().map(|n| item(*n)).collect());
    }

    #[test]
    fn scan_meets_once_what_stays_while_others_come_and_go() {
        let mut rng = Rng::new(2);
        for round in 0..200 {
            let mut table = Table::default();
            (0..rng.range(0, 200)).for_each(|n| {
                table.insert(item(n));
            });
            let stay = table.len() as u64;
            let (mut met, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                from = table.scan(at, 3, |item| met.push(item.clone()));
                for _ in 0..rng.range(0, 300) {
                    let n = rng.range(1000, 1500);
                    let (hash, key) = item(n);
                    match table.find(hash, &key) {
                        Some(at) => drop(table.swap_remove(at)),
                        None if round % 2 == 0 => drop(table.insert((hash, key))),
                        None => {}
                    }
                }
            }
            let mut stayed: Vec<_> = (0..stay).map(item).collect();
            met.retain(|(_, key)| key[..] < 1000u64.to_be_bytes()[..]);
            met.sort();
            stayed.sort();
            assert_eq!(met, stayed);
        }
    }
}
