//! Disks that are nearly full: what is refused, to whom, and who leads.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use house::House;
use node::ClientId;
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{Response, request};

const SYSTEM_ERROR: i32 = -1;

fn create(path: &str) -> TreeOp {
    TreeOp::Create {
        path: path.into(),
        data: Bytes::from_static(b"old"),
        acl: vec![Acl::open()],
        mode: CreateMode::Persistent { sequential: false },
    }
}

fn delete(path: &str) -> TreeOp {
    TreeOp::Delete {
        path: path.into(),
        version: -1,
    }
}

/// The error numbers of what is heard next.
fn errors(house: &mut House, client: ClientId, n: usize) -> Vec<i32> {
    let number = |r: &Response| match r {
        Response::Reply { error, .. } => *error,
        other => panic!("only replies are expected, not {other:?}"),
    };
    house.heard(client, n).iter().map(number).collect()
}

fn write(house: &mut House, client: ClientId, op: &TreeOp) -> i32 {
    house.ask(client, |out| {
        request::write(out, 9, op, WriteShape::Plain);
    });
    errors(house, client, 1)[0]
}

fn refusing(house: &mut House) -> Vec<bool> {
    (0..house.machines.len())
        .map(|m| house.status(m, 0).additions_refused)
        .collect()
}

fn leader(house: &mut House) -> usize {
    let n = house.machines.len();
    let leads = |house: &mut House, m| {
        let shards = house.status(m, 0).shards;
        shards
            .iter()
            .any(|s| s.name == "tree" && s.role == "leader")
    };
    (0..n).find(|m| leads(house, *m)).expect("one leads")
}

#[test]
fn node_without_room_refuses_what_adds_and_does_what_frees() {
    let mut house = House::serving(1, 1);
    let (client, _) = house.open(0);
    for path in ["/a", "/b", "/c", "/d"] {
        assert_eq!(write(&mut house, client, &create(path)), 0);
    }
    house.measure(0, true);
    house.ask(client, |out| {
        let plain = |op| (op, WriteShape::Plain);
        request::write(out, 1, &create("/new"), WriteShape::Plain);
        request::set_data(out, 2, "/a", b"longer", -1);
        request::set_acl(out, 3, "/a", &[Acl::open()], -1);
        request::multi(out, 4, &[plain(delete("/a")), plain(create("/new"))]);
        request::write(out, 5, &delete("/b"), WriteShape::Plain);
        request::multi(out, 6, &[plain(delete("/c")), plain(delete("/d"))]);
        request::get_data(out, 7, "/a", false);
        request::exists(out, 8, "/b", false);
        request::exists(out, 9, "/new", false);
        request::ping(out);
    });
    let refused = SYSTEM_ERROR;
    assert_eq!(
        errors(&mut house, client, 10),
        [refused, refused, refused, refused, 0, 0, 0, -101, -101, 0]
    );
    let status = house.status(0, 0);
    assert!(status.ready && status.additions_refused && status.members[0].disk_low);

    // Sessions come and go, and old ones go on when there is room again.
    let (other, _) = house.open(0);
    house.ask(other, |out| request::close_session(out, 1));
    assert_eq!(errors(&mut house, other, 1), [0]);
    house.measure(0, false);
    assert_eq!(write(&mut house, client, &create("/new")), 0);
    assert!(!house.status(0, 0).additions_refused);
}

#[test]
fn one_member_without_room_hands_over_and_stops_nobody_but_a_majority_does() {
    let mut house = House::serving(3, 1);
    let clients: Vec<ClientId> = (0..3).map(|m| house.open(m).0).collect();
    let first = leader(&mut house);
    house.measure(first, true);
    house.run_until("another leads and all take writes", |h| {
        h.run(100);
        leader(h) != first && refusing(h) == [false; 3]
    });
    for (m, client) in clients.iter().enumerate() {
        assert_eq!(write(&mut house, *client, &create(&format!("/one-{m}"))), 0);
    }

    let second = leader(&mut house);
    house.measure(second, true);
    house.run_until("all refuse", |h| refusing(h) == [true; 3]);
    for (m, client) in clients.iter().enumerate() {
        let error = write(&mut house, *client, &create(&format!("/two-{m}")));
        assert_eq!(error, SYSTEM_ERROR, "at {m}");
        assert_eq!(write(&mut house, *client, &delete(&format!("/one-{m}"))), 0);
    }

    house.measure(first, false);
    house.run_until("all take writes", |h| {
        h.run(100);
        refusing(h) == [false; 3]
    });
    for (m, client) in clients.iter().enumerate() {
        assert_eq!(write(&mut house, *client, &create(&format!("/two-{m}"))), 0);
    }
}
