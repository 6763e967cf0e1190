//! Input that no client should send: an error that names it, or a request that is answered with one;
//! never a panic, never more memory than the cap allows.

mod common;

use base::{DecodeError, Rng};
use bytes::Bytes;
use common::{connect, connected, poll_all, requests};
use coordination::{Acl, Identity, Query, TreeOp};
use wire_zookeeper::client::{Decoder, Response, body, request};
use wire_zookeeper::{Connection, Incoming, Limits, ProtocolError, Request, WriteShape, reply};

const CAP: u32 = 1_000;
const LIMITS: Limits = Limits {
    frame_bytes_max: CAP,
};

fn fail(connection: &mut Connection, bytes: &[u8]) -> ProtocolError {
    connection.handle_bytes(&Bytes::copy_from_slice(bytes));
    let error = poll_all(connection).expect_err("no protocol");
    assert_eq!(connection.buffered_bytes(), 0, "nothing is kept");
    connection.handle_bytes(&Bytes::from_static(b"more"));
    assert_eq!(connection.poll(), Err(error), "the error stays");
    assert_eq!(connection.buffered_bytes(), 0, "nothing more is taken");
    error
}

#[test]
fn a_length_that_cannot_be_ends_the_connection_by_name() {
    let over = CAP.cast_signed() + 1;
    for open in [false, true] {
        let fresh = || match open {
            false => Connection::new(LIMITS),
            true => connected(LIMITS),
        };
        for length in [-1, i32::MIN] {
            let error = fail(&mut fresh(), &length.to_be_bytes());
            assert_eq!(error, ProtocolError::NegativeLength { length });
            assert!(error.to_string().contains(&length.to_string()));
        }
        for length in [over, i32::MAX] {
            let error = fail(&mut fresh(), &length.to_be_bytes());
            let frame_bytes_max = CAP;
            let expected = ProtocolError::TooLong {
                length,
                frame_bytes_max,
            };
            assert_eq!(error, expected);
            let text = error.to_string();
            assert!(text.contains(&length.to_string()) && text.contains("1000"));
        }
    }
}

#[test]
fn the_longest_frame_is_read_and_one_byte_more_is_not() {
    let write = |data: &[u8]| {
        let mut bytes = Vec::new();
        request::set_data(&mut bytes, 1, "/a", data, -1);
        bytes
    };
    let fixed = write(b"").len() - 4;
    let longest = write(&vec![7; CAP as usize - fixed]);
    let mut connection = connected(LIMITS);
    connection.handle_bytes(&longest.into());
    assert_eq!(poll_all(&mut connection).expect("the cap").len(), 1);

    let longer = write(&vec![7; CAP as usize - fixed + 1]);
    fail(&mut connected(LIMITS), &longer);
}

#[test]
fn an_http_request_is_no_frame() {
    let error = fail(&mut Connection::new(LIMITS), b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(error, ProtocolError::TooLong { .. }));
}

#[test]
fn a_connect_request_that_is_short_or_long_ends_the_connection() {
    let mut good = Vec::new();
    request::connect(&mut good, &connect());
    let body = &good[4..];
    let framed = |body: &[u8]| {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    };
    for cut in 0..body.len() {
        // Without its last byte it is what clients older than 3.4 send.
        if cut != body.len() - 1 {
            let error = fail(&mut Connection::new(LIMITS), &framed(&body[..cut]));
            assert_eq!(error, ProtocolError::Connect(DecodeError::Truncated));
        }
    }
    let mut long = body.to_vec();
    long.push(0);
    let error = fail(&mut Connection::new(LIMITS), &framed(&long));
    assert!(error.to_string().contains("left-over bytes"));
}

#[test]
fn a_frame_without_a_whole_header_ends_the_connection() {
    for length in 0..8u8 {
        let mut frame = vec![0, 0, 0, length];
        frame.resize(4 + usize::from(length), 0);
        let length = usize::from(length);
        let error = fail(&mut connected(LIMITS), &frame);
        assert_eq!(error, ProtocolError::Header { length });
    }
}

#[test]
fn a_truncated_body_is_malformed_and_the_next_request_is_read() {
    for request in requests() {
        let mut whole = Vec::new();
        request::any(&mut whole, 1, &request);
        for cut in 12..whole.len() {
            let mut bytes = (cut as u32 - 4).to_be_bytes().to_vec();
            bytes.extend_from_slice(&whole[4..cut]);
            request::ping(&mut bytes);
            let mut connection = connected(Limits::default());
            connection.handle_bytes(&bytes.into());
            let read = poll_all(&mut connection).expect("frames are whole");
            let [Incoming::Request { request: first, .. }, second] = read.as_slice() else {
                panic!("{read:?}");
            };
            let truncated = DecodeError::Truncated;
            assert!(
                matches!(first, Request::Malformed { why, .. } if *why == truncated),
                "{request:?} cut at {cut}: {first:?}"
            );
            let ping = Request::Ping;
            assert!(matches!(second, Incoming::Request { request, .. } if *request == ping));
        }
    }
}

