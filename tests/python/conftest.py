"""Fixtures: `one` and `three` are clusters shared by a module, `cluster` is the one under each test."""

import itertools

import pytest
import redis
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from redis_nodes import REDIS_TARGET, RedisNodes, Target, has_redis
from servers import TARGET, Cluster

_number = itertools.count(1)


def pytest_collection_modifyitems(config, items):
    if TARGET != "zookeeper":
        return
    left_out = [item for item in items if item.get_closest_marker("althing_only")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("althing_only")]


def _cluster(count, tmp_path_factory, **options):
    cluster = Cluster(count, tmp_path_factory.mktemp(f"cluster{count}"), **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    yield from _cluster(1, tmp_path_factory)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    yield from _cluster(3, tmp_path_factory)


@pytest.fixture
def fresh_three(tmp_path_factory):
    """Three servers that a test may ruin."""
    yield from _cluster(3, tmp_path_factory)


@pytest.fixture(params=[1, 3], ids=["one-node", "three-nodes"])
def cluster(request):
    """Each test once against one node and once against three."""
    return request.getfixturevalue("one" if request.param == 1 else "three")


@pytest.fixture
def root():
    """A path that no other test uses."""
    return f"/t{next(_number)}"


@pytest.fixture
def clients(cluster):
    """Makes started kazoo clients, the k-th on the k-th node."""
    made = []
    turn = itertools.count()

    def make(i=None, **options):
        server = cluster[(next(turn) if i is None else i) % len(cluster)]
        client = KazooClient(
            hosts=server.address,
            timeout=options.pop("timeout", 10.0),
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=0.5),
            **options,
        )
        client.start(timeout=20)
        made.append(client)
        return client

    yield make
    for client in made:
        try:
            client.stop()
            client.close()
        except Exception:  # noqa: BLE001 - the test's own verdict stands
            pass


def _redis_nodes(count, tmp_path_factory, **options):
    if REDIS_TARGET:
        yield Target(count)
        return
    if not has_redis(tmp_path_factory.mktemp("config")):
        pytest.skip("this build has no Redis front end: it does not know the key listen.redis")
    for cluster in _cluster(count, tmp_path_factory, redis=True, **options):
        nodes = RedisNodes(cluster)
        nodes.wait_ready()
        yield nodes


@pytest.fixture(scope="module")
def redis_one(tmp_path_factory):
    yield from _redis_nodes(1, tmp_path_factory)


@pytest.fixture(scope="module")
def redis_three(tmp_path_factory):
    yield from _redis_nodes(3, tmp_path_factory)


# Keys are spread over the cores of each node, so that most are passed on to another core.
SPREAD = {"cores": 2, "lanes": 2, "pools.main_shards": 4}


@pytest.fixture(scope="module")
def redis_spread(tmp_path_factory):
    yield from _redis_nodes(3, tmp_path_factory, **SPREAD)


@pytest.fixture(scope="module")
def redis_elsewhere(tmp_path_factory):
    """Three nodes, of which the last alone holds the keys: the others pass everything on."""
    if REDIS_TARGET:
        pytest.skip("REDIS_TARGET passes nothing on")
    options = {"cache.durability": "always", "cache.shards": 1}
    for nodes in _redis_nodes(3, tmp_path_factory, **options):
        holds = [any(s["name"].startswith("cache") for s in server.status()[0]["shards"]) for server in nodes.cluster]
        assert sum(holds) == 1
        first = holds.index(True) + 1
        nodes.addresses = nodes.addresses[first:] + nodes.addresses[:first]
        yield nodes


@pytest.fixture(params=["three-nodes", "two-cores-each"])
def fresh_redis_three(request, tmp_path_factory):
    """Three nodes that a test may ruin."""
    if REDIS_TARGET:
        pytest.skip("REDIS_TARGET is not to be killed")
    yield from _redis_nodes(3, tmp_path_factory, **(SPREAD if request.param == "two-cores-each" else {}))


@pytest.fixture(params=["redis_one", "redis_three", "redis_elsewhere"])
def nodes(request):
    """Nodes with a Redis front end and no key: each test against one, against three, and against three of which
    the keys are on one."""
    nodes = request.getfixturevalue(request.param)
    with nodes.client(0) as client:
        client.flushall()
    return nodes


@pytest.fixture
def connect(nodes):
    """Makes Redis clients: `connect(1)` is one on the second node, or on the only one."""
    made = []

    def make(i=0, **options):
        made.append(nodes.client(i, **options))
        return made[-1]

    yield make
    for client in made:
        try:
            client.close()
        except (OSError, redis.RedisError):
            pass  # the test's own verdict stands


@pytest.fixture
def r(connect):
    """A Redis client on the first node."""
    return connect(0)
