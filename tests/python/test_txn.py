"""One transaction over the cache, topics and the tree: POST /v1/txn and `althing txn`, seen by each one's own clients."""

import base64
import http.client
import itertools
import json
import random
import subprocess
import threading
import time

import pytest
from kazoo.client import KazooClient

from kafka_nodes import KafkaNodes
from raw import eventually
from redis_nodes import Background, RedisNodes
from servers import BIN, TARGET, Cluster, ask_http

pytestmark = [
    pytest.mark.althing_only,
    pytest.mark.skipif(TARGET != "althing", reason="nobody else has this"),
]

_number = itertools.count(1)
ACCOUNTS = ["alice", "bob", "carol", "dave", "erin", "frank"]
FUNDS = 1_000


class Bank:
    """Three nodes, keys in four shards, and clients of every protocol."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.redis = RedisNodes(cluster)
        self.kafka = KafkaNodes(cluster)

    def send(self, i, body, timeout=40):
        """(status, answer) of a node."""
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        code, _, answer = ask_http(self.cluster[i].console_address, "POST", "/v1/txn", text, headers, timeout)
        return code, json.loads(answer)

    def commit(self, i, *operations, conditions=(), id=None):
        body = {"conditions": list(conditions), "operations": list(operations)}
        if id is not None:
            body["id"] = id
        status, answer = self.send(i, body)
        assert status == 200, answer
        return answer["results"]

    def zookeeper(self):
        client = KazooClient(self.cluster.hosts, timeout=10)
        client.start(timeout=30)
        return client

    def under_way(self):
        """What transactions hold on all nodes that run."""
        found = 0
        for server in self.cluster.servers:
            if server.running:
                for core in server.status():
                    for shard in core["transactions"]:
                        found += shard["records"] + shard["promises"] + shard["locks"] + shard["parked"]
        return found


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    options = {"redis": True, "kafka": True, "pools.main_shards": 4}
    cluster = Cluster(3, tmp_path_factory.mktemp("bank"), **options)
    try:
        cluster.start()
        bank = Bank(cluster)
        bank.redis.wait_ready()
        bank.kafka.wait_ready()
        yield bank
    finally:
        cluster.end()


def records(bank, topic):
    """All values of a topic's first partition."""
    consumer = bank.kafka.consumer()
    consumer.subscribe([topic])
    found = []
    try:
        quiet = time.monotonic() + 15
        while time.monotonic() < quiet:
            message = consumer.poll(0.5)
            if message is None:
                if found:
                    return found
                continue
            assert message.error() is None
            found.append(message.value().decode())
            quiet = time.monotonic() + 3
    finally:
        consumer.close()
    return found


def test_every_protocol_sees_the_whole_of_it_and_who_waits_is_woken(bank):
    topic = bank.kafka.topic(placement_tag="tree")
    zookeeper = bank.zookeeper()
    fired = threading.Event()
    zookeeper.create("/orders")
    zookeeper.get_children("/orders", watch=lambda _: fired.set())
    redis = bank.redis.client(2)
    waiting = Background(redis.blpop, ["{tree}queue"], 20)
    eventually(lambda: bank.redis.client(2).client_list() and sum(
        c["cache"]["blocked"] for c in bank.cluster[2].status() if c["cache"]) == 1)
    results = bank.commit(
        0,
        {"cache": ["SET", "{tree}stock", 41, "EX", 1000]},
        {"cache": ["RPUSH", "{tree}queue", "job"]},
        {"append": {"topic": topic, "key": "k", "value": "sold", "headers": {"by": "me"}}},
        {"create": {"path": "/orders/n-", "data": {"base64": base64.b64encode(b"\xff\x00").decode()}, "sequential": True}},
        conditions=[
            {"key": "{tree}stock", "exists": False},
            {"topic": topic, "end": 0},
            {"path": "/orders", "version": 0},
            {"path": "/closed", "exists": False},
        ],
    )
    assert results[0]["reply"] == "OK" and results[1]["reply"] == 1
    assert results[2] == {"offset": 0} and results[3] == {"path": "/orders/n-0000000000"}
    assert waiting.result() in (("{tree}queue", "job"), ["{tree}queue", "job"])
    assert fired.wait(10)
    assert redis.get("{tree}stock") == "41" and 0 < redis.ttl("{tree}stock") <= 1000
    assert zookeeper.get("/orders/n-0000000000")[0] == b"\xff\x00"
    assert records(bank, topic) == ["sold"]
    # Refused: nothing of it is there.
    status, answer = bank.send(
        1,
        {
            "conditions": [{"key": "{tree}stock", "equals": "41"}],
            "operations": [
                {"cache": ["SET", "{tree}stock", "0"]},
                {"append": {"topic": topic, "value": "never"}},
                {"delete": {"path": "/orders"}},
            ],
        },
    )
    assert status == 409 and answer["operation"] == 2 and "children" in answer["why"], answer
    assert redis.get("{tree}stock") == "41"
    assert records(bank, topic) == ["sold"]
    zookeeper.stop()


def test_same_id_is_done_once_and_told_again_by_every_node(bank):
    key = f"once-{next(_number)}"
    body = {"id": f"id-{key}", "operations": [{"cache": ["INCR", key]}, {"create": {"path": f"/{key}"}}]}
    answers = [bank.send(i % 3, body) for i in range(6)]
    assert all(answer == answers[0] for answer in answers) and answers[0][0] == 200
    assert bank.redis.client().get(key) == "1"
    status, answer = bank.send(0, {**body, "operations": [{"cache": ["DEL", key]}, {"delete": {"path": f"/{key}"}}]})
    assert status == 409 and "another transaction" in answer["why"]


