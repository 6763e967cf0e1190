//! The client: any number of connections in one thread over one poll, so that it costs little beside the server.

use base::SessionId;
use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire_zookeeper::ConnectRequest;
use wire_zookeeper::client::{Decoder, Response, request};

const RESPONSE_BYTES_MAX: u32 = 64 << 20;
/// Longest wait without any progress.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Connections under way at a time: below a listener's usual backlog.
const DIALLING_MAX: usize = 64;

struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    writable: bool,
    connected: bool,
    /// Requests sent so far.
    requests: u64,
    /// When the outstanding ones were sent, oldest first.
    outstanding: std::collections::VecDeque<Instant>,
}

/// Open sessions.
pub struct Clients {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    all: Vec<Connection>,
}

/// What a drive came to.
pub struct Report {
    /// Requests answered.
    pub operations: u64,
    /// Seconds that it took.
    pub seconds: f64,
    latencies_us: Vec<u32>,
}

impl Report {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// The latency in microseconds that this part (0 to 1) of the requests did not exceed.
    pub fn percentile_us(&mut self, part: f64) -> f64 {
        if self.latencies_us.is_empty() {
            return f64::NAN;
        }
        self.latencies_us.sort_unstable();
        let at = (self.latencies_us.len() as f64 * part) as usize;
        f64::from(self.latencies_us[at.min(self.latencies_us.len() - 1)])
    }
}

/// The next request of a connection, appended to the buffer: (connection, number of the request from 1, buffer).
/// False when the connection has none any more.
pub type Next<'a> = &'a mut dyn FnMut(usize, u64, &mut Vec<u8>) -> bool;

impl Clients {
    /// Opens `count` sessions.
    pub fn open(address: SocketAddr, count: usize, timeout_ms: u32) -> Result<Self, String> {
        let mut clients = Self {
            poll: Poll::new().map_err(|e| format!("cannot poll: {e}"))?,
            events: Events::with_capacity(1024),
            buffer: vec![0; 256 * 1024],
            all: Vec::with_capacity(count),
        };
        while clients.all.len() < count {
            for _ in 0..DIALLING_MAX.min(count - clients.all.len()) {
                clients.dial(address, timeout_ms)?;
            }
            clients.until(|all| all.iter().all(|c| c.connected))?;
        }
        Ok(clients)
    }

    fn dial(&mut self, address: SocketAddr, timeout_ms: u32) -> Result<(), String> {
        let mut stream =
            TcpStream::connect(address).map_err(|e| format!("cannot connect to {address}: {e}"))?;
        let token = Token(self.all.len());
        self.poll
            .registry()
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| format!("cannot watch a socket: {e}"))?;
        let mut out = Vec::new();
        request::connect(&mut out, &greeting(timeout_ms));
        self.all.push(Connection {
            stream,
            decoder: Decoder::new(RESPONSE_BYTES_MAX),
            out,
            sent: 0,
            writable: false,
            connected: false,
            requests: 0,
            outstanding: std::collections::VecDeque::new(),
        });
        Ok(())
    }

    fn until(&mut self, done: impl Fn(&[Connection]) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !done(&self.all) {
            if begun.elapsed() > SILENCE_MAX {
                return Err("the server does not open sessions".into());
            }
            self.turn(Duration::from_millis(50), &mut |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// Waits for sockets once; `answered` hears of each answer (connection, its error number).
    fn turn(
        &mut self,
        wait: Duration,
        answered: &mut dyn FnMut(&mut Connection, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|e| format!("cannot poll: {e}"))?,
        }
        for event in &self.events {
            let index = event.token().0;
            let connection = &mut self.all[index];
            if event.is_writable() {
                connection.writable = true;
            }
            if event.is_readable() {
                connection.read(&mut self.buffer, index, answered)?;
            }
            connection.flush()?;
        }
        Ok(())
    }

    /// Runs a closed loop on every connection, `window` requests outstanding on each, until `end` has passed (when
    /// given) or no connection has a request any more, and then until everything is answered.
    pub fn drive(
        &mut self,
        window: usize,
        end: Option<Duration>,
        next: Next<'_>,
    ) -> Result<Report, String> {
        let begun = Instant::now();
        let over = |now: Instant| end.is_some_and(|end| now.duration_since(begun) >= end);
        let mut latencies_us = Vec::new();
        let mut open = 0_usize;
        for (index, connection) in self.all.iter_mut().enumerate() {
            connection.requests = 0;
            for _ in 0..window {
                open += usize::from(connection.ask(index, next));
            }
            connection.flush()?;
        }
        let mut last = Instant::now();
        while open > 0 {
            let before = latencies_us.len();
            self.turn(Duration::from_millis(100), &mut |connection, index| {
                let now = Instant::now();
                let sent = connection
                    .outstanding
                    .pop_front()
                    .ok_or("an answer to nothing")?;
                latencies_us
                    .push(u32::try_from(now.duration_since(sent).as_micros()).unwrap_or(u32::MAX));
                open -= 1;
                if !over(now) {
                    open += usize::from(connection.ask(index, next));
                }
                Ok(())
            })?;
            if latencies_us.len() > before {
                last = Instant::now();
            } else if last.elapsed() > SILENCE_MAX {
                return Err(format!(
                    "{open} requests were not answered within {} s",
                    SILENCE_MAX.as_secs()
                ));
            }
        }
        Ok(Report {
            operations: latencies_us.len() as u64,
            seconds: begun.elapsed().as_secs_f64(),
            latencies_us,
        })
    }
}

/// A new session.
pub fn greeting(timeout_ms: u32) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms,
        session: SessionId(0),
        password: vec![0; 16],
        read_only: false,
        had_read_only_flag: true,
    }
}

impl Connection {
    fn ask(&mut self, index: usize, next: Next<'_>) -> bool {
        self.requests += 1;
        let asked = next(index, self.requests, &mut self.out);
        if asked {
            self.outstanding.push_back(Instant::now());
        }
        asked
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        index: usize,
        answered: &mut dyn FnMut(&mut Connection, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => {
                    self.decoder
                        .handle_bytes(&Bytes::copy_from_slice(&buffer[..n]));
                    self.answers(index, answered)?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("a connection broke: {e}")),
            }
        }
    }

    fn answers(
        &mut self,
        index: usize,
        answered: &mut dyn FnMut(&mut Connection, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        while let Some(response) = self
            .decoder
            .poll()
            .map_err(|e| format!("not ZooKeeper's protocol: {e}"))?
        {
            match response {
                Response::Connect(answer) if answer.session.0 != 0 => self.connected = true,
                Response::Connect(_) => return Err("the server refused a session".into()),
                Response::Reply { error: 0, xid, .. } if xid >= 0 => answered(self, index)?,
                Response::Reply { error: 0, .. } | Response::Notification { .. } => {}
                Response::Reply { error, .. } => {
                    return Err(format!("a request was answered with error {error}"));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        while self.writable && self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("a connection broke: {e}")),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }
}
