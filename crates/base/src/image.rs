//! The image of a small machine, taken at once when its snapshot begins and handed out in pieces.

use crate::SnapshotPoll;

/// What of an image is still to be handed out; empty when no snapshot is under way.
#[derive(Clone, Debug, Default)]
pub struct Image {
    bytes: Vec<u8>,
    at: usize,
}

impl Image {
    /// All of it.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next piece, of at most `bytes_max` bytes; at least one is taken.
    pub fn poll(&mut self, bytes_max: usize) -> SnapshotPoll {
        if self.at == self.bytes.len() {
            *self = Self::default();
            return SnapshotPoll::Done;
        }
        let end = self.bytes.len().min(self.at + bytes_max.max(1));
        let chunk = self.bytes[self.at..end].to_vec();
        self.at = end;
        SnapshotPoll::Chunk(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_whole_and_then_it_is_done() {
        let mut image = Image::of(vec![1, 2, 3, 4, 5]);
        let mut whole = Vec::new();
        while let SnapshotPoll::Chunk(piece) = image.poll(2) {
            assert!((1..=2).contains(&piece.len()));
            whole.extend(piece);
        }
        assert_eq!(whole, [1, 2, 3, 4, 5]);
        assert_eq!(image.poll(2), SnapshotPoll::Done);
        assert_eq!(Image::default().poll(0), SnapshotPoll::Done);
    }
}
