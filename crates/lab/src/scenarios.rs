//! Fixed stories that once went wrong, told step by step.

use crate::faults::{Fault, Faults, Planned};
use crate::kafka::protocol::{Answer, Request, batch, error};
use crate::kafka::{self, PARTITIONS};
use crate::kinds::Workload;
use crate::run::{Options, Run};
use crate::world::{ConnectionNote, News};
use base::frames::Frames;
use node::{ClientId, FrontEnd};
use std::collections::BTreeMap;

/// What the founder wrote before anyone else was there must reach the others from its log and its disk alone.
#[test]
fn founder_dies_before_a_later_snapshot_and_then_the_next_leader_leaves_all_nodes_equal() {
    for (power, seed) in [(false, 1), (true, 2), (true, 3)] {
        let options = Options {
            seed,
            faults: Faults::none(),
            duration_ms: 4_000,
            lanes: Some(1),
            cores: Some(1),
            ..Options::default()
        };
        let mut run = Run::new(&options);
        run.template.snapshot_log_bytes = u64::MAX;
        for node in &mut run.world.nodes {
            node.config.snapshot_log_bytes = u64::MAX;
        }
        // The first initial member founds the cluster.
        let founder = 0;
        let story = [
            (
                3_000,
                Fault::Crash {
                    pick: founder,
                    power,
                    down_us: 1_000_000,
                },
            ),
            (
                5_000,
                Fault::CrashLeader {
                    power,
                    down_us: 1_500_000,
                },
            ),
        ];
        for (at_ms, fault) in story {
            let at_us = at_ms * 1000;
            run.plan(Planned { at_us, fault });
        }
        run.play();
        let violations = run.judge();
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        let lives: Vec<u64> = run.world.nodes.iter().map(|node| node.life).collect();
        assert_eq!((lives[0], lives.iter().sum()), (2, 5), "seed {seed}");
        assert_eq!(run.history.trees.len(), 3);
        assert!(run.history.trees.iter().all(|(_, tree)| tree.len() > 10));
    }
}

/// While a disk is slow, more is produced than may wait: what finds no room is refused, and the rest is served.
#[test]
fn batches_that_find_no_room_are_refused_and_their_connections_stay() {
    const CLIENTS: usize = 8;
    const RECORD_BYTES: usize = 24 << 20;
    let mut run = Run::new(&Options {
        faults: Faults::none(),
        workload: Workload::Kafka,
        nodes: 1,
        clients: 1,
        duration_ms: 1,
        ..Options::default()
    });
    run.play();
    assert_eq!(run.judge(), Vec::<String>::new());
    let world = &mut run.world;
    world.nodes[0].disk.fault.slow_us = 2_000_000;
    let first = kafka::record(99, 0);
    let request = Request::Produce {
        partition: PARTITIONS[0],
        batch: batch(None, kafka::Run { first, count: 1 }, RECORD_BYTES),
    };
    let connect = |_| (world.connect(0, FrontEnd::Kafka), Frames::new(1 << 20));
    let mut waiting: BTreeMap<ClientId, Frames> = (0..CLIENTS).map(connect).collect();
    let mut errors = Vec::new();
    let end_us = world.now_us + 30_000_000;
    while !waiting.is_empty() && world.now_us < end_us {
        let Some(News::Client(id, note)) = world.step(end_us) else {
            continue;
        };
        let Some(frames) = waiting.get_mut(&id) else {
            continue;
        };
        match note {
            ConnectionNote::Opened => world.client_send(id, request.encode(7).into()),
            ConnectionNote::Closed => panic!("{id:?} was closed"),
            ConnectionNote::Bytes(bytes) => {
                frames.push(&bytes);
                if let Some(frame) = frames.poll().expect("well-formed") {
                    match request.decode(&frame, 7).expect("an answer") {
                        Answer::Produced(error, _) => errors.push(error),
                        other => panic!("{other:?}"),
                    }
                    waiting.remove(&id);
                }
            }
        }
    }
    errors.sort_unstable();
    let refused = errors.iter().filter(|e| **e == error::NOT_ENOUGH_REPLICAS);
    let refused = refused.count();
    assert_eq!(errors.len(), CLIENTS);
    // The topic takes no batch of this size; that is found out when there was room.
    let too_large = errors.iter().filter(|e| **e == 10).count();
    assert!(
        refused > 0 && too_large > 1 && refused + too_large == CLIENTS,
        "{errors:?}"
    );
}
