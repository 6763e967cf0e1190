//! Lists.

use super::super::Reply;
use super::super::args::{
    SYNTAX, bulk, bulk_or_nil, count, counted, integer, integer_or, is, positive, range, timeout,
};
use super::super::blob::Blob;
use super::super::context::{Answer, Edit, View};
use super::super::value::{End, List};
use bytes::Bytes;

fn end(arg: &[u8]) -> Result<End, Reply> {
    match arg {
        arg if is(arg, "left") => Ok(End::Left),
        arg if is(arg, "right") => Ok(End::Right),
        _ => Err(SYNTAX),
    }
}

/// LPUSH, RPUSH, LPUSHX, RPUSHX key element [element …]
pub fn push(edit: &mut Edit<'_>, args: &[Bytes], end: End, only_if_there: bool) -> Answer {
    let pushed = edit.with(&args[0], !only_if_there, |list: &mut List| {
        args[1..].iter().for_each(|element| list.push(end, element));
        list.len()
    })?;
    count(pushed.unwrap_or(0))
}

fn bulk_of(element: Option<Blob>) -> Reply {
    element.map_or(Reply::Nil, |element| bulk(element.as_slice()))
}

fn pop_many(edit: &mut Edit<'_>, key: &Bytes, end: End, count: usize) -> Result<Reply, Reply> {
    let popped = edit.with(key, false, |list: &mut List| {
        let count = count.min(list.len());
        (0..count).map(|_| bulk_of(list.pop(end))).collect()
    })?;
    Ok(popped.map_or(Reply::NilArray, Reply::Array))
}

/// LPOP, RPOP key [count]
pub fn pop(edit: &mut Edit<'_>, args: &[Bytes], end: End) -> Answer {
    match &args[1..] {
        [] => {
            let popped = edit.with(&args[0], false, |list: &mut List| bulk_of(list.pop(end)))?;
            Ok(popped.unwrap_or(Reply::Nil))
        }
        [count] => {
            let count = positive(count)?;
            pop_many(edit, &args[0], end, count)
        }
        _ => {
            let name = if end == End::Left { "lpop" } else { "rpop" };
            Err(super::super::command::wrong_arity(name))
        }
    }
}

/// LLEN key
pub fn llen(view: View<'_>, args: &[Bytes]) -> Answer {
    count(view.list(&args[0])?.map_or(0, List::len))
}

/// LRANGE key start stop
pub fn lrange(view: View<'_>, args: &[Bytes]) -> Answer {
    let (start, stop) = (integer(&args[1])?, integer(&args[2])?);
    let Some(list) = view.list(&args[0])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let range = range(start, stop, list.len());
    Ok(Reply::Array(list.range(range).map(bulk).collect()))
}

