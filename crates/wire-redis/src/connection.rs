//! The server's side of one connection: bytes to requests.

use crate::error::ProtocolError;
use crate::inline;
use crate::input::{Input, LINE_END};
use bytes::Bytes;
use storage::cache::parse_integer;

/// Longest line with a number of arguments or an argument's length; Redis' own.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Arguments that room is made for before they arrive.
const ARGUMENTS_EXPECTED: usize = 16;

/// Bounds of one connection. Who holds arguments pays 32 bytes for each beside their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest argument in bytes (Redis' `proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Most arguments of a request, its name included.
    pub arguments_max: usize,
    /// Longest request without lengths, in bytes with its line end.
    pub inline_bytes_max: usize,
    /// Most bytes in all arguments of a request.
    pub request_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_bytes_max: 64 << 20,
            arguments_max: 1 << 20,
            inline_bytes_max: 64 << 10,
            request_bytes_max: 128 << 20,
        }
    }
}

/// Decoder of one client connection.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    input: Input,
    /// Of the request that is being read.
    arguments: Vec<Bytes>,
    /// Bytes in `arguments`.
    argument_bytes: usize,
    /// Arguments that are still to come; 0 between requests.
    missing: usize,
    /// Announced length of the argument that is being read.
    bulk: Option<usize>,
    failed: Option<ProtocolError>,
}

/// The number on a line behind its first byte, and where the next line begins: as most write it, with up to nine
/// digits, or nothing.
fn usual_head(line: &[u8], first: u8) -> Option<(usize, usize)> {
    if *line.first()? != first {
        return None;
    }
    let (mut number, mut at) = (0, 1);
    while let digit @ b'0'..=b'9' = *line.get(at)? {
        if at > 9 || at > 1 && number == 0 {
            return None;
        }
        number = 10 * number + usize::from(digit - b'0');
        at += 1;
    }
    let is_line = at > 1 && line.get(at..at + 2)? == LINE_END;
    is_line.then_some((number, at + 2))
}

