//! Requests to bytes, each appended to a buffer as one frame. Arguments are borrowed: nothing is allocated
//! but the buffer's growth.

use crate::jute::{Out, frame};
use crate::opcode;
use crate::request::{ConnectRequest, Request, WatchKind, WriteShape};
use coordination::{Acl, CreateMode, Query, TreeOp};

/// A four-letter word, instead of everything else.
pub fn word(out: &mut Vec<u8>, word: [u8; 4]) {
    out.extend_from_slice(&word);
}

/// Opens or resumes a session; the first frame.
pub fn connect(out: &mut Vec<u8>, connect: &ConnectRequest) {
    frame(out, |out| {
        out.i32(connect.protocol_version);
        out.i64(connect.last_zxid_seen);
        out.i32(i32::try_from(connect.timeout_ms).unwrap_or(i32::MAX));
        out.i64(connect.session.0).buffer(&connect.password);
        if connect.had_read_only_flag {
            out.bool(connect.read_only);
        }
    });
}

/// Keeps the session alive.
pub fn ping(out: &mut Vec<u8>) {
    request(out, opcode::PING_XID, opcode::PING, |_| {});
}

/// Ends the session.
pub fn close_session(out: &mut Vec<u8>, xid: i32) {
    request(out, xid, opcode::CLOSE_SESSION, |_| {});
}

/// Adds an identity; answered under [`opcode::AUTH_XID`].
pub fn add_auth(out: &mut Vec<u8>, scheme: &str, auth: &[u8]) {
    request(out, opcode::AUTH_XID, opcode::AUTH, |out| {
        out.i32(0).string(scheme).buffer(auth);
    });
}

/// Creates a node. The opcode follows from mode and shape: containers and TTL nodes are always answered with
/// metadata.
pub fn create(
    out: &mut Vec<u8>,
    xid: i32,
    path: &str,
    data: &[u8],
    acl: &[Acl],
    mode: CreateMode,
    shape: WriteShape,
) {
    request(out, xid, create_code(mode, shape), |out| {
        create_body(out, path, data, acl, mode);
    });
}

/// Deletes a node.
pub fn delete(out: &mut Vec<u8>, xid: i32, path: &str, version: i32) {
    request(out, xid, opcode::DELETE, |out| {
        out.string(path).i32(version);
    });
}

/// Replaces a node's data.
pub fn set_data(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8], version: i32) {
    request(out, xid, opcode::SET_DATA, |out| {
        out.string(path).buffer(data).i32(version);
    });
}

/// Replaces a node's access control list.
pub fn set_acl(out: &mut Vec<u8>, xid: i32, path: &str, acl: &[Acl], version: i32) {
    request(out, xid, opcode::SET_ACL, |out| {
        out.string(path).acl(acl).i32(version);
    });
}

/// Any write.
pub fn write(out: &mut Vec<u8>, xid: i32, op: &TreeOp, shape: WriteShape) {
    request(out, xid, op_code(op, shape), |out| op_body(out, op));
}

/// Several writes, all or none. A server refuses a `SetAcl` among them: ZooKeeper has none there.
pub fn multi(out: &mut Vec<u8>, xid: i32, ops: &[(TreeOp, WriteShape)]) {
    request(out, xid, opcode::MULTI, |out| {
        for (op, shape) in ops {
            out.multi_header(op_code(op, *shape), false, -1);
            op_body(out, op);
        }
        out.multi_header(opcode::ERROR, true, -1);
    });
}

/// Several reads. A server knows `GetData` and `GetChildren` there.
pub fn multi_read(out: &mut Vec<u8>, xid: i32, queries: &[Query]) {
    request(out, xid, opcode::MULTI_READ, |out| {
        for query in queries {
            out.multi_header(query_code(query), false, -1);
            out.string(query.path()).bool(false);
        }
        out.multi_header(opcode::ERROR, true, -1);
    });
}

