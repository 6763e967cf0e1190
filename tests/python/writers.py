"""Writers of unique values that keep a log of what was acknowledged, and the check of what came of it.

Each writer holds one session for its whole life and takes it from node to node. A value whose answer
never came may be there or not; it is never sent again, so it may be there once at most.
"""

import itertools
import struct
import threading
import time

import raw as z
from raw import Closed, Raw

SESSION_MS = 15_000


class Writer(threading.Thread):
    def __init__(self, name, cluster, parent, pause=0.01):
        super().__init__(daemon=True)
        self.name, self.cluster, self.parent, self.pause = name, cluster, parent, pause
        self.acknowledged = []  # (value, created path, zxid)
        self.unknown = set()
        self.problem = None
        self.longest_gap = 0.0
        self.moves = 0
        self._end = threading.Event()
        self._turn = itertools.count(sum(name.encode()))
        self._session, self._password, self._zxid = 0, b"\0" * 16, 0
        self._raw = None
        self._reach()
        self._raw.create(f"{parent}-e/{name}", mode=z.EPHEMERAL)

    @property
    def session(self):
        return self._session

    def _reach(self):
        """Brings the session to a node that takes it."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            server = self.cluster[next(self._turn) % len(self.cluster)]
            raw = None
            try:
                raw = Raw(server.address, timeout=2)
                raw.connect(SESSION_MS, self._session, self._password, self._zxid)
                if raw.session == 0:
                    raise AssertionError(f"session {self._session:#x} of writer {self.name} expired at {server.address}")
                self._session, self._password = raw.session, raw.password
                self._raw = raw
                self.moves += 1
                return
            except (OSError, Closed, struct.error):
                if raw is not None:
                    raw.drop()
                time.sleep(0.05)
        raise AssertionError(f"writer {self.name} reaches no node for a minute")

    def run(self):
        last = time.monotonic()
        try:
            for n in itertools.count():
                if self._end.is_set():
                    return
                value = f"{self.name}:{n}"
                self.unknown.add(value)
                try:
                    r = self._raw.call(z.CREATE2, z.create_body(self.parent + "/n-", value.encode(), mode=z.SEQUENTIAL))
                    self._zxid = max(self._zxid, self._raw.last_zxid)
                    if r.err == z.OK:
                        self.acknowledged.append((value, r.body.str(), r.zxid))
                        self.unknown.discard(value)
                        now = time.monotonic()
                        self.longest_gap, last = max(self.longest_gap, now - last), now
                    elif r.err in (z.SESSION_EXPIRED,):
                        raise AssertionError(f"writer {self.name}: its session expired")
                    else:
                        raise Closed()
                except (OSError, Closed, struct.error):
                    self._zxid = max(self._zxid, self._raw.last_zxid)
                    self._raw.drop()
                    self._reach()
                time.sleep(self.pause)
        except Exception as e:  # noqa: BLE001 - told by check()
            self.problem = e

    def end(self):
        self._end.set()
        self.join(90)
        assert not self.is_alive(), f"writer {self.name} hangs"
        if self._raw is not None:
            self._raw.drop()


class Writers:
    def __init__(self, cluster, count=4, parent="/w", pause=0.01):
        self.cluster, self.parent = cluster, parent
        with Raw(cluster[0].address).connect() as raw:
            raw.create(parent)
            raw.create(parent + "-e")
            raw.close()
        self.all = [Writer(f"w{i}", cluster, parent, pause) for i in range(count)]
        for writer in self.all:
            writer.start()

    def acknowledged(self):
        return sum(len(writer.acknowledged) for writer in self.all)

    def go_on(self, timeout=30):
        """Waits until every writer has got another acknowledgement."""
        before = [len(writer.acknowledged) for writer in self.all]
        end = time.monotonic() + timeout
        while any(len(w.acknowledged) <= n for w, n in zip(self.all, before)):
            for writer in self.all:
                if writer.problem is not None:
                    raise writer.problem
            assert time.monotonic() < end, f"no acknowledgement for {timeout} s"
            time.sleep(0.02)

    def check(self):
        """Ends the writers, then reads everything from every node and compares."""
        for writer in self.all:
            writer.end()
        for writer in self.all:
            if writer.problem is not None:
                raise writer.problem
        contents = [contents_of(server, self.parent) for server in self.cluster.servers]
        for server, other in zip(self.cluster.servers[1:], contents[1:]):
            assert other == contents[0], f"servers 1 and {server.number} differ: {difference(contents[0], other)}"
        by_path = contents[0]
        values = [value for value, _ in by_path.values()]
        assert len(values) == len(set(values)), "a value was written twice"
        known = {value for writer in self.all for value, _, _ in writer.acknowledged}
        unsure = {value for writer in self.all for value in writer.unknown}
        assert set(values) <= known | unsure, "a value appeared that nobody wrote"
        for writer in self.all:
            for value, path, zxid in writer.acknowledged:
                assert path in by_path, f"{path} = {value} was acknowledged at zxid {zxid:#x} and is lost"
                assert by_path[path] == (value, zxid), f"{path}: wrote {value} at {zxid:#x}, found {by_path[path]}"
        in_name_order = [by_path[path][1] for path in sorted(by_path)]
        assert in_name_order == sorted(in_name_order), "the order of names is not the order of revisions"

        def owners(raw):
            raw.sync("/")
            return [raw.exists(f"{self.parent}-e/{writer.name}") for writer in self.all]

        for writer, stat in zip(self.all, on_a_connection(self.cluster[0], owners)):
            assert stat is not None and stat.ephemeral_owner == writer.session, f"session of {writer.name} is gone"
        return len(by_path)


def on_a_connection(server, use):
    """`use(raw)` on a connection that lives long enough: one that loses its leader half way is closed, and a client dials again."""
    end = time.monotonic() + 60
    while True:
        try:
            with Raw(server.address, timeout=60).connect(SESSION_MS) as raw:
                out = use(raw)
                raw.close()
                return out
        except (OSError, Closed):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def contents_of(server, parent):
    """path → (value, czxid), read from one node after a sync there."""

    def read(raw):
        raw.sync(parent)
        names = raw.children(parent)
        out = {}
        for at in range(0, len(names), 500):
            part = names[at : at + 500]
            sent = [(n, raw.send(z.GET_DATA, z.s(f"{parent}/{n}") + z.flag(False))) for n in part]
            for name, xid in sent:
                r = raw.wait(xid)
                assert r.err == z.OK, f"{parent}/{name} is listed and cannot be read: {r.err}"
                data = r.body.buf()
                out[f"{parent}/{name}"] = (data.decode(), r.body.stat().czxid)
        return out

    return on_a_connection(server, read)


def difference(a, b):
    keys = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    return f"{len(keys)} paths, first " + ", ".join(f"{k}: {a.get(k)} / {b.get(k)}" for k in keys[:3])


