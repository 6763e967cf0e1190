//! Random commands against naive models: one map of plain collections, every answer compared.

mod rig;

use base::Rng;
use rig::{apply, command, stamp};
use std::collections::{BTreeMap, BTreeSet};
use storage::cache::{Cache, Reply, double_text};

#[derive(Clone, PartialEq, Debug)]
enum Naive {
    String(String),
    List(Vec<String>),
    Hash(BTreeMap<String, String>),
    Set(BTreeSet<String>),
    Sorted(BTreeMap<String, f64>),
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Naive>,
    ends_ms: BTreeMap<String, i64>,
    now_ms: i64,
}

fn shown(number: f64) -> String {
    double_text(number, |text| String::from_utf8_lossy(text).into_owned())
}

/// An answer as text; members without order are sorted.
fn show(reply: &Reply) -> String {
    let join = |parts: Vec<String>| format!("[{}]", parts.join(" "));
    let all = |replies: &[Reply]| replies.iter().map(show).collect::<Vec<_>>();
    let pairs = |pairs: &[(Reply, Reply)]| {
        let shown = pairs
            .iter()
            .map(|(a, b)| format!("{}={}", show(a), show(b)));
        shown.collect::<Vec<_>>()
    };
    let sorted = |mut parts: Vec<String>| {
        parts.sort();
        join(parts)
    };
    match reply {
        Reply::Nil => "nil".into(),
        Reply::Status(text) => text.to_string(),
        Reply::Error(text) => text.split(' ').next().expect("a code").into(),
        Reply::Integer(value) => value.to_string(),
        Reply::Double(value) => shown(*value),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(replies) => join(all(replies)),
        Reply::Pairs(entries) => join(pairs(entries)),
        Reply::Set(replies) => sorted(all(replies)),
        Reply::Map(entries) => sorted(pairs(entries)),
        other => panic!("not modelled: {other:?}"),
    }
}

const WRONG: &str = "WRONGTYPE";

macro_rules! of {
    ($model:expr, $key:expr, $kind:ident) => {
        match $model.keys.get($key) {
            Some(Naive::$kind(held)) => Some(held.clone()),
            Some(_) => return WRONG.into(),
            None => None,
        }
    };
}

impl Model {
    fn put(&mut self, key: &str, value: Naive) {
        let is_empty = match &value {
            Naive::String(_) => false,
            Naive::List(list) => list.is_empty(),
            Naive::Hash(hash) => hash.is_empty(),
            Naive::Set(set) => set.is_empty(),
            Naive::Sorted(sorted) => sorted.is_empty(),
        };
        if is_empty {
            self.remove(key);
        } else {
            self.keys.insert(key.into(), value);
        }
    }

    fn remove(&mut self, key: &str) -> Option<Naive> {
        self.ends_ms.remove(key);
        self.keys.remove(key)
    }

    fn to(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        let over: Vec<String> = self
            .ends_ms
            .iter()
            .filter(|(_, ends_ms)| **ends_ms <= now_ms)
            .map(|(key, _)| key.clone())
            .collect();
        over.iter().for_each(|key| drop(self.remove(key)));
    }

