//! Members among themselves, with a network that loses nothing and disks that are slower than it.

use super::*;
use crate::protocols::{all, find};

const STEP_US: u64 = 1_000;
const SYNC_US: u64 = 3_000;

/// What is on its way, by when it arrives.
enum Way {
    Bytes(PeerId, PeerId, Vec<u8>),
    Synced(PeerId, Vec<u8>),
}

struct House {
    protocol: Protocol,
    now: Now,
    members: Vec<Option<Member>>,
    disks: Vec<Option<Vec<u8>>>,
    logs: Vec<String>,
    ways: Vec<(u64, Way)>,
    answers: BTreeMap<u64, Answer>,
}

impl House {
    fn new(protocol: &str, nodes: usize) -> Self {
        let mut house = Self {
            protocol: find(protocol).unwrap(),
            now: Now {
                mono_us: 1_000_000,
                // Chains whose makers take turns count slots from 2026 on.
                wall_ms: 1_800_000_000_000,
            },
            members: (0..nodes).map(|_| None).collect(),
            disks: vec![None; nodes],
            logs: vec![String::new(); nodes],
            ways: Vec::new(),
            answers: BTreeMap::new(),
        };
        (1..=nodes).for_each(|peer| house.start(peer));
        house
    }

    fn start(&mut self, peer: PeerId) {
        let events = Event::read(&self.logs[peer - 1]).unwrap();
        let rng = Rng::new(peer as u64 + self.now.mono_us);
        let mut member = Member::new(&self.protocol, peer, self.members.len(), rng, events);
        member.handle_start(self.now, self.disks[peer - 1].as_deref());
        self.members[peer - 1] = Some(member);
        self.take(peer);
    }

    fn kill(&mut self, peer: PeerId) {
        self.members[peer - 1] = None;
        let is_of = |way: &Way| matches!(way, Way::Synced(of, _) if *of == peer);
        self.ways.retain(|(_, way)| !is_of(way));
    }

    fn at(&mut self, peer: PeerId) -> &mut Member {
        self.members[peer - 1].as_mut().unwrap()
    }

    fn take(&mut self, peer: PeerId) {
        let Some(member) = &mut self.members[peer - 1] else {
            return;
        };
        while let Some(out) = member.poll() {
            let at_us = self.now.mono_us;
            match out {
                Out::Send(to, bytes) => {
                    let way = Way::Bytes(peer, to, bytes);
                    self.ways.push((at_us + STEP_US, way));
                }
                Out::Persist(state) => {
                    self.ways.push((at_us + SYNC_US, Way::Synced(peer, state)));
                }
                Out::Log(line) => self.logs[peer - 1].push_str(&line),
                Out::LogAnew => {
                    self.logs[peer - 1] = member.events().iter().map(Event::line).collect();
                }
                Out::Answer(token, answer) => {
                    assert_eq!(self.answers.insert(token, answer), None);
                }
            }
        }
    }

    /// Lets so many milliseconds pass.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now.mono_us += STEP_US;
            self.now.wall_ms += 1;
            let now = self.now;
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ways)
                .into_iter()
                .partition(|(at_us, _)| *at_us <= now.mono_us);
            self.ways = later;
            for (_, way) in due {
                let peer = match way {
                    Way::Bytes(from, to, bytes) => {
                        if let Some(member) = &mut self.members[to - 1] {
                            member.handle_bytes(now, from, &bytes).unwrap();
                        }
                        to
                    }
                    Way::Synced(peer, state) => {
                        self.disks[peer - 1] = Some(state);
                        self.at(peer).handle_persisted(now);
                        peer
                    }
                };
                self.take(peer);
            }
            for peer in 1..=self.members.len() {
                if let Some(member) = &mut self.members[peer - 1]
                    && member.deadline_us() <= now.mono_us
                {
                    member.handle_tick(now);
                    self.take(peer);
                }
            }
        }
    }

    fn lock(&mut self, peer: PeerId, token: u64) {
        let now = self.now;
        self.at(peer).lock(now, token).unwrap();
        self.take(peer);
    }

    fn unlock(&mut self, peer: PeerId) {
        let now = self.now;
        self.at(peer).unlock(now, None).unwrap();
        self.take(peer);
    }

    fn fence(&self, token: u64) -> Option<u64> {
        match self.answers.get(&token)? {
            Answer::Locked(fence) => Some(*fence),
            Answer::Appended(_) => None,
        }
    }
}

