"""`althing lock`: on the tree, on the cache and on a table, beside the locks of kazoo."""

import itertools
import os
import re
import signal
import subprocess
import time

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout

from raw import eventually
from servers import BIN

pytestmark = pytest.mark.althing_only

NOT_HAD, LOST, FENCED_OFF = 75, 76, 77
_number = itertools.count(1)


def has_databases():
    done = subprocess.run([BIN, "lock", "show", "a", "--on", "nowhere"], capture_output=True, text=True, check=False)
    return "sqlite" in done.stderr


class Place:
    """Where locks are kept, and a name that no other test uses."""

    def __init__(self, kind, nodes, directory):
        self.kind, self.nodes, self.name = kind, nodes, f"test-{next(_number)}"
        if kind == "table":
            if not has_databases():
                pytest.skip("this binary was built without `--features database`")
            self.where = ["--on", os.environ.get("ALTHING_TEST_DATABASE", f"sqlite://{directory}/locks.db")]
            self.name += f"-{os.getpid()}"
        else:
            addresses = nodes.addresses if kind == "cache" else [s.address for s in nodes.cluster.servers]
            self.where = ["--on", kind, "--server", ",".join(addresses)]

    def command(self, what, *options, name=None):
        return [BIN, "lock", what, self.name if name is None else name, *self.where, *options]

    def ask(self, what, *options, timeout=40, name=None, stdin=None):
        """(exit code, standard output, standard error)"""
        done = subprocess.run(
            self.command(what, *options, name=name),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def run(self, script, *options, **more):
        return self.ask("run", *options, "--", "sh", "-c", script, **more)

    def hold(self, *options, name=None):
        return Holder(self.command("hold", *options, name=name))


class Holder:
    """A process that holds a lock, or waits for it."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.said = ""

    def fence(self):
        """Its fence once it holds the lock, else None."""
        self.said += (self.process.stdout.read() or b"").decode()
        found = re.search(r"is held, fence (\d+)\n", self.said)
        return int(found[1]) if found else None

    def wait_fence(self, timeout=30):
        return eventually(self.fence, timeout)

    def release(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def holders():
    """Holders that are ended with the test."""
    made = []

    def add(holder):
        made.append(holder)
        return holder

    yield add
    for holder in made:
        holder.end()


@pytest.fixture(params=["tree", "cache", "table"])
def place(request, redis_three, tmp_path):
    return Place(request.param, redis_three, tmp_path)


@pytest.fixture
def tree(redis_three, tmp_path):
    return Place("tree", redis_three, tmp_path)


@pytest.fixture
def kazoo(redis_three):
    client = KazooClient(hosts=redis_three.cluster.hosts, timeout=10.0)
    client.start(timeout=20)
    yield client
    client.stop()
    client.close()


def test_lock_run_tells_the_fence_and_ends_as_the_command_does(place):
    fences = []
    for _ in range(3):
        code, out, err = place.run("echo $ALTHING_FENCE; exit 3")
        assert code == 3, err
        fences.append(int(out))
    assert fences == sorted(set(fences)), "each holder's fence is larger than the one before"
    assert place.run("kill -9 $$")[0] == 128 + 9
    assert place.ask("run", "--", "/no/such/command")[0] == 126
    assert "is free" in place.ask("show")[1]


def test_lock_held_elsewhere_is_not_had_and_shown_and_broken(place, holders):
    first = holders(place.hold())
    fence = first.wait_fence()
    for wait in ("0s", "300ms"):
        assert place.run("true", "--wait", wait)[0] == NOT_HAD
    code, out, _ = place.ask("show")
    assert code == 0 and "holds it" in out and str(fence) in out and str(first.process.pid) in out
    second = holders(place.hold())
    if place.kind != "table":
        eventually(lambda: f".{second.process.pid}." in place.ask("show")[1])
    assert place.ask("break")[0] == 0
    assert second.wait_fence() > fence
    assert first.process.wait(20) == LOST
    assert second.release() == 0
    assert "is free" in place.ask("show")[1]


def test_lock_holder_killed_next_one_enters(place, holders):
    first = holders(place.hold("--ttl", "2s"))
    fence = first.wait_fence()
    second = holders(place.hold("--ttl", "2s"))
    time.sleep(1.0)
    assert second.fence() is None
    first.process.kill()
    assert second.wait_fence() > fence


def test_m07_lock_holder_stopped_beyond_its_lease_is_fenced_off(place, holders, tmp_path):
    """Held twice: the one that was stopped still believes in it when it goes on. Only the fence tells."""
    stock, entered = tmp_path / "stock", tmp_path / "entered"
    script = f'echo $ALTHING_FENCE > {entered}; while test ! -e {tmp_path}/go; do sleep 0.05; done; sleep 60'
    first = holders(Holder(place.command("run", "--ttl", "1s", "--", "sh", "-c", script)))
    eventually(lambda: entered.exists() and entered.read_text())
    old = int(entered.read_text())
    first.process.send_signal(signal.SIGSTOP)
    second = holders(place.hold("--ttl", "1s"))
    new = second.wait_fence()
    assert new > old

    def write(fence, text):
        command = [BIN, "lock", "guard", str(stock), "--fence", str(fence)]
        return subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode

    assert write(new, "new") == 0
    assert write(old, "old") == FENCED_OFF
    assert stock.read_text() == "new"
    # The command of the first runs on: nobody could end it. That it is too late, its keeper sees at once.
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(20) == LOST
    assert second.fence() == new and second.release() == 0


def test_lock_command_is_ended_when_the_lock_is_broken(place, holders, tmp_path):
    entered, told = tmp_path / "entered", tmp_path / "told"
    script = f"trap 'touch {told}; exit 0' TERM; touch {entered}; while :; do sleep 0.05; done"
    first = holders(Holder(place.command("run", "--", "sh", "-c", script)))
    eventually(entered.exists)
    assert place.ask("break")[0] == 0
    assert first.process.wait(30) == LOST
    assert told.exists()


def test_lock_contenders_lose_no_addition(place, tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    script = f"n=$(cat {count}); sleep 0.01; echo $((n + 1)) > {count}"
    loop = " ".join(["for i in 1 2 3 4 5 6; do", *map(quote, place.command("run", "--", "sh", "-c", script)), "; done"])
    workers = [subprocess.Popen(["sh", "-c", loop]) for _ in range(3)]
    for worker in workers:
        assert worker.wait(100) == 0
    assert int(count.read_text()) == 18


def quote(word):
    return "'" + word.replace("'", "'\\''") + "'"


def test_lock_stripes_keep_the_same_key_apart_from_others(place, holders):
    options = ("--stripes", "16", "--wait", "0s")
    stripes = {}
    for key in ("item-7", "item-8", "item-9"):
        code, out, err = place.run("echo $ALTHING_STRIPE", *options, "--key", key)
        assert code == 0, err
        stripes[key] = int(out)
    assert stripes["item-7"] == 10, "the stripe of a key is the same in every version"
    other = next(key for key in stripes if stripes[key] != 10)
    holder = holders(place.hold("--stripes", "16", "--key", "item-7"))
    holder.wait_fence()
    assert place.run("true", *options, "--key", "item-7")[0] == NOT_HAD
    assert place.run("true", *options, "--key", other)[0] == 0


@pytest.mark.parametrize("kind", ["tree", "cache"])
def test_lock_waiters_enter_in_the_order_of_their_coming(kind, redis_three, tmp_path, holders):
    place = Place(kind, redis_three, tmp_path)
    first = holders(place.hold())
    fences = [first.wait_fence()]
    waiting = []
    for _ in range(3):
        waiter = holders(place.hold())
        eventually(lambda waiter=waiter: f".{waiter.process.pid}." in place.ask("show")[1])
        waiting.append(waiter)
    first.release()
    for i, waiter in enumerate(waiting):
        fences.append(waiter.wait_fence())
        assert all(later.fence() is None for later in waiting[i + 1 :])
        assert waiter.release() == 0
    assert fences == sorted(fences)


def test_lock_shared_on_the_tree_lets_readers_in_and_keeps_writers_out(tree, holders):
    readers = [holders(tree.hold("--shared")) for _ in range(2)]
    assert all(reader.wait_fence() for reader in readers)
    writer = holders(tree.hold())
    eventually(lambda: "exclusive" in tree.ask("show")[1])
    late = holders(tree.hold("--shared"))
    eventually(lambda: tree.ask("show")[1].count("shared") == 3)
    assert writer.fence() is None and late.fence() is None, "who comes behind a writer waits for it"
    readers[0].release()
    time.sleep(0.3)
    assert writer.fence() is None
    readers[1].release()
    assert writer.wait_fence()
    assert late.fence() is None
    writer.release()
    assert late.wait_fence()


def test_lock_and_kazoo_exclude_each_other_on_the_same_path(tree, kazoo, holders):
    path = f"/locks/{tree.name}"
    theirs = kazoo.Lock(path, "kazoo")
    assert theirs.acquire(timeout=10)
    assert tree.run("true", "--wait", "300ms")[0] == NOT_HAD
    assert "kazoo" in tree.ask("show")[1]
    waiting = holders(tree.hold())
    eventually(lambda: len(kazoo.get_children(path)) == 2)
    theirs.release()
    waiting.wait_fence()
    with pytest.raises(LockTimeout):
        kazoo.Lock(path, "late").acquire(timeout=0.5)
    waiting.release()
    assert kazoo.Lock(path, "late").acquire(timeout=10)


def test_lock_and_kazoo_share_and_exclude_as_readers_and_writers(tree, kazoo, holders):
    path = f"/locks/{tree.name}"
    ours = holders(tree.hold("--shared"))
    ours.wait_fence()
    reader = kazoo.ReadLock(path, "reader")
    assert reader.acquire(timeout=10)
    with pytest.raises(LockTimeout):
        kazoo.WriteLock(path, "writer").acquire(timeout=0.5)
    assert tree.run("true", "--wait", "300ms")[0] == NOT_HAD
    assert tree.run("true", "--wait", "10s", "--shared")[0] == 0
    reader.release()
    ours.release()
    writer = kazoo.WriteLock(path, "writer")
    assert writer.acquire(timeout=10)
    assert tree.run("true", "--wait", "300ms", "--shared")[0] == NOT_HAD
    writer.release()


@pytest.mark.parametrize("kind", ["tree", "cache"])
def test_lock_nodes_killed_one_after_another_holder_stays_and_next_one_enters(
    kind, fresh_redis_three, tmp_path, holders
):
    nodes = fresh_redis_three
    place = Place(kind, nodes, tmp_path)
    first = holders(place.hold("--ttl", "6s"))
    fence = first.wait_fence()
    second = holders(place.hold("--ttl", "6s"))
    for i in range(3):
        nodes.cluster.kill(i)
        time.sleep(2.5)
        nodes.cluster[i].start()
        nodes.cluster.wait_ready()
        assert first.process.poll() is None and second.fence() is None
    assert first.release() == 0
    assert second.wait_fence() > fence


def test_lock_asked_wrongly_is_told_what_to_do(redis_three, tmp_path):
    cache = Place("cache", redis_three, tmp_path)
    for options, words in (
        (["--shared"], "--on tree"),
        (["--ttl", "5"], "a unit"),
        (["--ttl", "1ms"], "from 300 ms"),
        (["--stripes", "0"], "1..=4096"),
        (["--key", "a"], "--stripes"),
    ):
        code, _, err = cache.run("true", *options)
        assert code == 2 and words in err, err
    tree = Place("tree", redis_three, tmp_path)
    for name in ("", "/", "a//b"):
        code, _, err = tree.ask("run", "--", "true", name=name)
        assert code == 2 and "name" in err, err
    code, _, err = tree.ask("run", "--names", "curator-mutex", "--shared", "--", "true")
    assert code == 2 and "exclusive" in err
    kept = tmp_path / "stock.fence"
    kept.write_text("seven")
    command = [BIN, "lock", "guard", str(tmp_path / "stock"), "--fence", "1"]
    done = subprocess.run(command, input="", text=True, capture_output=True, check=False)
    assert done.returncode == 1 and "no fence" in done.stderr
