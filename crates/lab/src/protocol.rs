//! The lab's operations in ZooKeeper's bytes.

use crate::history::{Answer, EventKind, Kind, Life, Op};
use crate::workload::{CREDENTIALS, GUARDED};
use bytes::Bytes;
use coordination::acl::digest_id;
use coordination::{Acl, CreateMode, Identity, TreeOp, permission};
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{body, request};

/// Appends a request.
pub fn encode(out: &mut Vec<u8>, xid: i32, op: &Op) {
    match op {
        Op::Get { path, watch } => request::get_data(out, xid, path, *watch),
        Op::Exists { path, watch } => request::exists(out, xid, path, *watch),
        Op::Children { path, watch } => request::get_children2(out, xid, path, *watch),
        Op::Sync => request::sync(out, xid, "/"),
        Op::AddWatch { path, recursive } => request::add_watch(out, xid, path, *recursive),
        Op::Close => request::close_session(out, xid),
        Op::Multi(ops) => {
            let ops: Vec<_> = ops
                .iter()
                .map(|op| (tree_op(op), WriteShape::WithStat))
                .collect();
            request::multi(out, xid, &ops);
        }
        write => request::write(out, xid, &tree_op(write), WriteShape::WithStat),
    }
}

fn tree_op(op: &Op) -> TreeOp {
    match op {
        Op::Set {
            path,
            value,
            version,
        } => TreeOp::SetData {
            path: path.clone(),
            data: Bytes::copy_from_slice(value.as_bytes()),
            version: *version,
        },
        Op::Create { path, value, kind } => TreeOp::Create {
            path: path.clone(),
            data: Bytes::copy_from_slice(value.as_bytes()),
            acl: vec![acl(path)],
            mode: create_mode(*kind),
        },
        Op::Delete { path, version } => TreeOp::Delete {
            path: path.clone(),
            version: *version,
        },
        Op::Check { path, version } => TreeOp::Check {
            path: path.clone(),
            version: *version,
        },
        other => unreachable!("{other:?} is not a write"),
    }
}

fn create_mode(kind: Kind) -> CreateMode {
    let sequential = kind.sequential;
    match kind.life {
        Life::Persistent => CreateMode::Persistent { sequential },
        Life::Ephemeral => CreateMode::Ephemeral { sequential },
        Life::Container => CreateMode::Container,
        Life::Ttl(ms) => CreateMode::Ttl {
            ttl_ms: i64::from(ms),
            sequential,
        },
    }
}

/// Everybody may do everything, but to the guarded.
fn acl(path: &str) -> Acl {
    if !path.starts_with(GUARDED) {
        return Acl::open();
    }
    Acl {
        permissions: permission::ALL,
        identity: Identity {
            scheme: "digest".into(),
            id: digest_id(CREDENTIALS).expect("there is a colon"),
        },
    }
}

/// Reads the body of a successful reply; the error says what is wrong with it.
pub fn decode(op: &Op, bytes: &Bytes) -> Result<Answer, String> {
    let text = |data: &Bytes| String::from_utf8_lossy(data).into_owned();
    let answer = match op {
        Op::Get { .. } => body::data(bytes).map(|(data, stat)| Answer::Data(text(&data), stat)),
        Op::Exists { .. } | Op::Set { .. } => body::stat(bytes).map(Answer::Stat),
        Op::Children { .. } => {
            body::children_and_stat(bytes).map(|(names, stat)| Answer::Children(names, stat))
        }
        Op::Create { .. } => {
            body::path_and_stat(bytes).map(|(path, stat)| Answer::Created(path, stat))
        }
        Op::Multi(_) => body::multi(bytes).map(Answer::Multi),
        Op::Sync => body::path(bytes).map(|_| Answer::Done),
        Op::AddWatch { .. } => body::error(bytes).map(|_| Answer::Done),
        Op::Delete { .. } | Op::Check { .. } | Op::Close => Ok(Answer::Done),
    };
    answer.map_err(|why| format!("the reply to {op:?} cannot be read: {why}"))
}

/// A notification's kind.
pub fn event_kind(number: i32) -> Option<EventKind> {
    Some(match number {
        1 => EventKind::Created,
        2 => EventKind::Deleted,
        3 => EventKind::DataChanged,
        4 => EventKind::ChildrenChanged,
        _ => return None,
    })
}
