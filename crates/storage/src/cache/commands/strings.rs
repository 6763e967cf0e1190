//! Strings.

use super::super::Reply;
use super::super::args::{
    NOT_FLOAT, NOT_INTEGER, SYNTAX, bulk, bulk_or_nil, count, flag, integer, is, text_range,
};
use super::super::context::{Answer, Edit, Ending, View};
use super::super::entry::NEVER_MS;
use super::super::number::{parse_double, parse_integer, sum_text};
use super::expiry::{Clock, deadline};
use bytes::Bytes;

/// The longest string.
pub const STRING_BYTES_MAX: usize = 512 << 20;

const TOO_LONG: Reply =
    Reply::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

/// Refuses a string that would be too long.
pub fn check_length(length: usize) -> Result<(), Reply> {
    match length <= STRING_BYTES_MAX {
        true => Ok(()),
        false => Err(TOO_LONG),
    }
}

/// GET key
pub fn get(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(bulk_or_nil(view.string(&args[0])?))
}

/// What SET and GETEX take behind key and value.
#[derive(Default)]
struct SetOptions {
    only_if_missing: bool,
    only_if_there: bool,
    get: bool,
    keep_ending: bool,
    persist: bool,
    ends_ms: Option<i64>,
}

impl SetOptions {
    fn parse(edit: &Edit<'_>, name: &str, is_getex: bool, args: &[Bytes]) -> Result<Self, Reply> {
        let mut options = Self::default();
        let mut ending = None;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let clock = [
                ("ex", Clock::SECONDS),
                ("px", Clock::MILLISECONDS),
                ("exat", Clock::SECONDS_AT),
                ("pxat", Clock::MILLISECONDS_AT),
            ];
            if let Some((_, clock)) = clock.iter().find(|(word, _)| is(arg, word)) {
                let value = rest.next().ok_or(SYNTAX)?;
                let before: Option<(Clock, &Bytes)> = ending.replace((*clock, value));
                if before.is_some_and(|(other, _)| other != *clock) {
                    return Err(SYNTAX);
                }
            } else if is_getex && is(arg, "persist") {
                options.persist = true;
            } else if !is_getex && is(arg, "nx") {
                options.only_if_missing = true;
            } else if !is_getex && is(arg, "xx") {
                options.only_if_there = true;
            } else if !is_getex && is(arg, "get") {
                options.get = true;
            } else if !is_getex && is(arg, "keepttl") {
                options.keep_ending = true;
            } else {
                return Err(SYNTAX);
            }
        }
        let endings = [ending.is_some(), options.keep_ending, options.persist];
        if options.only_if_missing && options.only_if_there
            || endings.iter().filter(|is_set| **is_set).count() > 1
        {
            return Err(SYNTAX);
        }
        if let Some((clock, value)) = ending {
            options.ends_ms = Some(positive_deadline(edit, name, clock, value)?);
        }
        Ok(options)
    }
}

/// When a key shall end that is set now; only times from 1 on are allowed.
fn positive_deadline(
    edit: &Edit<'_>,
    name: &str,
    clock: Clock,
    value: &[u8],
) -> Result<i64, Reply> {
    let value = integer(value)?;
    let ends_ms = deadline(edit.now_ms(), clock, value).filter(|_| value > 0);
    ends_ms.ok_or_else(|| super::expiry::invalid(name))
}

/// Sets a string; one whose time is over already removes the key.
fn store(edit: &mut Edit<'_>, key: &[u8], value: &[u8], ending: Ending) {
    match ending {
        Ending::At(ends_ms) if ends_ms <= edit.now_ms() => drop(edit.remove(key)),
        ending => edit.put_string(key, value, ending),
    }
}

/// SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]
pub fn set(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (key, value) = (&args[0], &args[1]);
    if args.len() == 2 {
        edit.put_string(key, value, Ending::At(NEVER_MS));
        return Ok(Reply::OK);
    }
    let options = SetOptions::parse(edit, "set", false, &args[2..])?;
    let view = edit.view();
    let old = match options.get {
        true => Some(bulk_or_nil(view.string(key)?)),
        false => None,
    };
    let is_there = view.entry(key).is_some();
    if options.only_if_missing && is_there || options.only_if_there && !is_there {
        return Ok(old.unwrap_or(Reply::Nil));
    }
    let ending = match options.keep_ending {
        true => Ending::Keep,
        false => Ending::At(options.ends_ms.unwrap_or(NEVER_MS)),
    };
    store(edit, key, value, ending);
    Ok(old.unwrap_or(Reply::OK))
}

/// SETNX key value
pub fn setnx(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let is_there = edit.view().entry(&args[0]).is_some();
    if !is_there {
        edit.put_string(&args[0], &args[1], Ending::At(NEVER_MS));
    }
    flag(!is_there)
}

/// SETEX key seconds value; PSETEX key milliseconds value
pub fn setex(edit: &mut Edit<'_>, args: &[Bytes], name: &str, clock: Clock) -> Answer {
    let ends_ms = positive_deadline(edit, name, clock, &args[1])?;
    store(edit, &args[0], &args[2], Ending::At(ends_ms));
    Ok(Reply::OK)
}

/// GETSET key value
pub fn getset(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let old = bulk_or_nil(edit.view().string(&args[0])?);
    edit.put_string(&args[0], &args[1], Ending::At(NEVER_MS));
    Ok(old)
}

