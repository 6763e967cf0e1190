"""Sends the same random commands to two servers of Redis' protocol and tells where their answers differ.

    python compare_redis.py OURS_PORT REDIS_PORT [--seed 1] [--count 100000]

Both are emptied first: never run it against anything that matters. Refusals count as equal whatever they say,
unless --words. Left out are answers that may differ: random choices, cursors, times from now on, and what
Redis itself leaves open (ranges by bytes over unequal scores, SORT of equal weights).
"""

import argparse
import random

from resp import Refused, Resp

KEYS = {kind: [f"{{c}}{kind}{n}" for n in range(4)] for kind in "slhtz"}
ELEMENTS = ["a", "b", "c", "d", "foo", "1", "2", "3", "10", "-1", "2.5", "", "x" * 70]
NUMBERS = ["0", "1", "2", "3", "-1", "-2", "5", "10", "100", "abc", "1.5", "9223372036854775807"]

# K is a key of the line's kind, E an element, N a number; a | separates choices.
COMMANDS = {
    "s": [
        "SET K E", "SET K N NX|XX|GET", "SET K N PXAT 99999999999999", "SET K E KEEPTTL", "SETNX K E", "GET K",
        "GETSET K E", "GETDEL K", "MGET K K K", "MSET K E K N", "MSETNX K E K E", "APPEND K E", "STRLEN K",
        "GETRANGE K N N", "SETRANGE K 3 E", "INCR K", "DECR K", "INCRBY K N", "DECRBY K N", "SETBIT K 9 1",
        "GETBIT K N", "BITCOUNT K", "BITCOUNT K N N BYTE|BIT", "BITPOS K 1|0 N N", "BITOP AND|OR|XOR K K K",
        "BITOP NOT K K", "LCS K K LEN|IDX", "LCS K K",
    ],
    "l": [
        "LPUSH K E E", "RPUSH K E N E", "LPUSHX K E", "RPUSHX K E", "LPOP K", "RPOP K N", "LLEN K", "LRANGE K N N",
        "LINDEX K N", "LSET K N E", "LINSERT K BEFORE|AFTER E E", "LREM K N E", "LTRIM K N -1", "LPOS K E",
        "LPOS K E RANK N COUNT N", "LMOVE K K LEFT|RIGHT LEFT|RIGHT", "RPOPLPUSH K K", "LMPOP 2 K K LEFT|RIGHT",
        "SORT K ALPHA ASC|DESC", "SORT K ALPHA LIMIT 0 3 STORE K",
    ],
    "h": [
        "HSET K E E", "HSET K E N E E", "HSETNX K E E", "HMSET K E E", "HGET K E", "HMGET K E E", "HGETALL K",
        "HDEL K E E", "HEXISTS K E", "HLEN K", "HKEYS K", "HVALS K", "HINCRBY K E N", "HSTRLEN K E",
    ],
    "t": [
        "SADD K E E", "SADD K N", "SREM K E", "SISMEMBER K E", "SMISMEMBER K E E", "SMEMBERS K", "SCARD K",
        "SMOVE K K E", "SINTER K K", "SUNION K K", "SDIFF K K K", "SINTERSTORE K K K", "SUNIONSTORE K K K",
        "SDIFFSTORE K K K", "SINTERCARD 2 K K LIMIT N", "SORT K ALPHA",
    ],
    "z": [
        "ZADD K N E N E", "ZADD K NX|XX|GT|LT CH N E", "ZADD K INCR N E", "ZREM K E", "ZSCORE K E", "ZMSCORE K E E",
        "ZINCRBY K N E", "ZCARD K", "ZCOUNT K N N", "ZRANK K E", "ZREVRANK K E", "ZRANGE K N N WITHSCORES",
        "ZRANGE K N N REV", "ZRANGE K (1 N BYSCORE LIMIT 0 N", "ZRANGE K N N BYSCORE REV", "ZRANGESTORE K K N N",
        "ZRANGEBYSCORE K -inf N WITHSCORES", "ZREVRANGEBYSCORE K +inf N", "ZREVRANGE K N N", "ZPOPMIN K",
        "ZPOPMAX K N", "ZMPOP 2 K K MIN|MAX COUNT N", "ZUNION 2 K K WITHSCORES", "ZINTER 2 K K WEIGHTS N N",
        "ZDIFF 2 K K", "ZUNIONSTORE K 2 K K AGGREGATE SUM|MIN|MAX", "ZINTERSTORE K 2 K K", "ZDIFFSTORE K 2 K K",
        "ZINTERCARD 2 K K", "ZREMRANGEBYRANK K N N", "ZREMRANGEBYSCORE K N N",
    ],
    "": [
        "DEL K", "EXISTS K K", "TYPE K", "PEXPIREAT K 99999999999999", "PEXPIREAT K 99999999999990 NX|XX|GT|LT",
        "EXPIREAT K 1", "PEXPIRETIME K", "PERSIST K", "RENAME K K", "RENAMENX K K", "COPY K K", "COPY K K REPLACE",
    ],
}
UNORDERED = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF"}


def line(rng):
    kind = rng.choice("sslhtzz") if rng.random() < 0.9 else ""
    words = []
    for word in rng.choice(COMMANDS[kind]).split():
        if word == "K":
            own = kind if kind and rng.random() < 0.97 else rng.choice("slhtz")
            words.append(rng.choice(KEYS[own]))
        elif word == "E":
            words.append(rng.choice(ELEMENTS))
        elif word == "N":
            words.append(rng.choice(NUMBERS))
        else:
            words.append(rng.choice(word.split("|")))
    if rng.random() < 0.02:
        words.pop()
    return words


def plain(name, answer, with_words):
    """The answer in a form that may be compared."""
    if isinstance(answer, Refused):
        return answer if with_words else "refused"
    if name in UNORDERED and isinstance(answer, list):
        return sorted(map(repr, answer))
    if isinstance(answer, list):
        return [plain("", item, with_words) for item in answer]
    if isinstance(answer, bytes):
        try:
            return f"{float(answer):.12g}"  # 0.1 and 0.10000000000000001 are one number
        except ValueError:
            pass
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=int)
    parser.add_argument("redis", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--words", action="store_true", help="compare what refusals say, too")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    differences = 0
    with Resp(("127.0.0.1", options.ours)) as ours, Resp(("127.0.0.1", options.redis)) as theirs:
        for server in (ours, theirs):
            server.call("FLUSHALL")
        for step in range(options.count):
            words = line(rng)
            have, want = ours.call(*words), theirs.call(*words)
            if plain(words[0], have, options.words) != plain(words[0], want, options.words):
                differences += 1
                print(f"{step}: {' '.join(words)}\n  ours  {have!r:.200}\n  redis {want!r:.200}")
                if differences >= 20:
                    break
    print(f"{step + 1} commands with seed {options.seed}, {differences} answers differ")
    return differences > 0


if __name__ == "__main__":
    raise SystemExit(main())
