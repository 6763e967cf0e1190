//! Contenders against a tree of one directory that counts whom it tells.

use super::*;
use std::collections::BTreeMap;

const LOCK: &str = "/locks/a";

#[derive(Default)]
struct World {
    made: Vec<String>,
    nodes: BTreeMap<String, i64>,
    watches: BTreeMap<String, Vec<usize>>,
    contenders: Vec<Contender>,
    numbers: i64,
    zxid: i64,
    /// Watches that fired.
    told: usize,
    lists: usize,
}

impl World {
    fn join(&mut self, mode: Mode) -> usize {
        let id = format!("id{}", self.contenders.len());
        let contender = Contender::new(LOCK, &id, mode, Names::Kazoo).expect("has both modes");
        self.contenders.push(contender);
        self.run();
        self.contenders.len() - 1
    }

    fn run(&mut self) {
        while let Some((who, request)) = (0..self.contenders.len())
            .find_map(|who| Some((who, self.contenders[who].poll_request()?)))
        {
            let reply = self.answer(who, &request);
            self.contenders[who].handle_reply(reply);
        }
    }

    fn answer(&mut self, who: usize, request: &Request) -> Reply {
        self.zxid += 1;
        match request {
            Request::Ensure { path, .. } => {
                self.made.push(path.clone());
                Reply::Done
            }
            Request::Create { .. } if !self.made.iter().any(|path| path == LOCK) => Reply::NoNode,
            Request::Create { path } => {
                let path = format!("{path}{:010}", self.numbers);
                self.numbers += 1;
                self.nodes.insert(path.clone(), self.zxid);
                Reply::Created {
                    path,
                    czxid: self.zxid,
                }
            }
            Request::Sync { .. } => Reply::Done,
            Request::List { .. } => {
                self.lists += 1;
                let names = self
                    .nodes
                    .keys()
                    .map(|path| path[LOCK.len() + 1..].to_owned());
                Reply::Children(names.collect())
            }
            Request::Exists { path, watch } => match self.nodes.get(path) {
                Some(czxid) => {
                    if *watch {
                        self.watches.entry(path.clone()).or_default().push(who);
                    }
                    Reply::Found { czxid: *czxid }
                }
                None => Reply::NoNode,
            },
            Request::Delete { path } => {
                self.remove(path);
                Reply::Done
            }
        }
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        for who in self.watches.remove(path).unwrap_or_default() {
            self.told += 1;
            self.contenders[who].handle_deleted(path);
        }
    }

    /// Releases, and says how many were told of it.
    fn release(&mut self, who: usize) -> usize {
        let before = self.told;
        self.contenders[who].release();
        self.run();
        assert_eq!(self.contenders[who].state(), &State::Released);
        self.told - before
    }

    fn holders(&self) -> Vec<usize> {
        let held = |who: &usize| matches!(self.contenders[*who].state(), State::Held(_));
        (0..self.contenders.len()).filter(held).collect()
    }
}

#[test]
fn m07_tree_lock_golden_one_release_is_one_notification() {
    let mut world = World::default();
    for _ in 0..6 {
        world.join(Mode::Exclusive);
    }
    let mut fences = Vec::new();
    for who in 0..6 {
        assert_eq!(world.holders(), [who]);
        let State::Held(fence) = world.contenders[who].state() else {
            panic!("{who} does not hold it");
        };
        fences.push(*fence);
        let lists = world.lists;
        // One is told and looks once; of the last, nobody.
        assert_eq!(world.release(who), usize::from(who < 5));
        assert_eq!(world.lists - lists, usize::from(who < 5));
    }
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

#[test]
fn m07_tree_read_write_golden_reader_watches_last_writer_and_writer_its_predecessor() {
    use Mode::{Exclusive, Shared};
    let mut world = World::default();
    for mode in [Shared, Shared, Exclusive, Shared, Shared, Exclusive] {
        world.join(mode);
    }
    let waits: Vec<Option<char>> = (world.contenders.iter())
        .map(|it| it.waits_for().and_then(|name| name.chars().last()))
        .collect();
    assert_eq!(
        waits,
        [None, None, Some('1'), Some('2'), Some('2'), Some('4')]
    );
    assert_eq!(world.holders(), [0, 1]);
    // The first reader goes: nobody waits for it. Then the second: the writer.
    assert_eq!(world.release(0), 0);
    assert_eq!(world.release(1), 1);
    assert_eq!(world.holders(), [2]);
    // The writer goes: both readers behind it, and not the writer behind those.
    assert_eq!(world.release(2), 2);
    assert_eq!(world.holders(), [3, 4]);
    // The reader that the last writer watches goes first; another is left, so it watches that.
    assert_eq!(world.release(4), 1);
    assert_eq!(world.holders(), [3]);
    assert_eq!(world.release(3), 1);
    assert_eq!(world.holders(), [5]);
}

#[cfg(debug_assertions)]
#[test]
fn m07_tree_rule_of_the_notes_lets_two_writers_in() {
    use base::planted::plant;
    let mut world = World::default();
    plant(Some(Bug::WriterIgnoresWriters));
    world.join(Mode::Exclusive);
    world.join(Mode::Exclusive);
    let with = world.holders();
    plant(None);
    assert_eq!(with, [0, 1]);
    let mut world = World::default();
    world.join(Mode::Exclusive);
    world.join(Mode::Exclusive);
    assert_eq!(world.holders(), [0]);
}

#[test]
fn created_node_of_unknown_outcome_is_found_by_its_id() {
    let mut world = World::default();
    world.join(Mode::Exclusive);
    let mut late = Contender::new(LOCK, "late", Mode::Exclusive, Names::Kazoo).expect("has it");
    let request = late.poll_request().expect("creates");
    assert!(matches!(request, Request::Create { .. }));
    // The answer is lost.
    world.answer(1, &request);
    late.handle_reconnected();
    world.contenders.push(late);
    world.run();
    assert_eq!(world.nodes.len(), 2);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.release(0), 1);
    assert_eq!(world.holders(), [1]);
    assert_eq!(world.release(1), 0);
    assert!(world.nodes.is_empty());
}

