//! Where a request ends: a strict reading of its framing, before the HTTP library sees it.
//!
//! Two parties that read one stream of requests differently can be made to disagree where one ends and the next begins
//! (request smuggling). The library resolves some ambiguities as RFC 9112 allows and drops the evidence; so the bytes pass
//! through [`Scanner`] first, which hands over whole heads that can be read in one way only. What is refused is replaced
//! by bytes that the library answers with 400, and nothing behind it is read.
//!
//! Refused: two lengths, even equal ones; a length beside an encoding; an encoding other than `chunked`; a name with a space
//! behind it; folded lines; line ends that are not CRLF; control bytes; no or two hosts; anything sent behind a request to upgrade
//! before it was answered; a chunk that is not framed exactly.

/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest line that says a chunk's length, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;
/// Most bytes of trailers.
const TRAILERS_BYTES_MAX: usize = 8 << 10;
/// What the library answers with 400.
const REFUSAL: &[u8] = b"\x00 refused\r\n\r\n";

/// Why bytes are not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub &'static str);

#[derive(Clone, PartialEq, Eq, Debug)]
enum At {
    /// In a head; what came of it.
    Head(Vec<u8>),
    /// In a body: bytes that are left.
    Length(u64),
    /// In the line with a chunk's length; what came of it.
    ChunkLine(Vec<u8>),
    /// In a chunk: bytes left with the line end behind it.
    Chunk(u64),
    /// In the trailers: what came of the line, and bytes of all of them.
    Trailer(Vec<u8>, usize),
    /// Behind the head of a request to upgrade.
    Upgrade,
    /// Nothing is passed on any more.
    Refused(Refused),
}

/// Reads a connection's bytes in their order.
#[derive(Debug)]
pub struct Scanner(At);

impl Default for Scanner {
    fn default() -> Self {
        Self(At::Head(Vec::new()))
    }
}

impl Scanner {
    /// Takes the next bytes and appends what may be passed on. Refused once, it takes nothing more.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        while !bytes.is_empty() {
            if let Err(why) = self.step(&mut bytes, out) {
                // In a body the library is not told: its end is missing, and the connection ends.
                if matches!(self.0, At::Head(_) | At::Upgrade) {
                    out.extend_from_slice(REFUSAL);
                }
                self.0 = At::Refused(why);
                return Err(why);
            }
        }
        Ok(())
    }

    fn step(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        match &mut self.0 {
            At::Head(head) => {
                if head.is_empty() && bytes.starts_with(b"\r\n") {
                    // An empty line before a request is ignored (RFC 9112, 2.2).
                    *bytes = &bytes[2..];
                    return Ok(());
                }
                let searched = head.len().saturating_sub(3);
                head.extend_from_slice(bytes);
                let end = find(&head[searched..], b"\r\n\r\n").map(|at| searched + at + 4);
                if end.unwrap_or(head.len()) > HEAD_BYTES_MAX {
                    return Err(Refused("the head is too long"));
                }
                let Some(end) = end else {
                    *bytes = &[];
                    return Ok(());
                };
                *bytes = &bytes[bytes.len() - (head.len() - end)..];
                head.truncate(end);
                let next = read_head(head)?;
                out.extend_from_slice(head);
                self.0 = next;
            }
            At::Length(left) => {
                let n = pass(bytes, *left, out);
                *left -= n;
                if *left == 0 {
                    self.0 = At::Head(Vec::new());
                }
            }
            At::ChunkLine(line) => {
                if let Some(whole) = take_line(line, bytes, CHUNK_LINE_BYTES_MAX)? {
                    let length = chunk_length(&whole)?;
                    out.extend_from_slice(&whole);
                    self.0 = match length {
                        0 => At::Trailer(Vec::new(), 0),
                        n => At::Chunk(n + 2),
                    };
                }
            }
            At::Chunk(left) => {
                // The last two bytes end the line.
                while *left <= 2 && !bytes.is_empty() {
                    if bytes[0] != if *left == 2 { b'\r' } else { b'\n' } {
                        return Err(Refused("a chunk does not end with its line"));
                    }
                    *left -= pass(bytes, 1, out);
                    if *left == 0 {
                        self.0 = At::ChunkLine(Vec::new());
                        return Ok(());
                    }
                }
                let data = left.saturating_sub(2);
                *left -= pass(bytes, data, out);
            }
            At::Trailer(line, sum) => {
                if let Some(whole) = take_line(line, bytes, TRAILERS_BYTES_MAX)? {
                    *sum += whole.len();
                    if *sum > TRAILERS_BYTES_MAX {
                        return Err(Refused("the trailers are too long"));
                    }
                    let is_last = whole == b"\r\n";
                    if !is_last {
                        let (name, _) = read_field(&whole[..whole.len() - 2])?;
                        if is(name, "content-length") || is(name, "transfer-encoding") {
                            return Err(Refused("a trailer speaks of framing"));
                        }
                    }
                    out.extend_from_slice(&whole);
                    if is_last {
                        self.0 = At::Head(Vec::new());
                    }
                }
            }
            At::Upgrade => return Err(Refused("bytes came before an upgrade was granted")),
            At::Refused(why) => return Err(*why),
        }
        Ok(())
    }
}

