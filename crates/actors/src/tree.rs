//! A session of a ZooKeeper client: requests in a pipeline, another server when one breaks, and how long the session
//! surely lives.
//!
//! A watch that fires, a connection that is made anew and a session that is lost all say the same: something may have
//! changed, look again ([`Session::changes`]).

use bytes::Bytes;
use coordination::leases::certain_life;
use coordination::{Acl, CreateMode, ErrorCode, Stat};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use wire_zookeeper::client::{Decoder, Response, body, request};
use wire_zookeeper::{ConnectRequest, WriteShape, error_code, opcode};

/// Lists of a hundred thousand names fit.
const ANSWER_BYTES_MAX: u32 = 32 << 20;
/// For connecting to one server.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// For the answer to a request, connecting included.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests that wait for a connection.
const REQUESTS_MAX: usize = 1_000;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct TreeError(String);

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tree: {}", self.0)
    }
}

impl std::error::Error for TreeError {}

/// What a conditional write has come to.
#[derive(Clone, Debug)]
pub enum Set {
    /// It is written.
    Done(Stat),
    /// The data have another version.
    OtherVersion,
    /// There is no such node.
    NoNode,
}

/// The session as it is known here.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// 0: there is none now.
    pub id: i64,
    /// When it was last asked for, and the server has answered; µs since the client's start.
    pub asked_us: u64,
    /// For how long from then it surely lives, on clocks that run alike.
    pub lease_us: u64,
    /// Goes up when something may have changed.
    pub changes: u64,
}

type Answer = Result<Bytes, Refusal>;

/// An error number, or words about a connection that broke.
enum Refusal {
    Error(i32),
    Broken(String),
}

/// Appends a request with this xid.
type Write = Box<dyn FnOnce(&mut Vec<u8>, i32) + Send>;

struct Command {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// A client of the tree. It ends with its last clone.
#[derive(Clone)]
pub struct Tree {
    commands: mpsc::Sender<Command>,
    session: watch::Receiver<Session>,
    start: Instant,
    servers: Arc<str>,
}

impl Tree {
    /// Connects to one of the servers (`host:port`, by commas), now and whenever a connection breaks.
    pub fn connect(servers: &str, timeout: Duration) -> Self {
        let (commands, taken) = mpsc::channel(REQUESTS_MAX);
        let (told, session) = watch::channel(Session::default());
        let start = Instant::now();
        let all: Vec<String> = (servers.split(',').map(str::trim))
            .filter(|server| !server.is_empty())
            .map(str::to_owned)
            .collect();
        let keeper = Keeper {
            commands: taken,
            told,
            start,
            timeout,
            resume: Resume::default(),
        };
        tokio::spawn(keeper.keep(all));
        Self {
            commands,
            session,
            start,
            servers: servers.into(),
        }
    }

    /// The session, to look at and to wait for.
    pub fn session(&self) -> watch::Receiver<Session> {
        self.session.clone()
    }

    /// Now, in [`Session::asked_us`]'s terms.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    async fn ask(
        &self,
        path: &str,
        write: impl FnOnce(&mut Vec<u8>, i32) + Send + 'static,
    ) -> Result<Result<Bytes, ErrorCode>, TreeError> {
        let (answer, answered) = oneshot::channel();
        let command = Command {
            write: Box::new(write),
            answer,
        };
        let asked = async {
            let _ = self.commands.send(command).await;
            answered.await
        };
        match tokio::time::timeout(ANSWER_TIME, asked).await {
            Ok(Ok(Ok(body))) => Ok(Ok(body)),
            Ok(Ok(Err(Refusal::Error(number)))) => match error_code(number) {
                Some(
                    code @ (ErrorCode::NoNode | ErrorCode::NodeExists | ErrorCode::BadVersion),
                ) => Ok(Err(code)),
                Some(code) => Err(TreeError(format!("{path}: {code:?}"))),
                None => Err(TreeError(format!("{path}: error {number}"))),
            },
            Ok(Ok(Err(Refusal::Broken(why)))) => Err(TreeError(why)),
            Ok(Err(_)) => Err(TreeError("the client has ended".into())),
            Err(_) => Err(TreeError(format!(
                "no server of {} answered within {ANSWER_TIME:?}",
                self.servers
            ))),
        }
    }

    /// What is at a path.
    pub async fn get(&self, path: &str, watch: bool) -> Result<Option<(Bytes, Stat)>, TreeError> {
        let at = path.to_owned();
        let answer = self.ask(path, move |out, xid| {
            request::get_data(out, xid, &at, watch)
        });
        match answer.await? {
            Ok(answer) => body::data(&answer).map(Some).map_err(unreadable),
            Err(_) => Ok(None),
        }
    }

