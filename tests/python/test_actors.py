"""Actors of names: hosts as processes, killed and stopped; names move, counts stay, nobody owns a name twice."""

import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from raw import eventually
from servers import BIN, Cluster

pytestmark = pytest.mark.althing_only

COUNTER = Path(os.environ.get("ALTHING_TARGET", Path(BIN).parent.parent)) / "debug" / "examples" / "counter"
SESSION_MS = 4_000


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    cluster = Cluster(3, tmp_path_factory.mktemp("actors"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


class Host:
    """A process that runs counters."""

    def __init__(self, servers, session_ms):
        assert COUNTER.exists(), f"{COUNTER} is missing: cargo build --workspace --examples"
        command = [COUNTER, "--servers", servers, "--session-ms", str(session_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        assert line.startswith("counters run at "), line
        self.address = line.rsplit(" ", 1)[1]

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self, how):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(how)
        self.process.wait(60)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture
def host(nodes):
    """Starts hosts, and ends what is left of them."""
    running = []

    def start(session_ms=SESSION_MS):
        running.append(Host(nodes.hosts, session_ms))
        return running[-1]

    yield start
    for host in running:
        host.end(signal.SIGTERM)


@pytest.fixture
def tree(nodes):
    client = KazooClient(hosts=nodes.hosts, timeout=20)
    client.start(30)
    yield client
    client.stop()
    client.close()


def actor(nodes, *arguments, deadline_s=60):
    """`althing actor …`: (exit code, what it prints, what it complains of)."""
    command = [BIN, "actor", "--server", nodes.hosts, "--deadline-ms", str(deadline_s * 1000), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s + 30)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def ask(nodes, name, message, deadline_s=60):
    code, out, complaint = actor(nodes, "ask", name, json.dumps(message), deadline_s=deadline_s)
    assert code == 0, complaint
    return json.loads(out)


def listed(nodes, name):
    code, out, complaint = actor(nodes, "list", "--json")
    assert code == 0, complaint
    return next(one for one in json.loads(out) if one["name"] == name)


def start(nodes, *names):
    for name in names:
        code, _, complaint = actor(nodes, "start", name, "counter")
        assert code == 0, complaint


def send(address, name, generation, message, timeout=10):
    """A message straight to a host, as the hosts send them to each other; its outcome, None where none came."""
    request = {"id": 1, "to": name, "generation": generation, "ask": True, "left_ms": 10_000, "message": message}
    body = json.dumps(request).encode()
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=timeout) as sock:
            sock.sendall(struct.pack(">I", len(body)) + body)
            stream = sock.makefile("rb")
            head = stream.read(4)
            if len(head) < 4:
                return None
            answer = json.loads(stream.read(struct.unpack(">I", head)[0]))
            assert answer["generation"] == generation
            return answer["outcome"]
    except OSError:
        return None


class Asker(threading.Thread):
    """Adds one, over and over, to the owner that the tree names; notes what it was answered."""

    def __init__(self, nodes, name):
        super().__init__(daemon=True)
        self.name_, self.answers, self.unknown = name, [], 0
        self.over = threading.Event()
        self.tree = KazooClient(hosts=nodes.hosts, timeout=20)
        self.tree.start(30)
        self.start()

    def run(self):
        path = f"/althing/actors/owners/{self.name_}"
        while not self.over.is_set():
            try:
                data, stat = self.tree.get(path)
            except Exception:  # noqa: BLE001 - nobody owns it now, or a server does not answer
                time.sleep(0.05)
                continue
            outcome = send(json.loads(data)["address"], self.name_, stat.czxid, {"Add": 1}, timeout=1)
            if outcome is not None and "answer" in outcome:
                self.answers.append(outcome["answer"])
                time.sleep(0.005)
            elif outcome is None or "refused" not in outcome:
                self.unknown += 1
                time.sleep(0.05)

    def end(self):
        self.over.set()
        self.join(60)
        assert not self.is_alive()
        self.tree.stop()
        self.tree.close()


def holds(asker, final):
    """What was answered is there, nothing twice, and no generation answers after a later one."""
    counts = [answer["count"] for answer in asker.answers]
    assert counts == sorted(set(counts)), "a count was answered twice, or went back"
    assert len(counts) <= final <= len(counts) + asker.unknown, (len(counts), final, asker.unknown)
    generations = [answer["generation"] for answer in asker.answers]
    assert generations == sorted(generations)
    for generation in set(generations):
        assert len({a["process"] for a in asker.answers if a["generation"] == generation}) == 1


def test_m17_names_of_a_killed_host_move_with_their_counts(nodes, host, tree):
    hosts = [host(), host()]
    names = [f"kill-{number}" for number in range(6)]
    start(nodes, *names)
    for name in names:
        assert ask(nodes, name, {"Add": 10})["count"] == 10
    owners = {name: listed(nodes, name)["address"] for name in names}
    victim, heir = sorted(hosts, key=lambda one: list(owners.values()).count(one.address), reverse=True)
    moved = [name for name in names if owners[name] == victim.address]
    asker = Asker(nodes, moved[0])
    eventually(lambda: len(asker.answers) > 20, 60)

    before = len(asker.answers)
    victim.end(signal.SIGKILL)
    # Asks go on, all by the other host.
    eventually(lambda: len(asker.answers) > before + 20, 60)
    for name in names:
        answer = ask(nodes, name, "Get")
        assert answer["process"] == heir.process.pid
        assert answer["count"] >= 10
    asker.end()
    final = ask(nodes, moved[0], "Get")["count"]
    holds(asker, final - 10)
    assert len({answer["generation"] for answer in asker.answers}) >= 2

    # The console of any node shows them.
    def shown():
        code, page = nodes[0].http("/actors")
        assert code == 200, page
        return heir.address in page and all(name in page for name in names) and victim.address not in page

    eventually(shown, 60)
    for name in names:
        assert actor(nodes, "stop", name, "--forget")[0] == 0
        assert tree.exists(f"/althing/actors/states/{name}") is None


def test_m17_host_that_was_stopped_answers_nothing_after_its_names_have_moved(nodes, host, tree):
    first = host()
    start(nodes, "paused")
    assert ask(nodes, "paused", {"Add": 1})["count"] == 1
    old = listed(nodes, "paused")["generation"]
    second = host()
    first.signal(signal.SIGSTOP)
    # A message that was on its way while the host slept.
    late = []
    waiter = threading.Thread(
        target=lambda: late.append(send(first.address, "paused", old, {"Add": 100}, timeout=60))
    )
    waiter.start()
    # Who asks while it sleeps does not wait longer than it takes for the name to move.
    code, _, complaint = actor(nodes, "ask", "paused", '"Get"')
    assert code == 0 or code == 3 and "has lost the name" in complaint, complaint
    answer = ask(nodes, "paused", {"Add": 1})
    assert answer["count"] == 2 and answer["process"] == second.process.pid
    assert answer["generation"] > old
    first.signal(signal.SIGCONT)
    waiter.join(60)
    assert late[0] is None or "refused" in late[0], late
    refused = send(first.address, "paused", old, "Get")
    assert "refused" in refused, refused
    assert ask(nodes, "paused", "Get")["count"] == 2
    # A message for another generation is refused by whoever has the name, too.
    now = eventually(lambda: listed(nodes, "paused")["address"], 60)
    assert "refused" in send(now, "paused", old, "Get")
    actor(nodes, "stop", "paused", "--forget")


def test_m17_actor_that_crashes_is_restarted_and_then_given_up_to_another_host(nodes, host):
    # Sessions long enough that no lease is lost meanwhile.
    hosts = [host(20_000), host(20_000)]
    start(nodes, "crashes")
    assert ask(nodes, "crashes", {"Add": 5})["count"] == 5
    owner = listed(nodes, "crashes")
    code, _, complaint = actor(nodes, "ask", "crashes", '"Crash"')
    assert code == 3 and "told to crash" in complaint, complaint
    # The next incarnation, at the same host, with what was kept.
    answer = ask(nodes, "crashes", "Get")
    assert answer["count"] == 5 and answer["generation"] == owner["generation"]
    eventually(lambda: listed(nodes, "crashes")["restarts"] == 1, 60)

    # More often than its supervisor bears within its period: another host takes it.
    other = next(one for one in hosts if one.address != owner["address"])

    def moved():
        for _ in range(8):
            send(owner["address"], "crashes", owner["generation"], "Crash")
        return listed(nodes, "crashes")["address"] == other.address

    eventually(moved, 60)
    answer = ask(nodes, "crashes", "Get")
    assert answer["count"] == 5 and answer["process"] == other.process.pid
    actor(nodes, "stop", "crashes", "--forget")


def test_m17_names_leave_a_host_that_ends_in_order_at_once(nodes, host):
    first = host()
    start(nodes, "leaves")
    assert ask(nodes, "leaves", {"Add": 1})["process"] == first.process.pid
    second = host()
    assert first.end(signal.SIGTERM) == 0
    answer = ask(nodes, "leaves", {"Add": 1})
    assert answer["count"] == 2 and answer["process"] == second.process.pid
    code, _, complaint = actor(nodes, "tell", "leaves", '{"Add":1}')
    assert code == 0, complaint
    eventually(lambda: ask(nodes, "leaves", "Get")["count"] == 3, 60)
    actor(nodes, "stop", "leaves", "--forget")


def test_m17_what_is_not_there_is_refused_in_words(nodes, host):
    code, _, complaint = actor(nodes, "ask", "nobody", "1")
    assert code == 1 and "there is no actor" in complaint, complaint
    start(nodes, "waits")
    code, _, complaint = actor(nodes, "ask", "waits", '"Get"', deadline_s=5)
    assert code == 1 and "no host runs" in complaint, complaint
    host()
    code, _, complaint = actor(nodes, "ask", "waits", '{"Nonsense":1}')
    assert code == 1 and "cannot read the message" in complaint, complaint
    code, _, complaint = actor(nodes, "ask", "waits", "{")
    assert code == 2 and "no JSON" in complaint, complaint
    code, _, complaint = actor(nodes, "start", "a/b", "counter")
    assert code == 1 and "no name of an actor" in complaint, complaint
    code, _, complaint = actor(nodes, "start", "waits", "counter")
    assert code == 1 and "already" in complaint, complaint
    actor(nodes, "stop", "waits", "--forget")
