"""`althing stream`: real processes over a cluster of three; workers, masters and nodes are killed, and all is counted once."""

import json
import os
import random
import re
import signal
import subprocess
import threading
from collections import Counter

import pytest

from kafka_nodes import KafkaNodes, fresh, read_all, send
from raw import eventually
from servers import BIN, Cluster, process_alive

pytestmark = pytest.mark.althing_only

LIMIT_S = 90
PARTITIONS = 3
END = 10_000_000


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    options = {"agent.run": True, "agent.cpu_milli": 4000, "agent.memory_mib": 4096, "agent.disk_mib": 0}
    cluster = Cluster(3, tmp_path_factory.mktemp("streams"), kafka=True, **options).start()
    kafka = KafkaNodes(cluster)
    kafka.wait_ready()
    yield kafka
    cluster.end()


def althing(*words):
    done = subprocess.run([BIN, *words], capture_output=True, text=True, timeout=LIMIT_S)
    return done.returncode, done.stdout, done.stderr


class Stream:
    """A topology over topics of its own, and the processes that run it."""

    def __init__(self, nodes, directory, operators, source="", workers=2, side=False):
        self.nodes, self.name = nodes, fresh("stream")
        self.source, self.sink = nodes.topic(PARTITIONS, "in"), nodes.topic(1, "out")
        self.side = nodes.topic(1, "side") if side else None
        self.file = directory / f"{self.name}.toml"
        side_topic = f'side_topic = "{self.side}"' if side else ""
        self.file.write_text(
            f'name = "{self.name}"\nworkers = {workers}\ncheckpoint_ms = 200\n'
            f'[source]\ntopic = "{self.source}"\n{source}\n{operators}\n'
            f'[sink]\ntopic = "{self.sink}"\n{side_topic}\n'
        )
        self.processes, self.told = [], {}
        self.producer = nodes.producer()

    def where(self):
        cluster = self.nodes.cluster
        consoles = ",".join(server.console_address for server in cluster.servers)
        return ["--server", cluster.hosts, "--kafka", ",".join(self.nodes.addresses), "--console", consoles, "--session-ms", "4000"]

    def run(self, *options):
        command = [BIN, "stream", "run", str(self.file), "--progress", *self.where(), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = self.told[process.pid] = []
        reader = threading.Thread(target=lambda: told.extend(iter(process.stderr.readline, "")), daemon=True)
        reader.start()
        self.processes.append(process)
        return process

    def told_of(self, process, pattern):
        look = lambda: next((found for line in list(self.told[process.pid]) if (found := re.search(pattern, line))), None)  # noqa: E731
        try:
            return eventually(look, LIMIT_S)
        except AssertionError as e:
            raise AssertionError(f"{e}; told: {''.join(self.told[process.pid])}") from None

    def verb(self, verb, *more):
        return althing("stream", verb, self.name, *self.where(), *more)

    def status(self):
        code, out, err = self.verb("status", "--json")
        assert code == 0, err
        return json.loads(out)

    def workers(self, count):
        """Processes of the workers that the tree names, once they are so many."""

        def look():
            pids = [worker["pid"] for worker in self.status()["workers"]]
            alive = [pid for pid in pids if process_alive(pid)]
            return alive if len(alive) == count == len(pids) else None

        return eventually(look, LIMIT_S)

    def send(self, values, partition):
        send(self.producer, self.source, [value.encode() for value in values], partition=partition)

    def close(self):
        """Lets all windows end."""
        for partition in range(PARTITIONS):
            self.send([f"end,{END},0"], partition)

    def output(self, topic=None):
        found = read_all(self.nodes, topic or self.sink)[0]
        return sorted(message.value().decode() for message in found if not message.value().startswith(b"end,"))

    def wait_output(self, wanted, topic=None):
        wanted = sorted(wanted)
        eventually(lambda: len(self.output(topic)) >= len(wanted), LIMIT_S, 0.3)
        assert self.output(topic) == wanted

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def stream(nodes, tmp_path):
    streams = []

    def make(*arguments, **how):
        streams.append(Stream(nodes, tmp_path, *arguments, **how))
        return streams[-1]

    yield make
    for one in streams:
        one.end()


TIME = "time = { field = 2 }\nout_of_order_ms = 200"
COUNT = """
[[operator]]
key_by = { field = 1 }
[[operator]]
window = { tumbling_ms = 1000, aggregate = "count" }
"""


class Clicks:
    """Records `user,time,amount` in event time, out of order by less than 200 ms, and what is to be counted."""

    def __init__(self, seed):
        self.rng, self.at, self.counts = random.Random(seed), 0, Counter()

    def some(self, count):
        values = []
        for _ in range(count):
            self.at += self.rng.randrange(20)
            time_ms = max(0, self.at - self.rng.randrange(190))
            user = f"user{self.rng.randrange(7)}"
            start = time_ms // 1000 * 1000
            self.counts[user, start] += 1
            values.append(f"{user},{time_ms},{self.rng.randrange(100)}")
        return values

    def wanted(self):
        return [f"{user},{start},{start + 1000},{count}" for (user, start), count in self.counts.items()]


def total(all_clicks):
    counts = Counter()
    for clicks in all_clicks:
        counts.update(clicks.counts)
    return [f"{user},{start},{start + 1000},{count}" for (user, start), count in counts.items()]


def test_m16_killed_workers_and_masters_lose_and_double_nothing(stream):
    clicks = stream(COUNT, TIME)
    leading = clicks.run("--workers", "0")
    clicks.told_of(leading, "leads")
    other = clicks.run("--workers", "2")
    inputs = [Clicks(seed) for seed in range(PARTITIONS)]

    def feed(rounds):
        for _ in range(rounds):
            for partition, one in enumerate(inputs):
                clicks.send(one.some(100), partition)

    feed(5)
    eventually(clicks.output, LIMIT_S)
    os.kill(clicks.workers(2)[0], signal.SIGKILL)
    feed(5)
    clicks.told_of(leading, "is lost")
    clicks.workers(2)
    before = clicks.status()["record"]["checkpoint"]
    eventually(lambda: clicks.status()["record"]["checkpoint"] > before + 1, LIMIT_S)
    leading.kill()
    feed(5)
    clicks.told_of(other, "leads")
    feed(5)
    clicks.close()
    clicks.wait_output(total(inputs))
    record = clicks.status()["record"]
    assert record["read"] == 3 * 2000 + PARTITIONS and record["late"] == 0, record
    assert record["epoch"] >= 3, record


def test_node_of_the_cluster_dies_under_a_stream(stream, nodes):
    clicks = stream(COUNT, TIME)
    process = clicks.run()
    inputs = [Clicks(seed + 10) for seed in range(PARTITIONS)]

    def feed(rounds):
        for _ in range(rounds):
            for partition, one in enumerate(inputs):
                clicks.send(one.some(50), partition)

    feed(4)
    eventually(clicks.output, LIMIT_S)
    leader = nodes.cluster.leader()
    nodes.cluster.kill(leader)
    try:
        feed(4)
        clicks.close()
        clicks.wait_output(total(inputs))
    finally:
        nodes.cluster[leader].start()
        nodes.cluster.wait_ready()
    assert process.poll() is None


def test_stopped_stream_goes_on_where_it_was(stream):
    clicks = stream(COUNT, TIME)
    first = clicks.run()
    one = Clicks(20)
    clicks.send(one.some(300), 0)
    eventually(lambda: clicks.status()["record"]["read"] == 300, LIMIT_S)
    code, out, err = clicks.verb("stop")
    assert code == 0, err
    assert first.wait(LIMIT_S) == 0
    assert first.stdout.read() == f"{clicks.name} is stopped\n"
    assert clicks.status()["state"] == "stopped"
    clicks.send(one.some(300), 0)
    # With more workers than before: keys belong to others, and nothing else changes.
    clicks.file.write_text(clicks.file.read_text().replace("workers = 2", "workers = 3"))
    second = clicks.run()
    clicks.close()
    clicks.wait_output(one.wanted())
    assert clicks.status()["record"]["read"] == 600 + PARTITIONS
    # Another topology cannot go on with this state; forgotten, it can begin anew.
    clicks.file.write_text(clicks.file.read_text().replace("tumbling_ms = 1000", "tumbling_ms = 500"))
    code, _, err = althing("stream", "run", str(clicks.file), *clicks.where())
    assert code == 1 and "another topology" in err
    code, _, err = clicks.verb("forget")
    assert code == 1 and "stop" in err
    assert clicks.verb("stop")[0] == 0
    assert second.wait(LIMIT_S) == 0
    assert clicks.verb("forget")[0] == 0
    code, _, err = clicks.verb("status")
    assert code == 1 and "there is no stream" in err


def test_late_and_unreadable_records_go_aside_and_others_through_their_steps(stream):
    operators = """
[[operator]]
filter = { field = 3, min = 10 }
[[operator]]
key_by = { field = 1 }
[[operator]]
window = { session_gap_ms = 100, aggregate = { sum = 3 } }
[[operator]]
filter = { field = 4, min = 25 }
[[operator]]
project = { fields = [1, 4] }
"""
    clicks = stream(operators, "time = { field = 2 }\nidle_ms = 300", side=True)
    clicks.run("--workers", "1")
    lines = ["a,1000,10", "a,1050,20", "b,1060,20", "a,1070,9", "a,nowhen,50", "a,1300,40", "b,9000,11"]
    clicks.send(lines, 0)
    clicks.wait_output(["a,30", "a,40"])
    clicks.send(["b,1000,99"], 0)
    clicks.wait_output(["a,nowhen,50", "b,1000,99"], clicks.side)
    record = clicks.status()["record"]
    assert (record["read"], record["late"], record["unreadable"]) == (8, 1, 1)
    assert clicks.output() == ["a,30", "a,40"]


def test_cluster_runs_a_stream_as_a_job(stream):
    words = stream('[[operator]]\nsplit = " "\n[[operator]]\nmap = "upper"', side=False)
    console = words.nodes.cluster[0].console_address
    eventually(lambda: " up " in althing("agents", "--console", console)[1], LIMIT_S)
    code, out, err = althing("stream", "run", str(words.file), "--on-cluster", "--insecure", *words.where())
    assert code == 0 and f"runs as the job stream-{words.name}" in out, err
    words.send(["to be or", "not to be"], 0)
    words.wait_output(["BE", "BE", "NOT", "OR", "TO", "TO"])
    os.kill(words.workers(2)[0], signal.SIGKILL)
    words.send(["that is"], 1)
    words.wait_output(["BE", "BE", "IS", "NOT", "OR", "THAT", "TO", "TO"])
    code, out, err = words.verb("stop")
    assert code == 0, err
    listed = althing("job", "list", "--console", console)[1]
    assert words.name not in listed


def test_what_cannot_be_is_refused_with_what_is_wrong(stream):
    clicks = stream(COUNT, TIME)
    text = clicks.file.read_text()
    for old, new, code, words in [
        ("workers = 2", "workers = 99", 2, "line 2: workers = 99: allowed are 1 to 64"),
        ("key_by", "keyby", 2, "unknown variant `keyby`"),
        (f'"{clicks.source}"', '"nothing"', 1, "nothing: there is no such topic"),
    ]:
        clicks.file.write_text(text.replace(old, new))
        done = althing("stream", "run", str(clicks.file), *clicks.where())
        assert done[0] == code and words in done[2], done
    done = althing("stream", "run", "/nowhere.toml")
    assert done[0] == 1 and "cannot read /nowhere.toml" in done[2]
    done = clicks.verb("status")
    assert done[0] == 1 and "there is no stream" in done[2]
