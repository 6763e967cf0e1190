//! The closed set of commands: name, number in the log, arity, access, and where the keys stand.

use super::commands::expiry::Clock;
use super::commands::sets::Algebra;
use super::commands::sorted_range::By;
use super::commands::{
    bits, expiry, hashes, keys, lcs, lists, scan, sets, sort, sorted, sorted_algebra, sorted_range,
    strings,
};
use super::context::{Answer, Edit, View};
use super::value::End;
use super::{Reply, number};
use bytes::Bytes;

/// What a command does to the keys that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Changes nothing; `Cache::read` answers it.
    Read,
    /// May change something; goes through the log.
    Write,
}

/// Where keys stand among the arguments behind the name, as Redis' COMMAND tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRange {
    /// No key: the command is about a whole database.
    None,
    /// From argument `first` (0 is the one behind the name) every `step` arguments; `last` counts from
    /// the first argument, or from the end when negative (−1 is the last argument).
    Range {
        /// The first key.
        first: u8,
        /// The last key.
        last: i8,
        /// Distance between keys.
        step: u8,
    },
    /// Argument `at` says how many keys follow it; `extra_first` is a further key before (the destination
    /// of a store), which is argument 0.
    Counted {
        /// Where the number of keys stands.
        at: u8,
        /// True when argument 0 is a key too.
        extra_first: bool,
    },
}

/// What is known of a command.
#[derive(Debug)]
pub struct Spec {
    /// Its number.
    pub id: CommandId,
    /// In lower case.
    pub name: &'static str,
    /// Arguments with the name: exactly so many, or at least so many when negative.
    pub arity: i8,
    /// What it does.
    pub access: Access,
    /// Where its keys stand.
    pub keys: KeyRange,
    /// It waits when there is nothing to take. The machine only tries once ([`super::Reply::NilArray`] or
    /// `Nil` says that there was nothing); waiting is the front end's.
    pub is_blocking: bool,
    /// It makes room, or will: it is taken while the disk is nearly full.
    pub frees: bool,
    /// What it means.
    pub(super) run: Run,
}

/// The function behind a command. Arity was checked before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    Read(fn(View<'_>, &[Bytes]) -> Answer),
    Write(fn(&mut Edit<'_>, &[Bytes]) -> Answer),
}

/// One command: its number and the arguments behind its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which.
    pub id: CommandId,
    /// The arguments, without the name.
    pub args: Vec<Bytes>,
}

macro_rules! commands {
    ($($id:ident = $number:literal, $name:literal, $arity:literal, $access:ident, $keys:expr, $run:expr $(, $flag:ident)*;)*) => {
        /// Every command that the machine knows. Numbers stand in the log and are never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        #[allow(missing_docs)] // each is named as Redis names it
        pub enum CommandId { $($id = $number,)* }

        static SPECS: &[Spec] = &[
            $(Spec {
                id: CommandId::$id,
                name: $name,
                arity: $arity,
                access: Access::$access,
                keys: $keys,
                is_blocking: commands!(@has blocking $($flag)*),
                frees: commands!(@has frees $($flag)*),
                run: Run::$access($run),
            },)*
        ];

        /// Numbers ascend from 1 without a gap, so a number leads to its row.
        const _: () = {
            let numbers = [$($number,)*];
            let mut at = 0;
            while at < numbers.len() {
                assert!(numbers[at] == at + 1);
                at += 1;
            }
        };
    };
    (@has $flag:ident) => { false };
    (@has blocking blocking $($rest:ident)*) => { true };
    (@has frees frees $($rest:ident)*) => { true };
    (@has $flag:ident $other:ident $($rest:ident)*) => { commands!(@has $flag $($rest)*) };
}

const NONE: KeyRange = KeyRange::None;
const ONE: KeyRange = keys_at(0, 0, 1);
const TWO: KeyRange = keys_at(0, 1, 1);
const ALL: KeyRange = keys_at(0, -1, 1);
const PAIRS: KeyRange = keys_at(0, -1, 2);

const fn keys_at(first: u8, last: i8, step: u8) -> KeyRange {
    KeyRange::Range { first, last, step }
}

const fn counted(at: u8, extra_first: bool) -> KeyRange {
    KeyRange::Counted { at, extra_first }
}

