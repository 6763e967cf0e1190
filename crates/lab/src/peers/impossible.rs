//! What cannot be had, shown: a run of an algorithm under a script in which it fails as theory says it must, and
//! beside it what is chosen instead, under the same script. `althing lab scenario`.

use super::registry::{self, Algorithm};
use super::script::{Script, read_script};
use super::simulation::{Outcome, Pace, Plan};
use cluster::split_brain::Strategy;

/// What a run is expected to show.
#[derive(Clone, Copy, Debug)]
pub enum Shows {
    /// A broken promise that says this.
    Unsafe(&'static str),
    /// Something that did not come about and should have, that says this.
    Stuck(&'static str),
    /// A figure of this name is at least so much: a count, or microseconds.
    AtLeast(&'static str, u64),
    /// No such figure is greater than this; nothing is unsafe or stuck.
    AtMost(&'static str, u64),
    /// Nothing is unsafe, and nothing is stuck.
    Holds,
    /// Nothing is unsafe. What is stuck is the price.
    Safe,
}

impl Shows {
    /// Whether this is what came of it.
    pub fn is_shown(self, outcome: &Outcome) -> bool {
        let figures = |name| outcome.figures.get(name).into_iter().flatten();
        let safe = outcome.unsafe_.is_empty();
        let holds = safe && outcome.stalled.is_empty();
        match self {
            Self::Unsafe(text) => outcome.unsafe_.iter().any(|said| said.contains(text)),
            Self::Stuck(text) => outcome.stalled.iter().any(|said| said.contains(text)),
            Self::AtLeast(name, least) => figures(name).any(|value| *value >= least),
            Self::AtMost(name, most) => figures(name).all(|value| *value <= most) && holds,
            Self::Holds => holds,
            Self::Safe => safe,
        }
    }

    /// In words.
    pub fn told(self) -> String {
        let amount = |name: &str, value: u64| match super::text::is_count(name) {
            true => format!("{name}: {value}"),
            false => format!("{name}: {} ms", value / 1000),
        };
        match self {
            Self::Unsafe(text) => format!("a broken promise: \"… {text} …\""),
            Self::Stuck(text) => format!("no progress: \"… {text} …\""),
            Self::AtLeast(name, least) => format!("{} or more", amount(name, least)),
            Self::AtMost(name, most) => format!("{} at most", amount(name, most)),
            Self::Holds => "all promises hold".into(),
            Self::Safe => "nothing wrong happens".into(),
        }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its word on the command line.
    pub name: &'static str,
    /// What cannot be had.
    pub claim: &'static str,
    /// Why, and what follows.
    pub why: &'static str,
    /// Who fails.
    pub algorithm: &'static str,
    /// What the run shows.
    pub shows: Shows,
    /// Who does better under the same script, and what that shows.
    pub instead: (&'static str, Shows),
    /// Peers.
    pub nodes: usize,
    /// Of the run.
    pub seed: u64,
    /// Its end.
    pub until_ms: u64,
    /// What goes wrong, as in a file.
    pub script: &'static str,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "2pc-blocks",
        claim: "Two-phase commit waits for a dead coordinator.",
        why: "Who has agreed cannot know what was decided, and the one that knows is dead. Whatever the others did alone could be wrong. Three-phase commit goes on, for a price that the scenario 3pc-splits shows; a replicated coordinator does without that price.",
        algorithm: "2pc",
        shows: Shows::Stuck("still waits for the outcome of transaction 1"),
        instead: ("3pc", Shows::Holds),
        nodes: 5,
        seed: 1,
        until_ms: 14_000,
        script: "
# The participants' votes are lost, and the coordinator dies.
[[fault]]
at_ms = 401
until_ms = 2000
kind = \"one-way\"
from = [2, 3, 4, 5]
to = [1]

[[fault]]
at_ms = 430
kind = \"crash\"
node = 1
",
    },
    Scenario {
        name: "lone-coordinator",
        claim: "A coordinator of one blocks all; one of three does not.",
        why: "What the dead coordinator knew is in the logs of two others, of which one goes on. That costs messages, and no promise: where 3pc takes silence for death, a majority decides. This is what replaces 3pc in practice.",
        algorithm: "2pc",
        shows: Shows::Stuck("still waits for the outcome of transaction"),
        instead: ("2pc-replicated", Shows::Holds),
        nodes: 5,
        seed: 1,
        until_ms: 16_000,
        script: "
# The first votes are lost, and the coordinator dies.
[[fault]]
at_ms = 401
until_ms = 2000
kind = \"one-way\"
from = [2, 3, 4, 5]
to = [1]

[[fault]]
at_ms = 430
kind = \"crash\"
node = 1
",
    },
    Scenario {
        name: "3pc-splits",
        claim: "Three-phase commit ends both ways when the network splits.",
        why: "It takes silence for death. Those who know that all have agreed commit, those who do not know abort, each on its side. No protocol ends in every such split and always the same way (Skeen, Stonebraker 1983). Two-phase commit waits instead.",
        algorithm: "3pc",
        shows: Shows::Unsafe("commits transaction 1, which node 4 aborted"),
        instead: ("2pc", Shows::Holds),
        nodes: 5,
        seed: 1,
        until_ms: 16_000,
        script: "
# The word that all have agreed reaches 2 and 3 only; then the coordinator dies and the network splits.
[[fault]]
at_ms = 408
until_ms = 2000
kind = \"one-way\"
from = [1]
to = [4, 5]

[[fault]]
at_ms = 430
kind = \"crash\"
node = 1

[[fault]]
at_ms = 430
until_ms = 5000
kind = \"partition\"
sides = [[2, 3], [4, 5]]

[[fault]]
at_ms = 6000
kind = \"restart\"
node = 1
",
    },
    Scenario {
        name: "lease-held-twice",
        claim: "A lock with a lease and without fences is held twice.",
        why: "A holder that is stopped for longer than its lease (a pause for garbage collection) does not know it when it goes on. No lease is long enough. Either what the lock protects looks at fences (the locks of `althing lock` carry them), or a dead holder blocks the lock for ever.",
        algorithm: "lease",
        shows: Shows::Unsafe("enters while node"),
        instead: ("centralized", Shows::Safe),
        nodes: 4,
        seed: 1,
        until_ms: 14_000,
        script: "
[[fault]]
at_ms = 1000
kind = \"ask\"
node = 3
request = \"acquire\"

# It has the lock when it is stopped.
[[fault]]
at_ms = 1012
until_ms = 3000
kind = \"pause\"
node = 3
",
    },
    Scenario {
        name: "quorum-of-half",
        claim: "A static quorum of 3 makes two clusters of 6 nodes.",
        why: "A quorum q is safe for q to 2q - 1 nodes. The sixth node is one too many: both halves count three. A majority of the members of the moment has no such number to outgrow.",
        algorithm: "static-quorum-3",
        shows: Shows::Unsafe("two clusters serve: {1, 2, 3} and {4, 5, 6}"),
        instead: ("keep-majority", Shows::Holds),
        nodes: 6,
        seed: 1,
        until_ms: 20_000,
        script: "
[[fault]]
at_ms = 1000
until_ms = 8000
kind = \"partition\"
sides = [[1, 2, 3], [4, 5, 6]]
",
    },
    Scenario {
        name: "stale-quorum",
        claim: "With W + R <= N a read misses the last acknowledged write.",
        why: "One copy of three took the write, another one answers the read: nothing makes the two meet. With W = R = 2 they always share a copy.",
        algorithm: "quorum-one-one",
        shows: Shows::AtLeast("stale reads", 1),
        instead: ("quorum-majority", Shows::AtMost("stale reads", 0)),
        nodes: 3,
        seed: 1,
        until_ms: 14_000,
        script: "
[[fault]]
at_ms = 1000
until_ms = 4000
kind = \"partition\"
sides = [[1, 2], [3]]
",
    },
    Scenario {
        name: "bully-flaps",
        claim: "Bully's leadership comes and goes with the largest id.",
        why: "The greatest alive always wins, so a machine that crashes and comes back takes the leadership each time, and twice each time the group is without one. An algorithm with terms keeps the leader that it has.",
        algorithm: "bully",
        shows: Shows::AtLeast("changes", 9),
        instead: ("raft", Shows::AtMost("changes", 3)),
        nodes: 5,
        seed: 1,
        until_ms: 26_000,
        script: "
[[fault]]
at_ms = 2000
kind = \"crash\"
node = 5
[[fault]]
at_ms = 4500
kind = \"restart\"
node = 5
[[fault]]
at_ms = 6000
kind = \"crash\"
node = 5
[[fault]]
at_ms = 8500
kind = \"restart\"
node = 5
[[fault]]
at_ms = 10000
kind = \"crash\"
node = 5
[[fault]]
at_ms = 12500
kind = \"restart\"
node = 5
[[fault]]
at_ms = 14000
kind = \"crash\"
node = 5
[[fault]]
at_ms = 16500
kind = \"restart\"
node = 5
",
    },
    Scenario {
        name: "slow-replica",
        claim: "One slow replica stalls synchronous replication.",
        why: "A write is acknowledged when all have it, so the slowest of all is the speed of all; one that stops, stops all. A majority waits for the median replica, and loses nothing either.",
        algorithm: "synchronous",
        shows: Shows::AtLeast("acknowledgement", 2_900_000),
        instead: ("semi-majority", Shows::AtMost("acknowledgement", 100_000)),
        nodes: 5,
        seed: 1,
        until_ms: 14_000,
        script: "
[[fault]]
at_ms = 1000
until_ms = 4000
kind = \"pause\"
node = 4
",
    },
];

/// The scenario of this name.
///
/// # Errors
/// All names.
pub fn find(name: &str) -> Result<&'static Scenario, String> {
    ALL.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|s| s.name).collect();
        format!(
            "no scenario is called {name:?}; there are {}",
            names.join(", ")
        )
    })
}

impl Scenario {
    /// What the run is made from.
    ///
    /// # Errors
    /// The script cannot be read: that would be a mistake in this file.
    pub fn plan(&self) -> Result<Plan, String> {
        Ok(Plan {
            nodes: self.nodes,
            seed: self.seed,
            script: read_script(self.script, self.nodes)?,
            until_ms: self.until_ms,
            pace: Pace::default(),
            keep: true,
        })
    }

