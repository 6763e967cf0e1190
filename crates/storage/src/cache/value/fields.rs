//! A hash: fields with values in a table, in the order in which they came as long as none goes.

use super::super::blob::Blob;
use super::super::hash::{Seed, digest};
use super::super::table::{Keyed, Table};

const ROLE: u64 = 3;

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    hash: u32,
    name: Blob,
    value: Blob,
}

impl Keyed for Field {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        self.name.as_slice()
    }
}

impl Field {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        self.name.as_slice()
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        self.value.as_slice()
    }

    fn digest(&self) -> u64 {
        digest(digest(ROLE, self.name()), self.value())
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
    }
}

/// The hash.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    table: Table<Field>,
    content: u64,
    bytes: usize,
}

impl Fields {
    /// Fields.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of what it holds.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// All fields.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.table.iter()
    }

    /// The field at a place.
    pub fn at(&self, at: usize) -> &Field {
        self.table.at(at)
    }

    /// The value of a field.
    pub fn get(&self, seed: Seed, name: &[u8]) -> Option<&[u8]> {
        let at = self.table.find(seed.hash32(name), name)?;
        Some(self.table.at(at).value())
    }

    /// Sets a field; true when it is new.
    pub fn set(&mut self, seed: Seed, name: &[u8], value: &[u8]) -> bool {
        let hash = seed.hash32(name);
        let found = self.table.find(hash, name);
        let at = match found {
            Some(at) => {
                let field = self.table.at_mut(at);
                self.content = self.content.wrapping_sub(field.digest());
                self.bytes -= field.bytes();
                field.value = Blob::new(value);
                at
            }
            None => self.table.insert(Field {
                hash,
                name: Blob::new(name),
                value: Blob::new(value),
            }),
        };
        let field = self.table.at(at);
        self.content = self.content.wrapping_add(field.digest());
        self.bytes += field.bytes();
        found.is_none()
    }

    /// Takes a field out; false when it was not there.
    pub fn remove(&mut self, seed: Seed, name: &[u8]) -> bool {
        let Some(at) = self.table.find(seed.hash32(name), name) else {
            return false;
        };
        let field = self.table.swap_remove(at);
        self.content = self.content.wrapping_sub(field.digest());
        self.bytes -= field.bytes();
        true
    }

    /// See [`Table::scan`].
    pub fn scan<'a>(&'a self, from: u32, count: usize, meet: impl FnMut(&'a Field)) -> Option<u32> {
        self.table.scan(from, count, meet)
    }
}
