//! Blocks and proof of work. Source: Nakamoto, "Bitcoin: a peer-to-peer electronic cash system" (2008).
//!
//! A block's hash is SHA-256 over index, hash before, time, data and nonce; it counts when it begins with as
//! many zero bits as the difficulty asks for. The chain with the most work wins. A value is taken for decided
//! once six blocks stand on it: that can be undone, with a probability that falls with each block, as
//! long as those who would undo it have less than half of the work.

use super::{Decision, Request, Told};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Lie, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Zero bits of the first blocks.
pub const BITS: u32 = 9;
/// Blocks after which the difficulty is looked at.
const ADJUST: usize = 8;
/// A block should take so long, in milliseconds.
const BLOCK_MS: i64 = 250;
/// Blocks on top before a value counts as decided.
pub const DEPTH: usize = 6;
/// A slice of mining: so many hashes…
const SLICE: u64 = 24;
/// …so often.
const SLICE_US: u64 = 20_000;

/// A SHA-256.
pub type Hash = [u8; 32];

/// A block.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Block {
    /// Its place, from 1 on.
    pub index: u64,
    /// The hash of the block before; zeros for the first.
    pub previous: Hash,
    /// Milliseconds since 1970, by its maker's clock.
    pub time_ms: i64,
    /// Values.
    pub data: Vec<u64>,
    /// Whatever makes the hash small.
    pub nonce: u64,
}

impl Block {
    /// SHA-256 over index, previous hash, time, data and nonce, numbers in eight bytes, the greatest first.
    pub fn hash(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(self.index.to_be_bytes());
        hasher.update(self.previous);
        hasher.update(self.time_ms.to_be_bytes());
        for value in &self.data {
            hasher.update(value.to_be_bytes());
        }
        hasher.update(self.nonce.to_be_bytes());
        hasher.finalize().into()
    }
}

/// Bits before the first that is one.
pub fn leading_zero_bits(hash: &Hash) -> u32 {
    let bytes = hash.iter().take_while(|byte| **byte == 0).count();
    let rest = hash.get(bytes).map_or(0, |byte| byte.leading_zeros());
    bytes as u32 * 8 + rest
}

/// The zero bits that the next block needs: one more or less when the last eight took less than half or more
/// than twice the time that they should.
pub fn bits_for(chain: &[Block]) -> u32 {
    let mut bits = BITS;
    for last in chain.chunks_exact(ADJUST) {
        let took_ms = last[ADJUST - 1].time_ms - last[0].time_ms;
        let should_ms = BLOCK_MS * (ADJUST as i64 - 1);
        if took_ms < should_ms / 2 {
            bits += 1;
        } else if took_ms > should_ms * 2 {
            bits = bits.saturating_sub(1).max(1);
        }
    }
    bits
}

/// The work in a chain, in hashes on average.
pub fn work(chain: &[Block]) -> u64 {
    (0..chain.len())
        .map(|i| 1_u64 << bits_for(&chain[..i]))
        .sum()
}

