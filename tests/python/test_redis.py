"""What redis-py sees of keys: every data type, expiry, SCAN, transactions, blocking pops, messages, the server.

Each test runs once against one node, in RESP2, and once against three, in RESP3. With REDIS_TARGET=host:port it asks a server
that runs already: run so against Debian's redis-server, it shows that Redis itself does what is expected here.
"""

import re
import time

import pytest
import redis
from redis.exceptions import ResponseError, WatchError

from raw import eventually
from redis_nodes import Background
from resp import Resp

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def refused(call, *arguments, **options):
    """The text of the refusal, its code included."""
    with pytest.raises(redis.RedisError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def bare(client, *arguments):
    """An answer as it came, without what redis-py makes of it."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*arguments)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


# strings


def test_string_set_and_get_with_every_option(r):
    assert r.set("a", "1") is True
    assert r.get("a") == "1"
    assert r.get("none") is None
    assert r.set("a", "2", nx=True) is None and r.get("a") == "1"
    assert r.set("b", "2", nx=True) is True
    assert r.set("c", "3", xx=True) is None and r.get("c") is None
    assert r.set("a", "4", xx=True) is True
    assert r.set("a", "5", get=True) == "4"
    assert r.set("d", "5", get=True) is None and r.get("d") == "5"
    assert r.set("d", "6", nx=True, get=True) == "5" and r.get("d") == "5"
    assert r.set("e", "x", ex=100) and 0 < r.ttl("e") <= 100
    assert r.set("e", "y", keepttl=True) and r.ttl("e") > 0
    assert r.set("e", "z") and r.ttl("e") == -1
    assert r.set("e", "x", px=100_000) and 0 < r.pttl("e") <= 100_000
    assert r.set("e", "x", exat=int(time.time()) + 50) and 0 < r.ttl("e") <= 50
    assert r.setnx("e", "n") is False and r.setnx("f", "n") is True
    assert r.execute_command("SETEX", "f", 10, "v") and r.ttl("f") in (9, 10)
    assert r.execute_command("PSETEX", "f", 10_000, "v") and 0 < r.pttl("f") <= 10_000
    assert refused(r.execute_command, "SETEX", "f", 0, "v") == "invalid expire time in 'setex' command"


def test_string_any_bytes_are_kept(connect):
    client = connect(decode_responses=False)
    value = bytes(range(256)) * 3
    assert client.set(value, value)
    assert client.get(value) == value
    assert client.set("empty", "") and client.get("empty") == b""
    assert client.strlen(value) == 768 and client.exists(value, "empty", "none") == 2


def test_string_ranges_and_appending(r):
    assert r.append("s", "Hello") == 5
    assert r.append("s", " World") == 11
    assert r.getrange("s", 0, 4) == "Hello"
    assert r.getrange("s", -5, -1) == "World"
    assert r.getrange("s", 5, 1) == "" and r.getrange("none", 0, -1) == ""
    assert r.setrange("s", 6, "Redis") == 11 and r.get("s") == "Hello Redis"
    assert r.setrange("pad", 3, "x") == 4 and r.get("pad") == "\0\0\0x"
    assert r.setrange("nothing", 3, "") == 0 and r.exists("nothing") == 0
    assert refused(r.setrange, "s", -1, "x") == "offset is out of range"
    assert r.strlen("s") == 11 and r.strlen("none") == 0


def test_string_counters(r):
    assert [r.incr("n"), r.incrby("n", 41), r.decr("n"), r.decrby("n", 1)] == [1, 42, 41, 40]
    assert r.get("n") == "40"
    assert r.incrbyfloat("f", 10.5) == 10.5
    assert r.incrbyfloat("f", -5.25) == 5.25 and r.get("f") == "5.25"
    r.set("whole", "3.0e3")
    assert r.incrbyfloat("whole", 200) == 3200 and r.get("whole") == "3200"
    r.set("word", "ten")
    assert refused(r.incr, "word") == "value is not an integer or out of range"
    assert refused(r.incrbyfloat, "word", 1) == "value is not a valid float"
    r.set("most", 2**63 - 1)
    assert refused(r.incr, "most") == "increment or decrement would overflow"
    assert r.get("most") == str(2**63 - 1)
    r.set("space", " 1")
    assert refused(r.incr, "space") == "value is not an integer or out of range"


def test_string_several_keys_at_once(r):
    assert r.mset({"a": "1", "b": "2", "c": ""})
    assert r.mget("a", "none", "b", "c") == ["1", None, "2", ""]
    assert r.msetnx({"c": "3", "d": "4"}) is False and r.get("d") is None
    assert r.msetnx({"d": "4", "e": "5"}) is True and r.mget("d", "e") == ["4", "5"]
    r.rpush("list", "x")
    assert r.mget("a", "list") == ["1", None]


def test_string_get_and_change(r):
    r.set("a", "1")
    assert r.getset("a", "2") == "1" and r.getset("new", "x") is None
    assert r.getdel("a") == "2" and r.exists("a") == 0 and r.getdel("a") is None
    r.set("b", "v")
    assert r.getex("b", ex=100) == "v" and r.ttl("b") > 0
    assert r.getex("b", persist=True) == "v" and r.ttl("b") == -1
    assert r.getex("b") == "v" and r.getex("none") is None


def test_string_bits(r):
    assert r.setbit("bits", 7, 1) == 0 and r.setbit("bits", 7, 1) == 1
    assert r.get("bits") == "\x01"
    assert [r.getbit("bits", i) for i in (6, 7, 100)] == [0, 1, 0]
    r.set("word", "foobar")
    assert r.bitcount("word") == 26 and r.bitcount("word", 1, 1) == 6
    assert refused(r.setbit, "bits", -1, 1) == "bit offset is not an integer or out of range"


# keys


def test_key_of_another_type_is_refused_and_unchanged(r):
    r.rpush("list", "a")
    r.set("string", "a")
    for call, arguments in [
        (r.get, ["list"]),
        (r.incr, ["list"]),
        (r.append, ["list", "x"]),
        (r.strlen, ["list"]),
        (r.hget, ["list", "f"]),
        (r.hset, ["list", "f", "v"]),
        (r.sadd, ["list", "m"]),
        (r.smembers, ["list"]),
        (r.zadd, ["list", {"m": 1}]),
        (r.zscore, ["list", "m"]),
        (r.lpush, ["string", "x"]),
        (r.lrange, ["string", 0, -1]),
        (r.lpop, ["string"]),
        (r.blpop, ["string", 1]),
        (r.sinter, ["string", "none"]),
    ]:
        assert refused(call, *arguments) in (WRONG_TYPE, WRONG_TYPE.removeprefix("WRONGTYPE ")), call
    assert r.lrange("list", 0, -1) == ["a"] and r.get("string") == "a"


def test_key_types_names_and_removal(r):
    r.set("string", "x")
    r.rpush("list", "x")
    r.hset("hash", "f", "v")
    r.sadd("set", "m")
    r.zadd("zset", {"m": 1})
    for name in ("string", "list", "hash", "set", "zset"):
        assert r.type(name) == name
    assert r.type("missing") == "none"
    assert r.exists("string", "string", "missing") == 2
    assert r.dbsize() == 5
    assert sorted(r.keys()) == ["hash", "list", "set", "string", "zset"]
    assert sorted(r.keys("*s*t*")) == ["hash", "list", "set", "string", "zset"][1:]
    assert r.keys("[hx]?sh") == ["hash"] and r.keys("h[^b]sh") == ["hash"] and r.keys("\\hash") == ["hash"]
    assert r.randomkey() in r.keys()
    assert r.delete("string", "missing", "set") == 2
    assert r.unlink("hash", "list", "zset") == 3
    assert r.dbsize() == 0 and r.randomkey() is None
    assert r.touch("missing") == 0


def test_key_renamed_and_copied(r):
    r.set("a", "1", ex=100)
    r.set("b", "2")
    assert r.rename("a", "b") and r.get("b") == "1" and r.exists("a") == 0 and r.ttl("b") > 0
    assert refused(r.rename, "a", "b") == "no such key"
    r.set("c", "3")
    assert r.renamenx("b", "c") is False and r.renamenx("b", "d") is True
    assert r.copy("c", "d") is False and r.copy("c", "d", replace=True) is True
    assert r.get("d") == "3" and r.get("c") == "3" and r.ttl("d") == -1


def test_key_encoding_is_told(r):
    r.set("int", "12345")
    r.set("short", "abc")
    r.set("long", "x" * 100)
    assert r.object("encoding", "int") == "int"
    assert r.object("encoding", "short") == "embstr"
    assert r.object("encoding", "long") == "raw"
    assert r.object("encoding", "none") is None


# expiry


def test_expiry_is_set_told_and_taken_back(r):
    r.set("k", "v")
    assert r.ttl("k") == -1 and r.ttl("none") == -2 and r.pttl("none") == -2
    assert r.expire("k", 100) is True and r.expire("none", 100) is False
    assert 98 <= r.ttl("k") <= 100 and 98_000 < r.pttl("k") <= 100_000
    assert abs(r.expiretime("k") - time.time() - 100) < 3
    assert abs(r.pexpiretime("k") / 1000 - time.time() - 100) < 3
    assert r.persist("k") is True and r.persist("k") is False and r.ttl("k") == -1
    assert r.pexpire("k", 5_000) and 0 < r.pttl("k") <= 5_000
    at = int(time.time()) + 1_000
    assert r.expireat("k", at) and r.expiretime("k") == at
    assert r.pexpireat("k", at * 1000 + 5) and r.pexpiretime("k") == at * 1000 + 5


def test_expiry_conditions(r):
    r.set("k", "v")
    assert r.expire("k", 100, xx=True) is False and r.expire("k", 100, gt=True) is False
    assert r.expire("k", 100, nx=True) is True and r.expire("k", 200, nx=True) is False
    assert r.expire("k", 50, gt=True) is False and r.expire("k", 200, gt=True) is True
    assert r.expire("k", 300, lt=True) is False and r.expire("k", 20, lt=True) is True
    assert r.ttl("k") <= 20
    assert "not compatible" in refused(r.execute_command, "EXPIRE", "k", 1, "NX", "GT")


def test_expiry_in_the_past_removes_at_once(r):
    for call in (lambda: r.expire("k", -1), lambda: r.pexpire("k", 0), lambda: r.expireat("k", 1)):
        r.set("k", "v")
        assert call() is True
        assert r.exists("k") == 0
    for text in ("0", "-5"):
        assert refused(r.execute_command, "SET", "k", "v", "EX", text) == "invalid expire time in 'set' command"
    assert refused(r.execute_command, "SET", "k", "v", "EX", "x") == "value is not an integer or out of range"
    assert refused(r.execute_command, "SET", "k", "v", "EX", 2**62) == "invalid expire time in 'set' command"


def test_expiry_ends_every_type_in_time_and_not_before(r, connect):
    begun = time.monotonic()
    r.set("s", "v", px=700)
    r.rpush("l", "x")
    r.hset("h", "f", "v")
    r.sadd("t", "m")
    r.zadd("z", {"m": 1})
    keys = ["s", "l", "h", "t", "z"]
    for key in keys[1:]:
        r.pexpire(key, 700)
    counted = r.exists(*keys)
    assert counted == 5 or time.monotonic() - begun > 0.6
    other = connect(1)
    eventually(lambda: other.exists(*keys) == 0, 3)
    assert time.monotonic() - begun > 0.6
    eventually(lambda: r.dbsize() == 0, 10)


def test_expiry_survives_changes_of_the_value_but_not_its_replacement(r):
    r.set("n", 1, ex=100)
    r.incr("n")
    r.append("n", "0")
    assert r.ttl("n") > 0
    r.rpush("l", "a", "b")
    r.expire("l", 100)
    r.rpop("l")
    assert r.ttl("l") > 0
    r.getset("n", "5")
    assert r.ttl("n") == -1


# hashes


def test_hash_fields(r):
    assert r.hset("h", mapping={"a": "1", "b": "2"}) == 2
    assert r.hset("h", "a", "x") == 0 and r.hget("h", "a") == "x" and r.hget("h", "none") is None
    assert r.hgetall("h") == {"a": "x", "b": "2"} and r.hgetall("none") == {}
    assert r.hmget("h", "b", "none", "a") == ["2", None, "x"]
    assert sorted(r.hkeys("h")) == ["a", "b"] and sorted(r.hvals("h")) == ["2", "x"]
    assert r.hlen("h") == 2 and r.hexists("h", "a") and not r.hexists("h", "c")
    assert r.hsetnx("h", "a", "y") in (0, False) and r.hsetnx("h", "c", "y") in (1, True)
    assert r.hstrlen("h", "c") == 1 and r.hstrlen("h", "none") == 0
    assert r.hdel("h", "a", "b", "none") == 2
    assert r.hdel("h", "c") == 1 and r.exists("h") == 0
    assert refused(r.execute_command, "HSET", "h", "a") == "wrong number of arguments for 'hset' command"
    assert refused(r.execute_command, "HSET", "h", "a", "1", "b") == "wrong number of arguments for 'hset' command"


def test_hash_counters(r):
    assert r.hincrby("h", "n", 5) == 5 and r.hincrby("h", "n", -7) == -2
    assert r.hincrbyfloat("h", "f", 1.5) == 1.5 and r.hincrbyfloat("h", "f", 1.5) == 3
    assert r.hget("h", "f") == "3"
    r.hset("h", "word", "x")
    assert refused(r.hincrby, "h", "word", 1) == "hash value is not an integer"
    assert refused(r.hincrbyfloat, "h", "word", 1) == "hash value is not a float"


def test_hash_random_fields(r):
    r.hset("h", mapping={f"f{i}": i for i in range(10)})
    assert r.hrandfield("h") in r.hkeys("h")
    assert len(set(r.hrandfield("h", 4))) == 4
    assert sorted(r.hrandfield("h", 100)) == sorted(r.hkeys("h"))
    assert len(r.hrandfield("h", -30)) == 30
    assert r.hrandfield("none") is None and r.hrandfield("none", 3) == []


def test_hash_of_many_fields_is_whole(r):
    fields = {f"field-{i}": f"value-{i}" for i in range(2_000)}
    assert r.hset("h", mapping=fields) == 2_000
    assert r.hgetall("h") == fields and r.hlen("h") == 2_000
    assert r.hdel("h", *list(fields)[:1_500]) == 1_500
    assert r.hgetall("h") == dict(list(fields.items())[1_500:])


# lists


def test_list_both_ends(r):
    assert r.rpush("l", "c", "d") == 2 and r.lpush("l", "b", "a") == 4
    assert r.lrange("l", 0, -1) == ["a", "b", "c", "d"]
    assert r.lpushx("none", "x") == 0 and r.rpushx("none", "x") == 0 and r.exists("none") == 0
    assert r.lpushx("l", "0") == 5 and r.rpushx("l", "e") == 6
    assert r.lpop("l") == "0" and r.rpop("l") == "e"
    assert r.lpop("l", 2) == ["a", "b"] and r.rpop("l", 9) == ["d", "c"]
    assert r.exists("l") == 0 and r.lpop("l") is None and r.lpop("l", 2) is None
    r.rpush("l", "a")
    assert r.lpop("l", 0) == [] and r.llen("l") == 1


def test_list_places(r):
    r.rpush("l", *"abcdef")
    assert r.llen("l") == 6 and r.llen("none") == 0
    assert [r.lindex("l", i) for i in (0, -1, 5, 6, -7)] == ["a", "f", "f", None, None]
    assert r.lrange("l", 1, 2) == ["b", "c"] and r.lrange("l", -2, 100) == ["e", "f"] and r.lrange("l", 4, 2) == []
    assert r.lset("l", 1, "B") and r.lset("l", -1, "F")
    assert refused(r.lset, "l", 6, "x") == "index out of range" and refused(r.lset, "none", 0, "x") == "no such key"
    assert r.linsert("l", "before", "c", "x") == 7 and r.linsert("l", "after", "c", "y") == 8
    assert r.linsert("l", "before", "none", "x") == -1 and r.linsert("none", "before", "a", "x") == 0
    assert r.lrange("l", 0, -1) == ["a", "B", "x", "c", "y", "d", "e", "F"]
    assert r.ltrim("l", 1, -2) and r.lrange("l", 0, -1) == ["B", "x", "c", "y", "d", "e"]
    assert r.ltrim("l", 5, 1) and r.exists("l") == 0


def test_list_search_and_removal(r):
    r.rpush("l", *"abcabcab")
    assert r.lpos("l", "b") == 1 and r.lpos("l", "b", rank=-1) == 7 and r.lpos("l", "x") is None
    assert r.lpos("l", "a", count=0) == [0, 3, 6] and r.lpos("l", "a", count=2, rank=2) == [3, 6]
    assert r.lpos("l", "a", count=0, maxlen=4) == [0, 3]
    assert r.lrem("l", 2, "a") == 2 and r.lrange("l", 0, -1) == list("bcbcab")
    assert r.lrem("l", -1, "b") == 1 and r.lrange("l", 0, -1) == list("bcbca")
    assert r.lrem("l", 0, "c") == 2 and r.lrem("l", 0, "x") == 0


def test_list_moves(r):
    r.rpush("a", "1", "2", "3")
    assert r.lmove("a", "b", "LEFT", "RIGHT") == "1" and r.rpoplpush("a", "b") == "3"
    assert r.lrange("a", 0, -1) == ["2"] and r.lrange("b", 0, -1) == ["3", "1"]
    assert r.lmove("b", "b", "LEFT", "RIGHT") == "3" and r.lrange("b", 0, -1) == ["1", "3"]
    assert r.lmove("none", "b") is None
    assert r.lmpop(2, "none", "b", direction="LEFT", count=5) == ["b", ["1", "3"]]
    assert r.lmpop(1, "b", direction="LEFT") is None


def test_list_of_many_elements_is_whole(r):
    elements = [f"element-{i}" for i in range(5_000)]
    for i in range(0, 5_000, 500):
        r.rpush("l", *elements[i : i + 500])
    assert r.lrange("l", 0, -1) == elements
    assert r.lindex("l", 2_500) == "element-2500" and r.lrange("l", 2_499, 2_501) == elements[2_499:2_502]


# sets


def test_set_members(r):
    assert r.sadd("s", "a", "b", "c", "a") == 3 and r.sadd("s", "a") == 0
    assert r.smembers("s") == {"a", "b", "c"} and r.smembers("none") == set()
    assert r.scard("s") == 3 and r.sismember("s", "a") and not r.sismember("s", "x")
    assert [bool(x) for x in r.smismember("s", ["a", "x", "c"])] == [True, False, True]
    assert r.srandmember("s") in {"a", "b", "c"} and len(set(r.srandmember("s", 2))) == 2
    assert len(r.srandmember("s", -20)) == 20 and r.srandmember("none") is None
    assert r.smove("s", "t", "a") and not r.smove("s", "t", "x") and r.smembers("t") == {"a"}
    assert r.srem("s", "b", "x") == 1 and r.spop("s") == "c" and r.exists("s") == 0 and r.spop("s") is None
    r.sadd("s", *range(10))
    assert len(r.spop("s", 4)) == 4 and r.scard("s") == 6 and len(r.spop("s", 100)) == 6


def test_set_algebra(r):
    r.sadd("a", "1", "2", "3", "4")
    r.sadd("b", "2", "3", "x")
    r.sadd("c", "3")
    assert r.sinter("a", "b") == {"2", "3"} and r.sinter("a", "none") == set()
    assert r.sunion("a", "b", "none") == {"1", "2", "3", "4", "x"}
    assert r.sdiff("a", "b", "c") == {"1", "4"} and r.sdiff("none", "a") == set()
    assert r.sinterstore("d", "a", "b") == 2 and r.smembers("d") == {"2", "3"}
    assert r.sunionstore("d", "b", "c") == 3 and r.sdiffstore("d", "a", "b") == 2 and r.smembers("d") == {"1", "4"}
    assert r.sdiffstore("d", "none", "a") == 0 and r.exists("d") == 0
    assert r.sintercard(2, ["a", "b"]) == 2 and r.sintercard(2, ["a", "b"], limit=1) == 1


# sorted sets


def test_zset_scores(r):
    assert r.zadd("z", {"a": 1, "b": 2.5, "c": -1}) == 3
    assert r.zscore("z", "b") == 2.5 and r.zscore("z", "none") is None and r.zmscore("z", ["a", "x"]) == [1, None]
    assert r.zadd("z", {"a": 5, "d": 7}, nx=True) == 1 and r.zscore("z", "a") == 1
    assert r.zadd("z", {"a": 5, "e": 7}, xx=True) == 0 and r.zscore("z", "a") == 5 and r.zscore("z", "e") is None
    assert r.zadd("z", {"a": 3}, gt=True, ch=True) == 0 and r.zadd("z", {"a": 9}, gt=True, ch=True) == 1
    assert r.zadd("z", {"a": 12}, lt=True, ch=True) == 0 and r.zadd("z", {"a": 2}, lt=True, ch=True) == 1
    assert r.zadd("z", {"a": 3}, incr=True) == 5 and r.zincrby("z", 1.5, "a") == 6.5 and r.zincrby("z", 1, "new") == 1
    assert r.zcard("z") == 5 and r.zcount("z", "-inf", "+inf") == 5 and r.zcount("z", "(1", 7) == 3
    assert r.zadd("inf", {"a": "inf", "b": "-inf"}) == 2 and r.zscore("inf", "a") == float("inf")
    assert refused(r.zincrby, "inf", "-inf", "a") == "resulting score is not a number (NaN)"
    assert refused(r.execute_command, "ZADD", "z", "x", "a") == "value is not a valid float"
    assert refused(r.execute_command, "ZADD", "z", "nan", "a") == "value is not a valid float"
    assert refused(r.execute_command, "ZADD", "z", "NX", "XX", 1, "a").startswith("XX and NX options")


def test_zset_order_and_ranks(r):
    r.zadd("z", {"b": 1, "a": 1, "c": 1, "d": 0, "e": 2})
    assert r.zrange("z", 0, -1) == ["d", "a", "b", "c", "e"] and r.zrevrange("z", 0, 1) == ["e", "c"]
    assert r.zrange("z", 0, 1, withscores=True) in ([("d", 0), ("a", 1)], [["d", 0], ["a", 1]])
    assert r.zrange("z", 0, 1, desc=True) == ["e", "c"] and r.zrange("z", 9, 10) == []
    assert r.zrank("z", "d") == 0 and r.zrevrank("z", "d") == 4 and r.zrank("z", "none") is None
    assert r.zrangebyscore("z", 1, 1) == ["a", "b", "c"] and r.zrangebyscore("z", "(0", "(2") == ["a", "b", "c"]
    assert r.zrangebyscore("z", "-inf", "+inf", start=1, num=2) == ["a", "b"]
    assert r.zrevrangebyscore("z", 2, 1) == ["e", "c", "b", "a"]
    assert r.zrange("z", 1, 2, byscore=True, offset=1, num=2) == ["b", "c"]
    assert r.zrangestore("copy", "z", 1, 2) == 2 and r.zrange("copy", 0, -1) == ["a", "b"]


def test_zset_by_name(r):
    r.zadd("z", dict.fromkeys("abcdefg", 0))
    assert r.zrangebylex("z", "-", "[c") == ["a", "b", "c"] and r.zrangebylex("z", "(b", "(e") == ["c", "d"]
    assert r.zrevrangebylex("z", "+", "[f") == ["g", "f"] and r.zlexcount("z", "[b", "+") == 6
    assert r.zremrangebylex("z", "[a", "(c") == 2 and r.zrange("z", 0, -1) == list("cdefg")
    assert refused(r.zrangebylex, "z", "a", "b") == "min or max not valid string range item"


def test_zset_removal(r):
    r.zadd("z", {m: i for i, m in enumerate("abcdefghij")})
    assert r.zrem("z", "a", "none") == 1 and r.zremrangebyrank("z", 0, 1) == 2 and r.zremrangebyscore("z", 3, "(5") == 2
    assert r.zrange("z", 0, -1) == list("fghij")
    assert r.zpopmin("z") in ([("f", 5)], ["f", 5]) and r.zpopmax("z", 2) in ([("j", 9), ("i", 8)], [["j", 9], ["i", 8]])
    assert r.zmpop(2, ["none", "z"], min=True)[0] == "z" and r.zcard("z") == 1
    assert r.zrandmember("z") == "h" and r.zpopmin("z") and r.exists("z") == 0 and r.zpopmin("z") == []


def test_zset_algebra(r):
    r.zadd("a", {"x": 1, "y": 2})
    r.zadd("b", {"y": 10, "z": 20})
    assert r.zunionstore("u", ["a", "b"]) == 3 and r.zscore("u", "y") == 12
    assert r.zunionstore("u", {"a": 2, "b": 3}, aggregate="max") == 3 and r.zscore("u", "y") == 30
    assert r.zinterstore("i", ["a", "b"], aggregate="min") == 1 and r.zscore("i", "y") == 2
    assert r.zdiffstore("d", ["a", "b"]) == 1 and r.zrange("d", 0, -1) == ["x"]
    assert r.zunion(["a", "b"]) == ["x", "y", "z"] and r.zinter(["a", "b"]) == ["y"] and r.zdiff(["a", "b"]) == ["x"]
    assert r.zintercard(2, ["a", "b"]) == 1


def test_zset_of_many_members_stays_in_order(r):
    members = {f"m{i:04}": (i * 7919) % 1_000 for i in range(3_000)}
    for i in range(0, 3_000, 500):
        r.zadd("z", dict(list(members.items())[i : i + 500]))
    expected = sorted(members, key=lambda m: (members[m], m))
    assert r.zrange("z", 0, -1) == expected
    assert r.zrank("z", expected[1_234]) == 1_234 and r.zrange("z", 1_234, 1_234) == [expected[1_234]]


# SCAN


@pytest.mark.parametrize("count", [None, 1, 7, 1_000])
def test_scan_finds_every_key_that_stays(r, count):
    with r.pipeline(transaction=False) as pipe:
        for i in range(500):
            pipe.set(f"key:{i}", i)
        pipe.execute()
    seen, changes = [], iter(range(10_000))
    cursor = None
    while cursor != 0:
        cursor, keys = r.scan(cursor or 0, count=count)
        seen += keys
        if next(changes) < 100:
            r.set(f"new:{len(seen)}:{cursor}", "x")  # whatever comes and goes meanwhile
            r.delete(f"new:{len(seen)}:{cursor}")
    assert {f"key:{i}" for i in range(500)} <= set(seen)


def test_scan_with_pattern_and_type(r):
    r.mset({f"s:{i}": i for i in range(50)})
    for i in range(20):
        r.rpush(f"l:{i}", "x")
    assert set(r.scan_iter("s:1*")) == {"s:1"} | {f"s:1{i}" for i in range(10)}
    assert set(r.scan_iter(_type="list")) == {f"l:{i}" for i in range(20)}
    assert set(r.scan_iter("*:1", _type="list")) == {"l:1"}
    assert refused(r.execute_command, "SCAN", "x") == "invalid cursor"


@pytest.mark.parametrize("size", [5, 1_000])
def test_scan_within_hashes_sets_and_sorted_sets(r, size):
    fields = {f"f{i}": str(i) for i in range(size)}
    r.hset("h", mapping=fields)
    r.sadd("s", *fields)
    r.zadd("z", {f: int(v) for f, v in fields.items()})
    assert dict(r.hscan_iter("h")) == fields
    assert set(r.sscan_iter("s")) == set(fields)
    assert dict(r.zscan_iter("z")) == {f: float(v) for f, v in fields.items()}
    assert set(r.sscan_iter("s", match="f1*", count=3)) == {f for f in fields if f.startswith("f1")}
    assert r.hscan("none") == (0, {})


# transactions


def test_transaction_answers_in_order_and_shows_its_own_writes(r):
    with r.pipeline() as pipe:
        pipe.set("a", "1").incr("a").get("a").rpush("l", "x").lrange("l", 0, -1)
        assert pipe.execute() == [True, 2, "2", 1, ["x"]]


def test_transaction_a_refused_command_does_not_stop_the_others(r):
    with r.pipeline() as pipe:
        pipe.set("s", "x").lpush("s", "y").set("t", "z")
        ok, error, also = pipe.execute(raise_on_error=False)
    assert ok is True and also is True and isinstance(error, ResponseError)
    assert r.get("s") == "x" and r.get("t") == "z"


def test_transaction_a_command_that_cannot_be_queued_ends_it(r, nodes):
    with Resp(nodes.endpoint()) as raw:
        assert raw.call("MULTI") == "OK" and raw.call("SET", "a", "1") == "QUEUED"
        assert raw.call("SET", "a") == "ERR wrong number of arguments for 'set' command"
        assert raw.call("NOSUCH", "a").startswith("ERR unknown command 'NOSUCH'")
        assert raw.call("EXEC") == "EXECABORT Transaction discarded because of previous errors."
        assert raw.call("EXEC") == "ERR EXEC without MULTI"
    assert r.get("a") is None


def test_transaction_discarded_leaves_nothing(r, nodes):
    with Resp(nodes.endpoint()) as raw:
        assert raw.call("MULTI") == "OK" and raw.call("SET", "a", "1") == "QUEUED"
        assert raw.call("MULTI") == "ERR MULTI calls can not be nested"
        assert raw.call("WATCH", "a") == "ERR WATCH inside MULTI is not allowed"
        assert raw.call("DISCARD") == "OK" and raw.call("DISCARD") == "ERR DISCARD without MULTI"
        assert raw.call("EXEC") == "ERR EXEC without MULTI"
        raw.call("MULTI")
        raw.call("SET", "a", "2")
    assert r.get("a") is None


def test_transaction_is_not_carried_out_when_a_watched_key_was_changed(r, connect):
    other = connect(1)
    changes = [
        lambda: other.set("k", "changed"),
        lambda: other.delete("k"),
        lambda: other.expire("k", 1_000),
        lambda: other.append("k", "x"),
        lambda: other.rename("k", "l"),
        lambda: other.flushall(),
    ]
    for change in changes:
        r.set("k", "before")
        with r.pipeline() as pipe:
            pipe.watch("j", "k")
            assert pipe.get("k") == "before"
            change()
            pipe.multi()
            pipe.set("result", "x")
            with pytest.raises(WatchError):
                pipe.execute()
        assert r.get("result") is None


def test_transaction_is_carried_out_when_other_keys_were_changed_or_watching_ended(r, connect):
    other = connect(0)
    r.set("k", "1")
    with r.pipeline() as pipe:
        pipe.watch("k")
        other.set("other", "x")
        pipe.multi()
        pipe.incr("k")
        assert pipe.execute() == [2]
        pipe.watch("k")
        other.incr("k")
        pipe.unwatch()
        pipe.multi()
        pipe.incr("k")
        assert pipe.execute() == [4]


def test_transaction_missing_key_that_appears_was_changed_and_own_write_counts(r, connect):
    other = connect(1)
    with r.pipeline() as pipe:
        pipe.watch("missing")
        other.set("missing", "x")
        pipe.multi()
        pipe.get("missing")
        with pytest.raises(WatchError):
            pipe.execute()
        pipe.watch("missing")
        pipe.set("missing", "own")  # before MULTI, on the same connection
        pipe.multi()
        pipe.get("missing")
        with pytest.raises(WatchError):
            pipe.execute()


def test_transaction_retried_counters_lose_no_increment(nodes):
    def change(pipe):
        n = int(pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", n + 1)

    def work(i):
        with nodes.client(i) as client:
            for _ in range(25):
                client.transaction(change, "n")

    for background in [Background(work, i) for i in range(4)]:
        background.result(60)
    with nodes.client(0) as client:
        eventually(lambda: client.get("n") == "100", 5)


def test_transaction_sees_no_other_writer_between_its_commands(nodes, connect):
    """Two keys that are always set together are never seen apart."""
    stop = []

    def write():
        with nodes.client(1) as client:
            n = 0
            while not stop:
                n += 1
                client.pipeline().set("x", n).set("y", n).execute()
            return n

    with nodes.client(0) as client:
        client.mset({"x": 0, "y": 0})
        background = Background(write)
        seen = set()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            x, y = client.pipeline().get("x").get("y").execute()
            assert x == y, f"{x} and {y} were set together"
            seen.add(x)
            x, y = client.mget("x", "y")
            assert x == y, f"{x} and {y} were set together"
        stop.append(True)
        assert background.result() > 10 and len(seen) > 1


# pipelines


def test_pipeline_of_many_commands_is_answered_in_order(r):
    with r.pipeline(transaction=False) as pipe:
        for i in range(10_000):
            pipe.set(f"k{i % 100}", i)
            pipe.get(f"k{i % 100}")
        answers = pipe.execute()
    assert answers[0::2] == [True] * 10_000
    assert answers[1::2] == [str(i) for i in range(10_000)]


def test_pipeline_an_error_within_does_not_disturb_the_rest(r):
    with r.pipeline(transaction=False) as pipe:
        pipe.set("s", "x").incr("s").get("s").execute_command("NOSUCH").ping()
        one, two, three, four, five = pipe.execute(raise_on_error=False)
    assert (one, three, five) == (True, "x", True)
    assert isinstance(two, ResponseError) and isinstance(four, ResponseError)


# blocking


def test_blocking_pop_takes_what_is_there(r):
    r.rpush("l", "a", "b")
    r.zadd("z", {"m": 1, "n": 2})
    assert list(r.blpop(["none", "l"], 1)) == ["l", "a"] and list(r.brpop("l", 1)) == ["l", "b"]
    assert list(r.bzpopmin("z", 1)) == ["z", "m", 1] and list(r.bzpopmax(["none", "z"], 1)) == ["z", "n", 2]
    r.rpush("l", "a", "b", "c")
    assert r.blmove("l", "m", 1, "LEFT", "LEFT") == "a" and r.brpoplpush("l", "m", 1) == "c"
    assert r.blmpop(1, 2, "none", "l", direction="LEFT") == ["l", ["b"]]
    assert r.bzmpop(0.1, 1, ["z"], min=True) is None


@pytest.mark.parametrize("seconds", [0.3, 1])
def test_blocking_pop_gives_up_in_time(r, seconds):
    for call in (
        lambda: r.blpop("none", seconds),
        lambda: r.brpop(["none", "neither"], seconds),
        lambda: r.blmove("none", "to", seconds),
        lambda: r.bzpopmin("none", seconds),
    ):
        begun = time.monotonic()
        assert call() is None
        took = time.monotonic() - begun
        assert seconds * 0.9 <= took < seconds + 1, f"{took:.2f} s"
    assert refused(r.blpop, "l", -1) == "timeout is negative"
    assert refused(r.execute_command, "BLPOP", "l", "x") == "timeout is not a float or out of range"


def test_blocking_pop_is_woken_from_another_node(r, connect):
    other = connect(1)
    for push, pop, expected in [
        (lambda: other.rpush("l", "x"), lambda: r.blpop(["a", "l"], 10), ["l", "x"]),
        (lambda: other.lpush("l", "x", "y"), lambda: r.brpop("l", 10), ["l", "x"]),
        (lambda: other.zadd("z", {"m": 3}), lambda: r.bzpopmin("z", 10), ["z", "m", 3]),
        (lambda: other.rename("spare", "m"), lambda: r.blpop("m", 10), ["m", "s"]),
        (lambda: other.lmove("spare2", "n"), lambda: r.blpop("n", 10), ["n", "s"]),
    ]:
        other.rpush("spare", "s")
        other.rpush("spare2", "s")
        waiting = Background(pop)
        time.sleep(0.3)
        push()
        begun = time.monotonic()
        assert list(waiting.result()) == expected
        assert time.monotonic() - begun < 1
    assert r.lrange("l", 0, -1) == ["y"]


def test_blocking_pop_of_several_waiters_serves_them_in_order(r, nodes):
    def wait():
        with nodes.client(0) as client:
            return client.blpop("queue", 15)

    waiters = []
    for _ in range(5):
        waiters.append(Background(wait))
        time.sleep(0.1)
    r.rpush("queue", "0", "1")
    for i in range(2, 6):
        r.rpush("queue", i)
    assert [waiter.result()[1] for waiter in waiters] == ["0", "1", "2", "3", "4"]
    assert r.lrange("queue", 0, -1) == ["5"]


def test_blocking_pop_passes_on_what_a_gone_waiter_did_not_take(r, nodes):
    gone = nodes.client(0)
    connection = gone.connection_pool.get_connection()
    connection.send_command("BLPOP", "queue", 0)
    time.sleep(0.2)
    waiting = Background(lambda: r.blpop("queue", 10))
    time.sleep(0.2)
    connection.disconnect()
    gone.close()
    time.sleep(0.5)
    with nodes.client(0) as client:
        client.rpush("queue", "x")
        assert list(waiting.result()) == ["queue", "x"]


def test_blocking_pop_in_a_transaction_does_not_wait(r):
    begun = time.monotonic()
    with r.pipeline() as pipe:
        pipe.blpop("none", 10)
        assert pipe.execute() == [None]
    assert time.monotonic() - begun < 2


def test_blocking_pop_of_a_pushing_transaction_sees_it_whole(r, connect):
    waiting = Background(lambda: connect(1).brpop("l", 10))
    time.sleep(0.3)
    with r.pipeline() as pipe:
        pipe.rpush("l", "a").rpush("l", "b").execute()
    assert list(waiting.result()) == ["l", "b"]
    eventually(lambda: r.lrange("l", 0, -1) == ["a"], 2)


# messages


def messages(subscription, count, timeout=5):
    """The next messages as (kind, pattern, channel, data)."""
    end, found = time.monotonic() + timeout, []
    while len(found) < count and time.monotonic() < end:
        message = subscription.get_message(timeout=0.2)
        if message is not None:
            found.append((message["type"], message["pattern"], message["channel"], message["data"]))
    return found


def test_messages_reach_subscribers_on_every_node(r, connect):
    plain, patterns = connect(0).pubsub(), connect(1).pubsub()
    plain.subscribe("news", "other")
    patterns.psubscribe("n*", "ne[vw]s", "x*")
    assert messages(plain, 2) == [("subscribe", None, "news", 1), ("subscribe", None, "other", 2)]
    assert [m[0] for m in messages(patterns, 3)] == ["psubscribe"] * 3
    for i in range(3):
        connect(i).publish("news", f"from {i}")
    assert sorted(messages(plain, 3)) == [("message", None, "news", f"from {i}") for i in range(3)]
    got = messages(patterns, 6)
    assert sorted(got) == sorted(("pmessage", p, "news", f"from {i}") for i in range(3) for p in ("n*", "ne[vw]s"))
    plain.unsubscribe("news")
    assert messages(plain, 1) == [("unsubscribe", None, "news", 1)]
    r.publish("news", "unheard")
    r.publish("other", "heard")
    assert messages(plain, 1) == [("message", None, "other", "heard")]
    plain.close()
    patterns.close()


def test_messages_of_one_sender_come_in_order(r, connect):
    subscription = connect(2).pubsub()
    subscription.subscribe("c")
    messages(subscription, 1)
    with r.pipeline(transaction=False) as pipe:
        for i in range(1_000):
            pipe.publish("c", i)
        pipe.execute()
    assert [m[3] for m in messages(subscription, 1_000, 20)] == [str(i) for i in range(1_000)]
    subscription.close()


def test_messages_subscribers_are_counted(r, connect):
    one, two = connect(0).pubsub(), connect(0).pubsub()
    one.subscribe("a", "b")
    two.subscribe("a")
    two.psubscribe("a*")
    messages(one, 2), messages(two, 2)
    assert r.publish("a", "x") == 3 and r.publish("nobody", "x") == 0
    assert sorted(r.pubsub_channels()) == ["a", "b"] and r.pubsub_channels("b*") == ["b"]
    assert [tuple(x) for x in r.pubsub_numsub("a", "none")] == [("a", 2), ("none", 0)]
    assert r.pubsub_numpat() == 1
    one.close()
    two.close()
    eventually(lambda: r.pubsub_channels() == [], 5)


# the server


def test_select_keeps_databases_apart(r, connect):
    second = connect(db=2)
    r.set("k", "zero")
    second.set("k", "two")
    second.set("only", "x")
    assert (r.get("k"), second.get("k")) == ("zero", "two") and r.exists("only") == 0
    assert r.dbsize() == 1 and second.dbsize() == 2
    assert second.move("only", 0) and r.get("only") == "x" and second.dbsize() == 1
    second.flushdb()
    assert r.dbsize() == 2 and second.dbsize() == 0
    assert refused(r.execute_command, "SELECT", "16") == "DB index is out of range"
    assert "integer" in refused(r.execute_command, "SELECT", "x")


def test_flush_empties_all_databases(r, connect):
    connect(db=3).set("a", "x")
    r.set("a", "x")
    assert r.flushall() and r.dbsize() == 0 and connect(db=3).dbsize() == 0


def test_info_tells_its_sections(r, connect):
    info = r.info()
    for field in ("redis_version", "uptime_in_seconds", "connected_clients", "used_memory", "role"):
        assert field in info, field
    assert info["connected_clients"] >= 1 and info["role"] in ("master", "slave")
    assert int(info["redis_version"].split(".")[0]) >= 7
    r.set("k", "v", ex=100)
    # A node counts the keys that it has itself.
    keyspace = connect(2).info("keyspace")
    assert keyspace["db0"]["keys"] == 1 and keyspace["db0"]["expires"] == 1
    assert "used_memory" not in keyspace and "used_memory" in r.info("memory")


def test_config_is_told_and_set(r):
    assert r.config_get("maxmemory*").keys() >= {"maxmemory", "maxmemory-policy"}
    assert r.config_get("no-such-thing") == {}
    before = r.config_get("timeout")["timeout"]
    assert r.config_set("timeout", "12345") is True
    assert r.config_get("timeout") == {"timeout": "12345"}
    assert r.config_set("timeout", before)
    assert refused(r.config_set, "no-such-thing", "1").startswith("Unknown option")
    assert r.config_get("databases") == {"databases": "16"}


def test_client_commands(r, connect):
    with connect(0).client() as one, connect(0).client() as two:
        assert one.client_getname() is None and one.client_setname("worker-1") and one.client_getname() == "worker-1"
        assert refused(one.client_setname, "a b").startswith("Client names cannot contain spaces")
        assert one.client_id() != two.client_id() and two.client_id() > 0
        info = one.client_info()
        assert info["name"] == "worker-1" and str(info["db"]) == "0"
        assert int(info["id"]) == one.client_id()
        listed = {int(entry["id"]): entry for entry in two.client_list()}
        assert listed[one.client_id()]["name"] == "worker-1" and listed[two.client_id()]["cmd"].startswith("client")
        assert re.fullmatch(r"127\.0\.0\.1:\d+", listed[one.client_id()]["addr"])
        assert one.client_no_evict("ON") in (True, "OK", b"OK")
        assert one.client_kill_filter(_id=two.client_id()) == 1
        with pytest.raises(redis.ConnectionError):
            two.client_id()


def test_command_describes_commands(r):
    count = r.command_count()
    assert count > 100
    described = bare(r, "COMMAND", "INFO", "get", "set", "no-such", "zunionstore")
    get, set_, none, union = described
    assert get[0] == "get" and get[1] == 2 and get[3:6] == [1, 1, 1] and "readonly" in get[2]
    assert set_[1] == -3 and "write" in set_[2] and none is None and union[0] == "zunionstore"
    everything = bare(r, "COMMAND")
    assert len(everything) == count and {c[0] for c in everything} >= {"get", "hset", "lpush", "sadd", "zadd", "exec"}
    docs = bare(r, "COMMAND", "DOCS", "get")
    docs = docs if isinstance(docs, dict) else dict(zip(docs[::2], docs[1::2]))
    assert list(docs) == ["get"]
    assert r.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]
    assert r.command_getkeys("ZUNIONSTORE", "d", 2, "a", "b") == ["d", "a", "b"]


def test_small_commands(r, nodes):
    assert r.ping() is True and bare(r, "PING", "hello") == "hello" and r.echo("x") == "x"
    seconds, _ = r.time()
    assert abs(seconds - time.time()) < 5
    assert refused(r.execute_command, "NOSUCH", "a", "b").startswith("unknown command 'NOSUCH'")
    assert refused(r.execute_command, "GET").startswith("wrong number of arguments for 'get' command")
    assert refused(r.execute_command, "OBJECT", "NOSUCH", "k").startswith("unknown subcommand 'NOSUCH'")
    assert bare(r, "gEt", "none") is None
    with Resp(nodes.endpoint()) as raw:
        assert raw.call("HELLO", 3)[b"proto"] == 3
        for request in (("SELECT", 1), ("CLIENT", "SETNAME", "x")):
            assert raw.call(*request) == "OK"
        raw.call("MULTI")
        assert raw.call("RESET") == "RESET"
        assert raw.call("EXEC") == "ERR EXEC without MULTI" and not raw.call("CLIENT", "GETNAME")
        assert b" db=0 " in raw.call("CLIENT", "INFO") and isinstance(raw.call("HELLO"), list)


# a lock


def test_lock_by_set_nx_px_has_one_holder_and_ends_by_itself(nodes):
    inside, most, taken = [], [], []

    def work(i):
        with nodes.client(i) as client:
            for n in range(10):
                token = f"{i}:{n}"
                while not client.set("lock", token, nx=True, px=5_000):
                    time.sleep(0.005)
                inside.append(token)
                most.append(len(inside))
                taken.append(token)
                time.sleep(0.001)
                inside.remove(token)
                let_go(client, token)

    def let_go(client, token):
        """Removes the lock if it is still ours, by WATCH."""
        with client.pipeline() as pipe:
            pipe.watch("lock")
            assert pipe.get("lock") == token, "somebody else holds a lock that did not end"
            pipe.multi()
            pipe.delete("lock")
            pipe.execute()

    for background in [Background(work, i) for i in range(4)]:
        background.result(60)
    assert len(taken) == 40 and max(most) == 1

    with nodes.client(0) as one, nodes.client(1) as two:
        begun = time.monotonic()
        assert one.set("lock", "crashed", nx=True, px=800)
        assert not two.set("lock", "next", nx=True, px=800)
        eventually(lambda: two.set("lock", "next", nx=True, px=800), 5)
        assert time.monotonic() - begun > 0.75
