//! As much of an HTTP client as the command line needs: one request, one answer, one connection.

use crate::{Failure, failed};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What is sent with a request.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Nothing: GET.
    None,
    /// JSON: POST.
    Post(&'a str),
    /// JSON: PUT.
    Put(&'a str),
}

/// What came.
pub struct Answer {
    /// The status code.
    pub code: u16,
    head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

/// Asks the console at `address`; a body makes it a POST. The status code and the body of the answer.
pub fn ask(
    address: &str,
    path: &str,
    body: Option<&str>,
    time: Duration,
) -> Result<(u16, String), Failure> {
    let answer = request(address, path, body.map_or(Body::None, Body::Post), time)?;
    Ok((answer.code, answer.body))
}

/// Asks the console at `address`.
pub fn request(
    address: &str,
    path: &str,
    body: Body<'_>,
    time: Duration,
) -> Result<Answer, Failure> {
    exchange(address, path, body, time).map_err(|error| {
        failed(format!(
            "cannot ask the console at {address}: {error}. Is the node running, and is this the address of its console (--console HOST:PORT)?"
        ))
    })
}

fn exchange(address: &str, path: &str, body: Body<'_>, time: Duration) -> std::io::Result<Answer> {
    let other = std::io::Error::other::<&str>;
    let target = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&target, time)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    let (method, body) = match body {
        Body::None => ("GET", None),
        Body::Post(body) => ("POST", Some(body)),
        Body::Put(body) => ("PUT", Some(body)),
    };
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    if let Some(body) = body {
        request += &format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
    }
    request += "\r\n";
    request += body.unwrap_or_default();
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|_| other("the answer is not text"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| other("the answer is not HTTP"))?;
    let code = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| other("the answer is not HTTP"))?;
    Ok(Answer {
        code,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
