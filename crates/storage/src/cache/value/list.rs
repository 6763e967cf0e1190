//! A list: a ring of pieces, 24 bytes each when they are short.
//!
//! Its content is Σ h(eᵢ)·Bⁱ modulo 2⁶⁴ with an odd B, which both ends can keep up in O(1): in front, all
//! is multiplied by B; B has an inverse, so taking away works too. A change in the middle moves elements
//! and computes the content anew, O(n) both.

use super::super::blob::Blob;
use super::super::hash::digest;
use std::collections::VecDeque;

const ROLE: u64 = 2;
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
/// `BASE · BASE_INVERSE = 1` modulo 2⁶⁴.
const BASE_INVERSE: u64 = inverse(BASE);

/// Newton's iteration doubles the number of right bits; an odd number is its own inverse modulo 8.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// The list.
#[derive(Clone, Debug)]
pub struct List {
    items: VecDeque<Blob>,
    content: u64,
    /// B to the power of the length.
    power: u64,
    bytes: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            content: 0,
            power: 1,
            bytes: 0,
        }
    }
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl List {
    /// Elements.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of what it holds.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// The element at a place.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        self.items.get(at).map(Blob::as_slice)
    }

    /// Elements from the head.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.items.iter().map(Blob::as_slice)
    }

    /// Elements of a range of places.
    pub fn range(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.items.range(range).map(Blob::as_slice)
    }

    /// Adds one at an end.
    pub fn push(&mut self, end: End, element: &[u8]) {
        let hash = digest(ROLE, element);
        self.bytes += element.len();
        match end {
            End::Left => {
                self.content = self.content.wrapping_mul(BASE).wrapping_add(hash);
                self.items.push_front(Blob::new(element));
            }
            End::Right => {
                self.content = self.content.wrapping_add(hash.wrapping_mul(self.power));
                self.items.push_back(Blob::new(element));
            }
        }
        self.power = self.power.wrapping_mul(BASE);
    }

    /// Takes one from an end.
    pub fn pop(&mut self, end: End) -> Option<Blob> {
        let element = match end {
            End::Left => self.items.pop_front()?,
            End::Right => self.items.pop_back()?,
        };
        let hash = digest(ROLE, element.as_slice());
        self.bytes -= element.len();
        self.power = self.power.wrapping_mul(BASE_INVERSE);
        match end {
            End::Left => {
                self.content = self.content.wrapping_sub(hash).wrapping_mul(BASE_INVERSE);
            }
            End::Right => {
                self.content = self.content.wrapping_sub(hash.wrapping_mul(self.power));
            }
        }
        if self.items.capacity() > 64 && self.items.len() * 4 < self.items.capacity() {
            self.items.shrink_to(self.items.len() * 2);
        }
        Some(element)
    }

    /// Replaces the element at a place that exists.
    pub fn set(&mut self, at: usize, element: &[u8]) {
        let old = std::mem::replace(&mut self.items[at], Blob::new(element));
        self.bytes = self.bytes - old.len() + element.len();
        let change = digest(ROLE, element).wrapping_sub(digest(ROLE, old.as_slice()));
        let weight = power(at as u64);
        self.content = self.content.wrapping_add(change.wrapping_mul(weight));
    }

    /// Puts an element before the one at a place; at the end when there is none.
    pub fn insert(&mut self, at: usize, element: &[u8]) {
        self.items.insert(at, Blob::new(element));
        self.count_anew();
    }

    /// Takes out up to `count` elements equal to `element`, from an end on. Yields how many.
    pub fn remove(&mut self, end: End, count: usize, element: &[u8]) -> usize {
        let mut equal: Vec<usize> = (0..self.len())
            .filter(|at| self.items[*at].as_slice() == element)
            .collect();
        match end {
            End::Left => equal.truncate(count),
            End::Right => drop(equal.drain(..equal.len().saturating_sub(count))),
        }
        if !equal.is_empty() {
            let mut gone = equal.iter().peekable();
            let mut at = 0;
            self.items.retain(|_| {
                let goes = gone.next_if(|next| **next == at).is_some();
                at += 1;
                !goes
            });
            self.count_anew();
        }
        equal.len()
    }

    /// Keeps the elements of a range of places only.
    pub fn trim(&mut self, range: std::ops::Range<usize>) {
        let (front, back) = (range.start, self.len() - range.end);
        // What goes is popped when it is less than what stays, else the rest is counted anew.
        if front + back <= range.len() {
            (0..front).for_each(|_| drop(self.pop(End::Left)));
            (0..back).for_each(|_| drop(self.pop(End::Right)));
        } else {
            self.items.truncate(range.end);
            self.items.drain(..front);
            self.items.shrink_to_fit();
            self.count_anew();
        }
    }

    fn count_anew(&mut self) {
        (self.content, self.power, self.bytes) = (0, 1, 0);
        for element in &self.items {
            let hash = digest(ROLE, element.as_slice());
            self.content = self.content.wrapping_add(hash.wrapping_mul(self.power));
            self.power = self.power.wrapping_mul(BASE);
            self.bytes += element.len();
        }
    }
}

fn power(mut exponent: u64) -> u64 {
    let (mut square, mut result) = (BASE, 1u64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    #[test]
    fn content_kept_up_is_content_counted_anew() {
        let mut rng = Rng::new(3);
        let mut list = List::default();
        for _ in 0..5000 {
            let end = if rng.one_in(2) { End::Left } else { End::Right };
            let element = rng
                .range(0, 5)
                .to_string()
                .repeat(rng.range(1, 10) as usize);
            let length = list.len();
            match rng.range(0, 20) {
                0..=9 => list.push(end, element.as_bytes()),
                10..=15 => drop(list.pop(end)),
                16 if length > 0 => {
                    list.set(rng.range(0, length as u64) as usize, element.as_bytes())
                }
                17 => list.insert(rng.range(0, length as u64 + 1) as usize, element.as_bytes()),
                18 => drop(list.remove(end, rng.range(0, 3) as usize, element.as_bytes())),
                _ => {
                    let start = rng.range(0, length as u64 / 4 + 1) as usize;
                    list.trim(
                        start..length - rng.range(0, (length - start) as u64 / 4 + 1) as usize,
                    );
                }
            }
            let mut anew = list.clone();
            anew.count_anew();
            let all = |l: &List| (l.content, l.power, l.bytes);
            assert_eq!(all(&list), all(&anew));
        }
        assert_eq!(BASE.wrapping_mul(BASE_INVERSE), 1);
    }
}
