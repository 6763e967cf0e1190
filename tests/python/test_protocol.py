"""ZooKeeper's protocol frame by frame, and what a server does with bytes that are none of it.

Everything unmarked also passes against ZooKeeper itself (TARGET=zookeeper).
"""

import base64
import hashlib
import itertools
import socket
import struct
import time

import pytest

import raw as z
from raw import Closed, Raw, eventually, four_letters
from servers import TARGET

_n = itertools.count(1)


@pytest.fixture
def path():
    return f"/p{next(_n)}"


@pytest.fixture
def connect(cluster):
    """Opens sessions, the k-th on the k-th node."""
    made, turn = [], itertools.count()

    def make(i=None, timeout_ms=10_000, **options):
        server = cluster[(next(turn) if i is None else i) % len(cluster)]
        made.append(Raw(server.address).connect(timeout_ms=timeout_ms, **options))
        return made[-1]

    yield make
    for raw in made:
        try:
            raw.sock.settimeout(2)
            raw.close()
        except (OSError, Closed, AssertionError):
            raw.drop()


# Creating, reading, changing, deleting.


def test_create_and_create2_answer_path_and_stat(connect, path):
    c = connect()
    assert c.create(path, b"one") == path
    r = c.call(z.CREATE2, z.create_body(path + "/b", b"two"))
    assert (r.err, r.body.str()) == (z.OK, path + "/b")
    stat = r.body.stat()
    r.body.done()
    assert stat.czxid == stat.mzxid == stat.pzxid == r.zxid
    assert (stat.version, stat.cversion, stat.aversion) == (0, 0, 0)
    assert (stat.data_length, stat.num_children, stat.ephemeral_owner) == (3, 0, 0)
    assert abs(stat.ctime / 1000 - time.time()) < 60 and stat.ctime == stat.mtime
    parent = c.exists(path)
    assert (parent.num_children, parent.cversion, parent.pzxid) == (1, 1, stat.czxid)


@pytest.mark.parametrize(
    "bad", ["", "x", "/x/", "//x", "/a/../b", "/a/./b", "/a//b", "/a\0b", "/a\u0001b", "/a\ud7ff\uf000b"]
)
def test_create_invalid_path_is_refused(connect, bad):
    c = connect()
    r = c.call(z.CREATE, z.create_body(bad))
    # ZooKeeper looks for the parent before it looks at the path.
    assert r.err in (z.BAD_ARGUMENTS, z.NO_NODE)
    assert c.ping() == z.OK


def test_create_errors_name_what_is_wrong(connect, path):
    c = connect()
    c.create(path)
    assert c.call(z.CREATE, z.create_body(path)).err == z.NODE_EXISTS
    assert c.call(z.CREATE, z.create_body(path + "/a/b")).err == z.NO_NODE
    c.create(path + "/e", mode=z.EPHEMERAL)
    assert c.call(z.CREATE, z.create_body(path + "/e/x")).err == z.NO_CHILDREN_FOR_EPHEMERALS
    assert c.call(z.CREATE, z.create_body(path + "/n", acl=[])).err == z.INVALID_ACL
    assert c.call(z.CREATE, z.create_body(path + "/n", mode=9)).err == z.BAD_ARGUMENTS


def test_sequential_names_count_up_with_ten_digits(connect, path):
    a, b = connect(), connect()
    a.create(path)
    b.sync(path)
    names = [c.create(path + "/s-", mode=m) for c, m in ((a, 2), (b, 3), (a, 3), (b, 2))]
    numbers = [int(name[-10:]) for name in names]
    assert [name[:-10] for name in names] == [path + "/s-"] * 4
    assert numbers == sorted(numbers) and len(set(numbers)) == 4
    bare = a.create(path + "/", mode=z.SEQUENTIAL)
    assert len(bare) == len(path) + 11


def test_set_data_version_mismatch_changes_nothing(connect, path):
    c = connect()
    c.create(path, b"0")
    assert c.set(path, b"1", 0).version == 1
    r = c.call(z.SET_DATA, z.s(path) + z.buf(b"x") + z.i32(0))
    assert r.err == z.BAD_VERSION
    data, stat = c.get(path)
    assert (data, stat.version) == (b"1", 1)
    assert stat.mzxid > stat.czxid
    assert c.delete(path, 0) == z.BAD_VERSION
    assert c.delete(path, 1) == z.OK
    assert c.delete(path) == z.NO_NODE


