//! Groups between nodes: made through the catalog, used through calls, over deaths of nodes and of groups.

use super::house::House;
use group::{Event, What};
use node::admin::GroupStatus;
use node::{Call, CallReply, GroupAnswer, GroupCall};

fn call(house: &mut House, m: usize, call: GroupCall) -> GroupAnswer {
    match house.called(m, Call::Group(call)) {
        CallReply::Group(answer) => *answer,
        other => panic!("no answer: {other:?}"),
    }
}

fn create(house: &mut House, m: usize, name: &str, protocol: &str) {
    let asked = GroupCall::Create {
        name: name.into(),
        protocol: protocol.into(),
        nodes: Vec::new(),
    };
    assert_eq!(call(house, m, asked), GroupAnswer::Done);
    let running = |house: &mut House, m: usize| {
        let status = status(house, m, name);
        status.is_some_and(|status| status.me > 0 && status.role != "starting")
    };
    let count = house.machines.len();
    let name = format!("{name} runs everywhere");
    house.run_until(&name, |house| (0..count).all(|m| running(house, m)));
}

fn status(house: &mut House, m: usize, name: &str) -> Option<GroupStatus> {
    let all = house.status(m, 0).groups;
    all.into_iter().find(|group| group.name == name)
}

fn lock(house: &mut House, m: usize, wait_us: u64) -> GroupAnswer {
    let name = "g".into();
    call(house, m, GroupCall::Lock { name, wait_us })
}

fn unlock(house: &mut House, m: usize) -> GroupAnswer {
    let (name, fence) = ("g".into(), None);
    call(house, m, GroupCall::Unlock { name, fence })
}

fn log(house: &mut House, m: usize) -> Vec<Event> {
    match call(house, m, GroupCall::Log { name: "g".into() }) {
        GroupAnswer::Log(events) => events,
        other => panic!("no log: {other:?}"),
    }
}

fn fence(answer: GroupAnswer) -> u64 {
    match answer {
        GroupAnswer::Locked(fence) => fence,
        other => panic!("not let in: {other:?}"),
    }
}

#[test]
fn group_locks_in_turn_on_all_nodes_and_survives_restarts() {
    let mut house = House::serving(3, 1);
    create(&mut house, 1, "g", "centralized");
    let mut last = 0;
    for m in [0, 1, 2, 1] {
        let fence = fence(lock(&mut house, m, 5_000_000));
        assert!(fence > last);
        last = fence;
        assert_eq!(unlock(&mut house, m), GroupAnswer::Done);
    }
    // All of them come back, and know the group, its log, and who held what.
    for m in 0..3 {
        house.kill(m);
    }
    for m in 0..3 {
        house.boot(m);
    }
    house.until_all_serve();
    house.run_until("all run it again", |house| {
        (0..3).all(|m| status(house, m, "g").is_some_and(|s| s.role != "starting"))
    });
    let started = |events: &[Event]| events.iter().filter(|e| e.what == What::Started).count();
    assert_eq!(started(&log(&mut house, 1)), 2);
    assert!(fence(lock(&mut house, 2, 5_000_000)) > last);
    // Deleted, and made again under the same name: nothing is left of the old one.
    let name = "g".to_owned();
    assert_eq!(
        call(&mut house, 0, GroupCall::Delete { name }),
        GroupAnswer::Done
    );
    house.run_until("it is gone everywhere", |house| {
        (0..3).all(|m| status(house, m, "g").is_none())
    });
    assert_eq!(lock(&mut house, 2, 0), GroupAnswer::NotFound);
    create(&mut house, 0, "g", "centralized");
    assert_eq!(started(&log(&mut house, 1)), 1);
}

#[test]
fn lock_that_waits_in_vain_says_for_whom_and_lets_go() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "g", "ricart-agrawala");
    house.kill(2);
    house.run(1_000);
    let GroupAnswer::Late(words) = lock(&mut house, 0, 500_000) else {
        panic!("somebody has answered for the dead");
    };
    let peer = status(&mut house, 0, "g").unwrap().waits_for[0];
    assert!(words.contains(&format!("peer {peer} (")), "{words}");
    assert!(words.contains("not heard"), "{words}");
    assert!(matches!(unlock(&mut house, 0), GroupAnswer::Refused(_)));
}

#[test]
fn bully_elects_the_next_when_the_greatest_dies() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "g", "bully");
    let leader = |house: &mut House, m| status(house, m, "g").and_then(|status| status.leader);
    house.run_until("all follow 3", |house| {
        (0..3).all(|m| leader(house, m) == Some(3))
    });
    let greatest = (0..3).find(|m| status(&mut house, *m, "g").unwrap().me == 3);
    let greatest = greatest.unwrap();
    house.kill(greatest);
    let living: Vec<usize> = (0..3).filter(|m| *m != greatest).collect();
    house.run_until("the others follow 2", |house| {
        living.iter().all(|m| leader(house, *m) == Some(2))
    });
}

#[test]
fn zab_has_one_log_on_all_nodes_after_its_leader_died() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "g", "zab");
    let append = |house: &mut House, m: usize, value: u64| {
        for _ in 0..20 {
            let (name, wait_us) = ("g".into(), 3_000_000);
            let asked = GroupCall::Append {
                name,
                value,
                wait_us,
            };
            if let GroupAnswer::Appended(place) = call(house, m, asked) {
                return place;
            }
            house.run(500);
        }
        panic!("{value} has no place");
    };
    assert_eq!(append(&mut house, 0, 11), 1);
    assert_eq!(append(&mut house, 1, 12), 2);
    assert_eq!(append(&mut house, 2, 11), 1, "it has its place");
    let leader = status(&mut house, 0, "g").unwrap().leader.unwrap();
    let dead = (0..3).find(|m| status(&mut house, *m, "g").unwrap().me == leader);
    let dead = dead.unwrap();
    house.kill(dead);
    let living: Vec<usize> = (0..3).filter(|m| *m != dead).collect();
    assert_eq!(append(&mut house, living[0], 13), 3);
    house.boot(dead);
    house.run_until("all have three values", |house| {
        (0..3).all(|m| status(house, m, "g").is_some_and(|status| status.decided == 3))
    });
    let values: Vec<_> = (0..3)
        .map(|m| status(&mut house, m, "g").unwrap().last)
        .collect();
    assert!(
        values
            .iter()
            .all(|log| *log == vec![(3, 13), (2, 12), (1, 11)])
    );
}
