"""Jobs: tasks as real processes, on nodes that die."""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from raw import eventually
from servers import BIN, TARGET, Cluster, ask_http

pytestmark = pytest.mark.skipif(TARGET != "althing", reason="these are our own")

# A quarter of the lease is what a busy machine may be late by: 1.5 s.
AGENT = {"agent.run": True, "agent.beat_ms": 500, "agent.misses": 12}
ROOM = {"agent.cpu_milli": 4000, "agent.memory_mib": 4096, "agent.disk_mib": 0}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    cluster = Cluster(1, tmp_path_factory.mktemp("one"), **AGENT, **ROOM).start()
    agents_up(cluster, 1)
    yield cluster
    cluster.end()


@pytest.fixture
def three(tmp_path):
    cluster = Cluster(3, tmp_path, **AGENT, **ROOM).start()
    agents_up(cluster, 3)
    yield cluster
    cluster.end()


@pytest.fixture
def patient(tmp_path):
    """A node whose agent may be away for long."""
    cluster = Cluster(1, tmp_path, **{**AGENT, "agent.misses": 240}).start()
    agents_up(cluster, 1)
    yield cluster
    cluster.end()


def althing(cluster, *args, only=None, timeout=90):
    servers = [s for s in cluster.servers if s.running] if only is None else [cluster.servers[only]]
    consoles = ",".join(s.console_address for s in servers)
    command = [BIN, args[0], "--console", consoles, *args[1:]]
    return subprocess.run(command, capture_output=True, timeout=timeout, text=True)


