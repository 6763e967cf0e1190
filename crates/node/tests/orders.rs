//! What people order: joining, leaving, handing over, snapshots; and nodes of several lanes.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use coordination::{Acl, CreateMode};
use house::House;
use journal::FileId;
use node::{AdminCommand, AdminReply};
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{Response, request};

fn create(house: &mut House, m: usize, path: &str) {
    let mode = CreateMode::Persistent { sequential: false };
    let (client, _) = house.open(m);
    house.ask(client, |out| {
        let acl = [Acl::open()];
        request::create(out, 1, path, b"kept", &acl, mode, WriteShape::Plain);
    });
    let heard = house.heard(client, 1);
    assert!(
        matches!(heard[0], Response::Reply { error: 0, .. }),
        "{heard:?}"
    );
}

fn is_there(house: &mut House, m: usize, path: &str) -> bool {
    let (client, _) = house.open(m);
    house.ask(client, |out| {
        request::sync(out, 1, "/");
        request::exists(out, 2, path, false);
    });
    matches!(house.heard(client, 2)[1], Response::Reply { error: 0, .. })
}

fn leader(house: &mut House, name: &str) -> String {
    let status = house.status(0, 0);
    let shard = status.shards.iter().find(|s| s.name == name);
    shard.expect("it has a replica").leader.clone()
}

fn done(reply: AdminReply) -> String {
    match reply {
        AdminReply::Done { message } => message,
        other => panic!("refused: {other:?}"),
    }
}

fn refused(reply: AdminReply) -> String {
    match reply {
        AdminReply::Refused { message } => message,
        other => panic!("not refused: {other:?}"),
    }
}

/// A machine that names nobody and is told whom to ask.
fn newcomer(house: &mut House) -> usize {
    let m = house.add();
    house.machines[m].members.clear();
    house.boot(m);
    house.run(100);
    assert_eq!(house.status(m, 0).phase, "waiting");
    m
}

#[test]
fn fresh_node_told_to_join_is_filled_and_serves() {
    let mut house = House::serving(1, 1);
    create(&mut house, 0, "/a");
    let m = newcomer(&mut house);
    let seed = house.machines[0].address.clone();
    done(house.order(m, AdminCommand::Join { seed: seed.clone() }));
    house.until_all_serve();
    assert!(is_there(&mut house, m, "/a"));
    let again = refused(house.order(m, AdminCommand::Join { seed }));
    assert!(again.contains("already"), "{again}");
    let own = house.machines[m].address.clone();
    house.kill(m);
    house.boot(m);
    house.until_all_serve();
    assert!(is_there(&mut house, m, "/a"), "at {own} after a restart");
}

#[test]
fn member_that_leaves_stops_and_the_others_go_on() {
    leave_one_after_the_other(1);
}

#[test]
fn members_of_two_cores_that_leave_stop_and_the_others_go_on() {
    leave_one_after_the_other(2);
}

fn leave_one_after_the_other(cores: u16) {
    let mut house = House::new(3, cores);
    for m in 0..3 {
        house.machines[m].cores = cores;
        house.boot(m);
    }
    house.until_all_serve();
    create(&mut house, 0, "/a");
    for leaver in [2, 0] {
        let asked = if leaver == 0 { 1 } else { 0 };
        let node = house.machines[leaver].address.clone();
        done(house.order(asked, AdminCommand::Leave { node }));
        house.run_until("it has stopped", |h| h.machines[leaver].stopped.is_some());
        let left = 3 - if leaver == 2 { 1 } else { 2 };
        house.run_until("it is forgotten", |h| {
            h.status(asked, 0).members.len() == left
        });
    }
    assert!(is_there(&mut house, 1, "/a"));
    create(&mut house, 1, "/b");
    let node = house.machines[1].address.clone();
    let last = refused(house.order(1, AdminCommand::Leave { node }));
    assert!(last.contains("last member"), "{last}");
}

#[test]
fn leadership_is_handed_over_to_each_member_in_turn() {
    let mut house = House::serving(3, 1);
    for shard in ["tree", "meta"] {
        for m in [1, 2, 0, 1] {
            let to = house.machines[m].address.clone();
            let shard = shard.to_owned();
            // Whoever is asked passes it on to the leader.
            done(house.order(
                2,
                AdminCommand::TransferLeader {
                    shard: shard.clone(),
                    to,
                },
            ));
            let node = format!("{:x}", house.machines[m].node.0);
            house.run_until("it leads", |h| leader(h, &shard) == node);
        }
    }
    create(&mut house, 0, "/a");
}

#[test]
fn leadership_that_is_ordered_to_a_silent_member_goes_to_nobody_else() {
    let mut house = House::serving(3, 1);
    let first = leader(&mut house, "tree");
    let is_first = |h: &House, m: usize| format!("{:x}", h.machines[m].node.0) == first;
    let led = (0..3).find(|m| is_first(&house, *m)).expect("one leads");
    let silent = (led + 1) % 3;
    house.kill(silent);
    house.run(1_000);
    let to = house.machines[silent].address.clone();
    let shard = "tree".into();
    done(house.order(led, AdminCommand::TransferLeader { shard, to }));
    house.run(2_000);
    assert_eq!(house.status(led, 0).shards[1].leader, first);
}

