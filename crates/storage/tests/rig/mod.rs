//! Random commands of the whole table, likely enough to make sense.
#![allow(dead_code)] // each test file uses its part

use base::{Rng, Stamp};
use bytes::Bytes;
use storage::cache::{Body, Cache, Command, KeyRange, Output, Reply, Spec, Unit, spec, specs};

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A command out of a line.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a name");
    Command {
        id: spec(name.as_bytes()).expect(name).id,
        args: words.map(bytes).collect(),
    }
}

pub fn unit(database: u32, body: Body) -> Unit {
    Unit {
        origin: base::Origin::default(),
        database,
        body,
    }
}

pub fn stamp(time_ms: i64, seed: u64) -> Stamp {
    Stamp { time_ms, seed }
}

/// Applies one command; its reply.
pub fn apply(cache: &mut Cache, stamp: Stamp, database: u32, command: Command) -> Reply {
    let mut out = Vec::new();
    let unit = unit(database, Body::One(command));
    cache.apply_unit(stamp, unit, &mut out).expect("known");
    match out.pop() {
        Some(Output::Reply { reply, .. }) => reply,
        other => panic!("the last output is the reply, not {other:?}"),
    }
}

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.range(0, words.len() as u64) as usize]
}

const WORDS: &[&str] = &[
    "nx",
    "xx",
    "gt",
    "lt",
    "ch",
    "incr",
    "get",
    "ex",
    "px",
    "exat",
    "keepttl",
    "withscores",
    "limit",
    "byscore",
    "bylex",
    "rev",
    "[a",
    "(b",
    "+",
    "-",
    "-inf",
    "+inf",
    "(1",
    "weights",
    "aggregate",
    "sum",
    "min",
    "max",
    "count",
    "left",
    "right",
    "before",
    "after",
    "bit",
    "and",
    "or",
    "not",
    "len",
    "idx",
    "rank",
    "alpha",
    "by",
    "desc",
    "store",
    "replace",
    "db",
    "match",
    "encoding",
    "async",
    "nosort",
    "k*_*",
    "*",
    "#",
    "9223372036854775807",
    "-9223372036854775808",
    "nan",
    "",
    "99999999999999999999",
    "\u{0}\u{1}",
];
const ELEMENTS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "e",
    "1",
    "2",
    "3",
    "-1",
    "2.5",
    "an element that is not short at all",
];
const NUMBERS: &[&str] = &["0", "1", "2", "-1", "3", "-3", "7", "1.5", "100", "1000"];

/// Keys by what they usually hold.
pub fn key(rng: &mut Rng, spec: &Spec) -> Bytes {
    let own = match spec.name {
        name if rng.one_in(12) => pick(rng, &["s", "l", "h", "t", "z"])
            .chars()
            .next()
            .filter(|_| !name.is_empty()),
        "lcs" => Some('s'),
        name if name.starts_with("bz") => Some('z'),
        name if name.starts_with("bl") || name.starts_with("br") => Some('l'),
        name if name.contains("push") || name.contains("pop") && name.starts_with('r') => Some('l'),
        name if name.starts_with(['l', 'h', 'z']) => name.chars().next(),
        name if spec.id >= command("SADD").id && name.starts_with('s') => Some('t'),
        _ if spec.id <= command("BITOP").id => Some('s'),
        _ => None,
    };
    let kind = own.unwrap_or_else(|| {
        pick(rng, &["s", "l", "h", "t", "z"])
            .chars()
            .next()
            .expect("one")
    });
    bytes(&format!("k{kind}_{}", rng.range(0, 6)))
}

/// A command with arguments that may or may not fit.
pub fn random_command(rng: &mut Rng) -> Command {
    let spec = &specs()[rng.range(0, specs().len() as u64) as usize];
    random_of(rng, spec)
}

/// The same for one row of the table.
pub fn random_of(rng: &mut Rng, spec: &Spec) -> Command {
    let least = u64::from(spec.arity.unsigned_abs()) - 1;
    let more = if spec.arity < 0 { rng.range(0, 5) } else { 0 };
    let wrong = rng.one_in(60);
    let count = if wrong { rng.range(0, 4) } else { least + more } as usize;
    let mut args: Vec<Bytes> = (0..count)
        .map(|_| match rng.range(0, 5) {
            0 => bytes(pick(rng, WORDS)),
            1 | 2 => bytes(pick(rng, NUMBERS)),
            _ => bytes(pick(rng, ELEMENTS)),
        })
        .collect();
    let places: Vec<usize> = match spec.keys {
        KeyRange::None => Vec::new(),
        KeyRange::Range { first, last, step } => {
            let end = match usize::try_from(last) {
                Ok(last) => last + 1,
                Err(_) => (count + 1).saturating_sub(usize::from(last.unsigned_abs())),
            };
            (usize::from(first)..end)
                .step_by(usize::from(step))
                .collect()
        }
        KeyRange::Counted { at, extra_first } => {
            let at = usize::from(at);
            let keys = rng.range(1, 4) as usize;
            if at < count && !rng.one_in(20) {
                args[at] = bytes(&keys.to_string());
            }
            let extra = extra_first.then_some(0);
            extra.into_iter().chain(at + 1..at + 1 + keys).collect()
        }
    };
    for at in places {
        if at < count && !rng.one_in(40) {
            args[at] = key(rng, spec);
        }
    }
    sensible(rng, spec, &mut args);
    if spec.is_blocking && count > 0 && !rng.one_in(10) {
        let at = if spec.name.contains("mpop") {
            0
        } else {
            count - 1
        };
        args[at] = bytes("0.1");
    }
    Command { id: spec.id, args }
}

/// Options that many commands would hardly ever get right by chance.
fn sensible(rng: &mut Rng, spec: &Spec, args: &mut Vec<Bytes>) {
    if args.is_empty() || rng.one_in(4) {
        return;
    }
    let is_rare = rng.one_in(5);
    let mut rest = |args: &mut Vec<Bytes>, from: usize, line: &str| {
        args.truncate(from);
        for word in line.split_whitespace() {
            args.push(match word {
                "E" => bytes(pick(rng, ELEMENTS)),
                "N" => bytes(pick(rng, NUMBERS)),
                "LR" => bytes(pick(rng, &["left", "right"])),
                word => bytes(word),
            });
        }
    };
    match spec.name {
        "zadd" => rest(args, 1, "N E N E N E"),
        "hset" | "hmset" => rest(args, 1, "E N E E"),
        "lmove" | "blmove" => rest(args, 2, if spec.is_blocking { "LR LR 0" } else { "LR LR" }),
        "linsert" => rest(args, 1, "before E E"),
        "setbit" => rest(args, 1, "N 1"),
        "setrange" => rest(args, 1, "N E"),
        "zrangestore" => rest(args, 2, "N N byscore"),
        "zrangebylex" | "zremrangebylex" | "zlexcount" => rest(args, 1, "[a (c"),
        "zrevrangebylex" => rest(args, 1, "+ (b limit 0 N"),
        "bitop" if args.len() > 1 => args[0] = bytes("xor"),
        "copy" => rest(args, 2, "replace"),
        "expire" | "pexpire" => rest(args, 1, "N"),
        "expireat" => rest(args, 1, "10"),
        "pexpireat" => rest(args, 1, "12000"),
        // Rarely, or little would ever be there.
        "flushall" | "flushdb" | "swapdb" if !is_rare => rest(args, 1, "never"),
        _ => {}
    }
}
