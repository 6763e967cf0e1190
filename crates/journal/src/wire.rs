//! Frames as bytes: a header under its own checksum, then context and data under another.
//!
//! ```text
//! magic u32 · kind u8 · sub u8 · 0 u16 · shard u64 · index u64 · term u64 · at u64
//!   · context length u32 · data length u32 · crc32 of all that        = 52 bytes
//! context · data · crc32 of both
//! ```
//!
//! `at` is the frame's own position in the lane, so a frame that turns up elsewhere (inside the data of
//! another one, or in a stale block) is not taken for one that was written there.

use crate::{CONTEXT_BYTES_MAX, DATA_BYTES_MAX};
use base::{Reader, Writer};

const MAGIC: u32 = 0xA17E_0F4A;
pub const HEADER_BYTES: usize = 52;
/// What a frame takes beside its context and data.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 4;
pub const HARD_STATE_BYTES: usize = OVERHEAD_BYTES + 24;
pub const SEAL_BYTES: usize = OVERHEAD_BYTES + 12;

/// What a frame is; the numbers are the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// First in a segment: see [`SegmentHead`].
    Head = 1,
    Entry = 2,
    /// `sub`: [`ONLY`], [`FIRST`] or [`SECOND`] copy. Data: term, vote, commit.
    HardState = 3,
    /// `sub`: [`KEEP`], [`RESET`] or [`NEW_LIFE`]. Context: membership; data: replica.
    Mark = 4,
    Removed = 5,
    /// Data: position up to which all is durable, running checksum there.
    Seal = 6,
    /// Ends a shard's re-statement at the start of a segment. Data: last index and its term.
    Tail = 7,
    /// Re-states that a shard was found rotten. Context: why.
    Rotten = 8,
    /// Names the durable segment that follows (in `index`): its absence is a loss.
    Next = 9,
}

/// Hard state written once: only the commit index moved.
pub const ONLY: u8 = 0;
/// First of two equal copies, the second follows at once.
pub const FIRST: u8 = 1;
/// Second of two equal copies.
pub const SECOND: u8 = 2;

/// The mark keeps the entries after it.
pub const KEEP: u8 = 0;
/// The mark drops the whole log.
pub const RESET: u8 = 1;
/// The mark begins a new life of the shard here: another replica.
pub const NEW_LIFE: u8 = 2;

impl Kind {
    fn from_u8(value: u8) -> Option<Self> {
        use Kind::*;
        [
            Head, Entry, HardState, Mark, Removed, Seal, Tail, Rotten, Next,
        ]
        .into_iter()
        .find(|k| *k as u8 == value)
    }
}

/// A frame's header without its position, lengths and checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: Kind,
    pub sub: u8,
    pub shard: u64,
    pub index: u64,
    pub term: u64,
}

impl Header {
    pub fn of(kind: Kind, shard: u64) -> Self {
        Self {
            kind,
            sub: 0,
            shard,
            index: 0,
            term: 0,
        }
    }
}

/// A header as found, with the lengths that it promises (already capped).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub header: Header,
    pub at: u64,
    pub context_bytes: usize,
    pub data_bytes: usize,
    pub crc: u32,
}

impl Found {
    /// Length of the whole frame.
    pub fn frame_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.context_bytes + self.data_bytes
    }
}

/// Appends a frame that begins at position `at`; returns `chain` continued over its two checksums.
pub fn put(
    out: &mut Vec<u8>,
    at: u64,
    header: Header,
    context: &[u8],
    data: &[u8],
    chain: u32,
) -> u32 {
    assert!(
        context.len() <= CONTEXT_BYTES_MAX && data.len() <= DATA_BYTES_MAX,
        "a frame of shard s{:x} has {} bytes of context and {} of data; the journal takes {CONTEXT_BYTES_MAX} and {DATA_BYTES_MAX}",
        header.shard,
        context.len(),
        data.len(),
    );
    let start = out.len();
    let mut w = Writer::from_vec(std::mem::take(out));
    w.u32(MAGIC).u8(header.kind as u8).u8(header.sub).u16(0);
    w.u64(header.shard).u64(header.index).u64(header.term);
    w.u64(at).u32(context.len() as u32).u32(data.len() as u32);
    let header_crc = crc32fast::hash(&w.as_slice()[start..]);
    w.u32(header_crc).raw(context).raw(data);
    let payload_crc = crc32fast::hash(&w.as_slice()[start + HEADER_BYTES..]);
    w.u32(payload_crc);
    *out = w.into_vec();
    link(chain, header_crc, payload_crc)
}

