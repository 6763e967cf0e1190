//! What one side writes, the other reads.

mod common;

use base::SessionId;
use bytes::Bytes;
use common::{connect, connected, poll_all, requests, stat, writes};
use coordination::{Acl, Answer, ErrorCode, EventKind, OpReply};
use wire_zookeeper::client::{Decoder, MultiResult, Response, body, request};
use wire_zookeeper::{Connection, Incoming, Limits, Request, WriteShape, error_number, opcode};
use wire_zookeeper::{error_code, reply};

const XID: i32 = 77;
const ZXID: i64 = 1 << 40;

/// What a request of this kind is numbered, whatever the caller wants.
fn xid_of(request: &Request) -> i32 {
    match request {
        Request::Ping => opcode::PING_XID,
        Request::AddAuth { .. } => opcode::AUTH_XID,
        Request::SetWatches { .. } => opcode::SET_WATCHES_XID,
        _ => XID,
    }
}

#[test]
fn every_request_is_read_as_it_was_written() {
    let requests = requests();
    let mut bytes = Vec::new();
    request::connect(&mut bytes, &connect());
    for request in &requests {
        assert!(request::any(&mut bytes, XID, request), "{request:?}");
    }
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&bytes.into());
    let mut read = poll_all(&mut connection).expect("well-formed").into_iter();
    assert_eq!(read.next(), Some(Incoming::Connect(connect())));
    for request in requests {
        let xid = xid_of(&request);
        assert_eq!(read.next(), Some(Incoming::Request { xid, request }));
    }
    assert_eq!(read.next(), None);
    assert_eq!(connection.buffered_bytes(), 0);
}

#[test]
fn splitting_the_stream_anywhere_yields_the_same_requests() {
    let mut bytes = Vec::new();
    request::connect(&mut bytes, &connect());
    for request in requests() {
        request::any(&mut bytes, XID, &request);
    }
    let bytes = Bytes::from(bytes);
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&bytes);
    let whole = poll_all(&mut connection).expect("well-formed");

    for cut in 0..=bytes.len() {
        let mut connection = Connection::new(Limits::default());
        connection.handle_bytes(&bytes.slice(..cut));
        let mut parts = poll_all(&mut connection).expect("a prefix");
        connection.handle_bytes(&bytes.slice(cut..));
        parts.extend(poll_all(&mut connection).expect("the rest"));
        assert_eq!(parts, whole, "cut at {cut}");
    }
    for step in [1, 2, 3, 5, 7] {
        let mut connection = Connection::new(Limits::default());
        let mut parts = Vec::new();
        for piece in bytes.chunks(step) {
            connection.handle_bytes(&Bytes::copy_from_slice(piece));
            parts.extend(poll_all(&mut connection).expect("a piece"));
        }
        assert_eq!(parts, whole, "pieces of {step}");
    }
}

