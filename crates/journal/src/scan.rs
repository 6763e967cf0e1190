//! Cuts a segment's bytes into frames, damaged frames and gaps.

use crate::wire::{self, Found};

/// A stretch of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Where it begins and ends, bytes within the segment; a damaged frame may end beyond the file.
    pub start: u64,
    pub end: u64,
    pub what: What<'a>,
}

/// What it is.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// An intact frame.
    Frame {
        found: Found,
        context: &'a [u8],
        data: &'a [u8],
        payload_crc: u32,
    },
    /// An intact header before a damaged or missing payload.
    Damaged(Found),
    /// Not even a header.
    Gap,
}

/// Goes through a segment. Finds its feet again after damage: a header is taken only at its own position.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    base: u64,
    offset: usize,
}

impl<'a> Scan<'a> {
    /// Over the file content `bytes`, whose first byte has lane position `base`.
    pub fn new(bytes: &'a [u8], base: u64) -> Self {
        Self {
            bytes,
            base,
            offset: 0,
        }
    }

    fn header_at(&self, offset: usize) -> Option<Found> {
        let found = wire::header(self.bytes.get(offset..)?)?;
        (found.at == self.base.wrapping_add(offset as u64)).then_some(found)
    }

    fn next_header(&self, mut from: usize) -> usize {
        while let Some(at) = wire::find_magic(self.bytes, from) {
            if self.header_at(at).is_some() {
                return at;
            }
            from = at + 1;
        }
        self.bytes.len()
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let start = self.offset;
        if start >= self.bytes.len() {
            return None;
        }
        let (end, what) = match self.header_at(start) {
            None => (self.next_header(start + 1), What::Gap),
            Some(found) => {
                let end = start + found.frame_bytes();
                let what = match wire::payload(&self.bytes[start..], &found) {
                    Some((context, data, payload_crc)) => What::Frame {
                        found,
                        context,
                        data,
                        payload_crc,
                    },
                    None => What::Damaged(found),
                };
                (end, what)
            }
        };
        self.offset = end;
        Some(Piece {
            start: start as u64,
            end: end as u64,
            what,
        })
    }
}
