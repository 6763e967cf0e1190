//! SORT: the elements of a list, set or sorted set, by themselves or by what other keys hold.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, bulk_or_nil, count, integer, is};
use super::super::context::{Answer, Edit, View};
use super::super::number::parse_double;
use super::super::value::{End, Held, List, Value};
use bytes::Bytes;
use std::cmp::Ordering;

struct Query<'a> {
    by: Option<&'a [u8]>,
    /// False once a BY pattern without a star was given.
    is_sorted: bool,
    get: Vec<&'a [u8]>,
    offset: usize,
    most: usize,
    is_descending: bool,
    is_alpha: bool,
    store: Option<&'a Bytes>,
}

impl<'a> Query<'a> {
    fn parse(args: &'a [Bytes], may_store: bool) -> Result<Self, Reply> {
        let mut query = Self {
            by: None,
            is_sorted: true,
            get: Vec::new(),
            offset: 0,
            most: usize::MAX,
            is_descending: false,
            is_alpha: false,
            store: None,
        };
        let mut options = args.iter();
        while let Some(option) = options.next() {
            if is(option, "asc") {
                query.is_descending = false;
            } else if is(option, "desc") {
                query.is_descending = true;
            } else if is(option, "alpha") {
                query.is_alpha = true;
            } else if is(option, "limit") {
                let (Some(offset), Some(most)) = (options.next(), options.next()) else {
                    return Err(SYNTAX);
                };
                query.offset = usize::try_from(integer(offset)?).unwrap_or(0);
                query.most = usize::try_from(integer(most)?).unwrap_or(usize::MAX);
            } else if may_store && is(option, "store") {
                query.store = Some(options.next().ok_or(SYNTAX)?);
            } else if is(option, "by") {
                let by = options.next().ok_or(SYNTAX)?;
                query.by = Some(by);
                query.is_sorted &= by.contains(&b'*');
            } else if is(option, "get") {
                query.get.push(options.next().ok_or(SYNTAX)?);
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(query)
    }

    /// Replies of the elements chosen, for each what GET asks for.
    fn run(&self, view: View<'_>, key: &[u8]) -> Result<Vec<Reply>, Reply> {
        let is_backwards = self.is_descending && !self.is_sorted;
        let mut elements: Vec<&[u8]> = match view.entry(key).map(|entry| entry.value()) {
            None => Vec::new(),
            Some(Some(Value::List(list))) if is_backwards => list.iter().rev().collect(),
            Some(Some(Value::List(list))) => list.iter().collect(),
            Some(Some(Value::Set(set))) => set.iter().collect(),
            Some(Some(Value::Sorted(sorted))) if is_backwards => {
                sorted.down(sorted.len()).map(|m| m.name()).collect()
            }
            Some(Some(Value::Sorted(sorted))) => sorted.up(0).map(|m| m.name()).collect(),
            Some(_) => return Err(Reply::WRONG_TYPE),
        };
        if self.is_sorted {
            elements = self.sorted(view, elements)?;
        }
        let chosen = elements.into_iter().skip(self.offset).take(self.most);
        if self.get.is_empty() {
            return Ok(chosen.map(bulk).collect());
        }
        let gets = chosen.flat_map(|element| {
            let one = move |pattern: &&[u8]| bulk_or_nil(look_up(view, pattern, element));
            self.get.iter().map(one)
        });
        Ok(gets.collect())
    }

    fn sorted<'e>(&self, view: View<'e>, elements: Vec<&'e [u8]>) -> Result<Vec<&'e [u8]>, Reply> {
        let weight = |element: &'e [u8]| match self.by {
            Some(by) => look_up(view, by, element),
            None => Some(element),
        };
        let by_element = |order: Ordering, a: &[u8], b: &[u8]| order.then_with(|| a.cmp(b));
        let mut result = Vec::with_capacity(elements.len());
        if self.is_alpha {
            let mut keyed: Vec<_> = elements.into_iter().map(|e| (weight(e), e)).collect();
            keyed.sort_by(|a, b| by_element(a.0.cmp(&b.0), a.1, b.1));
            result.extend(keyed.into_iter().map(|(_, element)| element));
        } else {
            let mut keyed = Vec::with_capacity(elements.len());
            for element in elements {
                let number = match weight(element) {
                    None | Some(b"") => 0.0,
                    Some(text) => parse_double(text).ok_or(Reply::error(
                        "ERR One or more scores can't be converted into double",
                    ))?,
                };
                keyed.push((number, element));
            }
            let compare = |a: &f64, b: &f64| a.partial_cmp(b).expect("no NaN is parsed");
            keyed.sort_by(|a, b| by_element(compare(&a.0, &b.0), a.1, b.1));
            result.extend(keyed.into_iter().map(|(_, element)| element));
        }
        if self.is_descending {
            result.reverse();
        }
        Ok(result)
    }
}

/// What the key holds that a pattern names with the element in place of its star; behind `->` stands a
/// hash's field. `#` is the element itself.
fn look_up<'a>(view: View<'a>, pattern: &[u8], element: &'a [u8]) -> Option<&'a [u8]> {
    if pattern == b"#" {
        return Some(element);
    }
    let star = pattern.iter().position(|b| *b == b'*')?;
    let behind = &pattern[star + 1..];
    let arrow = behind.windows(2).position(|two| two == b"->");
    // An arrow with nothing behind it is part of the key.
    let arrow = arrow.filter(|at| at + 2 < behind.len());
    let rest = &behind[..arrow.unwrap_or(behind.len())];
    let key = [&pattern[..star], element, rest].concat();
    match arrow {
        Some(at) => view.hash(&key).ok()??.get(view.seed(), &behind[at + 2..]),
        None => view.string(&key).ok()?,
    }
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA]
pub fn sort_ro(view: View<'_>, args: &[Bytes]) -> Answer {
    let query = Query::parse(&args[1..], false)?;
    Ok(Reply::Array(query.run(view, &args[0])?))
}

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE destination]
pub fn sort(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let query = Query::parse(&args[1..], true)?;
    let replies = query.run(edit.view(), &args[0])?;
    let Some(destination) = query.store else {
        return Ok(Reply::Array(replies));
    };
    let mut list = List::default();
    for reply in &replies {
        match reply {
            Reply::Bulk(element) => list.push(End::Right, element),
            _ => list.push(End::Right, b""),
        }
    }
    edit.put(destination, list.into_value());
    count(replies.len())
}
