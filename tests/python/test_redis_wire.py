"""What Redis clients see of bytes: both versions of the protocol, bad input, large values, Redis' own tools.

With REDIS_TARGET=host:port it asks a server that runs already, as test_redis.py does.
"""

import os
import random
import shutil
import socket
import subprocess
import time

import pytest

from raw import eventually
from redis_nodes import REDIS_TARGET, Background
from resp import Closed, Push, Refused, Resp, Verbatim, encode


@pytest.fixture
def raw(nodes):
    with Resp(nodes.endpoint()) as raw:
        yield raw


# both versions


def test_hello_tells_the_server_and_changes_the_version(raw):
    flat = raw.call("HELLO")
    older = dict(zip(flat[::2], flat[1::2]))
    assert older[b"proto"] == 2 and {b"server", b"version", b"id", b"mode", b"role", b"modules"} <= older.keys()
    newer = raw.call("HELLO", 3, "SETNAME", "me")
    assert newer[b"proto"] == 3 and newer[b"id"] == older[b"id"]
    assert raw.call("CLIENT", "GETNAME") == b"me"
    assert raw.call("GET", "none") is None
    assert isinstance(raw.call("HELLO", 2), list)


def test_hello_of_an_unknown_version_is_refused(raw):
    assert raw.call("HELLO", 4) == "NOPROTO unsupported protocol version"
    assert raw.call("HELLO", "x") == "ERR Protocol version is not an integer or out of range"
    assert raw.call("HELLO", 3, "NOSUCH").startswith("ERR Syntax error in HELLO")
    assert isinstance(raw.call("HELLO"), list), "nothing was changed"


def test_answers_differ_between_versions_as_redis_says(raw):
    raw.call("HSET", "h", "f", "v")
    raw.call("SADD", "s", "m")
    raw.call("ZADD", "z", "1.5", "a", "2", "b")
    asked = {
        "map": ("HGETALL", "h"),
        "set": ("SMEMBERS", "s"),
        "double": ("ZSCORE", "z", "a"),
        "scores": ("ZRANGE", "z", 0, -1, "WITHSCORES"),
        "popped": ("ZPOPMAX", "empty"),
        "increased": ("ZINCRBY", "z2", "1.5", "m"),
        "config": ("CONFIG", "GET", "databases"),
        "nil": ("GET", "none"),
        "nil array": ("BLPOP", "none", "0.01"),
        "union": ("SUNION", "s", "none"),
        "random": ("HRANDFIELD", "h", 1, "WITHVALUES"),
    }
    older = {name: raw.call(*request) for name, request in asked.items()}
    raw.call("DEL", "z2")
    raw.call("HELLO", 3)
    newer = {name: raw.call(*request) for name, request in asked.items()}
    assert older == {
        "map": [b"f", b"v"],
        "set": [b"m"],
        "double": b"1.5",
        "scores": [b"a", b"1.5", b"b", b"2"],
        "popped": [],
        "increased": b"1.5",
        "config": [b"databases", b"16"],
        "nil": None,
        "nil array": None,
        "union": [b"m"],
        "random": [b"f", b"v"],
    }
    assert newer == {
        "map": {b"f": b"v"},
        "set": {b"m"},
        "double": 1.5,
        "scores": [[b"a", 1.5], [b"b", 2.0]],
        "popped": [],
        "increased": 1.5,
        "config": {b"databases": b"16"},
        "nil": None,
        "nil array": None,
        "union": {b"m"},
        "random": [[b"f", b"v"]],
    }
    assert isinstance(raw.call("INFO", "server"), Verbatim)
    raw.send_bytes(encode("GET", "none"))
    assert raw.file.readline() == b"_\r\n"


def test_messages_are_pushes_in_the_newer_version(raw, nodes):
    raw.call("HELLO", 3)
    subscribed = raw.call("SUBSCRIBE", "c")
    assert isinstance(subscribed, Push) and subscribed == [b"subscribe", b"c", 1]
    assert raw.call("GET", "none") is None, "other commands may be sent meanwhile"
    with nodes.client(0) as other:
        other.publish("c", "hi")
    message = raw.read()
    assert isinstance(message, Push) and message == [b"message", b"c", b"hi"]


