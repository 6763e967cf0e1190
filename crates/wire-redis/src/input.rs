//! Lines and counted strings off a byte stream that comes in pieces.
//!
//! What lies in one piece is a slice of it. Only an item that is split between pieces is copied, once, into
//! a buffer that grows with what arrives and never with what is announced: the cost is linear in the bytes,
//! however they are cut.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// Both characters at the end of a line.
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// A line goes on beyond its cap.
#[derive(Debug)]
pub(crate) struct LineTooLong;

#[derive(Default, Debug)]
pub(crate) struct Input {
    /// The beginning of an item that is split between pieces. Empty when items and pieces end together.
    partial: Vec<u8>,
    /// The piece behind `partial`; not empty while `waiting` is not.
    piece: Bytes,
    /// Pieces behind that, none of them empty.
    waiting: VecDeque<Bytes>,
    /// Bytes in `waiting`.
    waiting_bytes: usize,
}

impl Input {
    /// Takes a piece.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.piece.is_empty() {
            self.piece = bytes.clone();
        } else {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes.clone());
        }
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        self.partial.len() + self.piece.len() + self.waiting_bytes
    }

    /// The next byte, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.front().first().copied()
    }

    /// Waits for a whole line and gives its length, both end characters included. It is then the beginning
    /// of [`Input::front`], and must be taken or skipped before anything else.
    pub(crate) fn find_line(&mut self, bytes_max: usize) -> Result<Option<usize>, LineTooLong> {
        loop {
            let end = self.piece.iter().position(|byte| *byte == b'\n');
            let in_piece = end.map_or(self.piece.len(), |at| at + 1);
            if self.partial.len() + in_piece > bytes_max {
                return Err(LineTooLong);
            }
            match end {
                Some(_) if self.partial.is_empty() => return Ok(Some(in_piece)),
                Some(_) => {
                    self.gather(in_piece);
                    return Ok(Some(self.partial.len()));
                }
                None => self.gather(in_piece),
            }
            if self.piece.is_empty() {
                return Ok(None);
            }
        }
    }

    /// True once `length` bytes are there; they are then the beginning of [`Input::front`], and must be
    /// taken or skipped before anything else.
    pub(crate) fn find_bytes(&mut self, length: usize) -> bool {
        loop {
            let missing = length - self.partial.len();
            if self.piece.len() >= missing {
                if !self.partial.is_empty() {
                    self.grow(missing, length);
                    self.gather(missing);
                }
                return true;
            }
            let there = self.piece.len();
            self.grow(there, length);
            self.gather(there);
            if self.piece.is_empty() {
                return false;
            }
        }
    }

    /// What has arrived together, unless an item is split.
    pub(crate) fn piece(&self) -> Option<&Bytes> {
        self.partial.is_empty().then_some(&self.piece)
    }

    /// What begins with the item that was found.
    pub(crate) fn front(&self) -> &[u8] {
        if self.partial.is_empty() {
            &self.piece
        } else {
            &self.partial
        }
    }

    /// Leaves out the item that was found.
    pub(crate) fn skip(&mut self, length: usize) {
        if self.partial.is_empty() {
            self.piece.advance(length);
            self.refill();
        } else {
            self.partial.clear();
        }
    }

    /// Takes the item that was found, without its last `end` bytes.
    pub(crate) fn take(&mut self, length: usize, end: usize) -> Bytes {
        if self.partial.is_empty() {
            let item = self.piece.slice(..length - end);
            self.skip(length);
            return item;
        }
        let mut item = std::mem::take(&mut self.partial);
        item.truncate(item.len() - end);
        item.into()
    }

    /// Makes room in `partial` for `more` bytes: at least doubled, at most `length`.
    fn grow(&mut self, more: usize, length: usize) {
        let held = self.partial.len();
        if self.partial.capacity() < held + more {
            let room = more.max(held.min(length - held));
            self.partial.reserve_exact(room);
        }
    }

    /// Moves bytes of the piece to `partial`.
    fn gather(&mut self, count: usize) {
        self.partial.extend_from_slice(&self.piece[..count]);
        self.piece.advance(count);
        self.refill();
    }

    fn refill(&mut self) {
        if self.piece.is_empty() {
            // Also lets the reader's buffer go.
            self.piece = self.waiting.pop_front().unwrap_or_default();
            self.waiting_bytes -= self.piece.len();
        }
    }
}
