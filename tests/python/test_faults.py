"""Real processes under real faults: kill -9, SIGSTOP, a wiped directory, flipped bits, other numbers of cores.

FAULT_SECONDS (default 60) is how long the first test goes on; FAULT_SEED repeats its choices.
"""

import os
import random
import time

import pytest

import raw as z
from raw import Raw, eventually
from servers import Cluster, segment_files
from writers import Writers, contents_of

SECONDS = float(os.environ.get("FAULT_SECONDS", "60"))
SEED = int(os.environ.get("FAULT_SEED", "1"))


@pytest.mark.timeout(SECONDS * 3 + 240)
def test_kills_and_stops_over_and_over_nothing_acknowledged_is_lost(fresh_three):
    cluster, rng = fresh_three, random.Random(SEED)
    writers = Writers(cluster)
    end, faults = time.monotonic() + SECONDS, []
    while time.monotonic() < end:
        leader = cluster.leader()
        whom = leader if rng.random() < 0.6 else rng.choice([i for i in range(3) if i != leader])
        what = rng.choice(["kill", "kill", "stop"])
        faults.append((what, "leader" if whom == leader else "follower"))
        if what == "kill":
            cluster.kill(whom)
            time.sleep(rng.uniform(0, 1.5))
            if rng.random() < 0.5:
                writers.go_on()  # a majority is enough
            cluster[whom].start()
        else:
            cluster.stop(whom)
            time.sleep(rng.uniform(0.2, 4))
            cluster.cont(whom)
        cluster.wait_ready([whom])
        writers.go_on()
    cluster.wait_ready()
    gap = max(writer.longest_gap for writer in writers.all)
    moves = sum(writer.moves for writer in writers.all)
    count = writers.check()
    print(f"{len(faults)} faults, {count} writes, {moves} moves of sessions, longest wait for an answer {gap:.2f} s")
    assert len(faults) >= SECONDS / 15, f"only {len(faults)} faults in {SECONDS} s"


def test_all_killed_at_once_nothing_acknowledged_is_lost(fresh_three):
    cluster = fresh_three
    writers = Writers(cluster)
    for _ in range(3):
        time.sleep(1)
        for i in range(3):
            cluster.kill(i)
        for i in range(3):
            cluster[i].start()
        cluster.wait_ready()
        writers.go_on(60)
    writers.check()


def test_majority_gone_no_write_is_acknowledged(fresh_three):
    cluster = fresh_three
    writers = Writers(cluster)
    writers.go_on()
    leader = cluster.leader()
    for i in range(3):
        if i != leader:
            cluster.stop(i)
    time.sleep(2)
    before = writers.acknowledged()
    time.sleep(2)
    assert writers.acknowledged() == before
    for i in range(3):
        if i != leader:
            cluster.cont(i)
    cluster.wait_ready()
    writers.go_on()
    writers.check()


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_directory_wiped_node_comes_back_and_nothing_is_lost(fresh_three, role):
    cluster = fresh_three
    writers = Writers(cluster)
    writers.go_on()
    whom = cluster.leader() if role == "leader" else cluster.follower()
    althing = hasattr(cluster[whom], "shard")
    before = cluster[whom].shard("tree") if althing else None
    cluster.kill(whom)
    cluster.wipe(whom)
    writers.go_on()
    cluster[whom].start()
    cluster.wait_ready([whom], 90)
    writers.go_on()
    if althing:
        voter_again(cluster[whom], before)
        two_voters_are_enough(cluster, whom, writers)
    writers.check()


def voter_again(server, before):
    """The old copy is gone for good; a new one has been promoted."""

    def promoted():
        now = server.shard("tree")
        return now is not None and now["replica"] != before["replica"] and now["role"] in ("leader", "follower") and now

    now = eventually(promoted, 60)
    voters = [r for r in now["replicas"] if r[1] == "voter"]
    assert len(voters) == 3, f"voters are {voters}"



def two_voters_are_enough(cluster, back, writers):
    """The node that came back counts: it and one other are a majority."""
    other = cluster.follower(but=(back,)) if cluster.leader() == back else cluster.leader()
    third = next(i for i in range(3) if i not in (back, other))
    cluster.stop(third)
    time.sleep(0.5)
    writers.go_on()
    cluster.cont(third)
    cluster.wait_ready()


