use super::*;

const GIB: u64 = 1 << 30;

fn node(id: u64, cpu_milli: u64, memory_gib: u64) -> NodeView {
    NodeView {
        id,
        zone: format!("z{}", id % 3),
        healthy: true,
        total: Resources::new(cpu_milli, memory_gib * GIB, 0),
        ..NodeView::default()
    }
}

fn task(cpu_milli: u64, memory_gib: u64) -> TaskSpec {
    TaskSpec {
        job: 1,
        priority: 10,
        resources: Resources::new(cpu_milli, memory_gib * GIB, 0),
        ..TaskSpec::default()
    }
}

fn running(instance: u64, job: u64, priority: u32, cpu_milli: u64) -> Running {
    Running {
        instance,
        job,
        priority,
        resources: Resources::new(cpu_milli, 0, 0),
    }
}

#[test]
fn best_fit_takes_the_fullest_and_worst_fit_the_emptiest() {
    let mut nodes = [node(1, 4000, 8), node(2, 4000, 8), node(3, 4000, 8)];
    nodes[1].add(running(1, 9, 0, 3000));
    nodes[2].add(running(2, 9, 0, 1000));
    let chosen = |rule| place(&nodes, &task(1000, 1), rule).unwrap().node;
    assert_eq!(chosen(Rule::BestFit), 2);
    assert_eq!(chosen(Rule::WorstFit), 1);
}

#[test]
fn spread_takes_the_zone_then_the_node_with_fewest_of_the_job() {
    let mut nodes: Vec<NodeView> = (1..=6).map(|id| node(id, 9000, 9)).collect();
    let mut places = Vec::new();
    for instance in 0..9 {
        let choice = place(&nodes, &task(100, 0), Rule::Spread).unwrap();
        places.push(choice.node);
        let at = nodes.iter().position(|n| n.id == choice.node).unwrap();
        nodes[at].add(running(instance, 1, 10, 100));
    }
    let by_zone = |zone| places.iter().filter(|id| *id % 3 == zone).count();
    assert_eq!([by_zone(0), by_zone(1), by_zone(2)], [3, 3, 3]);
    assert_eq!(places[..6].iter().collect::<BTreeSet<_>>().len(), 6);
}

#[test]
fn package_locality_takes_the_node_that_has_them() {
    let mut nodes = [node(1, 4000, 8), node(2, 4000, 8)];
    nodes[0].add(running(1, 9, 0, 3000));
    nodes[1].packages.insert("jdk".to_owned());
    let wanted = TaskSpec {
        packages: ["jdk".to_owned()].into(),
        ..task(100, 1)
    };
    assert_eq!(place(&nodes, &wanted, Rule::BestFit).unwrap().node, 1);
    let choice = place(&nodes, &wanted, Rule::PackageLocality).unwrap();
    assert_eq!(choice.node, 2);
    assert_eq!(choice.table.len(), 2);
    assert_eq!(choice.table[0].parts[0], (Part::Packages, 1000, 1000));
    assert_eq!(choice.table[1].parts[0], (Part::Packages, 0, 1000));
}

#[test]
fn mixed_puts_batch_beside_serving() {
    let mut nodes = [node(3, 4000, 8), node(6, 4000, 8)];
    nodes[0].add(running(1, 8, 10, 1000));
    nodes[1].add(running(2, 9, SERVING_PRIORITY, 1000));
    assert_eq!(place(&nodes, &task(500, 1), Rule::Mixed).unwrap().node, 6);
    let serving = TaskSpec {
        priority: SERVING_PRIORITY,
        ..task(500, 1)
    };
    assert_eq!(place(&nodes, &serving, Rule::Mixed).unwrap().node, 3);
}

