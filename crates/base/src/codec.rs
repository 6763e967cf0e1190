//! The byte codec of everything that we write: big-endian integers, lengths before bytes.
//!
//! A length is checked against what is there before anything is allocated.

use bytes::Bytes;
use std::fmt;

/// Why bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ended inside a value.
    Truncated,
    /// A value that the format does not have; the name says which field.
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the input ends inside a value"),
            Self::Invalid(what) => write!(f, "invalid {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads values off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

macro_rules! read {
    ($($name:ident: $ty:ty),*) => {$(
        /// The next big-endian value of this type.
        pub fn $name(&mut self) -> Result<$ty> {
            let bytes = self.take(size_of::<$ty>())?;
            Ok(<$ty>::from_be_bytes(bytes.try_into().expect("length was taken")))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    read!(u8: u8, u16: u16, u32: u32, u64: u64, i32: i32, i64: i64);

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, tail) = self
            .bytes
            .split_at_checked(n)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("boolean")),
        }
    }

    /// Bytes behind a `u32` length.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    /// UTF-8 behind a `u32` length.
    pub fn str(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Invalid("UTF-8"))
    }

    /// A `u32` count of items that take at least `item_bytes_min` each: never more than can be there.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize> {
        let n = self.u32()? as usize;
        if n > self.bytes.len() / item_bytes_min.max(1) {
            return Err(DecodeError::Truncated);
        }
        Ok(n)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// True when everything has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Refuses left-over bytes.
    pub fn finish(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Invalid("left-over bytes"))
        }
    }
}

/// Appends values to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

macro_rules! write {
    ($($name:ident: $ty:ty),*) => {$(
        /// Appends the value, big-endian.
        pub fn $name(&mut self, value: $ty) -> &mut Self {
            self.bytes.extend_from_slice(&value.to_be_bytes());
            self
        }
    )*};
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::from_vec(Vec::with_capacity(bytes))
    }

    /// Appends to `bytes`.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    write!(u8: u8, u16: u16, u32: u32, u64: u64, i32: i32, i64: i64);

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Bytes behind a `u32` length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).expect("values are far below 4 GiB"));
        self.raw(value)
    }

    /// UTF-8 behind a `u32` length.
    pub fn str(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Bytes as they are.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Overwrites the four bytes at `at`, for lengths that are known only at the end.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written, shareable.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_written_are_read_back() {
        let mut w = Writer::new();
        w.u8(1).u16(2).u32(3).u64(4).i32(-5).i64(-6).bool(true);
        w.bytes(b"ab").str("é");
        let bytes = w.into_vec();
        let mut r = Reader::new(&bytes);
        assert_eq!((r.u8(), r.u16(), r.u32()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!((r.u64(), r.i32(), r.i64()), (Ok(4), Ok(-5), Ok(-6)));
        assert_eq!((r.bool(), r.bytes()), (Ok(true), Ok(&b"ab"[..])));
        assert_eq!(r.str(), Ok("é"));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_allocation() {
        let mut r = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(r.bytes(), Err(DecodeError::Truncated));
        let mut r = Reader::new(&[0x7f, 0xff, 0xff, 0xff, 1]);
        assert_eq!(r.count(1), Err(DecodeError::Truncated));
    }
}
