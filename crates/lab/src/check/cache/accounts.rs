//! Two accounts: whoever sees both at once sees the same sum, whatever was transferred.

use crate::cache::{Answer, FIRST_BALANCE, Op, TAGS, accounts};
use crate::history::History;

/// Objections to sums seen by an EXEC, an MGET and the members' dumps.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut see = |what: &str, values: [Option<&Answer>; 2]| {
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
            (Op::GetAll(_), [from, to]) => see(&what, [Some(from), Some(to)]),
            (Op::Exec(_), [.., from, to]) => see(&what, [Some(from), Some(to)]),
            _ => {}
        }
    }
    for (node, _, dump) in &history.cache.dumps {
        for tag in TAGS {
            let values = accounts(tag).map(|key| dump.get(&key));
            see(&format!("the end on node{node}"), values);
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
    fn one_account_without_the_other_is_found() {
        let mut h = History::default();
        let all = Op::GetAll(accounts("a").into());
        let answer = Answer::Many(vec![Answer::Text("1000".into()), Answer::Nil]);
        op(&mut h, 1, all, Some((2, Ok(answer))));
        assert_eq!(check(&h).len(), 1);
    }
}