#[test]
fn every_lock_lets_all_in_one_after_the_other_with_growing_fences() {
    for protocol in all().iter().filter(|p| p.kind == Kind::Lock) {
        let name = protocol.header.name;
        let mut house = House::new(name, 3);
        house.run(100);
        let mut last = 0;
        for round in 0..2 {
            for peer in 1..=3 {
                house.lock(peer, 10 * round + peer as u64);
            }
            // Two users of one node.
            house.lock(1, 10 * round + 9);
            for _ in 0..4 {
                let inside = (0..5_000).find_map(|_| {
                    house.run(1);
                    (1..=3).find(|peer| house.at(*peer).fence().is_some())
                });
                let inside = inside.unwrap_or_else(|| panic!("{name}: nobody is let in"));
                let fence = house.at(inside).fence().unwrap();
                assert!(fence > last, "{name}: {fence} after {last}");
                last = fence;
                house.unlock(inside);
            }
            for token in [1, 2, 3, 9] {
                assert!(house.fence(10 * round + token).is_some(), "{name}");
            }
        }
    }
}

#[test]
fn user_that_gave_up_waiting_is_not_inside_for_ever() {
    let mut house = House::new("token-ring", 3);
    house.lock(1, 1);
    house.run(100);
    assert!(house.fence(1).is_some());
    house.lock(2, 2);
    house.run(100);
    house.at(2).cancel(2);
    house.unlock(1);
    house.run(100);
    assert_eq!((house.fence(2), house.at(2).fence()), (None, None));
    house.lock(3, 3);
    house.run(100);
    assert!(house.fence(3).is_some());
}

#[test]
fn what_is_asked_of_the_wrong_group_is_refused() {
    let mut house = House::new("bully", 3);
    let now = house.now;
    assert!(house.at(1).lock(now, 1).unwrap_err().contains("leader"));
    assert!(
        house
            .at(1)
            .append(now, 1, 7)
            .unwrap_err()
            .contains("no log")
    );
    let mut house = House::new("centralized", 3);
    assert!(
        house
            .at(1)
            .unlock(now, None)
            .unwrap_err()
            .contains("inside")
    );
    house.lock(1, 1);
    house.run(100);
    let fence = house.fence(1).unwrap();
    let refusal = house.at(1).unlock(now, Some(fence - 1)).unwrap_err();
    assert!(refusal.contains(&fence.to_string()), "{refusal}");
    assert!(house.at(1).unlock(now, Some(fence)).is_ok());
    let mut house = House::new("pbft", 4);
    assert!(
        house
            .at(1)
            .append(now, 1, 0)
            .unwrap_err()
            .contains("from 1 on")
    );
    assert!(find("raft").err().unwrap().contains("cluster status"));
}

#[test]
fn elections_follow_a_death_and_members_agree() {
    for name in ["bully", "chang-roberts", "zab"] {
        let mut house = House::new(name, 3);
        house.run(6_000);
        let leader = house.at(1).leader().unwrap().0;
        for peer in 1..=3 {
            assert_eq!(house.at(peer).leader().unwrap().0, leader, "{name}");
        }
        house.kill(leader);
        house.run(8_000);
        let living: Vec<PeerId> = (1..=3).filter(|peer| *peer != leader).collect();
        let next = house.at(living[0]).leader().unwrap().0;
        assert!(living.contains(&next), "{name}");
        assert_eq!(house.at(living[1]).leader().unwrap().0, next, "{name}");
    }
}

#[test]
fn logs_give_values_places_that_all_agree_on_also_after_a_restart() {
    for (name, nodes) in [
        ("zab", 3),
        ("multi-paxos", 3),
        ("pbft", 4),
        ("proof-of-work", 3),
        ("coin-age", 3),
        ("delegates", 4),
    ] {
        let mut house = House::new(name, nodes);
        house.run(4_000);
        for value in 1..=3 {
            let now = house.now;
            house.at(2).append(now, value, 100 + value).unwrap();
            house.take(2);
            let done = (0..30_000).any(|_| {
                house.run(1);
                house.answers.contains_key(&value)
            });
            assert!(done, "{name}: no place for {value}");
        }
        house.run(8_000);
        let log = house.at(2).decided().clone();
        assert_eq!(log.len(), 3, "{name}");
        assert_eq!(house.at(nodes).decided(), &log, "{name}");
        // Asked again, it has the place that it has.
        let now = house.now;
        house.at(2).append(now, 9, 101).unwrap();
        house.take(2);
        assert_eq!(house.answers.get(&9), house.answers.get(&1), "{name}");
        if name != "pbft" {
            house.kill(1);
            house.start(1);
            house.run(8_000);
            assert_eq!(house.at(1).decided(), &log, "{name}");
        }
    }
}

