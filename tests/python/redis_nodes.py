"""Nodes that Redis clients talk to: those of a cluster under test, or with REDIS_TARGET=host:port a
server that runs already (Debian's redis-server, to see that the tests expect what Redis does)."""

import os
import subprocess
import threading

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from raw import eventually
from servers import BIN, Althing

REDIS_TARGET = os.environ.get("REDIS_TARGET")


class Nodes:
    """Addresses, the first one's number 0; numbers go round."""

    addresses = ()

    @property
    def protocol(self):
        """What clients speak unless they say otherwise: so each test sees both versions."""
        return 2 if len(self) == 1 else 3

    def __len__(self):
        return len(self.addresses)

    def endpoint(self, i=0):
        """(host, port) of a node."""
        host, port = self.addresses[i % len(self)].rsplit(":", 1)
        return host, int(port)

    def client(self, i=0, **options):
        """A client of one node that tries nothing twice and gives up after 20 s."""
        host, port = self.endpoint(i)
        defaults = {
            "decode_responses": True,
            "protocol": self.protocol,
            "socket_timeout": 20,
            "retry": Retry(NoBackoff(), 0),
        }
        return redis.Redis(host=host, port=port, **{**defaults, **options})


class Target(Nodes):
    """The one server of REDIS_TARGET, as often as nodes are asked for."""

    def __init__(self, count):
        self.addresses = [REDIS_TARGET] * count


class RedisNodes(Nodes):
    """The nodes of a cluster of processes."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.addresses = [server.redis_address for server in cluster.servers]

    def wait_ready(self, which=None, timeout=60):
        """Waits until each node (or each of `which`) takes a write."""
        for i in which if which is not None else range(len(self)):

            def ready(i=i):
                try:
                    with self.client(i, socket_timeout=5) as client:
                        return client.set("ready", i)
                except (OSError, redis.RedisError):
                    return False

            eventually(ready, timeout)


def has_redis(directory):
    """True when the binary under test knows the key listen.redis."""
    server = Althing(1, directory, {"redis": True})
    server.configure([])
    checked = subprocess.run(
        [BIN, "config", "check", str(directory / "althing.toml")],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return "there is no key `redis` here" not in checked.stderr


class Background(threading.Thread):
    """Runs a function; `result` waits for what it returns or raises."""

    def __init__(self, function, *arguments, **options):
        super().__init__(daemon=True)
        self._call = lambda: function(*arguments, **options)
        self._value = self._error = None
        self.start()

    def run(self):
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error

    def result(self, timeout=20):
        self.join(timeout)
        assert not self.is_alive(), f"no answer within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value
