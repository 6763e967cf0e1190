//! The frames that a journal gathers: entries, marks, hard states, seals, and how a segment begins.

use super::{Effect, Gather, Journal, Live, Piece};
use crate::frame::{HardState, Mark};
use crate::wire::{self, Header, Kind, SegmentHead};
use base::{LogIndex, ShardId};
use bytes::Bytes;

impl Journal {
    pub(super) fn put(&mut self, header: Header, context: &[u8], data: &[u8]) {
        let at = self.end().0;
        self.chain = wire::put(
            &mut self.gather.bytes,
            at,
            header,
            context,
            data,
            self.chain,
        );
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn append_entry(
        &mut self,
        shard: ShardId,
        live: &mut Live,
        index: LogIndex,
        term: u64,
        kind: u8,
        context: &[u8],
        data: &[u8],
    ) {
        let (first, last) = (live.shape.mark_index() + 1, live.shape.last().0);
        assert!(
            (first..=last + 1).contains(&index),
            "{shard} appends entry {index} to a log of {first}..={last}"
        );
        let header = Header {
            kind: Kind::Entry,
            sub: kind,
            shard: shard.0,
            index,
            term,
        };
        self.put(header, context, data);
        if index <= last {
            self.gather.effects.push(Effect::Overridden {
                life: live.life,
                from: index,
                before_segment: self.segment,
            });
        }
        live.shape.push(index, term);
        self.segments.pin(live.life, index);
    }

    pub(super) fn append_mark(&mut self, shard: ShardId, mut live: Live, mark: Mark) -> Live {
        let mut sub = wire::KEEP;
        let other = match &live.mark {
            Some(old) => old.replica != mark.replica,
            None => live.rotten.is_some(),
        };
        match &live.mark {
            _ if other => {
                self.gather.effects.push(Effect::Ended { life: live.life });
                live = self.begin_life(shard);
                live.shape.reset(mark.index, mark.term);
                sub = wire::NEW_LIFE;
            }
            // Older than the one that holds: nothing to keep.
            Some(old) if old.index > mark.index => return live,
            _ => {
                if !live.shape.mark(mark.index, mark.term) {
                    sub = wire::RESET;
                    self.gather.effects.push(Effect::Overridden {
                        life: live.life,
                        from: mark.index + 1,
                        before_segment: self.segment,
                    });
                }
            }
        }
        self.put_mark(shard, &mark, sub);
        self.gather.effects.push(Effect::Marked {
            life: live.life,
            index: mark.index,
        });
        live.mark = Some(mark);
        live
    }

    fn put_mark(&mut self, shard: ShardId, mark: &Mark, sub: u8) {
        let header = Header {
            kind: Kind::Mark,
            sub,
            shard: shard.0,
            index: mark.index,
            term: mark.term,
        };
        self.put(header, &mark.conf, &wire::encode_words(&[mark.replica.0]));
    }

    pub(super) fn put_hard_state(&mut self, shard: ShardId, state: HardState, twice: bool) {
        let data = wire::encode_words(&[state.term, state.vote, state.commit]);
        let copies: &[u8] = if twice {
            &[wire::FIRST, wire::SECOND]
        } else {
            &[wire::ONLY]
        };
        for copy in copies {
            let header = Header {
                sub: *copy,
                ..Header::of(Kind::HardState, shard.0)
            };
            self.put(header, &[], &data);
        }
    }

    pub(super) fn seal(&mut self) {
        self.seal_is_owed = false;
        if let Some((position, chain)) = self.unsealed.take() {
            let data = wire::encode_seal(position.0, chain);
            self.put(Header::of(Kind::Seal, 0), &[], &data);
        }
    }

    // Lives and segments.

    pub(super) fn begin_life(&mut self, shard: ShardId) -> Live {
        let life = self.next_life;
        self.next_life += 1;
        self.segments.begin_life(life, shard);
        Live {
            life,
            ..Live::default()
        }
    }

    /// Starts the segment after `self.segment`. `previous` ends at `previous_end`; nothing is gathered yet.
    pub(super) fn begin_segment(&mut self, previous: u64, previous_end: u64) {
        assert!(self.gather.is_empty(), "a batch lies in one segment");
        self.base += self.offset;
        self.segment += 1;
        self.offset = 0;
        self.chain = 0;
        // The head vouches for the whole previous segment.
        self.unsealed = None;
        self.gather = Gather::default();
        self.segments.push(self.segment, 0);
        if previous != 0 {
            let header = Header {
                index: self.segment,
                ..Header::of(Kind::Next, 0)
            };
            let mut bytes = Vec::new();
            wire::put(&mut bytes, self.base, header, &[], &[], 0);
            self.gather.next = Some(Piece {
                segment: previous,
                offset: previous_end,
                bytes: Bytes::from(bytes),
            });
        }
        let head = SegmentHead {
            lane: self.config.lane.0,
            segment: self.segment,
            base: self.base,
            previous,
            previous_end,
            shards: u32::try_from(self.live.len()).expect("far fewer shards than 2^32"),
            lane_rotten: self.lane_rotten,
        };
        self.put(Header::of(Kind::Head, 0), &[], &head.encode());
        let live = std::mem::take(&mut self.live);
        for (shard, live) in &live {
            self.restate(*shard, live);
        }
        self.live = live;
    }

    fn restate(&mut self, shard: ShardId, live: &Live) {
        if let Some(mark) = &live.mark {
            self.put_mark(shard, mark, wire::KEEP);
        }
        if let Some(state) = live.hard_state {
            self.put_hard_state(shard, state, true);
        }
        if let Some(why) = &live.rotten {
            let why = why.as_bytes();
            let why = &why[..why.len().min(wire::REASON_BYTES_MAX)];
            self.put(Header::of(Kind::Rotten, shard.0), why, &[]);
        }
        let (index, term) = live.shape.last();
        let data = wire::encode_words(&[index, term]);
        self.put(Header::of(Kind::Tail, shard.0), &[], &data);
    }
}
