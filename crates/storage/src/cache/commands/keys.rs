//! Keys, whatever they hold.

use super::super::Reply;
use super::super::args::{SYNTAX, bulk, count, flag, integer, integer_or, is};
use super::super::context::{Answer, Edit, View};
use super::super::entry::Entry;
use super::super::glob;
use super::super::machine::{DATABASES, NO_DATABASE};
use super::super::number::parse_integer;
use super::super::table::Keyed;
use super::super::value::Value;
use bytes::Bytes;

const NO_KEY: Reply = Reply::error("ERR no such key");

/// DBSIZE
pub fn dbsize(view: View<'_>, _: &[Bytes]) -> Answer {
    count(view.database().key_count)
}

/// DEL, UNLINK key [key …]
pub fn del(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let gone = args.iter().filter(|key| edit.remove(key).is_some());
    count(gone.count())
}

/// EXISTS, TOUCH key [key …]
pub fn exists(view: View<'_>, args: &[Bytes]) -> Answer {
    let there = args.iter().filter(|key| view.entry(key).is_some());
    count(there.count())
}

/// TYPE key
pub fn kind(view: View<'_>, args: &[Bytes]) -> Answer {
    let name = view.entry(&args[0]).map(|entry| entry.kind().name());
    Ok(Reply::Status(name.unwrap_or("none").into()))
}

/// RENAME, RENAMENX key newkey
pub fn rename(edit: &mut Edit<'_>, args: &[Bytes], only_if_missing: bool) -> Answer {
    let view = edit.view();
    if view.entry(&args[0]).is_none() {
        return Err(NO_KEY);
    }
    let is_there = view.entry(&args[1]).is_some();
    if args[0] == args[1] || only_if_missing && is_there {
        return if only_if_missing {
            flag(false)
        } else {
            Ok(Reply::OK)
        };
    }
    let entry = edit.remove(&args[0]).ok_or(NO_KEY)?;
    edit.put_entry(&args[1], |place| entry.move_to(place.hash32(), &args[1]));
    if only_if_missing {
        flag(true)
    } else {
        Ok(Reply::OK)
    }
}

/// COPY source destination [DB number] [REPLACE]
pub fn copy(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let view = edit.view();
    let (mut to, mut replace) = (view.number, false);
    let mut options = args[2..].iter();
    while let Some(option) = options.next() {
        if is(option, "replace") {
            replace = true;
        } else if is(option, "db") {
            to = database(options.next().ok_or(SYNTAX)?)?;
        } else {
            return Err(SYNTAX);
        }
    }
    if to == view.number && args[0] == args[1] {
        return Err(SAME);
    }
    let Some(entry) = view.entry(&args[0]) else {
        return flag(false);
    };
    if !replace && view.of(to).entry(&args[1]).is_some() {
        return flag(false);
    }
    // Copied before the destination is touched: it may stand in the same table.
    let copy = entry.copy_to(0, &args[1]);
    edit.select(to);
    edit.put_entry(&args[1], |place| copy.move_to(place.hash32(), &args[1]));
    flag(true)
}

const SAME: Reply = Reply::error("ERR source and destination objects are the same");

fn database(arg: &[u8]) -> Result<u32, Reply> {
    let number = integer(arg)?;
    u32::try_from(number)
        .ok()
        .filter(|number| *number < DATABASES)
        .ok_or(NO_DATABASE)
}

/// MOVE key database
pub fn move_key(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let view = edit.view();
    let to = database(&args[1])?;
    if to == view.number {
        return Err(SAME);
    }
    if view.entry(&args[0]).is_none() || view.of(to).entry(&args[0]).is_some() {
        return flag(false);
    }
    let entry = edit.remove(&args[0]).ok_or(NO_KEY)?;
    edit.select(to);
    edit.put_entry(&args[0], |place| entry.move_to(place.hash32(), &args[0]));
    flag(true)
}

/// SWAPDB database database
pub fn swapdb(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let number = |arg: &Bytes, refusal| {
        let number = integer_or(arg, refusal)?;
        let number = u32::try_from(number).ok();
        number.filter(|n| *n < DATABASES).ok_or(NO_DATABASE)
    };
    let one = number(&args[0], Reply::error("ERR invalid first DB index"))?;
    let other = number(&args[1], Reply::error("ERR invalid second DB index"))?;
    if one != other {
        edit.swap(one, other);
    }
    Ok(Reply::OK)
}

