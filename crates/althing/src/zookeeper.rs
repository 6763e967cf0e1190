//! A session of a ZooKeeper client over a blocking socket: one request at a time, and watch events.

use crate::{Failure, failed};
use base::SessionId;
use bytes::Bytes;
use coordination::ErrorCode;
use coordination::leases::certain_life;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use wire_zookeeper::client::{Decoder, Response, request};
use wire_zookeeper::{ConnectRequest, error_code, opcode};

/// Largest answer that is taken: lists of a million children fit.
const ANSWER_BYTES_MAX: u32 = 256 << 20;
/// For connecting to one server.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// For the answer to a request.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Asked of the server, in milliseconds, where nothing else is said.
pub const SESSION_TIMEOUT_MS: u32 = 10_000;

/// A watch fired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// The node.
    pub path: String,
}

/// What a broken connection leaves for the next one.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    session: SessionId,
    password: Vec<u8>,
    last_zxid: i64,
}

/// Why a request has no result.
#[derive(Debug)]
pub enum Refusal {
    /// The server answered with this error number.
    Error(i32),
    /// The connection broke, or the server did not answer.
    Broken(String),
}

/// An open session.
pub struct Session {
    stream: TcpStream,
    decoder: Decoder,
    server: String,
    events: VecDeque<Event>,
    resume: Resume,
    next_xid: i32,
    timeout: Duration,
    last_sent: Instant,
    last_heard: Instant,
    ping_waits: bool,
    /// When each request that is not answered was sent.
    unanswered: VecDeque<Instant>,
    /// When the last request that was answered was sent: the session lives from then for its time-out.
    vouched: Instant,
}

/// What `connect` yields.
pub enum Connected {
    /// A new session, or the one that was to be resumed.
    Open(Box<Session>),
    /// The session that was to be resumed has ended.
    Expired,
}