/// Asks for a node's metadata.
pub fn exists(out: &mut Vec<u8>, xid: i32, path: &str, watch: bool) {
    read_path(out, xid, opcode::EXISTS, path, watch);
}

/// Asks for a node's data and metadata.
pub fn get_data(out: &mut Vec<u8>, xid: i32, path: &str, watch: bool) {
    read_path(out, xid, opcode::GET_DATA, path, watch);
}

/// Asks for the names of children.
pub fn get_children(out: &mut Vec<u8>, xid: i32, path: &str, watch: bool) {
    read_path(out, xid, opcode::GET_CHILDREN, path, watch);
}

/// Asks for the names of children and the node's metadata.
pub fn get_children2(out: &mut Vec<u8>, xid: i32, path: &str, watch: bool) {
    read_path(out, xid, opcode::GET_CHILDREN2, path, watch);
}

/// Asks for a node's access control list and metadata.
pub fn get_acl(out: &mut Vec<u8>, xid: i32, path: &str) {
    request(out, xid, opcode::GET_ACL, |out| {
        out.string(path);
    });
}

/// Any read; `watch` has no meaning for `GetAcl`.
pub fn read(out: &mut Vec<u8>, xid: i32, query: &Query, watch: bool) {
    match query {
        Query::GetAcl { path } => get_acl(out, xid, path),
        query => read_path(out, xid, query_code(query), query.path(), watch),
    }
}

/// Adds a persistent watch.
pub fn add_watch(out: &mut Vec<u8>, xid: i32, path: &str, recursive: bool) {
    request(out, xid, opcode::ADD_WATCH, |out| {
        out.string(path).i32(i32::from(recursive));
    });
}

/// Removes watches.
pub fn remove_watches(out: &mut Vec<u8>, xid: i32, path: &str, kind: WatchKind) {
    request(out, xid, opcode::REMOVE_WATCHES, |out| {
        out.string(path).i32(kind.number());
    });
}

/// Asks whether there are watches.
pub fn check_watches(out: &mut Vec<u8>, xid: i32, path: &str, kind: WatchKind) {
    request(out, xid, opcode::CHECK_WATCHES, |out| {
        out.string(path).i32(kind.number());
    });
}

/// Waits until all that was committed before can be read.
pub fn sync(out: &mut Vec<u8>, xid: i32, path: &str) {
    request(out, xid, opcode::SYNC, |out| {
        out.string(path);
    });
}

/// Registers watches anew: one-shot `data`, `exist` and `child` watches, then persistent and persistent recursive ones.
/// Answered under [`opcode::SET_WATCHES_XID`].
pub fn set_watches<S: AsRef<str>>(out: &mut Vec<u8>, relative_zxid: i64, watches: [&[S]; 5]) {
    let persistent = watches[3..].iter().any(|paths| !paths.is_empty());
    let (code, vectors) = if persistent {
        (opcode::SET_WATCHES2, &watches[..])
    } else {
        (opcode::SET_WATCHES, &watches[..3])
    };
    request(out, opcode::SET_WATCHES_XID, code, |out| {
        out.i64(relative_zxid);
        for paths in vectors {
            out.strings(paths);
        }
    });
}

/// A header alone, for an opcode that has no function here.
pub fn bare(out: &mut Vec<u8>, xid: i32, opcode: i32) {
    request(out, xid, opcode, |_| {});
}

