//! ZooKeeper clients of whole nodes: their bytes in, our bytes out, in order.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use base::SessionId;
use coordination::{Acl, CreateMode, Query};
use house::House;
use node::ClientId;
use wire_zookeeper::client::{ConnectResponse, Response, body, request};
use wire_zookeeper::{ConnectRequest, WriteShape};

const PERSISTENT: CreateMode = CreateMode::Persistent { sequential: false };
const EPHEMERAL: CreateMode = CreateMode::Ephemeral { sequential: false };

fn create(house: &mut House, client: ClientId, xid: i32, path: &str, mode: CreateMode) {
    house.ask(client, |out| {
        request::create(
            out,
            xid,
            path,
            b"old",
            &[Acl::open()],
            mode,
            WriteShape::Plain,
        );
    });
}

fn resume(granted: &ConnectResponse) -> ConnectRequest {
    ConnectRequest {
        timeout_ms: 10_000,
        session: granted.session,
        password: granted.password.clone(),
        ..ConnectRequest::default()
    }
}

/// A word for each thing heard: `xid:error`, or `event:kind:path`.
fn words(heard: &[Response]) -> Vec<String> {
    let word = |r: &Response| match r {
        Response::Connect(_) => "connect".to_owned(),
        Response::Reply { xid, error, .. } => format!("{xid}:{error}"),
        Response::Notification { kind, path, .. } => format!("event:{kind}:{path}"),
    };
    heard.iter().map(word).collect()
}

fn leader(house: &mut House) -> usize {
    let leads = |h: &mut House, m: usize| {
        let status = h.status(m, 0);
        (status.shards.iter()).any(|s| s.name == "tree" && s.role == "leader")
    };
    let n = house.machines.len();
    (0..n).find(|m| leads(house, *m)).expect("one leads")
}

#[test]
fn pipelined_requests_are_answered_in_order_with_the_event_before_the_data() {
    let mut house = House::serving(3, 1);
    for m in 0..3 {
        let path = format!("/a{m}");
        let (client, granted) = house.open(m);
        assert_eq!((granted.timeout_ms, granted.password.len()), (10_000, 16));
        create(&mut house, client, 1, &path, PERSISTENT);
        house.ask(client, |out| {
            request::get_data(out, 2, &path, true);
            request::set_data(out, 3, &path, b"new", -1);
            request::get_data(out, 4, &path, false);
            request::ping(out);
            request::get_data(out, 5, "/nowhere", false);
        });
        let heard = house.heard(client, 7);
        let event = format!("event:3:{path}");
        assert_eq!(
            words(&heard),
            ["1:0", "2:0", &event, "3:0", "4:0", "-2:0", "5:-101"]
        );
        let data = |r: &Response| match r {
            Response::Reply { body, .. } => body::data(body).expect("a readable reply").0,
            other => panic!("not a reply: {other:?}"),
        };
        assert_eq!(
            (&data(&heard[1])[..], &data(&heard[4])[..]),
            (&b"old"[..], &b"new"[..])
        );
    }
}

#[test]
fn watch_on_a_follower_fires_before_the_follower_shows_the_data() {
    let mut house = House::serving(3, 1);
    let leads = leader(&mut house);
    let (writer, _) = house.open(leads);
    let (watcher, _) = house.open((leads + 1) % 3);
    create(&mut house, writer, 1, "/a", PERSISTENT);
    house.heard(writer, 1);
    house.ask(watcher, |out| {
        request::sync(out, 1, "/a");
        request::get_data(out, 2, "/a", true);
    });
    assert_eq!(words(&house.heard(watcher, 2)), ["1:0", "2:0"]);
    house.ask(writer, |out| request::set_data(out, 2, "/a", b"new", 0));
    // It reads all the time; whatever shows the new version stands behind the event.
    for xid in 3..40 {
        house.ask(watcher, |out| request::get_data(out, xid, "/a", false));
        house.run(5);
    }
    let heard = house.heard(watcher, 38);
    let event = (heard.iter()).position(|r| matches!(r, Response::Notification { .. }));
    let new = heard.iter().position(|r| match r {
        Response::Reply { body, .. } => body::data(body).expect("a readable reply").1.version == 1,
        _ => false,
    });
    assert!(event.expect("it fired") < new.expect("it came"));
}

#[test]
fn session_moved_to_another_node_closes_the_old_connection() {
    let mut house = House::serving(3, 1);
    let (old, granted) = house.open(0);
    create(&mut house, old, 1, "/e", EPHEMERAL);
    house.heard(old, 1);
    let new = house.connect(1, &resume(&granted));
    let again = house.connected(new);
    assert_eq!(
        (again.session, &again.password),
        (granted.session, &granted.password)
    );
    house.run_until("the old connection is closed", |h| h.clients[&old].closed);
    assert!(!house.clients[&new].closed);
    house.ask(new, |out| {
        request::set_data(out, 1, "/e", b"mine", -1);
        request::exists(out, 2, "/e", false);
    });
    let heard = house.heard(new, 2);
    assert_eq!(words(&heard), ["1:0", "2:0"]);
    let Response::Reply { body, .. } = &heard[1] else {
        panic!("not a reply: {heard:?}");
    };
    let stat = body::stat(body).expect("a readable reply");
    assert_eq!(
        SessionId(stat.ephemeral_owner),
        granted.session,
        "it moved with its session"
    );
}

