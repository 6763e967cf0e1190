//! Chains of blocks whose makers take turns: by coin age (King, Nadal, "PPCoin", 2012), or as delegates
//! (Larimer, "Delegated proof-of-stake", 2014).
//!
//! Time goes in slots, and the chain itself says whose turn a slot is, so everybody can check it. Who misses
//! its turn leaves the slot empty. The longest chain wins; a value is taken for decided when enough stands on it.
//!
//! A block's seal stands for its maker's signature: nobody else can make it.
//!
//! Votes for delegates are values of the chain ([`Vote`]). Time goes in epochs, too; the delegates of an epoch follow
//! the votes that blocks of the epoch before the last, and earlier ones, hold: those are decided, so all agree who
//! they are, also when the last blocks are not known to all yet.

use super::stake::{Account, Delegates, Stake, Vote, Votes, draw};
use super::work::Hash;
use super::{Decision, Request, Told};
use base::Rng;
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Lie, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A slot.
const SLOT_MS: i64 = 200;
/// The first begins then: 2026-01-01.
const GENESIS_MS: i64 = 1_767_225_600_000;
/// A block may be ahead of one's own clock by so many slots.
const AHEAD: u64 = 1;
/// Blocks on top before a value counts as decided, by coin age.
const DEPTH: usize = 6;
/// Rounds of delegates between two elections.
const EPOCH_ROUNDS: u64 = 4;
/// Of the empty slots behind a block only the last so many give turns and take them away: a group that stood still
/// for a month goes on at once.
const GAP_SLOTS: u64 = 500;

/// How turns are given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// Drawn, as often as one's coins times the slots since one's last turn weigh.
    CoinAge,
    /// Delegates with the most votes behind them, in rounds, shuffled each time.
    Delegates,
}

impl Rule {
    /// Both.
    pub const ALL: [Self; 2] = [Self::CoinAge, Self::Delegates];

    /// What people are told.
    pub const fn header(self) -> Header {
        match self {
            Self::CoinAge => Header {
                name: "coin-age",
                family: Family::Consensus,
                title: "Proof of stake by coin age",
                source: "King, Nadal: PPCoin (2012)",
                idea: "Each slot one of the owners is drawn, as often as its coins times the time since its last turn weigh; the draw follows from the block before, so all can check it. The longest chain wins. Six blocks deep, a value counts as decided.",
                assumptions: "Clocks agree to within a slot of 200 ms, and a block reaches all within one. Those who lie have a small share of the coins.",
                cost: "n - 1 messages a block, and no work.",
                not_guaranteed: "Finality: in a split network both sides go on, and the shorter chain is dropped. That nobody builds on two chains: it costs nothing to.",
                choose_when: "those who take part have something to lose, and work shall not be wasted.",
                avoid_when: "the network may split, or those who take part are few and known: pbft decides for good.",
                alternatives: &["delegates", "proof-of-work", "pbft"],
                survives: &[
                    Trouble::Delay,
                    Trouble::Slow,
                    Trouble::Reorder,
                    Trouble::Duplicate,
                    Trouble::Loss,
                    Trouble::Crash,
                    Trouble::Liar,
                ],
            },
            Self::Delegates => Header {
                name: "delegates",
                family: Family::Consensus,
                title: "Delegated proof of stake",
                source: "Larimer: Delegated proof-of-stake (2014)",
                idea: "Votes weigh as much as their voters' coins. The delegates with the most make blocks in turn, in rounds whose order is shuffled by the block before; who makes none in a round is replaced by the first that stands by. A vote is a value like others; every four rounds those are elected whom the votes of the epoch before the last are for. The longest chain wins, and a block is decided when more than two thirds of the delegates have built on it.",
                assumptions: "Clocks agree to within a slot of 200 ms, and a block reaches all within one. Fewer than a third of the delegates lie.",
                cost: "n - 1 messages a block, and no work.",
                not_guaranteed: "Finality among delegates that lie and a network that splits at the same time: there is no round of votes that would bind those who change to another chain.",
                choose_when: "blocks must be fast, and voters trust a few.",
                avoid_when: "what is decided must never be undone: use pbft.",
                alternatives: &["coin-age", "proof-of-work", "pbft"],
                survives: &[
                    Trouble::Delay,
                    Trouble::Slow,
                    Trouble::Reorder,
                    Trouble::Duplicate,
                    Trouble::Loss,
                    Trouble::Crash,
                    Trouble::Pause,
                    Trouble::Partition,
                    Trouble::OneWay,
                    Trouble::Liar,
                ],
            },
        }
    }
}

