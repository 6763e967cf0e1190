//! Where nodes live: numbered slots in pages, so that growing copies nothing and a node is named by four
//! bytes. A map from path to node would hold every prefix of every path once more.

use super::acl_table::AclId;
use super::children::{Children, Position, print};
use std::cmp::Ordering;
use twox_hash::XxHash64;

/// Number of a slot. Depends on history: never in a digest, a reply or a decision.
pub type SlotId = u32;

/// The parent of the root.
pub const NO_SLOT: SlotId = u32::MAX;

const PAGE_SLOTS: usize = 1024;

/// One node of the tree. Keep it small: there are millions.
#[derive(Debug)]
pub struct Node {
    pub name: Box<str>,
    pub data: Box<[u8]>,
    /// Nothing for a leaf.
    pub children: Option<Box<Children>>,
    /// Hash of the path: the name hashed with the parent's as seed.
    pub path_hash: u64,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime_ms: i64,
    pub mtime_ms: i64,
    /// See [`super::kind`].
    pub owner: i64,
    pub version: i32,
    /// Children ever created; also the next sequential suffix.
    pub creations: i32,
    pub aversion: i32,
    pub parent: SlotId,
    pub acl: AclId,
}

impl Node {
    pub fn child_count(&self) -> usize {
        self.children.as_ref().map_or(0, |c| c.len())
    }

    /// The two parts of the node's share in the digest: they are summed, so order does not matter.
    pub fn digest_of_data(&self) -> u64 {
        XxHash64::oneshot(!self.path_hash, &self.data)
    }

    pub fn digest_of_metadata(&self, acl_hash: u64) -> u64 {
        let mut image = [0; 68];
        let longs = [
            self.czxid,
            self.mzxid,
            self.pzxid,
            self.ctime_ms,
            self.mtime_ms,
            self.owner,
            acl_hash as i64,
        ];
        let ints = [self.version, self.creations, self.aversion];
        let (head, tail) = image.split_at_mut(56);
        for (to, value) in head.chunks_exact_mut(8).zip(longs) {
            to.copy_from_slice(&value.to_be_bytes());
        }
        for (to, value) in tail.chunks_exact_mut(4).zip(ints) {
            to.copy_from_slice(&value.to_be_bytes());
        }
        XxHash64::oneshot(self.path_hash, &image)
    }
}

/// Hash of the path of a child (or, with an empty name and 0, of the root).
pub fn path_hash(parent: u64, name: &str) -> u64 {
    XxHash64::oneshot(parent, name.as_bytes())
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Slab {
    pages: Vec<Vec<Option<Node>>>,
    free: Vec<SlotId>,
    slot_count: SlotId,
    node_count: usize,
}

impl Slab {
    fn place(&self, slot: SlotId) -> Option<&Option<Node>> {
        let at = slot as usize;
        self.pages.get(at / PAGE_SLOTS)?.get(at % PAGE_SLOTS)
    }

    fn place_mut(&mut self, slot: SlotId) -> &mut Option<Node> {
        let at = slot as usize;
        &mut self.pages[at / PAGE_SLOTS][at % PAGE_SLOTS]
    }

    /// The node in a slot, if there is one.
    pub fn get(&self, slot: SlotId) -> Option<&Node> {
        self.place(slot)?.as_ref()
    }

    /// The node in a slot that holds one.
    pub fn node(&self, slot: SlotId) -> &Node {
        self.get(slot).expect("the slot is in use")
    }

    /// The node in a slot that holds one.
    pub fn node_mut(&mut self, slot: SlotId) -> &mut Node {
        self.place_mut(slot).as_mut().expect("the slot is in use")
    }

    /// The child of that name.
    pub fn child(&self, parent: SlotId, name: &str) -> Option<SlotId> {
        let children = self.node(parent).children.as_ref()?;
        let position = self.find(children, name)?;
        Some(children.get(position))
    }

    /// The children in the order of their names.
    pub fn children(&self, parent: SlotId) -> impl Iterator<Item = (SlotId, &Node)> {
        let children = self.node(parent).children.iter();
        children
            .flat_map(|c| c.iter())
            .map(|slot| (slot, self.node(slot)))
    }

    /// Makes a node the child of its parent; false when there is one of its name.
    pub fn link(&mut self, slot: SlotId) -> bool {
        let node = self.node(slot);
        let parent = node.parent;
        let none = Children::default();
        let children = self.node(parent).children.as_deref().unwrap_or(&none);
        if self.find(children, &node.name).is_some() {
            return false;
        }
        let position = children.place(|slot| self.order(slot, &node.name));
        let print = print(&node.name);
        let children = &mut self.node_mut(parent).children;
        children
            .get_or_insert_default()
            .insert(position, print, slot);
        true
    }

    /// Undoes [`Self::link`], while the node is still in its slot.
    pub fn unlink(&mut self, slot: SlotId) {
        let node = self.node(slot);
        let parent = node.parent;
        let siblings = self.node(parent).children.as_ref();
        let position = siblings
            .and_then(|c| self.find(c, &node.name))
            .expect("the child is linked");
        let children = &mut self.node_mut(parent).children;
        let siblings = children.as_mut().expect("it was found there");
        siblings.remove(position);
        if siblings.len() == 0 {
            *children = None;
        }
    }

    fn find(&self, children: &Children, name: &str) -> Option<Position> {
        children.find(print(name), |slot| self.order(slot, name))
    }

    fn order(&self, slot: SlotId, name: &str) -> Ordering {
        (*self.node(slot).name).cmp(name)
    }

    /// Puts a node into a free slot.
    pub fn insert(&mut self, node: Node) -> SlotId {
        self.node_count += 1;
        if let Some(slot) = self.free.pop() {
            *self.place_mut(slot) = Some(node);
            return slot;
        }
        let slot = self.slot_count;
        assert!(slot < NO_SLOT, "slots are numbered with 32 bits");
        if (slot as usize).is_multiple_of(PAGE_SLOTS) {
            self.pages.push(Vec::with_capacity(PAGE_SLOTS));
        }
        self.pages
            .last_mut()
            .expect("a page was made")
            .push(Some(node));
        self.slot_count += 1;
        slot
    }

    /// Takes a node out; its slot is kept for it until [`Self::free`].
    pub fn take(&mut self, slot: SlotId) -> Node {
        self.node_count -= 1;
        self.place_mut(slot).take().expect("the slot is in use")
    }

    /// Puts a node back where it was taken from.
    pub fn put_back(&mut self, slot: SlotId, node: Node) {
        self.node_count += 1;
        *self.place_mut(slot) = Some(node);
    }

    /// Gives up the slot of a node that was taken out.
    pub fn free(&mut self, slot: SlotId) {
        debug_assert!(self.get(slot).is_none());
        self.free.push(slot);
    }

    /// Slots ever used.
    pub fn slot_count(&self) -> SlotId {
        self.slot_count
    }

    /// Nodes held.
    pub fn len(&self) -> usize {
        self.node_count
    }
}
