"""A pool of single copies for keys that may be lost: what an orderly end and a crash leave of them, and which
of several nodes serves them."""

import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from raw import eventually
from redis_nodes import REDIS_TARGET, Background, RedisNodes
from servers import Cluster

pytestmark = pytest.mark.skipif(bool(REDIS_TARGET), reason="these are nodes of ours, with pools")


@pytest.fixture
def pooled(tmp_path):
    """Makes nodes whose keys are of a pool of single copies."""
    made = []

    def make(count, durability, **options):
        options = {"redis": True, "cache.durability": durability, **options}
        cluster = Cluster(count, tmp_path, **options)
        made.append(cluster)
        cluster.start()
        cluster.wait_ready()
        return cluster, RedisNodes(cluster)

    yield make
    for cluster in made:
        cluster.end()


def restarted(cluster, nodes):
    cluster.servers[0].start()
    cluster.wait_ready()
    nodes.wait_ready()


@pytest.mark.parametrize("durability", ["always", "everysec", "none"])
def test_single_copy_survives_an_orderly_end(pooled, durability):
    cluster, nodes = pooled(1, durability)
    nodes.wait_ready()
    with nodes.client() as client:
        assert client.config_get("appendfsync")["appendfsync"] == {"none": "no"}.get(durability, durability)
        for i in range(500):
            client.set(f"key{i}", i)
        cluster.servers[0].terminate()
    restarted(cluster, nodes)
    with nodes.client() as client:
        assert client.mget([f"key{i}" for i in range(500)]) == [str(i) for i in range(500)]


@pytest.mark.parametrize("durability", ["always", "everysec"])
def test_single_copy_crash_loses_at_most_what_its_durability_says(pooled, durability):
    cluster, nodes = pooled(1, durability)
    nodes.wait_ready()
    acknowledged, end = [], time.monotonic() + 4
    with nodes.client() as client:
        while time.monotonic() < end:
            client.rpush("written", len(acknowledged))
            acknowledged.append(time.monotonic())
        killed = time.monotonic()
        cluster.servers[0].kill()
    restarted(cluster, nodes)
    with nodes.client() as client:
        there = client.lrange("written", 0, -1)
    assert there == [str(i) for i in range(len(there))], "what is there has no hole"
    # A busy machine's sync takes its time.
    allowed = {"always": 0.0, "everysec": 1.5}[durability]
    lost = acknowledged[len(there) :]
    assert not lost or killed - lost[0] <= allowed, f"{len(lost)} lost, the oldest {killed - lost[0]:.2f} s old"


def test_single_copy_of_several_nodes_is_served_by_all(pooled):
    cluster, nodes = pooled(3, "everysec", **{"cache.shards": 1})
    nodes.wait_ready()
    clients = [nodes.client(i) for i in range(3)]
    for i in range(30):
        assert clients[i % 3].set("key", i) and [c.get("key") for c in clients] == [str(i)] * 3
    statuses = [server.status()[0] for server in cluster]
    holds = [any(s["name"].startswith("cache") for s in status["shards"]) for status in statuses]
    assert sum(holds) == 1
    at = holds.index(True)
    holder = statuses[at]
    pools = {pool["name"]: pool for pool in holder["pools"]}
    assert pools["cache"]["holds_cache"] and pools["cache"]["policy"] == "single"
    assert pools["main"]["policy"] == "raft" and not pools["main"]["holds_cache"]
    assert pools["cache"]["slots"][0][3] == holder["node"]
    # A client that asks where slots are finds it from any node.
    # It does once the nodes have told each other where their clients reach them.
    start = [ClusterNode(*nodes.endpoint(i)) for i in range(3)]

    def found():
        with RedisCluster(startup_nodes=start, decode_responses=True) as client:
            client.set("other", "value")
            return client.get("other") == "value"

    eventually(found, 30)
    # While it is away the others say so; no connection hangs. Then all is as it was.
    waiting = Background(clients[(at + 1) % 3].blpop, "queue", 0)
    clients[(at + 2) % 3].get("key")
    cluster.kill(at)
    with pytest.raises((redis.RedisError, OSError)):
        waiting.result()
    with nodes.client(at + 2) as client, pytest.raises(redis.RedisError, match="no node that is heard"):
        client.get("key")
    cluster[at].start()
    cluster.wait_ready([at])
    nodes.wait_ready()
    assert nodes.client(at + 1).get("ready") is not None


def test_single_copies_at_several_cores_lose_nothing_in_an_orderly_end(pooled):
    cluster, nodes = pooled(2, "always", **{"cache.shards": 3, "cores": 2, "lanes": 2})
    nodes.wait_ready()
    with nodes.client(0) as one, nodes.client(1) as other:
        for i in range(300):
            (one, other)[i % 2].set(f"key{i}", i)
        assert one.dbsize() == other.dbsize() == 301
    for server in cluster:
        server.terminate()
    cluster.start()
    cluster.wait_ready()
    nodes.wait_ready()
    with nodes.client(1) as client:
        assert client.mget([f"key{i}" for i in range(300)]) == [str(i) for i in range(300)]
