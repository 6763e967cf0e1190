//! Checkers of what the cache's clients saw.

pub mod accounts;
pub mod counts;
pub mod lists;
pub mod mortals;
pub mod registers;
pub mod replicas;

#[cfg(test)]
pub(crate) mod build {
    //! Small histories for the checkers' tests.

    use crate::cache::{Answer, Op, Operation, Reply};
    use crate::history::History;
    use node::ClientId;

    /// An operation from `invoked_us`, with when it was answered and how.
    pub fn op(
        history: &mut History,
        invoked_us: u64,
        op: Op,
        reply: Option<(u64, Result<Answer, String>)>,
    ) {
        history.cache.operations.push(Operation {
            client: 0,
            connection: ClientId(1),
            node: 0,
            invoked_us,
            op,
            reply: reply.map(|(at_us, result)| Reply { at_us, result }),
        });
    }

    pub fn get(history: &mut History, from_us: u64, to_us: u64, key: &str, value: &str) {
        let answer = match value {
            "" => Answer::Nil,
            value => Answer::Text(value.into()),
        };
        op(
            history,
            from_us,
            Op::Get(key.into()),
            Some((to_us, Ok(answer))),
        );
    }

    pub fn set(history: &mut History, from_us: u64, to_us: Option<u64>, key: &str, value: &str) {
        let set = Op::Set {
            key: key.into(),
            value: value.into(),
            ends_ms: None,
        };
        let reply = to_us.map(|at_us| (at_us, Ok(Answer::Done)));
        op(history, from_us, set, reply);
    }
}