#[test]
fn nothing_behind_a_word_is_read_or_kept() {
    let mut connection = Connection::new(LIMITS);
    connection.handle_bytes(&Bytes::from_static(b"ruok\xff\xff\xff\xff"));
    assert_eq!(poll_all(&mut connection).expect("a word").len(), 1);
    connection.handle_bytes(&Bytes::from_static(b"\xff\xff\xff\xff"));
    assert_eq!(connection.poll(), Ok(None));
    assert_eq!(connection.buffered_bytes(), 0);
}

#[test]
fn a_word_behind_the_connect_request_is_a_length() {
    let error = fail(&mut connected(LIMITS), b"ruok");
    assert!(matches!(error, ProtocolError::TooLong { .. }));
}

#[test]
fn a_client_meets_a_bad_server_with_an_error() {
    let mut hello = Vec::new();
    reply::connect_expired(&mut hello, true);
    let mut notification = Vec::new();
    reply::notification(&mut notification, 1, coordination::EventKind::Created, "/a");
    *notification.last_mut().expect("a path") = 0xff;
    let cases: [(&[u8], &str); 4] = [
        (&[0xff; 4], "the length -1"),
        (&[0x7f, 0xff, 0xff, 0xff], "more than the 1000 allowed"),
        (&[0, 0, 0, 3, 0, 0, 0], "3 bytes is too short"),
        (&notification, "a notification cannot be read"),
    ];
    for (bytes, expected) in cases {
        let mut decoder = Decoder::new(CAP);
        decoder.handle_bytes(&hello.clone().into());
        assert!(matches!(decoder.poll(), Ok(Some(Response::Connect(_)))));
        decoder.handle_bytes(&Bytes::copy_from_slice(bytes));
        let error = decoder.poll().expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(decoder.poll(), Err(error), "the error stays");
    }
}