/// The running checksum continued over one frame.
pub fn link(chain: u32, header_crc: u32, payload_crc: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(&header_crc.to_be_bytes());
    hasher.update(&payload_crc.to_be_bytes());
    hasher.finalize()
}

/// The intact header at the start of `bytes`, wherever it says to be.
pub fn header(bytes: &[u8]) -> Option<Found> {
    let covered = bytes.get(..HEADER_BYTES - 4)?;
    let mut r = Reader::new(bytes);
    if r.u32().ok()? != MAGIC {
        return None;
    }
    let kind = Kind::from_u8(r.u8().ok()?)?;
    let sub = r.u8().ok()?;
    r.u16().ok()?;
    let header = Header {
        kind,
        sub,
        shard: r.u64().ok()?,
        index: r.u64().ok()?,
        term: r.u64().ok()?,
    };
    let at = r.u64().ok()?;
    let context_bytes = r.u32().ok()? as usize;
    let data_bytes = r.u32().ok()? as usize;
    let crc = r.u32().ok()?;
    let sane = context_bytes <= CONTEXT_BYTES_MAX && data_bytes <= DATA_BYTES_MAX;
    (sane && crc == crc32fast::hash(covered)).then_some(Found {
        header,
        at,
        context_bytes,
        data_bytes,
        crc,
    })
}

/// An intact frame's context and data, and the checksum over them; `None` when cut short or damaged.
pub fn payload<'a>(bytes: &'a [u8], found: &Found) -> Option<(&'a [u8], &'a [u8], u32)> {
    let mut r = Reader::new(bytes.get(HEADER_BYTES..)?);
    let both = r.take(found.context_bytes + found.data_bytes).ok()?;
    let crc = r.u32().ok()?;
    let (context, data) = both.split_at(found.context_bytes);
    (crc == crc32fast::hash(both)).then_some((context, data, crc))
}

/// Where the next magic may begin at or after `from`.
pub fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let magic = MAGIC.to_be_bytes();
    let tail = bytes.get(from..)?;
    tail.windows(4).position(|w| w == magic).map(|i| from + i)
}

/// What the first frame of a segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHead {
    pub lane: u16,
    pub segment: u64,
    /// Position of the segment's first byte.
    pub base: u64,
    /// The segment before this one, 0 for none; numbers between the two are void.
    pub previous: u64,
    /// Where the one before ends, bytes; all before that was durable, all behind it is void.
    pub previous_end: u64,
    /// How many shards are re-stated behind this frame.
    pub shards: u32,
    /// Frames were lost once and nobody knows whose.
    pub lane_rotten: bool,
}

/// Longest reason kept with a rotten shard.
pub const REASON_BYTES_MAX: usize = 1024;
const FORMAT_VERSION: u16 = 1;

impl SegmentHead {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(FORMAT_VERSION).u16(self.lane).u64(self.segment);
        w.u64(self.base).u64(self.previous).u64(self.previous_end);
        w.u32(self.shards).bool(self.lane_rotten);
        w.into_vec()
    }

    /// The head of the segment file `bytes`.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let found = header(bytes)?;
        let (_, data, _) = payload(bytes, &found)?;
        let mut r = Reader::new(data);
        if found.header.kind != Kind::Head || r.u16().ok()? != FORMAT_VERSION {
            return None;
        }
        let head = Self {
            lane: r.u16().ok()?,
            segment: r.u64().ok()?,
            base: r.u64().ok()?,
            previous: r.u64().ok()?,
            previous_end: r.u64().ok()?,
            shards: r.u32().ok()?,
            lane_rotten: r.bool().ok()?,
        };
        (r.is_empty() && head.base == found.at).then_some(head)
    }
}

/// A seal's data.
pub fn encode_seal(position: u64, chain: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.u64(position).u32(chain);
    w.into_vec()
}

/// Position and running checksum of a seal.
pub fn decode_seal(data: &[u8]) -> Option<(u64, u32)> {
    let mut r = Reader::new(data);
    let seal = (r.u64().ok()?, r.u32().ok()?);
    r.is_empty().then_some(seal)
}

/// Several `u64`s, as in hard states, tails and marks.
pub fn encode_words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Exactly `N` `u64`s.
pub fn decode_words<const N: usize>(data: &[u8]) -> Option<[u64; N]> {
    let mut r = Reader::new(data);
    let mut words = [0; N];
    for word in &mut words {
        *word = r.u64().ok()?;
    }
    r.is_empty().then_some(words)
}
