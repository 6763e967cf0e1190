//! Watches: filters over the event stream, kept in memory by the core that the connection is on.
//!
//! The idea: one ordered map from path to its watchers, each with a set of kinds (four bits), and one
//! ordered set of (watcher, path) to end a connection quickly. Paths are chosen by clients, so nothing
//! here hashes them. A watch costs about 130 bytes plus its path; what a watcher may hold is bounded.
//!
//! Semantics are ZooKeeper's: data and child watches are consumed by the event that they tell, persistent
//! ones stay; a recursive one also tells of every descendant but never of a changed list of children; one
//! event yields at most one notification a watcher, however many of its watches match.

use crate::{Coordination, Event, EventKind};
use base::map::HashMap;
use base::planted::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a watch waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WatchKind {
    /// Once: the node is created, deleted, or its data are set. Registered by `getData` and `exists`.
    Data,
    /// Once: a child is created or deleted, or the node is deleted. Registered by `getChildren`.
    Children,
    /// Like data and children together, until removed.
    Persistent,
    /// Creation, deletion and data of the node and of all below it, until removed.
    PersistentRecursive,
}

/// Which watches of a path are meant by a removal or a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WatchSelection {
    /// The one-shot child watch.
    Children,
    /// The one-shot data watch.
    Data,
    /// All of them.
    Any,
    /// The persistent watch.
    Persistent,
    /// The persistent recursive watch.
    PersistentRecursive,
}

/// The watcher holds as many watches as it may; nothing was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchesFull;

/// What a client that reconnects had been watching.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchReplay {
    /// The last revision that the client has seen.
    pub relative_zxid: i64,
    /// Data watches on nodes that were there.
    pub data: Vec<String>,
    /// Data watches on nodes that were not there.
    pub exist: Vec<String>,
    /// Child watches.
    pub child: Vec<String>,
    /// Persistent watches.
    pub persistent: Vec<String>,
    /// Persistent recursive watches.
    pub persistent_recursive: Vec<String>,
}

const DATA: u8 = 1;
const CHILDREN: u8 = 2;
const PERSISTENT: u8 = 4;
const RECURSIVE: u8 = 8;

impl WatchKind {
    fn bit(self) -> u8 {
        match self {
            Self::Data => DATA,
            Self::Children => CHILDREN,
            Self::Persistent => PERSISTENT,
            Self::PersistentRecursive => RECURSIVE,
        }
    }
}

impl WatchSelection {
    fn bits(self) -> u8 {
        match self {
            Self::Children => CHILDREN,
            Self::Data => DATA,
            Self::Any => DATA | CHILDREN | PERSISTENT | RECURSIVE,
            Self::Persistent => PERSISTENT,
            Self::PersistentRecursive => RECURSIVE,
        }
    }
}

/// The watchers of one path; one alone, the usual case, needs no allocation.
#[derive(Clone, Debug)]
enum Watchers {
    One(u64, u8),
    Many(BTreeMap<u64, u8>),
}

impl Watchers {
    fn get(&self, watcher: u64) -> u8 {
        match self {
            Self::One(w, bits) if *w == watcher => *bits,
            Self::One(..) => 0,
            Self::Many(map) => map.get(&watcher).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, watcher: u64, bits: u8) {
        match self {
            Self::One(w, old) if *w == watcher => *old = bits,
            Self::One(w, old) => {
                let map = BTreeMap::from([(*w, *old), (watcher, bits)]);
                *self = Self::Many(map);
            }
            Self::Many(map) => {
                map.insert(watcher, bits);
            }
        }
    }

    /// Clears all bits of a watcher; true when nobody is left.
    fn clear(&mut self, watcher: u64) -> bool {
        match self {
            Self::One(w, _) => *w == watcher,
            Self::Many(map) => {
                map.remove(&watcher);
                map.is_empty()
            }
        }
    }

    fn collect(&self, bits: u8, found: &mut Vec<(u64, u8)>) {
        match self {
            Self::One(w, b) if b & bits != 0 => found.push((*w, *b)),
            Self::One(..) => {}
            Self::Many(map) => {
                found.extend(
                    map.iter()
                        .filter(|(_, b)| *b & bits != 0)
                        .map(|(w, b)| (*w, *b)),
                );
            }
        }
    }
}

/// All watches of the connections of one core. A watcher is a connection's number.
#[derive(Clone, Debug)]
pub struct Watches {
    by_path: BTreeMap<Arc<str>, Watchers>,
    by_watcher: BTreeSet<(u64, Arc<str>)>,
    counts: HashMap<u64, usize>,
    /// Connections that were forgotten and still take room.
    leaving: BTreeSet<u64>,
    watches_max: usize,
    watch_count: usize,
    recursive_count: usize,
}

impl Watches {
    /// None yet; each watcher may hold `watches_max`.
    pub fn new(watches_max: usize) -> Self {
        Self {
            by_path: BTreeMap::new(),
            by_watcher: BTreeSet::new(),
            counts: HashMap::default(),
            leaving: BTreeSet::new(),
            watches_max,
            watch_count: 0,
            recursive_count: 0,
        }
    }

