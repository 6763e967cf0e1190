//! Deliberate bugs, so that the lab can show that it would find them.
//!
//! They exist only where debug assertions do: in a release build [`planted`] is the constant `false`,
//! there is nothing to switch on.

/// A bug that the lab can plant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Bug {
    /// A follower (or a lone leader) acknowledges entries before they are synced.
    AcknowledgeBeforeSync,
    /// A replica whose log was lost takes part in elections under its old identity.
    VoteAfterLostLog,
    /// A repeated command of a session is applied again.
    ApplyTwice,
    /// A watch that is registered while its session has a write in flight is dropped.
    LoseWatch,
    /// Sessions are expired at half their time-out.
    ExpireEarly,
    /// Commands of an older attachment of a session are accepted.
    SkipGenerationCheck,
    /// Recovery cuts damage that lies before the last seal as if it were a torn tail.
    CutSealedFrame,
    /// `sync` is answered without a read-index.
    SyncWithoutReadIndex,
    /// A snapshot writes slots as they are when visited, not as they were at the cut.
    SnapshotWithoutOldImage,
    /// The event of a change is queued behind the reply that shows it.
    EventAfterData,
    /// A session that moved keeps getting served by its old home.
    ServeAfterMove,
    /// A container that never had a child is removed as if it had lost its last.
    ReapUnused,
    /// A TTL node is removed when half its time is over.
    ReapEarly,
    /// Access control lists let everybody pass.
    LetEverybodyPass,
    /// A persistent watch is consumed by its first event.
    ConsumePersistent,
    /// A cache key is read without asking whether this replica is behind.
    ReadWithoutBarrier,
    /// EXEC is carried out although a watched key was touched.
    IgnoreTouchedWatch,
    /// A key is removed when its time is over although it was set anew meanwhile.
    ExpireSetAnew,
    /// The answer to a write goes to the connection's first that waits.
    AnswerAnotherWaiter,
    /// A writer whose lease has ended still adds to a file.
    CommitWithoutLease,
    /// A copy of a chunk whose checksum was found wrong keeps counting as good.
    TrustCorruptCopy,
    /// A chunk is committed as if every node that was to get it had it, when one does.
    CommitUnheard,
    /// A participant of a transaction commits when it has promised, before that is decided.
    CommitBeforeDecision,
    /// What a transaction holds is not held any more by a replica that was filled from a snapshot.
    ForgetLocksOnSnapshot,
    /// A participant that asks about a transaction without a record is told to commit it.
    CommitWithoutRecord,
    /// A batch that an idempotent producer repeats is appended again.
    RepeatBatch,
    /// A member of a consumer group commits in a generation that is over.
    CommitInThePast,
    /// Every member of a consumer group is given the share of its leader.
    GiveLeadersShare,
    /// Retention by count keeps half of what it must.
    TrimTooMuch,
    /// What was passed on by a link that is lost is passed on again.
    ForwardTwice,
    /// A writer that waits for a lock on the tree looks at readers only, as the notes have it.
    WriterIgnoresWriters,
    /// A contender for a lock whose create has an unknown outcome creates again without looking.
    CreateWithoutLooking,
    /// What a lock protects takes changes under older fences than it has seen.
    AdmitOldFence,
    /// A check that was told in time expires all the same.
    ExpireToldCheck,
    /// Who waits for a change of a service is not woken by what its checks say.
    SleepThroughChecks,
    /// A service of a global transaction that does not answer is taken to have refused.
    CountUnknownAsRefusal,
    /// A saga that turns back compensates only the steps that it has heard to be done.
    CompensateAcknowledgedOnly,
    /// A result is taken although the call that it is of is not wanted any more.
    TakeStaleResult,
    /// What is left of an agent is not looked at again when a task is promised its room.
    PromiseTwice,
    /// What an agent of an older generation reports counts.
    HearStaleReports,
    /// An agent that came back in time is lost all the same.
    LoseAgentThatCameBack,
    /// A service of a global transaction that is not heard is taken to have done what it was asked.
    CountSilenceAsDone,
    /// An agent is lost when half of its lease is over.
    LoseAgentEarly,
    /// A node of a primary that has started serves without having asked whether it was superseded.
    ServeUnlooked,
    /// Of two copies of what a node says by gossip the one of more changes wins, whatever its incarnation.
    OldIncarnationWins,
    /// What leans on a state of a group's peer leaves before the state is durable.
    LeaveBeforePersist,
    /// A restarted member of a group begins anew, without the state that is on its disk.
    BeginGroupAnew,
    /// A bug of one of the lab's algorithms.
    Peer(PeerBug),
    /// A bug of those who divide work.
    Computing(ComputingBug),
}

/// A bug of a coordinator of divided work, found where that is simulated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ComputingBug {
    /// The finished maps of a worker that is lost count as done.
    KeepLostOutput,
    /// The output of a reduce's second attempt is published, too.
    PublishTwice,
    /// A stream's checkpoint is used although one worker has not acknowledged it.
    CompleteEarly,
    /// A stream's checkpoint has the offsets of its sources without the state that belongs to them.
    OffsetsWithoutState,
    /// A task of a stream goes on reading a channel whose barrier has come.
    ReadPastBarrier,
    /// Who owned an actor's name goes on under it when the lease is over.
    ActAfterLease,
    /// A message to one incarnation of an actor is carried out by another one.
    AnswerForAnother,
    /// An incarnation of an actor writes its state although another one has taken it over.
    WriteUnfenced,
}

