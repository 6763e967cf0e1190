//! The tree keyspace: nodes in a slab, linked by slot numbers; every change goes through four primitives
//! here, which keep up the digest, the undo records, the indexes and a snapshot under way. What may be
//! done by whom is decided in [`ops`] and [`read`].

mod acl_table;
mod children;
pub mod kind;
pub mod ops;
pub mod path;
pub mod read;
mod reap;
pub mod restore;
mod slab;
pub mod snapshot;

use crate::Acl;
use acl_table::{AclId, AclTable};
use kind::NodeKind;
use reap::ReapIndex;
use slab::{NO_SLOT, Node, Slab, SlotId};
use snapshot::Cut;
use std::collections::{BTreeMap, BTreeSet};

/// How to take one change back.
#[derive(Debug)]
enum Undo {
    Created {
        slot: SlotId,
        parent_pzxid: i64,
    },
    Removed {
        slot: SlotId,
        node: Box<Node>,
        parent_pzxid: i64,
    },
    DataSet {
        slot: SlotId,
        data: Box<[u8]>,
        version: i32,
        mzxid: i64,
        mtime_ms: i64,
    },
    AclSet {
        slot: SlotId,
        acl: AclId,
        aversion: i32,
    },
}

/// A node to be made, as the primitives see it.
struct NewNode<'a> {
    parent: SlotId,
    name: &'a str,
    data: &'a [u8],
    acl: AclId,
    kind: NodeKind,
}

/// Undo records kept allocated between units.
const UNDO_KEPT: usize = 1024;

/// All nodes with what is derived from them.
#[derive(Debug)]
pub struct Tree {
    slab: Slab,
    root: SlotId,
    acls: AclTable,
    /// Slots of ephemeral nodes by their session.
    ephemerals: BTreeMap<i64, BTreeSet<SlotId>>,
    ephemeral_count: usize,
    reap: ReapIndex,
    undo: Vec<Undo>,
    /// Sum over nodes of their hashes.
    digest: u64,
    /// Bytes of names and data.
    data_bytes: u64,
    /// The snapshot being taken, if any.
    cut: Option<Cut>,
}

impl Tree {
    /// The root and what ZooKeeper's clients expect below it.
    pub fn new() -> Self {
        let mut tree = Self::bare();
        let acl = tree.acls.intern(vec![Acl::open()]);
        let root = Node {
            name: Box::from(""),
            data: Box::default(),
            children: None,
            path_hash: slab::path_hash(0, ""),
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime_ms: 0,
            mtime_ms: 0,
            owner: 0,
            version: 0,
            creations: 0,
            aversion: 0,
            parent: NO_SLOT,
            acl,
        };
        tree.root = tree.slab.insert(root);
        tree.count_in(tree.root);
        let top = tree.make_reserved(tree.root, "zookeeper");
        tree.make_reserved(top, "quota");
        let config = tree.make_reserved(top, "config");
        // Only an administrator may change the configuration; ZooKeeper counts that list as version -1.
        let mut read_only = Acl::open();
        read_only.permissions = crate::permission::READ;
        tree.set_acl(config, vec![read_only], -1);
        // What exists from the start was never created: it leaves no mark on its parent.
        for slot in [tree.root, top] {
            tree.before_change(slot);
            tree.slab.node_mut(slot).creations = 0;
            tree.after_change(slot);
        }
        tree.commit();
        tree
    }

    fn bare() -> Self {
        Self {
            slab: Slab::default(),
            root: NO_SLOT,
            acls: AclTable::new(),
            ephemerals: BTreeMap::new(),
            ephemeral_count: 0,
            reap: ReapIndex::default(),
            undo: Vec::new(),
            digest: 0,
            data_bytes: 0,
            cut: None,
        }
    }

    fn make_reserved(&mut self, parent: SlotId, name: &str) -> SlotId {
        let node = NewNode {
            parent,
            name,
            data: &[],
            acl: self.acls.intern(vec![Acl::open()]),
            kind: NodeKind::Persistent,
        };
        self.create_node(node, 0, 0)
    }

    /// Sum of the hashes of all nodes.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Nodes held.
    pub fn node_count(&self) -> usize {
        self.slab.len()
    }

    /// Ephemeral nodes held.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    /// Ephemeral nodes of one session.
    pub fn ephemeral_count_of(&self, session: i64) -> usize {
        self.ephemerals.get(&session).map_or(0, BTreeSet::len)
    }

