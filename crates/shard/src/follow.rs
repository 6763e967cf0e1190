//! Following another cluster's shard: its committed entries, and where needed a snapshot before them, pass as
//! units through the log of the shard that follows.
//!
//! So every replica of the follower has the same state without knowing the other cluster, and a snapshot of
//! it says how far it has come. A unit of the shard's own ends following for ever: what of the other cluster's
//! log comes after it is nothing any more, whoever still proposes it.

use base::{LogIndex, Reader, SnapshotPoll, State, Writer};
use bytes::Bytes;

/// The first byte of such a unit; no machine's units begin with it.
const FOLLOWED: u8 = 255;

/// A unit of following.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Followed {
    /// A committed entry.
    Entry {
        /// Its index there.
        index: LogIndex,
        /// As far as was committed there when it was sent.
        commit: LogIndex,
        /// A [`crate::Batch`]; empty for an entry of raft's own.
        data: Bytes,
    },
    /// A piece of a snapshot's file.
    Piece {
        /// The snapshot's last entry.
        index: LogIndex,
        /// Where in the file, in bytes.
        offset: u64,
        /// Whether it is the last one.
        is_last: bool,
        /// The bytes.
        bytes: Bytes,
    },
}

impl Followed {
    /// The byte form.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.u8(FOLLOWED);
        match self {
            Self::Entry {
                index,
                commit,
                data,
            } => {
                w.u8(1).u64(*index).u64(*commit).raw(data);
            }
            Self::Piece {
                index,
                offset,
                is_last,
                bytes,
            } => {
                w.u8(2).u64(*index).u64(*offset).bool(*is_last).raw(bytes);
            }
        }
        w.into_bytes()
    }

    /// Reads the byte form; `None` for any other unit.
    pub fn read(unit: &Bytes) -> Option<Self> {
        let mut r = Reader::new(unit);
        if r.u8().ok()? != FOLLOWED {
            return None;
        }
        let followed = match r.u8().ok()? {
            1 => Self::Entry {
                index: r.u64().ok()?,
                commit: r.u64().ok()?,
                data: unit.slice_ref(r.rest()),
            },
            2 => Self::Piece {
                index: r.u64().ok()?,
                offset: r.u64().ok()?,
                is_last: r.bool().ok()?,
                bytes: unit.slice_ref(r.rest()),
            },
            _ => return None,
        };
        Some(followed)
    }
}

/// How far a shard has followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The last entry of the other cluster's log that is in the state; 0 for none.
    pub index: LogIndex,
    /// As far as was committed there when that was sent.
    pub commit: LogIndex,
    /// A unit of its own was applied since: it follows no more.
    pub is_closed: bool,
    pub(crate) cut: Option<[u8; 17]>,
}

impl Source {
    /// True when an entry is the next one. A log begins behind an imagined entry 1.
    pub fn expects(&self, index: LogIndex) -> bool {
        !self.is_closed && index == self.index.max(1) + 1
    }

    fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.commit.to_be_bytes());
        bytes[16] = u8::from(self.is_closed);
        bytes
    }
}

impl State for Source {
    fn digest(&self) -> u64 {
        self.index ^ self.commit.rotate_left(32) ^ (u64::from(self.is_closed) << 63)
    }

    /// A shard that never followed writes nothing.
    fn begin_snapshot(&mut self) {
        self.cut = (self.index > 0).then(|| self.to_bytes());
    }

    fn poll_snapshot(&mut self, _: usize) -> SnapshotPoll {
        match self.cut.take() {
            Some(bytes) => SnapshotPoll::Chunk(bytes.to_vec()),
            None => SnapshotPoll::Done,
        }
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut r = Reader::new(chunk);
        let mut read = || {
            let source = Self {
                index: r.u64()?,
                commit: r.u64()?,
                is_closed: r.bool()?,
                cut: None,
            };
            r.finish()?;
            Ok(source)
        };
        *self = read().map_err(|e: base::DecodeError| format!("how far it followed: {e}"))?;
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_survive_their_byte_form_and_others_are_none() {
        let data = Bytes::from_static(b"data");
        for followed in [
            Followed::Entry {
                index: 7,
                commit: 9,
                data: data.clone(),
            },
            Followed::Piece {
                index: 7,
                offset: 8,
                is_last: true,
                bytes: data,
            },
        ] {
            let unit = followed.encode();
            assert_eq!(Followed::read(&unit), Some(followed));
            assert_eq!(Followed::read(&unit.slice(..9)), None);
        }
        assert_eq!(Followed::read(&Bytes::from_static(&[2, 1, 0, 0])), None);
    }

    #[test]
    fn only_the_next_entry_is_expected_and_none_once_closed() {
        let mut source = Source::default();
        assert!(source.expects(2) && !source.expects(1) && !source.expects(3));
        source.index = 5;
        assert!(source.expects(6) && !source.expects(5) && !source.expects(7));
        source.is_closed = true;
        assert!(!source.expects(6));
        source.begin_snapshot();
        let SnapshotPoll::Chunk(bytes) = source.poll_snapshot(1) else {
            panic!("a chunk");
        };
        let mut read = Source::default();
        assert_eq!(read.restore(&bytes), Ok(()));
        assert_eq!(read, source);
        assert!(Source::default().digest() == 0 && source.digest() != 0);
    }
}