impl Connection {
    /// A connection on which nothing has arrived.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            arguments: Vec::new(),
            argument_bytes: 0,
            missing: 0,
            bulk: None,
            failed: None,
        }
    }

    /// Takes what arrived. It may be held as long as a request lies in it.
    pub fn handle_bytes(&mut self, bytes: &Bytes) {
        if self.failed.is_none() {
            self.input.push(bytes);
        }
    }

    /// Bytes held that have not been polled as requests: the partial one, and input while polling is held back.
    pub fn buffered_bytes(&self) -> usize {
        self.argument_bytes + self.input.len()
    }

    /// The next request, in order: its name, then its arguments; never empty. They are slices of what
    /// arrived: who keeps one for long copies it. After an error the connection must be closed; every later
    /// call repeats the error.
    pub fn poll(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let request = self.poll_request();
        if let Err(error) = request {
            *self = Self::new(self.limits);
            self.failed = Some(error);
        }
        request
    }

    /// The next request if it is of the usual kind and lies in one piece as a whole.
    fn poll_usual(&mut self) -> Option<Vec<Bytes>> {
        let piece = self.input.piece()?;
        let (count, mut at) = usual_head(piece, b'*')?;
        if count == 0 || count > ARGUMENTS_EXPECTED.min(self.limits.arguments_max) {
            return None;
        }
        let mut arguments = Vec::with_capacity(count);
        let mut bytes = 0;
        for _ in 0..count {
            let (length, head) = usual_head(piece.get(at..)?, b'$')?;
            let (start, end) = (at + head, at + head + length);
            bytes += length;
            let is_end = piece.get(end..end + LINE_END.len())? == LINE_END;
            if !is_end || length > self.limits.bulk_bytes_max {
                return None;
            }
            arguments.push(piece.slice(start..end));
            at = end + LINE_END.len();
        }
        if bytes > self.limits.request_bytes_max {
            return None;
        }
        self.input.skip(at);
        Some(arguments)
    }

    fn poll_request(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        if self.missing == 0
            && let Some(arguments) = self.poll_usual()
        {
            return Ok(Some(arguments));
        }
        while self.missing == 0 {
            match self.input.peek() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(count) = self.poll_count()? else {
                        return Ok(None);
                    };
                    self.missing = count;
                    self.arguments = Vec::with_capacity(count.min(ARGUMENTS_EXPECTED));
                }
                Some(_) => {
                    let Some(words) = self.poll_inline()? else {
                        return Ok(None);
                    };
                    if !words.is_empty() {
                        return Ok(Some(words));
                    }
                }
            }
        }
        while self.missing > 0 {
            let Some(argument) = self.poll_bulk()? else {
                return Ok(None);
            };
            self.argument_bytes += argument.len();
            self.arguments.push(argument);
            self.missing -= 1;
        }
        self.argument_bytes = 0;
        Ok(Some(std::mem::take(&mut self.arguments)))
    }

    /// The number of arguments. Redis ignores what announces less than one, and so does this.
    fn poll_count(&mut self) -> Result<Option<usize>, ProtocolError> {
        let number = self.poll_head(ProtocolError::CountTooLong)?;
        let Some(number) = number else {
            return Ok(None);
        };
        let number = number.ok_or(ProtocolError::CountInvalid)?;
        let count = usize::try_from(number.max(0)).map_err(|_| ProtocolError::CountInvalid)?;
        if count > self.limits.arguments_max {
            return Err(ProtocolError::CountInvalid);
        }
        Ok(Some(count))
    }

    fn poll_bulk(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                let Some(length) = self.poll_length()? else {
                    return Ok(None);
                };
                *self.bulk.insert(length)
            }
        };
        let whole = length + LINE_END.len();
        if !self.input.find_bytes(whole) {
            return Ok(None);
        }
        if !self.input.front()[..whole].ends_with(LINE_END) {
            return Err(ProtocolError::BulkEnd);
        }
        self.bulk = None;
        Ok(Some(self.input.take(whole, LINE_END.len())))
    }

    /// The length of an argument.
    fn poll_length(&mut self) -> Result<Option<usize>, ProtocolError> {
        match self.input.peek() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(got) => return Err(ProtocolError::NoBulk { got }),
        }
        let Some(number) = self.poll_head(ProtocolError::LengthTooLong)? else {
            return Ok(None);
        };
        let length = number
            .and_then(|number| usize::try_from(number).ok())
            .filter(|length| *length <= self.limits.bulk_bytes_max)
            .ok_or(ProtocolError::LengthInvalid)?;
        if self.argument_bytes + length > self.limits.request_bytes_max {
            return Err(ProtocolError::RequestTooLong);
        }
        Ok(Some(length))
    }

    /// The number on a line behind its first byte; the inner `None` when there is no number.
    fn poll_head(&mut self, too_long: ProtocolError) -> Result<Option<Option<i64>>, ProtocolError> {
        let line = self.input.find_line(HEAD_BYTES_MAX);
        let Some(length) = line.map_err(|_| too_long)? else {
            return Ok(None);
        };
        let number = self.input.front()[1..length]
            .strip_suffix(LINE_END)
            .and_then(parse_integer);
        self.input.skip(length);
        Ok(Some(number))
    }

    fn poll_inline(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let line = self.input.find_line(self.limits.inline_bytes_max);
        let Some(length) = line.map_err(|_| ProtocolError::InlineTooLong)? else {
            return Ok(None);
        };
        let line = self.input.take(length, 1);
        let words = inline::split(&line).ok_or(ProtocolError::UnbalancedQuotes)?;
        // What a browser sends on behalf of a hostile page would be read as commands otherwise.
        if let Some(name) = words.first()
            && (name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
        {
            return Err(ProtocolError::Http);
        }
        Ok(Some(words))
    }
}