def test_delete_node_with_children_is_refused(connect, path):
    c = connect()
    c.create(path)
    c.create(path + "/a")
    assert c.delete(path) == z.NOT_EMPTY
    assert c.delete("/") == z.BAD_ARGUMENTS
    assert c.delete(path + "/a") == z.OK
    assert c.delete(path) == z.OK


def test_children_and_children2_list_names(connect, path):
    c = connect()
    c.create(path)
    for name in "cab":
        c.create(f"{path}/{name}")
    assert c.children(path) == ["a", "b", "c"]
    r = c.call(z.GET_CHILDREN2, z.s(path) + z.flag(False))
    assert sorted(r.body.strings()) == ["a", "b", "c"]
    assert r.body.stat().num_children == 3
    r.body.done()
    assert c.call(z.GET_CHILDREN, z.s(path + "/x") + z.flag(False)).err == z.NO_NODE


def test_data_null_and_empty_are_read_back(connect, path):
    c = connect()
    r = c.call(z.CREATE, z.s(path) + z.buf(None) + z.acls(z.OPEN) + z.i32(0))
    assert r.err == z.OK
    data, stat = c.get(path)
    assert not data and stat.data_length == 0
    c.set(path, b"")
    assert not c.get(path)[0]


def test_ephemeral_goes_with_its_session_everywhere(connect, path):
    a, b = connect(), connect()
    a.create(path, mode=z.EPHEMERAL)
    b.sync(path)
    assert b.exists(path).ephemeral_owner == a.session
    assert a.close() == z.OK
    b.sync(path)
    assert b.exists(path) is None


def test_container_goes_after_its_last_child(connect, path):
    c = connect()
    r = c.call(z.CREATE_CONTAINER, z.create_body(path, mode=z.CONTAINER))
    assert (r.err, r.body.str()) == (z.OK, path)
    r.body.stat()
    r.body.done()
    c.create(path + "/a")
    assert c.delete(path + "/a") == z.OK
    eventually(lambda: c.exists(path) is None, 30)


def test_container_never_used_stays(connect, path):
    c = connect()
    assert c.call(z.CREATE_CONTAINER, z.create_body(path, mode=z.CONTAINER)).err == z.OK
    time.sleep(2)
    assert c.exists(path) is not None


def test_ttl_node_unused_for_its_time_goes(connect, path):
    c = connect()
    r = c.call(z.CREATE_TTL, z.create_body(path, mode=z.TTL, ttl=700))
    assert (r.err, r.body.str()) == (z.OK, path)
    r = c.call(z.CREATE_TTL, z.create_body(path + "-", mode=z.TTL_SEQUENTIAL, ttl=3_600_000))
    assert r.err == z.OK and r.body.str()[-10:].isdigit()
    lasting = path + "-l"
    assert c.call(z.CREATE_TTL, z.create_body(lasting, mode=z.TTL, ttl=3_600_000)).err == z.OK
    assert c.exists(path) is not None
    eventually(lambda: c.exists(path) is None, 30)
    assert c.exists(lasting) is not None


def test_ttl_out_of_range_is_refused(connect, path):
    c = connect()
    for ttl in (0, -5):
        assert c.call(z.CREATE_TTL, z.create_body(path, mode=z.TTL, ttl=ttl)).err == z.BAD_ARGUMENTS
    assert c.exists(path) is None


# Access control.


def digest(user, password):
    inner = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(inner).decode()}"


def test_acl_world_is_read_back_and_changed_by_version(connect, path):
    c = connect()
    c.create(path)
    r = c.call(z.GET_ACL, z.s(path))
    assert r.body.acl() == z.OPEN and r.body.stat().aversion == 0
    r = c.call(z.SET_ACL, z.s(path) + z.acls([(31, "world", "anyone")]) + z.i32(0))
    assert r.err == z.OK and r.body.stat().aversion == 1
    assert c.call(z.SET_ACL, z.s(path) + z.acls(z.OPEN) + z.i32(0)).err == z.BAD_VERSION
    assert c.call(z.SET_ACL, z.s(path) + z.acls([]) + z.i32(-1)).err == z.INVALID_ACL
    assert c.call(z.SET_ACL, z.s(path) + z.acls([(31, "nosuch", "x")]) + z.i32(-1)).err == z.INVALID_ACL


