"""Several nodes as Redis clients see them: the map of slots, redis-py's cluster client, any node for any key,
and nodes that are killed under load.

With REDIS_TARGET=host:port, a node of a Redis Cluster, the tests of the map and of the cluster client ask that
one; the others speak of what Redis does not promise, and are left out.
"""

import itertools
import threading
import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from raw import eventually
from redis_nodes import REDIS_TARGET, Background
from resp import Refused, Resp

SLOTS = 16_384

ours = pytest.mark.skipif(bool(REDIS_TARGET), reason="Redis answers MOVED, and loses what was acknowledged")


@pytest.fixture(params=["redis_one", "redis_three", "redis_spread"])
def nodes(request):
    """Nodes without a key; also nodes of several cores, none of which has all keys."""
    nodes = request.getfixturevalue(request.param)
    with nodes.client(0) as client:
        client.flushall()
    return nodes


@pytest.fixture
def map_nodes(nodes):
    """The nodes, once they tell a map of slots."""
    if REDIS_TARGET:
        with nodes.client(0) as client:
            if client.info("cluster").get("cluster_enabled") != 1:
                pytest.skip("REDIS_TARGET is not of a cluster")
    return nodes


@pytest.fixture
def clustered(map_nodes):
    start = [ClusterNode(*map_nodes.endpoint(i)) for i in range(len(map_nodes))]
    with RedisCluster(startup_nodes=start, decode_responses=True, protocol=map_nodes.protocol) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield client


# the map


def test_map_of_slots_is_whole_and_names_who_serves(map_nodes):
    with Resp(map_nodes.endpoint()) as raw:
        ranges = raw.call("CLUSTER", "SLOTS")
        assert not isinstance(ranges, Refused), ranges
        covered = sorted(slot for first, last, *_ in ranges for slot in range(first, last + 1))
        assert covered == list(range(SLOTS))
        for _, _, primary, *replicas in ranges:
            for host, port, node_id, *_ in [primary, *replicas]:
                assert len(node_id) == 40
                with Resp((host.decode(), port)) as other:
                    assert other.call("PING") == "PONG"
        info = dict(line.split(":") for line in raw.call("CLUSTER", "INFO").decode().split())
        assert info["cluster_state"] == "ok" and info["cluster_slots_assigned"] == str(SLOTS)
        my_id = raw.call("CLUSTER", "MYID")
        lines = raw.call("CLUSTER", "NODES").decode().splitlines()
        mine = [line for line in lines if "myself" in line.split()[2]]
        assert len(mine) == 1 and mine[0].split()[0] == my_id.decode()


def test_map_of_shards_agrees_with_the_slots(map_nodes):
    with Resp(map_nodes.endpoint()) as raw:
        from_slots = {(first, last): primary[2] for first, last, primary, *_ in raw.call("CLUSTER", "SLOTS")}
        raw.call("HELLO", 3)
        from_shards = {}
        for shard in raw.call("CLUSTER", "SHARDS"):
            (primary,) = [node for node in shard[b"nodes"] if node[b"role"] == b"master"]
            assert all(node[b"health"] == b"online" and node[b"port"] > 0 for node in shard[b"nodes"])
            slots = shard[b"slots"]
            for first, last in zip(slots[::2], slots[1::2]):
                from_shards[(first, last)] = primary[b"id"]
        assert from_shards == from_slots


def test_slot_of_a_key_is_as_in_redis(map_nodes):
    with Resp(map_nodes.endpoint()) as raw:
        for key, slot in [
            ("", 0),
            ("foo", 12_182),
            ("bar", 5_061),
            ("hello", 866),
            ("123456789", 12_739),
            ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
        ]:
            assert raw.call("CLUSTER", "KEYSLOT", key) == slot, key


# redis-py's cluster client