#[test]
fn paxos_decides_one_value_and_remembers_it() {
    let mut house = House::new("paxos", 3);
    let now = house.now;
    for peer in [1, 3] {
        house
            .at(peer)
            .append(now, peer as u64, 10 * peer as u64)
            .unwrap();
        house.take(peer);
    }
    house.run(5_000);
    let log = house.at(1).decided().clone();
    assert_eq!(log.len(), 1);
    assert_eq!(house.at(3).decided(), &log);
    house.kill(2);
    house.start(2);
    house.run(1_000);
    assert_eq!(house.at(2).decided(), &log);
}

#[test]
fn holder_that_comes_back_is_outside_and_those_who_let_it_in_hear_of_it() {
    for name in ["centralized", "hashed-coordinators", "majority", "maekawa"] {
        let mut house = House::new(name, 3);
        house.lock(2, 1);
        house.run(100);
        assert!(house.fence(1).is_some(), "{name}");
        house.kill(2);
        house.lock(3, 2);
        house.run(3_000);
        assert_eq!(house.fence(2), None, "{name}: the holder may be alive");
        house.start(2);
        assert!(house.at(2).events().len() > 3, "its log is read again");
        house.run(3_000);
        assert!(house.fence(2) > house.fence(1), "{name}");
    }
}

#[test]
fn ring_that_lost_its_token_with_the_holder_makes_another_and_lets_one_in_at_a_time() {
    let mut house = House::new("regenerating-token-ring", 5);
    house.run(200);
    house.lock(3, 1);
    house.run(500);
    let mut last = house.fence(1).unwrap();
    house.kill(3);
    for peer in [1, 2, 4, 5] {
        house.lock(peer, 10 + peer as u64);
    }
    for _ in 0..4 {
        let mut inside = Vec::new();
        for _ in 0..20_000 {
            house.run(1);
            inside = [1, 2, 4, 5]
                .into_iter()
                .filter(|peer| house.at(*peer).fence().is_some())
                .collect();
            if !inside.is_empty() {
                break;
            }
        }
        assert_eq!(inside.len(), 1, "{inside:?}");
        let fence = house.at(inside[0]).fence().unwrap();
        assert!(fence > last);
        last = fence;
        house.run(50);
        house.unlock(inside[0]);
    }
}

#[test]
fn ricart_agrawala_says_whose_answer_is_missing() {
    let mut house = House::new("ricart-agrawala", 3);
    house.kill(3);
    house.lock(1, 1);
    house.run(1_000);
    assert_eq!(house.fence(1), None);
    assert_eq!(house.at(1).waits_for(), [3]);
}

#[test]
fn peer_whose_state_cannot_be_read_is_silent() {
    let mut house = House::new("zab", 3);
    house.run(4_000);
    house.kill(1);
    house.disks[0] = Some(b"nonsense".to_vec());
    house.start(1);
    assert!(house.at(1).fault().is_some());
    let now = house.now;
    assert!(house.at(1).append(now, 1, 1).is_err());
    house.ways.clear();
    house.run(2_000);
    assert!(
        !house
            .ways
            .iter()
            .any(|(_, way)| matches!(way, Way::Bytes(1, ..)))
    );
}

#[test]
fn bytes_that_no_member_writes_are_refused_and_change_nothing() {
    let mut rng = Rng::new(4);
    for protocol in all() {
        let nodes = protocol.nodes_min.max(3);
        let mut house = House::new(protocol.header.name, nodes);
        let now = house.now;
        assert!(house.at(1).handle_bytes(now, 2, b"").is_err());
        assert!(house.at(1).handle_bytes(now, 2, &[0; 13]).is_err());
        let mut bytes = write(Hybrid::default(), &Word::Peer(b"{\"x\":1}"));
        assert!(house.at(1).handle_bytes(now, 2, &bytes).is_err());
        for _ in 0..200 {
            let at = rng.range(12, bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
            let _ = house.at(1).handle_bytes(now, 2, &bytes);
        }
    }
}

#[test]
fn fences_grow_over_a_restart_that_lost_the_log_and_set_the_clock_back() {
    for name in ["centralized", "majority", "maekawa", "token-ring"] {
        let mut house = House::new(name, 3);
        house.run(100);
        let mut last = 0;
        for round in 0..6 {
            let (holder, restarted) = (round as usize % 3 + 1, (round as usize + 1) % 3 + 1);
            house.lock(holder, round);
            let is_in = (0..5_000).any(|_| {
                house.run(1);
                house.fence(round).is_some()
            });
            assert!(is_in, "{name}, round {round}");
            let fence = house.fence(round).unwrap();
            assert!(fence > last, "{name}, round {round}: {fence} after {last}");
            last = fence;
            house.unlock(holder);
            house.run(50);
            // The token must not go with it.
            if name != "token-ring" {
                house.kill(restarted);
                house.logs[restarted - 1].clear();
                house.now.wall_ms -= 60_000;
                house.start(restarted);
                house.run(1_000);
            }
        }
    }
}
