//! What is made of several sorted sets. A set takes part as if each member's score were 1.

use super::super::Reply;
use super::super::args::{SYNTAX, count, integer, is};
use super::super::context::{Answer, Edit, View};
use super::super::number::parse_double;
use super::super::value::{Held, Members, Sorted, Value};
use super::sets::{Algebra, card_limit};
use super::sorted::{name, pair};
use bytes::Bytes;

/// What is combined.
#[derive(Clone, Copy)]
enum Source<'a> {
    None,
    Set(&'a Members),
    Sorted(&'a Sorted),
}

impl<'a> Source<'a> {
    fn of(view: View<'a>, key: &[u8]) -> Result<Self, Reply> {
        match view.entry(key).map(|entry| entry.value()) {
            None => Ok(Self::None),
            Some(Some(Value::Set(set))) => Ok(Self::Set(set)),
            Some(Some(Value::Sorted(sorted))) => Ok(Self::Sorted(sorted)),
            Some(_) => Err(Reply::WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Set(set) => set.len(),
            Self::Sorted(sorted) => sorted.len(),
        }
    }

    fn score(self, view: View<'_>, member: &[u8]) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Set(set) => set.contains(view.seed(), member).then_some(1.0),
            Self::Sorted(sorted) => sorted.score(view.seed(), member),
        }
    }

    fn iter(self) -> Box<dyn Iterator<Item = (&'a [u8], f64)> + 'a> {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::Set(set) => Box::new(set.iter().map(|member| (member, 1.0))),
            Self::Sorted(sorted) => Box::new(sorted.iter().map(|m| (m.name(), m.score()))),
        }
    }
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// Infinities of both signs make 0.
    fn of(self, one: f64, other: f64) -> f64 {
        let value = match self {
            Self::Sum => one + other,
            Self::Min => one.min(other),
            Self::Max => one.max(other),
        };
        if value.is_nan() { 0.0 } else { value }
    }
}

fn weighted(weight: f64, score: f64) -> f64 {
    let value = weight * score;
    if value.is_nan() { 0.0 } else { value }
}

struct Query<'a> {
    /// With weights.
    sources: Vec<(Source<'a>, f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    algebra: Algebra,
}

/// The keys whose number stands first, and what is behind them.
fn counted_keys<'a>(args: &'a [Bytes], command: &str) -> Result<(&'a [Bytes], &'a [Bytes]), Reply> {
    let keys = usize::try_from(integer(&args[0])?).ok().filter(|n| *n > 0);
    let keys = keys.ok_or_else(|| {
        let text = format!("ERR at least 1 input key is needed for '{command}' command");
        Reply::Error(text.into())
    })?;
    args[1..].split_at_checked(keys).ok_or(SYNTAX)
}

impl<'a> Query<'a> {
    fn parse(
        view: View<'a>,
        args: &[Bytes],
        algebra: Algebra,
        is_store: bool,
        command: &str,
    ) -> Result<Self, Reply> {
        let (keys, rest) = counted_keys(args, command)?;
        let mut query = Self {
            sources: Vec::with_capacity(keys.len()),
            aggregate: Aggregate::Sum,
            with_scores: false,
            algebra,
        };
        for key in keys {
            query.sources.push((Source::of(view, key)?, 1.0));
        }
        query.options(rest, is_store)?;
        Ok(query)
    }

    fn options(&mut self, args: &[Bytes], is_store: bool) -> Result<(), Reply> {
        let mut rest = args;
        while let [word, behind @ ..] = rest {
            rest = behind;
            if self.algebra != Algebra::Diff && is(word, "weights") {
                let (weights, behind) = rest.split_at_checked(self.sources.len()).ok_or(SYNTAX)?;
                rest = behind;
                for (source, weight) in self.sources.iter_mut().zip(weights) {
                    let refusal = Reply::error("ERR weight value is not a float");
                    source.1 = parse_double(weight).ok_or(refusal)?;
                }
            } else if self.algebra != Algebra::Diff && is(word, "aggregate") {
                let (how, behind) = rest.split_first().ok_or(SYNTAX)?;
                rest = behind;
                self.aggregate = match how {
                    how if is(how, "sum") => Aggregate::Sum,
                    how if is(how, "min") => Aggregate::Min,
                    how if is(how, "max") => Aggregate::Max,
                    _ => return Err(SYNTAX),
                };
            } else if !is_store && is(word, "withscores") {
                self.with_scores = true;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(())
    }

    fn result(mut self, view: View<'_>, most: usize) -> Sorted {
        let seed = view.seed();
        let mut result = Sorted::default();
        if self.algebra != Algebra::Diff {
            self.sources.sort_by_key(|(source, _)| source.len());
        }
        let Some(((first, weight), others)) = self.sources.split_first() else {
            return result;
        };
        match self.algebra {
            Algebra::Union => {
                for (source, weight) in &self.sources {
                    for (member, score) in source.iter() {
                        let score = weighted(*weight, score);
                        let score = match result.score(seed, member) {
                            Some(sum) => self.aggregate.of(sum, score),
                            None => score,
                        };
                        result.set(seed, member, score);
                    }
                }
            }
            Algebra::Inter => {
                let all = first.iter().filter_map(|(member, score)| {
                    let sum = weighted(*weight, score);
                    let sum = others.iter().try_fold(sum, |sum, (source, weight)| {
                        let score = weighted(*weight, source.score(view, member)?);
                        Some(self.aggregate.of(sum, score))
                    })?;
                    Some((member, sum))
                });
                for (member, score) in all.take(most) {
                    result.set(seed, member, score);
                }
            }
            Algebra::Diff => {
                let is_elsewhere = |member: &[u8]| {
                    let mut others = others.iter();
                    others.any(|(source, _)| source.score(view, member).is_some())
                };
                for (member, score) in first.iter().filter(|(m, _)| !is_elsewhere(m)) {
                    result.set(seed, member, score);
                }
            }
        }
        result
    }
}

/// ZUNION, ZINTER, ZDIFF numkeys key [key …] [WEIGHTS …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]
pub fn algebra(view: View<'_>, args: &[Bytes], algebra: Algebra, command: &str) -> Answer {
    let query = Query::parse(view, args, algebra, false, command)?;
    let with_scores = query.with_scores;
    let result = query.result(view, usize::MAX);
    Ok(match with_scores {
        true => Reply::Pairs(result.up(0).map(pair).collect()),
        false => Reply::Array(result.up(0).map(name).collect()),
    })
}

/// ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE destination numkeys key [key …] [WEIGHTS …] [AGGREGATE …]
pub fn algebra_store(
    edit: &mut Edit<'_>,
    args: &[Bytes],
    algebra: Algebra,
    command: &str,
) -> Answer {
    let view = edit.view();
    let query = Query::parse(view, &args[1..], algebra, true, command)?;
    let result = query.result(view, usize::MAX);
    let length = result.len();
    edit.put(&args[0], result.into_value());
    count(length)
}

/// ZINTERCARD numkeys key [key …] [LIMIT limit]
pub fn zintercard(view: View<'_>, args: &[Bytes]) -> Answer {
    let (keys, rest) = counted_keys(args, "zintercard")?;
    let most = card_limit(rest)?;
    let query = Query {
        sources: keys
            .iter()
            .map(|key| Ok((Source::of(view, key)?, 1.0)))
            .collect::<Result<_, Reply>>()?,
        aggregate: Aggregate::Sum,
        with_scores: false,
        algebra: Algebra::Inter,
    };
    count(query.result(view, most).len())
}