def test_cluster_client_reads_and_writes_keys_of_all_slots(clustered):
    for i in range(500):
        assert clustered.set(f"key:{i}", i)
    assert [clustered.get(f"key:{i}") for i in range(500)] == [str(i) for i in range(500)]
    assert clustered.mset_nonatomic({f"m:{i}": i for i in range(50)})
    assert clustered.mget_nonatomic([f"m:{i}" for i in range(50)]) == [str(i) for i in range(50)]
    assert len(set(clustered.scan_iter("key:*"))) == 500
    assert clustered.delete(*[f"key:{i}" for i in range(500)]) == 500


def test_cluster_client_pipelines_and_uses_every_type(clustered):
    with clustered.pipeline() as pipe:
        for i in range(200):
            pipe.set(f"p:{i}", i)
            pipe.incr(f"p:{i}")
        assert pipe.execute()[1::2] == [i + 1 for i in range(200)]
    clustered.rpush("{t}l", "a", "b")
    clustered.hset("{t}h", "f", "v")
    clustered.sadd("{t}s1", "a", "b")
    clustered.sadd("{t}s2", "b")
    clustered.zadd("{t}z", {"m": 1})
    assert clustered.blpop("{t}l", 1) and clustered.hgetall("{t}h") == {"f": "v"}
    assert clustered.sinter("{t}s1", "{t}s2") == {"b"} and clustered.zscore("{t}z", "m") == 1


def test_cluster_client_keeps_a_hash_tag_together_in_a_transaction(clustered):
    with clustered.pipeline(transaction=True) as pipe:
        pipe.set("{t}a", 1).incr("{t}a").get("{t}a")
        assert pipe.execute()[1:] == [2, "2"]


# any node for any key


@ours
def test_every_node_serves_every_key(nodes, connect):
    clients = [connect(i) for i in range(3)]
    for i in range(300):
        assert clients[i % 3].set(f"key:{i}", i) is True
    for client in clients:
        keys = [f"key:{i}" for i in range(300)]
        eventually(lambda: client.mget(keys) == [str(i) for i in range(300)], 5)
        assert [client.get(f"key:{i}") for i in range(300)] == [str(i) for i in range(300)]
        assert client.dbsize() == 300


@ours
def test_a_counter_over_all_nodes_gives_each_number_once(nodes):
    def count(i):
        with nodes.client(i) as client:
            return [client.incr("n") for _ in range(200)]

    counted = [background.result(60) for background in [Background(count, i) for i in range(6)]]
    assert all(numbers == sorted(numbers) for numbers in counted)
    assert sorted(itertools.chain(*counted)) == list(range(1, 1_201))


