//! As much of an HTTP client as the command line needs: one request, one answer, one connection.

use crate::{Failure, failed};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Asks the console at `address`; a body makes it a POST. The status code and the body of the answer.
pub fn ask(
    address: &str,
    path: &str,
    body: Option<&str>,
    time: Duration,
) -> Result<(u16, String), Failure> {
    exchange(address, path, body, time).map_err(|error| {
        failed(format!(
            "cannot ask the console at {address}: {error}. Is the node running, and is this the address of its console (--console HOST:PORT)?"
        ))
    })
}

fn exchange(
    address: &str,
    path: &str,
    body: Option<&str>,
    time: Duration,
) -> std::io::Result<(u16, String)> {
    let other = std::io::Error::other::<&str>;
    let target = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&target, time)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let request = match body {
        None => format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
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
    Ok((code, body.to_owned()))
}
