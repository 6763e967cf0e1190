//! The tree, where a stream's processes meet: a session that is taken up again when its connection breaks.

use crate::zookeeper::{Connected, Refusal, Resume, Session, explain};
use bytes::Bytes;
use coordination::{Acl, CreateMode, ErrorCode, Stat};
use std::time::Duration;
use wire_zookeeper::client::{body, request};
use wire_zookeeper::{WriteShape, error_code};

/// How long another attempt to connect waits.
const PAUSE: Duration = Duration::from_millis(100);

/// A session, or what is left of it.
pub struct Tree {
    servers: Vec<String>,
    timeout_ms: u32,
    session: Option<Box<Session>>,
    resume: Option<Resume>,
    /// Counts sessions: what was ephemeral under an earlier number is gone.
    generation: u64,
}

impl Tree {
    /// To be connected when it is used first. `servers` are `host:port`, with commas.
    pub fn new(servers: &str, timeout_ms: u32) -> Self {
        Self {
            servers: servers.split(',').map(str::to_owned).collect(),
            timeout_ms,
            session: None,
            resume: None,
            generation: 0,
        }
    }

    /// Which session this is, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Connects where it is not connected.
    ///
    /// # Errors
    /// No server takes the session now.
    pub fn connect(&mut self) -> Result<(), String> {
        if self.session.is_some() {
            return Ok(());
        }
        let servers = self.servers.join(",");
        loop {
            let resume = self.resume.as_ref();
            match Session::connect(&servers, None, resume, self.timeout_ms) {
                Ok(Connected::Open(session)) => {
                    self.generation += u64::from(resume.is_none());
                    self.session = Some(session);
                    return Ok(());
                }
                Ok(Connected::Expired) if self.resume.is_some() => self.resume = None,
                Ok(Connected::Expired) => return Err("no server opens a session".to_owned()),
                Err(failure) => return Err(failure.words()),
            }
        }
    }

    /// Asks; nothing where the tree says that it is not so (no such node, or there is one already).
    fn ask(
        &mut self,
        path: &str,
        write: impl FnOnce(&mut Vec<u8>, i32),
    ) -> Result<Option<Bytes>, String> {
        self.connect()?;
        let Some(session) = &mut self.session else {
            return Err("no session".to_owned());
        };
        match session.ask(write) {
            Ok(answer) => Ok(Some(answer)),
            Err(Refusal::Error(number)) => match error_code(number) {
                Some(ErrorCode::NoNode | ErrorCode::NodeExists | ErrorCode::BadVersion) => Ok(None),
                Some(ErrorCode::SessionExpired | ErrorCode::SessionMoved) => {
                    self.broke();
                    Err(explain(number, path))
                }
                _ => Err(explain(number, path)),
            },
            Err(Refusal::Broken(why)) => {
                self.broke();
                Err(why)
            }
        }
    }

    fn broke(&mut self) {
        if let Some(session) = self.session.take() {
            self.resume = Some(session.resume());
            self.servers.rotate_left(1);
        }
    }

    /// A node's data, behind all that was committed before.
    ///
    /// # Errors
    /// The tree cannot be asked.
    pub fn get(&mut self, path: &str) -> Result<Option<(Bytes, Stat)>, String> {
        self.ask(path, |out, xid| request::sync(out, xid, path))?;
        let answer = self.ask(path, |out, xid| request::get_data(out, xid, path, false))?;
        answer.map(|answer| read(body::data(&answer))).transpose()
    }

    /// The names below a node, none where it is not there.
    ///
    /// # Errors
    /// The tree cannot be asked.
    pub fn children(&mut self, path: &str) -> Result<Vec<String>, String> {
        let answer = self.ask(path, |out, xid| {
            request::get_children(out, xid, path, false)
        })?;
        answer.map_or(Ok(Vec::new()), |answer| read(body::children(&answer)))
    }

    /// Makes a node; false where there is one.
    ///
    /// # Errors
    /// The tree cannot be asked; then it may be there.
    pub fn create(&mut self, path: &str, data: &[u8], is_ephemeral: bool) -> Result<bool, String> {
        let mode = match is_ephemeral {
            true => CreateMode::Ephemeral { sequential: false },
            false => CreateMode::Persistent { sequential: false },
        };
        let acl = [Acl::open()];
        let answer = self.ask(path, |out, xid| {
            request::create(out, xid, path, data, &acl, mode, WriteShape::WithStat);
        })?;
        Ok(answer.is_some())
    }

    /// Puts a node's data; false where there is none.
    ///
    /// # Errors
    /// The tree cannot be asked; then it may be done.
    pub fn set(&mut self, path: &str, data: &[u8]) -> Result<bool, String> {
        let answer = self.ask(path, |out, xid| request::set_data(out, xid, path, data, -1))?;
        Ok(answer.is_some())
    }

    /// Removes a node, if it is there.
    ///
    /// # Errors
    /// The tree cannot be asked, or the node has others below it.
    pub fn remove(&mut self, path: &str) -> Result<(), String> {
        self.ask(path, |out, xid| request::delete(out, xid, path, -1))
            .map(drop)
    }

    /// Keeps the session for so long, as far as that can be.
    pub fn idle(&mut self, time: Duration) {
        if self.connect().is_err() {
            return std::thread::sleep(PAUSE.min(time));
        }
        if let Some(session) = &mut self.session
            && session.idle(time).is_err()
        {
            self.broke();
        }
    }

    /// Ends the session, and with it what was ephemeral.
    pub fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

fn read<T>(found: Result<T, base::DecodeError>) -> Result<T, String> {
    found.map_err(|why| format!("the server's answer cannot be read: {why}"))
}
