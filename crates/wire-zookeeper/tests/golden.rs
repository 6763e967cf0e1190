//! Byte frames that were derived from the protocol's record definitions, not from this crate.

mod common;

use base::SessionId;
use bytes::Bytes;
use common::{Case, cases, connected, poll_all, stat};
use coordination::{Acl, Answer, ErrorCode, EventKind, OpReply};
use wire_zookeeper::client::request;
use wire_zookeeper::{Connection, Incoming, Limits, WriteShape, reply};

const CONNECT: &str = include_str!("../testscripts/connect.txt");
const REQUESTS: &str = include_str!("../testscripts/requests.txt");
const REPLIES: &str = include_str!("../testscripts/replies.txt");

fn read_one(mut connection: Connection, case: &Case<'_>) -> Incoming {
    connection.handle_bytes(&Bytes::copy_from_slice(&case.bytes));
    let mut all = poll_all(&mut connection).expect(case.title);
    assert_eq!(all.len(), 1, "{}", case.title);
    all.remove(0)
}

#[test]
fn first_bytes_of_the_script_are_read_as_it_says() {
    for case in cases(CONNECT) {
        let incoming = read_one(Connection::new(Limits::default()), &case);
        let expected = case.expected.expect(case.title);
        assert_eq!(format!("{incoming:?}"), expected, "{}", case.title);
        // Words and null passwords are the server's to read only.
        if let Incoming::Connect(connect) = incoming
            && !case.title.contains("null")
        {
            let mut written = Vec::new();
            request::connect(&mut written, &connect);
            assert_eq!(written, case.bytes, "{}", case.title);
        }
    }
}

#[test]
fn requests_of_the_script_are_read_and_written_as_it_says() {
    let mut written_count = 0;
    for case in cases(REQUESTS) {
        let incoming = read_one(connected(Limits::default()), &case);
        let expected = case.expected.expect(case.title);
        assert_eq!(format!("{incoming:?}"), expected, "{}", case.title);
        let Incoming::Request { xid, request } = incoming else {
            panic!("{}: not a request", case.title);
        };
        // The client writes no nulls, and bodies only for what it knows.
        if case.title.contains("null") || case.title.contains("is not served") {
            continue;
        }
        let mut written = Vec::new();
        if request::any(&mut written, xid, &request) && !case.title.contains("for servers only") {
            written_count += 1;
            assert_eq!(written, case.bytes, "{}", case.title);
        }
    }
    assert!(written_count >= 28, "only {written_count} were written");
}

#[test]
fn replies_are_written_as_the_script_says() {
    let script = cases(REPLIES);
    assert_eq!(script.len(), 23);
    for case in script {
        let mut written = Vec::new();
        write_reply(&mut written, case.title);
        assert_eq!(written, case.bytes, "{}", case.title);
    }
}

fn write_reply(out: &mut Vec<u8>, title: &str) {
    let (xid, zxid) = (3, 9);
    let password = b"0123456789abcdef";
    let session = SessionId(0x100);
    let created = |path: &str| OpReply::Created {
        path: path.into(),
        stat: stat(),
    };
    let names = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let data = || Answer::Data(Bytes::from_static(b"hi"), stat());
    let mut write = |shape, op| reply::write(out, xid, zxid, shape, &Ok(op));
    match title {
        "create" => write(WriteShape::Plain, created("/a0000000001")),
        "create2" => write(WriteShape::WithStat, created("/a0000000001")),
        "delete" => write(WriteShape::Plain, OpReply::Deleted),
        "set data" => write(WriteShape::Plain, OpReply::DataSet(stat())),
        "connect" => reply::connect_response(out, 0, 10_000, session, password, true),
        "connect, to a client older than 3.4" => {
            reply::connect_response(out, 0, 10_000, session, password, false);
        }
        "connect, expired" => reply::connect_expired(out, true),
        "ping" => reply::ping(out, zxid),
        "auth" => reply::auth(out, true),
        "auth, refused" => reply::auth(out, false),
        "close" => reply::ok(out, xid, zxid),
        "no node" => reply::error(out, xid, zxid, ErrorCode::NoNode),
        "sync" => reply::sync(out, xid, zxid, "/s"),
        "add watch" => reply::add_watch(out, xid, zxid),
        "notification" => reply::notification(out, -1, EventKind::DataChanged, "/a"),
        "exists" => reply::read(out, xid, zxid, &Ok(Answer::Exists(stat()))),
        "get data" => reply::read(out, xid, zxid, &Ok(data())),
        "children" => {
            let answer = Answer::Children(names(&["x", "yz"]));
            reply::read(out, xid, zxid, &Ok(answer));
        }
        "children2" => {
            let answer = Answer::Children2(names(&["x"]), stat());
            reply::read(out, xid, zxid, &Ok(answer));
        }
        "acl" => {
            let answer = Answer::Acl(vec![Acl::open()], stat());
            reply::read(out, xid, zxid, &Ok(answer));
        }
        "multi" => {
            let (plain, with_stat) = (WriteShape::Plain, WriteShape::WithStat);
            let replies = vec![
                OpReply::Checked,
                created("/b"),
                created("/c"),
                OpReply::DataSet(stat()),
                OpReply::Deleted,
            ];
            let shapes = [plain, plain, with_stat, plain, plain];
            reply::multi(out, xid, zxid, shapes, &Ok(replies));
        }
        "multi, failed" => {
            let errors = vec![
                None,
                Some(ErrorCode::BadVersion),
                Some(ErrorCode::RuntimeInconsistency),
            ];
            reply::multi(out, xid, zxid, [WriteShape::Plain; 3], &Err(errors));
        }
        "multi read" => {
            let answers = [
                Ok(data()),
                Ok(Answer::Children(names(&["x"]))),
                Err(ErrorCode::NoNode),
            ];
            reply::multi_read(out, xid, zxid, &answers);
        }
        other => panic!("the test has no values for {other}"),
    }
}