@pytest.mark.althing_only
@pytest.mark.parametrize("role", ["follower", "leader"])
def test_bits_flipped_in_a_segment_copy_is_replaced(fresh_three, role):
    cluster = fresh_three
    writers = Writers(cluster, pause=0.002)
    while writers.acknowledged() < 2_000:
        writers.go_on()
    whom = cluster.leader() if role == "leader" else cluster.follower()
    before = cluster[whom].shard("tree")
    cluster.kill(whom)
    files = segment_files(cluster[whom])
    assert files, f"no segment files under {cluster[whom].data}"
    flip(max(files, key=os.path.getsize))
    cluster[whom].start()
    cluster.wait_ready([whom], 90)
    voter_again(cluster[whom], before)
    writers.go_on()
    two_voters_are_enough(cluster, whom, writers)
    writers.check()


def flip(path):
    """One bit in each of many places in the first half of what was written: before the last seal."""
    with open(path, "r+b") as file:
        content = file.read()
        written = len(content.rstrip(b"\0"))
        assert written > 4096, f"{path} holds {written} bytes only"
        for at in range(written // 8, written // 2, max(written // 64, 1)):
            file.seek(at)
            file.write(bytes([content[at] ^ 0x10]))


@pytest.mark.althing_only
def test_torn_tail_is_cut_and_the_node_goes_on(fresh_three):
    """Rubbish after the last seal is what a crash leaves; the copy stays the same copy."""
    cluster = fresh_three
    writers = Writers(cluster)
    writers.go_on()
    whom = cluster.follower()
    before = cluster[whom].shard("tree")
    cluster.kill(whom)
    newest = segment_files(cluster[whom])[-1]
    with open(newest, "r+b") as file:
        content = file.read()
        file.seek(len(content.rstrip(b"\0")))
        file.write(os.urandom(700))
    cluster[whom].start()
    cluster.wait_ready([whom])
    writers.go_on()
    assert cluster[whom].shard("tree")["replica"] == before["replica"]
    writers.check()


@pytest.mark.althing_only
@pytest.mark.parametrize("count", [1, 3], ids=["one-node", "three-nodes"])
def test_restart_with_other_numbers_of_cores_keeps_everything(tmp_path_factory, count):
    cluster = Cluster(count, tmp_path_factory.mktemp("cores"), cores=1, lanes=2)
    try:
        cluster.start()
        with Raw(cluster[0].address).connect() as raw:
            raw.create("/kept")
            raw.close()
        for cores in (2, 1, 2):
            for server in cluster.servers:
                server.terminate()
                server.options["cores"] = cores
                server.write_config()
                server.start()
                cluster.wait_ready()
            assert [core["cores"] for core in cluster[0].status()] == [cores] * cores
            with Raw(cluster[cores % count].address).connect() as raw:
                raw.create(f"/kept/with-{cores}-", mode=z.SEQUENTIAL)
                raw.close()
        for server in cluster.servers:
            names = [path[len("/kept/with-") :] for path in sorted(contents_of(server, "/kept"))]
            assert names == ["1-0000000001", "2-0000000000", "2-0000000002"]
    finally:
        cluster.end()


@pytest.mark.althing_only
def test_lanes_of_a_directory_are_fixed(tmp_path_factory):
    cluster = Cluster(1, tmp_path_factory.mktemp("lanes"), cores=1, lanes=2)
    try:
        cluster.start()
        cluster[0].terminate()
        cluster[0].options["lanes"] = 3
        cluster[0].write_config()
        cluster[0].start()
        assert cluster[0].process.wait(20) != 0
        assert "lanes" in cluster[0].log_tail()
    finally:
        cluster.end()


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_restart_of_one_node_keeps_data_and_sessions(tmp_path_factory, how):
    cluster = Cluster(1, tmp_path_factory.mktemp("restart"))
    try:
        cluster.start()
        a = Raw(cluster[0].address).connect(timeout_ms=20_000)
        a.create("/kept", b"x")
        a.create("/mine", mode=z.EPHEMERAL)
        before = a.exists("/kept")
        a.drop()
        if how == "kill":
            cluster.kill(0)
        else:
            cluster[0].terminate()
        cluster[0].start()
        cluster.wait_ready()
        again = Raw(cluster[0].address).connect(20_000, a.session, a.password, a.last_zxid)
        assert again.session == a.session
        assert again.get("/kept") == (b"x", before)
        assert again.exists("/mine").ephemeral_owner == a.session
        assert again.close() == z.OK
    finally:
        cluster.end()
