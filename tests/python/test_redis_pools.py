"""A pool of single copies for keys that may be lost: what an orderly end and a crash leave of them, and which
of several nodes serves them."""

import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from raw import eventually
from redis_nodes import REDIS_TARGET, RedisNodes
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


def test_single_copy_of_several_nodes_is_served_where_it_lies(pooled):
    cluster, nodes = pooled(3, "everysec", **{"cache.shards": 1})
    served = []

    def one_serves():
        served.clear()
        for i in range(3):
            try:
                with nodes.client(i, socket_timeout=5) as client:
                    served.append(bool(client.set("key", i)))
            except redis.exceptions.ClusterDownError:
                served.append(False)
        return sum(served) == 1

    eventually(one_serves, 30)
    holder = cluster.servers[served.index(True)].status()[0]
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