/// A block.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Block {
    /// When it was made; greater than that of the block before.
    pub slot: u64,
    /// The seal of the block before; zeros for the first.
    pub previous: Hash,
    /// Who made it.
    pub producer: PeerId,
    /// Values.
    pub data: Vec<u64>,
    /// SHA-256 over all that, in the place of a signature.
    pub seal: Hash,
}

impl Block {
    fn sealed(mut self) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.slot.to_be_bytes());
        hasher.update(self.previous);
        hasher.update((self.producer as u64).to_be_bytes());
        for value in &self.data {
            hasher.update(value.to_be_bytes());
        }
        self.seal = hasher.finalize().into();
        self
    }
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Somebody wants this value.
    Value(u64),
    /// My chain, and who I am. (A real peer sends what the other lacks.)
    Chain(PeerId, Vec<Block>),
    /// What is your chain?
    Ask,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A slot begins.
    Slot,
}

/// What peer `account` owns.
fn coins(account: Account) -> u64 {
    100 + 10 * account
}

/// Whose turn is which slot: a walk along a chain, from the first slot on.
#[derive(Clone, Debug)]
pub struct Turns {
    rule: Rule,
    slot: u64,
    /// From the last block.
    seed: u64,
    /// By coin age: each account's last turn, used or not.
    last: Vec<u64>,
    /// As delegates: who they are, this round's order, and who has made a block in it.
    delegates: Delegates,
    order: Vec<Account>,
    made: BTreeSet<Account>,
    /// All votes so far, those up to the end of the epoch before, whom those before that had elected, and how
    /// often that was somebody else.
    votes: Votes,
    closed: Votes,
    elected: Delegates,
    elections: u64,
}

impl Turns {
    /// At slot 0, before any block, among so many.
    pub fn new(rule: Rule, nodes: usize) -> Self {
        let votes = Votes::new(nodes as Account);
        let delegates = votes.elect(coins, (nodes - 1).max(3).min(nodes));
        Self {
            rule,
            slot: 0,
            seed: 0,
            last: vec![0; nodes],
            order: delegates.round(0),
            made: BTreeSet::new(),
            closed: votes.clone(),
            votes,
            elected: delegates.clone(),
            delegates,
            elections: 0,
        }
    }

    /// Those who make blocks, with those who stand by behind them.
    pub fn delegates(&self) -> &Delegates {
        &self.delegates
    }

    /// Whose turn the present slot is.
    pub fn whose(&self) -> PeerId {
        let account = match self.rule {
            Rule::CoinAge => {
                let stakes: Vec<Stake> = (1..)
                    .zip(&self.last)
                    .map(|(account, last)| Stake {
                        account,
                        coins: coins(account),
                        days: self.slot + 1 - last,
                    })
                    .collect();
                draw(&stakes, &mut Rng::new(self.seed).fork(self.slot)).unwrap_or(1)
            }
            Rule::Delegates => self.order[self.slot as usize % self.order.len()],
        };
        account as PeerId
    }

    /// The present slot is over, with a block or without.
    pub fn pass(&mut self, block: Option<&Block>) {
        let account = self.whose() as Account;
        self.last[account as usize - 1] = self.slot + 1;
        self.slot += 1;
        if let Some(block) = block {
            self.made.insert(account);
            let head = block.seal.first_chunk().copied().unwrap_or_default();
            self.seed = u64::from_be_bytes(head);
            let votes = block.data.iter().copied().filter_map(Vote::of);
            votes.for_each(|vote| self.votes.count(vote));
        }
        let round = self.order.len() as u64;
        if self.rule == Rule::Delegates && self.slot.is_multiple_of(round) {
            for missing in self.delegates.active.clone() {
                if !self.made.contains(&missing) {
                    self.delegates.replace(missing);
                }
            }
            self.made.clear();
            if self.slot.is_multiple_of(round * EPOCH_ROUNDS) {
                self.elect();
            }
            self.order = self.delegates.round(self.seed);
        }
    }

    /// An epoch begins. Where nobody has voted otherwise, those stay who took the place of others.
    fn elect(&mut self) {
        let elected = self.closed.elect(coins, self.order.len());
        self.closed = self.votes.clone();
        if elected != self.elected {
            self.delegates = elected.clone();
            self.elected = elected;
            self.elections += 1;
        }
    }