    fn ladder(sorted: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
        let mut all: Vec<_> = sorted.iter().map(|(n, s)| (n.clone(), *s)).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (key, args) = (words[1], &words[2..]);
        let number = |at: usize| args[at].parse::<i64>().expect("a number");
        let flag = |is_so: bool| i64::from(is_so).to_string();
        match words[0] {
            "SET" => {
                self.remove(key);
                self.put(key, Naive::String(args[0].into()));
                "OK".into()
            }
            "GET" => of!(self, key, String).unwrap_or("nil".into()),
            "APPEND" => {
                let new = of!(self, key, String).unwrap_or_default() + args[0];
                self.put(key, Naive::String(new.clone()));
                new.len().to_string()
            }
            "INCRBY" => {
                let old = of!(self, key, String).unwrap_or("0".into());
                let parsed = old.parse::<i64>().ok();
                let Some(parsed) = parsed.filter(|n| n.to_string() == old) else {
                    return "ERR".into();
                };
                let new = (parsed + number(0)).to_string();
                self.put(key, Naive::String(new.clone()));
                new
            }
            "DEL" => flag(self.remove(key).is_some()),
            "PEXPIRE" => {
                if self.keys.contains_key(key) {
                    self.ends_ms.insert(key.into(), self.now_ms + number(0));
                }
                let is_there = self.keys.contains_key(key);
                self.to(self.now_ms);
                flag(is_there)
            }
            "PTTL" => match (self.keys.contains_key(key), self.ends_ms.get(key)) {
                (false, _) => "-2".into(),
                (true, None) => "-1".into(),
                (true, Some(ends_ms)) => (ends_ms - self.now_ms).to_string(),
            },
            "RENAME" => {
                let ends_ms = self.ends_ms.get(key).copied();
                let Some(value) = self.keys.get(key).cloned() else {
                    return "ERR".into();
                };
                self.remove(key);
                self.remove(args[0]);
                self.put(args[0], value);
                self.ends_ms
                    .extend(ends_ms.map(|ends_ms| (args[0].to_string(), ends_ms)));
                "OK".into()
            }
            "COPY" => {
                let Some(value) = self.keys.get(key).cloned().filter(|_| key != args[0]) else {
                    return if key == args[0] { "ERR" } else { "0" }.into();
                };
                let ends_ms = self.ends_ms.get(key).copied();
                self.remove(args[0]);
                self.put(args[0], value);
                self.ends_ms
                    .extend(ends_ms.map(|ends_ms| (args[0].to_string(), ends_ms)));
                "1".into()
            }
            "LPUSH" | "RPUSH" => {
                let mut list = of!(self, key, List).unwrap_or_default();
                let at = if words[0] == "LPUSH" { 0 } else { list.len() };
                list.insert(at, args[0].into());
                let length = list.len();
                self.put(key, Naive::List(list));
                length.to_string()
            }
            "LPOP" | "RPOP" => {
                let Some(mut list) = of!(self, key, List) else {
                    return "nil".into();
                };
                let at = if words[0] == "LPOP" {
                    0
                } else {
                    list.len() - 1
                };
                let popped = list.remove(at);
                self.put(key, Naive::List(list));
                popped
            }
            "LRANGE" => {
                let list = of!(self, key, List).unwrap_or_default();
                format!("[{}]", list.join(" "))
            }
            "LREM" => {
                let mut list = of!(self, key, List).unwrap_or_default();
                let before = list.len();
                list.retain(|element| element != args[1]);
                let removed = before - list.len();
                self.put(key, Naive::List(list));
                removed.to_string()
            }
            "LTRIM" => {
                let list = of!(self, key, List).unwrap_or_default();
                let (start, stop) = (number(0) as usize, number(1) as usize);
                let kept = list
                    .into_iter()
                    .skip(start)
                    .take((stop + 1).saturating_sub(start));
                let kept = kept.collect();
                if self.keys.contains_key(key) {
                    self.put(key, Naive::List(kept));
                }
                "OK".into()
            }
            "HSET" => {
                let mut hash = of!(self, key, Hash).unwrap_or_default();
                let is_new = hash.insert(args[0].into(), args[1].into()).is_none();
                self.put(key, Naive::Hash(hash));
                flag(is_new)
            }
            "HDEL" => {
                let mut hash = of!(self, key, Hash).unwrap_or_default();
                let was_there = hash.remove(args[0]).is_some();
                if was_there {
                    self.put(key, Naive::Hash(hash));
                }
                flag(was_there)
            }
            "HGET" => {
                let hash = of!(self, key, Hash).unwrap_or_default();
                hash.get(args[0]).cloned().unwrap_or("nil".into())
            }
            "HGETALL" => {
                let hash = of!(self, key, Hash).unwrap_or_default();
                let mut pairs: Vec<_> = hash.iter().map(|(f, v)| format!("{f}={v}")).collect();
                pairs.sort();
                format!("[{}]", pairs.join(" "))
            }
            "SADD" => {
                let mut set = of!(self, key, Set).unwrap_or_default();
                let is_new = set.insert(args[0].into());
                self.put(key, Naive::Set(set));
                flag(is_new)
            }
            "SREM" => {
                let mut set = of!(self, key, Set).unwrap_or_default();
                let was_there = set.remove(args[0]);
                if was_there {
                    self.put(key, Naive::Set(set));
                }
                flag(was_there)
            }
            "SMEMBERS" => {
                let set = of!(self, key, Set).unwrap_or_default();
                format!("[{}]", set.into_iter().collect::<Vec<_>>().join(" "))
            }
            "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" => {
                let one = of!(self, args[0], Set).unwrap_or_default();
                let other = of!(self, args[1], Set).unwrap_or_default();
                let result: BTreeSet<String> = match words[0] {
                    "SINTERSTORE" => &one & &other,
                    "SUNIONSTORE" => &one | &other,
                    _ => &one - &other,
                };
                let length = result.len();
                self.remove(key);
                self.put(key, Naive::Set(result));
                length.to_string()
            }
            "ZADD" => {
                let mut sorted = of!(self, key, Sorted).unwrap_or_default();
                let score = args[0].parse().expect("a score");
                let is_new = sorted.insert(args[1].into(), score).is_none();
                self.put(key, Naive::Sorted(sorted));
                flag(is_new)
            }
            "ZREM" => {
                let mut sorted = of!(self, key, Sorted).unwrap_or_default();
                let was_there = sorted.remove(args[0]).is_some();
                if was_there {
                    self.put(key, Naive::Sorted(sorted));
                }
                flag(was_there)
            }
            "ZRANGE" => {
                let sorted = of!(self, key, Sorted).unwrap_or_default();
                let all = Self::ladder(&sorted);
                let pairs: Vec<_> = all
                    .iter()
                    .map(|(n, s)| format!("{n}={}", shown(*s)))
                    .collect();
                format!("[{}]", pairs.join(" "))
            }
            "ZREVRANK" => {
                let sorted = of!(self, key, Sorted).unwrap_or_default();
                let mut down = Self::ladder(&sorted).into_iter().rev();
                let rank = down.position(|(name, _)| name == args[0]);
                rank.map_or("nil".into(), |rank| rank.to_string())
            }
            "ZRANGEBYSCORE" => {
                let sorted = of!(self, key, Sorted).unwrap_or_default();
                let (low, high) = (number(0) as f64, number(1) as f64);
                let within = Self::ladder(&sorted).into_iter();
                let within = within.filter(|(_, score)| (low..=high).contains(score));
                let names: Vec<String> = within.map(|(name, _)| name).collect();
                format!("[{}]", names.join(" "))
            }
            "ZREMRANGEBYRANK" => {
                let sorted = of!(self, key, Sorted).unwrap_or_default();
                let (start, stop) = (number(0) as usize, number(1) as usize);
                let all = Self::ladder(&sorted);
                let before = all.len();
                let kept = all.into_iter().enumerate();
                let kept = kept.filter(|(rank, _)| !(start..=stop).contains(rank));
                let kept: BTreeMap<_, _> = kept.map(|(_, member)| member).collect();
                let removed = before - kept.len();
                if removed > 0 {
                    self.put(key, Naive::Sorted(kept));
                }
                removed.to_string()
            }
            _ => panic!("not modelled: {line}"),
        }
    }
}

