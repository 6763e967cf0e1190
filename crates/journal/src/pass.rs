//! One pass over a segment: frames and damage into what is known of each shard.

use crate::found::Found;
use crate::frame::{HardState, Mark, RecoveredEntry};
use crate::recovery::Recovery;
use crate::scan::{Piece, Scan, What};
use crate::wire::{self, Header, Kind, SegmentHead};
use base::{ReplicaId, ShardId};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// Where something was found, for people.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {}", self.segment, self.offset)
    }
}

/// The re-statement at the start of a segment, while it is being read.
struct Restatement {
    left: u32,
    named: BTreeSet<ShardId>,
    damaged: bool,
}

pub struct Pass<'r> {
    recovery: &'r mut Recovery,
    segment: u64,
    base: u64,
    /// Running checksum, until damage makes it unknown.
    chain: Option<u32>,
    /// Frame ends since the last seal, with the running checksum there.
    ends: VecDeque<(u64, u32)>,
    restatement: Option<Restatement>,
    /// The piece before was an intact first copy of this shard's hard state.
    first_copy: Option<ShardId>,
}

impl<'r> Pass<'r> {
    pub fn new(recovery: &'r mut Recovery, segment: u64, head: &SegmentHead) -> Self {
        if head.lane_rotten {
            let why = "an earlier recovery found frames lost without knowing whose";
            recovery.rotten.get_or_insert_with(|| why.to_owned());
        }
        Self {
            recovery,
            segment,
            base: head.base,
            chain: Some(0),
            ends: VecDeque::new(),
            restatement: Some(Restatement {
                left: head.shards,
                named: BTreeSet::new(),
                damaged: false,
            }),
            first_copy: None,
        }
    }

    /// Takes in `content`, which should reach to `end`.
    pub fn run(mut self, content: &[u8], end: u64) {
        let mut reached = 0;
        let mut pieces = Scan::new(content, self.base).peekable();
        while let Some(piece) = pieces.next() {
            reached = piece.end;
            let was_first_copy = self.first_copy.take();
            match piece.what {
                What::Frame {
                    found,
                    context,
                    data,
                    payload_crc,
                } => {
                    self.frame(&found.header, context, data, piece.start);
                    self.chain = self.chain.map(|c| wire::link(c, found.crc, payload_crc));
                    if let Some(chain) = self.chain {
                        self.ends
                            .push_back((self.base.saturating_add(piece.end), chain));
                    }
                }
                What::Damaged(found) => {
                    self.damaged(&found.header, was_first_copy, piece.start);
                    self.chain = None;
                }
                What::Gap => {
                    let bytes = (piece.end - piece.start) as usize;
                    let copy = bytes == wire::HARD_STATE_BYTES
                        && (was_first_copy.is_some() || pieces.peek().is_some_and(is_second_copy));
                    let harmless = copy || self.is_seal(&content[piece.start as usize..], bytes);
                    if !harmless {
                        self.gap(piece.start, piece.end);
                    }
                    self.chain = None;
                }
            }
            self.end_restatement();
        }
        if reached < end {
            self.gap(reached, end);
        }
    }

    fn place(&self, offset: u64) -> Place {
        Place {
            segment: self.segment,
            offset,
        }
    }

    fn gap(&mut self, start: u64, end: u64) {
        if let Some(restatement) = &mut self.restatement {
            restatement.damaged = true;
        }
        let why = format!("{} bytes are damaged at {}", end - start, self.place(start));
        self.recovery.lose_all(&why);
    }

    /// True when a gap is a seal whose header is damaged: the seal repeats what is known.
    fn is_seal(&self, gap: &[u8], bytes: usize) -> bool {
        if bytes != wire::SEAL_BYTES {
            return false;
        }
        let (data, crc) = gap[wire::HEADER_BYTES..bytes].split_at(bytes - wire::OVERHEAD_BYTES);
        crc == crc32fast::hash(data).to_be_bytes()
            && wire::decode_seal(data).is_some_and(|seal| self.ends.contains(&seal))
    }

    /// The shard with this id; `named_anew` when nothing that came before can matter to it.
    fn shard(&mut self, id: u64, named_anew: bool) -> &mut Found {
        let unknown_loss = &self.recovery.unknown_loss;
        let found = self.recovery.shards.entry(ShardId(id)).or_insert_with(|| {
            let mut found = Found::default();
            if let (Some(why), false) = (unknown_loss, named_anew) {
                found.anything_lost(why);
            }
            found
        });
        found.touch();
        found
    }