    /// Goes on to this slot, through empty ones.
    pub fn skip_to(&mut self, slot: u64) {
        self.slot = self.slot.max(slot.saturating_sub(GAP_SLOTS));
        while self.slot < slot {
            self.pass(None);
        }
    }

    /// Goes on behind these blocks.
    fn follow(mut self, chain: &[Block]) -> Self {
        for block in chain {
            self.skip_to(block.slot);
            self.pass(Some(block));
        }
        self
    }
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StakeChain {
    rule: Rule,
    me: PeerId,
    nodes: usize,
    chain: Vec<Block>,
    waiting: BTreeSet<u64>,
    told: Told,
    /// Is one of those who make blocks, as far as it knows.
    is_active: bool,
}

/// The slot of a time, and milliseconds until the next.
fn slot_at(wall_ms: i64) -> (u64, i64) {
    let since_ms = (wall_ms - GENESIS_MS).max(0);
    ((since_ms / SLOT_MS) as u64, SLOT_MS - since_ms % SLOT_MS)
}

impl StakeChain {
    /// A peer of a group whose turns are given like this.
    pub fn by(me: PeerId, nodes: usize, rule: Rule) -> Self {
        Self {
            rule,
            me,
            nodes,
            chain: Vec::new(),
            waiting: BTreeSet::new(),
            told: Told::default(),
            is_active: rule == Rule::CoinAge,
        }
    }

    /// Before the first block.
    fn turns(&self) -> Turns {
        let mut turns = Turns::new(self.rule, self.nodes);
        if misbehaves(PeerBug::CountHeardVotes) {
            let heard = self.waiting.iter().copied().filter_map(Vote::of);
            heard.for_each(|vote| turns.closed.count(vote));
        }
        turns
    }

    /// Whether a chain follows the rules; what it shares with one's own was looked at before.
    fn is_right(&self, chain: &[Block], now_slot: u64) -> bool {
        let shared = chain.iter().zip(&self.chain).take_while(|(a, b)| a == b);
        let shared = shared.count();
        if chain.iter().any(|block| block.slot > now_slot + AHEAD) {
            return false;
        }
        let mut turns = self.turns().follow(&chain[..shared]);
        let mut seen: BTreeSet<u64> = (chain[..shared].iter())
            .flat_map(|block| block.data.iter().copied())
            .collect();
        let mut previous = chain[..shared].last().map_or([0; 32], |block| block.seal);
        chain[shared..].iter().all(|block| {
            let is_later = block.slot >= turns.slot;
            turns.skip_to(block.slot);
            let right = is_later
                && block.previous == previous
                && block.producer == turns.whose()
                && block.clone().sealed().seal == block.seal
                && block.data.iter().all(|value| seen.insert(*value));
            turns.pass(Some(block));
            previous = block.seal;
            right
        })
    }

    /// Makes a block, if this slot is one's own.
    fn make(&mut self, cx: &mut Context<'_, Self>, slot: u64) {
        let mut turns = self.turns().follow(&self.chain);
        if turns.slot > slot {
            return;
        }
        turns.skip_to(slot);
        let account = self.me as Account;
        self.is_active = self.rule == Rule::CoinAge || turns.delegates.active.contains(&account);
        if turns.whose() != self.me {
            return;
        }
        let placed: BTreeSet<u64> = (self.chain.iter())
            .flat_map(|block| block.data.iter().copied())
            .collect();
        let block = Block {
            slot,
            previous: self.chain.last().map_or([0; 32], |block| block.seal),
            producer: self.me,
            data: self.waiting.difference(&placed).copied().collect(),
            seal: [0; 32],
        };
        self.chain.push(block.sealed());
        let word = Message::Chain(self.me, self.chain.clone());
        cx.send_each(others(self.me, self.nodes), &word);
        self.taken(cx);
    }

    fn taken(&mut self, cx: &mut Context<'_, Self>) {
        cx.persist(self.chain.clone(), |_| {});
        self.tell(cx);
    }

