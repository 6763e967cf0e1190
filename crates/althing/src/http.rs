//! As much of an HTTP client as the command line needs: one request, one answer, one connection.

use crate::{Failure, failed};
use clap::Args;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Which node is asked.
#[derive(Args)]
pub struct Console {
    /// The console of the node that is asked
    #[arg(
        long = "console",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7400",
        global = true
    )]
    pub address: String,
}

/// Which nodes are asked.
#[derive(Args, Clone)]
pub struct Consoles {
    /// Consoles of nodes, with commas; the first that answers is asked
    #[arg(
        long = "console",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7400",
        value_delimiter = ',',
        global = true
    )]
    pub addresses: Vec<String>,
}

/// What a request carries.
pub enum Content<'a> {
    /// Nothing.
    None,
    /// JSON.
    Json(&'a str),
    /// TOML.
    Toml(&'a str),
    /// So many bytes of this.
    Sized(&'a mut dyn Read, u64),
    /// All of this.
    Unsized(&'a mut dyn Read),
}

/// An answer whose body is still to be read; it ends where the server said it would, or with an error.
pub struct Answering {
    /// The status.
    pub code: u16,
    head: String,
    left: Option<u64>,
    stream: BufReader<TcpStream>,
}

impl Answering {
    /// Whether the status says that it was done.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The value of a header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.head, name)
    }

    /// All of it, if it is text of at most so many bytes.
    pub fn whole(self, bytes_max: u64) -> io::Result<Answer> {
        let (code, head) = (self.code, self.head.clone());
        let mut body = String::new();
        self.take(bytes_max).read_to_string(&mut body)?;
        Ok(Answer { code, head, body })
    }
}

impl Read for Answering {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.left else {
            return self.stream.read(buffer);
        };
        let wanted = buffer
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        let read = self.stream.read(&mut buffer[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }
}

/// Sends a request of any size. `time` bounds each step, not the whole.
pub fn send(
    method: &str,
    address: &str,
    path: &str,
    content: Content<'_>,
    time: Duration,
) -> io::Result<Answering> {
    let target = (address.to_socket_addrs()?.next())
        .ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&target, time)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    let length = match &content {
        Content::None => "Content-Length: 0".to_owned(),
        Content::Json(text) => format!(
            "Content-Type: application/json\r\nContent-Length: {}",
            text.len()
        ),
        Content::Toml(text) => format!(
            "Content-Type: application/toml\r\nContent-Length: {}",
            text.len()
        ),
        Content::Sized(_, length) => format!("Content-Length: {length}"),
        Content::Unsized(_) => "Transfer-Encoding: chunked".into(),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n{length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // Who refuses may answer before all was sent, and close: the answer says more than the broken pipe.
    let sent = match content {
        Content::None => Ok(()),
        Content::Json(text) | Content::Toml(text) => stream.write_all(text.as_bytes()),
        Content::Sized(source, length) => io::copy(&mut source.take(length), &mut stream).map(drop),
        Content::Unsized(source) => send_chunked(source, &mut stream),
    };
    let answer = read_head(BufReader::new(stream));
    match (sent, answer) {
        (_, Ok(answer)) => Ok(answer),
        (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
    }
}

fn send_chunked(source: &mut dyn Read, stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = source.read(&mut buffer)?;
        write!(stream, "{read:x}\r\n")?;
        stream.write_all(&buffer[..read])?;
        stream.write_all(b"\r\n")?;
        if read == 0 {
            return Ok(());
        }
    }
}

fn read_head(mut stream: BufReader<TcpStream>) -> io::Result<Answering> {
    let strange = || io::Error::other("the answer is not HTTP");
    let mut line = String::new();
    (&mut stream).take(1024).read_line(&mut line)?;
    let code = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let code = code.ok_or_else(strange)?;
    let (mut head, mut left) = (String::new(), None);
    loop {
        line.clear();
        (&mut stream).take(16 << 10).read_line(&mut line)?;
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(Answering {
                code,
                head,
                left,
                stream,
            });
        }
        let (name, value) = text.split_once(':').ok_or_else(strange)?;
        if name.eq_ignore_ascii_case("content-length") {
            left = Some(value.trim().parse().map_err(|_| strange())?);
        }
        head.push_str(&line);
    }
}

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
    /// Nothing: DELETE.
    Delete,
}

/// What came, whole.
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
        find_header(&self.head, name)
    }
}

fn find_header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
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

/// The same, with the plain error where no answer came.
pub fn exchange(
    address: &str,
    path: &str,
    body: Body<'_>,
    time: Duration,
) -> std::io::Result<Answer> {
    let (method, content) = match body {
        Body::None => ("GET", Content::None),
        Body::Post(text) => ("POST", Content::Json(text)),
        Body::Put(text) => ("PUT", Content::Json(text)),
        Body::Delete => ("DELETE", Content::None),
    };
    send(method, address, path, content, time)?.whole(ANSWER_BYTES_MAX)
}