def test_bad_requests_say_what_is_wrong(bank):
    cases = [
        ("{", 400, "not readable"),
        ({"operation": []}, 400, "operation"),
        ({}, 400, "from 1 to"),
        ({"operations": [{"cache": ["FLUSHALL"]}]}, 400, "cannot be part"),
        ({"operations": [{"cache": ["BLPOP", "a", "0"]}]}, 400, "waits"),
        ({"operations": [{"append": {"topic": "missing", "value": "x"}}]}, 400, "there is no topic missing"),
        ({"conditions": [{"path": "relative"}]}, 409, "not possible"),
        ({"id": "", "operations": [{"cache": ["GET", "a"]}]}, 400, "visible ASCII"),
    ]
    for body, code, words in cases:
        status, answer = bank.send(0, body)
        text = answer.get("error") or answer.get("why")
        assert status == code and words in text, (body, status, answer)


def althing_txn(bank, text, *flags):
    command = [BIN, "txn", "-", "--console", bank.cluster[0].console_address, *flags]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_command_line_prints_results_and_its_exit_code_tells(bank):
    key = f"cli-{next(_number)}"
    done = althing_txn(bank, json.dumps({"operations": [{"cache": ["INCRBY", key, "5"]}]}))
    assert done.returncode == 0 and "committed" in done.stdout and '"reply":5' in done.stdout, done
    refused = althing_txn(bank, json.dumps({"conditions": [{"key": key, "exists": False}], "operations": []}))
    assert refused.returncode == 1 and "condition 0: the key exists" in refused.stderr, refused
    wrong = althing_txn(bank, "nonsense")
    assert wrong.returncode == 2 and "not readable" in wrong.stderr


def test_money_moves_while_leaders_are_killed_and_the_sum_never_changes(bank):
    topic = bank.kafka.topic(prefix="moves")
    zookeeper = bank.zookeeper()
    zookeeper.create("/moves")
    bank.commit(0, *[{"cache": ["SET", account, str(FUNDS)]} for account in ACCOUNTS])
    total = FUNDS * len(ACCOUNTS)
    over = threading.Event()
    outcomes, errors, sums = {}, [], []

    def transfer(worker):
        rng = random.Random(worker)
        for n in itertools.count():
            if over.is_set():
                return
            one, other = rng.sample(ACCOUNTS, 2)
            amount = rng.randint(1, 50)
            body = {
                "id": f"move-{worker}-{n}",
                "operations": [
                    {"cache": ["DECRBY", one, str(amount)]},
                    {"cache": ["INCRBY", other, str(amount)]},
                    {"append": {"topic": topic, "value": f"{worker}-{n}"}},
                    {"create": {"path": f"/moves/{worker}-{n}"}},
                ],
            }
            if rng.random() < 0.2:
                body["conditions"] = [{"key": one, "equals": str(FUNDS)}]
            while True:
                try:
                    status, answer = bank.send(rng.randrange(3), body)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.1)
                    continue
                if status in (200, 409):
                    outcomes[body["id"]] = body, (status, answer)
                    break
                if status not in (503, 504):
                    errors.append((status, answer))
                    return
                time.sleep(0.1)

    def look():
        while not over.is_set():
            reads = [{"cache": ["GET", account]} for account in ACCOUNTS]
            try:
                status, answer = bank.send(random.randrange(3), {"operations": reads})
            except (OSError, http.client.HTTPException):
                continue
            if status == 200:
                sums.append(sum(int(result["reply"]) for result in answer["results"]))
            time.sleep(0.02)

    workers = [Background(transfer, worker) for worker in range(4)] + [Background(look)]
    kills, begun = 0, time.monotonic()
    try:
        while kills < 4 or len(sums) <= 10 or time.monotonic() < begun + 20:
            assert time.monotonic() < begun + 60, (kills, len(sums))
            time.sleep(2)
            victim = bank.cluster.leader() if kills % 2 == 0 else random.randrange(3)
            bank.cluster.kill(victim)
            time.sleep(1)
            bank.cluster[victim].start()
            bank.cluster.wait_ready([victim])
            kills += 1
    finally:
        over.set()
    for worker in workers:
        worker.result(90)
    assert not errors, errors[0]
    assert set(sums) == {total}
    eventually(lambda: bank.under_way() == 0, 30)
    committed = {id.removeprefix("move-") for id, (_, (status, _)) in outcomes.items() if status == 200}
    assert len(committed) > 30
    bank.redis.wait_ready()
    redis = bank.redis.client(1)
    assert sum(int(redis.get(account)) for account in ACCOUNTS) == total
    zookeeper.sync("/moves")
    assert set(zookeeper.get_children("/moves")) == committed
    told = records(bank, topic)
    assert sorted(told) == sorted(committed)
    # Asked again, each says what it said.
    for body, first in random.sample(list(outcomes.values()), 10):
        assert bank.send(0, body) == first
    assert sum(int(redis.get(account)) for account in ACCOUNTS) == total
    zookeeper.stop()
    print(f"{len(committed)} committed, {len(outcomes) - len(committed)} refused, {kills} kills, {len(sums)} sums")
