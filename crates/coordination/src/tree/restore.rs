//! Reading a snapshot's nodes back, in whatever order they come: each is put into a slot of its own and
//! remembers its parent's old number; when all are there they are linked, hashed and counted.

use super::kind::NodeKind;
use super::slab::{self, NO_SLOT, Node, SlotId};
use super::{Cut, Tree, path};
use crate::command::decode_acl;
use base::map::HashMap;
use base::{DecodeError, Reader, SnapshotPoll};

/// A tree whose nodes are still arriving.
#[derive(Debug)]
pub struct TreeRestore {
    tree: Tree,
    /// New slot by old slot.
    slots: HashMap<SlotId, SlotId>,
}

impl TreeRestore {
    pub fn new() -> Self {
        Self {
            tree: Tree::bare(),
            slots: HashMap::default(),
        }
    }

    /// Takes the body of a node's record.
    pub fn node(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let old_slot = r.u32()?;
        let parent = r.u32()?;
        let (czxid, mzxid, pzxid) = (r.i64()?, r.i64()?, r.i64()?);
        let (ctime_ms, mtime_ms, owner) = (r.i64()?, r.i64()?, r.i64()?);
        let (version, creations, aversion) = (r.i32()?, r.i32()?, r.i32()?);
        let name = r.str()?;
        if name.contains('/') || !path::is_valid(&format!("/{name}")) {
            return Err(DecodeError::Invalid("node name"));
        }
        if !NodeKind::is_owner(owner) {
            return Err(DecodeError::Invalid("node owner"));
        }
        let acl = if r.bool()? {
            let acl = decode_acl(r)?;
            if acl.is_empty() {
                return Err(DecodeError::Invalid("empty access control list"));
            }
            acl
        } else {
            vec![crate::Acl::open()]
        };
        let data = r.bytes()?.into();
        let acl = self.tree.acls.intern(acl);
        let node = Node {
            name: name.into(),
            data,
            children: None,
            path_hash: 0,
            czxid,
            mzxid,
            pzxid,
            ctime_ms,
            mtime_ms,
            owner,
            version,
            creations,
            aversion,
            parent,
            acl,
        };
        let slot = self.tree.slab.insert(node);
        match self.slots.insert(old_slot, slot) {
            None => Ok(()),
            Some(_) => Err(DecodeError::Invalid("slot that comes twice")),
        }
    }

    /// Links the nodes. An error says what does not fit.
    pub fn finish(self) -> Result<Tree, String> {
        let Self { mut tree, slots } = self;
        for slot in 0..tree.slab.slot_count() {
            let node = tree.slab.node_mut(slot);
            let name = node.name.clone();
            if node.parent == NO_SLOT {
                if tree.root != NO_SLOT || !name.is_empty() {
                    return Err(format!("node {name:?} has no parent and is not the root"));
                }
                tree.root = slot;
                continue;
            }
            let Some(&parent) = slots.get(&node.parent) else {
                return Err(format!(
                    "the parent of node {name:?} is not in the snapshot"
                ));
            };
            node.parent = parent;
            if name.is_empty() || parent == slot || !tree.slab.link(slot) {
                return Err(format!("node {name:?} is there twice under one parent"));
            }
        }
        if tree.root == NO_SLOT {
            return Err("the root is not in the snapshot".into());
        }
        drop(slots);
        tree.hash_from_root()?;
        Ok(tree)
    }
}

impl Tree {
    fn hash_from_root(&mut self) -> Result<(), String> {
        let mut reached = 0;
        let mut todo = vec![(self.root, slab::path_hash(0, ""))];
        while let Some((slot, hash)) = todo.pop() {
            reached += 1;
            self.slab.node_mut(slot).path_hash = hash;
            for (child, node) in self.slab.children(slot) {
                todo.push((child, slab::path_hash(hash, &node.name)));
            }
            self.count_in(slot);
        }
        if reached != self.slab.len() {
            let lost = self.slab.len() - reached;
            return Err(format!("{lost} nodes hang together but not from the root"));
        }
        Ok(())
    }

    /// Sessions that own ephemeral nodes.
    pub fn owners(&self) -> impl Iterator<Item = i64> + '_ {
        self.ephemerals.keys().copied()
    }

    /// Marks the cut of a snapshot that starts with these records.
    pub fn begin_snapshot(&mut self, records: impl IntoIterator<Item = Vec<u8>>) {
        debug_assert!(self.undo.is_empty(), "between units");
        self.cut = Some(Cut::new(&self.slab, records));
    }

    /// The next chunk of the snapshot begun.
    pub fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        match &mut self.cut {
            None => SnapshotPoll::Done,
            Some(cut) => {
                let poll = cut.poll(&self.slab, &self.acls, bytes_max);
                if poll == SnapshotPoll::Done {
                    self.cut = None;
                }
                poll
            }
        }
    }

    /// Gives up the snapshot begun, if any.
    pub fn abort_snapshot(&mut self) {
        self.cut = None;
    }
}
