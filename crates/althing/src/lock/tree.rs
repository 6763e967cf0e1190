//! A lock on the tree, as a ZooKeeper client: it works on any ZooKeeper, too.

use super::{Lock, Target, Wanted};
use crate::zookeeper::{Connected, Refusal, Resume, SESSION_TIMEOUT_MS, Session, explain};
use crate::{Failure, Outcome, failed, table};
use bytes::Bytes;
use coordination::lock::tree::{Contender, Names, Place, Reply, Request, queue, waits_for};
use coordination::lock::{Mode, State};
use coordination::{Acl, CreateMode, ErrorCode};
use std::time::{Duration, Instant};
use wire_zookeeper::client::{body, request};
use wire_zookeeper::{WriteShape, error_code};

const DEFAULT_SERVER: &str = "127.0.0.1:2181";
const EVENT_DELETED: i32 = 2;
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How often a holder asks whether its node is still there.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
const ROUND: Duration = Duration::from_millis(50);

/// One contender and its session.
pub struct TreeLock {
    servers: Vec<String>,
    auth: Option<String>,
    ttl_ms: u32,
    directory: String,
    label: String,
    mode: Mode,
    names: Names,
    /// Contenders of this process so far; each has an id of its own.
    attempts: u32,
    contender: Contender,
    session: Option<Box<Session>>,
    /// The session to go on with, while there is no connection.
    resume: Option<Resume>,
    /// Until when it lives, as far as is known.
    lives_until: Instant,
    confirmed: Instant,
}

/// The node of a lock.
fn directory(target: &Target) -> Result<String, Failure> {
    let name = target.name.trim_end_matches('/');
    let path = match name.starts_with('/') {
        true => name.to_owned(),
        false => format!("/locks/{name}"),
    };
    if name.is_empty() || path.contains("//") {
        let text = format!("{} is no name of a lock: it has an empty part", target.name);
        return Err(Failure::Usage(text));
    }
    Ok(path)
}

fn servers(target: &Target) -> Vec<String> {
    let text = target.server.as_deref().unwrap_or(DEFAULT_SERVER);
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts.map(str::to_owned).collect()
}

impl TreeLock {
    /// Connects.
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        let directory = directory(wanted.target)?;
        let mut lock = Self {
            servers: servers(wanted.target),
            auth: wanted.target.auth.clone(),
            ttl_ms: wanted.ttl.as_millis() as u32,
            label: wanted.id.to_owned(),
            mode: wanted.mode,
            names: wanted.names,
            attempts: 0,
            contender: contender(&directory, wanted.id, 0, wanted.mode, wanted.names)?,
            directory,
            session: None,
            resume: None,
            lives_until: Instant::now(),
            confirmed: Instant::now(),
        };
        lock.connect()?;
        Ok(lock)
    }

    /// One attempt to have a connection.
    fn connect(&mut self) -> Result<(), Failure> {
        let servers = self.servers.join(",");
        let auth = self.auth.as_deref();
        match Session::connect(&servers, auth, self.resume.as_ref(), self.ttl_ms)? {
            Connected::Open(session) => {
                // When nothing was asked before, there is nothing to look for either, and nothing is asked twice.
                if self.resume.is_some() {
                    self.contender.handle_reconnected();
                }
                self.lives_until = session.lives_until();
                self.session = Some(session);
            }
            Connected::Expired => {
                self.contender.handle_expired();
                self.resume = None;
            }
        }
        Ok(())
    }

    fn broken(&mut self) {
        if let Some(session) = self.session.take() {
            self.resume = Some(session.resume());
            // Another one first.
            self.servers.rotate_left(1);
        }
    }

    /// Asks whatever the contender wants to know, hears what was told, and waits for more for up to `time`.
    fn round(&mut self, time: Duration) -> Result<(), Failure> {
        let Some(session) = &mut self.session else {
            if self.connect().is_err() {
                std::thread::sleep(RECONNECT_PAUSE);
            }
            return Ok(());
        };
        while let Some(request) = self.contender.poll_request() {
            match ask(session, &request, &self.label) {
                Ok(reply) => self.contender.handle_reply(reply),
                Err(Refusal::Error(number)) => {
                    return match error_code(number) {
                        Some(ErrorCode::SessionMoved | ErrorCode::SessionExpired) => {
                            self.broken();
                            Ok(())
                        }
                        _ => Err(failed(explain(number, &self.directory))),
                    };
                }
                Err(Refusal::Broken(_)) => {
                    self.broken();
                    return Ok(());
                }
            }
        }
        let is_over = matches!(self.contender.state(), State::Released | State::Lost(_));
        if !is_over && session.idle(time).is_err() {
            self.broken();
            return Ok(());
        }
        self.lives_until = session.lives_until();
        while let Some(event) = session.take_event() {
            if event.kind == EVENT_DELETED {
                self.contender.handle_deleted(&event.path);
            }
        }
        Ok(())
    }
}

