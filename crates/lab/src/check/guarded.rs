//! What an access control list guards: who lacks the credentials reads nothing of it and changes nothing,
//! who shows them is never refused.

use crate::history::{History, Op, Outcome};
use crate::workload::GUARDED;
use std::collections::BTreeMap;

const NO_AUTH: i32 = -102;

/// Objections to what was done under [`GUARDED`].
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    // Value → the session that meant to write it, and the operation.
    let mut writers: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for part in history.parts() {
        let (Op::Get { path, .. }
        | Op::Children { path, .. }
        | Op::Set { path, .. }
        | Op::Create { path, .. }
        | Op::Delete { path, .. }) = part.op
        else {
            continue;
        };
        // The guarded node itself is made under the root, which is open.
        let is_founding = matches!(part.op, Op::Create { .. }) && path == GUARDED;
        if !path.starts_with(GUARDED) || is_founding {
            continue;
        }
        let (id, session) = (part.id, part.operation.session);
        if let Op::Set { value, .. } | Op::Create { value, .. } = part.op {
            writers.insert(value, (session, id));
        }
        let may = history.sessions[session].credentials;
        let reply = part.operation.reply.as_ref();
        if !may && matches!(part.outcome, Outcome::Done(_)) {
            objections.push(format!(
                "operation {id} was done to {path} without credentials"
            ));
        }
        if may && reply.is_some_and(|r| r.result == Err(NO_AUTH)) {
            objections.push(format!(
                "operation {id} to {path} was refused in spite of credentials"
            ));
        }
    }
    for (node, tree) in &history.trees {
        let guarded = tree.iter().filter(|(path, _)| path.starts_with(GUARDED));
        for (path, (value, _)) in guarded {
            if let Some((session, id)) = writers.get(value.as_str())
                && !history.sessions[*session].credentials
            {
                objections.push(format!(
                    "node{node} holds {value} in {path}, by operation {id} without credentials"
                ));
            }
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{get, op, session, set, stat};
    use crate::history::Answer;

    fn read(h: &mut History, session: usize, result: Result<Answer, i32>) {
        op(h, session, 1, 1, get(GUARDED, false), Some((2, 5, result)));
    }

    fn data() -> Answer {
        Answer::Data("x".into(), stat(5, 0))
    }

    #[test]
    fn those_with_credentials_read_and_the_others_are_refused() {
        let mut h = History::default();
        let (without, with) = (session(&mut h, 1_000), session(&mut h, 1_000));
        h.sessions[with].credentials = true;
        read(&mut h, with, Ok(data()));
        read(&mut h, without, Err(NO_AUTH));
        assert_eq!(check(&h), Vec::<String>::new());
        read(&mut h, without, Ok(data()));
        assert_eq!(check(&h).len(), 1);
        read(&mut h, with, Err(NO_AUTH));
        assert_eq!(check(&h).len(), 2);
    }

    #[test]
    fn a_write_without_credentials_that_shows_at_the_end_is_found() {
        let mut h = History::default();
        let without = session(&mut h, 1_000);
        op(&mut h, without, 1, 1, set(GUARDED, "y"), None);
        let tree = [(GUARDED.to_owned(), ("y".to_owned(), stat(6, 1)))];
        h.trees.push((0, tree.into()));
        assert_eq!(check(&h).len(), 1);
    }
}
