//! A sorted table with a digest, and a cut that does not stop it.
//!
//! While a cut is taken, a row that is about to change and was not visited yet is kept as it was (the old
//! image). The cost of a cut is thus what changes during it, not what the table holds. All changes go through
//! [`Table::put`], [`Table::change`] and [`Table::remove`], which also keep the digest: the sum of all rows'
//! hashes.

use super::row::Row;
use base::Writer;
use std::collections::BTreeMap;
use std::ops::Bound;
use twox_hash::XxHash64;

#[derive(Clone, Debug)]
pub(super) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    seed: u64,
    digest: u64,
    cut: Option<Cut<K, V>>,
}

#[derive(Clone, Debug)]
struct Cut<K, V> {
    /// The last row that was visited.
    visited: Option<K>,
    /// Rows beyond it as they were at the cut; `None`: not there.
    old: BTreeMap<K, Option<V>>,
}

impl<K: Row + Copy + Ord, V: Row + Clone> Table<K, V> {
    /// Empty. `seed` tells its rows from another table's in a digest of both.
    pub fn new(seed: u64) -> Self {
        Self {
            rows: BTreeMap::new(),
            seed,
            digest: 0,
            cut: None,
        }
    }

    pub fn rows(&self) -> &BTreeMap<K, V> {
        &self.rows
    }

    pub fn get(&self, key: K) -> Option<&V> {
        self.rows.get(&key)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Puts a row in place of what was there.
    pub fn put(&mut self, key: K, value: V) {
        self.keep_old(key);
        self.digest = self.digest.wrapping_add(self.hash(key, &value));
        if let Some(old) = self.rows.insert(key, value) {
            self.digest = self.digest.wrapping_sub(self.hash(key, &old));
        }
    }

    /// Changes a row that is there; what `change` says of it.
    pub fn change<T>(&mut self, key: K, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        self.keep_old(key);
        let mut value = self.rows.remove(&key)?;
        self.digest = self.digest.wrapping_sub(self.hash(key, &value));
        let said = change(&mut value);
        self.digest = self.digest.wrapping_add(self.hash(key, &value));
        self.rows.insert(key, value);
        Some(said)
    }

    pub fn remove(&mut self, key: K) -> Option<V> {
        self.keep_old(key);
        let value = self.rows.remove(&key)?;
        self.digest = self.digest.wrapping_sub(self.hash(key, &value));
        Some(value)
    }

    fn keep_old(&mut self, key: K) {
        if let Some(cut) = &mut self.cut
            && cut.visited.is_none_or(|visited| key > visited)
        {
            let rows = &self.rows;
            cut.old
                .entry(key)
                .or_insert_with(|| rows.get(&key).cloned());
        }
    }

    fn hash(&self, key: K, value: &V) -> u64 {
        let mut w = Writer::new();
        key.encode(&mut w);
        value.encode(&mut w);
        XxHash64::oneshot(self.seed, w.as_slice())
    }

    pub fn begin_cut(&mut self) {
        self.cut = Some(Cut {
            visited: None,
            old: BTreeMap::new(),
        });
    }

    pub fn abort_cut(&mut self) {
        self.cut = None;
    }

    /// The next row as it was at the cut; `None` ends the cut.
    pub fn poll_cut(&mut self) -> Option<(K, V)> {
        let cut = self.cut.as_mut()?;
        loop {
            let from = cut.visited.map_or(Bound::Unbounded, Bound::Excluded);
            let now = self.rows.range((from, Bound::Unbounded)).next();
            let old = cut.old.first_key_value().map(|(key, _)| *key);
            let key = match (now, old) {
                (Some((now, _)), Some(old)) => old.min(*now),
                (Some((now, _)), None) => *now,
                (None, Some(old)) => old,
                (None, None) => {
                    self.cut = None;
                    return None;
                }
            };
            cut.visited = Some(key);
            let value = match cut.old.remove(&key) {
                Some(value) => value,
                None => self.rows.get(&key).cloned(),
            };
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn cut_is_the_state_of_its_moment_whatever_changes_meanwhile() {
        let mut rng = base::Rng::new(4);
        for _ in 0..300 {
            let mut table: Table<u64, u64> = Table::new(1);
            for _ in 0..rng.range(0, 30) {
                table.put(rng.range(0, 40), rng.next_u64());
            }
            let at_cut = table.rows().clone();
            table.begin_cut();
            let mut found = BTreeMap::new();
            loop {
                for _ in 0..rng.range(0, 4) {
                    let key = rng.range(0, 40);
                    match rng.range(0, 3) {
                        0 => drop(table.remove(key)),
                        1 => drop(table.change(key, |v| *v += 1)),
                        _ => table.put(key, rng.next_u64()),
                    }
                }
                let Some((key, value)) = table.poll_cut() else {
                    break;
                };
                assert_eq!(found.insert(key, value), None, "{key} came twice");
            }
            assert_eq!(found, at_cut);
        }
    }

    #[test]
    fn digest_is_that_of_the_same_rows_put_in_another_order() {
        let mut one: Table<u64, u64> = Table::new(1);
        let mut other: Table<u64, u64> = Table::new(1);
        for key in 0..20 {
            one.put(key, key);
            other.put(19 - key, 5);
        }
        assert_ne!(one.digest(), other.digest());
        for key in 0..20 {
            other.change(key, |value| *value = key);
        }
        assert_eq!(one.digest(), other.digest());
        one.remove(3);
        assert_ne!(one.digest(), other.digest());
    }
}
