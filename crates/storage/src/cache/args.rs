//! Arguments, read with the words that clients know for what is wrong with them.

use super::number::{parse_double, parse_integer};
use super::{Answer, Reply};
use bytes::Bytes;

/// Options that do not fit together, or are none.
pub const SYNTAX: Reply = Reply::error("ERR syntax error");
/// A number that is none.
pub const NOT_INTEGER: Reply = Reply::error("ERR value is not an integer or out of range");
/// A floating-point number that is none.
pub const NOT_FLOAT: Reply = Reply::error("ERR value is not a valid float");

/// An integer.
pub fn integer(arg: &[u8]) -> Result<i64, Reply> {
    parse_integer(arg).ok_or(NOT_INTEGER)
}

/// An integer, or the refusal given.
pub fn integer_or(arg: &[u8], refusal: Reply) -> Result<i64, Reply> {
    parse_integer(arg).ok_or(refusal)
}

/// An integer from 0.
pub fn positive(arg: &[u8]) -> Result<usize, Reply> {
    const REFUSAL: Reply = Reply::error("ERR value is out of range, must be positive");
    let value = integer(arg).map_err(|_| REFUSAL)?;
    usize::try_from(value).map_err(|_| REFUSAL)
}

/// A floating-point number.
pub fn double(arg: &[u8]) -> Result<f64, Reply> {
    parse_double(arg).ok_or(NOT_FLOAT)
}

/// True when the argument is this word, in any case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// The time-out of a command that waits, in seconds. It is checked here and waited for elsewhere.
pub fn timeout(arg: &[u8]) -> Result<(), Reply> {
    match parse_double(arg) {
        None => Err(Reply::error("ERR timeout is not a float or out of range")),
        Some(seconds) if seconds < 0.0 => Err(Reply::error("ERR timeout is negative")),
        Some(seconds) if seconds * 1000.0 > i64::MAX as f64 => {
            Err(Reply::error("ERR timeout is out of range"))
        }
        Some(_) => Ok(()),
    }
}

/// The keys behind their number, and the arguments behind them.
pub fn counted(args: &[Bytes]) -> Result<(&[Bytes], &[Bytes]), Reply> {
    const REFUSAL: Reply = Reply::error("ERR numkeys should be greater than 0");
    let count = integer_or(&args[0], REFUSAL)?;
    let count = usize::try_from(count)
        .ok()
        .filter(|n| *n > 0)
        .ok_or(REFUSAL)?;
    args[1..].split_at_checked(count).ok_or(SYNTAX)
}

/// Bytes copied out of the state.
pub fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(bytes))
}

/// Bytes, if there are any.
pub fn bulk_or_nil(bytes: Option<&[u8]>) -> Reply {
    bytes.map_or(Reply::Nil, bulk)
}

/// A count.
pub fn count(count: usize) -> Answer {
    Ok(Reply::Integer(count as i64))
}

/// 1 or 0.
pub fn flag(is_so: bool) -> Answer {
    Ok(Reply::Integer(i64::from(is_so)))
}

/// The places that a range with ends counted from the front, or from the back when negative, means in
/// something so long. Empty when it has none.
pub fn range(start: i64, stop: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    let start = if start < 0 { start + length } else { start }.max(0);
    let stop = if stop < 0 { stop + length } else { stop }.min(length - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

/// The same in a string, where an end before the first place means the first place.
pub fn text_range(start: i64, stop: i64, length: usize) -> std::ops::Range<usize> {
    let stop = match stop < -(length as i64) {
        true => 0,
        false => stop,
    };
    range(start, stop, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_golden() {
        assert_eq!(range(0, -1, 3), 0..3);
        assert_eq!(range(-2, 9, 3), 1..3);
        assert_eq!(range(-9, -9, 3), 0..0);
        assert_eq!(range(5, 9, 3), 0..0);
        assert_eq!(range(0, -1, 0), 0..0);
        assert_eq!(range(i64::MIN, i64::MAX, 2), 0..2);
        assert_eq!(range(0, -3, 2), 0..0);
        assert_eq!(text_range(0, -3, 2), 0..1);
    }
}
