//! How nodes come to be of a cluster, lose what they have, and come back.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use coordination::{Acl, CreateMode};
use house::House;
use journal::FileId;
use node::ClientId;
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{Response, body, request};

fn create(house: &mut House, client: ClientId, path: &str) {
    let mode = CreateMode::Persistent { sequential: false };
    house.ask(client, |out| {
        request::create(
            out,
            1,
            path,
            b"kept",
            &[Acl::open()],
            mode,
            WriteShape::Plain,
        );
    });
    let heard = house.heard(client, 1);
    assert!(
        matches!(heard[0], Response::Reply { error: 0, .. }),
        "{heard:?}"
    );
}

/// What a fresh session on a machine reads, after a sync.
fn reads(house: &mut House, m: usize, path: &str) -> Option<String> {
    let (client, _) = house.open(m);
    house.ask(client, |out| {
        request::sync(out, 1, "/");
        request::get_data(out, 2, path, false);
    });
    match &house.heard(client, 2)[1] {
        Response::Reply { error: 0, body, .. } => {
            let (data, _) = body::data(body).expect("a readable reply");
            Some(String::from_utf8(data.to_vec()).expect("text"))
        }
        _ => None,
    }
}

fn role(house: &mut House, m: usize, core: usize, shard: &str) -> String {
    let status = house.status(m, core);
    let found = status.shards.iter().find(|s| s.name == shard);
    found.map_or_else(String::new, |s| s.role.clone())
}

#[test]
fn cluster_forms_only_once_all_initial_members_are_seen_to_be_fresh() {
    let mut house = House::new(3, 1);
    house.boot(0);
    house.boot(1);
    house.run(5_000);
    for m in 0..2 {
        let status = house.status(m, 0);
        assert_eq!(
            (status.phase.as_str(), status.cluster.as_str()),
            ("waiting", "")
        );
        assert!(
            status.waiting_for.contains("10.0.0.2:7401"),
            "{}",
            status.waiting_for
        );
    }
    house.boot(2);
    house.until_all_serve();
    let clusters: Vec<String> = (0..3).map(|m| house.status(m, 0).cluster).collect();
    assert!(!clusters[0].is_empty());
    assert!(clusters.iter().all(|c| *c == clusters[0]), "{clusters:?}");
}

#[test]
fn lone_initial_member_forms_at_once_and_keeps_its_data() {
    let mut house = House::serving(1, 1);
    let (client, _) = house.open(0);
    create(&mut house, client, "/a");
    let cluster = house.status(0, 0).cluster;
    house.kill(0);
    house.boot(0);
    house.until_all_serve();
    assert_eq!(house.status(0, 0).cluster, cluster);
    assert_eq!(reads(&mut house, 0, "/a").as_deref(), Some("kept"));
}

#[test]
fn founder_wiped_joins_as_another_node_instead_of_forming() {
    let mut house = House::serving(3, 1);
    let (client, _) = house.open(1);
    create(&mut house, client, "/a");
    let (cluster, node) = (house.status(1, 0).cluster, house.machines[0].node);
    let formed = |house: &House, m: usize| {
        let is = |line: &&String| line.starts_with("forms ");
        house.machines[m].log.iter().filter(is).count()
    };
    assert_eq!(formed(&house, 0), 1, "the smallest address founds");

    house.kill(0);
    house.machines[0].disks[0].clear();
    house.boot(0);
    house.until_all_serve();
    assert_ne!(house.machines[0].node, node);
    assert_eq!(house.status(0, 0).cluster, cluster);
    assert_eq!(formed(&house, 0), 1, "it does not form another");
    assert_eq!(reads(&mut house, 0, "/a").as_deref(), Some("kept"));
    house.run_until("its old self is forgotten", |h| {
        h.status(1, 0).members.len() == 3
    });
    let old = format!("{:x}", node.0);
    assert!(house.status(1, 0).members.iter().all(|m| m.node != old));
}

#[test]
fn all_members_wiped_form_a_new_cluster() {
    let mut house = House::serving(3, 1);
    let cluster = house.status(0, 0).cluster;
    for m in 0..3 {
        house.kill(m);
        house.machines[m].disks[0].clear();
    }
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    assert_ne!(house.status(0, 0).cluster, cluster);
}

#[test]
fn restart_with_more_and_fewer_cores_keeps_everything() {
    let mut house = House::serving(1, 2);
    let (client, _) = house.open(0);
    create(&mut house, client, "/one");
    for (cores, path) in [(2, "/two"), (1, "/three"), (2, "/four")] {
        house.kill(0);
        house.machines[0].cores = cores;
        house.boot(0);
        house.until_all_serve();
        let serves = house.machines[0].serves;
        assert_eq!(
            serves,
            Some(usize::from(cores - 1)),
            "the tree lies in lane 1"
        );
        let (client, _) = house.open(0);
        create(&mut house, client, path);
    }
    for path in ["/one", "/two", "/three", "/four"] {
        assert_eq!(
            reads(&mut house, 0, path).as_deref(),
            Some("kept"),
            "{path}"
        );
    }
    assert_eq!(role(&mut house, 0, 0, "meta"), "leader");
    assert_eq!(role(&mut house, 0, 1, "tree"), "leader");
}

#[test]
fn lone_fresh_node_of_two_cores_forms_and_serves() {
    let mut house = House::new(1, 2);
    house.machines[0].cores = 2;
    house.boot(0);
    house.until_all_serve();
    let (client, _) = house.open(0);
    create(&mut house, client, "/a");
    assert_eq!(house.status(0, 0).cluster, house.status(0, 1).cluster);
}

