//! Calls: written once, read anywhere, waited for, and always answered.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use coordination::services::{Answer, Command, Instance, Query, Refusal, Reply};
use house::House;
use node::{After, Call, CallReply};

fn instance(house: &House, m: usize, id: &str, port: u16) -> Instance {
    Instance {
        node: house.machines[m].node,
        node_address: "10.0.0.9".into(),
        id: id.into(),
        service: "web".into(),
        address: String::new(),
        port,
        tags: vec!["blue".into()],
        meta: [("zone".to_owned(), "a".to_owned())].into(),
        weights: (1, 1),
    }
}

fn register(house: &mut House, m: usize, id: &str, port: u16) -> CallReply {
    let instance = instance(house, m, id, port);
    house.called(m, Call::ChangeServices(Command::Register(instance)))
}

fn done() -> CallReply {
    CallReply::ServicesChanged(Ok(Reply::Done))
}

fn web(after: Option<After>) -> Call {
    let query = Query::Service { name: "web".into() };
    Call::ReadServices { query, after }
}

/// The index, and the ports that are there.
fn ports(reply: CallReply) -> (u64, Vec<u16>) {
    match reply {
        CallReply::Services {
            index,
            answer: Answer::Instances(found),
        } => (index, found.iter().map(|f| f.instance.port).collect()),
        other => panic!("no instances: {other:?}"),
    }
}

fn leader(house: &mut House) -> usize {
    let status = house.status(0, 0);
    let tree = status.shards.iter().find(|s| s.name == "tree");
    let leader = tree.expect("it has a replica").leader.clone();
    let is_it = |m: &house::Machine| format!("{:x}", m.node.0) == leader;
    (house.machines.iter().position(is_it)).expect("somebody leads")
}

#[test]
fn service_registered_on_one_node_is_read_on_all_and_outlives_a_restart_of_all() {
    let mut house = House::serving(3, 1);
    assert_eq!(register(&mut house, 1, "w1", 80), done());
    for m in 0..3 {
        assert_eq!(ports(house.called(m, web(None))), (1, vec![80]), "node {m}");
    }
    (0..3).for_each(|m| house.kill(m));
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    assert_eq!(ports(house.called(2, web(None))), (1, vec![80]));
}

#[test]
fn refusal_of_the_machine_is_the_answer() {
    let mut house = House::serving(1, 1);
    let (node, id) = (house.machines[0].node, "nobody".to_owned());
    let reply = house.called(0, Call::ChangeServices(Command::Deregister { node, id }));
    assert_eq!(
        reply,
        CallReply::ServicesChanged(Err(Refusal::UnknownInstance))
    );
}

#[test]
fn caller_that_has_seen_the_index_waits_for_its_service_only() {
    let mut house = House::serving(3, 1);
    register(&mut house, 0, "w1", 80);
    let (index, _) = ports(house.called(2, web(None)));
    let after = After {
        index,
        wait_us: 60_000_000,
    };
    let waiting = house.call(2, web(Some(after)));
    house.run(1_000);
    let other = Instance {
        service: "db".into(),
        ..instance(&house, 1, "d1", 5432)
    };
    house.called(1, Call::ChangeServices(Command::Register(other)));
    house.run(1_000);
    assert_eq!(house.answer(2, waiting), None, "another service changed");
    register(&mut house, 1, "w2", 81);
    house.run(100);
    let (later, seen) = ports(house.answer(2, waiting).expect("its service changed"));
    assert!(later > index && seen.len() == 2, "{later} {seen:?}");
    // What changed before it was asked for is told at once.
    assert_eq!(ports(house.called(2, web(Some(after)))).0, later);
}

#[test]
fn wait_that_is_over_is_answered_with_what_is_there() {
    let mut house = House::serving(3, 1);
    register(&mut house, 0, "w1", 80);
    let after = After {
        index: 1,
        wait_us: 2_000_000,
    };
    let waiting = house.call(0, web(Some(after)));
    house.run(1_900);
    assert_eq!(house.answer(0, waiting), None);
    house.run(300);
    assert_eq!(house.answer(0, waiting).map(ports), Some((1, vec![80])));
}

#[test]
fn caller_that_hung_up_is_not_answered() {
    let mut house = House::serving(1, 1);
    register(&mut house, 0, "w1", 80);
    let after = After {
        index: 1,
        wait_us: 1_000_000,
    };
    let waiting = house.call(0, web(Some(after)));
    house.run(10);
    house.hang_up(0, waiting);
    register(&mut house, 0, "w2", 81);
    house.run(2_000);
    assert_eq!(house.answer(0, waiting), None);
}

#[test]
fn without_a_majority_writes_are_answered_with_not_known_and_reads_refused() {
    let mut house = House::serving(3, 1);
    (1..3).for_each(|m| house.kill(m));
    let instance = instance(&house, 0, "w1", 80);
    let write = house.call(0, Call::ChangeServices(Command::Register(instance)));
    let read = house.call(0, web(None));
    house.run(31_000);
    let reply = house.answer(0, write);
    assert!(
        matches!(reply, Some(CallReply::Unknown { .. })),
        "{reply:?}"
    );
    let reply = house.answer(0, read);
    assert!(
        matches!(reply, Some(CallReply::Refused { .. })),
        "{reply:?}"
    );
}

#[test]
fn replica_that_a_snapshot_fills_has_the_services_and_wakes_who_waits() {
    let mut house = House::serving(3, 1);
    register(&mut house, 0, "w1", 80);
    let leader = leader(&mut house);
    let m = (leader + 1) % 3;
    house.kill(m);
    house.run(1_000);
    register(&mut house, leader, "w2", 81);
    house.machines[m].disks = vec![house::Disk::default()];
    house.order(
        leader,
        node::AdminCommand::Snapshot {
            shard: "tree".into(),
        },
    );
    house.run(1_000);
    house.boot(m);
    house.until_all_serve();
    assert_eq!(ports(house.called(m, web(None))).1, vec![80, 81]);
}
