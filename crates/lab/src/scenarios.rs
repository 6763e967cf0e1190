//! Fixed stories that once went wrong, told step by step.

use crate::faults::{Fault, Faults, Planned};
use crate::run::{Options, Run};

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
