//! Scripts, and polling to the end.

#![allow(dead_code)] // each test file uses its part

use bytes::Bytes;
use wire_redis::client::{Decoder, Value};
use wire_redis::{Connection, ProtocolError};

/// A case of a script: its title, and its lines as (first word, rest).
pub struct Case<'a> {
    /// What the case is about.
    pub title: &'a str,
    /// The lines, each with the word it begins with.
    pub lines: Vec<(&'a str, &'a str)>,
}

/// Reads a script; `#` at the beginning of a line opens a comment.
pub fn cases(script: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in script.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            let lines = Vec::new();
            cases.push(Case { title, lines });
        } else if !line.is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().expect("a title comes first");
            case.lines.push(line.split_once(' ').expect(line));
        }
    }
    cases
}

/// The bytes that a text with escapes stands for: `\r`, `\n`, `\t`, `\\`, `\xHH`.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (escape, behind) = rest.split_first().expect("an escape");
        rest = behind;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("digits");
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).expect(digits)
            }
            other => panic!("no escape: {}", other.escape_ascii()),
        });
    }
    bytes
}

/// Everything that can be polled, and how it ended.
pub fn poll_all(connection: &mut Connection) -> (Vec<Vec<Bytes>>, Result<(), ProtocolError>) {
    let mut all = Vec::new();
    loop {
        match connection.poll() {
            Ok(Some(request)) => all.push(request),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// Everything that can be decoded, and how it ended.
pub fn decode_all(decoder: &mut Decoder) -> (Vec<Value>, Result<(), ProtocolError>) {
    let mut all = Vec::new();
    loop {
        match decoder.poll() {
            Ok(Some(value)) => all.push(value),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// Requests of all kinds, as bytes.
pub fn requests() -> Vec<Vec<&'static [u8]>> {
    vec![
        vec![b"PING"],
        vec![b"SET", b"key", b"value"],
        vec![b"", b"", b"\r\n", b"\x00\xff$1\r\n*1\r\n"],
        vec![b"MSET", &[b'x'; 300], &[b'\n'; 40]],
        vec![b"a"; 100],
        vec![b"EVAL", b"\"'", b" "],
    ]
}
