//! Operations of the tree as a part of a transaction over chapters: tried first, carried out later.
//!
//! They run as a client that has shown no credentials, and without a session: what an access control list
//! keeps from everybody is kept from them, and nothing ephemeral is made.

use crate::tree::ops::Context;
use crate::{Coordination, CreateMode, ErrorCode, OpReply, Output, Principal, TreeOp};
use base::Stamp;

impl Coordination {
    /// Whether operations would be refused if they were carried out one after the other: the place and the
    /// refusal of the first that is. Changes nothing.
    pub fn attempt(&mut self, stamp: Stamp, ops: &[TreeOp]) -> Result<(), (usize, ErrorCode)> {
        let mut events = Vec::new();
        let refused = (self
            .run_ops(stamp, ops, &mut events)
            .into_iter()
            .enumerate())
        .find_map(|(at, result)| result.err().map(|error| (at, error)));
        self.tree.roll_back();
        match refused {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Carries operations out, under one revision; events go to `out`. After [`Self::attempt`] on the same nodes
    /// none is refused.
    pub fn carry_out(
        &mut self,
        stamp: Stamp,
        ops: &[TreeOp],
        out: &mut Vec<Output>,
    ) -> Vec<Result<OpReply, ErrorCode>> {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let replies = self.run_ops(stamp, ops, out);
        self.tree.commit();
        let is_change = |r: &Result<OpReply, _>| !matches!(r, Ok(OpReply::Checked) | Err(_));
        if replies.iter().any(is_change) {
            self.zxid += 1;
        }
        replies
    }

    fn run_ops(
        &mut self,
        stamp: Stamp,
        ops: &[TreeOp],
        out: &mut Vec<Output>,
    ) -> Vec<Result<OpReply, ErrorCode>> {
        let principal = Principal::default();
        let cx = Context {
            zxid: self.zxid + 1,
            time_ms: self.time_ms.max(stamp.time_ms),
            principal: &principal,
            session: 0,
        };
        let run = |op: &TreeOp| match op {
            TreeOp::Create {
                mode: CreateMode::Ephemeral { .. },
                ..
            } => Err(ErrorCode::BadArguments),
            op => self.tree.run(cx, op.clone(), out),
        };
        ops.iter().map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Acl;
    use base::State;
    use bytes::Bytes;

    fn create(path: &str, sequential: bool) -> TreeOp {
        TreeOp::Create {
            path: path.into(),
            data: Bytes::from_static(b"x"),
            acl: vec![Acl::open()],
            mode: CreateMode::Persistent { sequential },
        }
    }

    #[test]
    fn what_is_tried_changes_nothing_and_is_what_is_carried_out() {
        let mut tree = Coordination::new();
        let stamp = Stamp {
            time_ms: 9,
            seed: 1,
        };
        let ops = [
            create("/a", false),
            create("/a/n-", true),
            TreeOp::Delete {
                path: "/a/n-0000000000".into(),
                version: 0,
            },
            create("/a/n-", true),
        ];
        let before = tree.digest();
        assert_eq!(tree.attempt(stamp, &ops), Ok(()));
        assert_eq!((tree.digest(), tree.zxid()), (before, 0));
        let mut out = Vec::new();
        let replies = tree.carry_out(stamp, &ops, &mut out);
        assert!(replies.iter().all(Result::is_ok));
        assert_eq!(tree.zxid(), 1);
        assert!(tree.stat("/a/n-0000000001").is_some());
        assert_eq!(tree.attempt(stamp, &ops), Err((0, ErrorCode::NodeExists)));
        let ephemeral = TreeOp::Create {
            path: "/e".into(),
            data: Bytes::new(),
            acl: vec![Acl::open()],
            mode: CreateMode::Ephemeral { sequential: false },
        };
        let refused = Err((0, ErrorCode::BadArguments));
        assert_eq!(tree.attempt(stamp, &[ephemeral]), refused);
    }
}
