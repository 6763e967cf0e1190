"""Services that call each other by name over gRPC, as processes: providers and nodes are killed, calls go on."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from raw import eventually
from servers import BIN, Cluster, ask_http

pytestmark = pytest.mark.althing_only

EXAMPLES = Path(os.environ.get("ALTHING_TARGET", Path(BIN).parent.parent)) / "debug" / "examples"


@pytest.fixture
def nodes(tmp_path):
    cluster = Cluster(3, tmp_path, dns=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


class Example:
    """A process of one of the examples."""

    def __init__(self, name, agents, *options):
        assert (EXAMPLES / name).exists(), f"{EXAMPLES / name} is missing: cargo build --workspace --examples"
        self.process = subprocess.Popen(
            [EXAMPLES / name, "--agents", ",".join(agents), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def calls(self, count):
        """Carries out so many calls; how often each end came."""
        self.process.stdin.write(f"{count}\n")
        ends = {}
        while (line := self.line()) != "done":
            assert line, f"the caller ended: {self.process.poll()}"
            number, end = line.split(" ", 1)
            ends[end] = int(number)
        return ends

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture
def start():
    """Starts examples, and ends what is left of them."""
    running = []

    def start(*arguments):
        running.append(Example(*arguments))
        return running[-1]

    yield start
    for example in running:
        example.end(signal.SIGKILL)


def greeter(start, agents, *options):
    """A greeter that serves, and where."""
    process = start("greeter", agents, *options)
    line = process.line()
    assert line.startswith("greeter serves on "), line
    return process, line.rsplit(" ", 1)[1]


def told(node):
    """Rows of calls to the greeter, as the cluster knows them: (who counted, instance) → row."""
    code, body = node.http("/v1/monitor/calls")
    assert code == 200, body
    found = {}
    for row in json.loads(body)["rows"]:
        if row["call"]["service"] == "greeter":
            found[row["call"]["side"], row["call"]["instance"]] = row
    return found


def agents_of(nodes, first):
    """Consoles of all nodes, this one first."""
    order = [nodes[first]] + [nodes[i] for i in range(len(nodes)) if i != first]
    return [node.console_address for node in order]


def ok(ends):
    """Calls by instance; nothing else may have come of any."""
    assert all(":" in end and " " not in end for end in ends), ends
    return sum(ends.values())


def test_rpc_calls_go_on_when_a_provider_is_killed_and_then_the_node_that_was_asked(nodes, start):
    first = nodes.follower()
    agents = agents_of(nodes, first)
    ttl = ("--ttl-ms", "2000")
    one, one_at = greeter(start, agents, *ttl)
    _, other_at = greeter(start, agents[::-1], *ttl)
    caller = start("front", agents, "--on-demand")
    assert caller.line() == "ready"

    # Both are asked.
    ends = caller.calls(200)
    assert ok(ends) == 200 and set(ends) == {one_at, other_at}

    # One is killed: every next call is answered by the other.
    one.end(signal.SIGKILL)
    ends = caller.calls(200)
    assert ok(ends) == 200 and set(ends) == {other_at}

    # What callers counted is what the provider that lives counted, on every node's answer.
    for node in (nodes[0], nodes[1], nodes[2]):

        def adds_up(node=node):
            rows = told(node)
            called = rows.get(("caller", other_at), {}).get("total", {}).get("counts", {})
            served = rows.get(("provider", other_at), {}).get("total", {}).get("counts", {})
            dead = rows.get(("caller", one_at), {}).get("total", {}).get("counts", {})
            if not (called and served and dead):
                return False
            return called["ok"] == served["ok"] and called["ok"] + dead["ok"] == 400

        eventually(adds_up, 30)
    rows = told(nodes[first])
    assert rows["caller", other_at]["total"]["p50_us"] > 0
    assert rows["caller", one_at]["total"]["counts"]["not_sent"] >= 0
    code, page = nodes[first].http("/calls")
    assert code == 200 and other_at in page and "greeter.v1.Greeter/Greet" in page and "front" in page
    metrics = nodes[first].http("/metrics")[1]
    assert f'althing_calls_total{{side="caller",service="greeter",method="greeter.v1.Greeter/Greet",instance="{other_at}"' in metrics

    # The registry drops the dead one; nothing but the TTL told it.
    eventually(lambda: healthy(nodes[first]) == [other_at], 30)

    # The node that all of them talked to is killed; a new instance is found all the same.
    nodes.kill(first)
    assert ok(caller.calls(100)) == 100
    left = next(i for i in range(3) if i != first)
    _, third_at = greeter(start, agents, *ttl)
    eventually(lambda: third_at in caller.calls(20), 60)
    assert ok(caller.calls(100)) == 100

    def all_counted():
        rows = told(nodes[left])
        sums = [rows.get((side, other_at), {}).get("total", {}).get("counts", {}) for side in ("caller", "provider")]
        return all(sums) and sums[0]["ok"] == sums[1]["ok"] > 300

    eventually(all_counted, 60)
    caller.process.stdin.close()
    assert caller.process.wait(30) == 0


def healthy(node):
    """Where instances of the greeter are that pass their checks."""
    code, body = node.http("/v1/health/service/greeter?passing=true")
    assert code == 200, body
    return sorted(f"{each['Service']['Address']}:{each['Service']['Port']}" for each in json.loads(body))


def test_rpc_front_calls_the_greeter_by_name_and_both_leave_when_they_end(nodes, start):
    agents = agents_of(nodes, 0)
    leaf, leaf_at = greeter(start, agents)
    front = start("front", agents)
    assert front.line().startswith("front serves on ")
    guests = start("front", agents, "--guests", "Egill,Njal")
    assert [guests.line(), guests.line()] == ["Welcome to the Thing, Egill.", "Welcome to the Thing, Njal."]
    assert guests.process.wait(30) == 0

    def pairs():
        rows = json.loads(nodes[1].http("/v1/monitor/calls")[1])["rows"]
        counted = {(r["call"]["side"], r["call"]["caller"], r["call"]["service"]): r["total"]["counts"]["ok"] for r in rows}
        return counted == {
            ("caller", "guests", "front"): 1,
            ("provider", "guests", "front"): 1,
            ("caller", "front", "greeter"): 2,
            ("provider", "front", "greeter"): 2,
        }

    eventually(pairs, 30)
    assert healthy(nodes[2]) == [leaf_at]
    assert leaf.end() == 0 and healthy(nodes[2]) == []
    assert front.end() == 0
    late = start("front", agents, "--guests", "Gunnar")
    assert late.process.wait(60) != 0


def test_rpc_report_that_is_none_is_refused_with_what_is_wrong(nodes):
    def post(body, kind="application/json"):
        headers = {"content-type": kind}
        code, _, answer = ask_http(nodes[0].console_address, "POST", "/v1/monitor/calls", body, headers, 10)
        return code, answer.decode()

    call = {"side": "caller", "service": "s", "method": "m", "instance": "", "caller": ""}
    row = {"call": call, "total": {"ok": 1}, "minute": {}}
    good = {"reporter": "r", "sequence": 1, "rows": [row]}
    assert post(json.dumps(good))[0] == 204
    for body, says in [
        ("", "not an order"),
        ("{}", "reporter"),
        (json.dumps({**good, "reporter": ""}), "names its reporter"),
        (json.dumps({**good, "rows": [row, row]}), "each once"),
        (json.dumps({**good, "rows": [{**row, "total": {"ok": -1}}]}), "not an order"),
        (json.dumps({**good, "rows": [{**row, "total": {"latency": {"200": 1}}}]}), "beyond the last"),
        (json.dumps({**good, "rows": [{**row, "call": {**call, "service": ""}}]}), "a service and a method"),
    ]:
        code, text = post(body)
        assert code == 400 and says in text, (body, code, text)
    assert post(json.dumps(good), "text/plain")[0] == 415
    assert post("x" * (2 << 20))[0] == 413

    def known():
        # Nodes tell each other a moment after their start where they can be asked.
        told = json.loads(nodes[2].http("/v1/monitor/calls")[1])
        rows = [(row["call"]["service"], row["total"]["counts"]["ok"]) for row in told["rows"]]
        return (told["nodes"], told["missing"], rows) == (3, [], [("s", 1)])

    eventually(known, 30)