#[test]
fn input_given_before_the_last_was_polled_is_kept_in_order() {
    let mut connection = connected(Limits::default());
    let mut bytes = Vec::new();
    request::sync(&mut bytes, 1, "/a");
    request::sync(&mut bytes, 2, "/b");
    for piece in bytes.chunks(9) {
        connection.handle_bytes(&Bytes::copy_from_slice(piece));
    }
    assert_eq!(connection.buffered_bytes(), bytes.len());
    let xids: Vec<i32> = poll_all(&mut connection)
        .expect("well-formed")
        .into_iter()
        .map(|incoming| match incoming {
            Incoming::Request { xid, .. } => xid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(xids, [1, 2]);
}

/// Feeds a connect response and `bytes` to a client and returns what it reads, byte by byte and at once.
fn responses(bytes: &[u8]) -> Vec<Response> {
    let mut stream = Vec::new();
    reply::connect_response(&mut stream, 0, 4_000, SessionId(5), &[9; 16], true);
    stream.extend_from_slice(bytes);
    let mut results = [1, stream.len()].map(|step| {
        let mut decoder = Decoder::new(1 << 20);
        let mut read = Vec::new();
        for piece in stream.chunks(step) {
            decoder.handle_bytes(&Bytes::copy_from_slice(piece));
            while let Some(response) = decoder.poll().expect("well-formed") {
                read.push(response);
            }
        }
        read
    });
    assert_eq!(results[0], results[1]);
    let mut read = std::mem::take(&mut results[0]);
    let Response::Connect(connect) = read.remove(0) else {
        panic!("the first frame is the connect response");
    };
    assert_eq!((connect.timeout_ms, connect.session), (4_000, SessionId(5)));
    assert_eq!(
        (connect.password, connect.read_only),
        (vec![9; 16], Some(false))
    );
    read
}

/// The body of the one successful reply that `write` writes.
fn body_of(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut bytes);
    match responses(&bytes).as_slice() {
        [
            Response::Reply {
                xid: XID,
                zxid: ZXID,
                error: 0,
                body,
            },
        ] => body.clone(),
        other => panic!("{other:?}"),
    }
}

fn body_of_write(shape: WriteShape, op: OpReply) -> Bytes {
    body_of(|out| reply::write(out, XID, ZXID, shape, &Ok(op)))
}

fn body_of_read(answer: Answer) -> Bytes {
    body_of(|out| reply::read(out, XID, ZXID, &Ok(answer)))
}

#[test]
fn every_reply_is_read_as_it_was_written() {
    let created = || OpReply::Created {
        path: "/é7".into(),
        stat: stat(),
    };
    let plain = WriteShape::Plain;
    assert_eq!(
        body::path(&body_of_write(plain, created())),
        Ok("/é7".into())
    );
    assert_eq!(
        body::path_and_stat(&body_of_write(WriteShape::WithStat, created())),
        Ok(("/é7".into(), stat()))
    );
    assert!(body_of_write(plain, OpReply::Deleted).is_empty());
    assert!(body_of_write(plain, OpReply::Checked).is_empty());
    for reply in [OpReply::DataSet(stat()), OpReply::AclSet(stat())] {
        assert_eq!(body::stat(&body_of_write(plain, reply)), Ok(stat()));
    }

    let names = vec!["x".to_owned(), "é".to_owned()];
    let bytes = Bytes::from_static(b"\0\xff");
    assert_eq!(
        body::stat(&body_of_read(Answer::Exists(stat()))),
        Ok(stat())
    );
    assert_eq!(
        body::data(&body_of_read(Answer::Data(bytes.clone(), stat()))),
        Ok((bytes, stat()))
    );
    assert_eq!(
        body::children(&body_of_read(Answer::Children(names.clone()))),
        Ok(names.clone())
    );
    assert_eq!(
        body::children_and_stat(&body_of_read(Answer::Children2(names.clone(), stat()))),
        Ok((names, stat()))
    );
    assert_eq!(
        body::acl(&body_of_read(Answer::Acl(vec![Acl::open()], stat()))),
        Ok((vec![Acl::open()], stat()))
    );

    let sync = body_of(|out| reply::sync(out, XID, ZXID, "/s"));
    assert_eq!(body::path(&sync), Ok("/s".into()));
    let added = body_of(|out| reply::add_watch(out, XID, ZXID));
    assert_eq!(body::error(&added), Ok(0));
    assert!(body_of(|out| reply::ok(out, XID, ZXID)).is_empty());
}

#[test]
fn a_multi_of_every_write_is_answered_element_by_element() {
    let writes = writes();
    let replies: Vec<OpReply> = writes
        .iter()
        .map(|(op, _)| match op {
            coordination::TreeOp::Create { path, .. } => OpReply::Created {
                path: path.clone(),
                stat: stat(),
            },
            coordination::TreeOp::Delete { .. } => OpReply::Deleted,
            coordination::TreeOp::Check { .. } => OpReply::Checked,
            _ => OpReply::DataSet(stat()),
        })
        .collect();
    let shapes = writes.iter().map(|(_, shape)| *shape);
    let expected: Vec<MultiResult> = replies
        .iter()
        .zip(shapes.clone())
        .map(|(reply, shape)| match reply {
            OpReply::Created { path, stat } => MultiResult::Created {
                path: path.clone(),
                stat: (shape == WriteShape::WithStat).then_some(*stat),
            },
            OpReply::Deleted => MultiResult::Deleted,
            OpReply::Checked => MultiResult::Checked,
            OpReply::DataSet(stat) | OpReply::AclSet(stat) => MultiResult::DataSet(*stat),
        })
        .collect();
    let bytes = body_of(|out| reply::multi(out, XID, ZXID, shapes, &Ok(replies)));
    assert_eq!(body::multi(&bytes), Ok(expected));
}

#[test]
fn a_failed_multi_says_which_element_failed() {
    let errors = vec![
        None,
        Some(ErrorCode::NoNode),
        Some(ErrorCode::RuntimeInconsistency),
    ];
    let shapes = [WriteShape::Plain; 3];
    let bytes = body_of(|out| reply::multi(out, XID, ZXID, shapes, &Err(errors)));
    let expected = [0, -101, -2].map(MultiResult::Error);
    assert_eq!(body::multi(&bytes), Ok(expected.into()));
}

#[test]
fn a_multi_read_keeps_each_outcome() {
    let data = Bytes::from_static(b"x");
    let answers = [
        Ok(Answer::Data(data.clone(), stat())),
        Err(ErrorCode::NoAuth),
        Ok(Answer::Children(vec!["c".into()])),
    ];
    let bytes = body_of(|out| reply::multi_read(out, XID, ZXID, &answers));
    let expected = vec![
        MultiResult::Data(data, stat()),
        MultiResult::Error(-102),
        MultiResult::Children(vec!["c".into()]),
    ];
    assert_eq!(body::multi(&bytes), Ok(expected));
}

#[test]
fn refusals_pings_and_authentications_have_no_body() {
    let refusal = ErrorCode::NodeExists;
    let mut bytes = Vec::new();
    reply::error(&mut bytes, XID, ZXID, refusal);
    reply::write(&mut bytes, XID, ZXID, WriteShape::WithStat, &Err(refusal));
    reply::read(&mut bytes, XID, ZXID, &Err(refusal));
    reply::ping(&mut bytes, ZXID);
    reply::auth(&mut bytes, true);
    reply::auth(&mut bytes, false);
    let number = error_number(refusal);
    assert_eq!(error_code(number), Some(refusal));
    let expected = [
        (XID, ZXID, number),
        (XID, ZXID, number),
        (XID, ZXID, number),
        (opcode::PING_XID, ZXID, 0),
        (opcode::AUTH_XID, 0, 0),
        (opcode::AUTH_XID, 0, -115),
    ]
    .map(|(xid, zxid, error)| Response::Reply {
        xid,
        zxid,
        error,
        body: Bytes::new(),
    });
    assert_eq!(responses(&bytes), expected);
}

#[test]
fn notifications_carry_kind_state_and_path() {
    let kinds = [
        (EventKind::Created, 1),
        (EventKind::Deleted, 2),
        (EventKind::DataChanged, 3),
        (EventKind::ChildrenChanged, 4),
    ];
    for (event, kind) in kinds {
        let mut bytes = Vec::new();
        reply::notification(&mut bytes, -1, event, "/é");
        let expected = Response::Notification {
            zxid: -1,
            kind,
            state: 3,
            path: "/é".into(),
        };
        assert_eq!(responses(&bytes), [expected]);
    }
}

#[test]
fn an_expired_session_is_told_with_zeros() {
    let mut bytes = Vec::new();
    reply::connect_expired(&mut bytes, false);
    let mut decoder = Decoder::new(1 << 10);
    decoder.handle_bytes(&bytes.into());
    let Ok(Some(Response::Connect(connect))) = decoder.poll() else {
        panic!("no connect response");
    };
    assert_eq!((connect.timeout_ms, connect.session), (0, SessionId(0)));
    assert_eq!((connect.password, connect.read_only), (vec![0; 16], None));
}

#[test]
fn a_body_with_too_much_or_too_little_is_refused() {
    let bodies = [
        body_of_read(Answer::Exists(stat())),
        body_of_read(Answer::Data(Bytes::from_static(b"ab"), stat())),
        body_of_read(Answer::Children(vec!["x".into()])),
        body_of_read(Answer::Acl(vec![Acl::open()], stat())),
    ];
    let readers: [fn(&Bytes) -> bool; 4] = [
        |b| body::stat(b).is_ok(),
        |b| body::data(b).is_ok(),
        |b| body::children(b).is_ok(),
        |b| body::acl(b).is_ok(),
    ];
    for (bytes, reads) in bodies.iter().zip(readers) {
        assert!(reads(bytes));
        for cut in 0..bytes.len() {
            assert!(!reads(&bytes.slice(..cut)), "cut at {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(!reads(&longer.into()));
    }
}
