//! A lock on a tree: each contender has an ephemeral sequential node, and waits for the one before it to go.
//!
//! Source: Hunt, Konar, Junqueira, Reed, "ZooKeeper: Wait-free coordination for Internet-scale systems", USENIX
//! ATC 2010, section 2.4 ("Simple Locks without Herd Effect" and "Read/Write Locks").
//!
//! Idea: the parent numbers the nodes, so they are a queue. A writer waits for its immediate predecessor of either
//! kind, a reader for the last writer before it, and each watches only that one node: a release wakes one writer,
//! or the readers that stand behind a writer. A session that ends takes its node along. Not taken: a watch on the
//! parent, which wakes everybody each time.
//!
//! Cost: an uncontended entry is a create and a list; a contended one adds one watch and, woken, one list. The
//! fence is the revision at which the contender's node was created, which the order of the queue follows.
//!
//! A create whose outcome is unknown (the connection broke) may have made a node. The contender's random id is in
//! the node's name, and it looks for that before it creates another; else it would wait for itself for ever.

use super::{Mode, State};
use base::planted::{Bug, planted};

/// Digits that a server appends to a sequential node's name.
const DIGITS: usize = 10;

/// Whose names a contender's nodes have. Contenders of all kinds are seen; only clients whose own kind this is see ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Names {
    /// kazoo's `Lock`, `WriteLock` and `ReadLock`.
    Kazoo,
    /// Curator's `InterProcessReadWriteLock`.
    Curator,
    /// Curator's `InterProcessMutex`; it knows exclusive locks only.
    CuratorMutex,
}

impl Names {
    /// What the nodes of contenders of `mode` are called before their number; `None` for a mode that there is not.
    fn prefix(self, id: &str, mode: Mode) -> Option<String> {
        Some(match (self, mode) {
            (Self::Kazoo, Mode::Exclusive) => format!("{id}__lock__"),
            (Self::Kazoo, Mode::Shared) => format!("{id}__rlock__"),
            (Self::Curator, Mode::Exclusive) => format!("_c_{id}-__WRIT__"),
            (Self::Curator, Mode::Shared) => format!("_c_{id}-__READ__"),
            (Self::CuratorMutex, Mode::Exclusive) => format!("_c_{id}-lock-"),
            (Self::CuratorMutex, Mode::Shared) => return None,
        })
    }
}

/// A node that stands in the queue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The number that the parent gave it.
    pub number: i64,
    /// Its name, below the lock's node.
    pub name: String,
    /// What it stands for.
    pub mode: Mode,
}

/// The queue that these children are, the first in front. What has no number is no contender; what has one and is
/// not known as a reader is taken for a writer, which errs on the safe side.
pub fn queue(children: &[String]) -> Vec<Place> {
    let mut places: Vec<Place> = children.iter().filter_map(|name| place(name)).collect();
    places.sort();
    places
}

/// True when one of these children is named as the contenders of a lock are, by any of [`Names`].
pub fn is_lock(children: &[String]) -> bool {
    let kinds = ["__lock__", "__rlock__", "__WRIT__", "__READ__", "-lock-"];
    children.iter().any(|name| {
        let kind =
            place(name).and_then(|place| place.name.get(..name.len() - DIGITS).map(str::to_owned));
        kind.is_some_and(|kind| kinds.iter().any(|it| kind.ends_with(it)))
    })
}

fn place(name: &str) -> Option<Place> {
    let digits = name.len().checked_sub(DIGITS)?;
    let (kind, number) = (name.get(..digits)?, name.get(digits..)?);
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_reader = ["__rlock__", "__READ__"]
        .iter()
        .any(|it| kind.ends_with(it));
    Some(Place {
        number: number.parse().ok()?,
        name: name.to_owned(),
        mode: if is_reader {
            Mode::Shared
        } else {
            Mode::Exclusive
        },
    })
}

/// Whom the one at `index` waits for; `None` when it holds the lock.
pub fn waits_for(queue: &[Place], index: usize) -> Option<&Place> {
    let mut before = queue[..index].iter().rev();
    if planted(Bug::WriterIgnoresWriters) {
        let against = match queue[index].mode {
            Mode::Exclusive => Mode::Shared,
            Mode::Shared => Mode::Exclusive,
        };
        return before.find(|place| place.mode == against);
    }
    match queue[index].mode {
        Mode::Exclusive => before.next(),
        Mode::Shared => before.find(|place| place.mode == Mode::Exclusive),
    }
}

