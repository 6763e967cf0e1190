//! Commands about several shards: each shard answers its part, and the parts make one answer.
//!
//! Only what need not be one step is split so: counting and removing keys, reading them, looking through a
//! whole database. MSET over several shards is refused, for a reader could see half of it. Redis' own
//! cluster proxies draw the line in the same place.

use super::client::PendingKind;
use super::{Context, Redis};
use crate::event::ClientId;
use base::ShardId;
use bytes::Bytes;
use storage::cache::{Access, Body, Command, CommandId, Reply, Spec};
use wire_redis::client::Value;

/// In front of a command about a whole database that another core asks for: one shard of it is meant.
const SHARD: &[u8] = b"ALTHING.SHARD";
/// The bits of a scan's cursor that say where it is in a shard; those above say in which.
const CURSOR_BITS: u32 = 46;

/// How answers of several shards become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Combine {
    /// Numbers are added up.
    Sum,
    /// Lists stand one behind the other.
    Concatenate,
    /// All are the same.
    Same,
    /// One of those that there are; this number says which.
    Any(u64),
    /// For each element of the answer, of which part it is the next.
    Gather(Vec<usize>),
    /// A page of a scan of this shard of the pool; `next`: where the scan goes on behind it.
    Page {
        /// Its place in the pool.
        at: u64,
        /// The cursor behind this shard, 0 behind the last.
        next: u64,
    },
}

/// True for commands whose parts may be carried out one by one.
pub fn is_splittable(spec: &Spec) -> bool {
    matches!(
        spec.id,
        CommandId::Del
            | CommandId::Unlink
            | CommandId::Exists
            | CommandId::Touch
            | CommandId::MGet
            | CommandId::DbSize
            | CommandId::Keys
            | CommandId::Scan
            | CommandId::RandomKey
            | CommandId::FlushDb
            | CommandId::FlushAll
    )
}

/// Takes away what another core wrote in front of a command, and says which shard it means.
pub fn take_shard(arguments: &mut Vec<Bytes>) -> Option<ShardId> {
    if arguments.len() < 3 || arguments[0] != SHARD {
        return None;
    }
    let shard = std::str::from_utf8(&arguments[1]).ok()?.parse().ok()?;
    arguments.drain(..2);
    Some(ShardId(shard))
}

impl Redis {
    /// Carries a command out in several shards.
    pub(super) fn many(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        spec: &Spec,
        command: Command,
        shards: &[ShardId],
    ) -> Result<(), Reply> {
        for shard in shards {
            self.refuse_write(cx, spec, *shard)?;
        }
        let (parts, combine) = self.split(cx, command, shards)?;
        // All places are known before anything is sent.
        let mut placed = Vec::with_capacity(parts.len());
        for (shard, part) in parts {
            let Some(client) = self.clients.get(&id) else {
                return Ok(());
            };
            let to = self.whereabouts(cx, client, shard)?;
            placed.push((shard, to, client.database, part));
        }
        let mut kinds = Vec::with_capacity(placed.len());
        for (shard, to, database, part) in placed {
            let is_write = spec.access == Access::Write;
            kinds.push(match to {
                None if is_write => self.writing(cx, id, database, shard, Body::One(part), None),
                None => self.reading(cx, id, database, shard, part),
                Some(to) => {
                    let mut words = Vec::with_capacity(part.args.len() + 3);
                    if part.keys().next().is_none() {
                        words.push(Bytes::from_static(SHARD));
                        words.push(shard.0.to_string().into());
                    }
                    words.push(Bytes::from_static(spec.name.as_bytes()));
                    words.extend(part.args);
                    self.forwarded(id, (shard, to), &[words], is_write)
                }
            });
        }
        let give_up = cx.now.mono_us + super::WRITE_MAX_US;
        for kind in &mut kinds {
            if let PendingKind::Forwarded { give_up_us, .. } = kind {
                *give_up_us = Some(give_up);
            }
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.push(cx.now, PendingKind::Many(kinds, combine));
        }
        self.settle(cx, id);
        Ok(())
    }