/// RANDOMKEY. The next key from a random slot and hash on, so one behind a gap is likelier than others.
pub fn randomkey(view: View<'_>, _: &[Bytes]) -> Answer {
    const TRIES: usize = 100;
    let mut rng = view.rng();
    let database = view.database();
    for _ in 0..TRIES {
        let start = rng.range(0, u64::from(base::slot::SLOTS)) as u16;
        let found = database.occupied_from(start);
        let Some(slot) = found.or_else(|| database.occupied_from(0)) else {
            return Ok(Reply::Nil);
        };
        let entries = &database.slot(slot).expect("it is occupied").entries;
        // By hash and not by place, which differs between replicas.
        let mut met = Vec::new();
        for from in [rng.next_u64() as u32, 0] {
            if met.is_empty() {
                entries.scan(from, 1, |entry| met.push(entry));
            }
        }
        met.retain(|entry| view.lives(entry));
        met.sort_by_key(|entry| (entry.hash(), entry.key()));
        if let Some(entry) = met.first() {
            return Ok(bulk(entry.key()));
        }
    }
    let alive = database.entries().find(|entry| view.lives(entry));
    Ok(alive.map_or(Reply::Nil, |entry| bulk(entry.key())))
}

/// KEYS pattern
pub fn keys(view: View<'_>, args: &[Bytes]) -> Answer {
    let found = view
        .database()
        .entries()
        .filter(|entry| view.lives(entry) && glob::matches(&args[0], entry.key()));
    Ok(Reply::Array(found.map(|entry| bulk(entry.key())).collect()))
}

/// FLUSHDB, FLUSHALL [ASYNC | SYNC]
pub fn flush(edit: &mut Edit<'_>, args: &[Bytes], all: bool) -> Answer {
    let is_mode = |arg: &Bytes| is(arg, "async") || is(arg, "sync");
    if args.len() > 1 || !args.iter().all(is_mode) {
        return Err(SYNTAX);
    }
    let number = edit.view().number;
    (0..DATABASES)
        .filter(|other| all || *other == number)
        .for_each(|number| edit.flush(number));
    Ok(Reply::OK)
}

/// OBJECT ENCODING | REFCOUNT | IDLETIME | FREQ key
pub fn object(view: View<'_>, args: &[Bytes]) -> Answer {
    let known = ["encoding", "refcount", "idletime", "freq"];
    let Some(word) = known.iter().find(|word| is(&args[0], word)) else {
        let word = String::from_utf8_lossy(&args[0]);
        let text = format!(
            "ERR unknown subcommand '{word}'. Try OBJECT ENCODING, REFCOUNT, IDLETIME, FREQ."
        );
        return Err(Reply::Error(text.into()));
    };
    let [_, key] = args else {
        let name = format!("object|{word}");
        return Err(super::super::command::wrong_arity(&name));
    };
    let Some(entry) = view.entry(key) else {
        return Ok(Reply::Nil);
    };
    match *word {
        "encoding" => Ok(bulk(encoding(entry).as_bytes())),
        "refcount" => Ok(Reply::Integer(1)),
        "idletime" => Err(Reply::error(
            "ERR idle time is not tracked: reads leave no trace in replicated state",
        )),
        _ => Err(Reply::error(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

/// What Redis, as it comes, would call the form of such a value; clients look at it to see what is small.
fn encoding(entry: &Entry) -> &'static str {
    const SMALL: usize = 128;
    const SMALL_BYTES: usize = 64;
    const INTEGERS: usize = 512;
    const EMBEDDED_BYTES: usize = 44;
    let is_short = |bytes: &[u8]| bytes.len() <= SMALL_BYTES;
    match entry.value() {
        None if parse_integer(entry.text()).is_some() => "int",
        None if entry.text().len() <= EMBEDDED_BYTES => "embstr",
        None => "raw",
        Some(Value::List(list)) if list.len() <= SMALL && list.bytes() <= 8192 => "listpack",
        Some(Value::List(_)) => "quicklist",
        Some(Value::Hash(fields)) => {
            let is_small = |fields: &super::super::value::Fields| {
                fields
                    .iter()
                    .all(|f| is_short(f.name()) && is_short(f.value()))
            };
            match fields.len() <= SMALL && is_small(fields) {
                true => "listpack",
                false => "hashtable",
            }
        }
        Some(Value::Set(set))
            if set.len() <= INTEGERS && set.iter().all(|m| parse_integer(m).is_some()) =>
        {
            "intset"
        }
        Some(Value::Set(set)) if set.len() <= SMALL && set.iter().all(is_short) => "listpack",
        Some(Value::Set(_)) => "hashtable",
        Some(Value::Sorted(sorted)) => {
            match sorted.len() <= SMALL && sorted.iter().all(|m| is_short(m.name())) {
                true => "listpack",
                false => "skiplist",
            }
        }
    }
}
