//! Sets, and the random choices that hashes and sorted sets share with them.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, count, flag, integer, integer_or, is, positive};
use super::super::command::wrong_arity;
use super::super::context::{Answer, Edit, View};
use super::super::value::{Held, Members};
use base::Rng;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Elements that a random choice with repetition may yield.
const DRAWN_MAX: i64 = 1 << 20;

/// How many elements a random choice wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Draw {
    /// One, not in a list.
    One,
    /// At most so many different ones; as many with repetition, when negative.
    Many(i64),
}

impl Draw {
    /// From the argument behind the key.
    pub fn parse(arg: Option<&Bytes>, in_pairs: bool) -> Result<Self, Reply> {
        let Some(arg) = arg else {
            return Ok(Self::One);
        };
        let count = integer(arg)?;
        let is_huge = in_pairs && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count);
        if is_huge || count < -DRAWN_MAX {
            return Err(Reply::error("ERR value is out of range"));
        }
        Ok(Self::Many(count))
    }
}

/// Places among `length`, chosen at random.
pub fn draw(mut rng: Rng, wanted: Draw, length: usize) -> Vec<usize> {
    let mut any = |low: usize| rng.range(low as u64, length as u64) as usize;
    match wanted {
        _ if length == 0 => Vec::new(),
        Draw::One => vec![any(0)],
        Draw::Many(count) if count < 0 => (0..-count).map(|_| any(0)).collect(),
        Draw::Many(count) if count as u64 >= length as u64 => (0..length).collect(),
        Draw::Many(count) => {
            // The front of a shuffle (Fisher, Yates) of which only what was moved is remembered.
            let mut moved = BTreeMap::new();
            (0..count as usize)
                .map(|at| {
                    let other = any(at);
                    let here = moved.get(&at).copied().unwrap_or(at);
                    moved.insert(other, here).unwrap_or(other)
                })
                .collect()
        }
    }
}

/// SADD key member [member …]
pub fn sadd(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let seed = edit.seed();
    let added = edit.with(&args[0], true, |set: &mut Members| {
        args[1..]
            .iter()
            .filter(|member| set.add(seed, member))
            .count()
    })?;
    count(added.unwrap_or(0))
}

/// SREM key member [member …]
pub fn srem(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let seed = edit.seed();
    let removed = edit.with(&args[0], false, |set: &mut Members| {
        let members = args[1..].iter();
        members.filter(|member| set.remove(seed, member)).count()
    })?;
    count(removed.unwrap_or(0))
}

fn contains(view: View<'_>, set: Option<&Members>, member: &[u8]) -> bool {
    set.is_some_and(|set| set.contains(view.seed(), member))
}

/// SISMEMBER key member
pub fn sismember(view: View<'_>, args: &[Bytes]) -> Answer {
    flag(contains(view, view.set(&args[0])?, &args[1]))
}

/// SMISMEMBER key member [member …]
pub fn smismember(view: View<'_>, args: &[Bytes]) -> Answer {
    let set = view.set(&args[0])?;
    let one = |member: &Bytes| Reply::Integer(i64::from(contains(view, set, member)));
    Ok(Reply::Array(args[1..].iter().map(one).collect()))
}

/// SMEMBERS key
pub fn smembers(view: View<'_>, args: &[Bytes]) -> Answer {
    let set = view.set(&args[0])?;
    let members = set.map_or_else(Vec::new, |set| set.iter().map(bulk).collect());
    Ok(Reply::Set(members))
}

/// SCARD key
pub fn scard(view: View<'_>, args: &[Bytes]) -> Answer {
    count(view.set(&args[0])?.map_or(0, Members::len))
}

/// SPOP key [count]
pub fn spop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let most = match &args[1..] {
        [] => None,
        [count] => Some(positive(count)?),
        _ => return Err(wrong_arity("spop")),
    };
    let mut rng = edit.rng();
    let popped = edit.with(&args[0], false, |set: &mut Members| {
        let count = most.unwrap_or(1).min(set.len());
        let mut pop = || set.take(rng.range(0, set.len() as u64) as usize);
        (0..count).map(|_| bulk(pop().as_slice())).collect()
    })?;
    let mut popped: Vec<Reply> = popped.unwrap_or_default();
    match most {
        Some(_) => Ok(Reply::Set(popped)),
        None => Ok(popped.pop().unwrap_or(Reply::Nil)),
    }
}

/// SRANDMEMBER key [count]
pub fn srandmember(view: View<'_>, args: &[Bytes]) -> Answer {
    if args.len() > 2 {
        return Err(wrong_arity("srandmember"));
    }
    let wanted = Draw::parse(args.get(1), false)?;
    let set = view.set(&args[0])?;
    let drawn = draw(view.rng(), wanted, set.map_or(0, Members::len));
    let mut drawn = drawn.into_iter().flat_map(|at| Some(bulk(set?.at(at))));
    Ok(match wanted {
        Draw::One => drawn.next().unwrap_or(Reply::Nil),
        Draw::Many(_) => Reply::Array(drawn.collect()),
    })
}

