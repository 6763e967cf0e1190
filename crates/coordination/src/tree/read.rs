//! Reads, with the permissions that ZooKeeper asks for.

use super::Tree;
use super::kind::NodeKind;
use super::slab::SlotId;
use crate::acl;
use crate::{Answer, ErrorCode, Principal, Query, Stat, permission};
use bytes::Bytes;

impl Tree {
    /// Answers a query. `exists` needs no permission; an access control list is shown to readers, with the
    /// hashes of passwords to administrators only.
    pub fn query(&self, principal: &Principal, query: &Query) -> Result<Answer, ErrorCode> {
        let slot = self.lookup_valid(query.path())?;
        let node = self.slab.node(slot);
        let lines = self.acls.lines(node.acl);
        let need = |wanted| {
            if acl::permits(lines, wanted, principal) {
                Ok(())
            } else {
                Err(ErrorCode::NoAuth)
            }
        };
        let names = || -> Vec<String> {
            let children = self.slab.children(slot);
            children.map(|(_, child)| child.name.to_string()).collect()
        };
        Ok(match query {
            Query::Exists { .. } => Answer::Exists(self.stat_of(slot)),
            Query::GetData { .. } => {
                need(permission::READ)?;
                Answer::Data(Bytes::copy_from_slice(&node.data), self.stat_of(slot))
            }
            Query::GetChildren { .. } => {
                need(permission::READ)?;
                Answer::Children(names())
            }
            Query::GetChildren2 { .. } => {
                need(permission::READ)?;
                Answer::Children2(names(), self.stat_of(slot))
            }
            Query::GetAcl { .. } => {
                need(permission::READ | permission::ADMIN)?;
                let lines = match need(permission::ADMIN) {
                    Ok(()) => lines.to_vec(),
                    Err(_) => acl::without_hashes(lines),
                };
                Answer::Acl(lines, self.stat_of(slot))
            }
        })
    }

    /// A node's metadata without any check.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.find(path).map(|slot| self.stat_of(slot))
    }

    /// What keeps a node.
    pub fn kind(&self, path: &str) -> Option<NodeKind> {
        let slot = self.find(path)?;
        Some(NodeKind::of_owner(self.slab.node(slot).owner))
    }

    fn find(&self, path: &str) -> Option<SlotId> {
        (!path.is_empty()).then(|| self.lookup(path)).flatten()
    }

    pub(super) fn stat_of(&self, slot: SlotId) -> Stat {
        let node = self.slab.node(slot);
        let child_count = node.child_count() as i32;
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime_ms: node.ctime_ms,
            mtime_ms: node.mtime_ms,
            version: node.version,
            // Creations are what is kept. Each child not there any more was also deleted once.
            cversion: node.creations.wrapping_mul(2).wrapping_sub(child_count),
            aversion: node.aversion,
            ephemeral_owner: node.owner.max(0),
            data_length: node.data.len() as i32,
            num_children: child_count,
            pzxid: node.pzxid,
        }
    }
}