def test_acl_digest_admits_who_proved_it_and_no_other(connect, path):
    owner, other = connect(), connect()
    assert owner.auth("digest", b"bob:builder") == z.OK
    owner.create(path, b"secret", acl=[(31, "digest", digest("bob", "builder"))])
    other.sync(path)
    assert other.call(z.GET_DATA, z.s(path) + z.flag(False)).err == z.NO_AUTH
    assert other.call(z.SET_DATA, z.s(path) + z.buf(b"") + z.i32(-1)).err == z.NO_AUTH
    assert other.call(z.CREATE, z.create_body(path + "/a")).err == z.NO_AUTH
    assert other.call(z.GET_CHILDREN, z.s(path) + z.flag(False)).err == z.NO_AUTH
    assert other.call(z.SET_ACL, z.s(path) + z.acls(z.OPEN) + z.i32(-1)).err == z.NO_AUTH
    assert other.auth("digest", b"bob:wrong") == z.OK  # proves another identity, which opens nothing
    assert other.call(z.GET_DATA, z.s(path) + z.flag(False)).err == z.NO_AUTH
    assert other.auth("digest", b"bob:builder") == z.OK
    assert other.get(path)[0] == b"secret"
    assert owner.delete(path) == z.OK  # the right to delete is the parent's


def test_acl_auth_stands_for_the_creators_identities(connect, path):
    owner, other = connect(), connect()
    assert owner.call(z.CREATE, z.create_body(path, acl=[(31, "auth", "")])).err == z.INVALID_ACL
    owner.auth("digest", b"ann:pw")
    owner.create(path, acl=[(31, "auth", "")])
    r = owner.call(z.GET_ACL, z.s(path))
    assert r.body.acl() == [(31, "digest", digest("ann", "pw"))]
    other.sync(path)
    assert other.call(z.GET_DATA, z.s(path) + z.flag(False)).err == z.NO_AUTH


def test_acl_ip_admits_by_address_and_mask(connect, path):
    c = connect()
    c.create(path, b"x", acl=[(31, "ip", "127.0.0.1")])
    assert c.get(path)[0] == b"x"
    c.create(path + "m", b"x", acl=[(31, "ip", "127.0.0.0/8")])
    assert c.get(path + "m")[0] == b"x"
    c.create(path + "n", b"x", acl=[(31, "ip", "10.1.2.3")])
    assert c.call(z.GET_DATA, z.s(path + "n") + z.flag(False)).err == z.NO_AUTH
    assert c.call(z.CREATE, z.create_body(path + "o", acl=[(31, "ip", "10.1.2.3/77")])).err == z.INVALID_ACL


def test_acl_super_user_passes_every_check(connect, path):
    owner, boss = connect(), connect()
    owner.auth("digest", b"bob:builder")
    owner.create(path, b"secret", acl=[(31, "digest", digest("bob", "builder"))])
    boss.sync(path)
    assert boss.auth("digest", b"super:secret") == z.OK
    assert boss.get(path)[0] == b"secret"
    assert boss.call(z.SET_ACL, z.s(path) + z.acls(z.OPEN) + z.i32(-1)).err == z.OK


def test_auth_unknown_scheme_fails_and_closes(connect):
    c = connect()
    assert c.auth("nosuch", b"x") == z.AUTH_FAILED
    with pytest.raises(Closed):
        while True:
            c.read()


# Watches.


def test_watches_fire_once_with_the_events_of_their_kind(connect, path):
    a, b = connect(), connect()
    a.create(path, b"0")
    b.sync(path)
    b.get(path, watch=True)
    b.children(path, watch=True)
    assert b.exists(path + "/c", watch=True) is None
    a.set(path, b"1")
    assert b.event() == z.Event(z.CHANGED, 3, path)
    a.set(path, b"2")
    a.create(path + "/c")
    got = {b.event(), b.event()}
    assert got == {z.Event(z.CREATED, 3, path + "/c"), z.Event(z.CHILD, 3, path)}
    a.create(path + "/d")
    assert b.event(0.5) is None
    b.get(path + "/c", watch=True)
    b.children(path + "/c", watch=True)
    b.exists(path + "/c", watch=True)
    a.delete(path + "/c")
    assert b.event() == z.Event(z.DELETED, 3, path + "/c")
    assert b.event(0.5) is None


def test_watch_event_comes_before_the_data_it_tells_of(connect, path):
    a, b = connect(), connect()
    a.create(path, b"0")
    b.sync(path)
    for i in range(1, 30):
        b.get(path, watch=True)
        sent = a.send(z.SET_DATA, z.s(path) + z.buf(b"%d" % i) + z.i32(-1))
        while True:
            data, _ = b.get(path)
            if data == b"%d" % i:
                assert b.events == [z.Event(z.CHANGED, 3, path)], "the data came before the event"
                b.events.clear()
                break
            assert data == b"%d" % (i - 1)
        assert a.wait(sent).err == z.OK