    /// How many blocks, from the first on, count as decided.
    fn decided(&self) -> usize {
        match self.rule {
            Rule::CoinAge if misbehaves(PeerBug::DecideAtOnce) => self.chain.len(),
            Rule::CoinAge => self.chain.len().saturating_sub(DEPTH),
            Rule::Delegates => {
                let mut turns = self.turns();
                let needed = turns.order.len() * 2 / 3 + 1;
                let elections: Vec<u64> = (self.chain.iter())
                    .map(|block| {
                        turns.skip_to(block.slot);
                        let of = turns.elections;
                        turns.pass(Some(block));
                        of
                    })
                    .collect();
                let mut producers = BTreeSet::new();
                for (i, block) in self.chain.iter().enumerate().rev() {
                    // Delegates of different elections do not add up.
                    if elections.get(i + 1).is_some_and(|of| *of != elections[i]) {
                        producers.clear();
                    }
                    producers.insert(block.producer);
                    let count = match misbehaves(PeerBug::CountBlocks) {
                        true => self.chain.len() - i,
                        false => producers.len(),
                    };
                    if count >= needed {
                        return i;
                    }
                }
                0
            }
        }
    }

    /// A value's place is its place among all values.
    fn tell(&mut self, cx: &mut Context<'_, Self>) {
        let decided = self.decided();
        let values = self.chain[..decided].iter().flat_map(|block| &block.data);
        for news in self.told.news(values) {
            cx.decide(news);
        }
    }
}

impl Peer for StakeChain {
    type Message = Message;
    type Timer = Timer;
    type State = Vec<Block>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Rule::CoinAge.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::by(me, nodes, Rule::CoinAge)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.chain = recovered.unwrap_or_default();
        self.tell(cx);
        cx.send_each(others(self.me, self.nodes), &Message::Ask);
        let (_, left_ms) = slot_at(cx.now.wall_ms);
        cx.set_timer(Timer::Slot, left_ms as u64 * 1_000);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Value(value) => {
                self.waiting.insert(value);
            }
            Message::Ask => {
                let word = Message::Chain(self.me, self.chain.clone());
                cx.send(from, word);
                for value in &self.waiting {
                    cx.send(from, Message::Value(*value));
                }
            }
            Message::Chain(_, chain) => {
                let (now_slot, _) = slot_at(cx.now.wall_ms);
                let longer = chain.len() > self.chain.len() || misbehaves(PeerBug::TakeAnyChain);
                if longer && self.is_right(&chain, now_slot) {
                    // What the dropped blocks held waits again.
                    for block in &self.chain {
                        self.waiting.extend(&block.data);
                    }
                    self.chain = chain;
                    self.taken(cx);
                } else if chain.len() < self.chain.len() {
                    cx.send(from, Message::Chain(self.me, self.chain.clone()));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, Timer::Slot: Timer) {
        let (slot, left_ms) = slot_at(cx.now.wall_ms);
        self.make(cx, slot);
        cx.set_timer(Timer::Slot, left_ms as u64 * 1_000);
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, value: Request) {
        self.waiting.insert(value);
        cx.send_each(others(self.me, self.nodes), &Message::Value(value));
    }

    fn role(&self) -> &'static str {
        match (self.rule, self.is_active) {
            (Rule::CoinAge, _) => "",
            (Rule::Delegates, true) => "delegate",
            (Rule::Delegates, false) => "standing by",
        }
    }

