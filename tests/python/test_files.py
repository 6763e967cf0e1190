"""Files: WebHDFS clients, and nodes that die while files are written and read."""

import glob
import hashlib
import http.client
import json
import os
import subprocess
import threading
import time
import urllib.parse

import pytest
from raw import eventually
from servers import BIN, TARGET, Cluster, ask_http

pytestmark = pytest.mark.skipif(TARGET != "althing", reason="these are our own")

FAST = {
    "files.lease_ms": 3_000,
    "files.copy_after_ms": 3_000,
    "files.chunk_bytes": 1 << 20,
    "files.scrub_bytes_per_s": 0,
}


@pytest.fixture
def three(tmp_path):
    cluster = whole(Cluster(3, tmp_path, **FAST).start())
    yield cluster
    cluster.end()


@pytest.fixture
def four(tmp_path):
    cluster = whole(Cluster(4, tmp_path, **FAST).start())
    yield cluster
    cluster.end()


def whole(cluster):
    """Waits until each node takes copies: a cluster that has just begun has not heard all of its nodes."""
    ok(fs(cluster, "put", "-", "/probe", "--copies", str(len(cluster.servers)), input=b"x"))
    eventually(lambda: all(chunk_files(server) for server in cluster.servers), 60)
    ok(fs(cluster, "rm", "/probe"))
    eventually(lambda: not any(chunk_files(server) for server in cluster.servers), 60)
    return cluster


def fs(cluster, *args, only=None, timeout=120, **options):
    """`althing fs …`, asked of all nodes or of one."""
    servers = cluster.servers if only is None else [cluster.servers[only]]
    consoles = ",".join(s.console_address for s in servers)
    return subprocess.run(
        [BIN, "fs", *args, "--console", consoles], capture_output=True, timeout=timeout, **options
    )


def ok(done):
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def ask(server, method, path, body=None, headers=None):
    """(code, headers, body) of one request."""
    return ask_http(server.console_address, method, path, body, headers)


def fsck(cluster, which=0):
    code, _, body = ask(cluster[which], "GET", "/v1/fsck")
    assert code == 200, body
    return json.loads(body)


def settled(cluster, which=0, copies=3):
    """Waits until every chunk has its copies and nothing is corrupt; the last report."""

    def look():
        health = fsck(cluster, which)
        bad = health["short"] + health["corrupt"] + health["making"] + health["missing"] + health["writers"]
        return health if bad == 0 and not health["faults"] else None

    return eventually(look, 60)


def chunk_files(server):
    return glob.glob(f"{server.data}/chunks/*/*.chunk")


def local(tmp_path, megabytes, name="local"):
    path = tmp_path / name
    path.write_bytes(os.urandom(megabytes << 20))
    return path


def test_file_is_put_listed_read_moved_and_removed(three, tmp_path):
    source = local(tmp_path, 5)
    ok(fs(three, "mkdir", "/data/deep"))
    ok(fs(three, "put", str(source), "/data/deep/file", only=0))
    # Any node gives it.
    for node in range(3):
        assert ok(fs(three, "get", "/data/deep/file", only=node)) == source.read_bytes()
    assert b"file" in ok(fs(three, "ls", "/data/deep"))
    stat = ok(fs(three, "stat", "/data/deep/file")).decode()
    assert f"{5 << 20} bytes" in stat and "3 copies" in stat
    done = fs(three, "put", str(source), "/data/deep/file")
    assert done.returncode == 1 and b"already" in done.stderr
    ok(fs(three, "put", "-", "/data/deep/file", "--append", input=b"tail"))
    assert ok(fs(three, "get", "/data/deep/file")) == source.read_bytes() + b"tail"
    ok(fs(three, "put", "-", "/data/deep/file", "--force", input=b"new"))
    assert ok(fs(three, "get", "/data/deep/file")) == b"new"
    ok(fs(three, "mv", "/data/deep/file", "/data/name with blank"))
    assert ok(fs(three, "get", "/data/name with blank")) == b"new"
    assert fs(three, "rm", "/data").returncode == 1
    ok(fs(three, "rm", "-r", "/data"))
    assert fs(three, "get", "/data/name with blank").returncode == 1
    # What nobody needs leaves the disks.
    eventually(lambda: not any(chunk_files(server) for server in three.servers), 30)


