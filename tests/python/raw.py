"""A ZooKeeper client of a few hundred lines that sends exactly what a test wants to send.

Nothing is retried, reconnected or hidden: tests of the protocol need to see each frame.
"""

import socket
import struct
import time
from collections import namedtuple

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL = 1, 2, 3, 4, 5, 6, 7
GET_CHILDREN, SYNC, PING, GET_CHILDREN2, CHECK, MULTI, CREATE2 = 8, 9, 11, 12, 13, 14, 15
RECONFIG, CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER = 16, 17, 18, 19
CREATE_TTL, MULTI_READ, AUTH, SET_WATCHES, SASL = 21, 22, 100, 101, 102
SET_WATCHES2, ADD_WATCH, CLOSE = 105, 106, -11

XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8

OK = 0
ROLLED_BACK, MARSHALLING_ERROR, UNIMPLEMENTED, BAD_ARGUMENTS = 0, -5, -6, -8
SYSTEM_ERROR, RUNTIME_INCONSISTENCY = -1, -2
NO_NODE, NO_AUTH, BAD_VERSION = -101, -102, -103
NO_CHILDREN_FOR_EPHEMERALS, NODE_EXISTS, NOT_EMPTY = -108, -110, -111
SESSION_EXPIRED, INVALID_ACL, AUTH_FAILED, SESSION_MOVED, NO_WATCHER = -112, -114, -115, -118, -121

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4

PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, TTL_SEQUENTIAL = range(7)

OPEN = [(31, "world", "anyone")]

Stat = namedtuple(
    "Stat",
    "czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length num_children pzxid",
)
Reply = namedtuple("Reply", "xid zxid err body")
Event = namedtuple("Event", "type state path")


def s(text):
    data = text.encode()
    return struct.pack(">i", len(data)) + data


