//! Contenders against the few commands that they use.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq)]
enum Kept {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

#[derive(Default)]
struct World {
    now_ms: u64,
    keys: BTreeMap<String, (Kept, Option<u64>)>,
    /// Per client, what it watches and whether that was touched.
    watched: BTreeMap<usize, (BTreeSet<String>, bool)>,
    contenders: Vec<Contender>,
    /// Batches under way that wait for their list: until when, the list, and what is answered before.
    blocked: BTreeMap<usize, (u64, String, Vec<Reply>)>,
    /// Stopped contenders get no processor time.
    stopped: BTreeSet<usize>,
    woken: usize,
}

impl World {
    fn join(&mut self, ttl_ms: u64, give_up_ms: u64) -> usize {
        let id = format!("id{}", self.contenders.len());
        self.contenders
            .push(Contender::new("a", &id, ttl_ms, give_up_ms));
        self.run_until(self.now_ms + 20);
        self.contenders.len() - 1
    }

    fn run_until(&mut self, end_ms: u64) {
        while self.now_ms < end_ms {
            self.now_ms += 1;
            for who in 0..self.contenders.len() {
                if self.stopped.contains(&who) {
                    continue;
                }
                self.unblock(who);
                while let Some(batch) = self.contenders[who].poll_request(self.now_ms) {
                    self.carry_out(who, &batch);
                }
            }
        }
    }

    fn carry_out(&mut self, who: usize, batch: &Batch) {
        let mut replies = Vec::new();
        let mut unit: Option<Vec<Vec<String>>> = None;
        for command in &batch.commands {
            let words: Vec<String> = (command.iter())
                .map(|word| String::from_utf8(word.clone()).expect("text"))
                .collect();
            match (words[0].as_str(), &mut unit) {
                ("MULTI", _) => {
                    unit = Some(Vec::new());
                    replies.push(Reply::Done);
                }
                ("EXEC", Some(commands)) => {
                    let touched = self.watched.remove(&who).is_some_and(|(_, it)| it);
                    let commands = std::mem::take(commands);
                    replies.push(match touched {
                        true => Reply::Nil,
                        false => {
                            Reply::Many(commands.iter().map(|it| self.command(who, it)).collect())
                        }
                    });
                }
                (_, Some(commands)) => {
                    commands.push(words);
                    replies.push(Reply::Done);
                }
                ("BLPOP", None) => {
                    let until_ms = self.now_ms + batch.wait_ms;
                    self.blocked
                        .insert(who, (until_ms, words[1].clone(), replies));
                    return;
                }
                _ => replies.push(self.command(who, &words)),
            }
        }
        self.contenders[who]
            .handle_replies(self.now_ms, replies)
            .expect("nothing is refused");
    }

    fn unblock(&mut self, who: usize) {
        let Some((until_ms, list, _)) = self.blocked.get(&who) else {
            return;
        };
        let (is_over, list) = (self.now_ms >= *until_ms, list.clone());
        let popped = matches!(self.get(&list), Some(Kept::List(_)));
        if !popped && !is_over {
            return;
        }
        let (_, _, mut replies) = self.blocked.remove(&who).expect("it is there");
        if popped {
            self.woken += 1;
            self.keys.remove(&list);
        }
        replies.push(Reply::Nil);
        self.contenders[who]
            .handle_replies(self.now_ms, replies)
            .expect("nothing is refused");
    }

    fn get(&self, key: &str) -> Option<&Kept> {
        let (value, ends_ms) = self.keys.get(key)?;
        ends_ms
            .is_none_or(|ends_ms| self.now_ms < ends_ms)
            .then_some(value)
    }

    fn touch(&mut self, key: &str) {
        for (keys, touched) in self.watched.values_mut() {
            *touched |= keys.contains(key);
        }
    }

