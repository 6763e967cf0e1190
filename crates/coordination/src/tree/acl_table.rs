//! Access control lists, each kept once and counted. Most trees have one or two, and a node holds four
//! bytes for it.

use crate::Acl;
use crate::command::encode_acl;
use base::Writer;
use std::collections::BTreeMap;
use std::sync::Arc;
use twox_hash::XxHash64;

/// Which list. Depends on history, so it never leaves the process and never enters a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclId(u32);

/// The list that lets everyone do everything is always there, at this place.
pub const OPEN: AclId = AclId(0);

#[derive(Debug)]
struct Entry {
    lines: Arc<[Acl]>,
    hash: u64,
    references: u64,
}

/// All lists in use.
#[derive(Debug)]
pub struct AclTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: BTreeMap<Arc<[Acl]>, u32>,
}

impl AclTable {
    pub fn new() -> Self {
        let mut table = Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: BTreeMap::new(),
        };
        let open = table.intern(vec![Acl::open()]);
        debug_assert_eq!(open, OPEN);
        table
    }

    /// The place of a list, with one more reference to it.
    pub fn intern(&mut self, lines: Vec<Acl>) -> AclId {
        if let Some(&at) = self.index.get(lines.as_slice()) {
            self.entries[at as usize].references += 1;
            return AclId(at);
        }
        let mut w = Writer::new();
        encode_acl(&mut w, &lines);
        let lines: Arc<[Acl]> = lines.into();
        let entry = Entry {
            lines: lines.clone(),
            hash: XxHash64::oneshot(0, w.as_slice()),
            references: 1,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer lists than nodes")
            }
        };
        self.index.insert(lines, at);
        AclId(at)
    }

    /// One reference less; the list goes with the last.
    pub fn release(&mut self, id: AclId) {
        let entry = &mut self.entries[id.0 as usize];
        entry.references -= 1;
        if entry.references == 0 {
            self.index.remove(&entry.lines);
            entry.lines = Arc::from([]);
            self.free.push(id.0);
        }
    }

    pub fn lines(&self, id: AclId) -> &[Acl] {
        &self.entries[id.0 as usize].lines
    }

    /// A hash of the content.
    pub fn hash(&self, id: AclId) -> u64 {
        self.entries[id.0 as usize].hash
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }
}
