"""Every recipe of kazoo, against one node and against three with the clients on different nodes."""

import threading
import time

import pytest
from kazoo.client import KazooState
from kazoo.exceptions import BadVersionError, LockTimeout, NodeExistsError, NoNodeError, RolledBackError
from kazoo.protocol.states import EventType
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease

from raw import eventually


def run(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def joined(threads, timeout=30):
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive(), "a client still waits"


def test_lock_three_contenders_one_at_a_time(clients, root):
    inside, most, entries = [0], [0], []
    guard = threading.Lock()

    def work(client, name):
        for _ in range(5):
            with client.Lock(root, name):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    entries.append(name)
                time.sleep(0.005)
                with guard:
                    inside[0] -= 1

    joined([run(work, clients(), f"c{i}") for i in range(3)])
    assert most[0] == 1
    assert sorted(entries) == sorted(["c0", "c1", "c2"] * 5)


def test_lock_held_elsewhere_times_out_and_names_contenders(clients, root):
    a, b = clients(), clients()
    held = a.Lock(root, "holder")
    assert held.acquire()
    with pytest.raises(LockTimeout):
        b.Lock(root, "late").acquire(timeout=0.5)
    assert not b.Lock(root, "late").acquire(blocking=False)
    b.sync(root)
    assert b.Lock(root).contenders() == ["holder"]
    held.release()
    assert b.Lock(root, "late").acquire(timeout=10)


def test_lock_holder_gone_next_one_enters(clients, root):
    a, b = clients(), clients()
    assert a.Lock(root, "a").acquire()
    entered = threading.Event()
    waiting = b.Lock(root, "b")
    thread = run(lambda: waiting.acquire(timeout=20) and entered.set())
    eventually(lambda: b.sync(root) and len(b.get_children(root)) == 2)
    assert not entered.is_set()
    a.stop()  # closes the session: its ephemeral node goes
    joined([thread])
    assert entered.is_set()


def test_read_locks_share_and_keep_writers_out(clients, root):
    a, b, c = clients(), clients(), clients()
    first, second = a.ReadLock(root, "r1"), b.ReadLock(root, "r2")
    assert first.acquire(timeout=10) and second.acquire(timeout=10)
    writer = c.WriteLock(root, "w")
    with pytest.raises(LockTimeout):
        writer.acquire(timeout=0.5)
    first.release()
    second.release()
    assert writer.acquire(timeout=10)
    with pytest.raises(LockTimeout):
        a.ReadLock(root, "r3").acquire(timeout=0.5)
    writer.release()
    assert a.ReadLock(root, "r3").acquire(timeout=10)


def test_m07_lock_released_notifies_one_waiter(clients, root):
    """Golden of M7: exclusive waiters watch one predecessor each, so one release wakes one."""
    holder = clients()
    holder.ensure_path(root)
    names = [
        client.create(f"{root}/lock-", ephemeral=True, sequence=True)
        for client in (holder, clients(), clients(), clients())
    ]
    woken = []
    observer = clients()
    observer.sync(root)
    for before in names[:-1]:
        assert observer.exists(before, watch=lambda event: woken.append(event.path)) is not None
    holder.delete(names[0])
    eventually(lambda: woken)
    time.sleep(0.3)
    assert woken == [names[0]]


def test_semaphore_two_leases_third_waits(clients, root):
    a, b, c = clients(), clients(), clients()
    sa, sb, sc = (x.Semaphore(root, n, max_leases=2) for x, n in ((a, "a"), (b, "b"), (c, "c")))
    assert sa.acquire() and sb.acquire()
    assert not sc.acquire(blocking=False)
    eventually(lambda: c.sync(root) and sorted(sc.lease_holders()) == ["a", "b"])
    got = []
    thread = run(lambda: got.append(sc.acquire(timeout=20)))
    time.sleep(0.2)
    assert not got
    sa.release()
    joined([thread])
    assert got == [True]


def test_election_leader_gone_next_one_leads(clients, root):
    led, leave = [], {name: threading.Event() for name in "abc"}

    def candidate(client, name):
        def lead():
            led.append(name)
            leave[name].wait(20)

        client.Election(root, name).run(lead)

    threads = [run(candidate, clients(), name) for name in "abc"]
    for n in range(1, 4):
        eventually(lambda n=n: len(led) == n)
        time.sleep(0.1)
        assert len(led) == n, "two lead at once"
        leave[led[-1]].set()
    joined(threads)
    assert sorted(led) == ["a", "b", "c"]


def test_barrier_removed_waiters_go_on(clients, root):
    a, b = clients(), clients()
    barrier = a.Barrier(root)
    barrier.create()
    b.sync(root)
    assert b.Barrier(root).wait(0.3) is False
    got = []
    thread = run(lambda: got.append(b.Barrier(root).wait(20)))
    time.sleep(0.2)
    assert barrier.remove()
    joined([thread])
    assert got == [True]


def test_double_barrier_three_enter_and_leave_together(clients, root):
    guard, entered, left = threading.Lock(), [], []

    def work(client, name):
        barrier = client.DoubleBarrier(root, 3, name)
        barrier.enter()
        with guard:
            entered.append(name)
        eventually(lambda: len(entered) == 3)
        barrier.leave()
        with guard:
            left.append(name)

    threads = [run(work, clients(), "a"), run(work, clients(), "b")]
    time.sleep(0.5)
    assert entered == []
    threads.append(run(work, clients(), "c"))
    joined(threads)
    assert sorted(left) == ["a", "b", "c"]


def test_queue_each_item_goes_to_one_consumer_in_order(clients, root):
    a, b = clients(), clients()
    queue = a.Queue(root)
    for i in range(20):
        queue.put(b"%d" % i, priority=100 if i < 19 else 1)
    b.sync(root)
    other = b.Queue(root)
    assert len(other) == 20
    assert other.get() == b"19"  # lower priority numbers first
    got, guard = [], threading.Lock()

    def consume(q):
        while (item := q.get()) is not None:
            with guard:
                got.append(int(item))

    joined([run(consume, queue), run(consume, other)])
    assert sorted(got) == list(range(19))


def test_locking_queue_item_of_a_dead_consumer_comes_back(clients, root):
    a, b, c = clients(), clients(), clients()
    a.LockingQueue(root).put_all([b"one", b"two"])
    first = b.LockingQueue(root)
    assert first.get(10) == b"one"
    b.stop()  # without consume()
    last = c.LockingQueue(root)
    got = []
    while len(got) < 2:
        got.append(last.get(10))
        assert last.consume()
    assert sorted(got) == [b"one", b"two"]


def test_counter_concurrent_additions_none_lost(clients, root):
    def work(client):
        counter = client.Counter(root)
        for _ in range(20):
            counter += 1

    joined([run(work, clients()) for _ in range(3)])
    last = clients()
    last.sync(root)
    assert last.Counter(root).value == 60


def test_party_members_come_and_go(clients, root):
    a, b, c = clients(), clients(), clients()
    a.Party(root, "a").join()
    party = b.Party(root, "b")
    party.join()
    shallow = c.ShallowParty(root, "c")
    eventually(lambda: c.sync(root) and len(shallow) == 2)
    assert sorted(c.Party(root)) == ["a", "b"]
    party.leave()
    eventually(lambda: c.sync(root) and list(c.Party(root)) == ["a"])
    a.stop()
    eventually(lambda: c.sync(root) and len(shallow) == 0)


def test_lease_taken_is_refused_to_others_until_it_ends(clients, root):
    import datetime

    a, b = clients(), clients()
    assert NonBlockingLease(a, root, datetime.timedelta(seconds=3), identifier="a")
    b.sync(root)
    assert not NonBlockingLease(b, root, datetime.timedelta(seconds=3), identifier="b")
    eventually(lambda: bool(NonBlockingLease(b, root, datetime.timedelta(seconds=3), identifier="b")), 15, 0.5)


def test_multi_lease_grants_as_many_as_configured(clients, root):
    import datetime

    a, b, c = clients(), clients(), clients()
    for client, name, want in ((a, "a", True), (b, "b", True), (c, "c", False)):
        client.ensure_path(root)
        client.sync(root)
        got = MultiNonBlockingLease(client, 2, root, datetime.timedelta(seconds=60), identifier=name)
        assert bool(got) is want


def test_tree_cache_follows_changes_of_another_client(clients, root):
    a, b = clients(), clients()
    a.create(f"{root}/x/y", b"1", makepath=True)
    b.sync(root)
    cache = TreeCache(b, root)
    seen, ready = [], threading.Event()

    def listen(event):
        if event.event_type == TreeEvent.INITIALIZED:
            ready.set()
        elif event.event_data is not None:
            seen.append((event.event_type, event.event_data.path))

    cache.listen(listen)
    cache.start()
    assert ready.wait(20)
    assert cache.get_data(f"{root}/x/y").data == b"1"
    a.set(f"{root}/x/y", b"2")
    eventually(lambda: cache.get_data(f"{root}/x/y").data == b"2")
    a.create(f"{root}/x/z", b"3")
    eventually(lambda: cache.get_children(f"{root}/x") == {"y", "z"})
    a.delete(f"{root}/x", recursive=True)
    eventually(lambda: cache.get_data(f"{root}/x") is None)
    assert (TreeEvent.NODE_REMOVED, f"{root}/x/y") in seen
    cache.close()


def test_data_watch_sees_creation_changes_and_removal(clients, root):
    a, b = clients(), clients()
    seen = []

    @b.DataWatch(root)
    def changed(data, stat, event):
        seen.append((data, event.type if event else None))

    assert seen == [(None, None)]
    a.create(root, b"0")
    eventually(lambda: seen[-1] == (b"0", EventType.CREATED))
    for i in (b"1", b"2", b"3"):
        a.set(root, i)
        eventually(lambda i=i: seen[-1] == (i, EventType.CHANGED))
    a.delete(root)
    eventually(lambda: seen[-1] == (None, EventType.DELETED))


def test_children_watch_ends_at_the_last_state(clients, root):
    a, b = clients(), clients()
    a.ensure_path(root)
    b.sync(root)
    seen = []

    @b.ChildrenWatch(root)
    def changed(children):
        seen.append(sorted(children))

    for i in range(20):
        a.create(f"{root}/c{i:02}")
    for i in range(0, 20, 2):
        a.delete(f"{root}/c{i:02}")
    eventually(lambda: seen[-1] == [f"c{i:02}" for i in range(1, 20, 2)])


def test_transaction_takes_effect_whole_or_not_at_all(clients, root):
    a, b = clients(), clients()
    a.create(root, b"0")
    good = a.transaction()
    good.check(root, 0)
    good.create(f"{root}/made", b"x")
    good.set_data(root, b"1")
    good.create(f"{root}/made/below", b"y")  # sees the transaction's own writes
    good.delete(f"{root}/made/below")
    results = good.commit()
    assert results[0] is True and results[1] == f"{root}/made" and results[2].version == 1
    bad = a.transaction()
    bad.set_data(root, b"2")
    bad.delete(f"{root}/absent")
    bad.create(f"{root}/never")
    results = bad.commit()
    assert isinstance(results[0], RolledBackError)
    assert isinstance(results[1], NoNodeError)
    b.sync(root)
    assert b.get(root)[0] == b"1"
    assert b.get_children(root) == ["made"]


def test_conditional_updates_of_two_clients_one_wins(clients, root):
    a, b = clients(), clients()
    a.create(root, b"0")
    b.sync(root)
    a.set(root, b"a", version=0)
    with pytest.raises(BadVersionError):
        b.set(root, b"b", version=0)
    with pytest.raises(NodeExistsError):
        b.create(root)
    assert a.get(root)[1].version == 1


def test_session_closed_client_state_is_lost_and_ephemerals_go(clients, root):
    a, b = clients(), clients()
    states = []
    a.add_listener(states.append)
    a.create(root, ephemeral=True)
    b.sync(root)
    assert b.exists(root).ephemeralOwner == a.client_id[0]
    a.stop()
    eventually(lambda: b.sync(root) and b.exists(root) is None)
    assert states[-1] == KazooState.LOST