commands! {
    Get = 1, "get", 2, Read, ONE, strings::get;
    Set = 2, "set", -3, Write, ONE, strings::set;
    DbSize = 3, "dbsize", 1, Read, NONE, keys::dbsize;
    SetNx = 4, "setnx", 3, Write, ONE, strings::setnx;
    SetEx = 5, "setex", 4, Write, ONE, |e, a| strings::setex(e, a, "setex", Clock::SECONDS);
    PSetEx = 6, "psetex", 4, Write, ONE, |e, a| strings::setex(e, a, "psetex", Clock::MILLISECONDS);
    GetSet = 7, "getset", 3, Write, ONE, strings::getset;
    GetDel = 8, "getdel", 2, Write, ONE, strings::getdel, frees;
    GetEx = 9, "getex", -2, Write, ONE, strings::getex;
    MGet = 10, "mget", -2, Read, ALL, strings::mget;
    MSet = 11, "mset", -3, Write, PAIRS, strings::mset;
    MSetNx = 12, "msetnx", -3, Write, PAIRS, strings::msetnx;
    Append = 13, "append", 3, Write, ONE, strings::append;
    StrLen = 14, "strlen", 2, Read, ONE, strings::strlen;
    GetRange = 15, "getrange", 4, Read, ONE, strings::getrange;
    SetRange = 16, "setrange", 4, Write, ONE, strings::setrange;
    SubStr = 17, "substr", 4, Read, ONE, strings::getrange;
    Incr = 18, "incr", 2, Write, ONE, |e, a| strings::add(e, &a[0], 1);
    Decr = 19, "decr", 2, Write, ONE, |e, a| strings::add(e, &a[0], -1);
    IncrBy = 20, "incrby", 3, Write, ONE, strings::incrby;
    DecrBy = 21, "decrby", 3, Write, ONE, strings::decrby;
    IncrByFloat = 22, "incrbyfloat", 3, Write, ONE, strings::incrbyfloat;
    SetBit = 23, "setbit", 4, Write, ONE, bits::setbit;
    GetBit = 24, "getbit", 3, Read, ONE, bits::getbit;
    BitCount = 25, "bitcount", -2, Read, ONE, bits::bitcount;
    BitPos = 26, "bitpos", -3, Read, ONE, bits::bitpos;
    BitOp = 27, "bitop", -4, Write, keys_at(1, -1, 1), bits::bitop;
    Lcs = 28, "lcs", -3, Read, TWO, lcs::lcs;
    Del = 29, "del", -2, Write, ALL, keys::del, frees;
    Unlink = 30, "unlink", -2, Write, ALL, keys::del, frees;
    Exists = 31, "exists", -2, Read, ALL, keys::exists;
    Type = 32, "type", 2, Read, ONE, keys::kind;
    Expire = 33, "expire", -3, Write, ONE, |e, a| expiry::expire(e, a, "expire", Clock::SECONDS), frees;
    PExpire = 34, "pexpire", -3, Write, ONE, |e, a| expiry::expire(e, a, "pexpire", Clock::MILLISECONDS), frees;
    ExpireAt = 35, "expireat", -3, Write, ONE, |e, a| expiry::expire(e, a, "expireat", Clock::SECONDS_AT), frees;
    PExpireAt = 36, "pexpireat", -3, Write, ONE, |e, a| expiry::expire(e, a, "pexpireat", Clock::MILLISECONDS_AT), frees;
    Ttl = 37, "ttl", 2, Read, ONE, |v, a| expiry::ending(v, a, Clock::SECONDS);
    PTtl = 38, "pttl", 2, Read, ONE, |v, a| expiry::ending(v, a, Clock::MILLISECONDS);
    ExpireTime = 39, "expiretime", 2, Read, ONE, |v, a| expiry::ending(v, a, Clock::SECONDS_AT);
    PExpireTime = 40, "pexpiretime", 2, Read, ONE, |v, a| expiry::ending(v, a, Clock::MILLISECONDS_AT);
    Persist = 41, "persist", 2, Write, ONE, expiry::persist, frees;
    Rename = 42, "rename", 3, Write, TWO, |e, a| keys::rename(e, a, false);
    RenameNx = 43, "renamenx", 3, Write, TWO, |e, a| keys::rename(e, a, true);
    Copy = 44, "copy", -3, Write, TWO, keys::copy;
    Touch = 45, "touch", -2, Read, ALL, keys::exists;
    RandomKey = 46, "randomkey", 1, Read, NONE, keys::randomkey;
    Keys = 47, "keys", 2, Read, NONE, keys::keys;
    Scan = 48, "scan", -2, Read, NONE, scan::scan;
    FlushDb = 49, "flushdb", -1, Write, NONE, |e, a| keys::flush(e, a, false), frees;
    FlushAll = 50, "flushall", -1, Write, NONE, |e, a| keys::flush(e, a, true), frees;
    Object = 51, "object", -2, Read, keys_at(1, 1, 1), keys::object;
    Sort = 52, "sort", -2, Write, ONE, sort::sort;
    SortRo = 53, "sort_ro", -2, Read, ONE, sort::sort_ro;
    Move = 54, "move", 3, Write, ONE, keys::move_key;
    SwapDb = 55, "swapdb", 3, Write, NONE, keys::swapdb, frees;
    LPush = 56, "lpush", -3, Write, ONE, |e, a| lists::push(e, a, End::Left, false);
    RPush = 57, "rpush", -3, Write, ONE, |e, a| lists::push(e, a, End::Right, false);
    LPushX = 58, "lpushx", -3, Write, ONE, |e, a| lists::push(e, a, End::Left, true);
    RPushX = 59, "rpushx", -3, Write, ONE, |e, a| lists::push(e, a, End::Right, true);
    LPop = 60, "lpop", -2, Write, ONE, |e, a| lists::pop(e, a, End::Left), frees;
    RPop = 61, "rpop", -2, Write, ONE, |e, a| lists::pop(e, a, End::Right), frees;
    LLen = 62, "llen", 2, Read, ONE, lists::llen;
    LRange = 63, "lrange", 4, Read, ONE, lists::lrange;
    LIndex = 64, "lindex", 3, Read, ONE, lists::lindex;
    LSet = 65, "lset", 4, Write, ONE, lists::lset;
    LInsert = 66, "linsert", 5, Write, ONE, lists::linsert;
    LRem = 67, "lrem", 4, Write, ONE, lists::lrem, frees;
    LTrim = 68, "ltrim", 4, Write, ONE, lists::ltrim, frees;
    LPos = 69, "lpos", -3, Read, ONE, lists::lpos;
    LMove = 70, "lmove", 5, Write, TWO, lists::lmove;
    RPopLPush = 71, "rpoplpush", 3, Write, TWO, lists::rpoplpush;
    LMPop = 72, "lmpop", -4, Write, counted(0, false), lists::lmpop, frees;
    BLPop = 73, "blpop", -3, Write, keys_at(0, -2, 1), |e, a| lists::blocking_pop(e, a, End::Left), blocking, frees;
    BRPop = 74, "brpop", -3, Write, keys_at(0, -2, 1), |e, a| lists::blocking_pop(e, a, End::Right), blocking, frees;
    BLMove = 75, "blmove", 6, Write, TWO, lists::lmove, blocking;
    BRPopLPush = 76, "brpoplpush", 4, Write, TWO, lists::rpoplpush, blocking;
    BLMPop = 77, "blmpop", -5, Write, counted(1, false), lists::blmpop, blocking, frees;
    HSet = 78, "hset", -4, Write, ONE, hashes::hset;
    HSetNx = 79, "hsetnx", 4, Write, ONE, hashes::hsetnx;
    HMSet = 80, "hmset", -4, Write, ONE, hashes::hmset;
    HGet = 81, "hget", 3, Read, ONE, hashes::hget;
    HMGet = 82, "hmget", -3, Read, ONE, hashes::hmget;
    HGetAll = 83, "hgetall", 2, Read, ONE, hashes::hgetall;
    HDel = 84, "hdel", -3, Write, ONE, hashes::hdel, frees;
    HExists = 85, "hexists", 3, Read, ONE, hashes::hexists;
    HLen = 86, "hlen", 2, Read, ONE, hashes::hlen;
    HKeys = 87, "hkeys", 2, Read, ONE, hashes::hkeys;
    HVals = 88, "hvals", 2, Read, ONE, hashes::hvals;
    HIncrBy = 89, "hincrby", 4, Write, ONE, hashes::hincrby;
    HIncrByFloat = 90, "hincrbyfloat", 4, Write, ONE, hashes::hincrbyfloat;
    HStrLen = 91, "hstrlen", 3, Read, ONE, hashes::hstrlen;
    HRandField = 92, "hrandfield", -2, Read, ONE, hashes::hrandfield;
    HScan = 93, "hscan", -3, Read, ONE, scan::hscan;
    SAdd = 94, "sadd", -3, Write, ONE, sets::sadd;
    SRem = 95, "srem", -3, Write, ONE, sets::srem, frees;
    SIsMember = 96, "sismember", 3, Read, ONE, sets::sismember;
    SMIsMember = 97, "smismember", -3, Read, ONE, sets::smismember;
    SMembers = 98, "smembers", 2, Read, ONE, sets::smembers;
    SCard = 99, "scard", 2, Read, ONE, sets::scard;
    SPop = 100, "spop", -2, Write, ONE, sets::spop, frees;
    SRandMember = 101, "srandmember", -2, Read, ONE, sets::srandmember;
    SMove = 102, "smove", 4, Write, TWO, sets::smove;
    SInter = 103, "sinter", -2, Read, ALL, |v, a| sets::algebra(v, a, Algebra::Inter);
    SUnion = 104, "sunion", -2, Read, ALL, |v, a| sets::algebra(v, a, Algebra::Union);
    SDiff = 105, "sdiff", -2, Read, ALL, |v, a| sets::algebra(v, a, Algebra::Diff);
    SInterStore = 106, "sinterstore", -3, Write, ALL, |e, a| sets::algebra_store(e, a, Algebra::Inter);
    SUnionStore = 107, "sunionstore", -3, Write, ALL, |e, a| sets::algebra_store(e, a, Algebra::Union);
    SDiffStore = 108, "sdiffstore", -3, Write, ALL, |e, a| sets::algebra_store(e, a, Algebra::Diff);
    SInterCard = 109, "sintercard", -3, Read, counted(0, false), sets::sintercard;
    SScan = 110, "sscan", -3, Read, ONE, scan::sscan;
    ZAdd = 111, "zadd", -4, Write, ONE, sorted::zadd;
    ZRem = 112, "zrem", -3, Write, ONE, sorted::zrem, frees;
    ZScore = 113, "zscore", 3, Read, ONE, sorted::zscore;
    ZMScore = 114, "zmscore", -3, Read, ONE, sorted::zmscore;
    ZIncrBy = 115, "zincrby", 4, Write, ONE, sorted::zincrby;
    ZCard = 116, "zcard", 2, Read, ONE, sorted::zcard;
    ZCount = 117, "zcount", 4, Read, ONE, |v, a| sorted_range::range_count(v, a, By::Score);
    ZLexCount = 118, "zlexcount", 4, Read, ONE, |v, a| sorted_range::range_count(v, a, By::Lex);
    ZRank = 119, "zrank", -3, Read, ONE, |v, a| sorted::zrank(v, a, false, "zrank");
    ZRevRank = 120, "zrevrank", -3, Read, ONE, |v, a| sorted::zrank(v, a, true, "zrevrank");
    ZRange = 121, "zrange", -4, Read, ONE, sorted_range::zrange;
    ZRangeStore = 122, "zrangestore", -5, Write, TWO, sorted_range::zrangestore;
    ZRangeByScore = 123, "zrangebyscore", -4, Read, ONE, |v, a| sorted_range::old_range(v, a, By::Score, false);
    ZRevRangeByScore = 124, "zrevrangebyscore", -4, Read, ONE, |v, a| sorted_range::old_range(v, a, By::Score, true);
    ZRangeByLex = 125, "zrangebylex", -4, Read, ONE, |v, a| sorted_range::old_range(v, a, By::Lex, false);
    ZRevRangeByLex = 126, "zrevrangebylex", -4, Read, ONE, |v, a| sorted_range::old_range(v, a, By::Lex, true);
    ZRevRange = 127, "zrevrange", -4, Read, ONE, |v, a| sorted_range::old_range(v, a, By::Rank, true);
    ZPopMin = 128, "zpopmin", -2, Write, ONE, |e, a| sorted::zpop(e, a, false), frees;
    ZPopMax = 129, "zpopmax", -2, Write, ONE, |e, a| sorted::zpop(e, a, true), frees;
    ZMPop = 130, "zmpop", -4, Write, counted(0, false), sorted::zmpop, frees;
    BZPopMin = 131, "bzpopmin", -3, Write, keys_at(0, -2, 1), |e, a| sorted::blocking_pop(e, a, false), blocking, frees;
    BZPopMax = 132, "bzpopmax", -3, Write, keys_at(0, -2, 1), |e, a| sorted::blocking_pop(e, a, true), blocking, frees;
    BZMPop = 133, "bzmpop", -5, Write, counted(1, false), sorted::bzmpop, blocking, frees;
    ZUnion = 134, "zunion", -3, Read, counted(0, false), |v, a| sorted_algebra::algebra(v, a, Algebra::Union, "zunion");
    ZInter = 135, "zinter", -3, Read, counted(0, false), |v, a| sorted_algebra::algebra(v, a, Algebra::Inter, "zinter");
    ZDiff = 136, "zdiff", -3, Read, counted(0, false), |v, a| sorted_algebra::algebra(v, a, Algebra::Diff, "zdiff");
    ZUnionStore = 137, "zunionstore", -4, Write, counted(1, true), |e, a| sorted_algebra::algebra_store(e, a, Algebra::Union, "zunionstore");
    ZInterStore = 138, "zinterstore", -4, Write, counted(1, true), |e, a| sorted_algebra::algebra_store(e, a, Algebra::Inter, "zinterstore");
    ZDiffStore = 139, "zdiffstore", -4, Write, counted(1, true), |e, a| sorted_algebra::algebra_store(e, a, Algebra::Diff, "zdiffstore");
    ZInterCard = 140, "zintercard", -3, Read, counted(0, false), sorted_algebra::zintercard;
    ZRemRangeByRank = 141, "zremrangebyrank", 4, Write, ONE, |e, a| sorted_range::remove_range(e, a, By::Rank), frees;
    ZRemRangeByScore = 142, "zremrangebyscore", 4, Write, ONE, |e, a| sorted_range::remove_range(e, a, By::Score), frees;
    ZRemRangeByLex = 143, "zremrangebylex", 4, Write, ONE, |e, a| sorted_range::remove_range(e, a, By::Lex), frees;
    ZRandMember = 144, "zrandmember", -2, Read, ONE, sorted::zrandmember;
    ZScan = 145, "zscan", -3, Read, ONE, scan::zscan;
}