/// What a contender asks of the tree; the one before is answered first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Make a node without data; that it is there already counts as done.
    Ensure {
        /// Its path.
        path: String,
        /// A container, which goes when it is empty; else a persistent node.
        is_container: bool,
    },
    /// Make an ephemeral sequential node.
    Create {
        /// Its path, without the number.
        path: String,
    },
    /// Let the server catch up with all that was committed.
    Sync {
        /// Of which node.
        path: String,
    },
    /// List the children.
    List {
        /// Of which node.
        path: String,
    },
    /// Ask for a node's metadata.
    Exists {
        /// Which node.
        path: String,
        /// Tell once when it goes.
        watch: bool,
    },
    /// Remove a node.
    Delete {
        /// Which node.
        path: String,
    },
}

/// What the tree answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// It was done, or was so already.
    Done,
    /// The node that was made.
    Created {
        /// Its path, with the number.
        path: String,
        /// The revision at which it was made.
        czxid: i64,
    },
    /// Names of children.
    Children(Vec<String>),
    /// The node is there.
    Found {
        /// The revision at which it was made.
        czxid: i64,
    },
    /// There is no such node, or the parent is missing.
    NoNode,
}

/// What is asked next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Make this many of the lock's ancestors, then the node.
    Ensure(usize),
    Create,
    /// The outcome of something is unknown: look what there is.
    Sync,
    List,
    /// The node was found by its name; ask for its revision.
    Fence,
    Watch(String),
    /// Until the one in front goes, or the lock is released.
    Idle,
    /// Is the node still there?
    Confirm,
    Delete,
    End,
}

/// One contender for a lock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Contender {
    /// The lock's node.
    directory: String,
    /// The name of its own node, without the number.
    prefix: String,
    /// Its own node's name, once it is known.
    node: Option<String>,
    fence: Option<u64>,
    step: Step,
    /// What `step` asks was handed out and is not answered.
    is_asked: bool,
    /// The lock is to be given back.
    is_leaving: bool,
    state: State,
    /// Whose end it waits for.
    waits_for: Option<String>,
}