    /// Names below a path; none where there is no such path.
    pub async fn children(&self, path: &str, watch: bool) -> Result<Vec<String>, TreeError> {
        let at = path.to_owned();
        let answer = self.ask(path, move |out, xid| {
            request::get_children(out, xid, &at, watch);
        });
        match answer.await? {
            Ok(answer) => body::children(&answer).map_err(unreadable),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Creates a node, with its parents; `None` where there is one already.
    pub async fn create(
        &self,
        path: &str,
        data: &[u8],
        is_ephemeral: bool,
    ) -> Result<Option<Stat>, TreeError> {
        match self.create_one(path, data, is_ephemeral).await? {
            Err(ErrorCode::NoNode) => {}
            Err(_) => return Ok(None),
            Ok(stat) => return Ok(Some(stat)),
        }
        for (at, _) in path.match_indices('/').skip(1) {
            // It may be there.
            let _ = self.create_one(&path[..at], b"", false).await?;
        }
        Ok(self.create_one(path, data, is_ephemeral).await?.ok())
    }

    async fn create_one(
        &self,
        path: &str,
        data: &[u8],
        is_ephemeral: bool,
    ) -> Result<Result<Stat, ErrorCode>, TreeError> {
        let (at, data) = (path.to_owned(), data.to_owned());
        let mode = match is_ephemeral {
            true => CreateMode::Ephemeral { sequential: false },
            false => CreateMode::Persistent { sequential: false },
        };
        let answer = self.ask(path, move |out, xid| {
            let shape = WriteShape::WithStat;
            request::create(out, xid, &at, &data, &[Acl::open()], mode, shape);
        });
        match answer.await? {
            Ok(answer) => {
                let created = body::path_and_stat(&answer).map_err(unreadable)?;
                Ok(Ok(created.1))
            }
            Err(code) => Ok(Err(code)),
        }
    }

    /// Replaces data of this version; −1 is any.
    pub async fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Set, TreeError> {
        let (at, data) = (path.to_owned(), data.to_owned());
        let answer = self.ask(path, move |out, xid| {
            request::set_data(out, xid, &at, &data, version);
        });
        match answer.await? {
            Ok(answer) => body::stat(&answer).map(Set::Done).map_err(unreadable),
            Err(ErrorCode::NoNode) => Ok(Set::NoNode),
            Err(_) => Ok(Set::OtherVersion),
        }
    }

    /// Deletes a node; false where there is none.
    pub async fn delete(&self, path: &str) -> Result<bool, TreeError> {
        let at = path.to_owned();
        let answer = self.ask(path, move |out, xid| request::delete(out, xid, &at, -1));
        Ok(answer.await?.is_ok())
    }

    /// What is read behind this is no older than what was committed before.
    pub async fn sync(&self, path: &str) -> Result<(), TreeError> {
        let at = path.to_owned();
        let answer = self.ask(path, move |out, xid| request::sync(out, xid, &at));
        answer.await.map(drop)
    }

    /// Ends the session in order, and with it all ephemeral nodes.
    pub async fn close(&self) -> Result<(), TreeError> {
        let answer = self.ask("/", request::close_session);
        answer.await.map(drop)
    }
}

fn unreadable(error: base::DecodeError) -> TreeError {
    TreeError(format!("the server's answer cannot be read: {error}"))
}

// ---- the connection --------------------------------------------------------------------------

/// What a broken connection leaves for the next one.
#[derive(Default)]
struct Resume {
    session: i64,
    password: Vec<u8>,
    last_zxid: i64,
}

struct Keeper {
    commands: mpsc::Receiver<Command>,
    told: watch::Sender<Session>,
    start: Instant,
    timeout: Duration,
    resume: Resume,
}

struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    timeout: Duration,
}

enum End {
    /// The last clone of the client is gone.
    Unused,
    Broken(String),
}

impl Keeper {
    async fn keep(mut self, servers: Vec<String>) {
        for at in (0..servers.len()).cycle() {
            if self.commands.is_closed() && self.commands.is_empty() {
                return;
            }
            let opened = tokio::time::timeout(CONNECT_TIME, self.open(&servers[at])).await;
            let mut connection = match opened {
                Ok(Ok(Some(connection))) => connection,
                // The session has expired: a new one.
                Ok(Ok(None)) => {
                    self.resume = Resume::default();
                    self.told.send_modify(|session| {
                        session.id = 0;
                        session.changes += 1;
                    });
                    continue;
                }
                Ok(Err(_)) | Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let mut waiting = VecDeque::new();
            let end = self.serve(&mut connection, &mut waiting).await;
            let (why, is_unused) = match end {
                End::Unused => ("the client has ended".to_owned(), true),
                End::Broken(why) => (why, false),
            };
            for asked in waiting.into_iter().filter_map(|asked: Asked| asked.answer) {
                let _ = asked.send(Err(Refusal::Broken(why.clone())));
            }
            if is_unused {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `None`: the session that was to be resumed has expired.
    async fn open(&mut self, server: &str) -> Result<Option<Connection>, String> {
        let asked_us = self.start.elapsed().as_micros() as u64;
        let stream = TcpStream::connect(server).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut connection = Connection {
            stream,
            decoder: Decoder::new(ANSWER_BYTES_MAX),
            timeout: self.timeout,
        };
        let mut out = Vec::new();
        request::connect(
            &mut out,
            &ConnectRequest {
                last_zxid_seen: self.resume.last_zxid,
                timeout_ms: self.timeout.as_millis() as u32,
                session: base::SessionId(self.resume.session),
                // A new session has a password of zeroes.
                password: match self.resume.password.is_empty() {
                    true => vec![0; 16],
                    false => self.resume.password.clone(),
                },
                had_read_only_flag: true,
                ..ConnectRequest::default()
            },
        );
        let sent = connection.stream.write_all(&out).await;
        sent.map_err(|error| error.to_string())?;
        loop {
            match connection.decoder.poll().map_err(|e| e.to_string())? {
                Some(Response::Connect(answer))
                    if answer.session.0 == 0 || answer.timeout_ms <= 0 =>
                {
                    return Ok(None);
                }
                Some(Response::Connect(answer)) => {
                    connection.timeout = Duration::from_millis(answer.timeout_ms as u64);
                    self.resume.session = answer.session.0;
                    self.resume.password = answer.password;
                    self.vouch(asked_us, connection.timeout);
                    return Ok(Some(connection));
                }
                Some(_) => return Err("the server did not open a session".into()),
                None => connection.receive().await?,
            }
        }
    }

    /// The server has answered what was sent then.
    fn vouch(&self, asked_us: u64, timeout: Duration) {
        let is_new = self.told.borrow().id != self.resume.session;
        self.told.send_modify(|session| {
            session.id = self.resume.session;
            session.asked_us = asked_us.max(session.asked_us);
            session.lease_us = certain_life(timeout).as_micros() as u64;
            session.changes += u64::from(is_new);
        });
    }

    async fn serve(&mut self, connection: &mut Connection, waiting: &mut VecDeque<Asked>) -> End {
        // Watches of an earlier connection are gone.
        self.told.send_modify(|session| session.changes += 1);
        let every = connection.timeout / 6;
        let mut next_xid = 1;
        let mut next_ping = Instant::now() + every;
        loop {
            loop {
                let response = match connection.decoder.poll() {
                    Ok(Some(response)) => response,
                    Ok(None) => break,
                    Err(error) => return End::Broken(error.to_string()),
                };
                if let Err(why) = self.handle(response, waiting, connection.timeout) {
                    return End::Broken(why);
                }
            }
            let silent_at = waiting
                .front()
                .map(|asked| asked.sent + connection.timeout * 2 / 3);
            let mut out = Vec::new();
            tokio::select! {
                received = connection.receive() => {
                    if let Err(why) = received {
                        return End::Broken(why);
                    }
                }
                command = self.commands.recv() => {
                    let Some(command) = command else { return End::Unused };
                    (command.write)(&mut out, next_xid);
                    waiting.push_back(Asked::new(next_xid, Some(command.answer)));
                    next_xid = next_xid.wrapping_add(1).max(1);
                }
                () = tokio::time::sleep_until(next_ping) => {
                    request::ping(&mut out);
                    waiting.push_back(Asked::new(opcode::PING_XID, None));
                    next_ping = Instant::now() + every;
                }
                () = tokio::time::sleep_until(silent_at.unwrap_or(next_ping)) => {
                    if silent_at.is_some() {
                        return End::Broken("the server is silent".into());
                    }
                }
            }
            if let Err(error) = connection.stream.write_all(&out).await {
                return End::Broken(error.to_string());
            }
        }
    }

    fn handle(
        &mut self,
        response: Response,
        waiting: &mut VecDeque<Asked>,
        timeout: Duration,
    ) -> Result<(), String> {
        let Response::Reply {
            xid,
            zxid,
            error,
            body,
        } = response
        else {
            self.told.send_modify(|session| session.changes += 1);
            return Ok(());
        };
        self.resume.last_zxid = self.resume.last_zxid.max(zxid);
        // Pings may be answered out of turn.
        let at = waiting.iter().position(|asked| asked.xid == xid);
        let asked = at.and_then(|at| waiting.remove(at));
        let asked = asked.ok_or("the server answers what was not asked")?;
        let code = error_code(error).filter(|_| error != 0);
        if matches!(
            code,
            Some(ErrorCode::SessionMoved | ErrorCode::SessionExpired)
        ) {
            waiting.push_front(asked);
            return Err("the session is served elsewhere now".into());
        }
        let sent = asked.sent.duration_since(self.start);
        self.vouch(sent.as_micros() as u64, timeout);
        if let Some(answer) = asked.answer {
            let _ = answer.send(match error {
                0 => Ok(body),
                error => Err(Refusal::Error(error)),
            });
        }
        Ok(())
    }
}

struct Asked {
    xid: i32,
    sent: Instant,
    answer: Option<oneshot::Sender<Answer>>,
}

impl Asked {
    fn new(xid: i32, answer: Option<oneshot::Sender<Answer>>) -> Self {
        Self {
            xid,
            sent: Instant::now(),
            answer,
        }
    }
}

impl Connection {
    /// Some bytes, into the decoder.
    async fn receive(&mut self) -> Result<(), String> {
        let mut bytes = vec![0; 16 << 10];
        match self.stream.read(&mut bytes).await {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(n) => {
                bytes.truncate(n);
                self.decoder.handle_bytes(&Bytes::from(bytes));
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