def test_watch_event_comes_before_the_reply_to_the_own_write(connect, path):
    c = connect()
    c.create(path, b"0")
    c.get(path, watch=True)
    c.set(path, b"1")
    assert c.events == [z.Event(z.CHANGED, 3, path)]


def add_watch(c, path, mode):
    return c.call(z.ADD_WATCH, z.s(path) + z.i32(mode)).err


def test_persistent_watch_fires_every_time(connect, path):
    a, b = connect(), connect()
    a.create(path)
    b.sync(path)
    assert add_watch(b, path, 0) == z.OK
    a.set(path, b"1")
    a.set(path, b"2")
    a.create(path + "/c")
    a.set(path + "/c", b"below")
    a.delete(path + "/c")
    a.delete(path)
    a.create(path)
    kinds = [b.event() for _ in range(6)]
    assert kinds == [z.Event(k, 3, path) for k in (z.CHANGED, z.CHANGED, z.CHILD, z.CHILD, z.DELETED, z.CREATED)]


def test_recursive_watch_tells_of_everything_below(connect, path):
    a, b = connect(), connect()
    a.create(path)
    b.sync(path)
    assert add_watch(b, path, 1) == z.OK
    a.create(path + "/c")
    a.create(path + "/c/d")
    a.set(path + "/c/d", b"1")
    a.create(path + "x")  # a sibling whose name begins alike
    a.delete(path + "/c/d")
    a.set(path, b"1")
    want = [
        (z.CREATED, path + "/c"),
        (z.CREATED, path + "/c/d"),
        (z.CHANGED, path + "/c/d"),
        (z.DELETED, path + "/c/d"),
        (z.CHANGED, path),
    ]
    assert [(e.type, e.path) for e in (b.event() for _ in want)] == want
    assert b.event(0.3) is None


def test_add_watch_unknown_mode_is_refused(connect, path):
    c = connect()
    assert add_watch(c, path, 7) in (z.MARSHALLING_ERROR, z.BAD_ARGUMENTS)


@pytest.mark.parametrize("kind", [1, 2, 3], ids=["children", "data", "any"])
def test_remove_watches_removed_ones_are_silent(connect, path, kind):
    a, b = connect(), connect()
    a.create(path)
    b.sync(path)
    body = z.s(path) + z.i32(kind)
    assert b.call(z.REMOVE_WATCHES, body).err == z.NO_WATCHER
    assert b.call(z.CHECK_WATCHES, body).err == z.NO_WATCHER
    b.get(path, watch=True)
    b.children(path, watch=True)
    assert b.call(z.CHECK_WATCHES, body).err == z.OK
    assert b.call(z.REMOVE_WATCHES, body).err == z.OK
    b.events.clear()  # the official server tells of removals to those who ask it to
    a.create(path + "/c")
    a.set(path, b"1")
    want = {1: [z.CHANGED], 2: [z.CHILD], 3: []}[kind]
    got = []
    while (event := b.event(0.5)) is not None:
        got.append(event.type)
    assert got == want


def set_watches_body(zxid, data=(), exist=(), child=()):
    return struct.pack(">q", zxid) + z.strings(data) + z.strings(exist) + z.strings(child)


def test_set_watches_replays_what_was_missed(connect, path):
    a = connect()
    for name in ("changed", "deleted", "children", "same"):
        a.create(f"{path}{name}")
    b = connect()
    b.sync("/")
    seen = b.last_zxid
    b.drop()
    a.set(path + "changed", b"1")
    a.delete(path + "deleted")
    a.create(path + "children/x")
    a.create(path + "made")
    again = Raw(a_address(a)).connect(session=b.session, password=b.password, last_zxid=seen)
    assert again.session == b.session
    r = again.call(
        z.SET_WATCHES,
        set_watches_body(
            seen,
            data=[path + "changed", path + "deleted", path + "same"],
            exist=[path + "made"],
            child=[path + "children", path + "same"],
        ),
        xid=z.XID_SET_WATCHES,
    )
    assert r.err == z.OK
    want = {
        (z.CHANGED, path + "changed"),
        (z.DELETED, path + "deleted"),
        (z.CREATED, path + "made"),
        (z.CHILD, path + "children"),
    }
    got = {(e.type, e.path) for e in (again.event() for _ in want)}
    assert got == want
    a.set(path + "same", b"1")
    assert again.event() == z.Event(z.CHANGED, 3, path + "same")
    a.create(path + "same/x")
    assert again.event() == z.Event(z.CHILD, 3, path + "same")
    again.close()