fn contender(
    directory: &str,
    id: &str,
    attempt: u32,
    mode: Mode,
    names: Names,
) -> Result<Contender, Failure> {
    let id = format!("{id}.{attempt}");
    Contender::new(directory, &id, mode, names).ok_or_else(|| {
        Failure::Usage("Curator's InterProcessMutex is exclusive: no --shared with it".into())
    })
}

fn ask(session: &mut Session, request: &Request, label: &str) -> Result<Reply, Refusal> {
    let acl = [Acl::open()];
    let answer = session.ask(|out, xid| match request {
        Request::Ensure { path, is_container } => {
            let mode = match is_container {
                true => CreateMode::Container,
                false => CreateMode::Persistent { sequential: false },
            };
            request::create(out, xid, path, b"", &acl, mode, WriteShape::WithStat);
        }
        Request::Create { path } => {
            let mode = CreateMode::Ephemeral { sequential: true };
            let data = label.as_bytes();
            request::create(out, xid, path, data, &acl, mode, WriteShape::WithStat);
        }
        Request::Sync { path } => request::sync(out, xid, path),
        Request::List { path } => request::get_children(out, xid, path, false),
        Request::Exists { path, watch } => request::exists(out, xid, path, *watch),
        Request::Delete { path } => request::delete(out, xid, path, -1),
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(Refusal::Error(number)) => {
            return match (error_code(number), request) {
                (Some(ErrorCode::NoNode), _) => Ok(Reply::NoNode),
                (Some(ErrorCode::NodeExists), Request::Ensure { .. }) => Ok(Reply::Done),
                _ => Err(Refusal::Error(number)),
            };
        }
        Err(broken) => return Err(broken),
    };
    let reply = match request {
        Request::Ensure { .. } | Request::Sync { .. } | Request::Delete { .. } => Ok(Reply::Done),
        Request::Create { .. } => body::path_and_stat(&answer).map(|(path, stat)| Reply::Created {
            path,
            czxid: stat.czxid,
        }),
        Request::List { .. } => body::children(&answer).map(Reply::Children),
        Request::Exists { .. } => {
            body::stat(&answer).map(|stat| Reply::Found { czxid: stat.czxid })
        }
    };
    reply.map_err(|why| Refusal::Broken(format!("the server's answer cannot be read: {why}")))
}

impl Lock for TreeLock {
    fn take(
        &mut self,
        until: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Failure> {
        let mut is_leaving_since = None;
        loop {
            self.round(ROUND)?;
            let now = Instant::now();
            match self.contender.state() {
                State::Held(fence) => return Ok(Some(*fence)),
                State::Released => {
                    self.release();
                    return Ok(None);
                }
                // The place in the queue is lost; the end of it is free.
                State::Lost(_) if is_leaving_since.is_none() => {
                    self.attempts += 1;
                    let (mode, names) = (self.mode, self.names);
                    self.contender =
                        contender(&self.directory, &self.label, self.attempts, mode, names)?;
                }
                State::Lost(_) => return Ok(None),
                State::Waiting => {}
            }
            match is_leaving_since {
                // The node goes with the session, at the latest.
                Some(since) if now > since + Duration::from_secs(2) => return Ok(None),
                Some(_) => {}
                None => {
                    let is_late = until.is_some_and(|until| now >= until);
                    let has_looked = self.contender.waits_for().is_some() || self.session.is_none();
                    if is_over() || is_late && has_looked {
                        is_leaving_since = Some(now);
                        self.contender.release();
                    }
                }
            }
        }
    }

    fn keep(&mut self, time: Duration) -> Result<Instant, String> {
        if self.confirmed.elapsed() > CONFIRM_EVERY {
            self.confirmed = Instant::now();
            self.contender.confirm();
        }
        self.round(time).map_err(Failure::words)?;
        match self.contender.state() {
            State::Lost(why) => Err((*why).to_owned()),
            State::Held(_) => Ok(self.lives_until),
            State::Waiting | State::Released => Err("it is not held".to_owned()),
        }
    }

    fn release(&mut self) {
        self.contender.release();
        let give_up = Instant::now() + Duration::from_secs(2);
        while matches!(self.contender.state(), State::Held(_) | State::Waiting)
            && Instant::now() < give_up
            && self.round(ROUND).is_ok()
        {}
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

// ---- looking and breaking --------------------------------------------------------------------

fn open(target: &Target) -> Result<Box<Session>, Failure> {
    let servers = servers(target).join(",");
    match Session::connect(&servers, target.auth.as_deref(), None, SESSION_TIMEOUT_MS)? {
        Connected::Open(session) => Ok(session),
        Connected::Expired => Err(failed("the server did not open a session; try again")),
    }
}

/// The answer; none where there is no such node.
fn look<T>(
    session: &mut Session,
    path: &str,
    write: impl FnOnce(&mut Vec<u8>, i32),
    read: impl FnOnce(&Bytes) -> Result<T, base::DecodeError>,
) -> Result<Option<T>, Failure> {
    match session.ask(write) {
        Ok(answer) => read(&answer)
            .map(Some)
            .map_err(|why| failed(format!("the server's answer cannot be read: {why}"))),
        Err(Refusal::Error(number)) if error_code(number) == Some(ErrorCode::NoNode) => Ok(None),
        Err(Refusal::Error(number)) => Err(failed(explain(number, path))),
        Err(Refusal::Broken(why)) => Err(failed(why)),
    }
}

/// The queue as it is now, behind all that was committed.
fn places(session: &mut Session, directory: &str) -> Result<Vec<Place>, Failure> {
    let sync = |out: &mut Vec<u8>, xid| request::sync(out, xid, directory);
    look(session, directory, sync, |_| Ok(()))?;
    let list = |out: &mut Vec<u8>, xid| request::get_children(out, xid, directory, false);
    let names = look(session, directory, list, body::children)?;
    Ok(queue(&names.unwrap_or_default()))
}

/// Prints the queue.
pub fn show(target: &Target) -> Outcome {
    let directory = directory(target)?;
    let mut session = open(target)?;
    let places = places(&mut session, &directory)?;
    let mut rows = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let path = format!("{directory}/{}", place.name);
        let get = |out: &mut Vec<u8>, xid| request::get_data(out, xid, &path, false);
        let Some((data, stat)) = look(&mut session, &path, get, body::data)? else {
            continue;
        };
        let state = match waits_for(&places, index) {
            None => "holds it".to_owned(),
            Some(before) => format!("waits for {}", before.number),
        };
        let mode = match place.mode {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
        };
        rows.push(vec![
            place.number.to_string(),
            mode.to_owned(),
            state,
            stat.czxid.to_string(),
            String::from_utf8_lossy(&data).into_owned(),
        ]);
    }
    session.close();
    match rows.is_empty() {
        true => println!("{directory} is free"),
        false => {
            let heads = ["PLACE", "MODE", "STATE", "FENCE", "CONTENDER"];
            print!("{}", table::render(&heads, &rows));
        }
    }
    Ok(())
}

/// Removes the nodes of whoever holds it.
pub fn break_lock(target: &Target) -> Outcome {
    let directory = directory(target)?;
    let mut session = open(target)?;
    let places = places(&mut session, &directory)?;
    let mut broken = 0;
    for (index, place) in places.iter().enumerate() {
        if waits_for(&places, index).is_none() {
            let path = format!("{directory}/{}", place.name);
            let delete = |out: &mut Vec<u8>, xid| request::delete(out, xid, &path, -1);
            if look(&mut session, &path, delete, |_| Ok(()))?.is_some() {
                broken += 1;
                println!("{} does not hold {directory} any more", place.name);
            }
        }
    }
    session.close();
    if broken == 0 {
        println!("{directory} is free");
    }
    Ok(())
}