    /// Bytes of names and data.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Distinct access control lists.
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// The slot of a path; the empty path is the root, as it is the parent of `/a`.
    fn lookup(&self, path: &str) -> Option<SlotId> {
        let mut slot = self.root;
        if path.is_empty() || path == "/" {
            return Some(slot);
        }
        for name in path.strip_prefix('/')?.split('/') {
            slot = self.slab.child(slot, name)?;
        }
        Some(slot)
    }

    fn path_of(&self, slot: SlotId) -> String {
        let mut names = Vec::new();
        let mut node = self.slab.node(slot);
        while node.parent != NO_SLOT {
            names.push(&*node.name);
            node = self.slab.node(node.parent);
        }
        if names.is_empty() {
            return "/".to_owned();
        }
        let mut path = String::with_capacity(names.iter().map(|n| n.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Makes the changes since the last commit final.
    pub fn commit(&mut self) {
        for undo in self.undo.drain(..) {
            match undo {
                Undo::Removed { slot, node, .. } => {
                    self.acls.release(node.acl);
                    self.slab.free(slot);
                }
                Undo::AclSet { acl, .. } => self.acls.release(acl),
                Undo::Created { .. } | Undo::DataSet { .. } => {}
            }
        }
        self.undo.shrink_to(UNDO_KEPT);
    }

    /// Takes the changes since the last commit back, latest first.
    pub fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            self.undo_one(undo);
        }
        self.undo.shrink_to(UNDO_KEPT);
    }

    fn undo_one(&mut self, undo: Undo) {
        match undo {
            Undo::Created { slot, parent_pzxid } => {
                let node = self.unlink_node(slot, parent_pzxid);
                let parent = node.parent;
                self.before_change(parent);
                let parent_node = self.slab.node_mut(parent);
                parent_node.creations = parent_node.creations.wrapping_sub(1);
                self.after_change(parent);
                self.acls.release(node.acl);
                self.slab.free(slot);
            }
            Undo::Removed {
                slot,
                node,
                parent_pzxid,
            } => {
                let parent = node.parent;
                self.before_change(parent);
                self.slab.node_mut(parent).pzxid = parent_pzxid;
                self.slab.put_back(slot, *node);
                self.slab.link(slot);
                self.after_change(parent);
                self.count_in(slot);
            }
            Undo::DataSet {
                slot,
                data,
                version,
                mzxid,
                mtime_ms,
            } => {
                self.replace_data(slot, data, version, mzxid, mtime_ms);
            }
            Undo::AclSet {
                slot,
                acl,
                aversion,
            } => {
                let new = self.replace_acl(slot, acl, aversion);
                self.acls.release(new);
            }
        }
    }

    // The four primitives.

    fn create_node(&mut self, new: NewNode<'_>, zxid: i64, time_ms: i64) -> SlotId {
        self.before_change(new.parent);
        let parent = self.slab.node(new.parent);
        let parent_pzxid = parent.pzxid;
        let node = Node {
            name: new.name.into(),
            data: new.data.into(),
            children: None,
            path_hash: slab::path_hash(parent.path_hash, new.name),
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            owner: new.kind.owner(),
            version: 0,
            creations: 0,
            aversion: 0,
            parent: new.parent,
            acl: new.acl,
        };
        let slot = self.slab.insert(node);
        if let Some(cut) = &mut self.cut {
            cut.skip(slot);
        }
        self.count_in(slot);
        let is_new = self.slab.link(slot);
        debug_assert!(is_new, "the caller has looked");
        let parent = self.slab.node_mut(new.parent);
        parent.creations = parent.creations.wrapping_add(1);
        parent.pzxid = zxid;
        self.after_change(new.parent);
        self.undo.push(Undo::Created { slot, parent_pzxid });
        slot
    }

    fn remove_node(&mut self, slot: SlotId, zxid: i64) {
        let parent_pzxid = self.slab.node(self.slab.node(slot).parent).pzxid;
        let node = self.unlink_node(slot, zxid);
        self.undo.push(Undo::Removed {
            slot,
            node: Box::new(node),
            parent_pzxid,
        });
    }

    fn set_data(&mut self, slot: SlotId, data: &[u8], version: i32, zxid: i64, time_ms: i64) {
        let node = self.slab.node(slot);
        let (old_version, mzxid, mtime_ms) = (node.version, node.mzxid, node.mtime_ms);
        let old = self.replace_data(slot, data.into(), version, zxid, time_ms);
        self.undo.push(Undo::DataSet {
            slot,
            data: old,
            version: old_version,
            mzxid,
            mtime_ms,
        });
    }

    fn set_acl(&mut self, slot: SlotId, acl: Vec<Acl>, aversion: i32) {
        let acl = self.acls.intern(acl);
        let old_aversion = self.slab.node(slot).aversion;
        let old = self.replace_acl(slot, acl, aversion);
        self.undo.push(Undo::AclSet {
            slot,
            acl: old,
            aversion: old_aversion,
        });
    }

    // What the primitives and their undoing share.

    /// Takes a leaf out of the tree, its slot still reserved.
    fn unlink_node(&mut self, slot: SlotId, parent_pzxid: i64) -> Node {
        let parent = self.slab.node(slot).parent;
        self.before_change(slot);
        self.uncount_rest(slot);
        self.before_change(parent);
        self.slab.unlink(slot);
        self.slab.node_mut(parent).pzxid = parent_pzxid;
        self.after_change(parent);
        self.slab.take(slot)
    }

    fn replace_data(
        &mut self,
        slot: SlotId,
        data: Box<[u8]>,
        version: i32,
        mzxid: i64,
        mtime_ms: i64,
    ) -> Box<[u8]> {
        self.before_change(slot);
        let node = self.slab.node_mut(slot);
        self.digest = self.digest.wrapping_sub(node.digest_of_data());
        self.data_bytes = self.data_bytes - node.data.len() as u64 + data.len() as u64;
        let old = std::mem::replace(&mut node.data, data);
        node.version = version;
        node.mzxid = mzxid;
        node.mtime_ms = mtime_ms;
        self.digest = self.digest.wrapping_add(node.digest_of_data());
        self.after_change(slot);
        old
    }

    fn replace_acl(&mut self, slot: SlotId, acl: AclId, aversion: i32) -> AclId {
        self.before_change(slot);
        let node = self.slab.node_mut(slot);
        let old = std::mem::replace(&mut node.acl, acl);
        node.aversion = aversion;
        self.after_change(slot);
        old
    }

    /// Called before anything of a node changes: its old image goes into a snapshot under way, its metadata
    /// out of the digest and the reaping index.
    fn before_change(&mut self, slot: SlotId) {
        let node = self.slab.node(slot);
        if let Some(cut) = &mut self.cut {
            cut.keep_old_image(slot, node, &self.acls);
        }
        self.reap.remove(slot, node);
        let hash = node.digest_of_metadata(self.acls.hash(node.acl));
        self.digest = self.digest.wrapping_sub(hash);
    }

    /// The other half of [`Self::before_change`].
    fn after_change(&mut self, slot: SlotId) {
        let node = self.slab.node(slot);
        self.reap.insert(slot, node);
        let hash = node.digest_of_metadata(self.acls.hash(node.acl));
        self.digest = self.digest.wrapping_add(hash);
    }

    /// Enters a node that has just come into its slot everywhere.
    fn count_in(&mut self, slot: SlotId) {
        self.after_change(slot);
        let node = self.slab.node(slot);
        self.digest = self.digest.wrapping_add(node.digest_of_data());
        self.data_bytes += (node.name.len() + node.data.len()) as u64;
        if let NodeKind::Ephemeral(session) = NodeKind::of_owner(node.owner) {
            self.ephemerals.entry(session).or_default().insert(slot);
            self.ephemeral_count += 1;
        }
    }

    /// Undoes [`Self::count_in`], but for what [`Self::before_change`] does.
    fn uncount_rest(&mut self, slot: SlotId) {
        let node = self.slab.node(slot);
        self.digest = self.digest.wrapping_sub(node.digest_of_data());
        self.data_bytes -= (node.name.len() + node.data.len()) as u64;
        if let NodeKind::Ephemeral(session) = NodeKind::of_owner(node.owner) {
            let slots = self
                .ephemerals
                .get_mut(&session)
                .expect("it was counted in");
            slots.remove(&slot);
            if slots.is_empty() {
                self.ephemerals.remove(&session);
            }
            self.ephemeral_count -= 1;
        }
    }
}