    /// Arms a watch; one that is armed already stays as it is.
    pub fn add(&mut self, watcher: u64, kind: WatchKind, path: &str) -> Result<(), WatchesFull> {
        let old = self.bits(watcher, path);
        if old & kind.bit() != 0 {
            return Ok(());
        }
        if self.counts.get(&watcher).copied().unwrap_or(0) >= self.watches_max {
            return Err(WatchesFull);
        }
        self.set_bits(watcher, path, old, old | kind.bit());
        Ok(())
    }

    /// Disarms watches; false when there was none to disarm.
    pub fn remove(&mut self, watcher: u64, which: WatchSelection, path: &str) -> bool {
        let old = self.bits(watcher, path);
        let new = old & !which.bits();
        self.set_bits(watcher, path, old, new);
        old != new
    }

    /// True when the watcher has such a watch on exactly this path.
    pub fn contains(&self, watcher: u64, which: WatchSelection, path: &str) -> bool {
        self.bits(watcher, path) & which.bits() != 0
    }

    /// Forgets a connection; its number is never used again. It is told nothing from now on. Its watches
    /// are given back a few at a time, by [`Self::reap`]: somebody else's request must not wait for the
    /// watches of a connection that had a million.
    pub fn remove_watcher(&mut self, watcher: u64) {
        if let Some(count) = self.counts.remove(&watcher) {
            self.watch_count -= count;
            self.leaving.insert(watcher);
        }
    }

    /// Gives back what at most `paths_max` paths of forgotten connections take.
    pub fn reap(&mut self, paths_max: usize) {
        let mut left = paths_max;
        while left > 0
            && let Some(watcher) = self.leaving.first().copied()
        {
            let first = (watcher, Arc::from(""));
            let gone: Vec<(u64, Arc<str>)> = (self.by_watcher.range(first..))
                .take_while(|(w, _)| *w == watcher)
                .take(left)
                .cloned()
                .collect();
            if gone.len() < left {
                self.leaving.remove(&watcher);
            }
            left -= gone.len();
            for key in gone {
                self.by_watcher.remove(&key);
                let path = &*key.1;
                let watchers = self.by_path.get_mut(path).expect("each has its path");
                self.recursive_count -= usize::from(watchers.get(watcher) & RECURSIVE != 0);
                if watchers.clear(watcher) {
                    self.by_path.remove(path);
                }
            }
        }
    }

    /// Whom an event is to be told, appended to `out` in ascending order of watchers; one-shot watches
    /// that it matches are consumed.
    pub fn handle_event(&mut self, event: &Event, out: &mut Vec<(u64, EventKind)>) {
        let (direct, consumed) = match event.kind {
            EventKind::Created | EventKind::DataChanged => (DATA | PERSISTENT | RECURSIVE, DATA),
            EventKind::Deleted => (DATA | CHILDREN | PERSISTENT | RECURSIVE, DATA | CHILDREN),
            EventKind::ChildrenChanged => (CHILDREN | PERSISTENT, CHILDREN),
        };
        let consumed = if planted(Bug::ConsumePersistent) {
            consumed | PERSISTENT
        } else {
            consumed
        };
        let mut found = Vec::new();
        self.collect(&event.path, direct, &mut found);
        for (watcher, bits) in &found {
            self.set_bits(*watcher, &event.path, *bits, bits & !consumed);
        }
        if self.recursive_count > 0 && event.kind != EventKind::ChildrenChanged {
            let mut path = event.path.as_str();
            while path != "/" {
                path = crate::tree::path::parent(path);
                self.collect(path, RECURSIVE, &mut found);
            }
        }
        let start = out.len();
        found.sort_unstable();
        found.dedup_by_key(|(watcher, _)| *watcher);
        out.extend(found.iter().map(|(watcher, _)| (*watcher, event.kind)));
        debug_assert!(out[start..].is_sorted());
    }

