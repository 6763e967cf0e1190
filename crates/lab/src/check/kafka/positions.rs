//! Committed positions are linearizable registers: none goes back by itself, is lost, or comes from nowhere.

use crate::check::register::Register;
use crate::history::History;
use crate::kafka::Partition;
use std::collections::BTreeMap;

/// Objections to what was committed, and read of it.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut registers: BTreeMap<(&str, Partition), Register<'_>> = BTreeMap::new();
    for commit in &history.kafka.commits {
        let register = registers.entry((commit.group, commit.partition));
        let (end_us, done) = match commit.reply {
            Some((at_us, done)) => (at_us, Some(done)),
            None => (u64::MAX, None),
        };
        let register = register.or_default();
        register.write(&commit.value, commit.invoked_us, end_us, done);
    }
    for read in &history.kafka.committed {
        let (group, partition, value) = (read.group, read.partition, &read.value);
        let register = registers.entry((group, partition)).or_default();
        if let Err(why) = register.read(value, read.invoked_us, read.at_us) {
            objections.push(format!("{group} has come to {value} in {partition}, {why}"));
        }
    }
    for ((group, partition), register) in &registers {
        let conflicts = register.conflicts().into_iter();
        objections.extend(conflicts.map(|c| format!("{group} in {partition}: {c}")));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::P;
    use super::*;
    use crate::kafka::{Commit, Committed};

    fn commit(h: &mut History, from_us: u64, reply: Option<(u64, bool)>, value: &str) {
        h.kafka.commits.push(Commit {
            group: "near",
            partition: P,
            generation: 1,
            value: value.into(),
            invoked_us: from_us,
            reply,
        });
    }

    fn read(h: &mut History, invoked_us: u64, at_us: u64, value: &str) {
        h.kafka.committed.push(Committed {
            group: "near",
            partition: P,
            value: value.into(),
            invoked_us,
            at_us,
        });
    }

    #[test]
    fn positions_that_go_back_or_come_from_nowhere_are_found() {
        let mut h = History::default();
        read(&mut h, 1, 2, "");
        commit(&mut h, 3, Some((4, true)), "5 a");
        commit(&mut h, 5, None, "9 b");
        commit(&mut h, 6, Some((7, false)), "11 c");
        read(&mut h, 8, 9, "5 a");
        read(&mut h, 10, 11, "9 b");
        assert_eq!(check(&h), Vec::<String>::new());
        for bad in ["5 a", "", "11 c", "12 d"] {
            let mut h = h.clone();
            read(&mut h, 12, 13, bad);
            assert!(!check(&h).is_empty(), "{bad}");
        }
    }
}
