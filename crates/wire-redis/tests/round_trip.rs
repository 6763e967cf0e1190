//! What one side writes, the other reads, however it is cut; and requests are not copied.

mod common;

use bytes::Bytes;
use common::{decode_all, poll_all, requests};
use storage::cache::Reply;
use wire_redis::client::{Decoder, Value, request};
use wire_redis::{Connection, Limits, Protocol, reply};

fn written() -> Bytes {
    let mut bytes = Vec::new();
    for arguments in requests() {
        request(&mut bytes, &arguments);
        bytes.extend_from_slice(b"inline 'a b' \"\\x01\"\r\n\r\n*0\r\n");
    }
    bytes.into()
}

fn expected() -> Vec<Vec<Bytes>> {
    let mut all = Vec::new();
    for arguments in requests() {
        all.push(arguments.into_iter().map(Bytes::from_static).collect());
        let inline: [&[u8]; 3] = [b"inline", b"a b", b"\x01"];
        all.push(inline.map(Bytes::from_static).to_vec());
    }
    all
}

#[test]
fn requests_cut_at_every_byte_are_the_same() {
    let bytes = written();
    for cut in 0..=bytes.len() {
        let mut connection = Connection::new(Limits::default());
        connection.handle_bytes(&bytes.slice(..cut));
        let (mut parts, end) = poll_all(&mut connection);
        assert_eq!(end, Ok(()), "cut at {cut}");
        connection.handle_bytes(&bytes.slice(cut..));
        parts.extend(poll_all(&mut connection).0);
        assert_eq!(parts, expected(), "cut at {cut}");
        assert_eq!(connection.buffered_bytes(), 0);
    }
}

#[test]
fn requests_in_small_pieces_are_the_same_whether_polled_between_or_not() {
    let bytes = written();
    for step in [1, 2, 3, 5, 7, 64] {
        for is_polled in [true, false] {
            let mut connection = Connection::new(Limits::default());
            let mut parts = Vec::new();
            for piece in bytes.chunks(step) {
                connection.handle_bytes(&Bytes::copy_from_slice(piece));
                if is_polled {
                    parts.extend(poll_all(&mut connection).0);
                }
            }
            parts.extend(poll_all(&mut connection).0);
            assert_eq!(parts, expected(), "pieces of {step}");
        }
    }
}

#[test]
fn a_request_in_one_piece_is_made_of_slices_of_it() {
    let bytes = written();
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&bytes);
    let within = bytes.as_ptr_range();
    for request in poll_all(&mut connection).0 {
        if request[0] != "inline" {
            for argument in request.iter().filter(|argument| !argument.is_empty()) {
                assert!(within.contains(&argument.as_ptr()), "a copy: {argument:?}");
            }
        }
    }
}

#[test]
fn an_argument_in_pieces_takes_no_more_room_than_it_is_long() {
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&Bytes::from_static(b"*1\r\n$100000\r\n"));
    for _ in 0..100 {
        connection.handle_bytes(&Bytes::from(vec![1; 1_000]));
        assert_eq!(connection.poll(), Ok(None));
    }
    connection.handle_bytes(&Bytes::from_static(b"\r\n"));
    let request = connection.poll().expect("the protocol").expect("whole");
    let argument = request.into_iter().next().expect("one");
    let room = argument
        .try_into_mut()
        .expect("nobody else has it")
        .capacity();
    assert!(room <= 100_002, "{room}");
}

#[test]
fn values_cut_at_every_byte_are_the_same() {
    let reply = Reply::Array(vec![
        Reply::Map(vec![(Reply::OK, Reply::Set(vec![Reply::Bool(true)]))]),
        Reply::Pairs(vec![(
            Reply::Bulk(Bytes::from_static(b"a\r\n")),
            Reply::Double(0.1),
        )]),
        Reply::Verbatim("some text".into()),
        Reply::Nil,
        Reply::NilArray,
        Reply::Integer(i64::MIN),
        Reply::WRONG_TYPE,
    ]);
    let ok = || Value::Status(Bytes::from_static(b"OK"));
    let a = || Value::Bulk(Bytes::from_static(b"a\r\n"));
    let text = Bytes::from_static(b"some text");
    let error = Value::Error(Bytes::from_static(
        b"WRONGTYPE Operation against a key holding the wrong kind of value",
    ));
    let older = Value::Array(vec![
        Value::Array(vec![ok(), Value::Array(vec![Value::Integer(1)])]),
        Value::Array(vec![a(), Value::Bulk(Bytes::from_static(b"0.1"))]),
        Value::Bulk(text.clone()),
        Value::Nil,
        Value::NilArray,
        Value::Integer(i64::MIN),
        error.clone(),
    ]);
    let newer = Value::Array(vec![
        Value::Map(vec![(ok(), Value::Set(vec![Value::Bool(true)]))]),
        Value::Array(vec![Value::Array(vec![a(), Value::Double(0.1)])]),
        Value::Verbatim {
            format: *b"txt",
            text,
        },
        Value::Nil,
        Value::Nil,
        Value::Integer(i64::MIN),
        error,
    ]);
    for (protocol, value) in [(Protocol::Resp2, older), (Protocol::Resp3, newer)] {
        let mut bytes = Vec::new();
        reply::encode(&mut bytes, &reply, protocol);
        reply::encode(&mut bytes, &Reply::OK, protocol);
        let bytes = Bytes::from(bytes);
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::new(Limits::default());
            decoder.handle_bytes(&bytes.slice(..cut));
            let (mut parts, _) = decode_all(&mut decoder);
            decoder.handle_bytes(&bytes.slice(cut..));
            parts.extend(decode_all(&mut decoder).0);
            assert_eq!(parts, [value.clone(), ok()], "cut at {cut}");
        }
    }
}