#[test]
fn constraint_and_health_and_size_are_told_apart() {
    let mut nodes: Vec<NodeView> = (1..=5).map(|id| node(id, 4000, 8)).collect();
    nodes[0].healthy = false;
    nodes[2].attributes.insert("disk".into(), "ssd".into());
    nodes[3].attributes.insert("disk".into(), "ssd".into());
    nodes[4].attributes.insert("disk".into(), "ssd".into());
    nodes[3].total.cpu_milli = 100;
    nodes[2].add(running(1, 7, 10, 3500));
    nodes[4].total.memory_bytes = 0;
    let wanted = TaskSpec {
        constraints: vec!["disk = ssd".parse().unwrap()],
        ..task(1000, 1)
    };
    let why = place(&nodes, &wanted, Rule::BestFit).unwrap_err();
    assert_eq!(
        why.to_string(),
        "none of 5 nodes can run it: 1 not healthy, 1 not disk = ssd, 1 too small (cpu), \
         1 too small (memory), 1 too full (cpu)"
    );
    assert_eq!(
        place(&[], &wanted, Rule::BestFit).unwrap_err().to_string(),
        "there is no node"
    );
}

#[test]
fn constraints_are_read_and_see_the_zone() {
    let zone: Constraint = "zone != z1".parse().unwrap();
    assert!(!zone.holds(&node(1, 1, 1)) && zone.holds(&node(2, 1, 1)));
    assert_eq!(zone.to_string(), "zone != z1");
    assert!("zone".parse::<Constraint>().is_err() && "= a".parse::<Constraint>().is_err());
    assert!("best-fit".parse::<Rule>().is_ok());
    assert_eq!(
        "best".parse::<Rule>().unwrap_err(),
        "no rule of placement \"best\": there are best-fit, worst-fit, spread, package-locality, mixed"
    );
}

#[test]
fn preemption_takes_the_fewest_and_only_of_lower_priority() {
    let mut nodes = [node(1, 4000, 8), node(2, 4000, 8), node(3, 4000, 8)];
    for instance in 0..4 {
        nodes[0].add(running(instance, 5, 1, 1000));
    }
    nodes[1].add(running(10, 5, 2, 2500));
    nodes[1].add(running(11, 5, 1, 500));
    nodes[1].add(running(12, 5, 10, 1000));
    nodes[2].add(running(20, 5, 10, 4000));
    let choice = place(&nodes, &task(2000, 1), Rule::BestFit).unwrap();
    assert_eq!((choice.node, choice.preempt), (2, vec![10]));
    assert_eq!(choice.feasible, 2);
    assert_eq!(choice.table[1].preempted, 2);
    let humble = TaskSpec {
        priority: 1,
        ..task(2000, 1)
    };
    let why = place(&nodes, &humble, Rule::BestFit).unwrap_err();
    assert_eq!(why.reasons, [(Reason::Taken(Kind::Cpu), 3)].into());
}

#[test]
fn preemption_keeps_whoever_is_not_needed_after_all() {
    let mut nodes = [node(1, 4000, 4)];
    for (instance, cpu, memory) in [(1, 2000, 0), (2, 0, 2), (3, 2000, 2)] {
        nodes[0].add(Running {
            resources: Resources::new(cpu, memory * GIB, 0),
            ..running(instance, 5, 1, 0)
        });
    }
    let choice = place(&nodes, &task(2000, 2), Rule::BestFit).unwrap();
    assert_eq!(choice.preempt, [3]);
}

#[test]
fn m11_a_thousand_tasks_by_each_rule_never_exceed_a_node() {
    for rule in Rule::ALL {
        let mut nodes: Vec<NodeView> = (1..=50).map(|id| node(id, 16_000, 64)).collect();
        for instance in 0..1000 {
            let choice = place(&nodes, &task(700, 2), rule).unwrap();
            assert!(!choice.table.is_empty() && choice.preempt.is_empty());
            let at = choice.node as usize - 1;
            nodes[at].add(Running {
                instance,
                job: 1,
                priority: 10,
                resources: task(700, 2).resources,
            });
        }
        let mut counts: Vec<usize> = nodes.iter().map(|n| n.running.len()).collect();
        counts.sort_unstable();
        assert!(nodes.iter().all(|n| n.used.fits(n.total)));
        match rule {
            Rule::BestFit | Rule::PackageLocality => assert_eq!(counts[49], 22),
            Rule::WorstFit => assert_eq!((counts[0], counts[49]), (20, 20)),
            // Zones of 17, 17 and 16 nodes have a third of the tasks each.
            Rule::Spread => assert_eq!((counts[0], counts[49]), (19, 21)),
            Rule::Mixed => {}
        }
    }
}