def test_set_watches2_brings_persistent_ones_back(connect, path):
    a = connect()
    a.create(path)
    b = connect()
    b.sync("/")
    seen = b.last_zxid
    body = set_watches_body(seen) + z.strings([path]) + z.strings([path])
    assert b.call(z.SET_WATCHES2, body, xid=z.XID_SET_WATCHES).err == z.OK
    a.create(path + "/x")
    a.set(path + "/x", b"1")
    a.set(path + "/x", b"2")
    got = [b.event() for _ in range(3)]
    assert (z.CHANGED, path + "/x") in {(e.type, e.path) for e in got}


# Sessions.


def a_address(raw):
    host, port = raw.sock.getpeername()
    return f"{host}:{port}"


def test_connect_timeout_is_negotiated_between_bounds(connect):
    assert connect(timeout_ms=1).timeout_ms >= 500
    assert connect(timeout_ms=6_000).timeout_ms == 6_000
    assert connect(timeout_ms=2**31 - 1).timeout_ms < 2**31 - 1


def test_session_resumed_on_another_node_keeps_its_ephemerals(cluster, connect, path):
    a = connect(0)
    a.create(path, mode=z.EPHEMERAL)
    a.drop()
    for i in range(1, 4):
        server = cluster[i % len(cluster)]
        again = Raw(server.address).connect(session=a.session, password=a.password, last_zxid=a.last_zxid)
        assert again.session == a.session
        assert again.exists(path).ephemeral_owner == a.session
        again.create(f"{path}-{i}", mode=z.EPHEMERAL)
        a = again
        a.drop()
    last = Raw(cluster[0].address).connect(session=a.session, password=a.password, last_zxid=a.last_zxid)
    assert last.exists(path + "-3") is not None
    last.close()


def test_session_with_wrong_password_is_refused_and_lives_on(cluster, connect, path):
    a = connect(0)
    a.create(path, mode=z.EPHEMERAL)
    for password in (b"\0" * 16, b"x" * 16, b"short", b""):
        thief = Raw(cluster[1 % len(cluster)].address)
        try:
            assert thief.connect(session=a.session, password=password).session == 0
        except Closed:
            pass
        thief.drop()
    if TARGET == "zookeeper":  # it may close the rightful owner's connection; the session is left alone
        a = Raw(cluster[0].address).connect(session=a.session, password=a.password)
        assert a.session != 0
    a.set(path, b"still here")


def test_session_unknown_is_answered_expired(cluster):
    with Raw(cluster[0].address) as c:
        assert c.connect(session=0x7777_0000_1234, password=b"p" * 16).session == 0


def test_session_silent_beyond_its_timeout_expires_everywhere(cluster, connect, path):
    a, b = connect(0, timeout_ms=2_000), connect(1)
    assert a.timeout_ms == 2_000
    a.create(path, mode=z.EPHEMERAL)
    b.sync(path)
    assert b.exists(path, watch=True) is not None
    a.drop()
    began = time.monotonic()
    assert b.event(20) == z.Event(z.DELETED, 3, path)
    took = time.monotonic() - began
    assert took > 1.5, f"expired after {took:.1f} s, before its time-out of 2 s"
    for server in cluster.servers:
        with Raw(server.address) as again:
            assert again.connect(session=a.session, password=a.password).session == 0


def test_session_that_pings_lives_on_at_each_node(cluster, connect, path):
    sessions = [connect(i, timeout_ms=2_000) for i in range(len(cluster))]
    for i, c in enumerate(sessions):
        c.create(f"{path}-{i}", mode=z.EPHEMERAL)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        for c in sessions:
            assert c.ping() == z.OK
        time.sleep(0.5)
    for i, c in enumerate(sessions):
        assert c.exists(f"{path}-{i}") is not None


def test_session_closed_is_gone_for_good(cluster, connect):
    a = connect(0)
    assert a.close() == z.OK
    with Raw(cluster[1 % len(cluster)].address) as again:
        assert again.connect(session=a.session, password=a.password).session == 0


def test_session_attached_elsewhere_old_connection_writes_no_more(cluster, connect, path):
    a = connect(0)
    a.create(path, b"0")
    moved = Raw(cluster[1 % len(cluster)].address).connect(session=a.session, password=a.password)
    assert moved.session == a.session
    moved.set(path, b"moved")
    try:
        r = a.call(z.SET_DATA, z.s(path) + z.buf(b"old") + z.i32(-1))
        assert r.err == z.SESSION_MOVED
    except (Closed, OSError):
        pass
    moved.sync(path)
    assert moved.get(path)[0] == b"moved"
    moved.close()