#[test]
fn session_with_a_wrong_password_or_unknown_is_told_that_it_expired() {
    let mut house = House::serving(1, 1);
    let (owner, granted) = house.open(0);
    let mut wrong = resume(&granted);
    wrong.password[0] ^= 1;
    let mut unknown = resume(&granted);
    unknown.session.0 ^= 0x55;
    for bad in [wrong, unknown] {
        let id = house.connect(0, &bad);
        let told = house.connected(id);
        assert_eq!((told.session, told.timeout_ms), (SessionId(0), 0));
        assert!(house.clients[&id].closed);
    }
    assert!(!house.clients[&owner].closed, "its owner is not disturbed");
}

#[test]
fn session_survives_its_node_and_its_ephemerals_too() {
    let mut house = House::serving(3, 1);
    let (client, granted) = house.open(2);
    create(&mut house, client, 1, "/e", EPHEMERAL);
    house.heard(client, 1);
    house.kill(2);
    assert!(house.clients[&client].closed);
    house.run(1_000);
    let client = house.connect(0, &resume(&granted));
    assert_eq!(house.connected(client).session, granted.session);
    house.ask(client, |out| request::exists(out, 1, "/e", false));
    assert_eq!(words(&house.heard(client, 1)), ["1:0"]);
}

#[test]
fn session_that_is_silent_expires_and_its_ephemerals_go() {
    let mut house = House::serving(3, 1);
    let (silent, _) = house.open(1);
    create(&mut house, silent, 1, "/e", EPHEMERAL);
    house.heard(silent, 1);
    let (other, _) = house.open(2);
    house.ask(other, |out| request::exists(out, 1, "/e", true));
    assert_eq!(words(&house.heard(other, 1)), ["1:0"]);
    for step in 0..20 {
        house.run(1_000);
        house.ask(other, request::ping);
        let fired = words(&house.client(other).heard).contains(&"event:2:/e".to_owned());
        assert!(!fired || step >= 9, "expired after {step} s of 10");
        if fired {
            assert!(house.clients[&silent].closed);
            return;
        }
    }
    panic!("the session never expired");
}

#[test]
fn leader_killed_the_others_serve_and_keep_what_was_acknowledged() {
    let mut house = House::serving(3, 1);
    let leads = leader(&mut house);
    let (client, _) = house.open(leads);
    create(&mut house, client, 1, "/a", PERSISTENT);
    house.heard(client, 1);
    house.kill(leads);
    house.run(1_000);
    for m in (0..3).filter(|m| *m != leads) {
        let (client, _) = house.open(m);
        house.ask(client, |out| {
            request::sync(out, 1, "/");
            request::exists(out, 2, "/a", false);
        });
        assert_eq!(words(&house.heard(client, 2)), ["1:0", "2:0"]);
    }
}

#[test]
fn malformed_frame_closes_that_connection_alone() {
    let mut house = House::serving(1, 1);
    let (good, _) = house.open(0);
    for length in [-1i32, i32::MAX, 2_000_000] {
        let (bad, _) = house.open(0);
        house.ask(bad, |out| out.extend_from_slice(&length.to_be_bytes()));
        house.run_until("it is closed", |h| h.clients[&bad].closed);
    }
    house.ask(good, |out| request::exists(out, 1, "/", false));
    assert_eq!(words(&house.heard(good, 1)), ["1:0"]);
}

#[test]
fn reads_of_much_data_are_answered_as_they_are_read_and_in_order() {
    let mut house = House::serving(1, 1);
    let (client, _) = house.open(0);
    create(&mut house, client, 1, "/big", PERSISTENT);
    house.heard(client, 1);
    let big = vec![7; 500_000];
    house.ask(client, |out| request::set_data(out, 2, "/big", &big, -1));
    house.heard(client, 1);

    // Without a write before them: about a megabyte before the client has read it, however long that takes.
    house.client(client).reads = false;
    house.ask(client, |out| {
        (3..43).for_each(|xid| request::get_data(out, xid, "/big", false));
        request::ping(out);
    });
    house.run(5_000);
    let first = house.client(client).heard.len();
    assert!((1..=6).contains(&first), "{first} at once");
    house.read(client);
    let mut words_heard = words(&house.heard(client, 41));
    assert_eq!(words_heard.pop().as_deref(), Some("-2:0"));
    let wanted: Vec<String> = (3..43).map(|xid| format!("{xid}:0")).collect();
    assert_eq!(words_heard, wanted);

    // Behind a write they must be served when it is applied, so only so many are taken before that.
    house.ask(client, |out| {
        request::set_data(out, 1, "/big", &big, -1);
        (2..202).for_each(|xid| request::exists(out, xid, "/big", false));
        request::set_data(out, 202, "/big", b"small", -1);
        request::get_data(out, 203, "/big", false);
    });
    let heard = house.heard(client, 203);
    let wanted: Vec<String> = (1..204).map(|xid| format!("{xid}:0")).collect();
    assert_eq!(words(&heard), wanted);
    assert!(!house.client(client).closed);
}

#[test]
fn multi_read_of_too_much_data_is_refused_and_the_session_lives() {
    let mut house = House::serving(1, 1);
    let (client, _) = house.open(0);
    create(&mut house, client, 1, "/big", PERSISTENT);
    house.ask(client, |out| {
        request::set_data(out, 2, "/big", &vec![7; 500_000], -1);
        let queries = |n: usize| {
            let path = || "/big".to_owned();
            vec![Query::GetData { path: path() }; n]
        };
        request::multi_read(out, 3, &queries(16));
        request::multi_read(out, 4, &queries(17));
        request::ping(out);
    });
    let heard = house.heard(client, 5);
    assert_eq!(words(&heard), ["1:0", "2:0", "3:0", "4:-8", "-2:0"]);
}