    fn frame(&mut self, header: &Header, context: &[u8], data: &[u8], start: u64) {
        let place = self.place(start);
        let segment = self.segment;
        match header.kind {
            Kind::Head => {
                if start != 0 {
                    self.gap(start, start);
                }
            }
            Kind::Entry => {
                let entry = RecoveredEntry {
                    index: header.index,
                    term: header.term,
                    kind: header.sub,
                    context: Bytes::copy_from_slice(context),
                    data: Bytes::copy_from_slice(data),
                };
                let found = self.shard(header.shard, false);
                found.entry(segment, header.index, header.term, Some(entry), place);
            }
            Kind::HardState => match wire::decode_words(data) {
                Some([term, vote, commit]) => {
                    let state = HardState { term, vote, commit };
                    self.shard(header.shard, false).hard_state(state);
                    if header.sub == wire::FIRST {
                        self.first_copy = Some(ShardId(header.shard));
                    }
                }
                None => self.damaged(header, None, start),
            },
            Kind::Mark => match wire::decode_words(data) {
                Some([replica]) => {
                    let mark = Mark {
                        replica: ReplicaId(replica),
                        index: header.index,
                        term: header.term,
                        conf: Bytes::copy_from_slice(context),
                    };
                    self.shard(header.shard, true).mark(mark, header.sub);
                }
                None => self.damaged(header, None, start),
            },
            Kind::Removed => {
                *self.shard(header.shard, true) = Found::removed();
            }
            Kind::Seal => match wire::decode_seal(data) {
                Some((position, chain)) => self.check_seal(position, chain, start),
                None => self.damaged(header, None, start),
            },
            Kind::Tail => match wire::decode_words(data) {
                Some([index, term]) => {
                    let whole = self.restatement.as_ref().is_some_and(|r| !r.damaged);
                    let found = self.shard(header.shard, false);
                    found.tail(index, term, place, whole);
                    self.restated(header.shard);
                }
                None => self.damaged(header, None, start),
            },
            Kind::Rotten => {
                let why = String::from_utf8_lossy(context).into_owned();
                self.shard(header.shard, false).rotten(why);
            }
            Kind::Next => self.recovery.successor = Some(header.index),
        }
    }

    fn damaged(&mut self, header: &Header, was_first_copy: Option<ShardId>, start: u64) {
        let place = self.place(start);
        let segment = self.segment;
        if let Some(restatement) = &mut self.restatement {
            restatement.damaged = true;
        }
        match header.kind {
            Kind::Head => self.gap(start, start),
            Kind::Entry => {
                let found = self.shard(header.shard, false);
                found.entry(segment, header.index, header.term, None, place);
            }
            Kind::HardState => {
                // The other copy stands in; of a commit index, an older one does.
                let other = was_first_copy == Some(ShardId(header.shard));
                if header.sub == wire::FIRST || (header.sub == wire::SECOND && !other) {
                    self.shard(header.shard, false).damaged_hard_state(place);
                }
            }
            Kind::Mark => {
                let found = self.shard(header.shard, true);
                found.damaged_mark(header.sub, place);
            }
            // Says all that it has to say in its header.
            Kind::Removed => *self.shard(header.shard, true) = Found::removed(),
            Kind::Seal | Kind::Next => {}
            Kind::Tail => {
                self.shard(header.shard, false).damaged_tail(place);
                self.restated(header.shard);
            }
            Kind::Rotten => {
                let why = "an earlier recovery found it rotten".to_owned();
                self.shard(header.shard, false).rotten(why);
            }
        }
    }

    fn check_seal(&mut self, position: u64, chain: u32, start: u64) {
        while self.ends.front().is_some_and(|(end, _)| *end < position) {
            self.ends.pop_front();
        }
        if self.chain.is_some() && self.ends.front() != Some(&(position, chain)) {
            let place = self.place(start);
            let why = format!(
                "the running checksum of the seal at {place} does not match what precedes it"
            );
            self.recovery.lose_all(&why);
        }
    }

    fn restated(&mut self, shard: u64) {
        if let Some(restatement) = &mut self.restatement
            && restatement.named.insert(ShardId(shard))
        {
            restatement.left = restatement.left.saturating_sub(1);
        }
    }

    /// Once every live shard is re-stated, one that was not is gone, and no loss from before is unknown.
    fn end_restatement(&mut self) {
        if let Some(done) = self.restatement.take_if(|r| r.left == 0) {
            let recovery = &mut *self.recovery;
            recovery.shards.retain(|id, _| done.named.contains(id));
            recovery.unknown_loss = None;
        }
    }
}

fn is_second_copy(piece: &Piece<'_>) -> bool {
    let What::Frame { found, .. } = piece.what else {
        return false;
    };
    found.header.kind == Kind::HardState && found.header.sub == wire::SECOND
}
