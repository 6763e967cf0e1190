//! What people are told about an algorithm. The header stands in the algorithm's own file; lists,
//! explanations and checks are made from it.

/// Which problem an algorithm solves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Family {
    /// At most one inside.
    MutualExclusion,
    /// One leads.
    Election,
    /// All or nothing.
    Commit,
    /// Who is dead?
    FailureDetection,
    /// Copies of one thing, and what an acknowledgement is worth.
    Replication,
    /// Which side of a network that fell apart goes on?
    SplitBrain,
    /// One order of values, for all.
    Consensus,
    /// A rumour shall reach everybody.
    Gossip,
    /// How far are clocks apart?
    Clocks,
    /// Which node has a key?
    Placement,
}

impl Family {
    /// Every family, in the order of lists.
    pub const ALL: &[Self] = &[
        Self::MutualExclusion,
        Self::Election,
        Self::Commit,
        Self::FailureDetection,
        Self::Replication,
        Self::SplitBrain,
        Self::Consensus,
        Self::Gossip,
        Self::Clocks,
        Self::Placement,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MutualExclusion => "mutual exclusion",
            Self::Election => "election",
            Self::Commit => "commit",
            Self::FailureDetection => "failure detection",
            Self::Replication => "replication",
            Self::SplitBrain => "split brain",
            Self::Consensus => "consensus",
            Self::Gossip => "gossip",
            Self::Clocks => "clocks",
            Self::Placement => "placement",
        }
    }
}

/// A kind of thing that goes wrong. What each does in the lab, with which figures, is told by its
/// place in the lab's list of named faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Trouble {
    /// Messages take longer, within a bound that time-outs allow for.
    Delay,
    /// One node handles and answers everything later, within the same bound.
    Slow,
    /// Messages of one pair overtake each other.
    Reorder,
    /// Messages arrive twice.
    Duplicate,
    /// Messages are lost.
    Loss,
    /// A process dies and comes back with what it persisted.
    Crash,
    /// A process dies and does not come back.
    Death,
    /// A process stops for longer than any time-out, and goes on as if nothing had been.
    Pause,
    /// The network falls apart, in both directions, and heals.
    Partition,
    /// Messages pass in one direction only.
    OneWay,
    /// Wall clocks step, and clocks run fast or slow.
    Clock,
    /// A process comes back without what it had persisted.
    Wipe,
    /// A process withholds messages, tells different peers different things, or tells what is not so.
    Liar,
}

impl Trouble {
    /// Every trouble, in the order of lists.
    pub const ALL: [Self; 13] = [
        Self::Delay,
        Self::Slow,
        Self::Reorder,
        Self::Duplicate,
        Self::Loss,
        Self::Crash,
        Self::Death,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Clock,
        Self::Wipe,
        Self::Liar,
    ];

    /// What ends, and lets everybody go on with what they have on disk: all but lasting deaths, lost disks and lies.
    pub const PASSING: &'static [Self] = &[
        Self::Delay,
        Self::Slow,
        Self::Reorder,
        Self::Duplicate,
        Self::Loss,
        Self::Crash,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Clock,
    ];

    /// The same, and deaths: what a protocol survives that needs no more than a majority.
    pub const PASSING_AND_DEATH: &'static [Self] = &[
        Self::Delay,
        Self::Slow,
        Self::Reorder,
        Self::Duplicate,
        Self::Loss,
        Self::Crash,
        Self::Death,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Clock,
    ];

    /// Its word on the command line.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Slow => "slow",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Loss => "loss",
            Self::Crash => "crash",
            Self::Death => "death",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Clock => "clock",
            Self::Wipe => "wipe",
            Self::Liar => "liar",
        }
    }
}

/// An algorithm in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its word on the command line.
    pub name: &'static str,
    /// The problem it solves.
    pub family: Family,
    /// Its name for people.
    pub title: &'static str,
    /// Paper or book.
    pub source: &'static str,
    /// How it works.
    pub idea: &'static str,
    /// What must hold for its promise: failures, timing, order of messages.
    pub assumptions: &'static str,
    /// Messages and delays.
    pub cost: &'static str,
    /// What it does not promise.
    pub not_guaranteed: &'static str,
    /// When to choose it.
    pub choose_when: &'static str,
    /// When not to.
    pub avoid_when: &'static str,
    /// Names of algorithms to compare it with.
    pub alternatives: &'static [&'static str],
    /// The troubles under which it keeps its promise and goes on once they end: checked by `althing lab check`.
    pub survives: &'static [Trouble],
}
