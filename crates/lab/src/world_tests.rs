//! The world itself, under processes far simpler than a core.

use crate::disk::Disk;
use crate::process::Process;
use crate::trace::Trace;
use crate::world::{ConnectionNote, News, World};
use base::{ClusterId, CoreAddress, CoreId, LaneId, Now};
use bytes::Bytes;
use journal::{DiskOp, DiskResult, FileId, Ticket};
use node::{Action, AdminCommand, AdminReply, CoreConfig, Endpoint, Event, FrontEnd, Hello};
use std::collections::VecDeque;

/// Sends a numbered frame to node 1 on every tick, echoes what clients say, syncs what it echoes, and
/// tells its administrator which frames arrived.
#[derive(Default)]
struct Toy {
    actions: VecDeque<Action>,
    next_us: u64,
    sent: u8,
    arrived: Vec<u8>,
    failures: u64,
    config: CoreConfig,
}

fn peer() -> Endpoint {
    Endpoint {
        address: "b".into(),
        core: CoreId(0),
    }
}

impl Process for Toy {
    fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Tick if now.mono_us >= self.next_us => {
                self.next_us = now.mono_us + 10_000;
                self.sent = self.sent.wrapping_add(1);
                if self.config.address == "a" {
                    self.actions.push_back(Action::SendPeer {
                        to: peer(),
                        frame: Bytes::copy_from_slice(&[self.sent]),
                    });
                }
            }
            Event::PeerFrame { frame, .. } => self.arrived.extend_from_slice(&frame),
            Event::SendFailed { .. } => self.failures += 1,
            Event::ClientBytes { client, bytes } => {
                let op = DiskOp::Write {
                    file: FileId::Segment(1),
                    offset: 0,
                    bytes: bytes.clone(),
                };
                let lane = LaneId(0);
                self.actions.push_back(Action::Disk { lane, op });
                let op = DiskOp::Sync {
                    file: FileId::Segment(1),
                    ticket: Ticket(1),
                };
                self.actions.push_back(Action::Disk { lane, op });
                self.actions.push_back(Action::SendClient { client, bytes });
            }
            Event::DiskDone { result, .. } => {
                assert_eq!(result, DiskResult::Done(Bytes::new()));
                self.arrived.push(255);
            }
            Event::Admin { request, .. } => self.actions.push_back(Action::AdminReply {
                request,
                reply: AdminReply::Done {
                    message: format!("{} {:?}", self.failures, self.arrived),
                },
            }),
            _ => {}
        }
    }
    fn flush(&mut self, _now: Now) {}
    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    fn deadline_us(&self) -> u64 {
        self.next_us
    }
    fn hello(&self, to: &Endpoint) -> Hello {
        Hello {
            cluster: ClusterId(1),
            from: CoreAddress::default(),
            address: self.config.address.clone(),
            to_core: to.core,
            cores: 1,
            lanes: 1,
        }
    }
}

fn boot(now: Now, config: CoreConfig, _disk: &Disk) -> Box<dyn Process> {
    let mut toy = Toy {
        next_us: now.mono_us,
        config,
        ..Toy::default()
    };
    toy.actions
        .push_back(Action::OpenFrontEnd(FrontEnd::Zookeeper));
    Box::new(toy)
}

fn two(seed: u64) -> World {
    let mut world = World::new(seed, boot, Trace::new(false));
    for address in ["a", "b"] {
        let node = world.add_node(CoreConfig {
            address: address.into(),
            ..CoreConfig::default()
        });
        world.boot_at(0, node);
    }
    world
}

fn pass(world: &mut World, until_us: u64) {
    while world.step(until_us).is_some() {}
}

/// (failures that the node was told of, frames that arrived).
fn told(world: &mut World, node: usize) -> (u64, Vec<u8>) {
    world.ask(node, AdminCommand::Status);
    let limit = world.now_us + 10_000_000;
    while let Some(news) = world.step(limit) {
        if let News::Admin(_, AdminReply::Done { message }) = news {
            let (failures, list) = message.split_once(' ').unwrap();
            let numbers = list.trim_matches(['[', ']']).split(", ");
            return (
                failures.parse().unwrap(),
                numbers.filter_map(|n| n.parse().ok()).collect(),
            );
        }
    }
    panic!("no answer");
}

