//! Which kinds of clients a run has, and when they begin.

/// Which clients there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Workload {
    /// ZooKeeper's.
    Zookeeper,
    /// Redis'.
    Redis,
    /// Kafka's.
    Kafka,
    /// Tellers, who call for transactions over shards.
    Transactions,
    /// Of services, which call over HTTP.
    Services,
    /// Contenders for locks, on the tree and on the cache.
    Locks,
    /// Users who want jobs, and machines that run their tasks.
    Jobs,
    /// Initiators of global transactions, and the services that these call.
    Globals,
    /// Writers and readers of files, and chunk servers.
    Files,
    /// Two clusters: one follows the other, and takes its place. A run of its own, with faults of its own.
    Standby,
    /// Users of a group of nodes that runs a protocol among equals.
    Groups,
    /// All of these.
    All,
}

impl Workload {
    /// One after the other, by number.
    pub fn of_turn(number: u64) -> Self {
        let all = <Self as clap::ValueEnum>::value_variants();
        all[(number % all.len() as u64) as usize]
    }

    /// Its word on the command line.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Zookeeper => "zookeeper",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::Transactions => "transactions",
            Self::Services => "services",
            Self::All => "all",
            Self::Locks => "locks",
            Self::Jobs => "jobs",
            Self::Globals => "globals",
            Self::Files => "files",
            Self::Standby => "standby",
            Self::Groups => "groups",
        }
    }

    /// True when there are clients of this kind.
    pub(crate) fn has(self, kind: Kind) -> bool {
        match self {
            Self::Zookeeper => kind == Kind::Zookeeper,
            Self::Redis => kind == Kind::Redis,
            Self::Kafka => kind == Kind::Kafka,
            Self::Transactions => kind == Kind::Transactions,
            Self::Services => kind == Kind::Services,
            Self::All => true,
            Self::Locks => matches!(kind, Kind::TreeLock | Kind::CacheLock),
            Self::Jobs => kind == Kind::Jobs,
            Self::Globals => kind == Kind::Globals,
            Self::Files => kind == Kind::Files,
            Self::Standby => false,
            Self::Groups => kind == Kind::Groups,
        }
    }
}

/// A kind of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Zookeeper,
    Redis,
    Kafka,
    TreeLock,
    CacheLock,
    Transactions,
    Services,
    Jobs,
    Globals,
    Files,
    Groups,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: &[Self] = &[
        Self::Zookeeper,
        Self::Redis,
        Self::Kafka,
        Self::TreeLock,
        Self::CacheLock,
        Self::Transactions,
        Self::Services,
        Self::Jobs,
        Self::Globals,
        Self::Files,
        Self::Groups,
    ];

    /// The fork of the seed that is theirs, and when the first of them begins.
    pub(crate) const fn beginning(self) -> (u64, u64) {
        match self {
            Self::Zookeeper => (5, 1_000),
            Self::Redis => (7, 1_500),
            Self::Kafka => (8, 1_700),
            Self::TreeLock => (9, 1_000),
            Self::CacheLock => (10, 1_500),
            Self::Transactions => (11, 1_900),
            Self::Services => (12, 2_100),
            Self::Jobs => (13, 2_300),
            Self::Globals => (14, 2_500),
            Self::Files => (15, 2_700),
            Self::Groups => (17, 2_900),
        }
    }
}