def test_client_ahead_of_the_server_is_turned_away(cluster):
    with Raw(cluster[0].address) as c:
        with pytest.raises(Closed):
            c.connect(last_zxid=2**62)


# Units.


def test_multi_sees_its_own_writes_and_answers_each(connect, path):
    c = connect()
    ops = [
        (z.CREATE, z.create_body(path, b"0")),
        (z.CREATE2, z.create_body(path + "/s-", mode=z.SEQUENTIAL)),
        (z.SET_DATA, z.s(path) + z.buf(b"1") + z.i32(0)),
        (z.CHECK, z.s(path) + z.i32(1)),
        (z.CREATE, z.create_body(path + "/gone")),
        (z.DELETE, z.s(path + "/gone") + z.i32(0)),
    ]
    r = c.call(z.MULTI, z.multi_body(ops))
    assert r.err == z.OK
    b = r.body
    heads = []
    for op, _ in ops:
        head = b.unpack(">i?i")
        heads.append(head)
        if op in (z.CREATE, z.CREATE2):
            b.str()
        if head[0] in (z.SET_DATA, z.CREATE2):
            assert b.stat().mzxid == r.zxid, "one revision for the whole unit"
    assert b.unpack(">i?i") == (-1, True, -1)
    b.done()
    # Within a unit ZooKeeper answers create2 as it answers create, by the path alone; clients read either.
    assert heads[1][0] in (z.CREATE, z.CREATE2)
    del heads[1]
    assert [h[0] for h in heads] == [z.CREATE, z.SET_DATA, z.CHECK, z.CREATE, z.DELETE]
    assert c.get(path)[0] == b"1"
    assert len(c.children(path)) == 1


def test_multi_creates_containers_and_ttl_nodes_with_stat(connect, path):
    c = connect()
    ops = [
        (z.CREATE_CONTAINER, z.create_body(path, mode=z.CONTAINER)),
        (z.CREATE_TTL, z.create_body(path + "/t", mode=z.TTL, ttl=3_600_000)),
    ]
    r = c.call(z.MULTI, z.multi_body(ops))
    assert r.err == z.OK
    for name in (path, path + "/t"):
        assert r.body.unpack(">i?i") == (z.CREATE2, False, 0)
        assert r.body.str() == name
        assert r.body.stat().czxid == r.zxid
    assert r.body.unpack(">i?i") == (-1, True, -1)
    r.body.done()


def test_multi_with_one_failure_changes_nothing(connect, path):
    c = connect()
    c.create(path, b"0")
    ops = [
        (z.SET_DATA, z.s(path) + z.buf(b"1") + z.i32(-1)),
        (z.CHECK, z.s(path) + z.i32(7)),
        (z.CREATE, z.create_body(path + "/a")),
    ]
    r = c.call(z.MULTI, z.multi_body(ops))
    errors = []
    for _ in ops:
        kind, done, err = r.body.unpack(">i?i")
        assert (kind, done) == (-1, False)
        assert r.body.i32() == err
        errors.append(err)
    assert r.body.unpack(">i?i") == (-1, True, -1)
    assert errors == [z.ROLLED_BACK, z.BAD_VERSION, z.RUNTIME_INCONSISTENCY]
    assert c.get(path)[0] == b"0" and c.children(path) == []


def test_multi_read_answers_each_by_itself(connect, path):
    c = connect()
    c.create(path, b"0")
    c.create(path + "/a")
    ops = [
        (z.GET_DATA, z.s(path) + z.flag(False)),
        (z.GET_CHILDREN, z.s(path) + z.flag(False)),
        (z.GET_DATA, z.s(path + "/absent") + z.flag(False)),
    ]
    r = c.call(z.MULTI_READ, z.multi_body(ops))
    assert r.err == z.OK
    b = r.body
    assert b.unpack(">i?i")[0] == z.GET_DATA
    assert b.buf() == b"0"
    b.stat()
    assert b.unpack(">i?i")[0] == z.GET_CHILDREN
    assert b.strings() == ["a"]
    kind, _, err = b.unpack(">i?i")
    assert (kind, err, b.i32()) == (-1, z.NO_NODE, z.NO_NODE)
    assert b.unpack(">i?i") == (-1, True, -1)


def test_sync_then_read_sees_every_acknowledged_write(connect, path):
    a, b = connect(), connect()
    a.create(path)
    for i in range(30):
        a.set(path, b"%d" % i)
        b.sync(path)
        assert b.get(path)[0] == b"%d" % i


