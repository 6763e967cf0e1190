//! Calls: written once, read anywhere, waited for, and always answered.

#[path = "desk/groups.rs"]
mod groups;
#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;
#[path = "desk/jobs.rs"]
mod jobs;

use coordination::services::{
    Answer, CheckKind, CheckSpec, Command, Found, Instance, Pace, Query, Refusal, Reply, Status,
};
use house::House;
use node::{After, Call, CallReply, GlobalsAnswer, GlobalsQuery};
use transactions::global;

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
    house.called(m, call_register(instance, Vec::new()))
}

fn call_register(instance: Instance, checks: Vec<CheckSpec>) -> Call {
    Call::ChangeServices(Command::Register {
        instance,
        checks,
        replace_checks: false,
    })
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
    let id = "nobody".to_owned();
    let reply = house.called(
        0,
        Call::ChangeServices(Command::Deregister { id: id.clone() }),
    );
    assert_eq!(
        reply,
        CallReply::ServicesChanged(Err(Refusal::UnknownInstance(id)))
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
    house.called(1, call_register(other, Vec::new()));
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
    let write = house.call(0, call_register(instance, Vec::new()));
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

// --- checks ---

fn spec(kind: CheckKind) -> CheckSpec {
    CheckSpec {
        id: "service:w1".into(),
        name: "alive".into(),
        notes: String::new(),
        instance: "w1".into(),
        kind,
        initial: Status::Critical,
        deregister_after_ms: 0,
    }
}

fn ttl(ttl_ms: u64) -> CheckSpec {
    spec(CheckKind::Ttl { ttl_ms })
}

fn tcp(address: &str) -> CheckSpec {
    spec(CheckKind::Tcp {
        address: address.into(),
        pace: Pace {
            interval_ms: 1_000,
            timeout_ms: 1_000,
            successes: 0,
            failures_to_warn: 0,
            failures: 0,
        },
    })
}

fn register_checked(house: &mut House, m: usize, check: CheckSpec) {
    let instance = instance(house, m, "w1", 80);
    assert_eq!(
        house.called(m, call_register(instance, vec![check])),
        done()
    );
}

fn pass(house: &mut House, m: usize) -> CallReply {
    let command = Command::Tell {
        id: "service:w1".into(),
        status: Status::Passing,
        output: "fine".into(),
    };
    house.called(m, Call::ChangeServices(command))
}

fn found(house: &mut House, m: usize) -> Vec<Found> {
    match house.called(m, web(None)) {
        CallReply::Services {
            answer: Answer::Instances(found),
            ..
        } => found,
        other => panic!("no instances: {other:?}"),
    }
}

fn status(house: &mut House, m: usize) -> Status {
    found(house, m)[0].status()
}

#[test]
fn check_that_is_told_in_time_passes_and_one_that_is_not_is_critical_within_its_time() {
    let mut house = House::serving(3, 1);
    register_checked(&mut house, 0, ttl(2_000));
    assert_eq!(
        status(&mut house, 0),
        Status::Critical,
        "it was told nothing"
    );
    for i in 0..6 {
        // At any node, not only where it was registered.
        assert_eq!(pass(&mut house, i % 3), done());
        house.run(1_500);
        assert_eq!(status(&mut house, 2), Status::Passing);
    }
    house.run(600);
    assert_eq!(status(&mut house, 2), Status::Critical);
    let said = found(&mut house, 1)[0].checks[0].check.output.clone();
    assert_eq!(said, "TTL expired: not told for 2000 ms");
}

#[test]
fn who_waits_hears_of_the_status_and_not_of_the_words() {
    let mut house = House::serving(3, 1);
    register_checked(&mut house, 0, ttl(60_000));
    pass(&mut house, 0);
    let (index, _) = ports(house.called(1, web(None)));
    let after = After {
        index,
        wait_us: 60_000_000,
    };
    let waiting = house.call(1, web(Some(after)));
    let tell = |status, output: &str| {
        Call::ChangeServices(Command::Tell {
            id: "service:w1".into(),
            status,
            output: output.into(),
        })
    };
    house.called(0, tell(Status::Passing, "still fine"));
    house.run(1_000);
    assert_eq!(house.answer(1, waiting), None);
    house.called(0, tell(Status::Warning, "slow"));
    house.run(100);
    assert!(house.answer(1, waiting).is_some());
}

#[test]
fn new_leader_grants_a_full_time_out() {
    let mut house = House::serving(3, 1);
    let first = leader(&mut house);
    register_checked(&mut house, 0, ttl(3_000));
    pass(&mut house, 0);
    house.run(2_500);
    house.kill(first);
    let m = (first + 1) % 3;
    house.run(2_500);
    assert_eq!(status(&mut house, m), Status::Passing);
    house.run(2_500);
    assert_eq!(status(&mut house, m), Status::Critical);
}

#[test]
fn probe_that_fails_makes_it_critical_and_one_that_succeeds_lets_it_pass() {
    let mut house = House::serving(3, 1);
    let check = tcp("10.0.0.9:80");
    let target = node::ProbeTarget::Tcp {
        address: "10.0.0.9:80".into(),
    };
    register_checked(&mut house, 1, check);
    house.run(600);
    assert_eq!(status(&mut house, 0), Status::Passing);
    house.refuses.push(target);
    house.run(1_100);
    assert_eq!(status(&mut house, 0), Status::Critical);
    house.refuses.clear();
    house.run(1_100);
    assert_eq!(status(&mut house, 0), Status::Passing);
    let probed: Vec<u32> = house.machines.iter().map(|m| m.probed).collect();
    assert!(
        probed[0] == 0 && probed[1] > 1 && probed[2] == 0,
        "{probed:?}"
    );
}

#[test]
fn death_of_the_node_that_runs_a_check_drops_nothing_and_another_one_runs_it() {
    let mut house = House::serving(3, 1);
    let m = (leader(&mut house) + 1) % 3;
    register_checked(&mut house, m, tcp("10.0.0.9:80"));
    house.run(1_000);
    house.kill(m);
    let alive: Vec<usize> = (0..3).filter(|other| *other != m).collect();
    for _ in 0..50 {
        house.run(100);
        assert_eq!(status(&mut house, alive[0]), Status::Passing);
    }
    let ran = alive.iter().filter(|m| house.machines[**m].probed > 0);
    assert_eq!(ran.count(), 1);
    house.refuses.push(node::ProbeTarget::Tcp {
        address: "10.0.0.9:80".into(),
    });
    house.run(1_100);
    assert_eq!(status(&mut house, alive[0]), Status::Critical);
    // It is back, and runs it again.
    house.boot(m);
    house.until_all_serve();
    house.run(2_000);
    let runner = found(&mut house, m)[0].checks[0].check.runner;
    assert_eq!(runner, house.machines[m].node);
}

#[test]
fn instance_that_is_critical_for_too_long_is_removed() {
    let mut house = House::serving(3, 1);
    let check = CheckSpec {
        deregister_after_ms: 3_000,
        ..ttl(1_000)
    };
    register_checked(&mut house, 0, check);
    pass(&mut house, 0);
    house.run(1_200);
    assert_eq!(status(&mut house, 0), Status::Critical);
    house.run(2_000);
    assert_eq!(found(&mut house, 0).len(), 1);
    house.run(2_000);
    assert_eq!(found(&mut house, 0), []);
    assert!(matches!(
        pass(&mut house, 0),
        CallReply::ServicesChanged(Err(Refusal::UnknownCheck(_)))
    ));
}

fn saga(steps: usize) -> Call {
    let step = |at: usize| global::Step {
        action: format!("http://10.0.0.9/{at}"),
        ..global::Step::default()
    };
    Call::ChangeGlobals(global::Command::Submit(global::NewGlobal {
        gid: "g".into(),
        kind: global::Kind::Saga,
        options: global::Options::default(),
        custom_data: String::new(),
        before: Vec::new(),
        delay_ms: 0,
        query_prepared: String::new(),
        steps: (0..steps).map(step).collect(),
    }))
}

fn global_of(reply: CallReply) -> (u64, global::Global) {
    match reply {
        CallReply::Globals { index, answer } => match *answer {
            GlobalsAnswer::One(Some(global)) => (index, global),
            other => panic!("it is not there: {other:?}"),
        },
        other => panic!("no transaction: {other:?}"),
    }
}

fn the_global(after: Option<After>) -> Call {
    let query = GlobalsQuery::One { gid: "g".into() };
    Call::ReadGlobals { query, after }
}

#[test]
fn global_transaction_whose_leader_dies_with_a_call_under_way_is_driven_by_the_next() {
    let mut house = House::serving(3, 1);
    let first = leader(&mut house);
    let (m, other) = ((first + 1) % 3, (first + 2) % 3);
    house.keeps_calls = true;
    let done = CallReply::GlobalsChanged(Ok(global::Reply::Done));
    for _ in 0..2 {
        assert_eq!(house.called(m, saga(3)), done, "asked again, too");
    }
    house.run(500);
    assert_eq!(house.machines[first].probed, 1, "one call is under way");
    let (index, global) = global_of(house.called(other, the_global(None)));
    assert_eq!(global.status, global::Status::Submitted);
    let wait_us = 25_000_000;
    let waiting = house.call(m, the_global(Some(After { index, wait_us })));
    house.kill(first);
    house.keeps_calls = false;
    house.run(5_000);
    let told = house
        .answer(m, waiting)
        .expect("who waits hears of the change");
    assert!(global_of(told).0 > index);
    let (_, global) = global_of(house.called(other, the_global(None)));
    assert_eq!(global.status, global::Status::Succeeded);
    let calls: u32 = house.machines.iter().map(|m| m.probed).sum();
    assert_eq!(
        calls, 4,
        "the call that was lost was made again, the others once"
    );
}