/// SMOVE source destination member
pub fn smove(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (from, to, member) = (&args[0], &args[1], &args[2]);
    let view = edit.view();
    let Some(source) = view.set(from)? else {
        return flag(false);
    };
    view.set(to)?;
    if !contains(view, Some(source), member) || from == to {
        return flag(contains(view, Some(source), member));
    }
    let seed = edit.seed();
    edit.with(from, false, |set: &mut Members| set.remove(seed, member))?;
    edit.with(to, true, |set: &mut Members| set.add(seed, member))?;
    flag(true)
}

/// What is made of several sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algebra {
    /// What is in all.
    Inter,
    /// What is in any.
    Union,
    /// What is in the first and in no other.
    Diff,
}

fn combine<'a>(
    view: View<'a>,
    keys: &[Bytes],
    algebra: Algebra,
    most: usize,
) -> Result<Members, Reply> {
    let seed = view.seed();
    let mut sets = Vec::with_capacity(keys.len());
    for key in keys {
        sets.push(view.set(key)?);
    }
    let mut result = Members::default();
    let mut add_all = |members: &mut dyn Iterator<Item = &'a [u8]>| {
        members.take(most).for_each(|member| {
            result.add(seed, member);
        });
    };
    match algebra {
        Algebra::Union => add_all(&mut sets.into_iter().flatten().flat_map(Members::iter)),
        Algebra::Inter => {
            let all: Option<Vec<&Members>> = sets.into_iter().collect();
            let mut all = all.unwrap_or_default();
            all.sort_by_key(|set| set.len());
            if let Some((smallest, others)) = all.split_first() {
                let is_in_all =
                    |member: &&[u8]| others.iter().all(|set| set.contains(seed, member));
                add_all(&mut smallest.iter().filter(is_in_all));
            }
        }
        Algebra::Diff => {
            let others: Vec<&Members> = sets[1..].iter().flatten().copied().collect();
            let is_in_none = |member: &&[u8]| !others.iter().any(|set| set.contains(seed, member));
            let first = sets[0].into_iter().flat_map(Members::iter);
            add_all(&mut first.filter(is_in_none));
        }
    }
    Ok(result)
}

/// SINTER, SUNION, SDIFF key [key …]
pub fn algebra(view: View<'_>, args: &[Bytes], algebra: Algebra) -> Answer {
    let result = combine(view, args, algebra, usize::MAX)?;
    Ok(Reply::Set(result.iter().map(bulk).collect()))
}

/// SINTERSTORE, SUNIONSTORE, SDIFFSTORE destination key [key …]
pub fn algebra_store(edit: &mut Edit<'_>, args: &[Bytes], algebra: Algebra) -> Answer {
    let result = combine(edit.view(), &args[1..], algebra, usize::MAX)?;
    let length = result.len();
    edit.put(&args[0], result.into_value());
    count(length)
}

/// Keys and limit of SINTERCARD.
fn card_arguments(args: &[Bytes]) -> Result<(&[Bytes], usize), Reply> {
    const NO_KEYS: Reply = Reply::error("ERR numkeys should be greater than 0");
    let keys = integer_or(&args[0], NO_KEYS)?;
    let keys = usize::try_from(keys)
        .ok()
        .filter(|n| *n > 0)
        .ok_or(NO_KEYS)?;
    let (keys, rest) = args[1..].split_at_checked(keys).ok_or(Reply::error(
        "ERR Number of keys can't be greater than number of args",
    ))?;
    Ok((keys, card_limit(rest)?))
}

/// The limit that stands behind the keys of SINTERCARD and ZINTERCARD; without one, and with 0, there is none.
pub fn card_limit(rest: &[Bytes]) -> Result<usize, Reply> {
    const NEGATIVE: Reply = Reply::error("ERR LIMIT can't be negative");
    let mut limit = 0;
    for option in rest.chunks(2) {
        match option {
            [word, value] if is(word, "limit") => {
                let value = integer_or(value, NEGATIVE)?;
                limit = usize::try_from(value).map_err(|_| NEGATIVE)?;
            }
            _ => return Err(SYNTAX),
        }
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}

/// SINTERCARD numkeys key [key …] [LIMIT limit]
pub fn sintercard(view: View<'_>, args: &[Bytes]) -> Answer {
    let (keys, most) = card_arguments(args)?;
    count(combine(view, keys, Algebra::Inter, most)?.len())
}
