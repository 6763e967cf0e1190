//! The SCAN family. A cursor is where to go on, by slot and hash: what stays while the scan runs is met
//! exactly once, and a call does bounded work.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, integer, is};
use super::super::context::{Answer, View};
use super::super::glob;
use super::super::number::double_text;
use super::super::table::Keyed;
use super::super::value::Kind;
use bytes::Bytes;

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &'a [Bytes], has_kind: bool) -> Result<Self, Reply> {
        let mut found = Self {
            pattern: None,
            kind: None,
            count: 10,
        };
        for option in args.chunks(2) {
            let [name, value] = option else {
                return Err(SYNTAX);
            };
            if is(name, "match") {
                found.pattern = Some(value);
            } else if is(name, "count") {
                let count = integer(value)?;
                found.count = usize::try_from(count)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or(SYNTAX)?;
            } else if has_kind && is(name, "type") {
                found.kind = Some(value);
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(found)
    }

    fn fits(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

fn cursor(arg: &[u8]) -> Result<u64, Reply> {
    let text = std::str::from_utf8(arg)
        .ok()
        .filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok())
        .ok_or(Reply::error("ERR invalid cursor"))
}

fn page(next: u64, items: Vec<Reply>) -> Answer {
    let cursor = Reply::Bulk(next.to_string().into());
    Ok(Reply::Array(vec![cursor, Reply::Array(items)]))
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub fn scan(view: View<'_>, args: &[Bytes]) -> Answer {
    let from = cursor(&args[0])?;
    let options = Options::parse(&args[1..], true)?;
    let kind = options.kind.map(Kind::of_name);
    let mut met = 0;
    let mut items = Vec::new();
    let mut next = (u16::try_from(from >> 32).ok()).map(|slot| (slot, from as u32));
    while let Some((slot, hash)) = next.filter(|_| met < options.count) {
        let Some(occupied) = view.database().occupied_from(slot) else {
            next = None;
            break;
        };
        let hash = if occupied == slot { hash } else { 0 };
        let entries = &view
            .database()
            .slot(occupied)
            .expect("it is occupied")
            .entries;
        let left = options.count - met;
        let more = entries.scan(hash, left, |entry| {
            met += 1;
            let is_kind = kind.is_none_or(|kind| kind == Some(entry.kind()));
            if is_kind && view.lives(entry) && options.fits(entry.key()) {
                items.push(bulk(entry.key()));
            }
        });
        next = match more {
            Some(hash) => Some((occupied, hash)),
            None => Some((occupied + 1, 0)),
        };
    }
    let is_more = |(slot, _): &(u16, u32)| view.database().occupied_from(*slot).is_some();
    let next = next.filter(is_more);
    page(
        next.map_or(0, |(slot, hash)| u64::from(slot) << 32 | u64::from(hash)),
        items,
    )
}

/// Where to go on inside of a value; a cursor beyond any hash means the end.
fn hash_of(cursor: u64) -> u32 {
    u32::try_from(cursor).unwrap_or(u32::MAX)
}

/// HSCAN key cursor [MATCH pattern] [COUNT count]
pub fn hscan(view: View<'_>, args: &[Bytes]) -> Answer {
    let from = cursor(&args[1])?;
    let options = Options::parse(&args[2..], false)?;
    let mut items = Vec::new();
    let next = view.hash(&args[0])?.and_then(|fields| {
        fields.scan(hash_of(from), options.count, |field| {
            if options.fits(field.name()) {
                items.extend([bulk(field.name()), bulk(field.value())]);
            }
        })
    });
    page(next.map_or(0, u64::from), items)
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
pub fn sscan(view: View<'_>, args: &[Bytes]) -> Answer {
    let from = cursor(&args[1])?;
    let options = Options::parse(&args[2..], false)?;
    let mut items = Vec::new();
    let next = view.set(&args[0])?.and_then(|members| {
        members.scan(hash_of(from), options.count, |member| {
            if options.fits(member.name()) {
                items.push(bulk(member.name()));
            }
        })
    });
    page(next.map_or(0, u64::from), items)
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
pub fn zscan(view: View<'_>, args: &[Bytes]) -> Answer {
    let from = cursor(&args[1])?;
    let options = Options::parse(&args[2..], false)?;
    let mut items = Vec::new();
    let next = view.sorted(&args[0])?.and_then(|sorted| {
        sorted.scan(hash_of(from), options.count, |member| {
            if options.fits(member.name()) {
                let score = double_text(member.score(), Bytes::copy_from_slice);
                items.extend([bulk(member.name()), Reply::Bulk(score)]);
            }
        })
    });
    page(next.map_or(0, u64::from), items)
}
