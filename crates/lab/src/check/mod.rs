//! Checkers: pure functions of a [`History`], each yielding what it objects to, in words.

mod cache;
mod files;
mod globals;
mod guarded;
mod hosted;
mod jobs;
mod kafka;
mod locks;
mod log;
mod order;
mod persistent;
mod reaped;
mod register;
mod registers;
mod replicas;
mod services;
mod sessions;
mod transfers;
mod watches;

use crate::history::History;

/// A checker.
pub type Check = fn(&History) -> Vec<String>;

/// Every checker, with its name.
pub const ALL: &[(&str, Check)] = &[
    ("registers", registers::check),
    ("log", log::check),
    ("sessions", sessions::check),
    ("watches", watches::check),
    ("persistent watches", persistent::check),
    ("reaped", reaped::check),
    ("guarded", guarded::check),
    ("replicas", replicas::check),
    ("cache registers", cache::registers::check),
    ("cache counts", cache::counts::check),
    ("cache accounts", cache::accounts::check),
    ("cache lists", cache::lists::check),
    ("cache mortals", cache::mortals::check),
    ("cache replicas", cache::replicas::check),
    ("topics' logs", kafka::logs::check),
    ("topics' bounds", kafka::bounds::check),
    ("groups", kafka::groups::check),
    ("groups' positions", kafka::positions::check),
    ("locks", locks::check),
    ("transfers", transfers::check),
    ("services", services::check),
    ("jobs", jobs::check),
    ("global transactions", globals::check),
    ("files", files::check),
    ("groups of nodes", hosted::check),
];

/// Everything that any checker objects to.
pub fn all(history: &History) -> Vec<String> {
    let mut objections: Vec<String> = history
        .complaints
        .iter()
        .map(|complaint| format!("protocol: {complaint}"))
        .collect();
    for (name, check) in ALL {
        objections.extend(check(history).into_iter().map(|o| format!("{name}: {o}")));
    }
    objections
}

#[cfg(test)]
pub(crate) mod build {
    //! Small histories for the checkers' tests.

    use crate::history::*;
    use base::SessionId;
    use coordination::Stat;
    use node::ClientId;

    pub fn session(history: &mut History, timeout_ms: u64) -> SessionNumber {
        history.sessions.push(Session {
            client: history.sessions.len(),
            id: SessionId(history.sessions.len() as i64 + 1),
            credentials: false,
            timeout_ms,
            vouched_us: 0,
            ending: None,
        });
        history.sessions.len() - 1
    }

    /// An operation with its reply (at, zxid, result), also on the tape.
    pub fn op(
        history: &mut History,
        session: SessionNumber,
        connection: u64,
        invoked_us: u64,
        op: Op,
        reply: Option<(u64, i64, Result<Answer, i32>)>,
    ) -> OperationId {
        let id = history.operations.len();
        let answered = reply.as_ref().map(|(at_us, ..)| *at_us);
        history.operations.push(Operation {
            session,
            connection: ClientId(connection),
            invoked_us,
            op,
            synced_by: None,
            ghost: false,
            reply: reply.map(|(at_us, zxid, result)| Reply {
                at_us,
                zxid,
                result,
            }),
        });
        if let Some(at_us) = answered {
            line(history, session, connection, at_us, Seen::Reply(id));
        }
        id
    }

    pub fn line(history: &mut History, session: SessionNumber, conn: u64, at_us: u64, seen: Seen) {
        history.tape.push(Line {
            at_us,
            session,
            connection: ClientId(conn),
            seen,
        });
    }

    pub fn set(path: &str, value: &str) -> Op {
        Op::Set {
            path: path.into(),
            value: value.into(),
            version: -1,
        }
    }

    pub fn get(path: &str, watch: bool) -> Op {
        Op::Get {
            path: path.into(),
            watch,
        }
    }

    pub fn create(path: &str, value: &str, ephemeral: bool, sequential: bool) -> Op {
        Op::Create {
            path: path.into(),
            value: value.into(),
            kind: Kind {
                life: if ephemeral {
                    Life::Ephemeral
                } else {
                    Life::Persistent
                },
                sequential,
            },
        }
    }

    pub fn stat(mzxid: i64, version: i32) -> Stat {
        Stat {
            mzxid,
            czxid: mzxid,
            pzxid: mzxid,
            version,
            ..Stat::default()
        }
    }
}
