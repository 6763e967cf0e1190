//! The scripts: examples of Redis' protocol specification, and what clients must not send.

mod common;

use bytes::Bytes;
use common::{cases, decode_all, poll_all, unescape};
use storage::cache::Reply;
use wire_redis::client::Decoder;
use wire_redis::{Connection, Limits, Protocol, reply};

const REQUESTS: &str = include_str!("../testscripts/requests.txt");
const REPLIES: &str = include_str!("../testscripts/replies.txt");
const VALUES: &str = include_str!("../testscripts/values.txt");

#[test]
fn requests_are_read_as_the_script_says() {
    let script = cases(REQUESTS);
    assert!(script.len() >= 28);
    for case in script {
        let mut connection = Connection::new(Limits::default());
        let mut read = Vec::new().into_iter();
        let mut end = Ok(());
        for (what, rest) in &case.lines {
            match *what {
                ">" => {
                    assert_eq!(read.next(), None::<Vec<Bytes>>, "{}", case.title);
                    connection.handle_bytes(&unescape(rest).into());
                    let (all, result) = poll_all(&mut connection);
                    (read, end) = (all.into_iter(), result);
                }
                "<" => {
                    let expected: Vec<Bytes> = rest
                        .split(" | ")
                        .map(|word| unescape(word).into())
                        .collect();
                    assert_eq!(read.next(), Some(expected), "{}", case.title);
                }
                "!" => {
                    let error = end.expect_err(case.title);
                    assert_eq!(error.reply(), Reply::Error((*rest).to_owned().into()));
                    assert_eq!(connection.poll(), Err(error), "the error stays");
                    assert_eq!(connection.buffered_bytes(), 0, "nothing is kept");
                }
                "held" => {
                    assert_eq!(
                        connection.buffered_bytes().to_string(),
                        *rest,
                        "{}",
                        case.title
                    );
                }
                what => panic!("{}: {what}", case.title),
            }
        }
        assert_eq!(read.next(), None, "{}", case.title);
        let last = case.lines.last().map(|(what, _)| *what);
        assert_eq!(end.is_err(), last == Some("!"), "{}", case.title);
        assert_eq!(
            case.title.starts_with("hostile"),
            end.is_err(),
            "{}",
            case.title
        );
    }
}

fn bulk(bytes: &'static [u8]) -> Reply {
    Reply::Bulk(Bytes::from_static(bytes))
}

fn status(text: &'static str) -> Reply {
    Reply::Status(text.into())
}

fn integers(numbers: &[i64]) -> Vec<Reply> {
    numbers.iter().copied().map(Reply::Integer).collect()
}

fn reply_named(title: &str) -> Reply {
    match title {
        "nil" => Reply::Nil,
        "nil array" => Reply::NilArray,
        "status" => Reply::OK,
        "error" => Reply::WRONG_TYPE,
        "error with a line end within" => Reply::error("ERR unknown command 'a\r\n+OK'"),
        "integer" => Reply::Integer(1000),
        "least integer" => Reply::Integer(i64::MIN),
        "double" => Reply::Double(1.23),
        "whole double" => Reply::Double(10.0),
        "infinity" => Reply::Double(f64::INFINITY),
        "minus infinity" => Reply::Double(f64::NEG_INFINITY),
        "true" => Reply::Bool(true),
        "false" => Reply::Bool(false),
        "bulk" => bulk(b"hello"),
        "empty bulk" => bulk(b""),
        "bulk of any bytes" => bulk(b"\x00\r\n\xff"),
        "verbatim" => Reply::Verbatim("Some string".into()),
        "empty array" => Reply::Array(Vec::new()),
        "array" => {
            let mut items = integers(&[1, 2, 3, 4]);
            items.push(bulk(b"hello"));
            Reply::Array(items)
        }
        "nested array" => Reply::Array(vec![
            Reply::Array(integers(&[1, 2, 3])),
            Reply::Array(vec![status("Hello"), Reply::error("World")]),
        ]),
        "array with nil" => Reply::Array(vec![bulk(b"hello"), Reply::Nil, bulk(b"world")]),
        "map" => Reply::Map(vec![
            (status("first"), Reply::Integer(1)),
            (status("second"), Reply::Integer(2)),
        ]),
        "set" => {
            let mut items = vec![status("orange"), status("apple")];
            items.extend(integers(&[1, 100, 999]));
            Reply::Set(items)
        }
        "pairs" => Reply::Pairs(vec![
            (bulk(b"a"), Reply::Double(1.0)),
            (bulk(b"b"), Reply::Double(2.5)),
        ]),
        title => panic!("no reply named {title}"),
    }
}

#[test]
fn replies_are_written_as_the_script_says_and_the_client_reads_each_whole() {
    let script = cases(REPLIES);
    assert_eq!(script.len(), 25);
    for case in script {
        for (protocol, name) in [(Protocol::Resp2, "2"), (Protocol::Resp3, "3")] {
            let mut written = Vec::new();
            if case.title == "push" {
                let parts = [bulk(b"news"), bulk(b"hi")];
                reply::push(&mut written, "message", &parts, protocol);
            } else {
                reply::encode(&mut written, &reply_named(case.title), protocol);
            }
            let (_, expected) = case.lines.iter().find(|line| line.0 == name).expect(name);
            let written = Bytes::from(written);
            assert_eq!(
                written,
                unescape(expected),
                "{} in {protocol:?}",
                case.title
            );

            let mut decoder = Decoder::new(Limits::default());
            decoder.handle_bytes(&written);
            let (values, end) = decode_all(&mut decoder);
            assert_eq!((values.len(), end), (1, Ok(())), "{}", case.title);
        }
    }
}

#[test]
fn values_are_read_as_the_script_says() {
    let script = cases(VALUES);
    assert!(script.len() >= 30);
    for case in script {
        let ((">", bytes), expected) = case.lines.split_first().expect(case.title) else {
            panic!("{}: bytes come first", case.title);
        };
        let mut decoder = Decoder::new(Limits::default());
        decoder.handle_bytes(&unescape(bytes).into());
        let (values, end) = decode_all(&mut decoder);
        let mut said: Vec<(&str, String)> = values
            .iter()
            .map(|value| ("<", format!("{value:?}")))
            .collect();
        said.extend(end.err().map(|error| ("!", error.to_string())));
        let said: Vec<(&str, &str)> = said
            .iter()
            .map(|(what, text)| (*what, text.as_str()))
            .collect();
        assert_eq!(said, expected, "{}", case.title);
    }
}
