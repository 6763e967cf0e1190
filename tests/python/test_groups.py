"""Groups of nodes: the lab's protocols between real processes, also with one killed. What must hold is checked from
the logs that the nodes write, by the lab's own checkers (`althing group check`)."""

import json
import re
import subprocess
import threading
import time

import pytest

from raw import eventually
from servers import BIN, Cluster, ask_http

pytestmark = pytest.mark.althing_only


def ask(server, method, path, body=None, timeout=90):
    code, _, answer = ask_http(server.console_address, method, path, body, timeout=timeout)
    return code, json.loads(answer or b"{}")


def create(server, name, protocol, **more):
    code, answer = ask(server, "POST", "/v1/groups", {"name": name, "protocol": protocol, **more})
    assert code == 200, answer


def lock(server, name, wait_ms=60_000):
    code, answer = ask(server, "POST", f"/v1/groups/{name}/lock", {"wait_ms": wait_ms})
    assert code == 200, answer
    return answer["fence"]


def unlock(server, name, fence=None):
    code, answer = ask(server, "POST", f"/v1/groups/{name}/unlock", {"fence": fence})
    assert code == 200, answer


def group(server, name):
    code, answer = ask(server, "GET", f"/v1/groups/{name}")
    assert code == 200, answer
    return answer


def append(server, name, value):
    """Appends until it is known where: a leader may be gone, or not be known yet."""

    def done():
        code, answer = ask(server, "POST", f"/v1/groups/{name}/append", {"value": value, "wait_ms": 5_000})
        assert code == 200, answer
        return answer["place"]

    return eventually(done, 60)


def values(server, name):
    return {place: value for place, value in group(server, name)["last"]}