impl Session {
    /// Tries the servers (`host:port`, separated by commas) in turn; `auth` is `user:password`, `timeout_ms` what is
    /// asked for as the session's time-out.
    pub fn connect(
        servers: &str,
        auth: Option<&str>,
        resume: Option<&Resume>,
        timeout_ms: u32,
    ) -> Result<Connected, Failure> {
        let mut why = Vec::new();
        for server in servers.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            match Self::connect_to(server, resume.cloned().unwrap_or_default(), timeout_ms) {
                Ok(Connected::Open(mut session)) => {
                    if let Some(auth) = auth {
                        session.authenticate(auth)?;
                    }
                    return Ok(Connected::Open(session));
                }
                Ok(Connected::Expired) => return Ok(Connected::Expired),
                Err(error) => why.push(format!("{server}: {error}")),
            }
        }
        Err(failed(format!(
            "no server takes a session ({}). Is it running, and is this its address (--server HOST:PORT[,…])?",
            why.join("; ")
        )))
    }

    fn connect_to(server: &str, resume: Resume, timeout_ms: u32) -> Result<Connected, String> {
        let text = |error: std::io::Error| error.to_string();
        let address = server
            .to_socket_addrs()
            .map_err(text)?
            .next()
            .ok_or("the name has no address")?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let now = Instant::now();
        let mut session = Self {
            stream,
            decoder: Decoder::new(ANSWER_BYTES_MAX),
            server: server.to_owned(),
            events: VecDeque::new(),
            resume,
            next_xid: 1,
            timeout: Duration::from_millis(timeout_ms.into()),
            last_sent: now,
            last_heard: now,
            ping_waits: false,
            unanswered: VecDeque::new(),
            vouched: now,
        };
        let mut out = Vec::new();
        request::connect(
            &mut out,
            &ConnectRequest {
                last_zxid_seen: session.resume.last_zxid,
                timeout_ms,
                session: session.resume.session,
                // A new session has a password of zeroes.
                password: if session.resume.password.is_empty() {
                    vec![0; 16]
                } else {
                    session.resume.password.clone()
                },
                had_read_only_flag: true,
                ..ConnectRequest::default()
            },
        );
        session.send(&out)?;
        session.unanswered.clear();
        match session.receive(now + ANSWER_TIME.min(session.timeout / 2))? {
            Some(Response::Connect(answer)) if answer.session.0 == 0 || answer.timeout_ms <= 0 => {
                Ok(Connected::Expired)
            }
            Some(Response::Connect(answer)) => {
                session.timeout = Duration::from_millis(answer.timeout_ms as u64);
                session.resume.session = answer.session;
                session.resume.password = answer.password;
                Ok(Connected::Open(Box::new(session)))
            }
            Some(_) => Err("the server did not open a session".into()),
            None => Err("the server does not answer; it may be waiting for a majority".into()),
        }
    }

    fn authenticate(&mut self, auth: &str) -> Result<(), Failure> {
        let mut out = Vec::new();
        request::add_auth(&mut out, "digest", auth.as_bytes());
        self.exchange(&out, opcode::AUTH_XID)
            .map(|_| ())
            .map_err(|refusal| {
                failed(match refusal {
                    Refusal::Error(_) => {
                        "the server did not accept --auth; it must be user:password".to_owned()
                    }
                    Refusal::Broken(why) => why,
                })
            })
    }

    /// What another connection needs to go on with this session.
    pub fn resume(&self) -> Resume {
        self.resume.clone()
    }

    /// The latest revision that was seen.
    pub fn last_zxid(&self) -> i64 {
        self.resume.last_zxid
    }

    /// Until when the session surely lives, from the last sign of life that was answered; less a twentieth for clocks
    /// that run at different speeds.
    pub fn lives_until(&self) -> Instant {
        self.vouched + certain_life(self.timeout) * 19 / 20
    }

    /// A watch that fired, if one did and was not taken yet.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn ping_every(&self) -> Duration {
        self.timeout / 3
    }

    /// Which server this is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends what `write` appends for an xid, and waits for the answer's body.
    pub fn ask(&mut self, write: impl FnOnce(&mut Vec<u8>, i32)) -> Result<Bytes, Refusal> {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut out = Vec::new();
        write(&mut out, xid);
        self.exchange(&out, xid)
    }

    /// As [`Self::ask`] for a request that has an xid of its own.
    pub fn exchange(&mut self, out: &[u8], xid: i32) -> Result<Bytes, Refusal> {
        self.send(out).map_err(Refusal::Broken)?;
        // A session that is to be resumed elsewhere in time cannot wait longer.
        let wait = ANSWER_TIME.min(self.ping_every() * 2);
        let deadline = Instant::now() + wait;
        loop {
            match self.receive(deadline).map_err(Refusal::Broken)? {
                Some(Response::Reply {
                    xid: answered,
                    error,
                    body,
                    ..
                }) if answered == xid => {
                    return if error == 0 {
                        Ok(body)
                    } else {
                        Err(Refusal::Error(error))
                    };
                }
                Some(_) => {}
                None => {
                    return Err(Refusal::Broken(format!(
                        "{} did not answer within {:.1} s",
                        self.server,
                        wait.as_secs_f64()
                    )));
                }
            }
        }
    }

    /// The next watch event; keeps the session alive while it waits. An error: the connection broke.
    pub fn next_event(&mut self) -> Result<Event, String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.idle(self.ping_every())?;
        }
    }

    /// Keeps the session alive for up to `time`, and gathers events. An error: the connection broke.
    pub fn idle(&mut self, time: Duration) -> Result<(), String> {
        if self.ping_waits && self.last_heard.elapsed() > self.ping_every() * 2 {
            return Err(format!("{} is silent", self.server));
        }
        if self.last_sent.elapsed() >= self.ping_every() {
            let mut out = Vec::new();
            request::ping(&mut out);
            self.send(&out)?;
            self.ping_waits = true;
        }
        let ping_at = self.last_sent + self.ping_every();
        self.receive_events(ping_at.min(Instant::now() + time))
    }

    /// Ends the session in order.
    pub fn close(mut self) {
        // A server that does not answer expires the session by itself.
        let _ = self.ask(request::close_session);
    }

    fn send(&mut self, out: &[u8]) -> Result<(), String> {
        self.last_sent = Instant::now();
        self.unanswered.push_back(self.last_sent);
        self.stream
            .write_all(out)
            .map_err(|error| format!("the connection to {} broke: {error}", self.server))
    }

    /// The next answer; `None` when there is none by `deadline`. Events met on the way are kept.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Response>, String> {
        let mut scratch = vec![0; 64 << 10];
        loop {
            while let Some(response) = self.decoder.poll().map_err(|error| {
                format!(
                    "{} does not speak ZooKeeper's protocol: {error}",
                    self.server
                )
            })? {
                match response {
                    Response::Notification {
                        zxid, kind, path, ..
                    } => {
                        self.resume.last_zxid = self.resume.last_zxid.max(zxid);
                        self.events.push_back(Event { kind, path });
                    }
                    Response::Reply { zxid, .. } => {
                        if let Some(sent) = self.unanswered.pop_front() {
                            self.vouched = sent;
                        }
                        self.resume.last_zxid = self.resume.last_zxid.max(zxid);
                        return Ok(Some(response));
                    }
                    Response::Connect(_) => return Ok(Some(response)),
                }
            }
            if !self.read_some(&mut scratch, deadline)? {
                return Ok(None);
            }
        }
    }

    /// Events that were met, or else waits for some bytes until `deadline` and looks again.
    fn receive_events(&mut self, deadline: Instant) -> Result<(), String> {
        let mut scratch = vec![0; 64 << 10];
        self.read_some(&mut scratch, deadline)?;
        // All that is there already, without waiting for more.
        while self.receive(Instant::now())?.is_some() {}
        Ok(())
    }

    /// One read; false when nothing came by `deadline`.
    fn read_some(&mut self, scratch: &mut [u8], deadline: Instant) -> Result<bool, String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.stream
                .set_read_timeout(Some(left))
                .map_err(|error| error.to_string())?;
            match self.stream.read(scratch) {
                Ok(0) => return Err(format!("{} closed the connection", self.server)),
                Ok(n) => {
                    self.last_heard = Instant::now();
                    self.ping_waits = false;
                    let bytes = Bytes::copy_from_slice(&scratch[..n]);
                    self.decoder.handle_bytes(&bytes);
                    return Ok(true);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(format!("the connection to {} broke: {error}", self.server));
                }
            }
        }
    }
}