    /// What each shard is asked, and what becomes of the answers.
    fn split(
        &self,
        cx: &Context<'_>,
        command: Command,
        shards: &[ShardId],
    ) -> Result<(Vec<(ShardId, Command)>, Combine), Reply> {
        let to_all = |command: &Command| -> Vec<(ShardId, Command)> {
            let of = |shard: &ShardId| (*shard, command.clone());
            shards.iter().map(of).collect()
        };
        Ok(match command.id {
            CommandId::DbSize => (to_all(&command), Combine::Sum),
            CommandId::Keys => (to_all(&command), Combine::Concatenate),
            CommandId::RandomKey => (to_all(&command), Combine::Any(self.commands)),
            CommandId::FlushDb | CommandId::FlushAll => (to_all(&command), Combine::Same),
            CommandId::Scan => return page(command, shards),
            _ => {
                let mut parts = to_all(&command);
                parts.iter_mut().for_each(|(_, part)| part.args.clear());
                let mut order = Vec::with_capacity(command.args.len());
                for key in command.args {
                    let shard = self.shard_of(cx, &key)?;
                    let at = shards.iter().position(|s| *s == shard).unwrap_or(0);
                    parts[at].1.args.push(key);
                    order.push(at);
                }
                let combine = match command.id {
                    CommandId::MGet => Combine::Gather(order),
                    _ => Combine::Sum,
                };
                (parts, combine)
            }
        })
    }
}

/// A scan goes through one shard behind the other; which, stands in the upper bits of the cursor.
fn page(
    mut command: Command,
    shards: &[ShardId],
) -> Result<(Vec<(ShardId, Command)>, Combine), Reply> {
    const INVALID: Reply = Reply::error("ERR invalid cursor");
    let text = command
        .args
        .first()
        .and_then(|arg| std::str::from_utf8(arg).ok());
    let cursor: u64 = text.and_then(|text| text.parse().ok()).ok_or(INVALID)?;
    let at = cursor >> CURSOR_BITS;
    let next = match usize::try_from(at + 1) {
        Ok(next) if next < shards.len() => (at + 1) << CURSOR_BITS,
        _ => 0,
    };
    let combine = Combine::Page { at, next };
    let Some(shard) = usize::try_from(at).ok().and_then(|at| shards.get(at)) else {
        // A client that asks every node may ask one that leads nothing.
        return Ok((Vec::new(), combine));
    };
    let inner = cursor & ((1 << CURSOR_BITS) - 1);
    command.args[0] = inner.to_string().into();
    Ok((vec![(*shard, command)], combine))
}

impl Combine {
    /// One answer out of those of the parts, the first refusal if there is one.
    pub fn answer(self, mut parts: Vec<Reply>) -> Reply {
        if let Some(at) = parts.iter().position(Reply::is_error) {
            return parts.swap_remove(at);
        }
        let integer = |part: &Reply| match part {
            Reply::Integer(number) => *number,
            _ => 0,
        };
        let list = |part: Reply| match part {
            Reply::Array(items) => items,
            _ => Vec::new(),
        };
        match self {
            Self::Sum => Reply::Integer(parts.iter().map(integer).sum()),
            Self::Concatenate => Reply::Array(parts.into_iter().flat_map(list).collect()),
            Self::Same => parts.pop().unwrap_or(Reply::OK),
            Self::Any(which) => {
                parts.retain(|part| *part != Reply::Nil);
                match usize::try_from(which % parts.len().max(1) as u64) {
                    Ok(at) if at < parts.len() => parts.swap_remove(at),
                    _ => Reply::Nil,
                }
            }
            Self::Gather(order) => {
                let mut lists: Vec<_> = (parts.into_iter())
                    .map(|part| list(part).into_iter())
                    .collect();
                let next = |at: usize| lists[at].next().unwrap_or(Reply::Nil);
                Reply::Array(order.into_iter().map(next).collect())
            }
            Self::Page { at, next } => {
                let mut page = parts.pop().map(list).unwrap_or_default().into_iter();
                let inner = match page.next() {
                    Some(Reply::Bulk(text)) => std::str::from_utf8(&text)
                        .ok()
                        .and_then(|text| text.parse::<u64>().ok())
                        .unwrap_or(0),
                    _ => 0,
                };
                let cursor = match inner {
                    0 => next,
                    inner => at << CURSOR_BITS | inner,
                };
                let items = page.next().unwrap_or(Reply::Array(Vec::new()));
                Reply::Array(vec![Reply::Bulk(cursor.to_string().into()), items])
            }
        }
    }
}