#[test]
fn frames_arrive_once_and_in_order_while_a_stream_stands() {
    for seed in 0..20 {
        let mut world = two(seed);
        pass(&mut world, 1_000_000);
        let (_, arrived) = told(&mut world, 1);
        assert!(arrived.len() > 80, "{seed}: {arrived:?}");
        let gaps = arrived.windows(2).filter(|w| w[1] != w[0] + 1).count();
        assert_eq!(gaps, 0, "{seed}: {arrived:?}");
    }
}

#[test]
fn a_partition_holds_frames_back_and_healing_delivers_or_breaks() {
    let (mut delivered, mut broken) = (0, 0);
    for seed in 0..20 {
        let mut world = two(seed);
        pass(&mut world, 500_000);
        world.block(0, 1);
        pass(&mut world, 600_000);
        let before = told(&mut world, 1).1.len();
        pass(&mut world, 1_000_000);
        assert_eq!(told(&mut world, 1).1.len(), before);
        world.unblock_all();
        pass(&mut world, 2_000_000);
        let mut arrived = told(&mut world, 1).1;
        let count = arrived.len();
        arrived.sort_unstable();
        arrived.dedup();
        assert_eq!(arrived.len(), count, "no frame twice");
        if told(&mut world, 0).0 == 0 {
            delivered += 1;
            assert!(count > 180);
        } else {
            broken += 1;
        }
    }
    assert!(delivered > 0 && broken > 0, "{delivered} {broken}");
}

#[test]
fn a_broken_streams_frames_may_arrive_between_those_of_the_next() {
    let mut mixed = 0;
    for seed in 0..40 {
        let mut world = two(seed);
        pass(&mut world, 300_000);
        world.block(0, 1);
        pass(&mut world, 500_000);
        world.unblock_all();
        pass(&mut world, 1_500_000);
        let arrived = told(&mut world, 1).1;
        mixed += usize::from(arrived.windows(2).any(|w| w[1] < w[0]));
    }
    assert!(mixed > 0);
}

#[test]
fn a_dead_nodes_peer_is_told_and_reaches_its_next_life() {
    let mut world = two(3);
    pass(&mut world, 300_000);
    world.crash(1, false);
    pass(&mut world, 600_000);
    assert!(told(&mut world, 0).0 > 0);
    world.boot_at(600_000, 1);
    pass(&mut world, 900_000);
    assert!(!told(&mut world, 1).1.is_empty());
}

#[test]
fn a_paused_node_gets_everything_at_once_afterwards() {
    let mut world = two(4);
    pass(&mut world, 300_000);
    let before = told(&mut world, 1).1.len();
    world.pause(1, 800_000);
    pass(&mut world, 1_000_000);
    assert!(told(&mut world, 1).1.len() > before + 50);
}

#[test]
fn a_client_is_echoed_and_its_bytes_are_synced() {
    let mut world = two(5);
    pass(&mut world, 100_000);
    let client = world.connect(0, FrontEnd::Zookeeper);
    let mut seen = Vec::new();
    while let Some(news) = world.step(1_000_000) {
        match news {
            News::Client(_, ConnectionNote::Opened) => {
                world.client_send(client, Bytes::from_static(b"hello"));
            }
            News::Client(_, ConnectionNote::Bytes(bytes)) => seen.extend_from_slice(&bytes),
            _ => {}
        }
    }
    assert_eq!(seen, b"hello");
    assert!(told(&mut world, 0).1.contains(&255));
}

#[test]
fn equal_seeds_give_equal_traces_and_different_ones_do_not() {
    let hash = |seed| {
        let mut world = two(seed);
        pass(&mut world, 400_000);
        world.crash(1, true);
        world.boot_at(450_000, 1);
        pass(&mut world, 900_000);
        world.trace.hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
