//! A lock on the cache, as a Redis client: it works on any Redis without scripts, too.

use super::{Lock, Target, Wanted};
use crate::redis::Connection;
use crate::{Failure, Outcome, failed, table};
use coordination::lock::State;
use coordination::lock::cache::{Contender, Keys, Reply};
use std::time::{Duration, Instant};
use wire_redis::client::Value;

const DEFAULT_SERVER: &str = "127.0.0.1:6379";
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const ROUND: Duration = Duration::from_millis(20);
/// A server that does not answer is waited for this long beyond the time to wait for the lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// One contender and its connection.
pub struct CacheLock {
    servers: Vec<String>,
    name: String,
    id: String,
    ttl_ms: u64,
    contender: Contender,
    connection: Option<Connection>,
    /// Answers are to come.
    is_asked: bool,
    /// Time 0 of the contender's clock.
    start: Instant,
}

fn servers(target: &Target) -> &str {
    target.server.as_deref().unwrap_or(DEFAULT_SERVER)
}

impl CacheLock {
    /// Connects.
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        let servers = servers(wanted.target);
        let ttl_ms = wanted.ttl.as_millis() as u64;
        let (name, id) = (wanted.target.name.clone(), wanted.id.to_owned());
        Ok(Self {
            contender: Contender::new(&name, &id, ttl_ms, u64::MAX),
            name,
            id,
            ttl_ms,
            connection: Some(Connection::open(servers)?),
            is_asked: false,
            start: Instant::now(),
            servers: servers.split(',').map(str::to_owned).collect(),
        })
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Sends what is to be sent, and waits for answers for up to `time`.
    fn round(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        let Some(connection) = &mut self.connection else {
            match Connection::open(&self.servers.join(",")) {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.is_asked = false;
                    self.contender.handle_reconnected();
                }
                Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
            return Ok(());
        };
        if !self.is_asked {
            let now_ms = self.start.elapsed().as_millis() as u64;
            let Some(batch) = self.contender.poll_request(now_ms) else {
                std::thread::sleep(time);
                return Ok(());
            };
            let wait = Duration::from_millis(batch.wait_ms);
            self.is_asked = connection.send(&batch.commands, wait).is_ok();
            if !self.is_asked {
                self.broken();
                return Ok(());
            }
        }
        match connection.poll(until) {
            Ok(None) => Ok(()),
            Ok(Some(values)) => {
                self.is_asked = false;
                let replies = values.iter().map(reply).collect();
                let now_ms = self.now_ms();
                self.contender
                    .handle_replies(now_ms, replies)
                    .map_err(|why| failed(format!("{}: the server answers: {why}", self.name)))
            }
            Err(_) => {
                self.broken();
                Ok(())
            }
        }
    }

    fn broken(&mut self) {
        self.connection = None;
        self.servers.rotate_left(1);
    }
}

fn reply(value: &Value) -> Reply {
    match value {
        Value::Status(_) => Reply::Done,
        Value::Integer(number) => Reply::Number(*number),
        Value::Bulk(bytes) => Reply::Text(bytes.to_vec()),
        Value::Array(values) => Reply::Many(values.iter().map(reply).collect()),
        Value::Error(why) => Reply::Refused(String::from_utf8_lossy(why).into_owned()),
        _ => Reply::Nil,
    }
}

impl Lock for CacheLock {
    fn take(
        &mut self,
        until: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Failure> {
        let give_up_ms = until.map_or(u64::MAX, |until| {
            (until.saturating_duration_since(self.start)).as_millis() as u64
        });
        self.contender = Contender::new(&self.name, &self.id, self.ttl_ms, give_up_ms);
        loop {
            self.round(ROUND)?;
            match self.contender.state() {
                State::Held(fence) => return Ok(Some(*fence)),
                State::Released | State::Lost(_) => return Ok(None),
                State::Waiting => {}
            }
            let is_late = until.is_some_and(|until| Instant::now() > until + PATIENCE);
            if is_late || is_over() {
                // What it sleeps on has no answer yet.
                self.connection = None;
                self.release();
                return Ok(None);
            }
        }
    }

    fn keep(&mut self, time: Duration) -> Result<Instant, String> {
        self.round(time).map_err(Failure::words)?;
        match self.contender.state() {
            State::Lost(why) => Err((*why).to_owned()),
            State::Held(_) => {
                Ok(self.start + Duration::from_millis(self.contender.lease_until_ms()))
            }
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
    }
}

// ---- looking and breaking --------------------------------------------------------------------

fn text(value: &Value) -> Option<String> {
    let bytes = value.as_bytes()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn ask(target: &Target, commands: &[Vec<&str>]) -> Result<Vec<Value>, Failure> {
    let mut connection = Connection::open(servers(target))?;
    let answers = connection.ask(commands).map_err(failed)?;
    for answer in &answers {
        if let Some(why) = answer.as_error() {
            let why = String::from_utf8_lossy(why);
            return Err(failed(format!(
                "{}: the server answers: {why}",
                target.name
            )));
        }
    }
    Ok(answers)
}

/// Prints who holds it and who waits.
pub fn show(target: &Target) -> Outcome {
    let keys = Keys::new(&target.name);
    let (owner, fence, queue) = (keys.owner(), keys.fence(), keys.queue());
    let commands = [
        vec!["MULTI"],
        vec!["GET", &owner],
        vec!["PTTL", &owner],
        vec!["GET", &fence],
        vec!["LRANGE", &queue, "0", "-1"],
        vec!["EXEC"],
    ];
    let answers = ask(target, &commands)?;
    let Some([owner, left, fence, queue]) = answers.last().and_then(Value::as_items) else {
        return Err(failed("the server's answer cannot be read"));
    };
    let mut rows = Vec::new();
    if let Some(owner) = text(owner) {
        let state = format!("holds it for {} ms more", left.as_integer().unwrap_or(0));
        rows.push(vec![
            "0".into(),
            state,
            text(fence).unwrap_or_default(),
            owner,
        ]);
    }
    let waiting = queue.as_items().unwrap_or_default().iter().filter_map(text);
    for (index, id) in waiting.enumerate() {
        rows.push(vec![
            (index + 1).to_string(),
            "waits".into(),
            String::new(),
            id,
        ]);
    }
    match rows.is_empty() {
        true => println!("{} is free", target.name),
        false => {
            let heads = ["PLACE", "STATE", "FENCE", "CONTENDER"];
            print!("{}", table::render(&heads, &rows));
        }
    }
    Ok(())
}

/// Removes the owner; the first waiter looks at once.
pub fn break_lock(target: &Target) -> Outcome {
    let keys = Keys::new(&target.name);
    let (owner, queue) = (keys.owner(), keys.queue());
    let look = [vec!["GET", &owner], vec!["LRANGE", &queue, "0", "0"]];
    let seen = ask(target, &look)?;
    let Some(was) = text(&seen[0]) else {
        println!("{} is free", target.name);
        return Ok(());
    };
    let first = seen[1]
        .as_items()
        .and_then(|items| items.first())
        .and_then(text);
    let wake = first.map(|id| keys.wake(&id));
    let mut commands = vec![vec!["MULTI"], vec!["DEL", &owner]];
    if let Some(wake) = &wake {
        commands.push(vec!["RPUSH", wake, "1"]);
        commands.push(vec!["PEXPIRE", wake, "10000"]);
    }
    commands.push(vec!["EXEC"]);
    ask(target, &commands)?;
    println!("{was} does not hold {} any more", target.name);
    Ok(())
}
