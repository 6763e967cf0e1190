//! Requests that are served from the local state alone.

use super::{Context, Zookeeper};
use crate::event::{Action, ClientId, Level};
use base::planted::{Bug, planted};
use coordination::watches::{WatchKind, WatchReplay, WatchSelection};
use coordination::{Answer, ErrorCode, Query};
use wire_zookeeper::{Request, reply};

/// A multiRead may not ask for more than this: one small request must not fill the memory.
const MULTI_READ_BYTES_MAX: usize = 8 << 20;

/// Bytes of what grows without a bound in an answer.
fn size(answer: &Answer) -> usize {
    let names = |names: &[String]| names.iter().map(|name| name.len() + 4).sum();
    match answer {
        Answer::Data(bytes, _) => bytes.len(),
        Answer::Children(children) | Answer::Children2(children, _) => names(children),
        Answer::Exists(_) | Answer::Acl(..) => 0,
    }
}

impl Zookeeper {
    /// Serves a request. False when the connection is to be closed after what was written.
    pub(super) fn serve(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        xid: i32,
        request: Request,
        waited: bool,
    ) -> bool {
        let zxid = cx.tree.zxid();
        let Some(client) = self.clients.get_mut(&id) else {
            return true;
        };
        let out = &mut client.out.bytes;
        match request {
            Request::Ping => reply::ping(out, zxid),
            Request::AddAuth { scheme, auth } => {
                let accepted =
                    scheme == "digest" && wire_zookeeper::digest_identity(&auth).is_some();
                reply::auth(out, accepted);
                return accepted;
            }
            Request::Read { query, watch } => {
                cx.counters.reads += 1;
                let answer = cx.tree.query(&client.principal, &query);
                cx.counters.errors += u64::from(answer.is_err());
                reply::read(out, xid, zxid, &answer);
                let lost = waited && planted(Bug::LoseWatch);
                if watch && !lost {
                    return self.watch_after_read(cx, id, &query, &answer);
                }
            }
            Request::MultiRead(queries) => {
                cx.counters.reads += 1;
                let (mut answers, mut bytes) = (Vec::new(), 0);
                for query in &queries {
                    let answer = cx.tree.query(&client.principal, query);
                    bytes += answer.as_ref().map_or(0, size);
                    if bytes > MULTI_READ_BYTES_MAX {
                        cx.counters.errors += 1;
                        reply::error(out, xid, zxid, ErrorCode::BadArguments);
                        return true;
                    }
                    answers.push(answer);
                }
                reply::multi_read(out, xid, zxid, &answers);
            }
            Request::AddWatch { path, recursive } => {
                let kind = if recursive {
                    WatchKind::PersistentRecursive
                } else {
                    WatchKind::Persistent
                };
                reply::add_watch(out, xid, zxid);
                return self.arm(cx, id, kind, &path);
            }
            Request::RemoveWatches { path, kind } => {
                if self.watches.remove(id.0, selection(kind), &path) {
                    reply::ok(out, xid, zxid);
                } else {
                    reply::error(out, xid, zxid, ErrorCode::NoWatcher);
                }
            }
            Request::CheckWatches { path, kind } => {
                if self.watches.contains(id.0, selection(kind), &path) {
                    reply::ok(out, xid, zxid);
                } else {
                    reply::error(out, xid, zxid, ErrorCode::NoWatcher);
                }
            }
            Request::SetWatches {
                relative_zxid,
                data,
                exist,
                child,
                persistent,
                persistent_recursive,
            } => {
                let wanted = WatchReplay {
                    relative_zxid,
                    data,
                    exist,
                    child,
                    persistent,
                    persistent_recursive,
                };
                return self.replay(cx, id, xid, &wanted);
            }
            Request::Unimplemented { .. } => {
                reply::error(out, xid, zxid, ErrorCode::Unimplemented);
                return false;
            }
            Request::Malformed { .. } => {
                cx.counters.malformed += 1;
                reply::error(out, xid, zxid, ErrorCode::MarshallingError);
            }
            Request::Refused { error } => {
                cx.counters.errors += 1;
                reply::error(out, xid, zxid, error);
            }
            Request::Write { .. }
            | Request::Multi(_)
            | Request::CloseSession
            | Request::Sync { .. } => unreachable!("these are not local"),
        }
        true
    }

    /// Which watch a read leaves behind: on what it saw, and for `exists` also on what is not there.
    fn watch_after_read(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        query: &Query,
        answer: &Result<Answer, ErrorCode>,
    ) -> bool {
        let kind = match query {
            Query::GetChildren { .. } | Query::GetChildren2 { .. } => WatchKind::Children,
            _ => WatchKind::Data,
        };
        let arms = match answer {
            Ok(_) => true,
            Err(ErrorCode::NoNode) => matches!(query, Query::Exists { .. }),
            Err(_) => false,
        };
        !arms || self.arm(cx, id, kind, query.path())
    }

    fn arm(&mut self, cx: &mut Context<'_>, id: ClientId, kind: WatchKind, path: &str) -> bool {
        let armed = self.watches.add(id.0, kind, path).is_ok();
        if !armed {
            self.log_too_many(cx, id);
        }
        armed
    }

    fn log_too_many(&self, cx: &mut Context<'_>, id: ClientId) {
        let address = self.clients.get(&id).map_or("?", |c| &c.address);
        cx.actions.push_back(Action::Log {
            level: Level::Warn,
            message: format!(
                "closed the ZooKeeper connection from {address}: more than {} watches",
                super::WATCHES_MAX
            ),
        });
    }

    fn replay(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        xid: i32,
        wanted: &WatchReplay,
    ) -> bool {
        let mut missed = Vec::new();
        let fits = self.watches.replay(cx.tree, id.0, wanted, &mut missed);
        let zxid = cx.tree.zxid();
        let Some(client) = self.clients.get_mut(&id) else {
            return true;
        };
        for (kind, path) in missed {
            cx.counters.notifications += 1;
            reply::notification(&mut client.out.bytes, zxid, kind, &path);
        }
        reply::ok(&mut client.out.bytes, xid, zxid);
        if fits.is_err() {
            self.log_too_many(cx, id);
        }
        fits.is_ok()
    }
}

fn selection(kind: wire_zookeeper::WatchKind) -> WatchSelection {
    match kind {
        wire_zookeeper::WatchKind::Children => WatchSelection::Children,
        wire_zookeeper::WatchKind::Data => WatchSelection::Data,
        wire_zookeeper::WatchKind::Any => WatchSelection::Any,
        wire_zookeeper::WatchKind::Persistent => WatchSelection::Persistent,
        wire_zookeeper::WatchKind::PersistentRecursive => WatchSelection::PersistentRecursive,
    }
}
