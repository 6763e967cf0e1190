//! Hashes.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, bulk_or_nil, count, flag, integer, is};
use super::super::command::wrong_arity;
use super::super::context::{Answer, Edit, View};
use super::super::number::parse_integer;
use super::super::value::{Field, Fields};
use super::sets::{Draw, draw};
use super::strings::{OVERFLOW, add_floats};
use bytes::Bytes;

fn set_pairs(edit: &mut Edit<'_>, args: &[Bytes], name: &str) -> Result<usize, Reply> {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity(name));
    }
    let seed = edit.seed();
    let added = edit.with(&args[0], true, |fields: &mut Fields| {
        let pairs = args[1..].chunks_exact(2);
        pairs
            .filter(|pair| fields.set(seed, &pair[0], &pair[1]))
            .count()
    })?;
    Ok(added.unwrap_or(0))
}

/// HSET key field value [field value …]
pub fn hset(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    count(set_pairs(edit, args, "hset")?)
}

/// HMSET key field value [field value …]
pub fn hmset(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    set_pairs(edit, args, "hmset")?;
    Ok(Reply::OK)
}

/// HSETNX key field value
pub fn hsetnx(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let seed = edit.seed();
    let fields = edit.view().hash(&args[0])?;
    if fields.is_some_and(|fields| fields.get(seed, &args[1]).is_some()) {
        return flag(false);
    }
    set_pairs(edit, args, "hsetnx")?;
    flag(true)
}

fn value<'a>(view: View<'a>, key: &[u8], field: &[u8]) -> Result<Option<&'a [u8]>, Reply> {
    let fields = view.hash(key)?;
    Ok(fields.and_then(|fields| fields.get(view.seed(), field)))
}

/// HGET key field
pub fn hget(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(bulk_or_nil(value(view, &args[0], &args[1])?))
}

/// HMGET key field [field …]
pub fn hmget(view: View<'_>, args: &[Bytes]) -> Answer {
    let fields = view.hash(&args[0])?;
    let one = |name: &Bytes| bulk_or_nil(fields.and_then(|fields| fields.get(view.seed(), name)));
    Ok(Reply::Array(args[1..].iter().map(one).collect()))
}

fn name(field: &Field) -> Reply {
    bulk(field.name())
}

fn pair(field: &Field) -> (Reply, Reply) {
    (bulk(field.name()), bulk(field.value()))
}

fn each<T>(view: View<'_>, key: &[u8], of: impl Fn(&Field) -> T) -> Result<Vec<T>, Reply> {
    let fields = view.hash(key)?;
    Ok(fields.map_or_else(Vec::new, |fields| fields.iter().map(of).collect()))
}

/// HGETALL key
pub fn hgetall(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(Reply::Map(each(view, &args[0], pair)?))
}

/// HKEYS key
pub fn hkeys(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(Reply::Array(each(view, &args[0], name)?))
}

/// HVALS key
pub fn hvals(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(Reply::Array(each(view, &args[0], |field| {
        bulk(field.value())
    })?))
}

/// HDEL key field [field …]
pub fn hdel(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let seed = edit.seed();
    let removed = edit.with(&args[0], false, |fields: &mut Fields| {
        let names = args[1..].iter();
        names.filter(|name| fields.remove(seed, name)).count()
    })?;
    count(removed.unwrap_or(0))
}

/// HEXISTS key field
pub fn hexists(view: View<'_>, args: &[Bytes]) -> Answer {
    flag(value(view, &args[0], &args[1])?.is_some())
}

/// HLEN key
pub fn hlen(view: View<'_>, args: &[Bytes]) -> Answer {
    count(view.hash(&args[0])?.map_or(0, Fields::len))
}

/// HSTRLEN key field
pub fn hstrlen(view: View<'_>, args: &[Bytes]) -> Answer {
    count(value(view, &args[0], &args[1])?.map_or(0, <[u8]>::len))
}

/// HINCRBY key field increment
pub fn hincrby(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let increment = integer(&args[2])?;
    let old = match value(edit.view(), &args[0], &args[1])? {
        Some(text) => {
            parse_integer(text).ok_or(Reply::error("ERR hash value is not an integer"))?
        }
        None => 0,
    };
    let new = old.checked_add(increment).ok_or(OVERFLOW)?;
    set(edit, args, new.to_string().as_bytes())?;
    Ok(Reply::Integer(new))
}

/// HINCRBYFLOAT key field increment
pub fn hincrbyfloat(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    if super::super::args::double(&args[2])?.is_infinite() {
        return Err(Reply::error("ERR value is NaN or Infinity"));
    }
    let old = value(edit.view(), &args[0], &args[1])?.unwrap_or(b"0");
    let refusal = Reply::error("ERR hash value is not a float");
    let sum = add_floats(old, &args[2], refusal)?;
    set(edit, args, sum.as_bytes())?;
    Ok(Reply::Bulk(sum.into()))
}

fn set(edit: &mut Edit<'_>, args: &[Bytes], value: &[u8]) -> Result<(), Reply> {
    let seed = edit.seed();
    edit.with(&args[0], true, |fields: &mut Fields| {
        fields.set(seed, &args[1], value)
    })?;
    Ok(())
}

/// HRANDFIELD key [count [WITHVALUES]]
pub fn hrandfield(view: View<'_>, args: &[Bytes]) -> Answer {
    let with_values = match args.get(2) {
        Some(word) if is(word, "withvalues") && args.len() == 3 => true,
        None => false,
        Some(_) => return Err(SYNTAX),
    };
    let wanted = Draw::parse(args.get(1), with_values)?;
    let fields = view.hash(&args[0])?;
    let drawn = draw(view.rng(), wanted, fields.map_or(0, Fields::len));
    let mut drawn = drawn.into_iter().flat_map(|at| Some(fields?.at(at)));
    Ok(match wanted {
        Draw::One => drawn.next().map_or(Reply::Nil, name),
        Draw::Many(_) if with_values => Reply::Pairs(drawn.map(pair).collect()),
        Draw::Many(_) => Reply::Array(drawn.map(name).collect()),
    })
}
