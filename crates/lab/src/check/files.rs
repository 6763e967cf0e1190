//! Files: every pair of names is linearizable, with a write as what happens when it is closed to the file that it was
//! begun at; nobody reads what was never written, or a part of it; at the end each chunk has as many good copies as it
//! shall have, on the disks that are said to have them, and no disk has anything else.
//!
//! Linearizability is looked for by search (Wing, Gong: Testing and Verifying Concurrent Objects, 1993), with states that
//! were seen before left out (Lowe, 2017). Pairs are in use for two seconds each, so that the search is short.

use crate::files::{Did, FilesHistory, Operation};
use crate::history::History;
use std::collections::{BTreeMap, BTreeSet};

/// States that one search may look at.
const LOOKS_MAX: usize = 300_000;

/// What is wrong.
pub fn check(history: &History) -> Vec<String> {
    let files = &history.files;
    let mut objections = files.complaints.clone();
    let mut pairs: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in &files.operations {
        pairs.entry(operation.pair).or_default().push(operation);
    }
    for (pair, operations) in pairs {
        objections.extend(Search::run(pair, operations));
    }
    copies_are_there(files, &mut objections);
    objections
}

/// What the disks really hold is what files have, and nothing else.
fn copies_are_there(files: &FilesHistory, objections: &mut Vec<String>) {
    let mut wanted = BTreeSet::new();
    for place in &files.last {
        for (id, state) in &place.copies {
            let Some(node) = files.nodes.get(id) else {
                objections.push(format!("chunk {} is on {id}, which is no member", place.id));
                continue;
            };
            let key = (place.id, place.generation);
            wanted.insert((*node, key));
            let found = files.disks.get(node).and_then(|disk| disk.read(key));
            let is_right = found.is_some_and(|bytes| {
                bytes.is_ok_and(|bytes| crc32c::crc32c(bytes) == place.checksum)
            });
            if !is_right && !files.excused.contains(&place.id) {
                objections.push(format!(
                    "the copy of chunk {} on node{node} is {state:?}, and really {found:?}",
                    place.id
                ));
            }
        }
    }
    for node in files.nodes.values() {
        let disk = files.disks.get(node).into_iter();
        for key in disk.flat_map(|disk| disk.chunks.keys()) {
            if !wanted.contains(&(*node, *key)) {
                let id = key.0;
                objections.push(format!("node{node} keeps chunk {id}, which is of no file"));
            }
        }
    }
}

/// To what a writer is bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Bound {
    /// A file that is there, by the write that made it.
    File(u64, bool),
    /// One that is to be there, under this name.
    New(usize),
}

/// A pair of names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct State {
    names: [Option<u64>; 2],
    contents: BTreeMap<u64, Vec<u64>>,
    writers: BTreeMap<u64, Bound>,
}

impl State {
    /// The file of a name goes.
    fn remove(&mut self, slot: usize) {
        if let Some(file) = self.names[slot].take() {
            self.contents.remove(&file);
            (self.writers).retain(|_, bound| !matches!(bound, Bound::File(of, _) if *of == file));
        }
    }

    /// Does something; `None` when it cannot have happened now.
    fn after(&self, did: &Did) -> Option<Self> {
        let mut next = self.clone();
        match did {
            Did::Began {
                write,
                slot,
                appends,
            } => {
                let bound = match self.names[*slot] {
                    Some(file) => Bound::File(file, *appends),
                    None if *appends => return None,
                    None => Bound::New(*slot),
                };
                // Whoever wrote there before has lost the file.
                next.writers.retain(|_, other| match (*other, bound) {
                    (Bound::File(a, _), Bound::File(b, _)) => a != b,
                    (Bound::New(a), Bound::New(b)) => a != b,
                    _ => true,
                });
                next.writers.insert(*write, bound);
            }
            Did::BeganNot { slot, is_there } => {
                if self.names[*slot].is_some() != *is_there {
                    return None;
                }
            }
            Did::Closed { write, token } => {
                let content = Some(*token).filter(|token| *token > 0);
                match next.writers.remove(write)? {
                    Bound::File(file, appends) => {
                        let has = next.contents.entry(file).or_default();
                        if !appends {
                            has.clear();
                        }
                        has.extend(content);
                    }
                    Bound::New(slot) => {
                        if self.names[slot].is_some() {
                            return None;
                        }
                        next.names[slot] = Some(*write);
                        next.contents.insert(*write, content.into_iter().collect());
                    }
                }
            }
            Did::Removed { slot, was_there } => {
                if self.names[*slot].is_some() != *was_there {
                    return None;
                }
                next.remove(*slot);
            }
            Did::Renamed { from, outcome } => {
                let (is, to) = (self.names[*from], self.names[1 - *from]);
                match outcome {
                    Ok(()) if is.is_some() && to.is_none() => next.names.swap(0, 1),
                    Err(true) if is.is_some() && to.is_some() => {}
                    Err(false) if is.is_none() => {}
                    _ => return None,
                }
            }
            Did::Swept => {
                next.remove(0);
                next.remove(1);
                next.writers.clear();
            }
            Did::Read { slot, was } => {
                let has = self.names[*slot].and_then(|file| self.contents.get(&file));
                if has != was.as_ref() {
                    return None;
                }
            }
        }
        Some(next)
    }
}