/// A bug of an algorithm among equals ([`crate::Peer`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum PeerBug {
    /// A coordinator grants a lock that is held.
    GrantWhileHeld,
    /// Who wants a lock takes itself for the lock's coordinator.
    CoordinatorOfOnesOwn,
    /// Lamport's exclusion enters before it has heard a later time from everybody.
    EnterUnheard,
    /// A peer that wants to enter lets others pass that asked later.
    AnswerRivals,
    /// A peer that comes back asks with a clock that starts anew.
    SkipClockSync,
    /// Half of the votes are taken for a majority.
    HalfIsMajority,
    /// A voter does not keep whom its vote was given to.
    ForgetVote,
    /// A ring's token is passed on while its holder is inside.
    PassWhileInside,
    /// A ring's token that is missed is replaced whoever has it.
    ReplaceUnasked,
    /// A ring's coordinator passes the global token on while the local one is under way.
    PassGlobalEarly,
    /// A candidate declares itself although a greater one has answered.
    IgnoreAlive,
    /// A candidacy smaller than one's own is passed on.
    ForwardSmaller,
    /// An election prefers the greater id to the later history.
    RankByIdFirst,
    /// A coordinator tells the outcome before it has written it.
    CommitBeforeLog,
    /// A prepared participant that hears nothing gives up.
    AbortWhenUncertain,
    /// A coordinator does not wait for the acknowledgements of its pre-commit.
    CommitUnprepared,
    /// A participant reserves for what was already cancelled.
    TryAfterCancel,
    /// A repeated confirmation takes effect again.
    ConfirmAgain,
    /// A saga that turns back forgets its first step.
    SkipCompensation,
    /// A saga that goes forward passes over a step that was refused.
    SkipRefusedStep,
    /// A broker delivers a message whose sender has not confirmed it.
    DeliverHalf,
    /// A detector never trusts again whom it once suspected.
    SuspectForEver,
    /// A suspicion is not withdrawn when the suspect answers.
    DeafToRefutation,
    /// A lease is given to the next before it has run out.
    GrantDuringLease,
    /// A primary acknowledges what only it has.
    AcknowledgeAlone,
    /// A new primary takes over without asking the others what they have.
    PromoteUnheard,
    /// A read is answered with the first copy that comes.
    ReadFirst,
    /// A write that is kept for a replica that is away counts as taken by it.
    CountHints,
    /// A side of exactly half takes itself for the majority.
    StayWithHalf,
    /// Who is the oldest goes on although it is alone.
    StayAlone,
    /// A third party that has named one side names another one too.
    NameAgain,
    /// A replica takes the primary's word without asking the others for theirs.
    BelievePrimary,
    /// Only who started a rumour spreads it.
    KeepRumour,
    /// Who has heard one rumour takes all others for the same.
    HearOneRumour,
    /// An acceptor takes a proposal although it has promised a later one not to.
    ForgetPromise,
    /// A new leader does not heed what it heard to be taken.
    LeadUnheard,
    /// A chain is taken for another one that is no longer.
    TakeAnyChain,
    /// Blocks count as so many producers, whoever made them.
    CountBlocks,
    /// A chain's last block counts as decided.
    DecideAtOnce,
    /// Votes for delegates count when a peer has heard them, whatever the chain holds.
    CountHeardVotes,
    /// What a clock was asked counts for ever.
    KeepOldAnswers,
    /// A coordinator tells of an abort that is not in its group's log.
    TellUnwritten,
}

/// Every bug of the shipped node, for tests that go through them. Those of the lab's algorithms are
/// planted one by one, each in the test of its algorithm.
pub const ALL: &[Bug] = &[
    Bug::AcknowledgeBeforeSync,
    Bug::VoteAfterLostLog,
    Bug::ApplyTwice,
    Bug::LoseWatch,
    Bug::ExpireEarly,
    Bug::SkipGenerationCheck,
    Bug::CutSealedFrame,
    Bug::SyncWithoutReadIndex,
    Bug::SnapshotWithoutOldImage,
    Bug::EventAfterData,
    Bug::ServeAfterMove,
    Bug::ReapUnused,
    Bug::ReapEarly,
    Bug::LetEverybodyPass,
    Bug::ConsumePersistent,
    Bug::ReadWithoutBarrier,
    Bug::IgnoreTouchedWatch,
    Bug::ExpireSetAnew,
    Bug::AnswerAnotherWaiter,
    Bug::CommitWithoutLease,
    Bug::TrustCorruptCopy,
    Bug::CommitUnheard,
    Bug::CommitBeforeDecision,
    Bug::ForgetLocksOnSnapshot,
    Bug::CommitWithoutRecord,
    Bug::RepeatBatch,
    Bug::CommitInThePast,
    Bug::GiveLeadersShare,
    Bug::TrimTooMuch,
    Bug::ForwardTwice,
    Bug::WriterIgnoresWriters,
    Bug::CreateWithoutLooking,
    Bug::AdmitOldFence,
    Bug::ExpireToldCheck,
    Bug::SleepThroughChecks,
    Bug::CountUnknownAsRefusal,
    Bug::CompensateAcknowledgedOnly,
    Bug::TakeStaleResult,
    Bug::PromiseTwice,
    Bug::HearStaleReports,
    Bug::LoseAgentThatCameBack,
    Bug::CountSilenceAsDone,
    Bug::LoseAgentEarly,
    Bug::ServeUnlooked,
    Bug::OldIncarnationWins,
    Bug::LeaveBeforePersist,
    Bug::BeginGroupAnew,
];

#[cfg(debug_assertions)]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants `bug` (or none) on this thread.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// True when `bug` is planted on this thread.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(debug_assertions))]
mod switch {
    /// Always false in a release build.
    #[inline(always)]
    pub const fn planted(_: super::Bug) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
pub use switch::plant;
pub use switch::planted;

/// True when `bug` of an algorithm among equals is planted on this thread.
#[inline(always)]
pub fn misbehaves(bug: PeerBug) -> bool {
    planted(Bug::Peer(bug))
}
