//! Input that no client should send: an error that names it, never a panic, never more memory than arrived.

mod common;

use base::Rng;
use bytes::Bytes;
use common::{decode_all, poll_all, requests};
use std::borrow::Cow;
use storage::cache::Reply;
use wire_redis::client::{Decoder, request};
use wire_redis::{Connection, Limits, Protocol, ProtocolError, reply};

const LIMITS: Limits = Limits {
    bulk_bytes_max: 1_000,
    arguments_max: 100,
    inline_bytes_max: 500,
    request_bytes_max: 3_000,
};

fn read(limits: Limits, bytes: &[u8]) -> (Vec<Vec<Bytes>>, Result<(), ProtocolError>) {
    let mut connection = Connection::new(limits);
    connection.handle_bytes(&Bytes::copy_from_slice(bytes));
    poll_all(&mut connection)
}

#[test]
fn the_largest_of_everything_is_read_and_one_more_is_not() {
    let bulk = |length: usize| format!("*1\r\n${length}\r\n{}\r\n", "x".repeat(length));
    assert_eq!(read(LIMITS, bulk(1_000).as_bytes()).1, Ok(()));
    let refused = read(LIMITS, bulk(1_001).as_bytes()).1;
    assert_eq!(refused, Err(ProtocolError::LengthInvalid));

    let many = |count: usize| format!("*{count}\r\n{}", "$1\r\na\r\n".repeat(count));
    assert_eq!(read(LIMITS, many(100).as_bytes()).0[0].len(), 100);
    let refused = read(LIMITS, many(101).as_bytes()).1;
    assert_eq!(refused, Err(ProtocolError::CountInvalid));

    let inline = |length: usize| format!("{}\r\n", "x".repeat(length - 2));
    assert_eq!(read(LIMITS, inline(500).as_bytes()).0.len(), 1);
    let refused = read(LIMITS, inline(501).as_bytes()).1;
    assert_eq!(refused, Err(ProtocolError::InlineTooLong));

    let whole = |last: usize| {
        let thousand = format!("$1000\r\n{}\r\n", "x".repeat(1_000)).repeat(2);
        format!("*3\r\n{thousand}${last}\r\n{}\r\n", "x".repeat(last))
    };
    assert_eq!(read(LIMITS, whole(1_000).as_bytes()).0.len(), 1);
    let tight = Limits {
        request_bytes_max: 2_999,
        ..LIMITS
    };
    assert_eq!(read(tight, whole(999).as_bytes()).0.len(), 1);
    let refused = read(tight, whole(1_000).as_bytes()).1;
    assert_eq!(refused, Err(ProtocolError::RequestTooLong));
    let twice = whole(999).repeat(2);
    assert_eq!(
        read(tight, twice.as_bytes()).0.len(),
        2,
        "the count begins anew"
    );
}

#[test]
fn a_line_that_never_ends_is_refused_at_its_cap_however_it_comes() {
    let cases: [(&[u8], u8, ProtocolError); 4] = [
        (b"x", b'x', ProtocolError::InlineTooLong),
        (b"*", b'1', ProtocolError::CountTooLong),
        (b"*1\r\n$", b'1', ProtocolError::LengthTooLong),
        (b"+", b'+', ProtocolError::InlineTooLong),
    ];
    for (begin, byte, expected) in cases {
        for step in [1, 7, 4096, 200_000] {
            let mut connection = Connection::new(Limits::default());
            connection.handle_bytes(&Bytes::copy_from_slice(begin));
            let piece = Bytes::from(vec![byte; step]);
            let mut sent = 0;
            let error = loop {
                connection.handle_bytes(&piece);
                sent += step;
                match connection.poll() {
                    Ok(request) => assert_eq!(request, None),
                    Err(error) => break error,
                }
                assert!(sent <= 64 << 10, "held {}", connection.buffered_bytes());
            };
            assert_eq!(error, expected);
            assert!(sent >= 60_000);
        }
    }
    let mut decoder = Decoder::new(Limits::default());
    decoder.handle_bytes(&Bytes::from(vec![b'+'; 70_000]));
    assert_eq!(decoder.poll(), Err(ProtocolError::ReplyTooLong));
}

#[test]
fn after_an_error_nothing_is_taken_or_kept() {
    let mut connection = Connection::new(LIMITS);
    connection.handle_bytes(&Bytes::from_static(b"*2\r\n$1\r\na\r\n!"));
    let error = poll_all(&mut connection).1.expect_err("no argument");
    assert_eq!(error, ProtocolError::NoBulk { got: b'!' });
    connection.handle_bytes(&Bytes::from_static(b"*1\r\n$4\r\nPING\r\n"));
    assert_eq!(connection.poll(), Err(error));
    assert_eq!(connection.buffered_bytes(), 0);
}

#[test]
fn announced_lengths_alone_cost_nothing() {
    // Were room made for what is announced, this would ask for 64 TiB and more.
    let mut waiting = Vec::new();
    for _ in 0..1 << 16 {
        let mut connection = Connection::new(Limits {
            bulk_bytes_max: 1 << 30,
            arguments_max: usize::MAX >> 8,
            inline_bytes_max: 1 << 10,
            request_bytes_max: usize::MAX >> 1,
        });
        connection.handle_bytes(&Bytes::from_static(b"*1099511627776\r\n$1073741824\r\nx"));
        assert_eq!(connection.poll(), Ok(None));
        assert_eq!(connection.buffered_bytes(), 1);
        waiting.push(connection);
    }
    assert_eq!(waiting.len(), 1 << 16);
}

