//! Every planted bug is found, and the same seeds pass without it.
#![cfg(debug_assertions)]

use base::planted::{ALL, Bug, plant};
use lab::{Options, Workload, run};

const SEEDS_MAX: u64 = 30;

/// Faults under which a bug shows.
fn faults(bug: Bug) -> &'static str {
    match bug {
        Bug::AcknowledgeBeforeSync => "blackout,slow",
        Bug::VoteAfterLostLog | Bug::CutSealedFrame => "rot",
        Bug::ApplyTwice => "duplicate",
        Bug::LoseWatch
        | Bug::EventAfterData
        | Bug::ServeAfterMove
        | Bug::SkipGenerationCheck
        | Bug::ReapUnused
        | Bug::ReapEarly
        | Bug::LetEverybodyPass
        | Bug::ConsumePersistent
        | Bug::IgnoreTouchedWatch
        | Bug::ExpireSetAnew
        | Bug::AnswerAnotherWaiter
        | Bug::CommitWithoutLease
        | Bug::TrustCorruptCopy
        | Bug::CommitBeforeDecision
        | Bug::ForgetLocksOnSnapshot
        | Bug::CommitWithoutRecord
        | Bug::CommitInThePast
        | Bug::GiveLeadersShare
        | Bug::TrimTooMuch
        | Bug::WriterIgnoresWriters
        | Bug::CreateWithoutLooking
        | Bug::AdmitOldFence
        | Bug::ExpireToldCheck
        | Bug::PromiseTwice
        | Bug::HearStaleReports
        | Bug::LoseAgentThatCameBack
        | Bug::SleepThroughChecks
        | Bug::CountUnknownAsRefusal
        | Bug::CompensateAcknowledgedOnly
        | Bug::TakeStaleResult
        | Bug::CountSilenceAsDone
        | Bug::ServeUnlooked
        | Bug::LoseAgentEarly => "none",
        Bug::ExpireEarly | Bug::RepeatBatch => "connections",
        Bug::SyncWithoutReadIndex | Bug::ReadWithoutBarrier => "partition,slow",
        Bug::ForwardTwice => "streams,partition",
        Bug::SnapshotWithoutOldImage => "snapshot,blackout",
        Bug::Peer(_) | Bug::Computing(_) => unreachable!("planted beside its algorithm"),
        Bug::OldIncarnationWins | Bug::CommitUnheard => "crash",
        Bug::LeaveBeforePersist => "blackout,slow",
        Bug::BeginGroupAnew => "blackout",
    }
}

/// The clients that see it.
fn workload(bug: Bug) -> Workload {
    match bug {
        Bug::ReadWithoutBarrier
        | Bug::IgnoreTouchedWatch
        | Bug::ExpireSetAnew
        | Bug::AnswerAnotherWaiter
        | Bug::ForwardTwice => Workload::Redis,
        Bug::RepeatBatch | Bug::CommitInThePast | Bug::GiveLeadersShare | Bug::TrimTooMuch => {
            Workload::Kafka
        }
        Bug::WriterIgnoresWriters | Bug::CreateWithoutLooking | Bug::AdmitOldFence => {
            Workload::Locks
        }
        Bug::ExpireToldCheck | Bug::SleepThroughChecks => Workload::Services,
        Bug::LoseAgentEarly | Bug::PromiseTwice => Workload::Jobs,
        Bug::CountSilenceAsDone => Workload::Globals,
        Bug::ServeUnlooked => Workload::Standby,
        Bug::CommitWithoutLease | Bug::TrustCorruptCopy | Bug::CommitUnheard => Workload::Files,
        Bug::LeaveBeforePersist | Bug::BeginGroupAnew => Workload::Groups,
        _ => Workload::Zookeeper,
    }
}

fn found(bug: Bug) -> Result<String, String> {
    let options = |seed| Options {
        seed,
        faults: faults(bug).parse().expect("names of faults"),
        workload: workload(bug),
        single: bug == Bug::ForwardTwice,
        ..Options::default()
    };
    for seed in 1..=SEEDS_MAX {
        plant(Some(bug));
        let with = run(&options(seed));
        plant(None);
        if let Some(violation) = with.violations.first() {
            let without = run(&options(seed));
            if !without.violations.is_empty() {
                return Err(format!(
                    "{bug:?}: seed {seed} fails without the bug too: {:?}",
                    without.violations
                ));
            }
            return Ok(format!("{bug:?}: seed {seed}: {violation}"));
        }
    }
    Err(format!("{bug:?} was not found in {SEEDS_MAX} seeds"))
}

/// Bugs between shards, found in `crates/shard/tests/transactions.rs`, of jobs, found in `crates/scheduling/src/machine/tests.rs`, and of global
/// transactions, found in `crates/transactions/tests/global.rs`.
const ELSEWHERE: &[Bug] = &[
    Bug::CommitBeforeDecision,
    Bug::ForgetLocksOnSnapshot,
    Bug::CommitWithoutRecord,
    Bug::CountUnknownAsRefusal,
    Bug::CompensateAcknowledgedOnly,
    Bug::TakeStaleResult,
    Bug::HearStaleReports,
    Bug::LoseAgentThatCameBack,
];

#[test]
fn every_planted_bug_is_found() {
    let here = ALL.iter().filter(|bug| !ELSEWHERE.contains(bug));
    let (even, odd): (Vec<_>, Vec<_>) = here.enumerate().partition(|(i, _)| i % 2 == 0);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let workers = [even, odd].map(|bugs| {
            scope.spawn(move || {
                let mut missed = Vec::new();
                for (_, bug) in bugs {
                    match found(*bug) {
                        Ok(how) => println!("{how}"),
                        Err(why) => missed.push(why),
                    }
                }
                missed
            })
        });
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker ends"))
            .collect()
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