/// The place that an index means, counted from the tail when negative.
fn place(index: i64, length: usize) -> Option<usize> {
    let at = if index < 0 {
        index + length as i64
    } else {
        index
    };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// LINDEX key index
pub fn lindex(view: View<'_>, args: &[Bytes]) -> Answer {
    let Some(list) = view.list(&args[0])? else {
        return Ok(Reply::Nil);
    };
    let at = place(integer(&args[1])?, list.len());
    Ok(bulk_or_nil(at.and_then(|at| list.get(at))))
}

/// LSET key index element
pub fn lset(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let list = edit.view().list(&args[0])?;
    let length = list.ok_or(Reply::error("ERR no such key"))?.len();
    let at = place(integer(&args[1])?, length).ok_or(Reply::error("ERR index out of range"))?;
    edit.with(&args[0], false, |list: &mut List| list.set(at, &args[2]))?;
    Ok(Reply::OK)
}

/// LINSERT key BEFORE | AFTER pivot element
pub fn linsert(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let behind = match &args[1] {
        word if is(word, "before") => 0,
        word if is(word, "after") => 1,
        _ => return Err(SYNTAX),
    };
    let Some(list) = edit.view().list(&args[0])? else {
        return Ok(Reply::Integer(0));
    };
    let Some(pivot) = list.iter().position(|element| element == args[2]) else {
        return Ok(Reply::Integer(-1));
    };
    let length = edit.with(&args[0], false, |list: &mut List| {
        list.insert(pivot + behind, &args[3]);
        list.len()
    })?;
    count(length.unwrap_or(0))
}

/// LREM key count element
pub fn lrem(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (end, most) = match integer(&args[1])? {
        0 => (End::Left, usize::MAX),
        n if n > 0 => (End::Left, n as usize),
        n => (End::Right, n.unsigned_abs() as usize),
    };
    let removed = edit.with(&args[0], false, |list: &mut List| {
        list.remove(end, most, &args[2])
    })?;
    count(removed.unwrap_or(0))
}

/// LTRIM key start stop
pub fn ltrim(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (start, stop) = (integer(&args[1])?, integer(&args[2])?);
    edit.with(&args[0], false, |list: &mut List| {
        list.trim(range(start, stop, list.len()));
    })?;
    Ok(Reply::OK)
}

/// LPOS key element [RANK rank] [COUNT count] [MAXLEN length]
pub fn lpos(view: View<'_>, args: &[Bytes]) -> Answer {
    let (mut rank, mut most, mut compared) = (1, None, 0);
    for option in args[2..].chunks(2) {
        let [name, value] = option else {
            return Err(SYNTAX);
        };
        let not_negative = |refusal: Reply| {
            let value = integer_or(value, refusal.clone())?;
            usize::try_from(value).map_err(|_| refusal)
        };
        if is(name, "rank") {
            rank = integer(value)?;
            if rank == 0 {
                return Err(Reply::error(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
            if rank == i64::MIN {
                return Err(Reply::error(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
        } else if is(name, "count") {
            most = Some(not_negative(Reply::error("ERR COUNT can't be negative"))?);
        } else if is(name, "maxlen") {
            compared = not_negative(Reply::error("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
    }
    let none = || match most {
        Some(_) => Reply::Array(Vec::new()),
        None => Reply::Nil,
    };
    let Some(list) = view.list(&args[0])? else {
        return Ok(none());
    };
    let unlimited = |n: usize| if n == 0 { usize::MAX } else { n };
    let is_equal = |(_, element): &(usize, &[u8])| *element == args[1];
    let skipped = rank.unsigned_abs() as usize - 1;
    let wanted = unlimited(most.unwrap_or(1));
    let elements = list.iter().enumerate();
    let found: Vec<Reply> = if rank > 0 {
        let compared = elements.take(unlimited(compared)).filter(is_equal);
        let found = compared.skip(skipped).take(wanted);
        found.map(|(at, _)| Reply::Integer(at as i64)).collect()
    } else {
        let compared = elements.rev().take(unlimited(compared)).filter(is_equal);
        let found = compared.skip(skipped).take(wanted);
        found.map(|(at, _)| Reply::Integer(at as i64)).collect()
    };
    match most {
        Some(_) => Ok(Reply::Array(found)),
        None => Ok(found.into_iter().next().unwrap_or(Reply::Nil)),
    }
}

fn shift(edit: &mut Edit<'_>, keys: &[Bytes], from: End, to: End) -> Answer {
    let view = edit.view();
    if view.list(&keys[0])?.is_none() {
        return Ok(Reply::Nil);
    }
    view.list(&keys[1])?;
    if keys[0] == keys[1] {
        let moved = edit.with(&keys[0], false, |list: &mut List| {
            let element = list.pop(from)?;
            list.push(to, element.as_slice());
            Some(element)
        })?;
        return Ok(bulk_of(moved.flatten()));
    }
    let moved = edit.with(&keys[0], false, |list: &mut List| list.pop(from))?;
    let Some(element) = moved.flatten() else {
        return Ok(Reply::Nil);
    };
    edit.with(&keys[1], true, |list: &mut List| {
        list.push(to, element.as_slice());
    })?;
    Ok(bulk(element.as_slice()))
}

/// LMOVE source destination LEFT | RIGHT LEFT | RIGHT; BLMOVE … timeout
pub fn lmove(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (from, to) = (end(&args[2])?, end(&args[3])?);
    args.get(4).map_or(Ok(()), |arg| timeout(arg))?;
    shift(edit, &args[..2], from, to)
}

/// RPOPLPUSH source destination; BRPOPLPUSH … timeout
pub fn rpoplpush(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    args.get(2).map_or(Ok(()), |arg| timeout(arg))?;
    shift(edit, &args[..2], End::Right, End::Left)
}

/// LMPOP numkeys key [key …] LEFT | RIGHT [COUNT count]; BLMPOP has a timeout in front
pub fn lmpop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (keys, rest) = counted(args)?;
    let (end, rest) = match rest {
        [word, rest @ ..] => (end(word)?, rest),
        [] => return Err(SYNTAX),
    };
    let most = most(rest)?;
    for key in keys {
        if edit.view().list(key)?.is_some() {
            let popped = pop_many(edit, key, end, most)?;
            return Ok(Reply::Array(vec![bulk(key), popped]));
        }
    }
    Ok(Reply::NilArray)
}

/// What may stand behind the direction of a pop from many keys.
pub fn most(args: &[Bytes]) -> Result<usize, Reply> {
    const REFUSAL: Reply = Reply::error("ERR count should be greater than 0");
    match args {
        [] => Ok(1),
        [word, count] if is(word, "count") => {
            let count = integer_or(count, REFUSAL)?;
            usize::try_from(count)
                .ok()
                .filter(|n| *n > 0)
                .ok_or(REFUSAL)
        }
        _ => Err(SYNTAX),
    }
}

/// BLMPOP timeout numkeys key [key …] LEFT | RIGHT [COUNT count]
pub fn blmpop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    timeout(&args[0])?;
    lmpop(edit, &args[1..])
}

/// BLPOP, BRPOP key [key …] timeout
pub fn blocking_pop(edit: &mut Edit<'_>, args: &[Bytes], end: End) -> Answer {
    let (seconds, keys) = args.split_last().expect("the arity was checked");
    timeout(seconds)?;
    for key in keys {
        if edit.view().list(key)?.is_some() {
            let popped = edit.with(key, false, |list: &mut List| bulk_of(list.pop(end)))?;
            return Ok(Reply::Array(vec![bulk(key), popped.unwrap_or(Reply::Nil)]));
        }
    }
    Ok(Reply::NilArray)
}