#[test]
fn nodes_of_different_numbers_of_cores_form_one_cluster() {
    let mut house = House::new(3, 2);
    house.machines[1].cores = 2;
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    let (client, _) = house.open(1);
    create(&mut house, client, "/a");
    for m in 0..3 {
        assert_eq!(reads(&mut house, m, "/a").as_deref(), Some("kept"));
    }
}

#[test]
fn node_whose_journal_is_gone_is_silent_then_replaced_and_serves_again() {
    let mut house = House::serving(3, 1);
    let (client, _) = house.open(0);
    create(&mut house, client, "/a");
    house.run(1_000);
    let node = house.machines[2].node;
    let replica_of = |house: &mut House| {
        let status = house.status(2, 0);
        let tree = status.shards.iter().find(|s| s.name == "tree");
        tree.map(|s| {
            (
                u64::from_str_radix(&s.replica, 16).expect("hexadecimal"),
                s.role.clone(),
            )
        })
    };
    let (before, _) = replica_of(&mut house).expect("it has one");

    house.kill(2);
    house.machines[2].disks[0].retain(|file, _| !matches!(file, FileId::Segment(_)));
    house.machines[2].log.clear();
    house.boot(2);
    house.run(10);
    let status = house.status(2, 0);
    assert_eq!(house.machines[2].node, node, "it is the same node");
    assert!(
        status
            .shards
            .iter()
            .all(|s| s.role == "silent" && !s.fault.is_empty())
    );
    assert_eq!(house.machines[2].serves, None);

    house.until_all_serve();
    let (after, role) = replica_of(&mut house).expect("it has one");
    assert!(after > before, "a new replica: {before:x} then {after:x}");
    assert_ne!(role, "silent");
    assert_eq!(reads(&mut house, 2, "/a").as_deref(), Some("kept"));
    house.run_until("the lost one is gone and three vote again", |h| {
        let tree = h.status(0, 0).shards.into_iter().find(|s| s.name == "tree");
        let replicas = tree.map(|s| s.replicas).unwrap_or_default();
        replicas.len() == 3 && replicas.iter().all(|r| r.1 == "voter")
    });
}

#[test]
fn majority_whose_journals_are_gone_serves_nothing() {
    let mut house = House::serving(3, 1);
    for m in 1..3 {
        house.kill(m);
        house.machines[m].disks[0].retain(|file, _| !matches!(file, FileId::Segment(_)));
        house.boot(m);
    }
    house.run(5_000);
    for m in 1..3 {
        assert_eq!(house.machines[m].serves, None);
        assert_eq!(house.status(m, 0).phase, "starting");
        assert!(house.status(m, 0).shards.iter().all(|s| s.role == "silent"));
    }
    let tree = house
        .status(0, 0)
        .shards
        .into_iter()
        .find(|s| s.name == "tree");
    assert_ne!(
        tree.expect("it has one").role,
        "leader",
        "no majority remembers"
    );
}

#[test]
fn majority_wiped_neither_forms_another_cluster_nor_serves() {
    let mut house = House::serving(3, 1);
    let cluster = house.status(0, 0).cluster;
    house.kill(0);
    for m in 1..3 {
        house.kill(m);
        house.machines[m].disks[0].clear();
        house.boot(m);
    }
    house.run(5_000);
    for m in 1..3 {
        assert_eq!(
            house.status(m, 0).phase,
            "waiting",
            "the first is not heard"
        );
    }
    house.boot(0);
    house.run(5_000);
    for m in 0..3 {
        assert_eq!(house.machines[m].serves, None);
        let its = house.status(m, 0).cluster;
        assert!(its.is_empty() || its == cluster, "{m} is of {its}");
    }
}

#[test]
fn identity_that_cannot_be_read_stops_the_node_with_what_to_do() {
    let mut house = House::serving(1, 1);
    house.kill(0);
    let identity = house.machines[0].disks[0]
        .get_mut(&FileId::Identity)
        .expect("it has one");
    identity[3] ^= 1;
    house.boot(0);
    house.run(100);
    let reason = house.machines[0].stopped.clone().expect("it stopped");
    assert!(reason.contains("move the data directory away"), "{reason}");
}

#[test]
fn node_of_another_cluster_is_refused() {
    let mut house = House::serving(2, 1);
    let mut other = House::new(1, 1);
    // Not the other's numbers again.
    other.boot(0);
    other.kill(0);
    other.machines[0].disks[0].clear();
    other.boot(0);
    other.until_all_serve();
    assert_ne!(other.status(0, 0).cluster, house.status(0, 0).cluster);
    // Another cluster's directory comes up at the second machine's address.
    house.kill(1);
    house.machines[1].disks = std::mem::take(&mut other.machines[0].disks);
    house.machines[1].node = other.machines[0].node;
    house.boot(1);
    house.run(3_000);
    let refused = |line: &String| line.starts_with("refuses streams");
    assert!(
        house.machines[1].log.iter().any(refused),
        "{:?}",
        house.machines[0].log
    );
    assert_eq!(
        house.status(0, 0).members.len(),
        2,
        "nothing of it is taken in"
    );
}

#[test]
fn nobody_is_answered_before_the_identity_says_whose_the_log_is() {
    // A node that starts without its identity is another one and throws the log away: what was
    // acknowledged before would be lost.
    let mut house = House::new(1, 1);
    house.machines[0].identity_waits = true;
    house.boot(0);
    house.run(2_000);
    assert_eq!(house.machines[0].serves, None);
    house.kill(0);
    house.machines[0].identity_waits = false;
    house.boot(0);
    house.until_all_serve();
}