def test_pipelined_requests_are_answered_in_order(connect, path):
    c = connect()
    c.create(path, b"-")
    sent = []
    for i in range(200):
        sent.append(c.send(z.SET_DATA, z.s(path) + z.buf(b"%d" % i) + z.i32(-1)))
        sent.append(c.send(z.GET_DATA, z.s(path) + z.flag(False)))
    zxid = 0
    for i, xid in enumerate(sent):
        r = c.read()
        assert (r.xid, r.err) == (xid, z.OK)
        assert r.zxid >= zxid
        zxid = r.zxid
        if i % 2:
            assert r.body.buf() == b"%d" % (i // 2), "a session reads its own writes"


def test_request_split_into_single_bytes_is_understood(connect, path):
    c = connect()
    body = struct.pack(">ii", 1, z.CREATE) + z.create_body(path, b"slow")
    for byte in struct.pack(">i", len(body)) + body:
        c.send_bytes(bytes([byte]))
    c.xid = 1
    assert c.wait(1).err == z.OK


def test_zxid_counts_alike_on_every_node(cluster, connect, path):
    a = connect(0)
    a.create(path)
    stats = []
    for i in range(len(cluster)):
        c = connect(i)
        c.sync(path)
        stats.append(c.exists(path))
    assert len(set(stats)) == 1


# Everything else.


@pytest.mark.parametrize("op", [999, 0x7FFF_FFFF, -77, 23, 50])
def test_opcode_unknown_is_answered_unimplemented(connect, op):
    c = connect()
    assert c.call(op, b"").err == z.UNIMPLEMENTED


@pytest.mark.althing_only
@pytest.mark.parametrize("op", [z.RECONFIG, z.SASL, 103, 104, 107])
def test_opcode_of_later_issues_is_answered_unimplemented(connect, op):
    """Reconfiguration, SASL, getEphemerals, getAllChildrenNumber, whoAmI."""
    c = connect()
    assert c.call(op, z.s("/")).err == z.UNIMPLEMENTED


def test_four_letter_words_answer(cluster, connect):
    c = connect(0)
    address = cluster[0].address
    assert four_letters(address, "ruok") == "imok"
    srvr = four_letters(address, "srvr")
    for field in ("Zxid: 0x", "Mode: ", "Node count: ", "Connections: ", "Outstanding: "):
        assert field in srvr
    assert "/127.0.0.1" in four_letters(address, "stat")
    mntr = dict(line.split("\t", 1) for line in four_letters(address, "mntr").splitlines() if "\t" in line)
    for field in ("zk_server_state", "zk_znode_count", "zk_num_alive_connections", "zk_outstanding_requests"):
        assert field in mntr
    assert int(mntr["zk_znode_count"]) > 0 and int(mntr["zk_num_alive_connections"]) >= 1
    assert c.ping() == z.OK


# Bytes that are no protocol. A witness session on the same server must not notice.


@pytest.fixture
def witness(cluster, path):
    c = Raw(cluster[0].address).connect(timeout_ms=10_000)
    c.create(path, mode=z.EPHEMERAL)
    yield c
    assert c.ping() == z.OK
    assert c.exists(path) is not None
    with Raw(cluster[0].address) as late:
        assert late.connect().session != 0
        late.close()
    c.close()


def ends(sock, timeout=30):
    """True when the server ends the connection in time."""
    sock.settimeout(timeout)
    try:
        while sock.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True
    except socket.timeout:
        return False


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31 - 1, 5_000_000], ids=["-1", "min", "max", "beyond-cap"])
@pytest.mark.parametrize("greeted", [False, True], ids=["first-frame", "in-session"])
def test_frame_length_absurd_closes_that_connection(cluster, witness, length, greeted):
    c = Raw(cluster[0].address)
    if greeted:
        c.connect()
    c.send_bytes(struct.pack(">i", length) + b"x" * 64)
    assert ends(c.sock)
    c.drop()


def test_frame_truncated_inside_leaves_others_unharmed(cluster, witness):
    for body in (b"", b"\0", struct.pack(">i", 1), struct.pack(">ii", 1, z.CREATE)[:7]):
        c = Raw(cluster[0].address).connect()
        c.send_frame(body)
        assert ends(c.sock), f"still open after a frame of {len(body)} bytes"
        c.drop()