/// All commands, in the order of their numbers.
pub fn specs() -> &'static [Spec] {
    SPECS
}

/// Buckets of the names; a power of two well above their number.
const BUCKETS: usize = 1024;

/// Numbers of commands by the hash of their names, displaced linearly; 0 is free.
static NAMES: [u16; BUCKETS] = {
    let mut buckets = [0; BUCKETS];
    let mut at = 0;
    while at < SPECS.len() {
        let mut bucket = bucket_of(SPECS[at].name.as_bytes());
        while buckets[bucket] != 0 {
            bucket = (bucket + 1) % BUCKETS;
        }
        buckets[bucket] = at as u16 + 1;
        at += 1;
    }
    buckets
};

/// FNV-1a of the name in lower case.
const fn bucket_of(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize % BUCKETS
}

/// The command of this name, in any case.
pub fn spec(name: &[u8]) -> Option<&'static Spec> {
    const NAME_BYTES_MAX: usize = 32;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut bucket = bucket_of(name);
    loop {
        let number = NAMES[bucket];
        let spec = &SPECS[usize::from(number.checked_sub(1)?)];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        bucket = (bucket + 1) % BUCKETS;
    }
}

/// The refusal of a wrong number of arguments.
pub(super) fn wrong_arity(name: &str) -> Reply {
    Reply::Error(format!("ERR wrong number of arguments for '{name}' command").into())
}