def buf(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def acls(lines):
    return struct.pack(">i", len(lines)) + b"".join(
        struct.pack(">i", p) + s(scheme) + s(ident) for p, scheme, ident in lines
    )


def strings(items):
    return struct.pack(">i", len(items)) + b"".join(s(i) for i in items)


def i32(v):
    return struct.pack(">i", v)


def flag(v):
    return struct.pack(">?", v)


def create_body(path, data=b"", acl=OPEN, mode=PERSISTENT, ttl=None):
    body = s(path) + buf(data) + acls(acl) + i32(mode)
    return body if ttl is None else body + struct.pack(">q", ttl)


def multi_body(ops):
    """ops: (opcode, body) pairs."""
    out = b"".join(struct.pack(">i?i", op, False, -1) + body for op, body in ops)
    return out + struct.pack(">i?i", -1, True, -1)


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def unpack(self, form):
        size = struct.calcsize(form)
        values = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return values if len(values) > 1 else values[0]

    def i32(self):
        return self.unpack(">i")

    def buf(self):
        n = self.i32()
        if n < 0:
            return None
        assert self.at + n <= len(self.data), "length beyond the frame"
        value = self.data[self.at : self.at + n]
        self.at += n
        return value

    def str(self):
        value = self.buf()
        return None if value is None else value.decode()

    def strings(self):
        return [self.str() for _ in range(max(self.i32(), 0))]

    def stat(self):
        return Stat(*self.unpack(">qqqqiiiqiiq"))

    def acl(self):
        return [(self.i32(), self.str(), self.str()) for _ in range(max(self.i32(), 0))]

    def done(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes are left over"


class Closed(Exception):
    """The server closed the connection."""


class Raw:
    """One connection. `session` and `password` are known after `connect`."""

    def __init__(self, address, timeout=10.0):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.session, self.password, self.timeout_ms = 0, b"\0" * 16, 0
        self.events = []
        self.last_zxid = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    def drop(self):
        """Ends the connection as a crash would; the session lives on."""
        self.sock.close()

    # Frames.

    def send_bytes(self, data):
        self.sock.sendall(data)

    def send_frame(self, body):
        self.sock.sendall(struct.pack(">i", len(body)) + body)

    def read_exact(self, n):
        out = bytearray()
        while len(out) < n:
            try:
                piece = self.sock.recv(n - len(out))
            except ConnectionResetError as e:
                raise Closed() from e
            if not piece:
                raise Closed()
            out += piece
        return bytes(out)

    def read_frame(self):
        (n,) = struct.unpack(">i", self.read_exact(4))
        assert 0 <= n < 64 << 20, f"the server sent a frame of {n} bytes"
        return self.read_exact(n)

    # Session.

    def connect(self, timeout_ms=10_000, session=0, password=None, last_zxid=0):
        """The server's answer; a session of 0 means that it is not known (any more)."""
        self.send_frame(
            struct.pack(">iqiq", 0, last_zxid, timeout_ms, session)
            + buf(password if password is not None else b"\0" * 16)
            + b"\0"
        )
        c = Cursor(self.read_frame())
        c.i32()
        self.timeout_ms = c.i32()
        self.session = c.unpack(">q")
        self.password = c.buf()
        return self

    # Requests.

    def send(self, op, body=b"", xid=None):
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send_frame(struct.pack(">ii", xid, op) + body)
        return xid

    def read(self):
        """The next reply or event, in the order in which the server sent them."""
        frame = self.read_frame()
        c = Cursor(frame)
        xid, zxid, err = c.unpack(">iqi")
        self.last_zxid = max(self.last_zxid, zxid)
        if xid == XID_EVENT:
            return Event(c.i32(), c.i32(), c.str())
        return Reply(xid, zxid, err, Cursor(frame[16:]))

    def wait(self, xid):
        """The reply to `xid`; events that come before it are kept in `events`."""
        while True:
            got = self.read()
            if isinstance(got, Event):
                self.events.append(got)
            elif got.xid == XID_PING and xid != XID_PING:
                continue
            else:
                assert got.xid == xid, f"expected the reply to {xid}, got {got.xid}"
                return got

    def call(self, op, body=b"", xid=None):
        return self.wait(self.send(op, body, xid))

    def event(self, timeout=10.0):
        """The next event, or None when none comes in time."""
        if self.events:
            return self.events.pop(0)
        before = self.sock.gettimeout()
        self.sock.settimeout(timeout)
        try:
            while True:
                got = self.read()
                if isinstance(got, Event):
                    return got
                assert got.xid == XID_PING, f"unexpected reply {got}"
        except socket.timeout:
            return None
        finally:
            self.sock.settimeout(before)

    # The common ones, for tests that are about something else.

    def create(self, path, data=b"", mode=PERSISTENT, acl=OPEN):
        r = self.call(CREATE, create_body(path, data, acl, mode))
        assert r.err == OK, f"create {path}: {r.err}"
        return r.body.str()

    def set(self, path, data, version=-1):
        r = self.call(SET_DATA, s(path) + buf(data) + i32(version))
        assert r.err == OK, f"set {path}: {r.err}"
        return r.body.stat()

    def get(self, path, watch=False):
        r = self.call(GET_DATA, s(path) + flag(watch))
        assert r.err == OK, f"get {path}: {r.err}"
        return r.body.buf(), r.body.stat()

    def delete(self, path, version=-1):
        return self.call(DELETE, s(path) + i32(version)).err

    def exists(self, path, watch=False):
        r = self.call(EXISTS, s(path) + flag(watch))
        assert r.err in (OK, NO_NODE), r.err
        return r.body.stat() if r.err == OK else None

    def children(self, path, watch=False):
        r = self.call(GET_CHILDREN, s(path) + flag(watch))
        assert r.err == OK, f"children {path}: {r.err}"
        return sorted(r.body.strings())

    def sync(self, path="/"):
        assert self.call(SYNC, s(path)).err == OK

    def ping(self):
        return self.call(PING, xid=XID_PING).err

    def auth(self, scheme, data):
        return self.call(AUTH, i32(0) + s(scheme) + buf(data), xid=XID_AUTH).err

    def close(self):
        err = self.call(CLOSE).err
        self.drop()
        return err


def four_letters(address, word, timeout=5.0):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as sock:
        sock.sendall(word.encode())
        out = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return out.decode()
            out += piece


def eventually(what, timeout=20.0, interval=0.05):
    """Waits until `what()` is true and returns it; an exception counts as false until the end."""
    end = time.monotonic() + timeout
    while True:
        try:
            value = what()
            if value:
                return value
            problem = f"still {value!r}"
        except Exception as e:  # noqa: BLE001 - reported below
            problem = repr(e)
        if time.monotonic() > end:
            raise AssertionError(f"not reached within {timeout} s: {problem}")
        time.sleep(interval)