/// Any request that can be sent, as the server's side would read it; false for `Refused` and `Malformed`,
/// which are no requests. Pings, authentications and `SetWatches` go under their own `xid`.
pub fn any(out: &mut Vec<u8>, xid: i32, what: &Request) -> bool {
    match what {
        Request::Ping => ping(out),
        Request::CloseSession => close_session(out, xid),
        Request::AddAuth { scheme, auth } => add_auth(out, scheme, auth),
        Request::SetWatches {
            relative_zxid,
            data,
            exist,
            child,
            persistent,
            persistent_recursive,
        } => {
            let watches = [data, exist, child, persistent, persistent_recursive];
            set_watches(out, *relative_zxid, watches.map(Vec::as_slice));
        }
        Request::Write { op, shape } => write(out, xid, op, *shape),
        Request::Multi(ops) => multi(out, xid, ops),
        Request::MultiRead(queries) => multi_read(out, xid, queries),
        Request::Read { query, watch } => read(out, xid, query, *watch),
        Request::AddWatch { path, recursive } => add_watch(out, xid, path, *recursive),
        Request::RemoveWatches { path, kind } => remove_watches(out, xid, path, *kind),
        Request::CheckWatches { path, kind } => check_watches(out, xid, path, *kind),
        Request::Sync { path } => sync(out, xid, path),
        Request::Unimplemented { opcode } => bare(out, xid, *opcode),
        Request::Refused { .. } | Request::Malformed { .. } => return false,
    }
    true
}

fn request(out: &mut Vec<u8>, xid: i32, code: i32, body: impl FnOnce(&mut Out<'_>)) {
    frame(out, |out| {
        out.i32(xid).i32(code);
        body(out);
    });
}

fn read_path(out: &mut Vec<u8>, xid: i32, code: i32, path: &str, watch: bool) {
    request(out, xid, code, |out| {
        out.string(path).bool(watch);
    });
}

fn query_code(query: &Query) -> i32 {
    match query {
        Query::Exists { .. } => opcode::EXISTS,
        Query::GetData { .. } => opcode::GET_DATA,
        Query::GetChildren { .. } => opcode::GET_CHILDREN,
        Query::GetChildren2 { .. } => opcode::GET_CHILDREN2,
        Query::GetAcl { .. } => opcode::GET_ACL,
    }
}

fn create_code(mode: CreateMode, shape: WriteShape) -> i32 {
    match (mode, shape) {
        (CreateMode::Ttl { .. }, _) => opcode::CREATE_TTL,
        (CreateMode::Container, WriteShape::WithStat) => opcode::CREATE_CONTAINER,
        (_, WriteShape::WithStat) => opcode::CREATE2,
        (_, WriteShape::Plain) => opcode::CREATE,
    }
}

fn op_code(op: &TreeOp, shape: WriteShape) -> i32 {
    match op {
        TreeOp::Create { mode, .. } => create_code(*mode, shape),
        TreeOp::Delete { .. } => opcode::DELETE,
        TreeOp::SetData { .. } => opcode::SET_DATA,
        TreeOp::SetAcl { .. } => opcode::SET_ACL,
        TreeOp::Check { .. } => opcode::CHECK,
    }
}

fn op_body(out: &mut Out<'_>, op: &TreeOp) {
    match op {
        TreeOp::Create {
            path,
            data,
            acl,
            mode,
        } => create_body(out, path, data, acl, *mode),
        TreeOp::SetData {
            path,
            data,
            version,
        } => {
            out.string(path).buffer(data).i32(*version);
        }
        TreeOp::SetAcl { path, acl, version } => {
            out.string(path).acl(acl).i32(*version);
        }
        TreeOp::Delete { path, version } | TreeOp::Check { path, version } => {
            out.string(path).i32(*version);
        }
    }
}

fn create_body(out: &mut Out<'_>, path: &str, data: &[u8], acl: &[Acl], mode: CreateMode) {
    out.string(path).buffer(data).acl(acl);
    match mode {
        CreateMode::Persistent { sequential: false } => out.i32(0),
        CreateMode::Ephemeral { sequential: false } => out.i32(1),
        CreateMode::Persistent { sequential: true } => out.i32(2),
        CreateMode::Ephemeral { sequential: true } => out.i32(3),
        CreateMode::Container => out.i32(4),
        CreateMode::Ttl { ttl_ms, sequential } => {
            out.i32(if sequential { 6 } else { 5 }).i64(ttl_ms)
        }
    };
}
