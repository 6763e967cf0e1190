//! Sorted sets: members and scores.

use super::super::Reply;
use super::super::args::{NOT_FLOAT, SYNTAX, bulk, count, counted, double, is, positive, timeout};
use super::super::command::wrong_arity;
use super::super::context::{Answer, Edit, View};
use super::super::number::parse_double;
use super::super::value::{Scored, Sorted};
use super::lists::most;
use super::sets::{Draw, draw};
use bytes::Bytes;

const NOT_A_NUMBER: Reply = Reply::error("ERR resulting score is not a number (NaN)");

/// A member.
pub fn name(member: &Scored) -> Reply {
    bulk(member.name())
}

/// A member with its score.
pub fn pair(member: &Scored) -> (Reply, Reply) {
    (bulk(member.name()), Reply::Double(member.score()))
}

#[derive(Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl AddOptions {
    /// The score that a member gets, `None` if it stays as it is.
    fn score(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, Reply> {
        let Some(old) = old else {
            return Ok((!self.xx).then_some(given));
        };
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + given } else { given };
        if new.is_nan() {
            return Err(NOT_A_NUMBER);
        }
        let stays = self.gt && new <= old || self.lt && new >= old;
        Ok((!stays).then_some(new))
    }
}

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member …]
pub fn zadd(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let mut options = AddOptions::default();
    let mut rest = &args[1..];
    while let [word, behind @ ..] = rest {
        match word {
            word if is(word, "nx") => options.nx = true,
            word if is(word, "xx") => options.xx = true,
            word if is(word, "gt") => options.gt = true,
            word if is(word, "lt") => options.lt = true,
            word if is(word, "ch") => options.ch = true,
            word if is(word, "incr") => options.incr = true,
            _ => break,
        }
        rest = behind;
    }
    if rest.is_empty() || rest.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    if options.nx && options.xx {
        return Err(Reply::error(
            "ERR XX and NX options at the same time are not compatible",
        ));
    }
    if options.gt && options.lt || options.nx && (options.gt || options.lt) {
        return Err(Reply::error(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if options.incr && rest.len() > 2 {
        return Err(Reply::error(
            "ERR INCR option supports a single increment-element pair",
        ));
    }
    let scores: Vec<f64> = rest
        .chunks_exact(2)
        .map(|pair| double(&pair[0]))
        .collect::<Result<_, _>>()?;
    if options.incr {
        return incr(edit, &args[0], &options, scores[0], &rest[1]);
    }
    let seed = edit.seed();
    let (mut added, mut changed) = (0, 0);
    edit.with(&args[0], true, |sorted: &mut Sorted| {
        for (pair, given) in rest.chunks_exact(2).zip(scores) {
            let old = sorted.score(seed, &pair[1]);
            let new = options.score(old, given).expect("no sum is computed");
            let Some(new) = new else { continue };
            match old {
                None => added += 1,
                Some(old) if old != new => changed += 1,
                Some(_) => continue,
            }
            sorted.set(seed, &pair[1], new);
        }
    })?;
    count(if options.ch { added + changed } else { added })
}

fn incr(
    edit: &mut Edit<'_>,
    key: &Bytes,
    options: &AddOptions,
    given: f64,
    member: &[u8],
) -> Answer {
    let seed = edit.seed();
    let sorted = edit.view().sorted(key)?;
    let old = sorted.and_then(|sorted| sorted.score(seed, member));
    let Some(new) = options.score(old, given)? else {
        return Ok(Reply::Nil);
    };
    edit.with(key, true, |sorted: &mut Sorted| {
        sorted.set(seed, member, new)
    })?;
    Ok(Reply::Double(new))
}

/// ZINCRBY key increment member
pub fn zincrby(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let options = AddOptions {
        incr: true,
        ..AddOptions::default()
    };
    let given = parse_double(&args[1]).ok_or(NOT_FLOAT)?;
    incr(edit, &args[0], &options, given, &args[2])
}

/// ZREM key member [member …]
pub fn zrem(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let seed = edit.seed();
    let removed = edit.with(&args[0], false, |sorted: &mut Sorted| {
        let members = args[1..].iter();
        members.filter(|member| sorted.remove(seed, member)).count()
    })?;
    count(removed.unwrap_or(0))
}

fn score(view: View<'_>, sorted: Option<&Sorted>, member: &[u8]) -> Reply {
    let score = sorted.and_then(|sorted| sorted.score(view.seed(), member));
    score.map_or(Reply::Nil, Reply::Double)
}

/// ZSCORE key member
pub fn zscore(view: View<'_>, args: &[Bytes]) -> Answer {
    Ok(score(view, view.sorted(&args[0])?, &args[1]))
}

/// ZMSCORE key member [member …]
pub fn zmscore(view: View<'_>, args: &[Bytes]) -> Answer {
    let sorted = view.sorted(&args[0])?;
    let scores = args[1..].iter().map(|member| score(view, sorted, member));
    Ok(Reply::Array(scores.collect()))
}

/// ZCARD key
pub fn zcard(view: View<'_>, args: &[Bytes]) -> Answer {
    count(view.sorted(&args[0])?.map_or(0, Sorted::len))
}

/// ZRANK, ZREVRANK key member [WITHSCORE]
pub fn zrank(view: View<'_>, args: &[Bytes], from_top: bool, name: &str) -> Answer {
    let with_score = match args.get(2) {
        None => false,
        Some(_) if args.len() > 3 => return Err(wrong_arity(name)),
        Some(word) if is(word, "withscore") => true,
        Some(_) => return Err(SYNTAX),
    };
    let sorted = view.sorted(&args[0])?;
    let found = sorted.and_then(|sorted| Some((sorted, sorted.score(view.seed(), &args[1])?)));
    let Some((sorted, score)) = found else {
        return Ok(if with_score {
            Reply::NilArray
        } else {
            Reply::Nil
        });
    };
    let rank = sorted.rank_of(score, &args[1]);
    let rank = if from_top {
        sorted.len() - 1 - rank
    } else {
        rank
    };
    let rank = Reply::Integer(rank as i64);
    Ok(match with_score {
        true => Reply::Array(vec![rank, Reply::Double(score)]),
        false => rank,
    })
}

/// Takes up to `most` members from the bottom, or from the top.
fn take(
    edit: &mut Edit<'_>,
    key: &Bytes,
    top: bool,
    most: usize,
) -> Result<Vec<(Reply, Reply)>, Reply> {
    let taken = edit.with(key, false, |sorted: &mut Sorted| {
        let most = most.min(sorted.len());
        let mut one = || sorted.take_rank(if top { sorted.len() - 1 } else { 0 });
        (0..most).map(|_| pair(&one())).collect()
    })?;
    Ok(taken.unwrap_or_default())
}

/// ZPOPMIN, ZPOPMAX key [count]
pub fn zpop(edit: &mut Edit<'_>, args: &[Bytes], top: bool) -> Answer {
    match &args[1..] {
        [] => {
            let taken = take(edit, &args[0], top, 1)?;
            let flat = taken
                .into_iter()
                .flat_map(|(member, score)| [member, score]);
            Ok(Reply::Array(flat.collect()))
        }
        [count] => {
            let count = positive(count)?;
            Ok(Reply::Pairs(take(edit, &args[0], top, count)?))
        }
        _ => Err(SYNTAX),
    }
}

/// ZMPOP numkeys key [key …] MIN | MAX [COUNT count]
pub fn zmpop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let (keys, rest) = counted(args)?;
    let (top, rest) = match rest {
        [word, rest @ ..] if is(word, "min") => (false, rest),
        [word, rest @ ..] if is(word, "max") => (true, rest),
        _ => return Err(SYNTAX),
    };
    let most = most(rest)?;
    for key in keys {
        if edit.view().sorted(key)?.is_some() {
            let taken = take(edit, key, top, most)?;
            let nested = taken
                .into_iter()
                .map(|(member, score)| Reply::Array(vec![member, score]));
            return Ok(Reply::Array(vec![
                bulk(key),
                Reply::Array(nested.collect()),
            ]));
        }
    }
    Ok(Reply::NilArray)
}

/// BZMPOP timeout numkeys key [key …] MIN | MAX [COUNT count]
pub fn bzmpop(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    timeout(&args[0])?;
    zmpop(edit, &args[1..])
}

/// BZPOPMIN, BZPOPMAX key [key …] timeout
pub fn blocking_pop(edit: &mut Edit<'_>, args: &[Bytes], top: bool) -> Answer {
    let (seconds, keys) = args.split_last().expect("the arity was checked");
    timeout(seconds)?;
    for key in keys {
        if edit.view().sorted(key)?.is_some() {
            let taken = take(edit, key, top, 1)?;
            let flat = taken
                .into_iter()
                .flat_map(|(member, score)| [member, score]);
            return Ok(Reply::Array(
                std::iter::once(bulk(key)).chain(flat).collect(),
            ));
        }
    }
    Ok(Reply::NilArray)
}

/// ZRANDMEMBER key [count [WITHSCORES]]
pub fn zrandmember(view: View<'_>, args: &[Bytes]) -> Answer {
    let with_scores = match args.get(2) {
        Some(word) if is(word, "withscores") && args.len() == 3 => true,
        None => false,
        Some(_) => return Err(SYNTAX),
    };
    let wanted = Draw::parse(args.get(1), with_scores)?;
    let sorted = view.sorted(&args[0])?;
    let drawn = draw(view.rng(), wanted, sorted.map_or(0, Sorted::len));
    let mut drawn = drawn.into_iter().flat_map(|at| sorted?.iter().nth(at));
    Ok(match wanted {
        Draw::One => drawn.next().map_or(Reply::Nil, name),
        Draw::Many(_) if with_scores => Reply::Pairs(drawn.map(pair).collect()),
        Draw::Many(_) => Reply::Array(drawn.map(name).collect()),
    })
}
