//! What the operations mean, in ZooKeeper's words and with its precedence of errors. Each looks first and
//! then changes, so one alone never needs undoing.

use super::kind::{NodeKind, TTL_MS_MAX};
use super::slab::{Node, SlotId};
use super::{NewNode, Tree, path};
use crate::acl;
use crate::{
    Acl, CreateMode, ErrorCode, Event, EventKind, OpReply, Output, Principal, TreeOp, permission,
};

/// Under what an operation runs.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The revision that the change will have.
    pub zxid: i64,
    /// The machine's time.
    pub time_ms: i64,
    /// Who asks.
    pub principal: &'a Principal,
    /// Owner of ephemeral nodes.
    pub session: i64,
}

impl Tree {
    /// Does one operation; its events go to `out` before it returns. A refusal has changed nothing.
    pub fn run(
        &mut self,
        cx: Context<'_>,
        op: TreeOp,
        out: &mut Vec<Output>,
    ) -> Result<OpReply, ErrorCode> {
        match op {
            TreeOp::Create {
                path,
                data,
                acl,
                mode,
            } => self.create(cx, path, &data, acl, mode, out),
            TreeOp::Delete { path, version } => self.delete(cx, path, version, out),
            TreeOp::SetData {
                path,
                data,
                version,
            } => self.write(cx, path, &data, version, out),
            TreeOp::SetAcl { path, acl, version } => self.guard(cx, &path, acl, version),
            TreeOp::Check { path, version } => self.check(cx, &path, version),
        }
    }