/// GETDEL key
pub fn getdel(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let old = bulk_or_nil(edit.view().string(&args[0])?);
    edit.remove(&args[0]);
    Ok(old)
}

/// GETEX key [EX | PX | EXAT | PXAT time | PERSIST]
pub fn getex(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let options = SetOptions::parse(edit, "getex", true, &args[1..])?;
    let old = bulk_or_nil(edit.view().string(&args[0])?);
    if old != Reply::Nil {
        match options.ends_ms {
            Some(ends_ms) if ends_ms <= edit.now_ms() => drop(edit.remove(&args[0])),
            Some(ends_ms) => edit.end_at(&args[0], ends_ms),
            None if options.persist => edit.end_at(&args[0], NEVER_MS),
            None => {}
        }
    }
    Ok(old)
}

/// MGET key [key …]
pub fn mget(view: View<'_>, args: &[Bytes]) -> Answer {
    let one = |key: &Bytes| bulk_or_nil(view.string(key).unwrap_or(None));
    Ok(Reply::Array(args.iter().map(one).collect()))
}

/// MSET key value [key value …]
pub fn mset(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    check_pairs(args, "mset")?;
    for pair in args.chunks_exact(2) {
        edit.put_string(&pair[0], &pair[1], Ending::At(NEVER_MS));
    }
    Ok(Reply::OK)
}

/// MSETNX key value [key value …]
pub fn msetnx(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    check_pairs(args, "msetnx")?;
    let view = edit.view();
    let is_any = args.iter().step_by(2).any(|key| view.entry(key).is_some());
    if !is_any {
        mset(edit, args)?;
    }
    flag(!is_any)
}

fn check_pairs(args: &[Bytes], name: &str) -> Result<(), Reply> {
    match args.len() % 2 {
        0 => Ok(()),
        _ => Err(super::super::command::wrong_arity(name)),
    }
}

/// APPEND key value
pub fn append(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let length = edit.view().string(&args[0])?.map(<[u8]>::len);
    let Some(length) = length else {
        edit.put_string(&args[0], &args[1], Ending::Keep);
        return count(args[1].len());
    };
    check_length(length + args[1].len())?;
    count(edit.write_string(&args[0], length, &args[1]))
}

/// STRLEN key
pub fn strlen(view: View<'_>, args: &[Bytes]) -> Answer {
    count(view.string(&args[0])?.map_or(0, <[u8]>::len))
}

/// GETRANGE key start end; SUBSTR is its old name
pub fn getrange(view: View<'_>, args: &[Bytes]) -> Answer {
    let (start, end) = (integer(&args[1])?, integer(&args[2])?);
    let text = view.string(&args[0])?.unwrap_or_default();
    let range = match start < 0 && end < 0 && start > end {
        true => 0..0,
        false => text_range(start, end, text.len()),
    };
    Ok(bulk(&text[range]))
}

/// SETRANGE key offset value
pub fn setrange(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let offset = integer(&args[1])?;
    let offset = usize::try_from(offset).map_err(|_| Reply::error("ERR offset is out of range"))?;
    let length = edit.view().string(&args[0])?.map_or(0, <[u8]>::len);
    if args[2].is_empty() {
        return count(length);
    }
    check_length(offset.saturating_add(args[2].len()))?;
    count(edit.write_string(&args[0], offset, &args[2]))
}

/// INCR, DECR, INCRBY, DECRBY
pub fn add(edit: &mut Edit<'_>, key: &[u8], increment: i64) -> Answer {
    let old = match edit.view().string(key)? {
        Some(text) => parse_integer(text).ok_or(NOT_INTEGER)?,
        None => 0,
    };
    let new = old.checked_add(increment).ok_or(OVERFLOW)?;
    let mut text = [0; 20];
    edit.put_string(key, integer_text(new, &mut text), Ending::Keep);
    Ok(Reply::Integer(new))
}

/// An integer that no longer fits.
pub const OVERFLOW: Reply = Reply::error("ERR increment or decrement would overflow");

/// INCRBY key increment
pub fn incrby(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let increment = integer(&args[1])?;
    add(edit, &args[0], increment)
}

/// DECRBY key decrement
pub fn decrby(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let decrement = integer(&args[1])?.checked_neg();
    let refusal = Reply::error("ERR decrement would overflow");
    add(edit, &args[0], decrement.ok_or(refusal)?)
}

/// Writes an integer's text into the end of a buffer.
fn integer_text(value: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let (mut at, mut left) = (buffer.len(), value.unsigned_abs());
    loop {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// INCRBYFLOAT key increment
pub fn incrbyfloat(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let old = edit.view().string(&args[0])?.unwrap_or(b"0");
    let sum = add_floats(old, &args[1], NOT_FLOAT)?;
    edit.put_string(&args[0], sum.as_bytes(), Ending::Keep);
    Ok(Reply::Bulk(sum.into()))
}

/// The sum of what is there and an increment.
pub fn add_floats(old: &[u8], increment: &[u8], refusal: Reply) -> Result<String, Reply> {
    parse_double(old).ok_or(refusal)?;
    parse_double(increment).ok_or(NOT_FLOAT)?;
    sum_text(old, increment).ok_or(Reply::error("ERR increment would produce NaN or Infinity"))
}