def ok(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def agents_up(cluster, count):
    def up():
        agents = json.loads(ok(althing(cluster, "agents", "--json")))
        return sum(its["agent"]["is_up"] for its in agents) == count

    eventually(up, 60)


def run(cluster, tmp_path, text):
    file = tmp_path / "job.toml"
    file.write_text(text)
    return althing(cluster, "job", "run", str(file))


def job(cluster, name):
    return json.loads(ok(althing(cluster, "job", "status", name, "--json")))


def instances(cluster, name):
    """The current attempts that run: (index, instance, agent)."""
    found = []
    for task in job(cluster, name)["tasks"]:
        if task["attempts"] and task["attempts"][0]["instance"]["phase"] == "runs":
            attempt = task["attempts"][0]
            found.append((task["index"], attempt["id"], attempt["agent"]))
    return found


def all_run(cluster, name, count):
    return eventually(lambda: (lambda all: len(all) == count and all)(instances(cluster, name)), 60)


def alive(pid):
    """Whether there is such a process, and not only its remains."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(file):
    """What tasks have said of themselves, line by line."""
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def said(file, count):
    """The same once so many have said it: a task that runs may not have come to its first line."""
    return eventually(lambda: len(pids(file)) == count and pids(file), 60)


def test_tasks_of_a_node_that_is_killed_start_elsewhere_once_the_old_ones_are_dead(three, tmp_path):
    # Who has the lock of a task, or a child of it, is alive.
    script = (
        f"cd {tmp_path}; exec 9>lock$ALTHING_INDEX; flock -n 9 || echo $ALTHING_INDEX >> twice; "
        "echo $$ >> pids$ALTHING_INDEX; sleep 1000 & wait"
    )
    text = f"""
        name = "six"
        rule = "spread"
        [[tasks]]
        name = "server"
        count = 6
        command = ["sh", "-c", {json.dumps(script)}]
    """
    ok(run(three, tmp_path, text))
    before = all_run(three, "six", 6)
    homes = {agent for _, _, agent in before}
    assert len(homes) == 3, "they are spread"
    victim = before[0][2]
    moved = [(index, instance) for index, instance, agent in before if agent == victim]
    killed = next(i for i, s in enumerate(three.servers) if s.peer_address.replace(":", "-") == victim)
    started = time.monotonic()
    three.kill(killed)

    def elsewhere():
        after = {index: (instance, agent) for index, instance, agent in instances(three, "six")}
        return len(after) == 6 and all(after[i][0] > old and after[i][1] != victim for i, old in moved) and after

    after = eventually(elsewhere, 60)
    print(f"elsewhere after {time.monotonic() - started:.1f} s, of a lease of 6 s")
    for index, old, agent in before:
        if agent != victim:
            assert after[index] == (old, agent), "what was elsewhere was left alone"
    assert not (tmp_path / "twice").exists(), "two ran at a time"
    for index, _ in moved:
        first, second = said(tmp_path / f"pids{index}", 2)
        assert not alive(first) and alive(second)
    # The node comes back, and has nothing of theirs any more.
    three[killed].start()
    agents_up(three, 3)
    assert {i: (n, a) for i, n, a in instances(three, "six")} == after
    ok(althing(three, "job", "stop", "six", "--wait"))
    assert not any(alive(pid) for index in range(6) for pid in pids(tmp_path / f"pids{index}"))


def test_agent_that_was_killed_finds_its_tasks_again(patient, tmp_path):
    script = f"echo $$ >> {tmp_path}/pids; sleep 1000"
    ok(althing(patient, "job", "run", "--name", "still", "--", "sh", "-c", script))
    before = all_run(patient, "still", 1)
    patient.kill(0)
    patient[0].start()
    patient.wait_ready()
    eventually(lambda: "finds" in patient[0].log_tail(200) or "still runs" in patient[0].log_tail(200), 60)
    agents_up(patient, 1)
    assert all_run(patient, "still", 1) == before
    (pid,) = said(tmp_path / "pids", 1)
    assert alive(pid)
    ok(althing(patient, "job", "stop", "still", "--wait"))
    assert not alive(pid)


def enforced(cluster, zone=""):
    agents = json.loads(ok(althing(cluster, "agents", "--json")))
    (says,) = [its["agent"]["spec"]["enforces"] for its in agents if its["agent"]["spec"]["zone"] == zone]
    return says


@contextlib.contextmanager
def lone_agent(cluster, tmp_path, zone, *args):
    """A machine that is no node; it leaves in order."""
    command = [BIN, "agent", "--join", cluster[0].console_address, "--zone", zone, "--data", str(tmp_path / f"agent-{zone}")]
    command += ["--beat-ms", "500", "--misses", "12", *args]
    with open(tmp_path / f"out-{zone}", "wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as agent:
        try:
            eventually(lambda: f'"zone": "{zone}"' in ok(althing(cluster, "agents", "--json")), 60)
            yield agent
        finally:
            agent.terminate()
            agent.wait(60)


GROW = "import time; x = bytearray({} << 20); time.sleep(1000)"


def test_task_over_its_memory_dies_alone_and_is_started_again_by_its_policy(one, tmp_path):
    text = f"""
        name = "memory"
        [[tasks]]
        name = "modest"
        command = ["sleep", "1000"]
        constraints = ["zone = watched"]
        [[tasks]]
        name = "greedy"
        command = ["python3", "-c", "{GROW.format(120)}"]
        memory_mib = 64
        restart = {{ attempts_max = 1, pause_ms = 50 }}
        constraints = ["zone = watched"]
        [[tasks]]
        name = "huge"
        command = ["python3", "-c", "{GROW.format(900)}"]
        memory_mib = 64
        restart = {{ policy = "never" }}
        constraints = ["zone = watched"]
    """
    with lone_agent(one, tmp_path, "watched", "--no-cgroups"):
        assert "4 times a second" in enforced(one, "watched")
        ok(run(one, tmp_path, text))

        def ends():
            tasks = {task["task"]: task for task in job(one, "memory")["tasks"]}
            return tasks["greedy"]["wanted"]["end"] and tasks["huge"]["wanted"]["end"] and tasks

        tasks = eventually(ends, 60)
        assert tasks["greedy"]["wanted"]["end"] == "over-memory"
        assert tasks["greedy"]["wanted"]["restarts"] == 1
        assert [a["instance"]["phase"] for a in tasks["greedy"]["attempts"]] == [{"ended": "over-memory"}] * 2
        # It could not even have it.
        assert tasks["huge"]["wanted"]["end"] == {"failed": {"code": 1}}
        assert "MemoryError" in ok(althing(one, "job", "logs", "memory", "huge"))
        (modest,) = tasks["modest"]["attempts"]
        assert modest["instance"]["phase"] == "runs", "it dies alone"
        assert "failed: over its memory" in ok(althing(one, "job", "status", "memory"))
        ok(althing(one, "job", "stop", "memory", "--wait"))


def test_task_over_its_memory_is_ended_by_the_kernel_in_its_control_group(one, tmp_path):
    if "memory (cgroup" not in enforced(one):
        pytest.skip(f"MEMORY IS NOT LIMITED BY CONTROL GROUPS HERE: {enforced(one)}")
    # A child of it grows; the task as a whole is over.
    text = f"""
        name = "kernel"
        [[tasks]]
        name = "modest"
        command = ["sleep", "1000"]
        [[tasks]]
        name = "greedy"
        command = ["sh", "-c", "python3 -c '{GROW.format(900)}'; sleep 1000"]
        memory_mib = 64
        restart = {{ policy = "never" }}
    """
    ok(run(one, tmp_path, text))
    tasks = eventually(lambda: (lambda tasks: tasks[1]["wanted"]["end"] and tasks)(job(one, "kernel")["tasks"]), 60)
    assert tasks[1]["wanted"]["end"] == "over-memory"
    assert tasks[0]["attempts"][0]["instance"]["phase"] == "runs", "it dies alone"
    ok(althing(one, "job", "stop", "kernel", "--wait"))


def groups_of(pid):
    """The control groups of a process that a task has of its own: directory by controller (`""`: version 2)."""
    paths = [line.split(":", 2)[1:] for line in open(f"/proc/{pid}/cgroup").read().split()]
    mounts = [line.split()[1:4] for line in open("/proc/self/mounts")]
    found = {}
    for names, path in paths:
        for point, kind, options in mounts:
            is_it = kind == "cgroup" and names.split(",")[0] in options.split(",") if names else kind == "cgroup2"
            if is_it and Path(path).name.startswith("althing-") and not path.endswith("-node"):
                found |= {name: Path(point + path) for name in names.split(",")}
    return found


def test_task_is_in_control_groups_and_what_left_its_process_group_dies_with_it(one, tmp_path):
    if "cgroup" not in enforced(one).split("; not:")[0]:
        pytest.skip(f"NO CONTROL GROUPS CAN BE MADE HERE: {enforced(one)}")
    script = f"setsid sh -c 'echo $$ >> {tmp_path}/pids; while :; do sleep 1; done' & while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; exit 3"
    text = f"""
        name = "escape"
        [[tasks]]
        command = ["sh", "-c", {json.dumps(script)}]
        cpu_milli = 2000
        restart = {{ pause_ms = 50, attempts_max = 1 }}
    """
    ok(run(one, tmp_path, text))
    (first,) = said(tmp_path / "pids", 1)
    ((_, instance, _),) = all_run(one, "escape", 1)
    groups = groups_of(first)
    assert groups and all(group.name.endswith(f"-{instance}") for group in groups.values()), groups
    limits = {"memory": ("memory.limit_in_bytes", 64 << 20), "cpu": ("cpu.shares", 2048), "pids": ("pids.max", 4096)}
    for name, (file, value) in limits.items():
        assert name not in groups or int((groups[name] / file).read_text()) == value
    # Who supervises it is killed: the agent sees to what is left.
    supervisor = (one[0].data / "agent" / "tasks" / str(instance) / "pid").read_text().split()[0]
    os.kill(int(supervisor), signal.SIGKILL)
    first, second = said(tmp_path / "pids", 2)
    eventually(lambda: not alive(first), 60)
    (tmp_path / "go").touch()
    eventually(lambda: job(one, "escape")["summary"]["state"] == "failed", 60)
    assert not alive(second)
    assert not any(group.exists() for group in groups.values())


def test_stop_ends_the_whole_group_also_what_does_not_listen(one, tmp_path):
    script = f"trap '' TERM; (trap '' TERM; sh -c 'echo $$ >> {tmp_path}/pids; while :; do sleep 1; done') & echo $$ >> {tmp_path}/pids; while :; do sleep 1; done"
    text = f"""
        name = "deaf"
        [[tasks]]
        command = ["sh", "-c", {json.dumps(script)}]
        grace_ms = 300
    """
    ok(run(one, tmp_path, text))
    both = said(tmp_path / "pids", 2)
    assert all(alive(pid) for pid in both)
    ok(althing(one, "job", "stop", "deaf", "--wait"))
    assert not any(alive(pid) for pid in both)
    ok(althing(one, "job", "stop", "deaf", "--remove"))
    assert "there is no job" in althing(one, "job", "status", "deaf").stderr


def test_task_that_ends_leaves_no_child_behind(one, tmp_path):
    script = f"sleep 1000 & echo $! > {tmp_path}/pids; exit 3"
    done = althing(one, "job", "run", "--name", "parent", "--restart", "never", "--wait", "--", "sh", "-c", script)
    assert done.returncode == 1 and "job parent failed" in done.stderr
    (child,) = pids(tmp_path / "pids")
    eventually(lambda: not alive(child), 60)
    assert "failed: exit code 3" in ok(althing(one, "job", "status", "parent"))


def test_logs_are_read_at_any_node_and_followed_to_their_end(three, tmp_path):
    script = "echo instance $ALTHING_INSTANCE of $ALTHING_JOB/$ALTHING_TASK $GREETING; echo wrong >&2; while [ ! -e {}/go ]; do sleep 0.05; done; echo bye"
    text = f"""
        name = "talk"
        rule = "spread"
        [[tasks]]
        name = "speaker"
        count = 3
        command = ["sh", "-c", {json.dumps(script.format(tmp_path))}]
        env = {{ GREETING = "hello" }}
    """
    ok(run(three, tmp_path, text))
    found = all_run(three, "talk", 3)
    for index, instance, _ in found:
        line = f"instance {instance} of talk/speaker hello\nwrong\n"
        for node in range(3):
            args = ("job", "logs", "talk", "speaker", "-n", str(index))
            eventually(lambda: ok(althing(three, *args, only=node)) == line, 60)
    consoles = three[0].console_address
    follow = [BIN, "job", "logs", "talk", "-n", "1", "--follow", "--console", consoles]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout.readline().endswith("hello\n")
        (tmp_path / "go").touch()
        assert following.stdout.read() == "wrong\nbye\n"
        assert following.wait(60) == 0
    eventually(lambda: job(three, "talk")["summary"]["state"] == "succeeded", 60)


def test_bad_files_are_refused_with_their_line(one, tmp_path):
    good = 'name = "bad"\n[[tasks]]\ncommand = ["true"]\n'
    for text, says in [
        (good.replace("[[tasks]]", "[[tasks]]\ncuont = 3"), "line 3: there is no key `cuont` here: did you mean `count`?"),
        (good + 'restart = { policy = "sometimes" }', "line 4: unknown variant `sometimes`"),
        (good + "count = 0", 'task "main": count = 0 must be from 1 to 10000'),
        (good.replace('["true"]', "[]"), "command must name a program"),
        (good.replace("bad", "b d"), "the job's name"),
        ("name = ", "line 1"),
    ]:
        done = run(one, tmp_path, text)
        assert done.returncode == 1 and says in done.stderr, done.stderr
    assert "bad" not in ok(althing(one, "job", "list"))


def test_what_cannot_be_placed_says_why_and_what_cannot_be_started_too(one, tmp_path):
    text = """
        name = "picky"
        [[tasks]]
        name = "elsewhere"
        command = ["true"]
        constraints = ["zone = mars"]
        [[tasks]]
        name = "big"
        command = ["true"]
        cpu_milli = 100000
        [[tasks]]
        name = "nothing"
        command = ["/no/such/program"]
        restart = { policy = "never" }
    """
    ok(run(one, tmp_path, text))
    eventually(lambda: "could not be started" in ok(althing(one, "job", "status", "picky")), 60)
    status = ok(althing(one, "job", "status", "picky"))
    assert "not zone = mars" in status and "too small (cpu)" in status, status
    assert "/no/such/program" in status
    assert "fullness" in ok(althing(one, "job", "why", "picky", "nothing"))
    again = run(one, tmp_path, text)
    assert again.returncode == 1 and "stop it first" in again.stderr
    code, page = one[0].http("/jobs")
    assert code == 200 and "picky" in page and "fullness" in page
    ok(althing(one, "job", "stop", "picky", "--wait"))


def test_machine_that_is_no_node_runs_tasks_and_leaves_in_order(one, tmp_path):
    command = [BIN, "agent", "--join", one[0].console_address, "--zone", "far", "--attribute", "disk=slow"]
    command += ["--data", str(tmp_path / "agent")]
    with open(tmp_path / "out", "wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as agent:
        agents_up(one, 2)
        script = f"echo from afar; echo $$ > {tmp_path}/pids; sleep 1000"
        text = f"""
            name = "far"
            [[tasks]]
            command = ["sh", "-c", {json.dumps(script)}]
            constraints = ["zone = far", "disk = slow"]
        """
        ok(run(one, tmp_path, text))
        all_run(one, "far", 1)
        eventually(lambda: ok(althing(one, "job", "logs", "far")) == "from afar\n", 60)
        (pid,) = pids(tmp_path / "pids")
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1 and "another agent" in second.stderr
        agent.terminate()
        assert agent.wait(60) == 0
    assert not alive(pid)
    agents = json.loads(ok(althing(one, "agents", "--json")))
    assert len(agents) == 1, "it has left"
    assert "not zone = far" in ok(althing(one, "job", "status", "far"))
    ok(althing(one, "job", "stop", "far", "--wait"))


def ask(server, method, path, body=None):
    """JSON over HTTP to a console: the code and the answer."""
    def once():
        code, _, answer = ask_http(server.console_address, method, path, body)
        return code, json.loads(answer or b"null")

    # While there is no leader, nothing is done.
    return eventually(lambda: (lambda answered: answered[0] != 503 and answered)(once()), 60)


def place_all(server, scheduler, choose, stop):
    """A scheduler: reads the cell, decides on that copy, commits; with how many conflicts."""
    conflicts = 0
    while not stop.is_set():
        code, answer = ask(server, "GET", f"/v1/cell?scheduler={scheduler}")
        if code != 200:
            continue
        _, view = answer
        claims = []
        for task in view["pending"]:
            fits = [a for a in view["agents"] if all(a["free"][kind] >= n for kind, n in task["resources"].items())]
            if fits:
                agent = choose(fits)
                for kind, n in task["resources"].items():
                    agent["free"][kind] -= n
                claims.append({"slot": task["slot"], "agent": agent["id"], "version": agent["version"]})
        if not claims:
            stop.wait(0.1)
            continue
        code, answer = ask(server, "POST", "/v1/cell/commit", {"scheduler": scheduler, "claims": claims})
        if code == 200:
            assert len(answer["placed"]) + len(answer["conflicts"]) == len(claims)
            conflicts += len(answer["conflicts"])
    return conflicts


def test_two_schedulers_outside_place_their_jobs_on_one_cell_and_nobody_is_promised_too_much(three, tmp_path):
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name in "ab":
            text = f"""
                name = "{name}"
                scheduler = "{name}"
                [[tasks]]
                count = 6
                cpu_milli = 1000
                command = ["sleep", "1000"]
            """
            ok(run(three, tmp_path, text))
        status = ok(althing(three, "job", "status", "a"))
        assert "placed by scheduler a" in status and "waits: for scheduler a" in status, status
        # Both want the same agents first: 12 tasks, room for 12.
        first = [pool.submit(place_all, three[n], name, lambda fits: fits[0], stop) for n, name in enumerate("ab")]
        try:
            for name in "ab":
                all_run(three, name, 6)
        finally:
            stop.set()
        print("conflicts:", [future.result(60) for future in first])
    agents = json.loads(ok(althing(three, "agents", "--json")))
    assert [its["used"]["cpu_milli"] for its in agents] == [4000] * 3
    # A claim on what was seen before is refused, in words.
    text = """
        name = "late"
        scheduler = "late"
        [[tasks]]
        command = ["true"]
    """
    ok(run(three, tmp_path, text))
    _, (_, view) = ask(three[0], "GET", "/v1/cell?scheduler=late")
    claim = {"slot": view["pending"][0]["slot"], "agent": view["agents"][0]["id"], "version": 1}
    code, answer = ask(three[1], "POST", "/v1/cell/commit", {"scheduler": "late", "claims": [claim]})
    assert code == 200 and answer["conflicts"][0]["why"] == "too full (cpu)", answer
    ok(althing(three, "job", "stop", "a", "--wait"))
    _, (_, view) = ask(three[0], "GET", "/v1/cell?scheduler=late")
    claim["agent"] = next(agent["id"] for agent in view["agents"] if agent["free"]["cpu_milli"] > 0)
    by_version = {"scheduler": "late", "claims": [claim], "by_version": True}
    _, answer = ask(three[1], "POST", "/v1/cell/commit", by_version)
    assert answer["placed"] == [] and "changed: version" in answer["conflicts"][0]["why"], answer
    _, answer = ask(three[2], "POST", "/v1/cell/commit", {"scheduler": "late", "claims": [claim]})
    assert answer["conflicts"] == [] and len(answer["placed"]) == 1, answer
    eventually(lambda: job(three, "late")["summary"]["state"] == "succeeded", 60)
    code, metrics = three[0].http("/metrics")
    assert code == 200 and "althing_job_commits_total" in metrics


class Framework:
    """Runs as many tasks of one kind as it is offered room for, one for each offer."""

    def __init__(self, server, name, cpu_milli, memory_mib):
        self.server, self.name = server, name
        self.task = {"name": "t", "command": ["sleep", "1000"], "cpu_milli": cpu_milli, "memory_mib": memory_mib}
        code, answer = ask(server, "POST", "/v1/frameworks", {"name": name, "lease_ms": 4000})
        assert code == 200, answer
        self.generation = answer["generation"]
        self.tasks, self.asked, self.stopped = [], False, threading.Event()

    def fits(self, room):
        return room["cpu_milli"] >= self.task["cpu_milli"] and room["memory_bytes"] >= self.task["memory_mib"] << 20

    def run(self):
        index = 0
        path = f"/v1/frameworks/{self.name}"
        while not self.stopped.is_set():
            code, answer = ask(self.server, "GET", f"{path}/offers?generation={self.generation}&index={index}&wait_ms=1000")
            if code != 200:
                self.stopped.wait(0.1)
                continue
            self.asked = True
            index, told = answer
            self.tasks = told["tasks"]
            for offer in told["offers"]:
                tasks = [self.task] if self.fits(offer["resources"]) else []
                body = {"offer": offer["id"], "tasks": tasks, "filter_ms": 1000}
                code, answer = ask(self.server, "POST", f"{path}/answer?generation={self.generation}", body)
                # An offer may be over before it is answered.
                assert code in (200, 409, 503, 504), answer

    def phases(self):
        return [task["phase"] for task in self.tasks]


def test_two_frameworks_are_offered_the_same_dominant_share_and_what_one_leaves_is_the_others(one, tmp_path):
    gib = 1 << 10
    size = ["--cpu-milli", "9000", "--memory-mib", str(18 * gib), "--disk-mib", "0"]
    with contextlib.ExitStack() as stack:
        # Of the node itself nothing is left for them.
        text = """
            name = "fill"
            priority = 100
            [[tasks]]
            command = ["sleep", "1000"]
            cpu_milli = 4000
            constraints = ["zone != x", "zone != y"]
        """
        ok(run(one, tmp_path, text))
        all_run(one, "fill", 1)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(2))
        a, b = Framework(one[0], "fa", 1000, 4 * gib), Framework(one[0], "fb", 3000, gib)
        for framework in (a, b):
            stack.callback(framework.stopped.set)
        running = [pool.submit(framework.run) for framework in (a, b)]
        # Both have asked before there is anything.
        eventually(lambda: a.asked and b.asked, 60)

        def counts():
            all = json.loads(ok(althing(one, "job", "frameworks", "--json")))
            return {its["name"]: its["running"] for its in all}

        # The paper's agent (9 CPU, 18 GiB) and its tasks: 1 CPU and 4 GiB, 3 CPU and 1 GiB.
        x = stack.enter_context(lone_agent(one, tmp_path, "x", *size))
        eventually(lambda: counts() == {"fa": 3, "fb": 2}, 60)
        all_run(one, "fa", 3)
        all_run(one, "fb", 2)
        assert "placed by framework" in ok(althing(one, "job", "status", "fa"))
        code, page = one[0].http("/jobs")
        assert code == 200 and "Dominant share" in page and "of memory" in page
        # An agent dies: its tasks are told to their frameworks as lost, and nobody starts them again.
        stack.enter_context(lone_agent(one, tmp_path, "y", *size))
        eventually(lambda: sum(counts().values()) == 10, 60)
        x.kill()
        lost = {"ended": "lost"}
        eventually(lambda: a.phases().count(lost) == 3 and b.phases().count(lost) == 2, 60)
        eventually(lambda: sum(counts().values()) == 5, 60)
        # A framework dies: its lease ends, its tasks with it, and the other is offered what it had.
        before = counts()["fb"]
        a.stopped.set()
        assert running[0].result(60) is None
        eventually(lambda: job(one, "fa")["summary"]["state"] == "stopped", 60)
        eventually(lambda: counts()["fb"] == 3, 60)
        assert before < 3
        b.stopped.set()
        assert running[1].result(60) is None
        code, _ = ask(one[0], "DELETE", f"/v1/frameworks/fb?generation={b.generation}")
        assert code == 200
        eventually(lambda: job(one, "fb")["summary"]["state"] == "stopped", 60)
        code, answer = ask(one[0], "GET", f"/v1/frameworks/fb/offers?generation={b.generation}")
        assert code == 410, answer
        ok(althing(one, "job", "stop", "fill", "--wait"))
    agents_up(one, 1)
