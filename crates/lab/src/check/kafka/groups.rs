//! Groups: a generation has one leader and each of its members another share; generations only go forward, and
//! nothing is committed in one that is over.

use crate::history::History;
use crate::kafka::{Joined, Partition};
use std::collections::BTreeMap;

/// Objections to generations, shares and commits.
pub fn check(history: &History) -> Vec<String> {
    let kafka = &history.kafka;
    let mut objections = Vec::new();
    let mut leaders: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for joined in &kafka.joined {
        let (group, generation) = (joined.group, joined.generation);
        let leader = leaders.entry((group, generation)).or_insert(&joined.leader);
        if *leader != joined.leader {
            objections.push(format!(
                "generation {generation} of {group} has two leaders: {leader} and {}",
                joined.leader
            ));
        }
    }
    let mut owners: BTreeMap<(&str, i32, Partition), &str> = BTreeMap::new();
    for share in &kafka.shares {
        let (group, generation) = (share.group, share.generation);
        let leader = leaders.get(&(group, generation));
        if leader.is_none_or(|leader| *leader != share.by) || share.to != share.member {
            objections.push(format!(
                "{} was given what {} shared out to {} in generation {generation} of {group}, which {leader:?} leads",
                share.member, share.by, share.to
            ));
        }
        for partition in &share.partitions {
            let key = (group, generation, *partition);
            let owner = owners.entry(key).or_insert(&share.member);
            if *owner != share.member {
                objections.push(format!(
                    "{partition} has two owners in generation {generation} of {group}: {owner} and {}",
                    share.member
                ));
            }
        }
    }
    objections.extend(forward(&kafka.joined, history));
    objections
}

/// What began when a generation was known to have begun is not of an earlier one.
fn forward(joined: &[Joined], history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    // When, in which group: a generation is known; or something of a generation began.
    let known = joined
        .iter()
        .map(|j| (j.at_us, j.group, j.generation, None));
    let joins = joined.iter().map(|j| {
        let what = format!("{} joins", j.member);
        (j.invoked_us, j.group, j.generation, Some(what))
    });
    let taken = |c: &&crate::kafka::Commit| matches!(c.reply, Some((_, true)));
    let commits = history.kafka.commits.iter().filter(taken).map(|c| {
        let what = format!("{} of {} is committed", c.value, c.partition);
        (c.invoked_us, c.group, c.generation, Some(what))
    });
    let mut all: Vec<_> = known.chain(joins).chain(commits).collect();
    // At the same time, what began did not know.
    all.sort_by_key(|(at_us, .., what)| (*at_us, what.is_none()));
    let mut newest: BTreeMap<&str, i32> = BTreeMap::new();
    for (at_us, group, generation, what) in all {
        let newest = newest.entry(group).or_default();
        match what {
            None => *newest = generation.max(*newest),
            Some(what) if generation < *newest => objections.push(format!(
                "{what} at {at_us} in generation {generation} of {group}, when {newest} had begun"
            )),
            Some(_) => {}
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::{P, Q};
    use super::*;
    use crate::kafka::{Commit, Share};

    fn joined(h: &mut History, invoked_us: u64, at_us: u64, generation: i32, leader: &str) {
        h.kafka.joined.push(Joined {
            group: "near",
            member: "ann".into(),
            generation,
            leader: leader.into(),
            invoked_us,
            at_us,
        });
    }

    fn share(h: &mut History, member: &str, by: &str, to: &str, partition: Partition) {
        h.kafka.shares.push(Share {
            group: "near",
            member: member.into(),
            generation: 1,
            by: by.into(),
            to: to.into(),
            partitions: vec![partition],
        });
    }

    fn commit(h: &mut History, invoked_us: u64, generation: i32) {
        h.kafka.commits.push(Commit {
            group: "near",
            partition: P,
            generation,
            value: "7 c0.1".into(),
            invoked_us,
            reply: Some((invoked_us + 1, true)),
        });
    }

    fn good() -> History {
        let mut h = History::default();
        joined(&mut h, 1, 3, 1, "ann");
        share(&mut h, "ann", "ann", "ann", P);
        share(&mut h, "bob", "ann", "bob", Q);
        commit(&mut h, 5, 1);
        joined(&mut h, 4, 8, 2, "bob");
        commit(&mut h, 7, 1);
        h
    }

    #[test]
    fn good_history_passes() {
        assert_eq!(check(&good()), Vec::<String>::new());
    }

    #[test]
    fn partitions_with_two_owners_and_shares_of_others_are_found() {
        let mut h = good();
        share(&mut h, "bob", "ann", "bob", P);
        assert_eq!(check(&h).len(), 1);
        let mut h = good();
        share(&mut h, "bob", "ann", "ann", Q);
        share(&mut h, "bob", "bob", "bob", Q);
        assert_eq!(check(&h).len(), 2);
    }

    #[test]
    fn generations_that_go_back_or_have_two_leaders_are_found() {
        let mut h = good();
        joined(&mut h, 9, 10, 1, "ann");
        assert_eq!(check(&h).len(), 1);
        let mut h = good();
        joined(&mut h, 4, 10, 2, "ann");
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn commits_in_a_generation_that_is_over_are_found() {
        let mut h = good();
        commit(&mut h, 9, 1);
        assert_eq!(check(&h).len(), 1);
    }
}