/// An error number on `path` in words, with what to do.
pub fn explain(number: i32, path: &str) -> String {
    let Some(code) = error_code(number) else {
        return format!("{path}: the server answers with error {number}");
    };
    let text = match code {
        ErrorCode::NoNode => "there is no such node (for a create: its parent is missing)",
        ErrorCode::NodeExists => "the node is there already; change it with `althing tree set`",
        ErrorCode::NotEmpty => "the node has children; remove them first, or all with --recursive",
        ErrorCode::NoAuth => {
            "not allowed by its access control list; give credentials with --auth user:password"
        }
        ErrorCode::BadVersion => {
            "its data have another version; read it again (`althing tree stat`)"
        }
        ErrorCode::BadArguments => {
            "not a valid path or value; paths start with / and have no empty, `.` or `..` part"
        }
        ErrorCode::NoChildrenForEphemerals => "the parent is ephemeral and cannot have children",
        ErrorCode::SessionExpired => "the session has expired; try again",
        ErrorCode::SessionMoved => "the session is served elsewhere now; try again",
        ErrorCode::InvalidAcl => "the access control list is not valid",
        ErrorCode::AuthFailed => "the credentials were not accepted",
        ErrorCode::Unimplemented => "the server does not do that",
        ErrorCode::MarshallingError => "the server could not read the request",
        ErrorCode::NoWatcher => "there is no such watch",
        ErrorCode::SystemError => {
            "the server cannot do that now: its disks are nearly full (see its console)"
        }
        ErrorCode::RuntimeInconsistency => "another part of the request failed",
    };
    format!("{path}: {text}")
}