@ours
def test_a_client_reads_what_it_has_written_and_what_was_acknowledged_elsewhere(nodes, connect):
    """Once a write was acknowledged, no read that begins later misses it, on whatever node."""
    clients = [connect(i) for i in range(3)]
    for n in range(300):
        writer, reader = clients[n % 3], clients[(n + 1 + n // 3) % 3]
        writer.set("k", n)
        assert writer.get("k") == str(n)
        assert reader.get("k") == str(n)


@ours
def test_commands_about_several_shards_are_one_answer(nodes, connect):
    clients = [connect(i) for i in range(3)]
    keys = [f"key:{i}" for i in range(100)]
    for i, key in enumerate(keys):
        clients[i % 3].set(key, i)
    for client in clients:
        assert client.dbsize() == 100 and sorted(client.keys("key:*")) == sorted(keys)
        assert client.mget(["none", *keys, "none"]) == [None, *map(str, range(100)), None]
        assert client.exists(*keys, keys[0], "none") == 101 and client.touch(*keys) == 100
        assert {client.randomkey() for _ in range(50)} <= set(keys)
        for count in (1, 7, 1_000):
            assert sorted(client.scan_iter("key:*", count=count)) == sorted(keys)
    assert clients[1].delete(*keys[:30], "none") == 30 and clients[2].unlink(*keys[30:40]) == 10
    assert [client.dbsize() for client in clients] == [60] * 3
    with clients[0].pipeline(transaction=False) as pipe:
        pipe.set("a", 1).mget("a", "b", "c", "d", "e").incr("b").mget("a", "b", "c", "d", "e").dbsize()
        assert pipe.execute() == [True, ["1"] + [None] * 4, 1, ["1", "1"] + [None] * 3, 62]
    assert clients[2].flushall() and [client.dbsize() for client in clients] == [0] * 3


@ours
def test_what_must_be_one_step_over_several_shards_is_refused(redis_spread, request):
    nodes = redis_spread
    with nodes.client(0, protocol=2) as client:
        client.flushall()
        pairs = {f"key:{i}": i for i in range(20)}
        for call in (client.mset, client.msetnx):
            with pytest.raises(redis.RedisError, match="slot"):
                call(pairs)
        assert client.dbsize() == 0
        with pytest.raises(redis.RedisError, match="one step"):
            client.swapdb(0, 1)
        with client.pipeline() as pipe, pytest.raises(redis.RedisError, match="one shard"):
            pipe.set("a", 1).dbsize().execute()
        assert client.get("a") is None


@ours
def test_transactions_and_waiters_of_keys_at_other_cores(redis_spread):
    nodes = redis_spread
    for i in range(8):  # tags in all shards
        with nodes.client(i) as one, nodes.client(i + 1) as other:
            key, queue = f"{{t{i}}}n", f"{{t{i}}}q"
            one.delete(key, queue)
            with one.pipeline() as pipe:
                pipe.watch(key)
                other.incr(key)
                pipe.multi()
                pipe.set(key, "lost")
                with pytest.raises(redis.WatchError):
                    pipe.execute()
                pipe.watch(key)
                value = pipe.get(key)
                pipe.multi()
                pipe.set(key, int(value) + 1).get(key).hset(queue + "h", mapping={"f": "1"}).hgetall(queue + "h")
                assert pipe.execute() == [True, "2", 1, {"f": "1"}]
            one.delete(queue + "h")
            waiting = Background(one.blpop, queue, 20)
            time.sleep(0.05)
            other.rpush(queue, "x", "y")
            assert list(waiting.result()) == [queue, "x"]
            assert one.blpop([queue], 5)[1] == "y" and one.blpop([queue], 0.2) is None
            # Who leaves while it waits takes nothing along.
            with nodes.client(i, socket_timeout=0.3) as gone, pytest.raises(redis.TimeoutError):
                gone.blpop(queue, 20)
            other.rpush(queue, "z")
            assert one.lrange(queue, 0, -1) == ["z"]
            other.select(3)
            other.set(key, "in another database")
            assert one.get(key) == "2" and other.get(key) == "in another database"
            other.delete(key)


# faults


class Writer(threading.Thread):
    """Pushes numbers to a list of its own and sets keys, on whatever node answers; remembers what was acknowledged.

    A number whose answer never came may be there or not; it is never sent again, so it is there once at most.
    """

    def __init__(self, name, nodes):
        super().__init__(daemon=True)
        self.name, self.nodes = name, nodes
        self.pushed, self.set, self.unknown = [], {}, set()
        self.longest_gap = 0.0
        self.problem = None
        self._end = threading.Event()

    def run(self):
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - told by check()
            self.problem = error

    def _write(self):
        node, client, last = int(self.name[1:]), None, time.monotonic()
        for n in itertools.count():
            if self._end.is_set():
                return
            try:
                client = client or self.nodes.client(node, socket_timeout=3)
                self.unknown.add(n)
                client.rpush(f"list:{self.name}", n)
                self.pushed.append(n)
                self.unknown.discard(n)
                client.set(f"key:{self.name}:{n}", n)
                self.set[f"key:{self.name}:{n}"] = str(n)
                now = time.monotonic()
                self.longest_gap, last = max(self.longest_gap, now - last), now
                time.sleep(0.002)
            except (OSError, redis.RedisError):
                if client is not None:
                    client.close()
                client, node = None, node + 1
                time.sleep(0.05)

    def end(self):
        self._end.set()
        self.join(60)
        assert not self.is_alive(), f"writer {self.name} hangs"


class Writers:
    def __init__(self, nodes, count=4):
        self.all = [Writer(f"w{i}", nodes) for i in range(count)]
        for writer in self.all:
            writer.start()

    def go_on(self, timeout=30):
        """Waits until every writer has got another acknowledgement."""
        before = [len(writer.set) for writer in self.all]
        eventually(
            lambda: all(len(w.set) > n or w.problem is not None for w, n in zip(self.all, before)),
            timeout,
        )

    def check(self, nodes):
        """Ends the writers and compares what every node holds with what was acknowledged. The number of writes."""
        for writer in self.all:
            writer.end()
        for writer in self.all:
            if writer.problem is not None:
                raise writer.problem
        for i in range(len(nodes)):
            with nodes.client(i) as client:
                for writer in self.all:
                    there = [int(n) for n in client.lrange(f"list:{writer.name}", 0, -1)]
                    assert len(there) == len(set(there)), f"{writer.name}: a number was pushed twice"
                    assert there == sorted(there), f"{writer.name}: numbers changed their order"
                    lost = set(writer.pushed) - set(there)
                    assert not lost, f"node {i + 1}: {sorted(lost)[:5]} were acknowledged to {writer.name} and are lost"
                    assert set(there) <= set(writer.pushed) | writer.unknown, "a number that nobody pushed"
                    keys = list(writer.set)
                    for at in range(0, len(keys), 1_000):
                        part = keys[at : at + 1_000]
                        assert client.mget(part) == [writer.set[key] for key in part], f"node {i + 1}: a key is lost"
        return sum(len(writer.pushed) + len(writer.set) for writer in self.all)


@pytest.mark.timeout(300)
def test_killed_nodes_under_load_nothing_acknowledged_is_lost(fresh_redis_three):
    nodes = fresh_redis_three
    writers = Writers(nodes)
    writers.go_on()
    for round_ in range(2):
        for victim in range(3):
            time.sleep(1)
            nodes.cluster.kill(victim)
            writers.go_on()  # a majority is enough
            nodes.cluster[victim].start()
            nodes.cluster.wait_ready([victim])
            nodes.wait_ready([victim])
            writers.go_on()
    count = writers.check(nodes)
    gap = max(writer.longest_gap for writer in writers.all)
    print(f"6 kills, {count} writes, longest wait for an answer {gap:.2f} s")
    assert count > 500


@pytest.mark.timeout(200)
def test_all_nodes_killed_at_once_nothing_acknowledged_is_lost(fresh_redis_three):
    nodes = fresh_redis_three
    writers = Writers(nodes)
    for _ in range(2):
        writers.go_on()
        time.sleep(1)
        for i in range(3):
            nodes.cluster.kill(i)
        for i in range(3):
            nodes.cluster[i].start()
        nodes.cluster.wait_ready()
        nodes.wait_ready()
    writers.go_on()
    assert writers.check(nodes) > 200


@pytest.mark.timeout(200)
def test_killed_leader_expiry_locks_and_waiters_go_on(fresh_redis_three):
    """What waits for time or for others is not forgotten with the leader."""
    nodes = fresh_redis_three
    leader = nodes.cluster.leader()
    one, two = [i for i in range(3) if i != leader]
    with nodes.client(one) as first, nodes.client(two) as second:
        assert first.set("lock", "a", nx=True, px=3_000)
        first.set("kept", "x", ex=1_000)
        begun = time.monotonic()
        nodes.cluster.kill(leader)

        def push():
            try:
                return second.rpush("queue", "x")
            except (OSError, redis.RedisError):
                return False

        def pop():
            while time.monotonic() < begun + 30:
                try:
                    if (taken := first.blpop("queue", 10)) is not None:
                        return taken
                except (OSError, redis.RedisError):
                    time.sleep(0.05)
            return None

        waiting = Background(pop)
        eventually(push, 20)
        assert list(waiting.result(30)) == ["queue", "x"]

        def taken():
            try:
                return second.set("lock", "b", nx=True)
            except (OSError, redis.RedisError):
                return False

        eventually(taken, 20)
        assert time.monotonic() - begun > 2.9, "the lock ended before its time"
        assert 900 < first.ttl("kept") <= 1_000