    /// An algorithm of a scenario: of the catalogue, or with a setting that no one should choose.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn algorithm(name: &str) -> Result<Algorithm, String> {
        match name {
            "static-quorum-3" => Ok(registry::resolving(
                Strategy::StaticQuorum(3).header(),
                |_| Strategy::StaticQuorum(3),
            )),
            _ => registry::find(name),
        }
    }

    /// The troubles of the script, for people.
    ///
    /// # Errors
    /// As for [`Self::plan`].
    pub fn faults(&self) -> Result<Script, String> {
        Ok(self.plan()?.script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_show_what_they_say_and_so_does_what_is_chosen_instead() {
        let mut missed = Vec::new();
        for scenario in ALL {
            for (name, shows) in [(scenario.algorithm, scenario.shows), scenario.instead] {
                let algorithm = Scenario::algorithm(name).expect("an algorithm");
                let outcome = (algorithm.run)(&scenario.plan().expect("a plan"));
                if !shows.is_shown(&outcome) {
                    missed.push(format!(
                        "{}: {name} does not show {}; unsafe {:?}, stuck {:?}, figures {:?}",
                        scenario.name,
                        shows.told(),
                        outcome.unsafe_,
                        outcome.stalled,
                        outcome.figures
                    ));
                }
            }
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }
}
