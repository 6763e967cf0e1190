//! What nodes say by gossip of who is reachable, held against what is so.

use node::Status;
use std::collections::BTreeMap;

/// Objections, long after all faults were healed: the members are those that the run knows of, each takes each
/// for reachable, and what it has of each is of that node's present life.
pub(crate) fn agreement(
    members: &[usize],
    statuses: &BTreeMap<usize, (u64, u64, Status)>,
) -> Vec<String> {
    let told: Vec<(usize, &Status)> = (members.iter())
        .filter_map(|node| Some((*node, &statuses.get(node)?.2)))
        .collect();
    let mut objections = Vec::new();
    let lives: BTreeMap<&str, u64> = (told.iter())
        .flat_map(|(_, status)| status.members.iter().filter(|m| m.this_node))
        .map(|own| (own.node.as_str(), own.incarnation))
        .collect();
    for (node, status) in &told {
        if status.members.len() != members.len() {
            let (has, are) = (status.members.len(), members.len());
            objections.push(format!("gossip: node{node} has {has} members of {are}"));
        }
        for member in &status.members {
            let life = lives.get(member.node.as_str());
            if member.verdict != "reachable" || life != Some(&member.incarnation) {
                let (name, verdict) = (&member.node, &member.verdict);
                let lives = (member.incarnation, life);
                objections.push(format!(
                    "gossip: at node{node} {name} is {verdict:?}, its incarnation there and here {lives:?}: {:?}",
                    member.monitors
                ));
            }
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use crate::faults::{Fault, Faults, Planned, Shape};
    use crate::kinds::Workload;
    use crate::run::{Options, Run};
    use std::collections::BTreeSet;

    /// After a fault every node that is not struck must have made up its mind within this time, in
    /// microseconds: φ passes 8 some 1.4 s after the last heartbeat; a monitor that is cut off has a say for
    /// 3 s more; then a few rounds of 200 ms.
    const BOUND_US: u64 = 6_000_000;

    fn run(nodes: usize, seed: u64, story: &[(u64, Fault)]) -> Run {
        let mut run = Run::new(&Options {
            seed,
            nodes,
            clients: 1,
            faults: Faults::none(),
            workload: Workload::Zookeeper,
            duration_ms: 20_000,
            lanes: Some(1),
            cores: Some(1),
            ..Options::default()
        });
        for (at_us, fault) in story.iter().cloned() {
            run.plan(Planned { at_us, fault });
        }
        run
    }

    /// At each node of `of`: the nodes that it takes for unreachable.
    fn unreachable(run: &Run, of: impl Iterator<Item = usize>) -> BTreeSet<Vec<usize>> {
        let number = |id: &str| {
            let is_it = |n: &usize| run.statuses[n].2.node == id;
            run.statuses.keys().copied().find(is_it).expect("a member")
        };
        of.map(|node| {
            let members = run.statuses[&node].2.members.iter();
            let gone = members.filter(|m| m.verdict == "unreachable");
            let mut gone: Vec<usize> = gone.map(|m| number(&m.node)).collect();
            gone.sort_unstable();
            gone
        })
        .collect()
    }

    #[test]
    fn dead_node_is_suspected_by_its_monitors_and_stays_a_member() {
        for (nodes, seed) in [(3, 1), (5, 2), (7, 3)] {
            let down_us = BOUND_US + 4_000_000;
            let crash = Fault::Crash {
                pick: 1,
                power: true,
                down_us,
            };
            let mut run = run(nodes, seed, &[(5_000_000, crash)]);
            run.play_until(4_900_000);
            assert_eq!(unreachable(&run, 0..nodes), BTreeSet::from([vec![]]));
            run.play_until(5_000_000 + BOUND_US + 500_000);
            let living = (0..nodes).filter(|n| *n != 1);
            assert_eq!(unreachable(&run, living), BTreeSet::from([vec![1]]));
            let status = &run.statuses[&0].2;
            assert_eq!(status.members.len(), nodes, "gossip removes nobody");
            let dead = &run.statuses[&1].2.node;
            let dead = status.members.iter().find(|m| m.node == *dead);
            let monitors = &dead.expect("still a member").monitors;
            assert_eq!(monitors.len(), if nodes < 6 { nodes - 1 } else { 5 });
            assert!(
                monitors.iter().all(|m| m.heard && m.phi >= 8.0),
                "{monitors:?}"
            );
            run.play();
            assert_eq!(run.judge(), Vec::<String>::new());
        }
    }

    #[test]
    fn sides_of_a_partition_see_each_other_unreachable_and_paused_node_comes_back() {
        let cut = Fault::Partition {
            shape: Shape::Halves,
            pick: 5,
            for_us: BOUND_US + 3_000_000,
        };
        let mut halves = run(5, 4, &[(5_000_000, cut)]);
        halves.play_until(5_000_000 + BOUND_US + 500_000);
        let views = unreachable(&halves, 0..5);
        let sides: Vec<&Vec<usize>> = views.iter().collect();
        assert_eq!(sides.len(), 2, "{views:?}");
        let all: BTreeSet<usize> = sides.iter().flat_map(|side| side.iter().copied()).collect();
        assert_eq!(
            (all.len(), sides[0].len() + sides[1].len()),
            (5, 5),
            "{views:?}"
        );
        halves.play();
        assert_eq!(halves.judge(), Vec::<String>::new());

        let pause = Fault::Pause {
            pick: 2,
            for_us: BOUND_US,
        };
        let mut paused = run(3, 5, &[(5_000_000, pause)]);
        paused.play_until(5_000_000 + BOUND_US - 500_000);
        assert_eq!(
            unreachable(&paused, [0, 1].into_iter()),
            BTreeSet::from([vec![2]])
        );
        paused.play();
        assert_eq!(paused.judge(), Vec::<String>::new());
    }

    #[test]
    fn clocks_that_drift_and_step_make_nobody_unreachable() {
        let drift = Fault::Drift { pick: 0, ppm: 500 };
        let step = Fault::Step {
            pick: 1,
            by_ms: -3_600_000,
        };
        let story = [(4_000_000, drift), (5_000_000, step)];
        let mut run = run(3, 6, &story);
        for until_us in (6_000_000..20_000_000).step_by(500_000) {
            run.play_until(until_us);
            assert_eq!(unreachable(&run, 0..3), BTreeSet::from([vec![]]));
        }
    }
}
