"""A million watches on one server: what they cost, whom they disturb, and that events find the right ones."""

import struct
import threading
import time
from pathlib import Path

import pytest

import raw as z
from raw import Event, Raw, eventually
from servers import Cluster

pytestmark = pytest.mark.althing_only

CONNECTIONS = 10
WATCHES = 1_000_000
BATCH = 5_000
# A watch costs its path and about 130 bytes (`coordination::watches`); with what an allocator adds.
BYTES_A_WATCH_MAX = 400
# Of a bystander's request while watches are armed, fired and dropped: far above what is usual on a busy
# machine, far below what a client takes for a dead server.
STALL_S_MAX = 4.0


def path_of(number):
    return f"/m/{number:07}"


def resident_bytes(server):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


def arm(raws):
    """Watches every path for its creation, the n-th by connection n % CONNECTIONS."""
    answer = struct.Struct(">iiqi")
    for first in range(0, WATCHES, BATCH * CONNECTIONS):
        for k, raw in enumerate(raws):
            out = bytearray()
            for number in range(first + k, min(first + BATCH * CONNECTIONS, WATCHES), CONNECTIONS):
                path = path_of(number).encode()
                raw.xid += 1
                out += struct.pack(f">iiii{len(path)}s?", 13 + len(path), raw.xid, z.EXISTS, len(path), path, True)
            raw.send_bytes(out)
        for raw in raws:
            replies = raw.read_exact(BATCH * answer.size)
            xid = raw.xid - BATCH
            for length, got, _, error in answer.iter_unpack(replies):
                xid += 1
                assert (length, got, error) == (16, xid, z.NO_NODE)


class Bystander(threading.Thread):
    """A session of somebody else: reads and writes without a pause, and notes the longest time of each."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.raw = Raw(address).connect()
        self.raw.create("/bystander")
        self.ended = False
        self.count, self.longest, self.failure = 0, 0.0, None

    def run(self):
        try:
            while not self.ended:
                began = time.monotonic()
                self.raw.set("/bystander", b"x")
                assert self.raw.get("/bystander")[0] == b"x"
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
                time.sleep(0.002)
            assert self.raw.close() == z.OK
        except Exception as e:  # noqa: BLE001 - told by the test
            self.failure = e

    def end(self):
        self.ended = True
        self.join(20)
        assert self.failure is None, f"the bystander's session was harmed: {self.failure!r}"


def watch_count(server):
    return server.status()[0]["tree"]["watches"]


def test_million_watches_cost_little_disturb_nobody_and_fire_exactly(tmp_path_factory):
    cluster = Cluster(1, tmp_path_factory.mktemp("watches"))
    server = cluster[0]
    try:
        cluster.start()
        bystander = Bystander(server.address)
        bystander.raw.create("/m")
        bystander.start()
        raws = [Raw(server.address).connect(timeout_ms=60_000) for _ in range(CONNECTIONS)]
        before, began = resident_bytes(server), time.monotonic()
        arm(raws)
        armed_s = time.monotonic() - began
        cost = (resident_bytes(server) - before) / WATCHES
        assert watch_count(server) == WATCHES
        print(f"{WATCHES} watches armed in {armed_s:.1f} s, {cost:.0f} bytes each, ", end="")
        assert cost < BYTES_A_WATCH_MAX

        # One creation fires the one watch on its path, once.
        chosen = [0, 1, 77, 123_456, WATCHES // 2 + 3, WATCHES - 1]
        with Raw(server.address).connect() as writer:
            for number in chosen:
                writer.create(path_of(number))
                writer.set(path_of(number), b"again")
            writer.close()
        for k, raw in enumerate(raws):
            raw.sync()
            wanted = [Event(z.CREATED, 3, path_of(n)) for n in chosen if n % CONNECTIONS == k]
            assert raw.events == wanted, f"connection {k}"
        assert watch_count(server) == WATCHES - len(chosen)

        # A connection that ends takes its watches with it, and no others.
        raws[3].drop()
        left = WATCHES - WATCHES // CONNECTIONS - sum(1 for n in chosen if n % CONNECTIONS != 3)
        eventually(lambda: watch_count(server) == left)
        for raw in raws:
            raw.drop()
        eventually(lambda: watch_count(server) == 0)
        bystander.end()
        print(f"{bystander.count} requests of a bystander, the longest {bystander.longest * 1000:.0f} ms")
        assert bystander.count > 10
        assert bystander.longest < STALL_S_MAX
    finally:
        cluster.end()