@pytest.mark.parametrize("op", [z.CREATE, z.SET_DATA, z.GET_ACL, z.MULTI, z.SET_WATCHES, z.CREATE_TTL, z.ADD_WATCH])
def test_body_cut_short_is_an_error_or_the_end(cluster, witness, op):
    whole = {
        z.CREATE: z.create_body("/cut", b"data"),
        z.SET_DATA: z.s("/cut") + z.buf(b"data") + z.i32(-1),
        z.GET_ACL: z.s("/cut"),
        z.MULTI: z.multi_body([(z.CREATE, z.create_body("/cut"))]),
        z.SET_WATCHES: set_watches_body(0, ["/cut"]),
        z.CREATE_TTL: z.create_body("/cut", mode=z.TTL, ttl=10_000),
        z.ADD_WATCH: z.s("/cut") + z.i32(0),
    }[op]
    for cut in range(0, len(whole), 3):
        c = Raw(cluster[0].address, timeout=30).connect()
        c.send(op, whole[:cut], xid=1)
        try:
            r = c.read()
            assert r.err != z.OK, f"opcode {op} cut at {cut} was accepted"
        except Closed:
            pass
        c.drop()
    assert witness.exists("/cut") is None


def test_lengths_inside_a_body_absurd_allocate_nothing(cluster, witness):
    for n in (-2, 2**31 - 1, 100_000_000):
        for op, body in (
            (z.GET_DATA, z.i32(n) + b"/x"),
            (z.CREATE, z.s("/x") + z.i32(n) + b"x"),
            (z.CREATE, z.s("/x") + z.buf(b"") + z.i32(n) + b"x"),
            (z.SET_WATCHES, struct.pack(">q", 0) + z.i32(n) + b"x"),
        ):
            c = Raw(cluster[0].address, timeout=30).connect()
            c.send(op, body, xid=1)
            try:
                assert c.read().err != z.OK
            except Closed:
                pass
            c.drop()


def test_data_over_the_limit_is_refused(cluster, witness, path):
    c = Raw(cluster[0].address).connect()
    try:
        r = c.call(z.CREATE, z.create_body(path + "big", b"x" * 1_100_000))
        assert r.err != z.OK
    except (Closed, OSError):
        pass
    c.drop()
    assert witness.exists(path + "big") is None
    witness.create(path + "fits", b"x" * 1_000_000)
    assert len(witness.get(path + "fits")[0]) == 1_000_000
    assert witness.delete(path + "fits") == z.OK


@pytest.mark.parametrize("cluster", [1], indirect=True, ids=["one-node"])
def test_connection_that_never_greets_is_ended(cluster, witness):
    quiet = socket.create_connection(cluster[0].address.split(":"), timeout=60)
    half = socket.create_connection(cluster[0].address.split(":"), timeout=60)
    half.sendall(b"\0\0")
    began = time.monotonic()
    open_ones = [quiet, half]
    try:
        while open_ones:
            assert time.monotonic() - began < 60, f"{len(open_ones)} still open after a minute"
            assert witness.ping() == z.OK
            open_ones = [sock for sock in open_ones if not ends(sock, 0.5)]
    finally:
        quiet.close()
        half.close()


def test_reader_that_never_reads_stops_nobody(cluster, witness, path):
    witness.create(path + "big", b"x" * 500_000)
    slow = Raw(cluster[0].address, timeout=5).connect()
    request = struct.pack(">ii", 1, z.GET_DATA) + z.s(path + "big") + z.flag(False)
    frame = struct.pack(">i", len(request)) + request
    try:
        for _ in range(2_000):  # a gigabyte of answers, were they all built
            slow.sock.settimeout(0.2)
            slow.send_bytes(frame)
    except OSError:
        pass
    worst = 0
    for _ in range(50):
        began = time.monotonic()
        witness.set(path, b"x")
        worst = max(worst, time.monotonic() - began)
    assert worst < 2, f"a write of another session took {worst:.1f} s"
    slow.drop()
    assert witness.delete(path + "big") == z.OK


def test_random_bytes_leave_others_unharmed(cluster, witness):
    import random

    rng = random.Random(7)
    for _ in range(50):
        c = Raw(cluster[0].address)
        try:
            if rng.random() < 0.5:
                c.connect()
            c.send_bytes(struct.pack(">i", rng.randrange(1, 200)) + rng.randbytes(rng.randrange(200)))
        except (Closed, OSError):
            pass
        c.drop()


def test_deep_path_works_or_is_refused(connect, path):
    c = connect()
    deep, depth = path, 0
    c.create(deep)
    while depth < 300:
        deep += "/d"
        c.create(deep)
        depth += 1
    assert c.exists(deep) is not None
    while deep != path:
        assert c.delete(deep) == z.OK
        deep = deep[:-2]