#[cfg(debug_assertions)]
#[test]
fn created_node_of_unknown_outcome_not_looked_for_is_waited_for_by_its_owner() {
    let mut world = World::default();
    world.made.push(LOCK.to_owned());
    let mut one = Contender::new(LOCK, "one", Mode::Exclusive, Names::Kazoo).expect("has it");
    let request = one.poll_request().expect("creates");
    world.answer(0, &request);
    base::planted::plant(Some(Bug::CreateWithoutLooking));
    one.handle_reconnected();
    base::planted::plant(None);
    world.contenders.push(one);
    world.run();
    assert_eq!(world.nodes.len(), 2);
    assert_eq!(world.holders(), []);
}

#[test]
fn broken_and_expired_holders_are_told() {
    let mut world = World::default();
    let (a, b) = (world.join(Mode::Exclusive), world.join(Mode::Exclusive));
    let path = format!("{LOCK}/{}", world.contenders[a].node().expect("has one"));
    world.remove(&path);
    world.contenders[a].confirm();
    world.run();
    assert_eq!(
        world.contenders[a].state(),
        &State::Lost("its node was removed")
    );
    assert_eq!(world.holders(), [b]);
    world.contenders[b].handle_expired();
    assert_eq!(
        world.contenders[b].state(),
        &State::Lost("its session has expired")
    );
    assert_eq!(world.contenders[b].poll_request(), None);
}

#[test]
fn waiter_that_stops_waiting_leaves_no_node_and_wakes_who_watched_it() {
    let mut world = World::default();
    let (a, b, c) = (
        world.join(Mode::Exclusive),
        world.join(Mode::Exclusive),
        world.join(Mode::Exclusive),
    );
    assert_eq!(world.release(b), 1);
    assert_eq!((world.holders(), world.nodes.len()), (vec![a], 2));
    // Its own watch stays until it fires or its session ends.
    assert_eq!(world.release(a), 2);
    assert_eq!(world.holders(), [c]);
}

#[test]
fn contenders_of_other_clients_are_seen_and_what_has_no_number_is_not() {
    let names = [
        "_c_7-__READ__0000000003",
        "notes",
        "f__rlock__0000000002",
        "_c_8-lock-0000000001",
        "lease0000000000",
        "_c_9-__WRIT__0000000004",
        "x__lock__000000005",
    ]
    .map(str::to_owned);
    use Mode::{Exclusive, Shared};
    let seen: Vec<(i64, Mode)> = queue(&names)
        .iter()
        .map(|it| (it.number, it.mode))
        .collect();
    let want = [
        (0, Exclusive),
        (1, Exclusive),
        (2, Shared),
        (3, Shared),
        (4, Exclusive),
    ];
    assert_eq!(seen, want);
    assert!(is_lock(&names));
    assert!(!is_lock(&["job-0000000001".to_owned(), "notes".to_owned()]));
    assert!(Contender::new(LOCK, "id", Shared, Names::CuratorMutex).is_none());
}

#[test]
fn ancestors_are_made_from_the_root_down() {
    let mut world = World::default();
    world.join(Mode::Exclusive);
    assert_eq!(world.made, ["/locks", LOCK]);
    assert_eq!(ancestor("/a/b/c", 1), "/a");
    assert_eq!(ancestor("/a/b/c", 3), "/a/b/c");
    assert_eq!(ancestor("/a", 1), "/a");
}