    fn command(&mut self, who: usize, words: &[String]) -> Reply {
        let key = words.get(1).cloned().unwrap_or_default();
        let text = |value: Option<&Kept>| match value {
            Some(Kept::Text(text)) => Reply::Text(text.clone()),
            _ => Reply::Nil,
        };
        let ends = |ms: &str, now_ms: u64| now_ms + ms.parse::<u64>().expect("a number");
        match words[0].as_str() {
            "WATCH" => {
                self.watched
                    .insert(who, (words[1..].iter().cloned().collect(), false));
                Reply::Done
            }
            "UNWATCH" => {
                self.watched.remove(&who);
                Reply::Done
            }
            "GET" => text(self.get(&key)),
            "MGET" => Reply::Many(words[1..].iter().map(|key| text(self.get(key))).collect()),
            "PTTL" => Reply::Number(match self.keys.get(&key) {
                Some((_, Some(ends_ms))) if self.get(&key).is_some() => {
                    (ends_ms - self.now_ms) as i64
                }
                _ => -2,
            }),
            "LRANGE" => match self.get(&key) {
                Some(Kept::List(items)) => {
                    Reply::Many(items.iter().cloned().map(Reply::Text).collect())
                }
                _ => Reply::Many(Vec::new()),
            },
            "SET" => {
                if words.contains(&"NX".to_owned()) && self.get(&key).is_some() {
                    return Reply::Nil;
                }
                let ends_ms = ends(words.last().expect("has a time"), self.now_ms);
                self.keys.insert(
                    key.clone(),
                    (Kept::Text(words[2].clone().into()), Some(ends_ms)),
                );
                self.touch(&key);
                Reply::Done
            }
            "INCR" => {
                let Reply::Text(text) = text(self.get(&key)) else {
                    self.keys.insert(key, (Kept::Text(b"1".to_vec()), None));
                    return Reply::Number(1);
                };
                let next = String::from_utf8(text)
                    .expect("text")
                    .parse::<i64>()
                    .expect("a number")
                    + 1;
                self.keys
                    .insert(key, (Kept::Text(next.to_string().into()), None));
                Reply::Number(next)
            }
            "PEXPIRE" => {
                if self.get(&key).is_none() {
                    return Reply::Number(0);
                }
                let ends_ms = ends(&words[2], self.now_ms);
                self.keys.get_mut(&key).expect("it is there").1 = Some(ends_ms);
                self.touch(&key);
                Reply::Number(1)
            }
            "DEL" => {
                for key in &words[1..] {
                    self.keys.remove(key);
                    self.touch(key);
                }
                Reply::Number(1)
            }
            "LREM" | "RPUSH" => {
                let mut items = match self.get(&key) {
                    Some(Kept::List(items)) => items.clone(),
                    _ => Vec::new(),
                };
                match words[0].as_str() {
                    "LREM" => items.retain(|item| *item != words[3].as_bytes()),
                    _ => items.push(words[2].clone().into()),
                }
                let length = items.len() as i64;
                match items.is_empty() {
                    true => self.keys.remove(&key),
                    false => self.keys.insert(key.clone(), (Kept::List(items), None)),
                };
                self.touch(&key);
                Reply::Number(length)
            }
            other => panic!("{other} is not known here"),
        }
    }

    fn holders(&self) -> Vec<usize> {
        let held = |who: &usize| matches!(self.contenders[*who].state(), State::Held(_));
        (0..self.contenders.len()).filter(held).collect()
    }

