//! Bytes to answers.

use super::Value;
use crate::connection::Limits;
use crate::error::ProtocolError;
use crate::input::{Input, LINE_END};
use bytes::Bytes;
use storage::cache::parse_integer;

/// Answers within answers; no command of Redis comes near it.
const DEPTH_MAX: usize = 64;

/// Members that room is made for before they arrive.
const MEMBERS_EXPECTED: usize = 16;

/// Decoder of one connection to a server; reads both versions.
///
/// Of the newer version's extras it reads and drops attributes, and refuses what comes without a length: no
/// server sends it.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    input: Input,
    /// What was begun and has members to come, the outermost first.
    open: Vec<Open>,
    /// The string that is being read.
    bulk: Option<(Kind, usize)>,
    failed: Option<ProtocolError>,
}

/// A value with members.
#[derive(Debug)]
struct Open {
    shape: Shape,
    /// Members to come.
    missing: usize,
    members: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Array,
    Set,
    Push,
    Map,
    /// Said about the value that follows; dropped.
    Attribute,
}

/// What a counted string is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bulk,
    Error,
    Verbatim,
}

impl Decoder {
    /// A connection on which nothing has arrived. `arguments_max` bounds the members of one value.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            open: Vec::new(),
            bulk: None,
            failed: None,
        }
    }

    /// Takes what arrived.
    pub fn handle_bytes(&mut self, bytes: &Bytes) {
        if self.failed.is_none() {
            self.input.push(bytes);
        }
    }

    /// Bytes held that have not been read yet. Just behind an answer, those behind it.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    /// The next whole answer. After an error the connection must be closed; every later call repeats it.
    pub fn poll(&mut self) -> Result<Option<Value>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let value = self.poll_value();
        if let Err(error) = value {
            *self = Self::new(self.limits);
            self.failed = Some(error);
        }
        value
    }

    fn poll_value(&mut self) -> Result<Option<Value>, ProtocolError> {
        loop {
            let read = match self.bulk {
                Some((kind, length)) => self.poll_bulk(kind, length)?.map(Some),
                None => self.poll_line()?,
            };
            match read {
                None => return Ok(None),
                Some(None) => {} // something was begun
                Some(Some(value)) => {
                    if let Some(whole) = self.close(value) {
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// One line: a value, or the beginning of one (the inner `None`).
    fn poll_line(&mut self) -> Result<Option<Option<Value>>, ProtocolError> {
        let line = self.input.find_line(self.limits.inline_bytes_max);
        let Some(length) = line.map_err(|_| ProtocolError::ReplyTooLong)? else {
            return Ok(None);
        };
        let line = self.input.take(length, 0);
        let Some(line) = line.strip_suffix(LINE_END).map(|text| line.slice_ref(text)) else {
            return Err(ProtocolError::ReplyInvalid);
        };
        let Some(first) = line.first().copied() else {
            return Err(ProtocolError::ReplyInvalid);
        };
        let text = line.slice(1..);
        let value = match first {
            b'+' => Value::Status(text),
            b'-' => Value::Error(text),
            b':' => Value::Integer(number(&text)?),
            b',' => Value::Double(double(&text)?),
            b'(' if is_decimal(&text) => Value::BigNumber(text),
            b'#' if *text == *b"t" => Value::Bool(true),
            b'#' if *text == *b"f" => Value::Bool(false),
            b'_' if text.is_empty() => Value::Nil,
            b'$' if *text == *b"-1" => Value::Nil,
            b'*' if *text == *b"-1" => Value::NilArray,
            b'$' => return self.begin_bulk(Kind::Bulk, &text),
            b'!' => return self.begin_bulk(Kind::Error, &text),
            b'=' => return self.begin_bulk(Kind::Verbatim, &text),
            b'*' => return self.begin(Shape::Array, &text),
            b'~' => return self.begin(Shape::Set, &text),
            b'>' => return self.begin(Shape::Push, &text),
            b'%' => return self.begin(Shape::Map, &text),
            b'|' => return self.begin(Shape::Attribute, &text),
            b'(' | b'#' | b'_' => return Err(ProtocolError::ReplyInvalid),
            got => return Err(ProtocolError::UnknownType { got }),
        };
        Ok(Some(Some(value)))
    }

    fn begin_bulk(
        &mut self,
        kind: Kind,
        length: &[u8],
    ) -> Result<Option<Option<Value>>, ProtocolError> {
        let length = usize::try_from(number(length)?)
            .ok()
            .filter(|length| *length <= self.limits.bulk_bytes_max)
            .ok_or(ProtocolError::LengthInvalid)?;
        self.bulk = Some((kind, length));
        Ok(Some(None))
    }

    fn poll_bulk(&mut self, kind: Kind, length: usize) -> Result<Option<Value>, ProtocolError> {
        let whole = length + LINE_END.len();
        if !self.input.find_bytes(whole) {
            return Ok(None);
        }
        if !self.input.front()[..whole].ends_with(LINE_END) {
            return Err(ProtocolError::BulkEnd);
        }
        self.bulk = None;
        let bytes = self.input.take(whole, LINE_END.len());
        Ok(Some(match kind {
            Kind::Bulk => Value::Bulk(bytes),
            Kind::Error => Value::Error(bytes),
            Kind::Verbatim => match bytes.first_chunk() {
                Some([a, b, c, b':']) => Value::Verbatim {
                    format: [*a, *b, *c],
                    text: bytes.slice(4..),
                },
                _ => return Err(ProtocolError::ReplyInvalid),
            },
        }))
    }

    fn begin(
        &mut self,
        shape: Shape,
        count: &[u8],
    ) -> Result<Option<Option<Value>>, ProtocolError> {
        let count = usize::try_from(number(count)?)
            .ok()
            .filter(|count| *count <= self.limits.arguments_max)
            .ok_or(ProtocolError::CountInvalid)?;
        if self.open.len() == DEPTH_MAX {
            return Err(ProtocolError::ReplyTooDeep);
        }
        let missing = match shape {
            Shape::Map | Shape::Attribute => 2 * count,
            Shape::Array | Shape::Set | Shape::Push => count,
        };
        if missing == 0 {
            return Ok(Some(finish(shape, Vec::new())));
        }
        self.open.push(Open {
            shape,
            missing,
            members: Vec::with_capacity(missing.min(MEMBERS_EXPECTED)),
        });
        Ok(Some(None))
    }

    /// Puts a value into what is open, and that into what is open around it. The outermost once it is whole.
    fn close(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut open) = self.open.pop() {
            open.members.push(value);
            open.missing -= 1;
            if open.missing > 0 {
                self.open.push(open);
                return None;
            }
            value = finish(open.shape, open.members)?;
        }
        Some(value)
    }
}

/// None for what is dropped.
fn finish(shape: Shape, members: Vec<Value>) -> Option<Value> {
    Some(match shape {
        Shape::Array => Value::Array(members),
        Shape::Set => Value::Set(members),
        Shape::Push => Value::Push(members),
        Shape::Map => {
            let mut members = members.into_iter();
            let mut pairs = Vec::with_capacity(members.len() / 2);
            while let (Some(field), Some(value)) = (members.next(), members.next()) {
                pairs.push((field, value));
            }
            Value::Map(pairs)
        }
        Shape::Attribute => return None,
    })
}

fn number(text: &[u8]) -> Result<i64, ProtocolError> {
    // The newer version allows a plus.
    let text = text.strip_prefix(b"+").unwrap_or(text);
    parse_integer(text).ok_or(ProtocolError::ReplyInvalid)
}

/// NaN is among them.
fn double(text: &[u8]) -> Result<f64, ProtocolError> {
    let text = std::str::from_utf8(text).ok();
    (text.and_then(|text| text.parse().ok())).ok_or(ProtocolError::ReplyInvalid)
}

fn is_decimal(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
