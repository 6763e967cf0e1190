"""Who is reachable, by what members say of each other; joining by any seed; observers."""

import json
import re
import subprocess

import pytest

from raw import Raw, eventually
from servers import BIN, Althing, Cluster

pytestmark = pytest.mark.althing_only


def members(server):
    """What a node shows of each member, by address."""
    code, body = server.http("/v1/members")
    assert code == 200, body
    return {member["address"]: member for member in json.loads(body)}


def verdicts(server, *of):
    seen = members(server)
    return [seen[other.peer_address]["verdict"] for other in of]


@pytest.fixture
def trio(tmp_path):
    cluster = Cluster(3, tmp_path, zone="room-1", redis=True)
    try:
        yield cluster.start()
    finally:
        cluster.end()


def test_members_m37_stopped_node_is_suspected_by_its_monitors_and_trusted_again(trio):
    first, second, third = trio.servers
    eventually(lambda: verdicts(first, first, second, third) == ["reachable"] * 3, 60)
    eventually(lambda: len(members(first)[third.peer_address]["facts"]) > 0, 60)
    facts = members(first)[third.peer_address]["facts"]
    assert facts["zone"] == "room-1" and facts["role"] == "member"
    assert facts["redis"] == third.redis_address and facts["zookeeper"] == third.address
    watchers = {m["node"] for m in members(first)[third.peer_address]["monitors"]}
    assert watchers == {members(first)[s.peer_address]["node"] for s in (first, second)}
    trio.stop(2)
    try:
        for server in (first, second):
            eventually(lambda server=server: verdicts(server, third) == ["unreachable"], 60)
            eventually(lambda s=server: all(m["phi"] >= 8 for m in members(s)[third.peer_address]["monitors"]), 60)
        code, text = first.http("/metrics")
        assert code == 200 and re.search(r"althing_member_unreachable\{[^}]*%s[^}]*\} 1\b" % third.peer_address, text)
        assert "unreachable" in first.http("/members")[1]
        shown = subprocess.run(
            [BIN, "cluster", "members", "--console", first.console_address],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout
        assert "unreachable" in shown and "room-1" in shown
        assert len(members(first)) == 3, "it is a member all the same"
    finally:
        trio.cont(2)
    for server in trio.servers:
        eventually(lambda server=server: verdicts(server, first, second, third) == ["reachable"] * 3, 60)


def test_members_m10_fourth_joins_by_any_seed_while_the_first_is_dead(trio, tmp_path):
    with Raw(trio[1].address).connect() as raw:
        raw.create("/before")
        raw.close()
    trio.kill(0)
    trio.wait_ready([1, 2])
    fourth = Althing(4, tmp_path / "a4", {"join": [s.peer_address for s in trio.servers], "zone": "room-2"})
    fourth.configure([])
    config = fourth.directory / "althing.toml"
    config.write_text(config.read_text().replace("initial_members = []\n", ""))
    try:
        fourth.start()
        eventually(lambda: fourth.http("/readyz")[0] == 200, 60)
        with Raw(fourth.address).connect() as raw:
            raw.sync("/before")
            assert raw.exists("/before")
            raw.close()
        eventually(lambda: verdicts(trio[1], fourth, trio[0]) == ["reachable", "unreachable"], 60)
        eventually(lambda: members(trio[2])[fourth.peer_address]["facts"].get("zone") == "room-2", 60)
    finally:
        fourth.kill()


def test_members_observer_serves_reads_and_never_votes(trio, tmp_path):
    observer = Althing(4, tmp_path / "a4", {"join": [trio[2].peer_address], "observer": True, "redis": True})
    observer.configure([])
    config = observer.directory / "althing.toml"
    config.write_text(config.read_text().replace("initial_members = []\n", ""))

    def roles():
        return {shard["name"]: shard["role"] for core in observer.status() for shard in core["shards"]}

    try:
        observer.start()
        eventually(lambda: observer.http("/readyz")[0] == 200, 60)
        with Raw(trio[0].address).connect() as raw:
            raw.create("/seen", b"by all")
            raw.close()
        with Raw(observer.address).connect() as raw:
            raw.sync("/seen")
            assert raw.get("/seen")[0] == b"by all"
            raw.close()
        assert members(trio[0])[observer.peer_address]["state"] == "observer"
        # Started again, with the others asleep, it finds its leader without a vote.
        observer.kill()
        observer.start()
        eventually(lambda: observer.http("/readyz")[0] == 200, 60)
        assert set(roles().values()) == {"learner"} and {"meta", "tree"} <= roles().keys()
        # Three vote, not four: with two of them gone nobody leads.
        trio.kill(0)
        trio.kill(1)
        eventually(lambda: trio[2].status()[0]["phase"] == "electing", 60)
        assert set(roles().values()) == {"learner"}
    finally:
        observer.kill()