/// The search for an order.
struct Search<'a> {
    operations: Vec<&'a Operation>,
    seen: BTreeSet<(Vec<u64>, State)>,
    /// The most operations in an order so far, and the first that did not fit then.
    furthest: (usize, String),
}

impl<'a> Search<'a> {
    fn run(pair: usize, mut operations: Vec<&'a Operation>) -> Option<String> {
        operations.sort_by_key(|operation| operation.invoked_us);
        let mut search = Self {
            seen: BTreeSet::new(),
            furthest: (0, String::new()),
            operations,
        };
        let words = search.operations.len().div_ceil(64);
        match search.go(&vec![0; words], &State::default(), 0) {
            Some(true) => None,
            Some(false) => Some(format!(
                "what was seen of {} and {} has no order: {} of {} operations have one, then {}",
                crate::files::path(pair, 0),
                crate::files::path(pair, 1),
                search.furthest.0,
                search.operations.len(),
                search.furthest.1,
            )),
            None => Some(format!(
                "whether what was seen of pair {pair} has an order was not found out in {LOOKS_MAX} states"
            )),
        }
    }

    /// Whether the rest has an order; `None` when that takes too long.
    fn go(&mut self, done: &[u64], state: &State, count: usize) -> Option<bool> {
        let is_done = |at: usize| done[at / 64] & (1 << (at % 64)) != 0;
        let open = (0..self.operations.len()).filter(|at| !is_done(*at));
        let ends = open.clone().filter_map(|at| self.operations[at].ended_us);
        let Some(first_end_us) = ends.min() else {
            return Some(true);
        };
        let mut next: Vec<usize> = open
            .filter(|at| self.operations[*at].invoked_us <= first_end_us)
            .collect();
        // What was answered first comes first; what was never answered, if nothing else fits.
        next.sort_by_key(|at| self.operations[*at].ended_us.unwrap_or(u64::MAX));
        if count >= self.furthest.0 {
            let shown = format!("{:?} in {state:?}", self.operations[next[0]]);
            self.furthest = (count, shown);
        }
        for at in next {
            let Some(after) = state.after(&self.operations[at].did) else {
                continue;
            };
            let mut then = done.to_vec();
            then[at / 64] |= 1 << (at % 64);
            if !self.seen.insert((then.clone(), after.clone())) {
                continue;
            }
            if self.seen.len() > LOOKS_MAX {
                return None;
            }
            match self.go(&then, &after, count + 1) {
                Some(false) => {}
                found => return found,
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(from_us: u64, until_us: u64, did: Did) -> Operation {
        Operation {
            pair: 0,
            invoked_us: from_us,
            ended_us: (until_us > 0).then_some(until_us),
            did,
        }
    }

    fn began(write: u64, slot: usize, appends: bool) -> Did {
        Did::Began {
            write,
            slot,
            appends,
        }
    }

    fn closed(write: u64) -> Did {
        let token = write * 10;
        Did::Closed { write, token }
    }

    fn read(slot: usize, was: &[u64]) -> Did {
        let was = Some(was.to_vec());
        Did::Read { slot, was }
    }

    fn renamed(from: usize) -> Did {
        let outcome = Ok(());
        Did::Renamed { from, outcome }
    }

    /// What is objected to when these follow each other, of which those that are `None` end never.
    fn objections(operations: &[(Did, bool)]) -> usize {
        let mut history = History::default();
        for (at, (did, is_answered)) in operations.iter().enumerate() {
            let at_us = 10 * (1 + at as u64);
            let until_us = if *is_answered { at_us + 5 } else { 0 };
            let operation = operation(at_us, until_us, did.clone());
            history.files.operations.push(operation);
        }
        check(&history).len()
    }

    #[test]
    fn file_is_what_the_last_closed() {
        let nothing = Did::Read { slot: 0, was: None };
        let write = [
            (began(1, 0, false), true),
            (nothing, true),
            (closed(1), true),
        ];
        let with = |more: &[(Did, bool)]| objections(&[&write[..], more].concat());
        assert_eq!(with(&[(read(0, &[10]), true)]), 0);
        assert_eq!(with(&[(read(0, &[]), true)]), 1);
        assert_eq!(with(&[(renamed(0), true), (read(1, &[10]), true)]), 0);
        assert_eq!(with(&[(renamed(0), true), (read(0, &[10]), true)]), 1);
        assert_eq!(with(&[(renamed(1), true)]), 1, "there is nothing to rename");
        let append = [
            (began(2, 0, true), true),
            (renamed(0), true),
            (closed(2), true),
        ];
        let more = |last: Did| with(&[&append[..], &[(last, true)]].concat());
        assert_eq!(more(read(1, &[10, 20])), 0, "the file has another name");
        assert_eq!(more(read(1, &[20])), 1);
    }

    #[test]
    fn what_was_never_answered_happens_once_or_not_at_all() {
        let write = [(began(1, 0, false), true), (closed(1), false)];
        let with = |more: &[(Did, bool)]| objections(&[&write[..], more].concat());
        let nothing = Did::Read { slot: 0, was: None };
        assert_eq!(with(&[(nothing.clone(), true), (read(0, &[10]), true)]), 0);
        assert_eq!(with(&[(read(0, &[10]), true), (nothing, true)]), 1);
    }

    #[test]
    fn writer_that_lost_its_file_does_not_close() {
        let first = [(began(1, 0, false), true), (began(2, 0, false), true)];
        let with = |more: &[(Did, bool)]| objections(&[&first[..], more].concat());
        assert_eq!(with(&[(closed(2), true)]), 0);
        assert_eq!(with(&[(closed(1), true)]), 1);
        assert_eq!(with(&[(Did::Swept, true), (closed(2), true)]), 1);
    }

    #[test]
    fn contents_are_whole_or_found_not_to_be() {
        use crate::files::{pieces, tokens};
        let of = |parts: &[Vec<u8>]| tokens(&parts.concat());
        let (a, b) = (pieces(7, 3, 24), pieces(8, 1, 24));
        assert_eq!(of(&[]), Ok(Vec::new()));
        assert_eq!(of(&[a.clone(), b.clone()].concat()), Ok(vec![7, 8]));
        for part in [&a[..2], &a[1..], &[a[0].clone(), a[2].clone()]] {
            assert!(of(part).is_err(), "{part:?}");
        }
        let mut flipped = b;
        flipped[0][1] ^= 0x20;
        assert!(of(&flipped).is_err());
    }

    #[test]
    fn chunk_of_no_file_and_copy_that_is_not_there_are_found() {
        use storage::files::{ChunkId, ChunkPlace, CopyState};
        let mut history = History::default();
        let files = &mut history.files;
        let id = ChunkId {
            write: 1,
            number: 0,
        };
        let node = base::NodeId(9);
        files.nodes.insert(node, 0);
        let sum = crc32c::crc32c(b"x");
        files.put(0, (id, 1), b"x".to_vec(), sum);
        assert_eq!(check(&history).len(), 1, "it is of no file");
        history.files.last.push(ChunkPlace {
            id,
            generation: 1,
            offset: 0,
            length: 1,
            checksum: sum,
            copies: vec![(node, CopyState::Good)],
        });
        assert_eq!(check(&history).len(), 0);
        history.files.flip(0, (id, 1), 0);
        assert_eq!(check(&history).len(), 1, "it is damaged");
    }
}