/// Passes on at most `most` bytes.
fn pass(bytes: &mut &[u8], most: u64, out: &mut Vec<u8>) -> u64 {
    let n = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    out.extend_from_slice(&bytes[..n]);
    *bytes = &bytes[n..];
    n as u64
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// A whole line with its CRLF, once it is there.
fn take_line(
    line: &mut Vec<u8>,
    bytes: &mut &[u8],
    most: usize,
) -> Result<Option<Vec<u8>>, Refused> {
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        line.push(*byte);
        if *byte == b'\n' {
            return match line.ends_with(b"\r\n") {
                true => Ok(Some(std::mem::take(line))),
                false => Err(Refused("a line does not end with CRLF")),
            };
        }
        if line.len() > most {
            return Err(Refused("a line is too long"));
        }
    }
    Ok(None)
}

fn chunk_length(line: &[u8]) -> Result<u64, Refused> {
    let text = &line[..line.len() - 2];
    let digits = text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = &text[digits..];
    let is_extension = rest.is_empty() || rest[0] == b';';
    if digits == 0 || digits > 15 || !is_extension || rest.iter().any(|b| *b < 0x20 && *b != b'\t')
    {
        return Err(Refused("a chunk's length is not a hexadecimal number"));
    }
    let digits = std::str::from_utf8(&text[..digits]).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| Refused("a chunk's length is not a number"))
}

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

/// Name and value of a line without its end.
fn read_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
        return Err(Refused("a header's line is folded"));
    }
    let colon = line
        .iter()
        .position(|b| *b == b':')
        .ok_or(Refused("a header has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(Refused("a header's name is malformed"));
    }
    if value
        .iter()
        .any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f)
    {
        return Err(Refused("a header's value has control bytes"));
    }
    Ok((name, value.trim_ascii()))
}