def run(server, *words):
    command = [BIN, "group", *words, "--console", server.console_address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def log_of(server, name):
    """The log of a group in the data directory of a server that may be dead."""
    [path] = [p for p in server.data.glob("lane-0/group-*.log") if name_of(server, p) == name]
    return str(path)


_names = {}


def name_of(server, path):
    return _names.get(path.name)


def check(server, name, *dead):
    words = [word for other in dead for word in ("--log", log_of(other, name))]
    done = run(server, "check", name, *words)
    return done.returncode, done.stdout + done.stderr


def ready_everywhere(servers, name):
    """Every member has begun."""
    for server in servers:
        eventually(lambda server=server: group(server, name)["me"] > 0 and group(server, name)["role"] != "starting", 30)


def made(servers, name, protocol):
    create(servers[0], name, protocol)
    ready_everywhere(servers, name)
    # Numbers are given in the order of creation, per cluster.
    numbers = {int(p.name.split("-")[1].split(".")[0]) for s in servers for p in s.data.glob("lane-0/group-*.log")}
    _names[f"group-{max(numbers)}.log"] = name


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    cluster = Cluster(3, tmp_path_factory.mktemp("trio"))
    try:
        yield cluster.start()
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    cluster = Cluster(5, tmp_path_factory.mktemp("five"))
    try:
        yield cluster.start()
    finally:
        cluster.end()


def contend(servers, name, rounds):
    """All lock and unlock at once; the fences in the order in which they were inside, and how often two were."""
    inside, doubled, fences, guard, failed = set(), [], [], threading.Lock(), []

    def user(server):
        try:
            for _ in range(rounds):
                fence = lock(server, name)
                with guard:
                    if inside:
                        doubled.append((server.number, set(inside)))
                    inside.add(server.number)
                    fences.append(fence)
                time.sleep(0.005)
                with guard:
                    inside.discard(server.number)
                unlock(server, name, fence)
        except BaseException as e:  # noqa: BLE001 - reported by the test
            failed.append(repr(e))

    threads = [threading.Thread(target=user, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed, failed
    return fences, doubled


@pytest.mark.parametrize(
    "protocol", ["token-ring", "ricart-agrawala", "lamport", "centralized", "maekawa", "two-level-token-ring"]
)
def test_group_m03_three_nodes_lock_through_it_and_never_two_are_inside(trio, protocol):
    name = f"lock-{protocol}"
    made(trio.servers, name, protocol)
    fences, doubled = contend(trio.servers, name, 4)
    assert not doubled
    assert fences == sorted(set(fences)) and len(fences) == 12
    code, said = check(trio[1], name)
    assert code == 0 and "12 entries, never two inside" in said, said
    done = run(trio[0], "delete", name)
    assert done.returncode == 0, done.stderr
    eventually(lambda: ask(trio[2], "GET", f"/v1/groups/{name}")[0] == 404)


def test_group_m03_lease_lets_two_in_and_the_check_finds_it(trio):
    made(trio.servers, "leased", "lease")
    fence = lock(trio[0], "leased")
    # The first holder sleeps past its lease.
    later = lock(trio[1], "leased")
    assert later > fence
    code, said = check(trio[2], "leased")
    assert code == 1 and "enters while node" in said, said
    unlock(trio[1], "leased", later)
    unlock(trio[0], "leased", fence)


def test_group_misuse_is_refused_in_words(trio):
    first = trio[0]
    made(trio.servers, "chief", "bully")
    done = run(first, "lock", "chief")
    assert done.returncode == 1 and "it is for leader" in done.stderr, done.stderr
    done = run(first, "append", "chief", "5")
    assert done.returncode == 1 and "no log" in done.stderr, done.stderr
    done = run(first, "create", "other", "--protocol", "raft")
    assert done.returncode == 1 and "cluster status" in done.stderr, done.stderr
    done = run(first, "create", "other", "--protocol", "pbft")
    assert done.returncode == 1 and "4 to 9 nodes" in done.stderr, done.stderr
    done = run(first, "create", "chief", "--protocol", "zab")
    assert done.returncode == 1 and "already" in done.stderr, done.stderr
    done = run(first, "leader", "nobody")
    assert done.returncode == 1 and "no such group" in done.stderr, done.stderr
    create(first, "pair", "centralized", nodes=[trio[0].peer_address, trio[1].peer_address])
    ready_everywhere(trio.servers[:2], "pair")
    eventually(lambda: ask(trio[2], "GET", "/v1/groups/pair")[0] == 200)
    done = run(trio[2], "lock", "pair")
    assert done.returncode == 1 and "no member" in done.stderr and trio[0].peer_address in done.stderr, done.stderr
    done = run(first, "unlock", "pair")
    assert done.returncode == 1 and "inside" in done.stderr, done.stderr
    done = run(first, "lock", "pair", "--wait", "-1")
    assert done.returncode == 2, done.stderr
    code, answer = ask(first, "POST", "/v1/groups/pair/lock", {"wait": 1})
    assert code == 400 and "wait" in answer["error"]
    shown = run(first, "list").stdout
    assert "chief" in shown and "pair" in shown and "bully" in shown
    code, page = first.http("/groups")
    assert code == 200 and "chief" in page and "bully" in page


def test_group_m04_bully_follows_the_death_of_the_greatest_and_its_return(trio):
    name = "bully"
    made(trio.servers, name, "bully")
    for server in trio.servers:
        eventually(lambda server=server: group(server, name)["leader"] == 3, 30)
    numbers = {group(server, name)["me"]: server for server in trio.servers}
    greatest = numbers[3]
    eventually(lambda: greatest.peer_address in run(numbers[1], "leader", name).stdout, 30)
    greatest.kill()
    for number in (1, 2):
        eventually(lambda number=number: group(numbers[number], name)["leader"] == 2, 60)
    code, said = check(numbers[1], name, greatest)
    assert code == 0 and "of 3 of 3 members" in said, said
    greatest.start()
    for server in trio.servers:
        eventually(lambda server=server: group(server, name)["leader"] == 3, 60)


def test_group_m04_zab_keeps_one_log_over_the_death_of_its_leader(trio):
    name = "broadcast"
    made(trio.servers, name, "zab")
    numbers = {group(server, name)["me"]: server for server in trio.servers}
    for server in trio.servers:
        eventually(lambda server=server: group(server, name)["leader"], 60)
    for value in (11, 12, 13):
        append(trio[value % 3], name, value)
    leader = numbers[group(trio[0], name)["leader"]]
    leader.kill()
    living = [server for server in trio.servers if server is not leader]
    for value in (14, 15):
        append(living[value % 2], name, value)
    code, said = check(living[0], name, leader)
    assert code == 0 and "one value each" in said, said
    leader.start()
    for server in trio.servers:
        eventually(lambda server=server: set(values(server, name).values()) >= {11, 12, 13, 14, 15}, 60)
    assert len({json.dumps(values(server, name), sort_keys=True) for server in trio.servers}) == 1
    code, said = check(trio[0], name)
    assert code == 0, said


def test_group_ricart_agrawala_says_for_whom_it_waits(trio):
    name = "asks-all"
    made(trio.servers, name, "ricart-agrawala")
    victim = trio[2]
    number = group(victim, name)["me"]
    victim.kill()
    try:
        done = run(trio[0], "lock", name, "--wait", "1")
        assert done.returncode == 3, done.stderr
        assert f"peer {number} ({victim.peer_address}" in done.stderr, done.stderr
        shown = run(trio[0], "status", name).stdout
        assert re.search(rf"waiting\s+{number}\b", shown) and "does not answer" in shown, shown
    finally:
        victim.start()
        trio.wait_ready([2])


def test_group_m03_regenerating_ring_goes_on_after_its_holder_was_killed(five):
    name = "ring"
    made(five.servers, name, "regenerating-token-ring")
    victim = five[2]
    fence = lock(victim, name)
    victim.kill()
    living = [server for server in five.servers if server is not victim]
    later = lock(living[0], name)
    assert later > fence
    unlock(living[0], name, later)
    code, said = check(living[1], name, victim)
    assert code == 0 and "2 entries, never two inside" in said, said
    victim.start()
    five.wait_ready()
    ready_everywhere([victim], name)
    again = lock(victim, name)
    assert again > later
    unlock(victim, name, again)
    code, said = check(victim, name)
    assert code == 0 and "3 entries" in said, said
    assert run(five[0], "delete", name).returncode == 0


@pytest.mark.parametrize("protocol", ["multi-paxos", "coin-age"])
def test_group_m05_three_nodes_with_one_killed_keep_one_log(trio, protocol):
    name = f"log-{protocol}"
    made(trio.servers, name, protocol)
    # Peer 1 leads first, where one leads.
    [victim] = [server for server in trio.servers if group(server, name)["me"] == 1]
    living = [server for server in trio.servers if server is not victim]
    append(victim, name, 21)
    victim.kill()
    append(living[0], name, 22)
    code, said = check(living[1], name, victim)
    assert code == 0 and "one value each" in said, said
    victim.start()
    for server in trio.servers:
        eventually(lambda server=server: sorted(values(server, name).values()) == [21, 22], 60)
    assert len({json.dumps(values(server, name), sort_keys=True) for server in trio.servers}) == 1
    code, said = check(trio[0], name)
    assert code == 0, said
    trio.wait_ready()


@pytest.mark.parametrize("protocol", ["majority", "pbft", "delegates"])
def test_group_five_nodes_with_one_killed_agree(five, protocol):
    name = f"five-{protocol}"
    made(five.servers, name, protocol)
    if protocol != "majority":
        for value in (1, 2):
            append(five[value], name, value)
    victim = five[4]
    victim.kill()
    living = five.servers[:4]
    if protocol == "majority":
        fences, doubled = contend(living, name, 2)
        assert not doubled and fences == sorted(set(fences))
        expected = "8 entries, never two inside"
    else:
        append(five[0], name, 3)
        for server in living:
            eventually(lambda server=server: sorted(values(server, name).values()) == [1, 2, 3], 60)
        assert len({json.dumps(values(server, name), sort_keys=True) for server in living}) == 1
        expected = "3 places, one value each"
    code, said = check(living[1], name, victim)
    assert code == 0 and expected in said, said
    victim.start()
    five.wait_ready()


def test_console_lab_runs_and_compares_within_bounds(trio):
    first = trio[0]
    code, page = first.http("/lab")
    assert code == 200 and "ricart-agrawala" in page and "/lab/compare" in page
    code, page = first.http("/lab/run?algorithm=bully&nodes=3&faults=crash&seed=7", timeout=60)
    assert code == 200 and "3 nodes, seed 7" in page and "<script" in page
    query = "a0=bully&a1=&a2=zab&nodes=3&faults=none&seeds=2"
    code, page = first.http(f"/lab/compare?{query}", timeout=60)
    assert code == 200 and "althing lab compare bully zab --nodes 3" in page
    for bad, words in [
        ("run?algorithm=bully&nodes=10&faults=none&seed=1", "2 to 9"),
        ("run?algorithm=boss&nodes=3&faults=none&seed=1", "chang-roberts"),
        ("run?algorithm=bully&nodes=3&faults=/etc/passwd&seed=1", "no fault"),
        ("compare?a0=bully&a1=zab&nodes=3&faults=none&seeds=1000", "1 to 50"),
        ("compare?a0=bully&nodes=3&faults=none&seeds=1", "two algorithms"),
    ]:
        code, body = first.http(f"/lab/{bad}", timeout=60)
        assert code == 400 and words in body, body