def test_subscriber_in_the_older_version_may_only_subscribe(raw, nodes):
    assert raw.call("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
    assert raw.call("GET", "k").startswith("ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING")
    assert raw.call("PING") == [b"pong", b""] and raw.call("PING", "x") == [b"pong", b"x"]
    with nodes.client(0) as other:
        other.publish("c", "hi")
    assert raw.read() == [b"message", b"c", b"hi"]
    assert raw.call("UNSUBSCRIBE") == [b"unsubscribe", b"c", 0]
    assert raw.call("UNSUBSCRIBE") == [b"unsubscribe", None, 0]
    assert raw.call("PING") == "PONG"


def test_inline_commands_are_answered(raw):
    raw.send_bytes(b"PING\r\nset k 'a b'\n\r\n  get k  \r\necho \"\\x41\\n\"\r\n")
    assert [raw.read() for _ in range(4)] == ["PONG", "OK", b"a b", b"A\n"]


# bad input

HOSTILE = [
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
    (b"*2\r\n$3\r\nGET\r\n$2147483647\r\n", "invalid bulk length"),
    (b"*x\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*9223372036854775808\r\n", "invalid multibulk length"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfoo\r\n", "expected '$', got 'f'"),
    (b'set k "a\r\n', "unbalanced quotes in request"),
    (b"x" * 70_000, "too big inline request"),
    (b"*" + b"1" * 70_000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
]


@pytest.mark.parametrize("data, text", HOSTILE, ids=range(len(HOSTILE)))
def test_bad_input_is_named_and_ends_that_connection_only(raw, nodes, data, text):
    with Resp(nodes.endpoint()) as other:
        assert other.call("PING") == "PONG"
        raw.send_bytes(encode("SET", "k", "v") + data)
        assert raw.read() == "OK", "what came before is answered"
        assert raw.read() == f"ERR Protocol error: {text}"
        assert raw.is_closed()
        assert other.call("GET", "k") == b"v"


def test_bad_input_of_a_browser_runs_no_command(raw, nodes):
    with nodes.client(0) as client:
        client.set("k", "v")
        raw.send_bytes(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nFLUSHALL\r\n")
        try:
            while isinstance(raw.read(), Refused):
                pass
            raise AssertionError("answered as if it were a command")
        except (Closed, ConnectionResetError):
            pass
        assert client.get("k") == "v"


def test_bad_input_of_random_bytes_disturbs_nobody(nodes):
    rng = random.Random(3)
    with nodes.client(0) as client:
        client.set("k", "v")
        for n in range(150):
            with socket.create_connection(nodes.endpoint(n), timeout=10) as sock:
                start = rng.choice([b"", b"*", b"$", b"*1\r\n", b"*2\r\n$3\r\nGET\r\n", b"*3\r\n$"])
                sock.sendall(start + rng.randbytes(rng.randrange(1, 3_000)))
        assert client.get("k") == "v"
    for i in range(len(nodes)):
        with nodes.client(i) as client:
            assert client.ping()


def test_half_requests_wait_and_change_nothing(raw, nodes):
    with nodes.client(0) as client:
        request = encode("SET", "k", "value")
        halves = [Resp(nodes.endpoint()) for _ in range(100)]
        for n, half in enumerate(halves):
            half.send_bytes(request[: 1 + n % (len(request) - 1)])
        assert client.get("k") is None
        for half in halves:
            half.__exit__()
        assert client.get("k") is None
    for byte in request:
        raw.send_bytes(bytes([byte]))
        time.sleep(0.002)
    assert raw.read() == "OK" and raw.call("GET", "k") == b"value"


def memory_kib(nodes):
    """Resident memory of the first node; None for a server that is not ours to look at."""
    if REDIS_TARGET:
        return None
    status = open(f"/proc/{nodes.cluster[0].process.pid}/status").read()
    return int(status.split("VmRSS:")[1].split()[0])


def test_slow_reader_holds_up_nobody_and_gets_everything_in_the_end(nodes):
    megabyte, count = b"x" * 1_000_000, 80
    with nodes.client(0) as client, Resp(nodes.endpoint(), timeout=60, buffer=4096) as slow:
        client.set("big", megabyte)
        before = memory_kib(nodes)
        sending = Background(lambda: [slow.send("GET", "big") for _ in range(count)])
        longest, end = 0.0, time.monotonic() + 2
        while time.monotonic() < end:
            begun = time.monotonic()
            client.incr("n")
            longest = max(longest, time.monotonic() - begun)
        assert longest < 3, f"another client waited {longest:.2f} s"
        if before is not None:
            grown = (memory_kib(nodes) - before) / 1024
            assert grown < 50, f"{grown:.0f} MiB are held for a client that does not read"
        for _ in range(count):
            assert slow.read() == megabyte
        sending.result()


def test_client_that_does_not_read_may_leave(nodes):
    with nodes.client(0) as client:
        client.set("big", b"x" * 1_000_000)
        for _ in range(5):
            with Resp(nodes.endpoint(), buffer=4096) as gone:
                gone.send_bytes(encode("GET", "big") * 50)
        assert client.ping()


# size


def test_value_of_ten_megabytes_comes_back_whole(nodes):
    value = random.Random(1).randbytes(10 << 20)
    with nodes.client(0, decode_responses=False) as client, nodes.client(1, decode_responses=False) as other:
        assert client.set("big", value) and client.strlen("big") == len(value)
        assert client.get("big") == value
        eventually(lambda: other.get("big") == value, 20)
        assert client.append("big", b"end") == len(value) + 3 and client.getrange("big", -5, -1) == value[-2:] + b"end"
        assert client.hset("h", "f", value) == 1 and client.hget("h", "f") == value
        assert client.delete("big", "h") == 2


def test_request_of_many_arguments_is_one(nodes):
    pairs = {f"k{i}": str(i) for i in range(20_000)}
    with nodes.client(0) as client:
        assert client.mset(pairs) and client.mget(list(pairs)) == list(pairs.values())
        assert client.delete(*pairs) == 20_000


def test_many_connections_are_served(nodes):
    many = [Resp(nodes.endpoint(i)) for i in range(300)]
    for n, one in enumerate(many):
        one.send("INCR", f"c{n % 10}")
    assert all(isinstance(one.read(), int) for one in many)
    for one in many:
        one.__exit__()


# Redis' own tools


def tool(name, nodes, *arguments, stdin=None):
    """Standard output of a program of Debian's package redis-tools."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian: redis-tools)")
    host, port = nodes.endpoint()
    done = subprocess.run(
        [name, "-h", host, "-p", str(port), *arguments],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=90,
        check=False,
        env={**os.environ, "REDISCLI_HISTFILE": "/dev/null"},
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, f"{name} {' '.join(arguments)} ended with {done.returncode}: {err}{out}"
    assert "Error" not in err, err
    return out


@pytest.mark.parametrize("version", [[], ["-3"]], ids=["resp2", "resp3"])
def test_redis_cli_asks_and_shows(nodes, version):
    def cli(*arguments, **options):
        return tool("redis-cli", nodes, *version, *arguments, **options).rstrip("\n")

    assert cli("SET", "k", "a b") == "OK" and cli("GET", "k") == "a b"
    assert cli("GET", "none") == "" and cli("--no-raw", "GET", "none") == "(nil)"
    assert cli("--no-raw", "INCR", "n") == "(integer) 1"
    assert cli("HSET", "h", "f", "v") == "1" and cli("--json", "HGETALL", "h") == '{"f":"v"}'
    assert sorted(cli("--scan").split()) == ["h", "k", "n"]
    assert cli("-n", "1", "DBSIZE") == "0" and "redis_version" in cli("INFO", "server")
    assert cli(stdin=b"MULTI\nSET a 1\nINCR a\nEXEC\n").split() == ["OK", "QUEUED", "QUEUED", "OK", "2"]
    assert "cmd=client|list" in cli("CLIENT", "LIST")


def test_redis_cli_inserts_a_mass(nodes):
    requests = b"".join(encode("SET", f"mass:{i}", i) for i in range(20_000))
    assert "errors: 0, replies: 20000" in tool("redis-cli", nodes, "--pipe", stdin=requests)
    with nodes.client(0) as client:
        assert client.dbsize() == 20_000 and client.get("mass:19999") == "19999"
    assert "Biggest string found" in tool("redis-cli", nodes, "--bigkeys")


def test_redis_benchmark_runs_all_its_tests(nodes):
    out = tool("redis-benchmark", nodes, "-n", "1000", "-r", "100", "-P", "4", "-q")
    lines = [line for part in out.splitlines() if (line := part.split("\r")[-1]).strip()]
    rates = [line for line in lines if "requests per second" in line]
    assert len(rates) >= 18, out
    assert not any("rror" in line for line in lines), out
