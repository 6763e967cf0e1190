//! Bits of strings, the most significant of the first byte being bit 0.

use super::super::Reply;
use super::super::args::{SYNTAX, count, integer, integer_or, is, text_range};
use super::super::context::{Answer, Edit, Ending, View};
use super::super::entry::NEVER_MS;
use super::super::number::parse_integer;
use super::strings::{STRING_BYTES_MAX, check_length};
use bytes::Bytes;
use std::ops::Range;

const BAD_OFFSET: Reply = Reply::error("ERR bit offset is not an integer or out of range");

fn offset(arg: &[u8]) -> Result<(usize, u8), Reply> {
    let bit = integer_or(arg, BAD_OFFSET)?;
    let bit = usize::try_from(bit).map_err(|_| BAD_OFFSET)?;
    if bit / 8 >= STRING_BYTES_MAX {
        return Err(BAD_OFFSET);
    }
    Ok((bit / 8, 0x80 >> (bit % 8)))
}

/// SETBIT key offset value
pub fn setbit(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (at, mask) = offset(&args[1])?;
    let is_set = match parse_integer(&args[2]) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Reply::error("ERR bit is not an integer or out of range")),
    };
    let text = edit.view().string(&args[0])?.unwrap_or_default();
    let old = text.get(at).copied().unwrap_or(0);
    let new = if is_set { old | mask } else { old & !mask };
    check_length(at + 1)?;
    edit.write_string(&args[0], at, &[new]);
    Ok(Reply::Integer(i64::from(old & mask != 0)))
}

/// GETBIT key offset
pub fn getbit(view: View<'_>, args: &[Bytes]) -> Answer {
    let (at, mask) = offset(&args[1])?;
    let text = view.string(&args[0])?.unwrap_or_default();
    let byte = text.get(at).copied().unwrap_or(0);
    Ok(Reply::Integer(i64::from(byte & mask != 0)))
}

/// The bits that start, end and unit mean in so many bytes.
fn bits(start: i64, end: i64, is_bits: bool, bytes: usize) -> Range<usize> {
    if is_bits {
        return text_range(start, end, bytes * 8);
    }
    let bytes = text_range(start, end, bytes);
    bytes.start * 8..bytes.end * 8
}

fn is_bits(unit: Option<&Bytes>) -> Result<bool, Reply> {
    match unit {
        None => Ok(false),
        Some(unit) if is(unit, "byte") => Ok(false),
        Some(unit) if is(unit, "bit") => Ok(true),
        Some(_) => Err(SYNTAX),
    }
}

/// A byte of a text with the bits outside of a range turned to `fill`.
fn byte_within(text: &[u8], at: usize, bits: &Range<usize>, fill: u8) -> u8 {
    let mut mask = 0xff;
    if at == bits.start / 8 {
        mask &= 0xff >> (bits.start % 8);
    }
    if at == (bits.end - 1) / 8 {
        mask &= 0xffu8 << (7 - (bits.end - 1) % 8);
    }
    text[at] & mask | fill & !mask
}

/// BITCOUNT key [start end [BYTE | BIT]]
pub fn bitcount(view: View<'_>, args: &[Bytes]) -> Answer {
    let Some(text) = view.string(&args[0])? else {
        return Ok(Reply::Integer(0));
    };
    let (start, end, is_bits) = match &args[1..] {
        [] => (0, -1, false),
        [start, end] => (integer(start)?, integer(end)?, false),
        [start, end, unit] => (integer(start)?, integer(end)?, is_bits(Some(unit))?),
        _ => return Err(SYNTAX),
    };
    if start < 0 && end < 0 && start > end {
        return Ok(Reply::Integer(0));
    }
    let bits = bits(start, end, is_bits, text.len());
    if bits.is_empty() {
        return Ok(Reply::Integer(0));
    }
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let ones = |byte: u8| byte.count_ones() as usize;
    let mut total = ones(byte_within(text, first, &bits, 0));
    if last > first {
        total += text[first + 1..last]
            .iter()
            .map(|byte| ones(*byte))
            .sum::<usize>();
        total += ones(byte_within(text, last, &bits, 0));
    }
    count(total)
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
pub fn bitpos(view: View<'_>, args: &[Bytes]) -> Answer {
    let bit = match integer(&args[1])? {
        0 => false,
        1 => true,
        _ => return Err(Reply::error("ERR The bit argument must be 1 or 0.")),
    };
    let Some(text) = view.string(&args[0])? else {
        return Ok(Reply::Integer(if bit { -1 } else { 0 }));
    };
    if args.len() > 5 {
        return Err(SYNTAX);
    }
    let number = |at: usize| args.get(at).map(|arg| integer(arg)).transpose();
    let (start, end) = (number(2)?.unwrap_or(0), number(3)?);
    let is_bits = is_bits(args.get(4))?;
    let bits = bits(start, end.unwrap_or(-1), is_bits, text.len());
    if bits.is_empty() {
        return Ok(Reply::Integer(-1));
    }
    let skipped = if bit { 0 } else { 0xff };
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    for at in first..=last {
        let byte = match at == first || at == last {
            true => byte_within(text, at, &bits, skipped),
            false => text[at],
        };
        if byte != skipped {
            let wanted = if bit { byte } else { !byte };
            return count(at * 8 + wanted.leading_zeros() as usize);
        }
    }
    // A zero is right behind the string, unless an end was given.
    match bit || end.is_some() {
        true => Ok(Reply::Integer(-1)),
        false => count(text.len() * 8),
    }
}

/// BITOP AND | OR | XOR | NOT destination key [key …]
pub fn bitop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let words = ["and", "or", "xor", "not"];
    let operation = words.iter().find(|word| is(&args[0], word)).ok_or(SYNTAX)?;
    let (destination, sources) = (&args[1], &args[2..]);
    if *operation == "not" && sources.len() != 1 {
        return Err(Reply::error(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let view = edit.view();
    let texts: Vec<&[u8]> = sources
        .iter()
        .map(|key| Ok(view.string(key)?.unwrap_or_default()))
        .collect::<Result<_, Reply>>()?;
    let length = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut result = texts[0].to_vec();
    result.resize(length, 0);
    if *operation == "not" {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for text in &texts[1..] {
        let padded = text.iter().copied().chain(std::iter::repeat(0));
        for (byte, other) in result.iter_mut().zip(padded) {
            match *operation {
                "and" => *byte &= other,
                "or" => *byte |= other,
                _ => *byte ^= other,
            }
        }
    }
    match length {
        0 => drop(edit.remove(destination)),
        _ => edit.put_string(destination, &result, Ending::At(NEVER_MS)),
    }
    count(length)
}
