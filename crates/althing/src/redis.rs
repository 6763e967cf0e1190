//! A connection of a Redis client over a blocking socket: commands behind one another, and their answers.

use crate::{Failure, failed};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use wire_redis::Limits;
use wire_redis::client::{Decoder, Value, request};

/// For connecting to one server.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// For answers that do not wait on purpose.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    server: String,
    answers: VecDeque<Value>,
    /// Answers that are to come, and when they are late.
    awaited: usize,
    late_at: Instant,
}

impl Connection {
    /// Tries the servers (`host:port`, separated by commas) in turn, the first that takes a connection.
    pub fn open(servers: &str) -> Result<Self, Failure> {
        let mut why = Vec::new();
        for server in servers.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            match Self::open_one(server) {
                Ok(connection) => return Ok(connection),
                Err(error) => why.push(format!("{server}: {error}")),
            }
        }
        Err(failed(format!(
            "no server takes a connection ({}). Is it running, and is this its address (--server HOST:PORT[,…])?",
            why.join("; ")
        )))
    }

    fn open_one(server: &str) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let address = server
            .to_socket_addrs()
            .map_err(text)?
            .next()
            .ok_or("the name has no address")?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        Ok(Self {
            stream,
            decoder: Decoder::new(Limits::default()),
            server: server.to_owned(),
            answers: VecDeque::new(),
            awaited: 0,
            late_at: Instant::now(),
        })
    }

    /// Sends commands, the last of which may wait on purpose for `wait`. Their answers are polled before more is sent.
    pub fn send<A: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<A>],
        wait: Duration,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        commands
            .iter()
            .for_each(|command| request(&mut out, command));
        self.awaited = commands.len();
        self.late_at = Instant::now() + ANSWER_TIME + wait;
        self.stream.write_all(&out).map_err(|why| self.broken(&why))
    }

    /// The answers to what was sent, once all are there; waits for them at most until `until`.
    pub fn poll(&mut self, until: Instant) -> Result<Option<Vec<Value>>, String> {
        let mut scratch = vec![0; 16 << 10];
        loop {
            while let Some(value) = self
                .decoder
                .poll()
                .map_err(|why| format!("{} does not speak Redis' protocol: {why}", self.server))?
            {
                self.answers.push_back(value);
            }
            if self.answers.len() >= self.awaited {
                return Ok(Some(self.answers.drain(..self.awaited).collect()));
            }
            let now = Instant::now();
            if now >= self.late_at {
                return Err(format!("{} does not answer", self.server));
            }
            let left = until.min(self.late_at).saturating_duration_since(now);
            if left.is_zero() {
                return Ok(None);
            }
            self.stream
                .set_read_timeout(Some(left))
                .map_err(|why| self.broken(&why))?;
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(format!("{} closed the connection", self.server)),
                Ok(n) => self
                    .decoder
                    .handle_bytes(&Bytes::copy_from_slice(&scratch[..n])),
                Err(why)
                    if matches!(
                        why.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(why) => return Err(self.broken(&why)),
            }
        }
    }

    /// Sends commands and waits for their answers.
    pub fn ask<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Result<Vec<Value>, String> {
        self.send(commands, Duration::ZERO)?;
        // Before that it is late, which is an error.
        let until = self.late_at + Duration::from_secs(1);
        match self.poll(until)? {
            Some(answers) => Ok(answers),
            None => Err(format!("{} does not answer", self.server)),
        }
    }

    fn broken(&self, why: &std::io::Error) -> String {
        format!("the connection to {} broke: {why}", self.server)
    }
}