    fn fence(&self, who: usize) -> u64 {
        match self.contenders[who].state() {
            State::Held(fence) => *fence,
            other => panic!("{who} is {other:?}"),
        }
    }
}

const LATE: u64 = 1_000_000;

#[test]
fn m07_cache_lock_waiters_enter_in_turn_and_one_release_wakes_one() {
    let mut world = World::default();
    for _ in 0..5 {
        world.join(3_000, LATE);
    }
    for who in 0..5 {
        assert_eq!(world.holders(), [who]);
        assert_eq!(world.fence(who), who as u64 + 1);
        let woken = world.woken;
        world.contenders[who].release();
        // Long before anybody's sleep is over.
        world.run_until(world.now_ms + 20);
        assert_eq!(world.contenders[who].state(), &State::Released);
        assert_eq!(world.woken - woken, usize::from(who < 4));
    }
    // Nothing is left but the fence.
    let left: Vec<&String> = world.keys.keys().collect();
    assert_eq!(left, ["lock:{a}:fence"]);
}

#[test]
fn holder_that_keeps_extending_holds_for_ever() {
    let mut world = World::default();
    let (a, _) = (world.join(3_000, LATE), world.join(3_000, LATE));
    world.run_until(30_000);
    assert_eq!(world.holders(), [a]);
}

#[test]
fn dead_holder_and_dead_waiter_are_passed_over() {
    let mut world = World::default();
    let (a, b, c) = (
        world.join(3_000, LATE),
        world.join(3_000, LATE),
        world.join(3_000, LATE),
    );
    world.stopped.extend([a, b]);
    world.run_until(world.now_ms + 7_000);
    assert_eq!(world.fence(c), 2);
    let Some(Kept::Text(owner)) = world.get("lock:{a}") else {
        panic!("nobody holds it");
    };
    assert_eq!(owner, b"id2");
    assert!(
        world.get("lock:{a}:queue").is_none(),
        "the dead one is out of the queue"
    );
}

#[test]
fn m07_cache_holder_stopped_beyond_its_lease_holds_with_another_and_is_fenced_off() {
    let mut world = World::default();
    let mut guard = super::super::guard::Guard::default();
    let (a, b) = (world.join(3_000, LATE), world.join(3_000, LATE));
    assert!(guard.admit(world.fence(a)));
    world.stopped.insert(a);
    world.run_until(world.now_ms + 5_000);
    // Held twice: the one that was stopped has not looked at the time yet.
    assert_eq!(world.holders(), [a, b]);
    assert!(guard.admit(world.fence(b)));
    assert!(!guard.admit(world.fence(a)), "the older fence is refused");
    world.stopped.clear();
    world.run_until(world.now_ms + 1);
    assert_eq!(world.holders(), [b]);
    assert!(matches!(world.contenders[a].state(), State::Lost(_)));
}

#[test]
fn taking_with_an_unknown_outcome_is_found_out_with_its_fence() {
    let mut world = World::default();
    let mut one = Contender::new("a", "one", 3_000, LATE);
    let look = one.poll_request(1).expect("looks");
    world.now_ms = 1;
    let nothing = Reply::Many(Vec::new());
    one.handle_replies(1, vec![Reply::Done, Reply::Nil, Reply::Number(-2), nothing])
        .expect("it is well");
    assert_eq!(look.commands.len(), 4);
    let take = one.poll_request(2).expect("takes");
    // It is carried out, and the answer is lost.
    world
        .contenders
        .push(Contender::new("a", "other", 3_000, LATE));
    world.carry_out(0, &take);
    one.handle_reconnected();
    world.contenders[0] = one;
    world.run_until(10);
    // Which fence the first answer told is not known; another is larger than it.
    assert_eq!(world.fence(0), 2);
    world.run_until(10_000);
    assert_eq!(world.holders(), [0]);
}

#[test]
fn waiter_whose_time_is_over_leaves_the_queue() {
    let mut world = World::default();
    let (a, b) = (world.join(3_000, LATE), world.join(3_000, 500));
    world.run_until(600);
    assert_eq!(world.contenders[b].state(), &State::Released);
    assert_eq!(world.holders(), [a]);
    assert!(world.get("lock:{a}:queue").is_none());
}

#[test]
fn refusals_for_now_are_asked_again_and_others_are_errors() {
    let mut one = Contender::new("a", "one", 3_000, LATE);
    one.poll_request(1).expect("looks");
    one.handle_replies(1, vec![Reply::Refused("CLUSTERDOWN no leader".into())])
        .expect("not now");
    assert_eq!(one.poll_request(50), None);
    one.poll_request(101).expect("looks again");
    let why = one.handle_replies(101, vec![Reply::Refused("WRONGTYPE of a key".into())]);
    assert_eq!(why, Err("WRONGTYPE of a key".to_owned()));
}
