//! Two accounts: whoever sees both at once sees the same sum, whatever was transferred; and a transfer that is
//! carried out finds what was read under its watch.

use crate::cache::{Answer, FIRST_BALANCE, Op, TAGS, accounts};
use crate::history::History;
use node::ClientId;
use std::collections::BTreeMap;

/// Objections to sums seen by an EXEC, an MGET and the members' dumps.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let see = |objections: &mut Vec<String>, what: &str, values: [Option<&Answer>; 2]| {
        let [Some(Answer::Text(from)), Some(Answer::Text(to))] = values else {
            // Before they were there.
            if values != [Some(&Answer::Nil); 2] {
                objections.push(format!("{what} shows {values:?} in two accounts"));
            }
            return;
        };
        let sum = |from: &str, to: &str| Some(from.parse::<i64>().ok()? + to.parse::<i64>().ok()?);
        if sum(from, to) != Some(2 * FIRST_BALANCE) {
            objections.push(format!(
                "{what} shows {from} and {to} in two accounts; their sum is {}",
                2 * FIRST_BALANCE
            ));
        }
    };
    for (id, operation) in history.cache.operations.iter().enumerate() {
        let Some(Answer::Many(answers)) = operation.answer() else {
            continue;
        };
        let what = format!("operation {id} through node{}", operation.node);
        match (&operation.op, &answers[..]) {
            (Op::GetAll(_), [from, to]) | (Op::Exec(_), [.., from, to]) => {
                see(&mut objections, &what, [Some(from), Some(to)]);
            }
            _ => {}
        }
    }
    // What a connection saw last in two accounts: a transfer is made from that.
    let mut read: BTreeMap<ClientId, &[Answer]> = BTreeMap::new();
    for (id, operation) in history.cache.operations.iter().enumerate() {
        match (&operation.op, operation.answer()) {
            (Op::GetAll(_), Some(Answer::Many(values))) => {
                read.insert(operation.connection, values);
            }
            (Op::Exec(ops), Some(Answer::Many(answers))) if ops.len() > 2 => {
                let (found, seen) = (&answers[..2], read.get(&operation.connection));
                if seen.is_some_and(|seen| *seen != found) {
                    objections.push(format!(
                        "operation {id} was carried out and found {found:?} in two accounts, which were {seen:?} \
                         under its watch"
                    ));
                }
            }
            _ => {}
        }
    }
    for (node, _, dump) in &history.cache.dumps {
        for tag in TAGS {
            let values = accounts(tag).map(|key| dump.get(&key));
            see(&mut objections, &format!("the end on node{node}"), values);
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::op;
    use super::*;

    fn seen(from: &str, to: &str) -> usize {
        let mut h = History::default();
        let text = |text: &str| Answer::Text(text.into());
        let exec = Op::Exec(accounts("a").map(Op::Get).into());
        let answer = Answer::Many(vec![text(from), text(to)]);
        op(&mut h, 1, exec, Some((2, Ok(answer.clone()))));
        let all = Op::GetAll(accounts("a").into());
        op(&mut h, 3, all, Some((4, Ok(answer))));
        check(&h).len()
    }

    #[test]
    fn sum_that_changed_is_found() {
        assert_eq!(seen("480", "520"), 0);
        assert_eq!(seen("480", "500"), 2);
    }

    #[test]
    fn transfer_of_what_changed_under_its_watch_is_found() {
        let mut h = History::default();
        let text = |text: &str| Answer::Text(text.into());
        let all = Op::GetAll(accounts("a").into());
        let both = vec![text("500"), text("500")];
        op(&mut h, 1, all, Some((2, Ok(Answer::Many(both.clone())))));
        let exec = Op::Exec(
            [accounts("a"), accounts("a")]
                .concat()
                .into_iter()
                .map(Op::Get)
                .collect(),
        );
        let answers = [both.clone(), both].concat();
        op(
            &mut h,
            3,
            exec.clone(),
            Some((4, Ok(Answer::Many(answers)))),
        );
        assert!(check(&h).is_empty());
        let answers = ["490", "510", "480", "520"].map(text).to_vec();
        op(&mut h, 5, exec, Some((6, Ok(Answer::Many(answers)))));
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn one_account_without_the_other_is_found() {
        let mut h = History::default();
        let all = Op::GetAll(accounts("a").into());
        let answer = Answer::Many(vec![Answer::Text("1000".into()), Answer::Nil]);
        op(&mut h, 1, all, Some((2, Ok(answer))));
        assert_eq!(check(&h).len(), 1);
    }
}