def test_bad_requests_are_refused_in_words(three):
    for method, path, code, what in [
        ("GET", "/webhdfs/v1/x?op=OPEN", 404, "FileNotFoundException"),
        ("GET", "/webhdfs/v1/x?op=NOTHING", 400, "UnsupportedOperationException"),
        ("GET", "/webhdfs/v1/x", 400, "IllegalArgumentException"),
        ("GET", "/webhdfs/v1/?op=OPEN", 404, "FileNotFoundException"),
        ("PUT", "/webhdfs/v1/a/../b?op=MKDIRS", 400, "InvalidPathException"),
        ("PUT", "/webhdfs/v1/a?op=CREATE&step=data&replication=0", 400, "IllegalArgumentException"),
        ("PUT", "/webhdfs/v1/a?op=CREATE&step=data&replication=x", 400, "IllegalArgumentException"),
        ("POST", "/webhdfs/v1/a?op=APPEND&step=data", 404, "FileNotFoundException"),
        ("PUT", "/webhdfs/v1/a?op=SETOWNER&owner=x", 400, "UnsupportedOperationException"),
        ("DELETE", "/webhdfs/v1/?op=DELETE&recursive=true", 403, "IOException"),
    ]:
        got, _, body = ask(three[0], method, path, body=b"" if method != "GET" else None)
        assert (got, json.loads(body)["RemoteException"]["exception"]) == (code, what), path
    # A page of another site, in a browser on this machine.
    got, _, _ = ask(three[0], "POST", "/webhdfs/v1/a?op=APPEND&step=data", b"x", {"Origin": "http://evil.example"})
    assert got == 403


def test_webhdfs_clients_work(three, tmp_path):
    hdfs = pytest.importorskip("hdfs")
    client = hdfs.InsecureClient(f"http://{three[0].console_address}", user="me")
    data = os.urandom(3 << 20)
    client.makedirs("/py/dir")
    client.write("/py/dir/a", data)
    with client.read("/py/dir/a") as reader:
        assert reader.read() == data
    with client.read("/py/dir/a", offset=1_500_000, length=100) as reader:
        assert reader.read() == data[1_500_000:1_500_100]
    client.write("/py/dir/a", b"more", append=True)
    assert client.status("/py/dir/a")["length"] == len(data) + 4
    assert client.list("/py/dir") == ["a"]
    client.rename("/py/dir/a", "/py/b")
    assert client.content("/py")["fileCount"] == 1
    with pytest.raises(hdfs.HdfsError):
        client.write("/py/b", b"x")
    client.write("/py/b", b"x", overwrite=True)
    with client.read("/py/b") as reader:
        assert reader.read() == b"x"
    assert client.delete("/py", recursive=True)
    assert client.status("/py", strict=False) is None
    # The redirection, as curl -L follows it.
    code, headers, _ = ask(three[1], "PUT", "/webhdfs/v1/curl?op=CREATE&user.name=me")
    assert code == 307
    to = urllib.parse.urlsplit(headers["location"])
    code, _, _ = ask(three[1], "PUT", f"{to.path}?{to.query}", b"content")
    assert code == 201


def test_fsspec_works(three):
    fsspec = pytest.importorskip("fsspec")
    host, port = three[0].console_address.split(":")
    files = fsspec.filesystem("webhdfs", host=host, port=int(port))
    data = os.urandom(2 << 20)
    files.mkdir("/spec")
    with files.open("/spec/a", "wb") as out:
        out.write(data)
    assert files.cat_file("/spec/a") == data
    assert files.cat_file("/spec/a", start=100, end=200) == data[100:200]
    assert [name.rsplit("/", 1)[-1] for name in files.ls("/spec", detail=False)] == ["a"]
    assert files.info("/spec/a")["size"] == len(data)
    files.rm("/spec", recursive=True)
    assert not files.exists("/spec/a")


def test_file_is_whole_when_a_node_is_killed_while_it_is_written(four, tmp_path):
    source = local(tmp_path, 64)
    gateway = four.follower()
    victim = four.follower(but=(gateway,))
    killer = threading.Timer(0.15, lambda: four.kill(victim))
    killer.start()
    ok(fs(four, "put", str(source), "/big", only=gateway))
    killer.join()
    assert not four[victim].running
    assert ok(fs(four, "get", "/big", only=gateway)) == source.read_bytes()
    # The three that are left get what is lacking; the fourth is not needed.
    settled(four, gateway)
    four[victim].start()
    four.wait_ready([victim])
    settled(four, gateway)
    eventually(lambda: sum(len(chunk_files(s)) for s in four.servers) == 64 * 3, 30)
    assert ok(fs(four, "get", "/big", only=victim)) == source.read_bytes()


def test_file_is_whole_when_the_leader_is_killed_while_it_is_written(four, tmp_path):
    source = local(tmp_path, 64)
    leader = four.leader()
    gateway = four.follower()
    killer = threading.Timer(0.15, lambda: four.kill(leader))
    killer.start()
    ok(fs(four, "put", str(source), "/big", only=gateway))
    killer.join()
    assert ok(fs(four, "get", "/big", only=gateway)) == source.read_bytes()
    settled(four, gateway)