/// One to four changes: a bit, a byte, a hostile length, a cut, a doubled piece.
fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..rng.range(1, 5) {
        let len = frame.len() as u64;
        let at = rng.range(0, len) as usize;
        match rng.range(0, 6) {
            0 if len > 0 => frame[at] ^= 1 << rng.range(0, 8),
            1 if len > 0 => frame[at] = rng.next_u64() as u8,
            2 if at + 4 <= frame.len() => {
                let hostile = [-1, -2, i32::MAX, i32::MIN, 0, 1, 3, 255, 65_536];
                let value = hostile[rng.range(0, hostile.len() as u64) as usize];
                frame[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
            3 => frame.truncate(at),
            4 => {
                let piece = frame[at..].to_vec();
                frame.extend_from_slice(&piece);
            }
            _ => frame.insert(at, rng.next_u64() as u8),
        }
    }
}

/// Memory that a decoded request holds, by what was allocated.
fn weight(request: &Request) -> usize {
    let acl = |acl: &Vec<Acl>| {
        let text = |line: &Acl| line.identity.scheme.capacity() + line.identity.id.capacity();
        acl.capacity() * size_of::<Acl>() + acl.iter().map(text).sum::<usize>()
    };
    let strings = |all: &Vec<String>| {
        let text: usize = all.iter().map(String::capacity).sum();
        all.capacity() * size_of::<String>() + text
    };
    let op = |op: &TreeOp| match op {
        TreeOp::Create {
            path, acl: lines, ..
        }
        | TreeOp::SetAcl {
            path, acl: lines, ..
        } => path.capacity() + acl(lines),
        TreeOp::Delete { path, .. } | TreeOp::SetData { path, .. } | TreeOp::Check { path, .. } => {
            path.capacity()
        }
    };
    match request {
        Request::SetWatches {
            data,
            exist,
            child,
            persistent,
            persistent_recursive,
            ..
        } => [data, exist, child, persistent, persistent_recursive]
            .map(strings)
            .iter()
            .sum(),
        Request::Write { op: one, .. } => op(one),
        Request::Multi(ops) => {
            let inside: usize = ops.iter().map(|(one, _)| op(one)).sum();
            ops.capacity() * size_of_val(&ops[..]).checked_div(ops.len()).unwrap_or(0) + inside
        }
        Request::MultiRead(queries) => {
            let paths: usize = queries.iter().map(|query| query.path().len()).sum();
            queries.capacity() * size_of::<coordination::Query>() + paths
        }
        Request::AddAuth { scheme, .. } => scheme.capacity(),
        _ => 0,
    }
}

#[test]
fn the_densest_requests_take_at_most_twenty_times_their_frame() {
    let path = || String::new();
    let version = -1;
    let check = (
        TreeOp::Check {
            path: path(),
            version,
        },
        WriteShape::Plain,
    );
    let read = Query::GetData { path: path() };
    let line = Acl {
        permissions: 1,
        identity: Identity::default(),
    };
    let requests = [
        Request::Multi(vec![check; 33_000]),
        Request::MultiRead(vec![read; 33_000]),
        Request::SetWatches {
            relative_zxid: 0,
            data: vec![path(); 200_000],
            exist: Vec::new(),
            child: Vec::new(),
            persistent: Vec::new(),
            persistent_recursive: Vec::new(),
        },
        Request::Write {
            op: TreeOp::SetAcl {
                path: path(),
                acl: vec![line; 80_000],
                version,
            },
            shape: WriteShape::Plain,
        },
    ];
    for request in requests {
        let mut bytes = Vec::new();
        request::any(&mut bytes, 1, &request);
        let frame_bytes = bytes.len();
        let mut connection = connected(Limits::default());
        connection.handle_bytes(&bytes.into());
        let read = poll_all(&mut connection).expect("below the cap");
        let [Incoming::Request { request, .. }] = read.as_slice() else {
            panic!("one request");
        };
        let times = weight(request) / frame_bytes;
        assert!((1..20).contains(&times), "{times} times");
    }
}

#[test]
fn mutated_frames_never_panic_and_never_hold_more_than_the_cap_allows() {
    let mut rng = Rng::new(0x0005_a1ee);
    let seeds: Vec<Vec<u8>> = requests()
        .iter()
        .map(|request| {
            let mut frame = Vec::new();
            request::any(&mut frame, 1, request);
            frame.split_off(4)
        })
        .collect();
    let mut connection = connected(LIMITS);
    let (mut read, mut malformed, mut ended) = (0u32, 0u32, 0u32);
    for round in 0..300_000u32 {
        let mut frame = seeds[rng.range(0, seeds.len() as u64) as usize].clone();
        mutate(&mut rng, &mut frame);
        frame.truncate(CAP as usize);
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        // One in sixteen also loses its framing.
        if rng.one_in(16) {
            mutate(&mut rng, &mut bytes);
        }
        let bytes = Bytes::from(bytes);
        let cut = rng.range(0, bytes.len() as u64 + 1) as usize;
        for part in [bytes.slice(..cut), bytes.slice(cut..)] {
            connection.handle_bytes(&part);
            loop {
                match connection.poll() {
                    Ok(Some(Incoming::Request { request, .. })) => {
                        read += 1;
                        malformed += u32::from(matches!(request, Request::Malformed { .. }));
                        assert!(weight(&request) <= 20 * CAP as usize, "{request:?}");
                    }
                    Ok(Some(other)) => panic!("round {round}: {other:?}"),
                    Ok(None) => break,
                    Err(_) => {
                        ended += 1;
                        connection = connected(LIMITS);
                        break;
                    }
                }
            }
            assert!(connection.buffered_bytes() <= 4 + CAP as usize);
        }
    }
    // The loop must reach what it is for.
    assert!(read > 200_000 && malformed > 50_000 && ended > 1_000);
    assert!(read - malformed > 20_000);
}

#[test]
fn mutated_first_frames_never_panic() {
    let mut rng = Rng::new(0xc0_22ec7);
    let mut good = Vec::new();
    request::connect(&mut good, &connect());
    let (mut read, mut ended) = (0u32, 0u32);
    for _ in 0..50_000 {
        let mut bytes = good.clone();
        mutate(&mut rng, &mut bytes);
        let mut connection = Connection::new(LIMITS);
        connection.handle_bytes(&bytes.into());
        match poll_all(&mut connection) {
            Ok(_) => read += 1,
            Err(_) => ended += 1,
        }
    }
    assert!(read > 1_000 && ended > 1_000, "{read} read, {ended} ended");
}

#[test]
fn mutated_replies_never_panic_a_client() {
    let mut rng = Rng::new(0x5e_7e7);
    let script = include_str!("../testscripts/replies.txt");
    let seeds: Vec<Vec<u8>> = common::cases(script)
        .into_iter()
        .filter(|case| !case.title.starts_with("connect"))
        .map(|case| case.bytes)
        .collect();
    let mut hello = Vec::new();
    reply::connect_expired(&mut hello, true);
    let hello = Bytes::from(hello);
    let mut bodies = 0u32;
    for _ in 0..100_000 {
        let mut bytes = seeds[rng.range(0, seeds.len() as u64) as usize].clone();
        let mut frame = bytes.split_off(4);
        mutate(&mut rng, &mut frame);
        frame.truncate(CAP as usize);
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        let mut decoder = Decoder::new(CAP);
        decoder.handle_bytes(&hello);
        assert!(matches!(decoder.poll(), Ok(Some(Response::Connect(_)))));
        decoder.handle_bytes(&bytes.into());
        if let Ok(Some(Response::Reply { body: bytes, .. })) = decoder.poll() {
            let outcomes = [
                body::stat(&bytes).is_ok(),
                body::path(&bytes).is_ok(),
                body::path_and_stat(&bytes).is_ok(),
                body::data(&bytes).is_ok(),
                body::children(&bytes).is_ok(),
                body::children_and_stat(&bytes).is_ok(),
                body::acl(&bytes).is_ok(),
                body::multi(&bytes).is_ok(),
            ];
            bodies += u32::from(outcomes.contains(&true));
        }
    }
    assert!(bodies > 1_000, "only {bodies} bodies were read");
}
