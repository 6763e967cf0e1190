//! Ranges of sorted sets, by rank, by score and by bytes.

use super::super::Reply;
use super::super::args::{SYNTAX, count, integer, is, range};
use super::super::context::{Answer, Edit, View};
use super::super::number::parse_double;
use super::super::value::{Held, Scored, Sorted};
use super::sorted::{name, pair};
use bytes::Bytes;
use std::ops::Range;

/// By what a range is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Places in the order.
    Rank,
    /// Scores, `(` in front of those that are not meant.
    Score,
    /// Bytes, `[` or `(` in front, `-` and `+` for the ends; all scores should be equal.
    Lex,
}

/// One end of a range by score.
#[derive(Clone, Copy)]
struct ScoreEnd {
    score: f64,
    is_open: bool,
}

impl ScoreEnd {
    fn parse(arg: &[u8]) -> Result<Self, Reply> {
        let (is_open, text) = match arg {
            [b'(', text @ ..] => (true, text),
            text => (false, text),
        };
        let score = parse_double(text).ok_or(Reply::error("ERR min or max is not a float"))?;
        Ok(Self { score, is_open })
    }

    fn excludes_from_below(self, score: f64) -> bool {
        score < self.score || self.is_open && score == self.score
    }

    fn includes_from_above(self, score: f64) -> bool {
        score < self.score || !self.is_open && score == self.score
    }
}

/// One end of a range by bytes.
#[derive(Clone, Copy)]
enum LexEnd<'a> {
    First,
    Last,
    Closed(&'a [u8]),
    Open(&'a [u8]),
}

impl<'a> LexEnd<'a> {
    fn parse(arg: &'a [u8]) -> Result<Self, Reply> {
        match arg {
            b"-" => Ok(Self::First),
            b"+" => Ok(Self::Last),
            [b'[', text @ ..] => Ok(Self::Closed(text)),
            [b'(', text @ ..] => Ok(Self::Open(text)),
            _ => Err(Reply::error("ERR min or max not valid string range item")),
        }
    }

    fn excludes_from_below(self, name: &[u8]) -> bool {
        match self {
            Self::First => false,
            Self::Last => true,
            Self::Closed(end) => name < end,
            Self::Open(end) => name <= end,
        }
    }

    fn includes_from_above(self, name: &[u8]) -> bool {
        match self {
            Self::First => false,
            Self::Last => true,
            Self::Closed(end) => name <= end,
            Self::Open(end) => name < end,
        }
    }
}

/// A range whose ends were read.
#[derive(Clone, Copy)]
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreEnd, ScoreEnd),
    Lex(LexEnd<'a>, LexEnd<'a>),
}

impl<'a> Ends<'a> {
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Self, Reply> {
        Ok(match by {
            By::Rank => Self::Rank(integer(low)?, integer(high)?),
            By::Score => Self::Score(ScoreEnd::parse(low)?, ScoreEnd::parse(high)?),
            By::Lex => Self::Lex(LexEnd::parse(low)?, LexEnd::parse(high)?),
        })
    }

    /// The ranks that are meant; by rank, counted from the top if `from_top`.
    fn ranks(self, sorted: &Sorted, from_top: bool) -> Range<usize> {
        let (low, high) = match self {
            Self::Rank(start, stop) => {
                let ranks = range(start, stop, sorted.len());
                match from_top {
                    true => (sorted.len() - ranks.end, sorted.len() - ranks.start),
                    false => (ranks.start, ranks.end),
                }
            }
            Self::Score(low, high) => (
                sorted.rank_where(|m| low.excludes_from_below(m.score())),
                sorted.rank_where(|m| high.includes_from_above(m.score())),
            ),
            Self::Lex(low, high) => (
                sorted.rank_where(|m| low.excludes_from_below(m.name())),
                sorted.rank_where(|m| high.includes_from_above(m.name())),
            ),
        };
        low..high.max(low)
    }
}