#[test]
fn a_large_argument_in_many_pieces_is_copied_a_constant_number_of_times() {
    // 32 MiB in pieces of 64 bytes: copied anew with each piece, these would be 8 TiB.
    let length = 32 << 20;
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&format!("*2\r\n$3\r\nGET\r\n${length}\r\n").into());
    let piece = Bytes::from(vec![7; 64]);
    for _ in 0..length / 64 {
        connection.handle_bytes(&piece);
        assert_eq!(connection.poll(), Ok(None));
    }
    connection.handle_bytes(&Bytes::from_static(b"\r\n"));
    let request = connection.poll().expect("the protocol").expect("whole");
    assert_eq!(request[1].len(), length);
    assert!(request[1].iter().all(|byte| *byte == 7));

    // And the same when nobody polls meanwhile.
    connection.handle_bytes(&format!("*1\r\n${length}\r\n").into());
    for _ in 0..length / 64 {
        connection.handle_bytes(&piece);
    }
    connection.handle_bytes(&Bytes::from_static(b"\r\n"));
    assert_eq!(connection.buffered_bytes(), 4 + 2 + 11 - 2 + length + 2);
    let request = connection.poll().expect("the protocol").expect("whole");
    assert_eq!(request[0].len(), length);
}

#[test]
fn replies_nested_beyond_the_cap_are_refused() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    let mut decoder = Decoder::new(LIMITS);
    decoder.handle_bytes(&nested(64).into());
    assert!(matches!(decoder.poll(), Ok(Some(_))));
    let mut decoder = Decoder::new(LIMITS);
    decoder.handle_bytes(&nested(65).into());
    assert_eq!(decoder.poll(), Err(ProtocolError::ReplyTooDeep));
}

/// Characters that mean something to one side or the other.
const MEANINGFUL: &[u8] = b"*$\r\n-0123456789\"' +:%~>|=!,";

/// A few changes at random places: bytes, cuts, repeats, and characters that mean something.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.range(0, 4) {
        let at = rng.range(0, bytes.len() as u64) as usize;
        match rng.range(0, 5) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => bytes[at] = MEANINGFUL[rng.range(0, MEANINGFUL.len() as u64) as usize],
            2 => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, rng.range(0, 256) as u8),
            _ => bytes.truncate(at + 1),
        }
        if bytes.is_empty() {
            bytes.push(b'*');
        }
    }
}

/// Reads bytes whole and cut at random; both must say the same and hold no more than arrived.
fn same_however_cut(rng: &mut Rng, bytes: &[u8]) -> bool {
    let whole = read(LIMITS, bytes);
    let mut connection = Connection::new(LIMITS);
    let (mut parts, mut end) = (Vec::new(), Ok(()));
    let mut rest = bytes;
    while !rest.is_empty() && end.is_ok() {
        let (piece, behind) = rest.split_at(rng.range(1, rest.len() as u64 + 1) as usize);
        rest = behind;
        connection.handle_bytes(&Bytes::copy_from_slice(piece));
        let (more, result) = poll_all(&mut connection);
        parts.extend(more);
        end = result;
        assert!(connection.buffered_bytes() <= bytes.len());
    }
    assert_eq!((parts, end), whole, "{}", bytes.escape_ascii());
    end.is_err()
}

#[test]
fn mutated_requests_are_read_or_refused_the_same_however_they_are_cut() {
    let mut rng = Rng::new(11);
    let mut refused = 0;
    for _ in 0..60_000 {
        let mut bytes = Vec::new();
        for arguments in requests() {
            if rng.one_in(2) {
                request(&mut bytes, &arguments);
            }
        }
        bytes.extend_from_slice(b"set k \"a b\" 'c'\r\n");
        mutate(&mut rng, &mut bytes);
        refused += u32::from(same_however_cut(&mut rng, &bytes));
    }
    assert!(
        (10_000..55_000).contains(&refused),
        "{refused} were refused"
    );
}

#[test]
fn mutated_replies_are_read_or_refused_the_same_however_they_are_cut() {
    let text = Reply::Status(Cow::Borrowed("PONG"));
    let items = vec![
        text.clone(),
        Reply::Nil,
        Reply::NilArray,
        Reply::Double(-1.5),
        Reply::Bool(true),
        Reply::Bulk(Bytes::from_static(b"a\r\nb")),
        Reply::Verbatim("text".into()),
        Reply::WRONG_TYPE,
        Reply::Set(vec![Reply::Integer(-7)]),
        Reply::Map(vec![(text.clone(), Reply::Array(Vec::new()))]),
        Reply::Pairs(vec![(text, Reply::Double(0.5))]),
    ];
    let mut rng = Rng::new(12);
    let mut refused = 0;
    for round in 0..60_000 {
        let protocol = [Protocol::Resp2, Protocol::Resp3][round % 2];
        let mut bytes = Vec::new();
        reply::encode(&mut bytes, &Reply::Array(items.clone()), protocol);
        reply::push(&mut bytes, "message", &items, protocol);
        mutate(&mut rng, &mut bytes);
        let mut decoder = Decoder::new(LIMITS);
        decoder.handle_bytes(&Bytes::copy_from_slice(&bytes));
        let whole = decode_all(&mut decoder);

        let mut decoder = Decoder::new(LIMITS);
        let (mut parts, mut end) = (Vec::new(), Ok(()));
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && end.is_ok() {
            let (piece, behind) = rest.split_at(rng.range(1, rest.len() as u64 + 1) as usize);
            rest = behind;
            decoder.handle_bytes(&Bytes::copy_from_slice(piece));
            let (more, result) = decode_all(&mut decoder);
            parts.extend(more);
            end = result;
        }
        // Not-a-number is not equal to itself.
        let said = |all| format!("{all:?}");
        assert_eq!(said((parts, end)), said(whole), "{}", bytes.escape_ascii());
        refused += u32::from(end.is_err());
    }
    assert!(
        (10_000..55_000).contains(&refused),
        "{refused} were refused"
    );
}