/// Whether each block follows from the one before, has its work, and repeats no value.
///
/// # Errors
/// What is wrong, and with which block.
pub fn check(chain: &[Block]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (i, block) in chain.iter().enumerate() {
        let before = i
            .checked_sub(1)
            .map_or([0; 32], |before| chain[before].hash());
        let wrong = if block.index != i as u64 + 1 {
            "has another index"
        } else if block.previous != before {
            "does not follow from the one before"
        } else if leading_zero_bits(&block.hash()) < bits_for(&chain[..i]) {
            "lacks work"
        } else if !block.data.iter().all(|value| seen.insert(*value)) {
            "repeats a value"
        } else {
            continue;
        };
        return Err(format!("block {} {wrong}", i + 1));
    }
    Ok(())
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Somebody wants this value.
    Value(u64),
    /// My chain. (A real peer sends what the other lacks.)
    Chain(Vec<Block>),
    /// What is your chain?
    Ask,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Try some more nonces.
    Mine,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ProofOfWork {
    me: PeerId,
    nodes: usize,
    chain: Vec<Block>,
    waiting: BTreeSet<u64>,
    nonce: u64,
    told: Told,
}

impl ProofOfWork {
    fn next_block(&self, now_ms: i64) -> Block {
        let placed: BTreeSet<u64> = self.chain.iter().flat_map(|b| b.data.clone()).collect();
        Block {
            index: self.chain.len() as u64 + 1,
            previous: self.chain.last().map_or([0; 32], Block::hash),
            time_ms: now_ms,
            data: self.waiting.difference(&placed).copied().collect(),
            nonce: self.nonce,
        }
    }

    fn mine(&mut self, cx: &mut Context<'_, Self>) {
        let bits = bits_for(&self.chain);
        let mut block = self.next_block(cx.now.wall_ms);
        for _ in 0..SLICE {
            block.nonce = cx.rng.next_u64();
            if leading_zero_bits(&block.hash()) >= bits {
                self.chain.push(block);
                self.spread(cx);
                return;
            }
        }
    }

    fn spread(&mut self, cx: &mut Context<'_, Self>) {
        let word = Message::Chain(self.chain.clone());
        cx.send_each(others(self.me, self.nodes), &word);
        cx.persist(self.chain.clone(), |_| {});
        self.tell(cx);
    }

    /// What is deep enough counts as decided; its place is its place among all values.
    fn tell(&mut self, cx: &mut Context<'_, Self>) {
        let deep = self.chain.len().saturating_sub(DEPTH);
        let values = self.chain[..deep].iter().flat_map(|block| &block.data);
        for news in self.told.news(values) {
            cx.decide(news);
        }
    }
}

impl Peer for ProofOfWork {
    type Message = Message;
    type Timer = Timer;
    type State = Vec<Block>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "proof-of-work",
        family: Family::Consensus,
        title: "Proof of work, longest chain",
        source: "Nakamoto: Bitcoin (2008)",
        idea: "Whoever finds a nonce that makes a block's hash begin with enough zero bits adds the block; all go on from the chain with the most work. Six blocks deep, a value counts as decided. The difficulty follows how long blocks take.",
        assumptions: "Those who lie have less than half of the work; a block reaches all much sooner than the next is found.",
        cost: "n - 1 messages a block, and as much computing as there is.",
        not_guaranteed: "Finality: a longer chain may undo anything, most easily after a partition, when the shorter side's blocks are dropped.",
        choose_when: "nobody knows who takes part.",
        avoid_when: "those who take part are known: pbft decides for good and costs no work.",
        alternatives: &["coin-age", "delegates", "pbft"],
        survives: &[
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Loss,
            Trouble::Crash,
            Trouble::Liar,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            chain: Vec::new(),
            waiting: BTreeSet::new(),
            nonce: 0,
            told: Told::default(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.chain = recovered.unwrap_or_default();
        self.tell(cx);
        cx.send_each(others(self.me, self.nodes), &Message::Ask);
        cx.set_timer(Timer::Mine, SLICE_US);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Value(value) => {
                self.waiting.insert(value);
            }
            Message::Ask => {
                cx.send(from, Message::Chain(self.chain.clone()));
                for value in &self.waiting {
                    cx.send(from, Message::Value(*value));
                }
            }
            Message::Chain(chain) => {
                if (chain.len() > self.chain.len().saturating_sub(2)
                    || misbehaves(PeerBug::TakeAnyChain))
                    && (work(&chain) > work(&self.chain) || misbehaves(PeerBug::TakeAnyChain))
                    && check(&chain).is_ok()
                {
                    // What the dropped blocks held waits again.
                    for block in &self.chain {
                        self.waiting.extend(&block.data);
                    }
                    self.chain = chain;
                    cx.persist(self.chain.clone(), |_| {});
                    self.tell(cx);
                } else if work(&chain) < work(&self.chain) {
                    cx.send(from, Message::Chain(self.chain.clone()));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, Timer::Mine: Timer) {
        self.mine(cx);
        cx.set_timer(Timer::Mine, SLICE_US);
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, value: Request) {
        self.waiting.insert(value);
        cx.send_each(others(self.me, self.nodes), &Message::Value(value));
    }

    /// A liar takes values out of blocks of its own and of others: their hashes no longer hold.
    fn lie(message: Message, to: PeerId, lie: Lie) -> Option<Message> {
        let turned = match lie {
            Lie::Withhold => return None,
            Lie::Equivocate => to.is_multiple_of(2),
            Lie::Forge => true,
        };
        Some(match message {
            Message::Chain(mut chain) if turned => {
                if let Some(block) = chain.last_mut() {
                    block.data.clear();
                    block.time_ms += 1;
                }
                Message::Chain(chain)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mined(chain: &[Block], data: Vec<u64>, time_ms: i64) -> Block {
        let mut block = Block {
            index: chain.len() as u64 + 1,
            previous: chain.last().map_or([0; 32], Block::hash),
            time_ms,
            data,
            nonce: 0,
        };
        while leading_zero_bits(&block.hash()) < bits_for(chain) {
            block.nonce += 1;
        }
        block
    }

    #[test]
    fn m05_block_is_hashed_over_index_previous_time_data_and_nonce() {
        let block = mined(&[], vec![1, 2], 1_000);
        let mut bytes = Vec::new();
        bytes.extend(1_u64.to_be_bytes());
        bytes.extend([0; 32]);
        bytes.extend(1_000_i64.to_be_bytes());
        bytes.extend(1_u64.to_be_bytes());
        bytes.extend(2_u64.to_be_bytes());
        bytes.extend(block.nonce.to_be_bytes());
        assert_eq!(block.hash().as_slice(), Sha256::digest(&bytes).as_slice());
        assert!(leading_zero_bits(&block.hash()) >= BITS);
        let mut zeros = [0xFF; 32];
        zeros[..2].copy_from_slice(&[0, 0x10]);
        assert_eq!(leading_zero_bits(&zeros), 11);
        assert_eq!(leading_zero_bits(&[0; 32]), 256);
    }

    #[test]
    fn m05_chain_with_a_value_seen_before_or_without_work_is_refused() {
        let mut chain = vec![mined(&[], vec![1, 2], 1_000)];
        chain.push(mined(&chain, vec![3], 1_250));
        assert_eq!(check(&chain), Ok(()));
        let mut again = chain.clone();
        again.push(mined(&again, vec![2], 1_500));
        assert_eq!(check(&again), Err("block 3 repeats a value".into()));
        let mut other = chain.clone();
        other[0].data = vec![9];
        assert!(check(&other).is_err());
        let mut apart = chain.clone();
        apart[1].previous = [1; 32];
        assert!(check(&apart).is_err());
    }

    #[test]
    fn m05_difficulty_follows_how_long_blocks_take() {
        let blocks = |every_ms: i64| -> Vec<Block> {
            (0..ADJUST as i64)
                .map(|i| Block {
                    index: i as u64 + 1,
                    previous: [0; 32],
                    time_ms: i * every_ms,
                    data: Vec::new(),
                    nonce: 0,
                })
                .collect()
        };
        assert_eq!(bits_for(&blocks(BLOCK_MS)), BITS);
        assert_eq!(bits_for(&blocks(BLOCK_MS / 4)), BITS + 1);
        assert_eq!(bits_for(&blocks(BLOCK_MS * 4)), BITS - 1);
        assert!(work(&blocks(BLOCK_MS)) == 8 << BITS);
    }
}