    fn create(
        &mut self,
        cx: Context<'_>,
        mut path: String,
        data: &[u8],
        acl: Vec<Acl>,
        mode: CreateMode,
        out: &mut Vec<Output>,
    ) -> Result<OpReply, ErrorCode> {
        let (kind, sequential) = match mode {
            CreateMode::Persistent { sequential } => (NodeKind::Persistent, sequential),
            CreateMode::Ephemeral { sequential } => (NodeKind::Ephemeral(cx.session), sequential),
            CreateMode::Container => (NodeKind::Container, false),
            CreateMode::Ttl { ttl_ms, sequential } => {
                if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
                    return Err(ErrorCode::BadArguments);
                }
                (NodeKind::Ttl(ttl_ms), sequential)
            }
        };
        let (parent_path, _) = path::split(&path).ok_or(ErrorCode::BadArguments)?;
        let acl = acl::expand(acl, cx.principal)?;
        let parent = self.lookup(parent_path).ok_or(ErrorCode::NoNode)?;
        self.permit(cx, parent, permission::CREATE)?;
        let parent_node = self.slab.node(parent);
        if sequential {
            path.push_str(&format!("{:010}", parent_node.creations));
        }
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, name) = path::split(&path).expect("valid paths have a slash");
        if name.is_empty() || self.slab.child(parent, name).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if parent_node.owner > 0 {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let acl = self.acls.intern(acl);
        let new = NewNode {
            parent,
            name,
            data,
            acl,
            kind,
        };
        let slot = self.create_node(new, cx.zxid, cx.time_ms);
        let parent_path = match parent_path {
            "" => "/".to_owned(),
            parent => parent.to_owned(),
        };
        out.push(event(cx.zxid, EventKind::Created, path.clone()));
        out.push(event(cx.zxid, EventKind::ChildrenChanged, parent_path));
        Ok(OpReply::Created {
            path,
            stat: self.stat_of(slot),
        })
    }

    fn delete(
        &mut self,
        cx: Context<'_>,
        path: String,
        version: i32,
        out: &mut Vec<Output>,
    ) -> Result<OpReply, ErrorCode> {
        if !path::is_valid(&path) || path::is_reserved(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.lookup(path::parent(&path)).ok_or(ErrorCode::NoNode)?;
        self.permit(cx, parent, permission::DELETE)?;
        let slot = self.lookup(&path).ok_or(ErrorCode::NoNode)?;
        let node = self.slab.node(slot);
        next_version(node.version, version)?;
        if node.children.is_some() {
            return Err(ErrorCode::NotEmpty);
        }
        self.delete_slot(slot, path, cx.zxid, out);
        Ok(OpReply::Deleted)
    }

    fn write(
        &mut self,
        cx: Context<'_>,
        path: String,
        data: &[u8],
        version: i32,
        out: &mut Vec<Output>,
    ) -> Result<OpReply, ErrorCode> {
        let slot = self.lookup_valid(&path)?;
        self.permit(cx, slot, permission::WRITE)?;
        let version = next_version(self.slab.node(slot).version, version)?;
        self.set_data(slot, data, version, cx.zxid, cx.time_ms);
        out.push(event(cx.zxid, EventKind::DataChanged, path));
        Ok(OpReply::DataSet(self.stat_of(slot)))
    }

    fn guard(
        &mut self,
        cx: Context<'_>,
        path: &str,
        acl: Vec<Acl>,
        version: i32,
    ) -> Result<OpReply, ErrorCode> {
        if !path::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let acl = acl::expand(acl, cx.principal)?;
        let slot = self.lookup(path).ok_or(ErrorCode::NoNode)?;
        self.permit(cx, slot, permission::ADMIN)?;
        let aversion = next_version(self.slab.node(slot).aversion, version)?;
        self.set_acl(slot, acl, aversion);
        Ok(OpReply::AclSet(self.stat_of(slot)))
    }

    fn check(&self, cx: Context<'_>, path: &str, version: i32) -> Result<OpReply, ErrorCode> {
        let slot = self.lookup_valid(path)?;
        self.permit(cx, slot, permission::READ)?;
        next_version(self.slab.node(slot).version, version)?;
        Ok(OpReply::Checked)
    }

    /// Removes what a session owned, in the order of paths.
    pub fn end_session(&mut self, session: i64, zxid: i64, out: &mut Vec<Output>) {
        let mut owned: Vec<(String, SlotId)> = self
            .ephemerals
            .get(&session)
            .into_iter()
            .flatten()
            .map(|slot| (self.path_of(*slot), *slot))
            .collect();
        owned.sort_unstable();
        for (path, slot) in owned {
            self.delete_slot(slot, path, zxid, out);
        }
    }

    /// Removes a leaf and tells of it.
    pub(super) fn delete_slot(
        &mut self,
        slot: SlotId,
        path: String,
        zxid: i64,
        out: &mut Vec<Output>,
    ) {
        self.remove_node(slot, zxid);
        let parent = path::parent(&path).to_owned();
        out.push(event(zxid, EventKind::Deleted, path));
        out.push(event(zxid, EventKind::ChildrenChanged, parent));
    }

    /// The slot of a path that follows the rules.
    pub(super) fn lookup_valid(&self, path: &str) -> Result<SlotId, ErrorCode> {
        // Names in the tree follow the rules, so only a path that is not found can break them.
        match self.lookup(path) {
            Some(slot) if !path.is_empty() => Ok(slot),
            _ if path::is_valid(path) => Err(ErrorCode::NoNode),
            _ => Err(ErrorCode::BadArguments),
        }
    }

    fn permit(&self, cx: Context<'_>, slot: SlotId, wanted: u32) -> Result<(), ErrorCode> {
        let node: &Node = self.slab.node(slot);
        if acl::permits(self.acls.lines(node.acl), wanted, cx.principal) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }
}

fn event(zxid: i64, kind: EventKind, path: String) -> Output {
    Output::Event(Event { zxid, kind, path })
}

/// The version after a change that expects `expected`. −1 means "any" to clients, so no node ever has it
/// for long: counting skips it.
fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    Ok(match current.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_past_the_one_that_means_any() {
        assert_eq!(next_version(0, -1), Ok(1));
        assert_eq!(next_version(3, 3), Ok(4));
        assert_eq!(next_version(3, 2), Err(ErrorCode::BadVersion));
        assert_eq!(next_version(i32::MAX, -1), Ok(i32::MIN));
        assert_eq!(next_version(-2, -2), Ok(0));
    }
}
