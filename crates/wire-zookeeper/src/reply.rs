//! The server's answers, each appended to a buffer as one frame.

use crate::error::error_number;
use crate::jute::{Out, frame};
use crate::opcode;
use crate::request::WriteShape;
use base::SessionId;
use coordination::{Answer, ErrorCode, EventKind, OpReply};

/// Length of a session's password in bytes.
pub const PASSWORD_BYTES: usize = 16;

/// The state in every notification: connected.
const STATE_CONNECTED: i32 = 3;

/// A session is opened or resumed. The last field is there only when the request had it; this server never is read-only.
pub fn connect_response(
    out: &mut Vec<u8>,
    protocol_version: i32,
    timeout_ms: u32,
    session: SessionId,
    password: &[u8; PASSWORD_BYTES],
    had_read_only_flag: bool,
) {
    frame(out, |out| {
        out.i32(protocol_version);
        out.i32(i32::try_from(timeout_ms).unwrap_or(i32::MAX));
        out.i64(session.0).buffer(password);
        if had_read_only_flag {
            out.bool(false);
        }
    });
}

/// The session to be resumed has expired (or its password is wrong): close the connection after this.
pub fn connect_expired(out: &mut Vec<u8>, had_read_only_flag: bool) {
    let password = [0; PASSWORD_BYTES];
    connect_response(out, 0, 0, SessionId(0), &password, had_read_only_flag);
}

/// Success without a body: closeSession, setWatches, removeWatches, checkWatches.
pub fn ok(out: &mut Vec<u8>, xid: i32, zxid: i64) {
    frame(out, |out| header(out, xid, zxid, 0));
}

/// Any request's refusal.
pub fn error(out: &mut Vec<u8>, xid: i32, zxid: i64, error: ErrorCode) {
    frame(out, |out| header(out, xid, zxid, error_number(error)));
}

/// Of a ping.
pub fn ping(out: &mut Vec<u8>, zxid: i64) {
    ok(out, opcode::PING_XID, zxid);
}

/// Of an addAuth; after a refusal, close the connection.
pub fn auth(out: &mut Vec<u8>, accepted: bool) {
    let number = if accepted {
        0
    } else {
        error_number(ErrorCode::AuthFailed)
    };
    frame(out, |out| header(out, opcode::AUTH_XID, 0, number));
}

/// Of an addWatch that was accepted.
pub fn add_watch(out: &mut Vec<u8>, xid: i32, zxid: i64) {
    frame(out, |out| {
        header(out, xid, zxid, 0);
        out.i32(0);
    });
}

/// Of a sync.
pub fn sync(out: &mut Vec<u8>, xid: i32, zxid: i64, path: &str) {
    frame(out, |out| {
        header(out, xid, zxid, 0);
        out.string(path);
    });
}

/// Of one write.
pub fn write(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: i64,
    shape: WriteShape,
    reply: &Result<OpReply, ErrorCode>,
) {
    let reply = match reply {
        Ok(reply) => reply,
        Err(refusal) => return error(out, xid, zxid, *refusal),
    };
    frame(out, |out| {
        header(out, xid, zxid, 0);
        op_reply(out, shape, reply);
    });
}

/// Of a multi. The header says success even when the multi failed: its elements tell.
///
/// `shapes` are the request's; a missing one is `Plain`.
pub fn multi(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: i64,
    shapes: impl IntoIterator<Item = WriteShape>,
    reply: &Result<Vec<OpReply>, Vec<Option<ErrorCode>>>,
) {
    frame(out, |out| {
        header(out, xid, zxid, 0);
        match reply {
            Ok(replies) => {
                let mut shapes = shapes.into_iter();
                for reply in replies {
                    let shape = shapes.next().unwrap_or_default();
                    out.multi_header(multi_kind(shape, reply), false, 0);
                    op_reply(out, shape, reply);
                }
            }
            Err(errors) => {
                for error in errors {
                    error_element(out, error.map_or(0, error_number));
                }
            }
        }
        out.multi_header(opcode::ERROR, true, -1);
    });
}

/// Of a multiRead: each element has its own outcome.
pub fn multi_read(out: &mut Vec<u8>, xid: i32, zxid: i64, answers: &[Result<Answer, ErrorCode>]) {
    frame(out, |out| {
        header(out, xid, zxid, 0);
        for answer in answers {
            match answer {
                Ok(answer) => {
                    out.multi_header(answer_kind(answer), false, 0);
                    answer_body(out, answer);
                }
                Err(error) => error_element(out, error_number(*error)),
            }
        }
        out.multi_header(opcode::ERROR, true, -1);
    });
}

/// Of one read.
pub fn read(out: &mut Vec<u8>, xid: i32, zxid: i64, answer: &Result<Answer, ErrorCode>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return error(out, xid, zxid, *refusal),
    };
    frame(out, |out| {
        header(out, xid, zxid, 0);
        answer_body(out, answer);
    });
}

/// A watch fires. `zxid` is the change's revision, as ZooKeeper has sent it since 3.9, or −1.
pub fn notification(out: &mut Vec<u8>, zxid: i64, kind: EventKind, path: &str) {
    frame(out, |out| {
        header(out, opcode::NOTIFICATION_XID, zxid, 0);
        out.i32(event_number(kind)).i32(STATE_CONNECTED);
        out.string(path);
    });
}

/// The protocol's number of an event.
pub(crate) fn event_number(kind: EventKind) -> i32 {
    match kind {
        EventKind::Created => 1,
        EventKind::Deleted => 2,
        EventKind::DataChanged => 3,
        EventKind::ChildrenChanged => 4,
    }
}

fn header(out: &mut Out<'_>, xid: i32, zxid: i64, error: i32) {
    out.i32(xid).i64(zxid).i32(error);
}

fn error_element(out: &mut Out<'_>, error: i32) {
    out.multi_header(opcode::ERROR, false, error).i32(error);
}

fn op_reply(out: &mut Out<'_>, shape: WriteShape, reply: &OpReply) {
    match reply {
        OpReply::Created { path, stat } => {
            out.string(path);
            if shape == WriteShape::WithStat {
                out.stat(stat);
            }
        }
        OpReply::DataSet(stat) | OpReply::AclSet(stat) => {
            out.stat(stat);
        }
        OpReply::Deleted | OpReply::Checked => {}
    }
}

fn multi_kind(shape: WriteShape, reply: &OpReply) -> i32 {
    match reply {
        OpReply::Created { .. } => match shape {
            WriteShape::Plain => opcode::CREATE,
            WriteShape::WithStat => opcode::CREATE2,
        },
        OpReply::Deleted => opcode::DELETE,
        OpReply::DataSet(_) => opcode::SET_DATA,
        OpReply::AclSet(_) => opcode::SET_ACL,
        OpReply::Checked => opcode::CHECK,
    }
}

fn answer_kind(answer: &Answer) -> i32 {
    match answer {
        Answer::Exists(_) => opcode::EXISTS,
        Answer::Data(..) => opcode::GET_DATA,
        Answer::Children(_) => opcode::GET_CHILDREN,
        Answer::Children2(..) => opcode::GET_CHILDREN2,
        Answer::Acl(..) => opcode::GET_ACL,
    }
}

fn answer_body(out: &mut Out<'_>, answer: &Answer) {
    match answer {
        Answer::Exists(stat) => out.stat(stat),
        Answer::Data(data, stat) => out.buffer(data).stat(stat),
        Answer::Children(children) => out.strings(children),
        Answer::Children2(children, stat) => out.strings(children).stat(stat),
        Answer::Acl(acl, stat) => out.acl(acl).stat(stat),
    };
}
