//! Answers to bytes, in both versions of the protocol.
//!
//! [`encode`] writes a whole [`Reply`]; the smaller functions are for answers that are made in place.

use storage::cache::{Reply, double_text};

/// What a client asked for by HELLO.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Protocol {
    /// The one that a connection begins with.
    #[default]
    Resp2,
    /// The one with maps, sets, numbers and pushes of their own.
    Resp3,
}

/// Appends an answer.
pub fn encode(out: &mut Vec<u8>, reply: &Reply, protocol: Protocol) {
    match reply {
        Reply::Nil => nil(out, protocol),
        Reply::NilArray => nil_array(out, protocol),
        Reply::Status(text) => line(out, b'+', text.as_bytes()),
        Reply::Error(text) => line(out, b'-', text.as_bytes()),
        Reply::Integer(number) => integer(out, *number),
        Reply::Double(number) => double(out, *number, protocol),
        Reply::Bool(yes) => boolean(out, *yes, protocol),
        Reply::Bulk(bytes) => bulk(out, bytes),
        Reply::Verbatim(text) => verbatim(out, text, protocol),
        Reply::Array(items) => {
            array_head(out, items.len());
            encode_all(out, items, protocol);
        }
        Reply::Set(items) => {
            set_head(out, items.len(), protocol);
            encode_all(out, items, protocol);
        }
        Reply::Map(pairs) => {
            map_head(out, pairs.len(), protocol);
            for (field, value) in pairs {
                encode(out, field, protocol);
                encode(out, value, protocol);
            }
        }
        Reply::Pairs(pairs) => {
            let flat = protocol == Protocol::Resp2;
            array_head(out, pairs.len() * if flat { 2 } else { 1 });
            for (first, second) in pairs {
                if !flat {
                    array_head(out, 2);
                }
                encode(out, first, protocol);
                encode(out, second, protocol);
            }
        }
    }
}

fn encode_all(out: &mut Vec<u8>, replies: &[Reply], protocol: Protocol) {
    for reply in replies {
        encode(out, reply, protocol);
    }
}

/// Appends a message that nobody asked for: its kind (`message`, `subscribe`, …) and what it says. An array
/// in the older version, where a client tells it from an answer by being subscribed.
pub fn push(out: &mut Vec<u8>, kind: &str, parts: &[Reply], protocol: Protocol) {
    let first = match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    };
    head(out, first, 1 + parts.len());
    bulk(out, kind.as_bytes());
    encode_all(out, parts, protocol);
}

/// Appends "nothing" in place of a value.
pub fn nil(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends "nothing" in place of a list.
pub fn nil_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Appends a status. A line end within becomes a space.
pub fn status(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text.as_bytes());
}

/// Appends a refusal, which begins with its code. A line end within becomes a space.
pub fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text.as_bytes());
}

/// Appends a signed number.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a floating-point number.
pub fn double(out: &mut Vec<u8>, number: f64, protocol: Protocol) {
    double_text(number, |text| match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => line(out, b',', text),
    });
}

/// Appends yes or no.
pub fn boolean(out: &mut Vec<u8>, yes: bool, protocol: Protocol) {
    out.extend_from_slice(match (protocol, yes) {
        (Protocol::Resp2, true) => b":1\r\n",
        (Protocol::Resp2, false) => b":0\r\n",
        (Protocol::Resp3, true) => b"#t\r\n",
        (Protocol::Resp3, false) => b"#f\r\n",
    });
}

/// Appends bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends text for people.
pub fn verbatim(out: &mut Vec<u8>, text: &str, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => {
            head(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Opens an array; `count` answers must follow.
pub fn array_head(out: &mut Vec<u8>, count: usize) {
    head(out, b'*', count);
}

/// Opens a set; `count` answers must follow.
pub fn set_head(out: &mut Vec<u8>, count: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', count),
        Protocol::Resp3 => head(out, b'~', count),
    }
}

/// Opens a map; `count` fields with their values must follow.
pub fn map_head(out: &mut Vec<u8>, count: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', 2 * count),
        Protocol::Resp3 => head(out, b'%', count),
    }
}

pub(crate) fn head(out: &mut Vec<u8>, first: u8, count: usize) {
    out.push(first);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A line may hold what a client sent: no byte of it may end the line.
fn line(out: &mut Vec<u8>, first: u8, text: &[u8]) {
    // Answers of a pipeline stand side by side: room for a dozen at once.
    out.reserve((text.len() + 3).max(64));
    out.push(first);
    let start = out.len();
    out.extend_from_slice(text);
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}
