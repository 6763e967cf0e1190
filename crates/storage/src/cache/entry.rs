//! A key and what it holds: 48 bytes, and for a string one allocation of key and value together.

use super::hash::{digest, mix};
use super::table::Keyed;
use super::value::{Kind, Value};

/// The time of a key that does not end.
pub const NEVER_MS: i64 = i64::MAX;
/// Strings are digested in blocks, so that a change inside of a long one costs its block.
pub const BLOCK_BYTES: usize = 4096;
/// What an entry weighs beyond its bytes: itself, its share of the index, the allocator's.
pub const ENTRY_BYTES: usize = 72;
/// What an element of a list, hash, set or sorted set weighs beyond its bytes, as a mean.
pub const ELEMENT_BYTES: usize = 32;

/// The entry.
#[derive(Debug)]
pub struct Entry {
    /// Revision of the unit that touched it last.
    pub version: u64,
    /// When it ends, Unix milliseconds; [`NEVER_MS`] if it does not.
    pub ends_ms: i64,
    hash: u32,
    key_length: u32,
    /// The key; behind it the value, if that is a string.
    data: Box<[u8]>,
    /// The value, if it is none.
    held: Option<Box<Value>>,
}

impl Keyed for Entry {
    #[inline]
    fn hash(&self) -> u32 {
        self.hash
    }
    #[inline]
    fn key(&self) -> &[u8] {
        &self.data[..self.key_length as usize]
    }
}

impl Entry {
    /// A string under a key whose hash in the table is `hash`.
    pub fn string(hash: u32, key: &[u8], value: &[u8], ends_ms: i64) -> Self {
        Self {
            version: 0,
            ends_ms,
            hash,
            key_length: key.len() as u32,
            data: join(key, value),
            held: None,
        }
    }

    /// Another value under a key whose hash in the table is `hash`.
    pub fn held(hash: u32, key: &[u8], value: Value, ends_ms: i64) -> Self {
        Self {
            version: 0,
            ends_ms,
            hash,
            key_length: key.len() as u32,
            data: key.into(),
            held: Some(Box::new(value)),
        }
    }

    /// The same value and time under another key.
    pub fn copy_to(&self, hash: u32, key: &[u8]) -> Self {
        match &self.held {
            None => Self::string(hash, key, self.text(), self.ends_ms),
            Some(value) => Self::held(hash, key, (**value).clone(), self.ends_ms),
        }
    }

    /// Itself under another key.
    pub fn move_to(mut self, hash: u32, key: &[u8]) -> Self {
        let value = self.held.take();
        let Some(value) = value else {
            return Self::string(hash, key, self.text(), self.ends_ms);
        };
        Self {
            held: Some(value),
            ..Self::string(hash, key, b"", self.ends_ms)
        }
    }

    /// Reads what a change of a short string will, as [`super::table::Table::approach`] does.
    #[inline]
    pub fn approach(&self) -> u32 {
        const LINE: usize = 64;
        let data = self.data.iter().step_by(LINE).take(2);
        data.fold(0, |sum, byte| sum ^ u32::from(*byte))
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.held
            .as_ref()
            .map_or(Kind::String, |value| value.kind())
    }

    /// Its value, unless that is a string.
    #[inline]
    pub fn value(&self) -> Option<&Value> {
        self.held.as_deref()
    }

    /// Its value, unless that is a string.
    pub fn value_mut(&mut self) -> Option<&mut Value> {
        self.held.as_deref_mut()
    }

    /// The bytes of a string.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.data[self.key_length as usize..]
    }

    /// Makes it this string, in place when the length allows.
    pub fn set_text(&mut self, value: &[u8]) {
        self.held = None;
        let start = self.key_length as usize;
        if self.data.len() == start + value.len() {
            self.data[start..].copy_from_slice(value);
        } else {
            self.data = join(self.key(), value);
        }
    }

    /// Writes into a string at an offset, behind zeros if it is shorter. Yields the change of its content.
    pub fn write_text(&mut self, offset: usize, bytes: &[u8]) -> u64 {
        let old_length = self.text().len();
        let from = offset.min(old_length) / BLOCK_BYTES;
        let to = (offset + bytes.len()).div_ceil(BLOCK_BYTES);
        let before = blocks_content(self.text(), from, to);
        let start = self.key_length as usize + offset;
        if start + bytes.len() > self.data.len() {
            let mut data = std::mem::take(&mut self.data).into_vec();
            data.reserve_exact(start + bytes.len() - data.len());
            data.resize(start, 0);
            data.extend_from_slice(bytes);
            self.data = data.into();
        } else {
            self.data[start..start + bytes.len()].copy_from_slice(bytes);
        }
        blocks_content(self.text(), from, to).wrapping_sub(before)
    }

    /// Puts another value in the place of the old one.
    pub fn set_value(&mut self, value: Value) {
        if self.held.is_none() {
            self.data = self.key().into();
        }
        self.held = Some(Box::new(value));
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.held.as_ref().map_or(0, |value| value.bytes())
    }

    /// An estimate of the memory it takes, the same on all replicas.
    pub fn weight(&self) -> usize {
        let elements = self.held.as_ref().map_or(0, |value| value.len());
        self.bytes() + ENTRY_BYTES + elements * ELEMENT_BYTES
    }

    /// The digest of what it holds, without key, kind and time.
    pub fn content(&self) -> u64 {
        match &self.held {
            None => blocks_content(self.text(), 0, usize::MAX),
            Some(value) => value.content(),
        }
    }

    /// The digest of everything but the content.
    pub fn head(&self, hash: u64) -> u64 {
        let kind = mix(self.kind() as u64);
        mix(hash ^ mix(self.ends_ms as u64) ^ mix(self.version ^ kind))
    }
}

/// What the content weighs in the digest: a change of the content changes the digest by its multiple.
pub fn content_factor(hash: u64) -> u64 {
    hash | 1
}

/// The content of blocks `from..to` of a string, as far as it has them.
fn blocks_content(text: &[u8], from: usize, to: usize) -> u64 {
    if text.len() <= BLOCK_BYTES && from == 0 && to > 0 {
        // The usual string. An empty one has no block.
        return if text.is_empty() { 0 } else { digest(0, text) };
    }
    let blocks = text.chunks(BLOCK_BYTES).enumerate();
    let due = blocks.take(to).skip(from);
    due.fold(0, |sum, (at, block)| {
        sum.wrapping_add(digest(at as u64, block))
    })
}

fn join(key: &[u8], value: &[u8]) -> Box<[u8]> {
    let mut data = Vec::with_capacity(key.len() + value.len());
    data.extend_from_slice(key);
    data.extend_from_slice(value);
    data.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_kept_up_by_writes_is_content_counted_anew() {
        assert_eq!(size_of::<Entry>(), 48);
        let mut rng = base::Rng::new(5);
        let mut entry = Entry::string(0, b"key", b"", NEVER_MS);
        for _ in 0..300 {
            let before = entry.content();
            let offset = rng.range(0, 20_000) as usize;
            let bytes = vec![rng.next_u64() as u8; rng.range(1, 9000) as usize];
            let change = entry.write_text(offset, &bytes);
            assert_eq!(before.wrapping_add(change), entry.content());
            assert_eq!(&entry.text()[offset..offset + bytes.len()], bytes);
            assert_eq!(entry.key(), b"key");
        }
    }
}
