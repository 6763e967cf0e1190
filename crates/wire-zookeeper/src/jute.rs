//! Jute's values: big-endian integers, and strings, buffers and vectors behind a signed length whose
//! −1 means null.

use base::{DecodeError, Reader};
use bytes::Bytes;
use coordination::{Acl, Identity, Stat};

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads jute's values off the front of a frame.
pub(crate) struct In<'a> {
    reader: Reader<'a>,
    whole: &'a Bytes,
}

impl<'a> In<'a> {
    pub(crate) fn new(whole: &'a Bytes) -> Self {
        Self {
            reader: Reader::new(whole),
            whole,
        }
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        self.reader.i32()
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.reader.i64()
    }

    /// Any byte but 0 is true, as in ZooKeeper.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.reader.u8()? != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    pub(crate) fn finish(&self) -> Result<()> {
        self.reader.finish()
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> Bytes {
        self.whole.slice_ref(self.reader.rest())
    }

    fn slice(&mut self) -> Result<Option<&'a [u8]>> {
        match self.reader.i32()? {
            -1 => Ok(None),
            n => {
                let n = usize::try_from(n).map_err(|_| DecodeError::Invalid("length"))?;
                self.reader.take(n).map(Some)
            }
        }
    }

    /// A buffer; null is empty.
    pub(crate) fn buffer(&mut self) -> Result<Bytes> {
        Ok(match self.slice()? {
            Some(bytes) => self.whole.slice_ref(bytes),
            None => Bytes::new(),
        })
    }

    /// A string; null is empty.
    pub(crate) fn string(&mut self) -> Result<String> {
        text(self.slice()?.unwrap_or_default())
    }

    /// A string that must not be null.
    pub(crate) fn path(&mut self) -> Result<String> {
        text(self.slice()?.ok_or(DecodeError::Invalid("path (null)"))?)
    }

    /// A count of items that take at least `item_bytes_min` each, never more than can be there; null is 0.
    fn count(&mut self, item_bytes_min: usize) -> Result<usize> {
        match self.reader.i32()? {
            -1 => Ok(0),
            n => {
                let n = usize::try_from(n).map_err(|_| DecodeError::Invalid("count"))?;
                if n > self.reader.rest().len() / item_bytes_min {
                    return Err(DecodeError::Truncated);
                }
                Ok(n)
            }
        }
    }

    pub(crate) fn strings(&mut self) -> Result<Vec<String>> {
        let n = self.count(4)?;
        let mut strings = Vec::with_capacity(n);
        for _ in 0..n {
            strings.push(self.path()?);
        }
        Ok(strings)
    }

    pub(crate) fn acl(&mut self) -> Result<Vec<Acl>> {
        let n = self.count(12)?;
        let mut acl = Vec::with_capacity(n);
        for _ in 0..n {
            acl.push(Acl {
                permissions: self.reader.u32()?,
                identity: Identity {
                    scheme: self.string()?,
                    id: self.string()?,
                },
            });
        }
        Ok(acl)
    }

    pub(crate) fn stat(&mut self) -> Result<Stat> {
        Ok(Stat {
            czxid: self.i64()?,
            mzxid: self.i64()?,
            ctime_ms: self.i64()?,
            mtime_ms: self.i64()?,
            version: self.i32()?,
            cversion: self.i32()?,
            aversion: self.i32()?,
            ephemeral_owner: self.i64()?,
            data_length: self.i32()?,
            num_children: self.i32()?,
            pzxid: self.i64()?,
        })
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Invalid("UTF-8"))
}

/// Appends jute's values to a buffer.
pub(crate) struct Out<'a>(&'a mut Vec<u8>);

/// Appends one frame: its length, and what `body` writes.
pub(crate) fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Out<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(&mut Out(out));
    let length = length_i32(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn length_i32(length: usize) -> i32 {
    i32::try_from(length).expect("values are far below 2 GiB")
}

impl Out<'_> {
    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(u8::from(value));
        self
    }

    pub(crate) fn buffer(&mut self, value: &[u8]) -> &mut Self {
        self.i32(length_i32(value.len()));
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn string(&mut self, value: &str) -> &mut Self {
        self.buffer(value.as_bytes())
    }

    pub(crate) fn strings<S: AsRef<str>>(&mut self, values: &[S]) -> &mut Self {
        self.i32(length_i32(values.len()));
        for value in values {
            self.string(value.as_ref());
        }
        self
    }

    pub(crate) fn acl(&mut self, acl: &[Acl]) -> &mut Self {
        self.i32(length_i32(acl.len()));
        for line in acl {
            self.i32(line.permissions.cast_signed());
            self.string(&line.identity.scheme).string(&line.identity.id);
        }
        self
    }

    pub(crate) fn stat(&mut self, stat: &Stat) -> &mut Self {
        self.i64(stat.czxid).i64(stat.mzxid);
        self.i64(stat.ctime_ms).i64(stat.mtime_ms);
        self.i32(stat.version).i32(stat.cversion).i32(stat.aversion);
        self.i64(stat.ephemeral_owner);
        self.i32(stat.data_length).i32(stat.num_children);
        self.i64(stat.pzxid)
    }

    /// The header of an element of a multi.
    pub(crate) fn multi_header(&mut self, kind: i32, done: bool, error: i32) -> &mut Self {
        self.i32(kind).bool(done).i32(error)
    }
}