/// What another core answered. Parts are of few kinds.
pub fn reply_of(value: Value) -> Reply {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Value::Nil => Reply::Nil,
        Value::NilArray => Reply::NilArray,
        Value::Status(status) => Reply::Status(text(&status).into()),
        Value::Error(why) => Reply::Error(text(&why).into()),
        Value::Integer(number) => Reply::Integer(number),
        Value::Bulk(bytes) => Reply::Bulk(bytes),
        Value::Array(items) | Value::Set(items) => {
            Reply::Array(items.into_iter().map(reply_of).collect())
        }
        other => Reply::Error(format!("ERR another core answered {other:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn parts_make_one_answer_and_a_refusal_wins() {
        let list = |items: &[&'static str]| Reply::Array(items.iter().map(|t| bulk(t)).collect());
        let numbers = || vec![Reply::Integer(2), Reply::Integer(3)];
        assert_eq!(Combine::Sum.answer(numbers()), Reply::Integer(5));
        assert_eq!(Combine::Sum.answer(Vec::new()), Reply::Integer(0));
        let lists = || vec![list(&["a", "c"]), list(&["b"])];
        assert_eq!(Combine::Concatenate.answer(lists()), list(&["a", "c", "b"]));
        let order = Combine::Gather(vec![0, 1, 0]);
        assert_eq!(order.answer(lists()), list(&["a", "b", "c"]));
        for which in 0..4 {
            let answer = Combine::Any(which).answer(vec![Reply::Nil, bulk("k")]);
            assert_eq!(answer, bulk("k"));
        }
        assert_eq!(Combine::Any(1).answer(vec![Reply::Nil]), Reply::Nil);
        let refused = vec![Reply::Integer(1), Reply::error("ERR no")];
        assert_eq!(Combine::Sum.answer(refused), Reply::error("ERR no"));
    }

    #[test]
    fn cursor_of_a_scan_names_the_shard() {
        let shards = [ShardId(3), ShardId(4)];
        let scan = |cursor: u64| Command {
            id: CommandId::Scan,
            args: vec![cursor.to_string().into()],
        };
        let page_of =
            |next: &'static str| vec![Reply::Array(vec![bulk(next), Reply::Array(vec![])])];
        let cursor = |combine: Combine, inner| match combine.answer(page_of(inner)) {
            Reply::Array(parts) => parts[0].clone(),
            other => panic!("{other:?}"),
        };
        let (parts, combine) = page(scan(0), &shards).expect("a page");
        assert_eq!(
            (parts[0].0, &parts[0].1.args[0][..]),
            (ShardId(3), &b"0"[..])
        );
        assert_eq!(cursor(combine.clone(), "77"), bulk("77"));
        let second = 1u64 << CURSOR_BITS;
        assert_eq!(cursor(combine, "0"), Reply::Bulk(second.to_string().into()));
        let (parts, combine) = page(scan(second | 77), &shards).expect("a page");
        assert_eq!(
            (parts[0].0, &parts[0].1.args[0][..]),
            (ShardId(4), &b"77"[..])
        );
        assert_eq!(cursor(combine, "0"), bulk("0"));
        let (parts, combine) = page(scan(5 << CURSOR_BITS), &shards).expect("a page");
        assert!(parts.is_empty());
        assert_eq!(
            combine.answer(Vec::new()),
            Reply::Array(vec![bulk("0"), Reply::Array(vec![])])
        );
        assert!(
            page(
                Command {
                    id: CommandId::Scan,
                    args: vec![Bytes::from_static(b"x")]
                },
                &shards
            )
            .is_err()
        );
    }
}