/// Where a request goes on behind its head.
fn read_head(head: &[u8]) -> Result<At, Refused> {
    let text = &head[..head.len() - 4];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines
        .iter()
        .any(|line| line.contains(&b'\r') || line.contains(&b'\n'))
    {
        return Err(Refused("a line does not end with CRLF"));
    }
    let words: Vec<&[u8]> = lines[0].split(|b| *b == b' ').collect();
    let is_11 = match words[..] {
        [method, target, version] if !method.is_empty() && !target.is_empty() => match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Refused("the version is neither HTTP/1.1 nor HTTP/1.0")),
        },
        _ => return Err(Refused("the request line is malformed")),
    };
    let (mut length, mut is_chunked, mut hosts, mut upgrades) = (None, false, 0, false);
    for line in &lines[1..] {
        let (name, value) = read_field(line)?;
        if is(name, "content-length") {
            let is_number =
                !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            if length.is_some() || !is_number {
                return Err(Refused("there is more than one length, or it is no number"));
            }
            let digits = std::str::from_utf8(value).unwrap_or_default();
            length = Some(
                digits
                    .parse()
                    .map_err(|_| Refused("the length is no number"))?,
            );
        } else if is(name, "transfer-encoding") {
            if is_chunked || !is(value, "chunked") || !is_11 {
                return Err(Refused("the transfer encoding is not chunked alone"));
            }
            is_chunked = true;
        } else if is(name, "host") {
            hosts += 1;
        } else if is(name, "upgrade") {
            upgrades = true;
        }
    }
    match (length, is_chunked) {
        _ if hosts > 1 || (is_11 && hosts == 0) => Err(Refused("there is not exactly one host")),
        (Some(_), true) => Err(Refused("there are a length and a transfer encoding")),
        _ if upgrades || lines[0].starts_with(b"CONNECT ") => Ok(At::Upgrade),
        (None, true) => Ok(At::ChunkLine(Vec::new())),
        (None | Some(0), false) => Ok(At::Head(Vec::new())),
        (Some(n), false) => Ok(At::Length(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    /// What is passed on when the bytes come in pieces.
    fn scan(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<u8>, Result<(), Refused>) {
        let (mut scanner, mut out) = (Scanner::default(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
            if let Err(why) = scanner.feed(now, &mut out) {
                return (out, Err(why));
            }
            rest = later;
        }
        (out, Ok(()))
    }

    const GOOD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost:a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 7\r\n\r\n",
    ];

    #[test]
    fn good_requests_pass_unchanged_however_they_are_cut() {
        let mut rng = Rng::new(2);
        for _ in 0..300 {
            let all: String = (0..4)
                .map(|_| GOOD[rng.range(0, GOOD.len() as u64) as usize])
                .collect();
            let (out, end) = scan(all.as_bytes(), || rng.range(1, 20) as usize);
            assert_eq!(
                (String::from_utf8_lossy(&out).as_ref(), end),
                (all.as_str(), Ok(()))
            );
        }
        let (out, end) = scan(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", || 100);
        assert!(end.is_ok() && out.starts_with(b"GET"));
    }

    #[test]
    fn ambiguous_framing_is_refused_and_nothing_of_it_is_passed_on() {
        for (head, body) in [
            ("Content-Length: 5\r\nContent-Length: 6", "hello"),
            ("Content-Length: 5\r\nContent-Length: 5", "hello"),
            ("Content-Length: 5, 5", "hello"),
            ("Content-Length: +5", "hello"),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "0\r\n\r\n",
            ),
            ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                "0\r\n\r\n",
            ),
            ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
            ("Transfer-Encoding : chunked", "0\r\n\r\n"),
            ("Transfer-Encoding:\x0bchunked", "0\r\n\r\n"),
            ("X: y\r\n Transfer-Encoding: chunked", ""),
            ("X: y\nTransfer-Encoding: chunked", ""),
            ("X: y\rZ: 1", ""),
            ("Host: b", ""),
            ("Upgrade: websocket\r\nConnection: upgrade", "early"),
        ] {
            let text = format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let (out, end) = scan(text.as_bytes(), || 1_000);
            assert!(end.is_err(), "{head:?} passed");
            assert!(out.ends_with(REFUSAL), "{head:?}");
            assert!(find(&out, b"secret").is_none());
        }
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/2.0",
            "GET /",
            "GET /\x00 HTTP/1.1 x",
            "",
        ] {
            let (_, end) = scan(format!("{line}\r\nHost: a\r\n\r\nx").as_bytes(), || 7);
            assert!(end.is_err(), "{line:?}");
        }
        assert!(scan(b"GET / HTTP/1.1\r\n\r\n", || 7).1.is_err(), "no host");
        let long = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}",
            "y".repeat(HEAD_BYTES_MAX)
        );
        assert!(scan(long.as_bytes(), || 1_000).1.is_err());
    }

    #[test]
    fn malformed_chunks_end_the_connection() {
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "-5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "ffffffffffffffff1\r\n",
            "\r\n",
            "0\r\nContent-Length: 3\r\n\r\n",
            "0\r\n folded: 1\r\n\r\n",
        ] {
            let text =
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            let (out, end) = scan(text.as_bytes(), || 3);
            assert!(
                end.is_err(),
                "{body:?} passed: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut rng = Rng::new(8);
        let alphabet =
            b"GET / HTTP/1.1\r\n\r\nHost: ab0;5Content-LengthTransfer-Encoding: chunked\x00\xff";
        for _ in 0..3_000 {
            let mut bytes = GOOD[rng.range(0, 6) as usize].as_bytes().to_vec();
            for _ in 0..rng.range(0, 6) {
                let at = rng.range(0, bytes.len() as u64) as usize;
                bytes[at] = alphabet[rng.range(0, alphabet.len() as u64) as usize];
            }
            let _ = scan(&bytes, || rng.range(1, 40) as usize);
        }
    }
}