impl Contender {
    /// A contender for the lock at `directory`, an absolute path that is not the root. `id` must be unique among
    /// all contenders ever. `None` when `names` has no such mode.
    pub fn new(directory: &str, id: &str, mode: Mode, names: Names) -> Option<Self> {
        Some(Self {
            directory: directory.to_owned(),
            prefix: names.prefix(id, mode)?,
            node: None,
            fence: None,
            step: Step::Create,
            is_asked: false,
            is_leaving: false,
            state: State::Waiting,
            waits_for: None,
        })
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The name of its own node, once it has one.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The name of the node that it waits for.
    pub fn waits_for(&self) -> Option<&str> {
        self.waits_for.as_deref()
    }

    /// The next request, if there is one and the one before is answered.
    pub fn poll_request(&mut self) -> Option<Request> {
        if self.is_asked {
            return None;
        }
        let directory = &self.directory;
        let request = match &self.step {
            Step::Ensure(depth) => Request::Ensure {
                path: ancestor(directory, *depth).to_owned(),
                is_container: ancestor(directory, *depth) == directory,
            },
            Step::Create => Request::Create {
                path: self.path(&self.prefix),
            },
            Step::Sync => Request::Sync {
                path: directory.clone(),
            },
            Step::List => Request::List {
                path: directory.clone(),
            },
            Step::Fence | Step::Confirm => Request::Exists {
                path: self.path(self.node.as_ref()?),
                watch: false,
            },
            Step::Watch(name) => Request::Exists {
                path: self.path(name),
                watch: true,
            },
            Step::Delete => Request::Delete {
                path: self.path(self.node.as_ref()?),
            },
            Step::Idle | Step::End => return None,
        };
        self.is_asked = true;
        Some(request)
    }

    /// Takes the answer to what was asked last.
    pub fn handle_reply(&mut self, reply: Reply) {
        self.is_asked = false;
        let next = match (self.step.clone(), reply) {
            (Step::Ensure(depth), Reply::NoNode) => Step::Ensure(depth.saturating_sub(1)),
            (Step::Ensure(depth), _) if ancestor(&self.directory, depth) == self.directory => {
                Step::Create
            }
            (Step::Ensure(depth), _) => Step::Ensure(depth + 1),
            (Step::Create, Reply::Created { path, czxid }) => {
                self.node = path.rsplit('/').next().map(str::to_owned);
                self.fence = Some(czxid.unsigned_abs());
                Step::List
            }
            (Step::Create, _) => Step::Ensure(1),
            (Step::Sync, _) => Step::List,
            (Step::List, Reply::Children(names)) => self.look(&names),
            (Step::List, _) => self.look(&[]),
            (Step::Fence, Reply::Found { czxid }) => {
                self.fence = Some(czxid.unsigned_abs());
                Step::List
            }
            (Step::Watch(_), Reply::Found { .. }) => Step::Idle,
            // It went before it could be watched.
            (Step::Watch(_), _) => Step::List,
            (Step::Confirm, Reply::Found { .. }) => Step::Idle,
            (Step::Fence | Step::Confirm, _) => self.lose("its node was removed"),
            (Step::Delete, _) => self.end(State::Released),
            (Step::Idle | Step::End, _) => return,
        };
        self.go(next);
    }

    /// A watched node is gone.
    pub fn handle_deleted(&mut self, path: &str) {
        let is_it = (self.waits_for.as_deref()).is_some_and(|name| self.path(name) == path);
        if is_it && self.step == Step::Idle && self.state == State::Waiting {
            self.go(Step::List);
        }
    }

    /// The session goes on over another connection: what was asked may have been done or not, and watches are gone.
    pub fn handle_reconnected(&mut self) {
        if self.step == Step::End {
            return;
        }
        self.is_asked = false;
        self.step = match self.step {
            // It does not hurt to do it again.
            Step::Ensure(depth) => Step::Ensure(depth),
            Step::Create if planted(Bug::CreateWithoutLooking) => Step::Create,
            _ => Step::Sync,
        };
    }

    /// The session has ended, and its node with it.
    pub fn handle_expired(&mut self) {
        if self.step != Step::End {
            self.step = self.lose("its session has expired");
            self.is_asked = false;
        }
    }

    /// Asks whether the holder's node is still there: somebody may have broken the lock.
    pub fn confirm(&mut self) {
        if self.step == Step::Idle && matches!(self.state, State::Held(_)) {
            self.step = Step::Confirm;
        }
    }

    /// Gives the lock, or the place in the queue, back. Over once the state says so.
    pub fn release(&mut self) {
        self.is_leaving = true;
        if !self.is_asked && self.step != Step::End {
            let next = self.step.clone();
            self.go(next);
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Goes on with `next`, unless it is leaving.
    fn go(&mut self, next: Step) {
        self.step = match next {
            Step::End => Step::End,
            // Whether there is a node is not known yet.
            Step::Sync => Step::Sync,
            Step::List if self.is_leaving && self.node.is_none() => Step::List,
            _ if !self.is_leaving => next,
            _ if self.node.is_some() => Step::Delete,
            _ => self.end(State::Released),
        };
    }

    /// Judges the queue.
    fn look(&mut self, names: &[String]) -> Step {
        if self.node.is_none() {
            let own = names.iter().find(|name| name.starts_with(&self.prefix));
            self.node = own.cloned();
            return match own {
                Some(_) => Step::Fence,
                None if self.is_leaving => self.end(State::Released),
                None => Step::Create,
            };
        }
        let queue = queue(names);
        let own = queue
            .iter()
            .position(|it| Some(&it.name) == self.node.as_ref());
        let (Some(own), Some(fence)) = (own, self.fence) else {
            return match own {
                Some(_) => Step::Fence,
                None if self.is_leaving => self.end(State::Released),
                None => self.lose("its node was removed"),
            };
        };
        match waits_for(&queue, own) {
            Some(place) => {
                self.waits_for = Some(place.name.clone());
                Step::Watch(place.name.clone())
            }
            None => {
                self.waits_for = None;
                self.state = State::Held(fence);
                Step::Idle
            }
        }
    }

    fn lose(&mut self, why: &'static str) -> Step {
        self.end(match self.is_leaving {
            true => State::Released,
            false => State::Lost(why),
        })
    }

    fn end(&mut self, state: State) -> Step {
        self.state = state;
        self.waits_for = None;
        Step::End
    }
}

/// The first `depth` names of an absolute path, at least one.
fn ancestor(path: &str, depth: usize) -> &str {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    let end = ends.chain([path.len()]).nth(depth.max(1) - 1);
    &path[..end.unwrap_or(path.len())]
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
