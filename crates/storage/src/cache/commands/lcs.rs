//! LCS: the longest common subsequence, by dynamic programming over a table of both lengths (Wagner,
//! Fischer: "The string-to-string correction problem", JACM 1974). Cost: the product of the lengths.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, count, integer, is};
use super::super::context::{Answer, View};
use bytes::Bytes;

/// Cells of the table, 4 bytes each.
const CELLS_MAX: usize = 64 << 20;

/// LCS key key [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]
pub fn lcs(view: View<'_>, args: &[Bytes]) -> Answer {
    let text = |key: &Bytes| match view.string(key) {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(_) => Err(Reply::error(
            "ERR The specified keys must contain string values",
        )),
    };
    let (a, b) = (text(&args[0])?, text(&args[1])?);
    let (mut len, mut idx, mut min_length, mut with_length) = (false, false, 0, false);
    let mut options = args[2..].iter();
    while let Some(option) = options.next() {
        if is(option, "len") {
            len = true;
        } else if is(option, "idx") {
            idx = true;
        } else if is(option, "withmatchlen") {
            with_length = true;
        } else if is(option, "minmatchlen") {
            let length = integer(options.next().ok_or(SYNTAX)?)?;
            min_length = usize::try_from(length).unwrap_or(0);
        } else {
            return Err(SYNTAX);
        }
    }
    if len && idx {
        return Err(Reply::error(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width);
    if cells.is_none_or(|cells| cells > CELLS_MAX) {
        return Err(Reply::error(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let mut table = vec![0u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            table[i * width + j] = match a[i - 1] == b[j - 1] {
                true => table[(i - 1) * width + j - 1] + 1,
                false => table[(i - 1) * width + j].max(table[i * width + j - 1]),
            };
        }
    }
    let length = table[a.len() * width + b.len()] as usize;
    if len {
        return count(length);
    }
    // Backwards: common bytes, and the runs that they make in both.
    let (mut i, mut j) = (a.len(), b.len());
    let mut common = Vec::with_capacity(length);
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            common.push(a[i]);
            match runs.last_mut() {
                Some((start_a, start_b, length)) if *start_a == i + 1 && *start_b == j + 1 => {
                    (*start_a, *start_b, *length) = (i, j, *length + 1);
                }
                _ => runs.push((i, j, 1)),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    if !idx {
        common.reverse();
        return Ok(bulk(&common));
    }
    let place = |start: usize, length: usize| {
        let number = |n: usize| Reply::Integer(n as i64);
        Reply::Array(vec![number(start), number(start + length - 1)])
    };
    let long = runs.iter().filter(|(_, _, length)| *length >= min_length);
    let matches = long.map(|(start_a, start_b, length)| {
        let mut parts = vec![place(*start_a, *length), place(*start_b, *length)];
        if with_length {
            parts.push(Reply::Integer(*length as i64));
        }
        Reply::Array(parts)
    });
    Ok(Reply::Map(vec![
        (bulk(b"matches"), Reply::Array(matches.collect())),
        (bulk(b"len"), Reply::Integer(length as i64)),
    ]))
}