def test_file_is_read_when_nodes_are_killed_meanwhile(four, tmp_path):
    source = local(tmp_path, 64)
    ok(fs(four, "put", str(source), "/big"))
    settled(four)
    gateway = four.follower()
    victim = four.follower(but=(gateway,))
    killer = threading.Timer(0.05, lambda: four.kill(victim))
    killer.start()
    assert ok(fs(four, "get", "/big", only=gateway)) == source.read_bytes()
    killer.join()
    # And with the asked node gone the client goes on with another, where it was.
    others = [i for i in range(4) if i not in (victim, gateway)]
    consoles = ",".join(four[i].console_address for i in [gateway, *others])
    reader = subprocess.Popen(
        [BIN, "fs", "get", "/big", "--console", consoles], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first = reader.stdout.read(1 << 20)
    # A majority must be there for names, and no more than two of a chunk's nodes may go at a time.
    four[victim].start()
    four.wait_ready([victim])
    settled(four, others[0])
    four.kill(gateway)
    # Not `communicate`, which loses what `read` has taken beyond what it gave.
    rest = reader.stdout.read()
    assert reader.wait(60) == 0, reader.stderr.read()
    assert first + rest == source.read_bytes()


def test_flipped_byte_is_not_read_and_its_copy_is_repaired(three, tmp_path):
    source = local(tmp_path, 4)
    ok(fs(three, "put", str(source), "/file"))
    flipped = []
    for path in chunk_files(three[0]):
        with open(path, "r+b") as file:
            file.seek(70_000)
            byte = file.read(1)
            file.seek(70_000)
            file.write(bytes([byte[0] ^ 1]))
        flipped.append((path, hashlib.sha256(open(path, "rb").read()).digest()))
    assert len(flipped) == 4
    # The nearest copy of the first node is bad.
    assert ok(fs(three, "get", "/file", only=0)) == source.read_bytes()
    eventually(lambda: all(hashlib.sha256(open(p, "rb").read()).digest() != h for p, h in flipped), 30)
    settled(three)
    assert three[0].log.read_text().count("is corrupt") >= 4
    # Its own copies are good again: the others are not there.
    three.kill(1)
    assert ok(fs(three, "get", "/file", only=0)) == source.read_bytes()


def test_damage_is_found_by_reading_everything_now_and_then(tmp_path):
    cluster = Cluster(3, tmp_path, **{**FAST, "files.scrub_bytes_per_s": 100 << 20}).start()
    try:
        whole(cluster)
        source = local(tmp_path, 2)
        ok(fs(cluster, "put", str(source), "/file"))
        path = chunk_files(cluster[2])[0]
        good = open(path, "rb").read()
        with open(path, "r+b") as file:
            file.truncate(len(good) - 1)
        eventually(lambda: open(path, "rb").read() == good, 60)
        settled(cluster)
    finally:
        cluster.end()


def test_lost_disk_is_filled_again(three, tmp_path):
    source = local(tmp_path, 6)
    ok(fs(three, "put", str(source), "/file"))
    for path in chunk_files(three[1]):
        os.remove(path)
    three.restart(1)
    three.wait_ready([1])
    eventually(lambda: len(chunk_files(three[1])) == 6, 60)
    settled(three)


def test_name_of_a_dead_writer_is_free_when_its_lease_ends(three):
    def half(server):
        """A client that announces more than it sends."""
        host, port = server.console_address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.putrequest("PUT", "/webhdfs/v1/name?op=CREATE&step=data")
        connection.putheader("Content-Length", str(8 << 20))
        connection.endheaders()
        connection.send(b"x" * (3 << 20))
        eventually(lambda: fsck(three, 1)["writers"] == 1, 20)
        return connection

    # The client goes: what it wrote is forgotten at once.
    half(three[0]).close()
    eventually(lambda: fsck(three, 1)["writers"] == 0, 2)
    # The node that it wrote through goes, too: only time tells.
    gateway = three.follower()
    other = next(i for i in range(3) if i != gateway)
    connection = half(three[gateway])
    done = fs(three, "put", "-", "/name", input=b"mine", only=other)
    assert done.returncode == 1 and b"another writer" in done.stderr
    three.kill(gateway)
    connection.close()
    begun = time.monotonic()
    eventually(lambda: fs(three, "put", "-", "/name", input=b"mine", only=other).returncode == 0, 30)
    assert ok(fs(three, "get", "/name", only=other)) == b"mine"
    assert time.monotonic() - begun < 30
    # Nothing of the dead writer stays on the disks that are left.
    eventually(lambda: len(chunk_files(three[other])) == 1, 30)


def test_member_that_leaves_is_let_go_when_its_copies_are_elsewhere(four, tmp_path):
    source = local(tmp_path, 8)
    ok(fs(four, "put", str(source), "/file", "--copies", "1", only=3))
    assert len(chunk_files(four[3])) == 8
    done = subprocess.run(
        [BIN, "cluster", "leave", four[3].peer_address, "--console", four[0].console_address],
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    four[3].process.wait(60)
    assert ok(fs(four, "get", "/file", only=0)) == source.read_bytes()
