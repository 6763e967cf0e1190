//! What a shard's leader does about global transactions: it makes the calls that their state wants, and
//! proposes what came of them. It remembers only which calls are under way; a new leader begins with none, and
//! makes all that are wanted again.

use super::REQUEST_TIMEOUT_MS;
use super::command::{Command, Outcome};
use super::machine::Globals;
use super::model::{Branch, Call, Global, Kind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Calls under way at a time; others wait.
pub const CALLS_MAX: usize = 512;
/// Of those, calls of one host and port, so that one that does not answer leaves room for others.
pub const CALLS_OF_ONE_MAX: usize = 64;
/// Transactions whose time has come that are woken at a time; the rest follow.
const WOKEN_MAX: usize = 500;

/// A request to a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// With gid, kind, branch and operation behind the question mark.
    pub url: String,
    /// As the transaction's initiator wants them, and the type of the body.
    pub headers: Vec<(String, String)>,
    /// The branch's data.
    pub body: Bytes,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Todo {
    /// Make a call, and tell [`Driver::handle_called`].
    Call {
        /// To be named there.
        number: u64,
        /// What to send.
        request: Request,
    },
    /// Propose this. If it is lost it is due again.
    Propose(Command),
}

/// A result that was proposed and not applied for so long is proposed again, in milliseconds.
const TOLD_MS: i64 = 2_000;

/// Which operation of which transaction.
type Place = (String, u32);

#[derive(Debug)]
struct UnderWay {
    place: Place,
    attempt: u64,
    host: String,
}

/// How far a call is that the state still wants.
#[derive(Debug)]
struct Made {
    attempt: u64,
    /// What came of it, and when that was proposed; `None` while it is under way.
    told: Option<(Outcome, i64)>,
}

/// A leader's memory.
#[derive(Debug, Default)]
pub struct Driver {
    last: u64,
    under_way: BTreeMap<u64, UnderWay>,
    made: BTreeMap<Place, Made>,
    hosts: BTreeMap<String, usize>,
}

impl Driver {
    /// The shard is not led here any more: what is heard from now on is of no use.
    pub fn forget(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }

    /// Calls under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What is to be done now.
    pub fn poll(&mut self, globals: &Globals, time_ms: i64) -> Vec<Todo> {
        let mut todo = Vec::new();
        let gids = globals.due(time_ms, WOKEN_MAX);
        if !gids.is_empty() {
            todo.push(Todo::Propose(Command::Wake { gids }));
        }
        self.made.retain(|place, made| {
            let is_wanted = is_wanted(globals, place, made.attempt);
            if let Some((outcome, told_ms)) = &mut made.told
                && is_wanted
                && time_ms >= *told_ms + TOLD_MS
            {
                *told_ms = time_ms;
                todo.push(Todo::Propose(called(place, made.attempt, outcome.clone())));
            }
            is_wanted
        });
        for (gid, index, attempt) in globals.wanted() {
            if self.under_way.len() >= CALLS_MAX {
                break;
            }
            let place = (gid.clone(), index);
            let Some(global) = globals.get(gid) else {
                continue;
            };
            let branch = &global.branches[index as usize];
            let host = host_of(&branch.url);
            let of_host = self.hosts.get(host).copied().unwrap_or_default();
            if self.made.contains_key(&place) || of_host >= CALLS_OF_ONE_MAX {
                continue;
            }
            self.hosts.insert(host.to_owned(), of_host + 1);
            self.last += 1;
            self.made.insert(
                place.clone(),
                Made {
                    attempt,
                    told: None,
                },
            );
            let under_way = UnderWay {
                place,
                attempt,
                host: host.to_owned(),
            };
            self.under_way.insert(self.last, under_way);
            todo.push(Todo::Call {
                number: self.last,
                request: request(gid, global, branch),
            });
        }
        todo
    }

    /// A call has ended: what to propose. `None`: nobody waits for it.
    pub fn handle_called(
        &mut self,
        number: u64,
        outcome: Outcome,
        time_ms: i64,
    ) -> Option<Command> {
        let ended = self.under_way.remove(&number)?;
        if let Some(count) = self.hosts.get_mut(&ended.host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&ended.host);
            }
        }
        let made = self.made.get_mut(&ended.place);
        let made = made.filter(|made| made.attempt == ended.attempt)?;
        made.told = Some((outcome.clone(), time_ms));
        Some(called(&ended.place, ended.attempt, outcome))
    }
}

fn is_wanted(globals: &Globals, (gid, index): &Place, attempt: u64) -> bool {
    let branch = globals
        .get(gid)
        .and_then(|g| g.branches.get(*index as usize));
    branch.is_some_and(
        |b| matches!(b.call, Call::Wanted { attempt: wanted, .. } if wanted == attempt),
    )
}

fn called((gid, index): &Place, attempt: u64, outcome: Outcome) -> Command {
    Command::Called {
        gid: gid.clone(),
        index: *index,
        attempt,
        outcome,
    }
}

fn host_of(url: &str) -> &str {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn request(gid: &str, global: &Global, branch: &Branch) -> Request {
    let bare = branch.url.split('#').next().unwrap_or_default();
    let mut url = bare.to_owned();
    let words = [
        ("gid", gid),
        ("trans_type", global.kind.name()),
        ("branch_id", &branch.id),
        ("op", branch.op.name()),
    ];
    for (at, (name, value)) in words.into_iter().enumerate() {
        url.push(if at > 0 || bare.contains('?') {
            '&'
        } else {
            '?'
        });
        url.push_str(name);
        url.push('=');
        put_encoded(value, &mut url);
    }
    let mut headers = global.options.headers.clone();
    let has_type = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !has_type {
        headers.push(("Content-Type".into(), "application/json".into()));
    }
    let posts = !branch.data.is_empty() || global.kind == Kind::Xa;
    Request {
        method: if posts { "POST" } else { "GET" },
        url,
        headers,
        body: branch.data.clone(),
        timeout_ms: match global.options.request_timeout_ms {
            0 => REQUEST_TIMEOUT_MS,
            own => own,
        },
    }
}

fn put_encoded(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// What an answer means. Its code decides; under 200 the words of older libraries do. What says neither is not
/// known: a proxy's error page is no refusal.
pub fn judge(code: u16, body: &str) -> Outcome {
    let words = || format!("HTTP {code}: {}", body.trim());
    match code {
        425 => Outcome::Ongoing,
        409 => Outcome::Refused(words()),
        200 if body.contains("ONGOING") => Outcome::Ongoing,
        200 if body.contains("FAILURE") => Outcome::Refused(words()),
        200 => Outcome::Done,
        _ => Outcome::Unknown(words()),
    }
}