    /// A liar makes two blocks in one slot, seals both, and shows each to some; or it changes the last block of
    /// others, whose seal it cannot make.
    fn lie(message: Message, to: PeerId, lie: Lie) -> Option<Message> {
        let turned = match lie {
            Lie::Withhold => return None,
            Lie::Equivocate => to.is_multiple_of(2),
            Lie::Forge => true,
        };
        Some(match message {
            Message::Chain(me, mut chain) if turned => {
                if let Some(mut block) = chain.pop() {
                    block.data.clear();
                    let own = block.producer == me;
                    chain.push(if own { block.sealed() } else { block });
                }
                Message::Chain(me, chain)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn block(turns: &Turns, previous: Hash) -> Block {
        Block {
            slot: turns.slot,
            previous,
            producer: turns.whose(),
            data: Vec::new(),
            seal: [0; 32],
        }
        .sealed()
    }

    #[test]
    fn m05_delegate_that_misses_a_round_is_replaced_by_who_stands_by() {
        let mut turns = Turns::new(Rule::Delegates, 5);
        assert_eq!(
            turns.delegates().active.len() + turns.delegates().standby.len(),
            5
        );
        let (dead, next) = (turns.delegates().active[0], turns.delegates().standby[0]);
        let (mut seal, mut skipped) = ([0; 32], 0);
        for _ in 0..4 {
            let turn = turns.whose() as Account;
            let made = (turn != dead).then(|| block(&turns, seal));
            skipped += usize::from(made.is_none());
            seal = made.as_ref().map_or(seal, |block| block.seal);
            turns.pass(made.as_ref());
        }
        assert_eq!(skipped, 1, "one slot of four stays empty");
        assert!(turns.delegates().active.contains(&next));
        assert_eq!(turns.delegates().standby, [dead]);
    }

    #[test]
    fn m05_delegates_make_as_many_blocks_each_and_in_changing_order() {
        let mut turns = Turns::new(Rule::Delegates, 5);
        let mut made: BTreeMap<PeerId, u32> = BTreeMap::new();
        let (mut seal, mut orders) = ([0; 32], BTreeSet::new());
        for slot in 0..400 {
            if slot % 4 == 0 {
                orders.insert(turns.order.clone());
            }
            let block = block(&turns, seal);
            *made.entry(block.producer).or_default() += 1;
            seal = block.seal;
            turns.pass(Some(&block));
        }
        assert_eq!(made.values().copied().collect::<Vec<_>>(), [100; 4]);
        assert!(orders.len() > 10, "{orders:?}");
    }

    #[test]
    fn m05_delegate_voted_out_makes_no_block_from_the_epoch_after_next_on() {
        let mut turns = Turns::new(Rule::Delegates, 5);
        let epoch = turns.order.len() as u64 * EPOCH_ROUNDS;
        assert!(turns.delegates().active.contains(&3));
        assert_eq!(turns.delegates().standby, [2]);
        let vote = |voter| {
            let vote = Vote {
                number: 1,
                voter,
                candidate: 2,
            };
            vote.value()
        };
        let mut made: Vec<BTreeSet<PeerId>> = vec![BTreeSet::new(); 4];
        let mut seal = [0; 32];
        for slot in 0..4 * epoch {
            let data = match slot {
                2 => vec![vote(2), 7],
                5 => vec![vote(3)],
                _ => Vec::new(),
            };
            let block = Block {
                data,
                ..block(&turns, seal)
            };
            let block = block.sealed();
            seal = block.seal;
            made[(slot / epoch) as usize].insert(block.producer);
            turns.pass(Some(&block));
        }
        let (before, after) = (BTreeSet::from([1, 3, 4, 5]), BTreeSet::from([1, 2, 4, 5]));
        assert_eq!(made, [before.clone(), before, after.clone(), after]);
    }

    #[test]
    fn m05_group_that_stood_still_for_a_year_takes_up_its_turns() {
        for rule in Rule::ALL {
            let mut turns = Turns::new(rule, 5);
            let first = block(&turns, [0; 32]);
            turns.pass(Some(&first));
            let later = 365 * 24 * 3_600 * 5;
            let mut made = BTreeSet::new();
            for slot in later..later + 60 {
                let mut turns = turns.clone();
                turns.skip_to(slot);
                assert_eq!(turns.slot, slot);
                made.insert(turns.whose());
            }
            assert!(made.len() >= 4, "{rule:?}: {made:?}");
        }
    }

    #[test]
    fn m05_turns_by_coin_age_come_to_all_and_more_often_to_who_owns_more() {
        let mut turns = Turns::new(Rule::CoinAge, 9);
        let mut won = [0_u32; 9];
        for _ in 0..9_000 {
            won[turns.whose() - 1] += 1;
            let made = block(&turns, [turns.slot as u8; 32]);
            turns.pass(Some(&made));
        }
        assert!(won.iter().all(|won| *won > 700), "{won:?}");
        assert!(won[8] > won[0] + 100, "{won:?}");
    }

    #[test]
    fn m05_chain_out_of_turn_unsealed_or_from_the_future_is_refused() {
        let peer = StakeChain::by(1, 5, Rule::Delegates);
        let mut turns = Turns::new(Rule::Delegates, 5);
        turns.skip_to(2);
        let right = block(&turns, [0; 32]);
        assert!(peer.is_right(std::slice::from_ref(&right), 2));
        assert!(!peer.is_right(std::slice::from_ref(&right), 0), "future");
        let other = right.producer % 5 + 1;
        let out_of_turn = Block {
            producer: other,
            ..right.clone()
        };
        assert!(!peer.is_right(&[out_of_turn.sealed()], 2));
        let unsealed = Block {
            data: vec![7],
            ..right.clone()
        };
        assert!(!peer.is_right(&[unsealed], 2));
        let again = Block {
            data: vec![7, 7],
            ..right.clone()
        };
        assert!(!peer.is_right(&[again.sealed()], 2));
        let apart = Block {
            previous: [1; 32],
            ..right
        };
        assert!(!peer.is_right(&[apart.sealed()], 2));
    }
}