    /// Arms what a reconnecting client had, as ZooKeeper does: what has happened since `relative_zxid` is
    /// told at once (appended to `out`) instead of being armed, one notification a path and list.
    /// Persistent watches are armed and tell nothing of what was missed. All that fits is armed even when
    /// the bound is met.
    pub fn replay(
        &mut self,
        state: &Coordination,
        watcher: u64,
        replay: &WatchReplay,
        out: &mut Vec<(EventKind, String)>,
    ) -> Result<(), WatchesFull> {
        let since = replay.relative_zxid;
        let mut result = Ok(());
        for path in &replay.data {
            match state.stat(path) {
                None => out.push((EventKind::Deleted, path.clone())),
                Some(stat) if stat.mzxid > since => {
                    out.push((EventKind::DataChanged, path.clone()));
                }
                Some(_) => result = result.and(self.add(watcher, WatchKind::Data, path)),
            }
        }
        for path in &replay.exist {
            match state.stat(path) {
                Some(_) => out.push((EventKind::Created, path.clone())),
                None => result = result.and(self.add(watcher, WatchKind::Data, path)),
            }
        }
        for path in &replay.child {
            match state.stat(path) {
                None => out.push((EventKind::Deleted, path.clone())),
                Some(stat) if stat.pzxid > since => {
                    out.push((EventKind::ChildrenChanged, path.clone()));
                }
                Some(_) => result = result.and(self.add(watcher, WatchKind::Children, path)),
            }
        }
        for path in &replay.persistent {
            result = result.and(self.add(watcher, WatchKind::Persistent, path));
        }
        for path in &replay.persistent_recursive {
            result = result.and(self.add(watcher, WatchKind::PersistentRecursive, path));
        }
        result
    }

    /// Watches armed.
    pub fn len(&self) -> usize {
        self.watch_count
    }

    /// True when nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.watch_count == 0
    }

    /// Paths that somebody watches.
    pub fn path_count(&self) -> usize {
        self.by_path.len()
    }

    /// Connections that watch something.
    pub fn watcher_count(&self) -> usize {
        self.counts.len()
    }

    /// The watchers of a path with any of these bits, but for those that have left.
    fn collect(&self, path: &str, bits: u8, found: &mut Vec<(u64, u8)>) {
        if let Some(watchers) = self.by_path.get(path) {
            watchers.collect(bits, found);
            found.retain(|(watcher, _)| !self.leaving.contains(watcher));
        }
    }

    fn bits(&self, watcher: u64, path: &str) -> u8 {
        self.by_path.get(path).map_or(0, |w| w.get(watcher))
    }

    fn set_bits(&mut self, watcher: u64, path: &str, old: u8, new: u8) {
        if old == new {
            return;
        }
        if old == 0 {
            let key = match self.by_path.get_key_value(path) {
                Some((key, _)) => key.clone(),
                None => Arc::from(path),
            };
            self.by_watcher.insert((watcher, key.clone()));
            self.by_path
                .entry(key)
                .and_modify(|w| w.set(watcher, new))
                .or_insert(Watchers::One(watcher, new));
        } else if new == 0 {
            let watchers = self.by_path.get_mut(path).expect("old bits came from here");
            if watchers.clear(watcher) {
                self.by_path.remove(path);
            }
            self.by_watcher.remove(&(watcher, Arc::from(path)));
        } else {
            let watchers = self.by_path.get_mut(path).expect("old bits came from here");
            watchers.set(watcher, new);
        }
        let count = self.counts.entry(watcher).or_insert(0);
        *count = *count - old.count_ones() as usize + new.count_ones() as usize;
        if *count == 0 {
            self.counts.remove(&watcher);
        }
        self.watch_count = self.watch_count - old.count_ones() as usize + new.count_ones() as usize;
        self.recursive_count = self.recursive_count - usize::from(old & RECURSIVE != 0)
            + usize::from(new & RECURSIVE != 0);
    }
}