impl CommandId {
    /// The command of a number in the log.
    pub fn from_number(number: u16) -> Option<Self> {
        let at = usize::from(number.checked_sub(1)?);
        SPECS.get(at).map(|spec| spec.id)
    }

    /// What is known of it.
    #[inline]
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize - 1]
    }
}

impl Command {
    /// Refuses a wrong number of arguments.
    #[inline]
    pub fn check(&self) -> Result<(), Reply> {
        let spec = self.id.spec();
        let (count, arity) = (self.args.len() + 1, usize::from(spec.arity.unsigned_abs()));
        match count == arity || spec.arity < 0 && count > arity {
            true => Ok(()),
            false => Err(wrong_arity(spec.name)),
        }
    }

    /// The keys that it names, in order. A command that is refused for its arguments may yield fewer.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let count = self.args.len();
        let (extra, first, end, step) = match self.id.spec().keys {
            KeyRange::None => (None, 0, 0, 1),
            KeyRange::Range { first, last, step } => {
                let end = match usize::try_from(last) {
                    Ok(last) => last + 1,
                    Err(_) => (count + 1).saturating_sub(usize::from(last.unsigned_abs())),
                };
                (None, usize::from(first), end, usize::from(step))
            }
            KeyRange::Counted { at, extra_first } => {
                let at = usize::from(at);
                let keys = self.args.get(at).and_then(|arg| number::parse_integer(arg));
                let keys = keys
                    .and_then(|keys| usize::try_from(keys).ok())
                    .unwrap_or(0);
                let end = keys.saturating_add(at + 1);
                (extra_first.then_some(0), at + 1, end, 1)
            }
        };
        let ranged = (first..end.min(count)).step_by(step);
        extra
            .into_iter()
            .chain(ranged)
            .chain(self.sort_destination())
            .filter_map(|at| self.args.get(at))
    }

    /// SORT's destination, the one key that stands behind an option. Like Redis, the last STORE counts.
    fn sort_destination(&self) -> Option<usize> {
        if self.id != CommandId::Sort {
            return None;
        }
        let mut found = None;
        let mut at = 1;
        while at < self.args.len() {
            let word = &self.args[at];
            at += match word {
                word if word.eq_ignore_ascii_case(b"limit") => 3,
                word if word.eq_ignore_ascii_case(b"by") => 2,
                word if word.eq_ignore_ascii_case(b"get") => 2,
                word if word.eq_ignore_ascii_case(b"store") => {
                    found = Some(at + 1);
                    2
                }
                _ => 1,
            };
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(line: &str) -> String {
        let mut words = line
            .split(' ')
            .map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let id = spec(&words.next().expect("a name")).expect("a command").id;
        let command = Command {
            id,
            args: words.collect(),
        };
        let keys: Vec<_> = command
            .keys()
            .map(|key| String::from_utf8_lossy(key))
            .collect();
        keys.join(" ")
    }

    #[test]
    fn every_name_is_found_and_no_other() {
        for spec in specs() {
            let upper = spec.name.to_ascii_uppercase();
            assert_eq!(super::spec(upper.as_bytes()).map(|s| s.id), Some(spec.id));
            assert_eq!(CommandId::from_number(spec.id as u16), Some(spec.id));
        }
        assert!(super::spec(b"").is_none() && super::spec(b"gets").is_none());
        assert_eq!(CommandId::from_number(0), None);
        assert_eq!(CommandId::from_number(specs().len() as u16 + 1), None);
    }

    #[test]
    fn keys_golden() {
        let lines = [
            ("GET a", "a"),
            ("MSET a 1 b 2", "a b"),
            ("BITOP AND d a b", "d a b"),
            ("BLPOP a b 0", "a b"),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
            ("BLMPOP 0 2 a b LEFT", "a b"),
            ("LMPOP 9 a LEFT", "a LEFT"),
            ("LMPOP x a LEFT", ""),
            ("SORT a BY store GET store STORE b", "a b"),
            ("SORT a STORE", "a"),
            ("DBSIZE", ""),
            ("OBJECT ENCODING a", "a"),
        ];
        for (line, want) in lines {
            assert_eq!(keys_of(line), want, "{line}");
        }
    }
}