#[test]
fn snapshot_ordered_is_what_a_restart_begins_with() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "/a");
    for m in 0..3 {
        done(house.order(
            m,
            AdminCommand::Snapshot {
                shard: "tree".into(),
            },
        ));
    }
    house.run(100);
    create(&mut house, 0, "/behind");
    let tree = |house: &mut House, m: usize| {
        let shards = house.status(m, 0).shards;
        shards
            .into_iter()
            .find(|s| s.name == "tree")
            .expect("it has one")
    };
    let at: Vec<u64> = (0..3).map(|m| tree(&mut house, m).snapshot).collect();
    (0..3).for_each(|m| house.kill(m));
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    for (m, at) in at.into_iter().enumerate() {
        assert_eq!(tree(&mut house, m).snapshot, at);
        assert!(is_there(&mut house, m, "/a") && is_there(&mut house, m, "/behind"));
        let kept = house.machines[m].disks[0].keys();
        let snapshots = kept.filter(|f| matches!(f, FileId::Snapshot(..))).count();
        assert_eq!(snapshots, 3, "one of each shard");
    }
}

#[test]
fn machine_version_rises_once_the_last_member_is_upgraded() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "/a");
    let versions = |house: &mut House| -> Vec<u16> {
        let all = (0..3).flat_map(|m| house.status(m, 0).shards);
        all.map(|shard| shard.machine_version).collect()
    };
    for m in 0..3 {
        assert_eq!(versions(&mut house), [1; 9], "before {m} is upgraded");
        house.kill(m);
        house.machines[m].version = 2;
        house.boot(m);
        house.until_all_serve();
        house.run(if m < 2 { 2_000 } else { 0 });
    }
    house.run_until("all shards have risen", |h| versions(h) == [2; 9]);
    create(&mut house, 1, "/b");
    // Who cannot follow any more says so, and the others go on.
    house.kill(2);
    house.machines[2].version = 1;
    house.boot(2);
    house.run(500);
    let fault = house.status(2, 0).shards[0].fault.clone();
    assert!(fault.contains("upgrade this node"), "{fault}");
    create(&mut house, 0, "/c");
}

#[test]
fn orders_that_name_nothing_are_refused_in_words() {
    let mut house = House::serving(1, 1);
    let shard = "forest".to_owned();
    let words = refused(house.order(0, AdminCommand::Snapshot { shard }));
    assert!(words.contains("forest"), "{words}");
    let node = "10.9.9.9:1".to_owned();
    let words = refused(house.order(0, AdminCommand::Leave { node }));
    assert!(words.contains("10.9.9.9:1"), "{words}");
}

#[test]
fn three_nodes_restarted_with_other_numbers_of_cores_keep_everything() {
    let mut house = House::serving(3, 2);
    create(&mut house, 0, "/one");
    for (cores, path) in [(2, "/two"), (1, "/three")] {
        // One after the other, as an upgrade does.
        for m in 0..3 {
            house.kill(m);
            house.machines[m].cores = cores;
            house.run(500);
            house.boot(m);
            house.until_all_serve();
        }
        create(&mut house, 1, path);
    }
    for m in 0..3 {
        for path in ["/one", "/two", "/three"] {
            assert!(is_there(&mut house, m, path), "{path} on {m}");
        }
    }
}

#[test]
fn one_lane_wiped_comes_back_as_another_node() {
    let mut house = House::serving(3, 2);
    create(&mut house, 0, "/a");
    let node = house.machines[2].node;
    for lane in [1, 0] {
        house.kill(2);
        house.machines[2].disks[lane].clear();
        house.run(500);
        house.boot(2);
        house.until_all_serve();
        assert_ne!(house.machines[2].node, node);
        assert!(is_there(&mut house, 2, "/a"));
        house.run_until("its old self is forgotten", |h| {
            h.status(0, 0).members.len() == 3
        });
    }
}

#[test]
fn idle_cluster_falls_asleep_and_wakes_for_a_write() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "/a");
    let asleep = |house: &mut House| {
        let shards = (0..3)
            .flat_map(|m| house.status(m, 0).shards)
            .collect::<Vec<_>>();
        shards
            .iter()
            .filter(|s| s.name == "meta" && s.hibernating)
            .count()
    };
    house.run_until("the meta shard sleeps everywhere", |h| asleep(h) == 3);
    let mut always = true;
    for _ in 0..100 {
        house.run(100);
        always &= asleep(&mut house) == 3;
    }
    assert!(always, "and stays asleep");
    let m = newcomer(&mut house);
    let seed = house.machines[0].address.clone();
    done(house.order(m, AdminCommand::Join { seed }));
    house.until_all_serve();
    assert!(is_there(&mut house, m, "/a"));
}

#[test]
fn sleeping_groups_whose_leader_dies_elect_another() {
    let mut house = House::serving(3, 1);
    create(&mut house, 0, "/a");
    house.run(10_000);
    let leads = leader(&mut house, "meta");
    let m = (house.machines.iter())
        .position(|m| format!("{:x}", m.node.0) == leads)
        .expect("one leads");
    house.kill(m);
    let other = (m + 1) % 3;
    house.run_until("another leads", |h| {
        let shards = h.status(other, 0).shards;
        shards
            .iter()
            .all(|s| !s.leader.is_empty() && s.leader != leads)
    });
    create(&mut house, other, "/b");
}
