//! A set: members in a table.

use super::super::blob::Blob;
use super::super::hash::{Seed, digest};
use super::super::table::{Keyed, Table};

const ROLE: u64 = 4;

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    hash: u32,
    name: Blob,
}

impl Keyed for Member {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        self.name.as_slice()
    }
}

impl Member {
    /// Its bytes.
    pub fn name(&self) -> &[u8] {
        self.name.as_slice()
    }
}

/// The set.
#[derive(Clone, Debug, Default)]
pub struct Members {
    table: Table<Member>,
    content: u64,
    bytes: usize,
}

impl Members {
    /// Members.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the members.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of what it holds.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// All members.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.table.iter().map(Member::name)
    }

    /// The member at a place.
    pub fn at(&self, at: usize) -> &[u8] {
        self.table.at(at).name()
    }

    /// True when it is a member.
    pub fn contains(&self, seed: Seed, name: &[u8]) -> bool {
        self.table.find(seed.hash32(name), name).is_some()
    }

    /// Adds a member; false when it was there.
    pub fn add(&mut self, seed: Seed, name: &[u8]) -> bool {
        let hash = seed.hash32(name);
        if self.table.find(hash, name).is_some() {
            return false;
        }
        self.content = self.content.wrapping_add(digest(ROLE, name));
        self.bytes += name.len();
        let name = Blob::new(name);
        self.table.insert(Member { hash, name });
        true
    }

    /// Takes a member out; false when it was not there.
    pub fn remove(&mut self, seed: Seed, name: &[u8]) -> bool {
        let Some(at) = self.table.find(seed.hash32(name), name) else {
            return false;
        };
        self.take(at);
        true
    }

    /// Takes the member at a place out.
    pub fn take(&mut self, at: usize) -> Blob {
        let member = self.table.swap_remove(at);
        self.content = self.content.wrapping_sub(digest(ROLE, member.name()));
        self.bytes -= member.name.len();
        member.name
    }

    /// See [`Table::scan`].
    pub fn scan<'a>(
        &'a self,
        from: u32,
        count: usize,
        meet: impl FnMut(&'a Member),
    ) -> Option<u32> {
        self.table.scan(from, count, meet)
    }
}