/// A range with everything that can be said about it.
struct Query<'a> {
    ends: Ends<'a>,
    is_reverse: bool,
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// From the two ends and the options behind them. `by` and `is_reverse` are known from an old command's
    /// name; ZRANGE's options say them.
    fn parse(args: &'a [Bytes], known: Option<(By, bool)>, is_store: bool) -> Result<Self, Reply> {
        let (mut by, mut is_reverse) = known.unwrap_or((By::Rank, false));
        let (mut limit, mut with_scores) = (None, false);
        let mut options = args[2..].iter();
        while let Some(option) = options.next() {
            if !is_store && is(option, "withscores") {
                with_scores = true;
            } else if is(option, "limit") {
                let (Some(offset), Some(most)) = (options.next(), options.next()) else {
                    return Err(SYNTAX);
                };
                limit = Some((integer(offset)?, integer(most)?));
            } else if known.is_none() && is(option, "byscore") {
                by = By::Score;
            } else if known.is_none() && is(option, "bylex") {
                by = By::Lex;
            } else if known.is_none() && is(option, "rev") {
                is_reverse = true;
            } else {
                return Err(SYNTAX);
            }
        }
        if limit.is_some() && by == By::Rank {
            return Err(Reply::error(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Reply::error(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (low, high) = match is_reverse && by != By::Rank {
            true => (&args[1], &args[0]),
            false => (&args[0], &args[1]),
        };
        Ok(Self {
            ends: Ends::parse(by, low, high)?,
            is_reverse,
            limit,
            with_scores,
        })
    }

    /// Members in the order asked for.
    fn members<'s>(&self, sorted: &'s Sorted) -> Vec<&'s Scored> {
        let ranks = self.ends.ranks(sorted, self.is_reverse);
        let (offset, most) = self.limit.unwrap_or((0, -1));
        let Ok(offset) = usize::try_from(offset) else {
            return Vec::new();
        };
        let left = ranks.len().saturating_sub(offset);
        let most = usize::try_from(most).map_or(left, |most| most.min(left));
        if most == 0 {
            return Vec::new();
        }
        match self.is_reverse {
            true => sorted.down(ranks.end - offset).take(most).collect(),
            false => sorted.up(ranks.start + offset).take(most).collect(),
        }
    }

    fn answer(&self, view: View<'_>, key: &[u8]) -> Answer {
        let sorted = view.sorted(key)?;
        let members = sorted.map_or_else(Vec::new, |sorted| self.members(sorted));
        let members = members.into_iter();
        Ok(match self.with_scores {
            true => Reply::Pairs(members.map(pair).collect()),
            false => Reply::Array(members.map(name).collect()),
        })
    }
}

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub fn zrange(view: View<'_>, args: &[Bytes]) -> Answer {
    Query::parse(&args[1..], None, false)?.answer(view, &args[0])
}

/// ZREVRANGE, Z(REV)RANGEBYSCORE, Z(REV)RANGEBYLEX
pub fn old_range(view: View<'_>, args: &[Bytes], by: By, is_reverse: bool) -> Answer {
    Query::parse(&args[1..], Some((by, is_reverse)), false)?.answer(view, &args[0])
}

/// ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]
pub fn zrangestore(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let query = Query::parse(&args[2..], None, true)?;
    let view = edit.view();
    let mut result = Sorted::default();
    if let Some(sorted) = view.sorted(&args[1])? {
        for member in query.members(sorted) {
            result.set(view.seed(), member.name(), member.score());
        }
    }
    let length = result.len();
    edit.put(&args[0], result.into_value());
    count(length)
}

/// ZCOUNT, ZLEXCOUNT key min max
pub fn range_count(view: View<'_>, args: &[Bytes], by: By) -> Answer {
    let ends = Ends::parse(by, &args[1], &args[2])?;
    let sorted = view.sorted(&args[0])?;
    count(sorted.map_or(0, |sorted| ends.ranks(sorted, false).len()))
}

/// ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX key start stop
pub fn remove_range(edit: &mut Edit<'_>, args: &[Bytes], by: By) -> Answer {
    let ends = Ends::parse(by, &args[1], &args[2])?;
    let removed = edit.with(&args[0], false, |sorted: &mut Sorted| {
        let ranks = ends.ranks(sorted, false);
        ranks
            .clone()
            .for_each(|_| drop(sorted.take_rank(ranks.start)));
        ranks.len()
    })?;
    count(removed.unwrap_or(0))
}