/// A command on keys that mostly hold its own kind.
fn line(rng: &mut Rng) -> String {
    let kinds: [(&str, &[&str]); 5] = [
        ("s", &["SET K E", "GET K", "APPEND K E", "INCRBY K N"]),
        (
            "l",
            &[
                "LPUSH K E",
                "RPUSH K E",
                "RPUSH K E",
                "LPOP K",
                "RPOP K",
                "LRANGE K 0 -1",
                "LREM K 0 E",
                "LTRIM K N M",
            ],
        ),
        (
            "h",
            &[
                "HSET K E V",
                "HSET K E V",
                "HDEL K E",
                "HGET K E",
                "HGETALL K",
            ],
        ),
        (
            "t",
            &[
                "SADD K E",
                "SADD K E",
                "SREM K E",
                "SMEMBERS K",
                "SINTERSTORE K K K",
                "SUNIONSTORE K K K",
                "SDIFFSTORE K K K",
            ],
        ),
        (
            "z",
            &[
                "ZADD K N E",
                "ZADD K N E",
                "ZREM K E",
                "ZRANGE K 0 -1 WITHSCORES",
                "ZREVRANK K E",
                "ZRANGEBYSCORE K N M",
                "ZREMRANGEBYRANK K 40 M",
            ],
        ),
    ];
    let any: &[&str] = &[
        "DEL K",
        "PEXPIRE K T",
        "PTTL K",
        "RENAME K K",
        "COPY K K REPLACE",
    ];
    let (kind, own) = kinds[rng.range(0, 5) as usize];
    let of = if rng.one_in(6) { any } else { own };
    let template = of[rng.range(0, of.len() as u64) as usize];
    let words = template.split(' ').map(|word| match word {
        "K" if rng.one_in(60) => format!("{}0", kinds[rng.range(0, 5) as usize].0),
        "K" => format!("{kind}{}", rng.range(0, 4)),
        "E" => match rng.range(0, 12) {
            0 => format!(
                "an-element-that-is-long-enough-to-be-kept-elsewhere-{}",
                rng.range(0, 3)
            ),
            _ => rng.range(0, 60).to_string(),
        },
        "V" => rng
            .range(0, 1000)
            .to_string()
            .repeat(1 + rng.range(0, 9) as usize),
        "N" => rng.range(0, 20).to_string(),
        "M" => (20 + rng.range(0, 80)).to_string(),
        "T" => rng.range(1, 400).to_string(),
        word => word.into(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn answers_are_those_of_naive_collections() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let (mut cache, mut model) = (Cache::new(), Model::default());
        for step in 0..12_000 {
            let now_ms = 1000 + step;
            model.to(now_ms);
            let line = line(&mut rng);
            let have = apply(&mut cache, stamp(now_ms, seed), 0, command(&line));
            let have = show(&have);
            let want = model.run(&line);
            assert_eq!(have, want, "seed {seed}, step {step}: {line}");
        }
        // What a leader would propose at last empties both of what ended.
        let now_ms = 1_000_000;
        model.to(now_ms);
        let ended = cache.expired(now_ms, usize::MAX);
        let mut out = Vec::new();
        let unit = rig::unit(0, storage::cache::Body::Expire(ended));
        cache
            .apply_unit(stamp(now_ms, 0), unit, &mut out)
            .expect("known");
        assert_eq!(cache.key_count(0), model.keys.len());
        assert_eq!(cache.next_expiry_ms(), None);
    }
}
