"""What librdkafka sees of topics: administration, records, groups, retention, and a cluster whose nodes are killed.

Each test runs once against one node and once against three. With KAFKA_TARGET=host:port it asks servers that run already.
"""

import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from kafka_nodes import KAFKA_TARGET, KafkaNodes, error_name, fresh, poll_some, read_all, receive, send
from raw import eventually
from servers import Cluster


def _nodes(count, tmp_path_factory, **options):
    if KAFKA_TARGET:
        yield KafkaNodes()
        return
    cluster = Cluster(count, tmp_path_factory.mktemp(f"kafka{count}"), kafka=True, **options)
    try:
        cluster.start()
        nodes = KafkaNodes(cluster)
        nodes.wait_ready()
        yield nodes
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def kafka_one(tmp_path_factory):
    yield from _nodes(1, tmp_path_factory)


@pytest.fixture(scope="module")
def kafka_three(tmp_path_factory):
    yield from _nodes(3, tmp_path_factory)


# The registry of topics at one core, the records at the other.
SPREAD = {"cores": 2, "lanes": 2}


@pytest.fixture(scope="module")
def kafka_spread(tmp_path_factory):
    yield from _nodes(3, tmp_path_factory, **SPREAD)


@pytest.fixture(params=["three-nodes", "two-cores-each"])
def fresh_kafka_three(request, tmp_path_factory):
    """Three nodes that a test may ruin."""
    if KAFKA_TARGET:
        pytest.skip("KAFKA_TARGET is not to be killed")
    yield from _nodes(3, tmp_path_factory, **(SPREAD if request.param == "two-cores-each" else {}))


@pytest.fixture(params=["kafka_one", "kafka_three", "kafka_spread"])
def nodes(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def consumers(nodes):
    """Makes consumers that are closed in the end."""
    made = []

    def make(*arguments, **options):
        made.append(nodes.consumer(*arguments, **options))
        return made[-1]

    yield make
    for consumer in made:
        try:
            consumer.close()
        except RuntimeError:
            pass  # the test has closed it


def values(count, prefix="v"):
    return [f"{prefix}{i}".encode() for i in range(count)]


# administration


def test_kafka_topic_is_made_described_and_deleted(nodes):
    name = nodes.topic(partitions=4)
    found = nodes.admin.list_topics(timeout=10)
    assert sorted(found.topics[name].partitions) == [0, 1, 2, 3]
    assert all(p.leader in found.brokers for p in found.topics[name].partitions.values())
    assert len(found.brokers) == len(nodes)
    assert len(nodes.admin.describe_cluster().result(10).nodes) == len(nodes)
    nodes.admin.delete_topics([name])[name].result(30)
    eventually(lambda: name not in nodes.admin.list_topics(timeout=10).topics)
    refused = nodes.admin.delete_topics([name])[name]
    assert error_name(lambda: refused.result(30)) == "UNKNOWN_TOPIC_OR_PART"


@pytest.mark.parametrize(
    "wanted, options, error",
    [
        (("bad/name", 1, 1), {}, "TOPIC_EXCEPTION"),
        (("zero", 0, 1), {}, "INVALID_PARTITIONS"),
        (("copies", 1, 99), {}, "INVALID_REPLICATION_FACTOR"),
        (("key", 1, 1), {"config": {"no.such.key": "1"}}, "INVALID_CONFIG"),
        (("value", 1, 1), {"config": {"retention.ms": "soon"}}, "INVALID_CONFIG"),
    ],
)
def test_kafka_topic_that_cannot_be_is_refused(nodes, wanted, options, error):
    name, partitions, copies = wanted
    made = nodes.admin.create_topics([NewTopic(name, partitions, copies, **options)])[name]
    assert error_name(lambda: made.result(30)) == error


def test_kafka_topic_that_exists_is_not_made_again_and_validating_makes_none(nodes):
    name = nodes.topic()
    again = nodes.admin.create_topics([NewTopic(name, 1, 1)])[name]
    assert error_name(lambda: again.result(30)) == "TOPIC_ALREADY_EXISTS"
    other = fresh("validated")
    nodes.admin.create_topics([NewTopic(other, 1, 1)], validate_only=True)[other].result(30)
    assert other not in nodes.admin.list_topics(timeout=10).topics


def test_kafka_topic_made_again_under_its_name_is_empty(nodes):
    name = nodes.topic()
    send(nodes.producer(), name, values(10))
    nodes.admin.delete_topics([name])[name].result(30)
    eventually(lambda: name not in nodes.admin.list_topics(timeout=10).topics)
    nodes.admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    eventually(lambda: nodes.leaders(name) == 1)
    assert read_all(nodes, name) == {0: []}
    assert send(nodes.producer(), name, [b"new"])[0].offset() == 0


def test_kafka_partitions_are_added(nodes):
    name = nodes.topic(partitions=1)
    nodes.admin.create_partitions([NewPartitions(name, 3)])[name].result(30)
    eventually(lambda: nodes.leaders(name) == 3)
    assert send(nodes.producer(), name, [b"x"], partition=2)[0].offset() == 0
    fewer = nodes.admin.create_partitions([NewPartitions(name, 2)])[name]
    assert error_name(lambda: fewer.result(30)) == "INVALID_PARTITIONS"


def test_kafka_configuration_is_shown_and_changed(nodes):
    name = nodes.topic(retention_ms=12345)
    resource = ConfigResource(ResourceType.TOPIC, name)

    def config():
        return nodes.admin.describe_configs([resource])[resource].result(30)

    assert (config()["retention.ms"].value, config()["retention.ms"].is_default) == ("12345", False)
    assert config()["cleanup.policy"].value == "delete"
    set_it = ConfigEntry("retention.bytes", "5000", incremental_operation=AlterConfigOpType.SET)
    clear_it = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[set_it, clear_it])
    nodes.admin.incremental_alter_configs([change])[change].result(30)
    eventually(lambda: config()["retention.bytes"].value == "5000" and config()["retention.ms"].is_default)


# records


@pytest.mark.parametrize("acks", ["all", 1, 0])
def test_kafka_records_come_back_as_they_were(nodes, consumers, acks):
    name = nodes.topic()
    producer = nodes.producer(acks=acks)
    now_ms = int(time.time() * 1000)
    send(producer, name, [b"plain"])
    send(producer, name, [bytes(range(256))], key=b"\x00key", headers=[("h", b"1"), ("h", None)], timestamp=now_ms)
    send(producer, name, [None], key=b"gone")
    send(producer, name, [b""])
    eventually(lambda: len(read_all(nodes, name)[0]) == 4)
    plain, full, gone, empty = read_all(nodes, name)[0]
    assert [m.offset() for m in (plain, full, gone, empty)] == [0, 1, 2, 3]
    assert (full.key(), full.value(), full.timestamp()[1]) == (b"\x00key", bytes(range(256)), now_ms)
    assert full.headers() == [("h", b"1"), ("h", None)]
    assert (plain.key(), gone.value(), empty.value()) == (None, None, b"")


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_kafka_compressed_records_come_back(nodes, codec):
    name = nodes.topic()
    producer = nodes.producer(compression_type=codec, linger_ms=50)
    sent = [b"the same words again and again " * 20 + str(i).encode() for i in range(500)]
    send(producer, name, sent)
    assert [m.value() for m in read_all(nodes, name)[0]] == sent


def test_kafka_idempotent_producer_sends_each_record_once_and_in_order(nodes):
    name = nodes.topic(partitions=3)
    producer = nodes.producer(enable_idempotence=True)
    for part in range(3):
        send(producer, name, values(300, f"p{part}-"), partition=part)
    found = read_all(nodes, name, 3)
    for part in range(3):
        assert [m.value() for m in found[part]] == values(300, f"p{part}-")


def test_kafka_keys_choose_partitions_and_each_keeps_its_order(nodes):
    name = nodes.topic(partitions=4)
    producer = nodes.producer()
    for i in range(200):
        producer.produce(name, str(i).encode(), key=f"k{i % 10}".encode())
    assert producer.flush(30) == 0
    where = {}
    for part, messages in read_all(nodes, name, 4).items():
        for message in messages:
            where.setdefault(message.key(), []).append((part, int(message.value())))
    assert len(where) == 10
    for records in where.values():
        assert len({part for part, _ in records}) == 1
        assert [i for _, i in records] == sorted(i for _, i in records)


def test_kafka_record_that_is_too_large_is_refused(nodes):
    name = nodes.topic(max_message_bytes=2000)
    producer = nodes.producer()
    seen = []
    producer.produce(name, b"x" * 5000, on_delivery=lambda e, _: seen.append(e.name()))
    producer.flush(30)
    assert seen == ["MSG_SIZE_TOO_LARGE"]
    send(producer, name, [b"x" * 1000])


def test_kafka_records_of_a_megabyte(nodes):
    name = nodes.topic()
    sent = [os.urandom(900_000) for _ in range(8)]
    send(nodes.producer(), name, sent)
    assert [m.value() for m in read_all(nodes, name)[0]] == sent


def test_kafka_fetch_that_waits_is_woken(nodes, consumers):
    name = nodes.topic()
    consumer = consumers(fetch_wait_max_ms=20_000, socket_timeout_ms=60_000)
    consumer.assign([TopicPartition(name, 0, 0)])
    assert consumer.poll(1) is None
    start = time.monotonic()
    send(nodes.producer(), name, [b"now"])
    assert receive(consumer, 1, 10)[0].value() == b"now"
    assert time.monotonic() - start < 5


def test_kafka_offsets_inside_of_a_batch_and_out_of_range(nodes, consumers):
    name = nodes.topic()
    send(nodes.producer(linger_ms=100), name, values(50))
    consumer = consumers()
    consumer.assign([TopicPartition(name, 0, 17)])
    assert [m.offset() for m in receive(consumer, 33)] == list(range(17, 50))
    consumer.assign([TopicPartition(name, 0, 1000)])
    assert receive(consumer, 50)[0].offset() == 0, "reset to the beginning"


def test_kafka_offsets_by_time(nodes, consumers):
    name = nodes.topic()
    base = int(time.time() * 1000) - 100_000
    producer = nodes.producer()
    for i in range(5):
        for j in range(4):
            producer.produce(name, b"x", timestamp=base + 1000 * i + j)
        assert producer.flush(30) == 0
    consumer = consumers()

    def at(time_ms):
        asked = [TopicPartition(name, 0, time_ms)]
        return consumer.offsets_for_times(asked, timeout=10)[0].offset

    assert [at(0), at(base), at(base + 1), at(base + 4), at(base + 3002)] == [0, 0, 1, 4, 14]
    assert at(base + 4004) == -1, "nothing is so new"
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10) == (0, 20)


# retention


def test_kafka_m21_retention_by_size(nodes, consumers):
    name = nodes.topic(retention_bytes=200_000, segment_bytes=50_000)
    send(nodes.producer(batch_size=20_000), name, [os.urandom(10_000) for _ in range(100)])
    consumer = consumers()

    def low():
        return consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10)[0]

    eventually(lambda: low() >= 70, 30)
    kept = read_all(nodes, name)[0]
    assert sum(len(m.value()) for m in kept) >= 200_000, "what is configured stays"
    assert kept[-1].offset() == 99
    consumer.assign([TopicPartition(name, 0, 0)])
    assert receive(consumer, 1)[0].offset() == kept[0].offset(), "an offset that is gone is reset"


def test_kafka_m21_retention_by_count(nodes, consumers):
    try:
        name = nodes.topic(retention_records=50, segment_bytes=1000)
    except KafkaException as e:
        if KAFKA_TARGET and e.args[0].name() == "INVALID_CONFIG":
            pytest.skip("Kafka knows no retention by count")
        raise
    send(nodes.producer(batch_size=500), name, [os.urandom(100) for _ in range(200)])
    consumer = consumers()
    eventually(lambda: consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10)[0] > 100, 30)
    assert 50 <= len(read_all(nodes, name)[0]) < 100


def test_kafka_m21_retention_by_age(nodes, consumers):
    name = nodes.topic(retention_ms=2000)
    send(nodes.producer(), name, values(10))
    consumer = consumers()
    eventually(lambda: consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10) == (10, 10), 30)
    assert send(nodes.producer(), name, [b"new"])[0].offset() == 10


def test_kafka_records_are_deleted(nodes, consumers):
    name = nodes.topic()
    send(nodes.producer(), name, values(20))
    at = TopicPartition(name, 0, 7)
    assert nodes.admin.delete_records([at])[at].result(30).low_watermark == 7
    assert [m.offset() for m in read_all(nodes, name)[0]][0] == 7
    beyond = TopicPartition(name, 0, 21)
    assert error_name(lambda: nodes.admin.delete_records([beyond])[beyond].result(30)) == "OFFSET_OUT_OF_RANGE"


# groups


def poll_until(members, done, timeout=40):
    """Polls all members in turn until `done(messages so far)`; messages by member."""
    found, end = [[] for _ in members], time.monotonic() + timeout
    while not done(found):
        assert time.monotonic() < end, f"not done within {timeout} s: {[len(f) for f in found]}"
        for member, into in zip(members, found):
            into.extend(poll_some(member, 0.05))
    return found


def shares(members):
    return [{p.partition for p in member.assignment()} for member in members]


def is_shared(members, partitions):
    """All partitions are assigned, each to one, and nobody is without."""
    got = shares(members)
    return all(got) and sorted(p for share in got for p in share) == list(range(partitions))


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_kafka_m21_group_shares_partitions_as_members_come_and_go(nodes, consumers, strategy):
    name, group = nodes.topic(partitions=6), fresh("group")
    members = []
    for count in (1, 2, 3):
        members.append(consumers(group, partition_assignment_strategy=strategy))
        members[-1].subscribe([name])
        poll_until(members, lambda _: is_shared(members, 6))
    assert sorted(len(share) for share in shares(members)) == [2, 2, 2]
    members.pop(0).close()
    poll_until(members, lambda _: is_shared(members, 6))
    assert sorted(len(share) for share in shares(members)) == [3, 3]


def test_kafka_m21_each_record_reaches_each_group_once(nodes, consumers):
    name = nodes.topic(partitions=4)
    groups = []
    for _ in range(2):
        group = fresh("group")
        groups.append([consumers(group) for _ in range(2)])
        for member in groups[-1]:
            member.subscribe([name])
    everybody = [member for group in groups for member in group]
    poll_until(everybody, lambda _: all(is_shared(group, 4) for group in groups))
    producer = nodes.producer()
    for part in range(4):
        send(producer, name, values(50, f"{part}-"), partition=part)
    found = poll_until(everybody, lambda found: sum(map(len, found)) >= 400)
    found = [f + poll_some(member, 1) for f, member in zip(found, everybody)]
    for first, second in (found[:2], found[2:]):
        assert first and second, "both members have something to do"
        assert len({(m.partition(), m.offset()) for m in first + second}) == len(first) + len(second) == 200


def test_kafka_member_that_is_killed_is_replaced_after_its_session(nodes, consumers):
    name, group = nodes.topic(partitions=4), fresh("group")
    script = str(Path(__file__).with_name("kafka_member.py"))
    bootstrap = ",".join(nodes.addresses)
    with subprocess.Popen(
        [sys.executable, script, bootstrap, group, name], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith("assigned 4")
            member = consumers(group)
            member.subscribe([name])
            poll_until([member], lambda _: len(member.assignment()) == 2)
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            poll_until([member], lambda _: len(member.assignment()) == 4)
            assert 3 < time.monotonic() - killed < 20, "its session of 6 s, and a heartbeat"
        finally:
            process.kill()


def test_kafka_committed_offsets_are_where_a_group_goes_on(nodes, consumers):
    name, group = nodes.topic(), fresh("group")
    send(nodes.producer(), name, values(20))
    first = consumers(group)
    first.subscribe([name])
    assert len(receive(first, 20)) == 20
    mark = TopicPartition(name, 0, 12, "a note")
    first.commit(offsets=[mark], asynchronous=False)
    first.close()
    second = consumers(group)
    kept = second.committed([TopicPartition(name, 0)], timeout=10)[0]
    assert (kept.offset, kept.metadata) == (12, "a note")
    second.subscribe([name])
    assert [m.offset() for m in receive(second, 8)] == list(range(12, 20))
    other = consumers()
    assert other.committed([TopicPartition(name, 0)], timeout=10)[0].offset == -1001, "nothing"


def test_kafka_member_of_an_older_generation_may_not_commit(nodes, consumers):
    name, group = nodes.topic(partitions=2), fresh("group")
    send(nodes.producer(), name, values(1))
    old = consumers(group)
    old.subscribe([name])
    receive(old, 1)
    outsider = consumers(group)
    outsider.assign([TopicPartition(name, 0, 0)])
    mark = [TopicPartition(name, 0, 1)]
    refused = error_name(lambda: outsider.commit(offsets=mark, asynchronous=False))
    assert refused in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION")
    old.commit(offsets=mark, asynchronous=False)


def test_kafka_static_member_that_restarts_moves_nothing(nodes, consumers):
    name, group = nodes.topic(partitions=4), fresh("group")
    moved = []

    def member(number):
        made = consumers(group, group_instance_id=f"{group}-{number}", session_timeout_ms=20_000)
        made.subscribe([name], on_revoke=lambda *_: moved.append(number))
        return made

    members = [member(0), member(1)]
    poll_until(members, lambda _: is_shared(members, 4))
    before = shares(members)
    moved.clear()
    members[1].close()
    members[1] = member(1)
    end = time.monotonic() + 20
    while not members[1].assignment():
        assert time.monotonic() < end
        for m in members:
            poll_some(m, 0.1)
    assert shares(members) == before
    assert 0 not in moved, "the other member was not disturbed"


def test_kafka_groups_are_listed_described_and_deleted(nodes, consumers):
    name, group = nodes.topic(partitions=2), fresh("group")
    member = consumers(group, client_id="the-client")
    member.subscribe([name])
    poll_until([member], lambda _: len(member.assignment()) == 2)
    listed = nodes.admin.list_consumer_groups().result(30)
    assert not listed.errors
    assert group in {g.group_id for g in listed.valid}
    described = nodes.admin.describe_consumer_groups([group])[group].result(30)
    assert described.state.name == "STABLE" and described.partition_assignor == "range"
    assert [m.client_id for m in described.members] == ["the-client"]
    assert {p.partition for p in described.members[0].assignment.topic_partitions} == {0, 1}
    refused = nodes.admin.delete_consumer_groups([group])[group]
    assert error_name(lambda: refused.result(30)) == "NON_EMPTY_GROUP"
    member.close()
    nodes.admin.delete_consumer_groups([group])[group].result(30)
    gone = nodes.admin.delete_consumer_groups([group])[group]
    assert error_name(lambda: gone.result(30)) == "GROUP_ID_NOT_FOUND"


def test_kafka_offsets_of_a_group_are_listed_and_moved(nodes, consumers):
    name, group = nodes.topic(partitions=2), fresh("group")
    send(nodes.producer(), name, values(10), partition=1)
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 1, 6)])
    nodes.admin.alter_consumer_group_offsets([moved])[group].result(30)
    asked = ConsumerGroupTopicPartitions(group)
    found = nodes.admin.list_consumer_group_offsets([asked])[group].result(30)
    assert [(p.topic, p.partition, p.offset) for p in found.topic_partitions] == [(name, 1, 6)]
    member = consumers(group)
    member.subscribe([name])
    assert [m.offset() for m in receive(member, 4)] == [6, 7, 8, 9]


def test_kafka_people_see_partitions_members_and_lag(nodes, consumers):
    if nodes.cluster is None:
        pytest.skip("servers that run already may have no console")
    name, group = nodes.topic(partitions=2, retention_records=1000), fresh("group")
    send(nodes.producer(), name, values(10), partition=1)
    member = consumers(group, client_id="the-client")
    member.subscribe([name])
    assert len(receive(member, 10)) == 10
    member.commit(offsets=[TopicPartition(name, 1, 7)], asynchronous=False)
    for server in nodes.cluster.servers:

        def seen(server=server):
            code, body = server.http(f"/v1/topics?prefix={name}")
            assert code == 200
            page = json.loads(body)
            assert [t["name"] for t in page["topics"]] == [name] and page["topic_count"] == 1
            topic = page["topics"][0]
            assert topic["config"] == [["retention.records", "1000"]]
            groups = json.loads(server.http(f"/v1/topics?prefix={group}")[1])["groups"]
            ends = [p["end"] for p in topic["partitions"]]
            lags = [(p["topic"], p["index"], p["offset"], p["end"], p["lag"]) for g in groups for p in g["positions"]]
            # Each shows what its replicas hold, perhaps a little late.
            return ends == [0, 10] and lags == [(name, 1, 7, 10, 3)] and groups[0]["members"][0]["client"] == "the-client"

        eventually(seen, 30)
        code, body = server.http(f"/topics?prefix={name}")
        assert code == 200 and name in body

    def told():
        text = "".join(server.http("/metrics")[1] for server in nodes.cluster.servers)
        return (
            f'althing_group_lag{{group="{group}",topic="{name}"}} 3\n' in text
            and f'althing_partition_end{{topic="{name}",partition="1"}} 10\n' in text
        )

    eventually(told, 30)


# bytes


def call(nodes, frame):
    """Sends a frame; the answer's body, or None when the connection was closed."""
    host, port = nodes.addresses[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.settimeout(10)
        sock.sendall(frame)
        head = sock.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return None
        return sock.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)


def request(key, version, body=b""):
    inner = struct.pack(">hhih", key, version, 7, -1) + body
    return struct.pack(">i", len(inner)) + inner


def test_kafka_api_versions_of_a_version_to_come_is_answered_in_version_0(nodes):
    correlation, error, count = struct.unpack(">ihi", call(nodes, request(18, 99))[:10])
    assert (correlation, error) == (7, 35) and count > 20


@pytest.mark.parametrize(
    "frame",
    [
        request(999, 0),
        request(1, 99),
        request(3, 1, b"\x7f\xff\xff\xff"),
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x00\x00",
    ],
    ids=["unknown request", "unknown version", "count", "too long", "negative", "too short"],
)
def test_kafka_bytes_that_are_no_request_end_that_connection_only(nodes, frame):
    try:
        assert call(nodes, frame) is None
    except ConnectionResetError:
        pass
    assert call(nodes, request(18, 0)) is not None


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def fetch(topic, wait_ms=0, bytes_min=1, offset=0, partition=0):
    """A Fetch of version 4 for one partition."""
    body = struct.pack(">iiiibi", -1, wait_ms, bytes_min, 50 << 20, 0, 1) + text(topic)
    return request(1, 4, body + struct.pack(">iiqi", 1, partition, offset, 50 << 20))


def produce(topic, acks, value=b"v"):
    """A Produce of version 3 with one record."""
    record = bytes([0, 0, 0, 1, 2 * len(value)]) + value + b"\0"
    body = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + bytes([2 * len(record)]) + record
    checked = struct.pack(">ibI", 0, 2, crc32c(body)) + body
    batch = struct.pack(">qi", 0, len(checked)) + checked
    head = struct.pack(">hhii", -1, acks, 1000, 1) + text(topic)
    return request(0, 3, head + struct.pack(">iii", 1, 0, len(batch)) + batch)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def produced_error(body):
    """The error code in the answer to `produce`."""
    return struct.unpack(">h", body[-2 - 16 - 4 : -16 - 4])[0]


def connect_to(address):
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), 10)
    sock.settimeout(10)
    return sock


def exactly(sock, size):
    """So many bytes; a socket with a time-out gives fewer, whatever it is told."""
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, "the connection was closed"
        data += more
    return bytes(data)


def answer_body(sock):
    return exactly(sock, struct.unpack(">i", exactly(sock, 4))[0])


def answer(sock):
    """The next answer's correlation and size."""
    body = answer_body(sock)
    return struct.unpack(">i", body[:4])[0], len(body)


def numbered(frame, correlation):
    return frame[:8] + struct.pack(">i", correlation) + frame[12:]


def leader_address(nodes, topic):
    found = nodes.admin.list_topics(topic, timeout=10)
    broker = found.brokers[found.topics[topic].partitions[0].leader]
    return f"{broker.host}:{broker.port}"


def test_kafka_answers_come_in_the_order_of_requests(nodes):
    name = nodes.topic()
    frames = [fetch(name, wait_ms=400), request(18, 0), produce(name, -1), fetch(name), request(18, 0)]
    with connect_to(leader_address(nodes, name)) as sock:
        start = time.monotonic()
        sock.sendall(b"".join(numbered(frame, i) for i, frame in enumerate(frames)))
        answers = [answer(sock) for _ in frames]
    assert [number for number, _ in answers] == list(range(len(frames)))
    assert time.monotonic() - start < 0.4, "the record that came behind the first fetch woke it"
    assert answers[0][1] > 70 and answers[3][1] > 70, "both fetches brought it"


def test_kafka_node_that_does_not_lead_says_so(nodes):
    name = nodes.topic()
    leader = leader_address(nodes, name)
    for address in nodes.addresses:
        with connect_to(address) as sock:
            sock.sendall(produce(name, 1))
            error = produced_error(answer_body(sock))
            assert error == (0 if address == leader else 6), "NOT_LEADER_OR_FOLLOWER"
            sock.sendall(produce(name, 0) + request(18, 0))
            if address == leader:
                assert answer(sock)[0] == 7
            else:
                assert sock.recv(4) == b"", "who wants no answer is told by the end of the connection"


def test_kafka_topic_is_made_for_who_asks_for_it(nodes):
    name, quiet = fresh("auto"), fresh("auto")
    send(nodes.producer(), name, [b"x"])
    assert [m.value() for m in read_all(nodes, name)[0]] == [b"x"]
    body = struct.pack(">i", 1) + text(quiet) + b"\0"
    assert call(nodes, request(3, 4, body)) is not None
    assert quiet not in nodes.admin.list_topics(timeout=10).topics, "it was not to be made"


def test_kafka_client_that_does_not_read_costs_little_memory(nodes):
    if nodes.cluster is None:
        pytest.skip("the memory of KAFKA_TARGET is not seen")
    name = nodes.topic()
    send(nodes.producer(), name, [os.urandom(900_000) for _ in range(9)])
    leader = leader_address(nodes, name)
    server = next(s for s in nodes.cluster.servers if s.kafka_address == leader)

    def resident():
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) >> 10

    before = resident()
    with connect_to(leader) as sock:
        for i in range(100):
            sock.sendall(numbered(fetch(name), i))
        time.sleep(1)
        assert resident() - before < 100, "of 800 MiB that were asked for"
        assert [answer(sock)[0] for _ in range(100)] == list(range(100))


# a cluster whose nodes are killed


class Load(threading.Thread):
    """Sends numbered records to all partitions until told to stop; remembers what was acknowledged."""

    def __init__(self, nodes, topic, partitions, **options):
        super().__init__(daemon=True)
        self.producer = nodes.producer(
            acks="all", message_timeout_ms=120_000, socket_timeout_ms=5000, retry_backoff_ms=50, **options
        )
        self.topic, self.partitions = topic, partitions
        self.acknowledged = {part: set() for part in range(partitions)}
        self.refused = []
        self.stopping = threading.Event()
        self.start()

    def run(self):
        for number in itertools.count():
            if self.stopping.is_set():
                break
            part = number % self.partitions
            try:
                self.producer.produce(self.topic, str(number).encode(), partition=part, on_delivery=self.delivered)
            except BufferError:
                pass
            self.producer.poll(0.002)

    def delivered(self, error, message):
        if error is None:
            self.acknowledged[message.partition()].add(int(message.value()))
        else:
            self.refused.append(error)

    def count(self):
        return sum(map(len, self.acknowledged.values()))

    def stop(self):
        self.stopping.set()
        self.join(10)
        assert self.producer.flush(130) == 0, "everything is answered in the end"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
def test_kafka_nodes_killed_under_load_nothing_acknowledged_is_lost(fresh_kafka_three, idempotent):
    nodes = fresh_kafka_three
    name = nodes.topic(partitions=6)
    load = Load(nodes, name, 6, enable_idempotence=idempotent)
    eventually(lambda: load.count() > 200, 30)
    for round_ in range(6):
        victim = round_ % 3
        nodes.cluster.kill(victim)
        seen = load.count()
        eventually(lambda seen=seen: load.count() > seen + 200, 60)
        nodes.cluster[victim].start()
        nodes.cluster.wait_ready([victim])
        seen = load.count()
        eventually(lambda seen=seen: load.count() > seen + 200, 60)
    load.stop()
    assert not load.refused, load.refused[0]
    for part, messages in read_all(nodes, name, 6).items():
        found = [int(m.value()) for m in messages]
        lost = load.acknowledged[part] - set(found)
        assert not lost, f"partition {part} lost {len(lost)} of {len(load.acknowledged[part])}"
        if idempotent:
            assert len(found) == len(set(found)), f"partition {part} has doubles"
            assert found == sorted(found), f"partition {part} lost its order"


@pytest.mark.timeout(300)
def test_kafka_group_goes_on_when_its_coordinator_is_killed(fresh_kafka_three):
    nodes = fresh_kafka_three
    name, group = nodes.topic(partitions=4), fresh("group")
    load = Load(nodes, name, 4)
    members = [nodes.consumer(group) for _ in range(2)]
    for member in members:
        member.subscribe([name])
    seen = set()

    def work(until, timeout=90):
        end = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < end, f"not done within {timeout} s"
            for member in members:
                messages = poll_some(member, 0.1)
                seen.update((m.partition(), int(m.value())) for m in messages)
                if messages:
                    try:
                        member.commit(asynchronous=False)
                    except KafkaException as e:
                        assert e.args[0].retriable() or "REBALANCE" in e.args[0].name() or "MEMBER" in e.args[0].name()

    work(lambda: is_shared(members, 4) and len(seen) > 100)
    for victim in range(3):
        nodes.cluster.kill(victim)
        so_far = len(seen)
        work(lambda so_far=so_far: len(seen) > so_far + 200)
        nodes.cluster[victim].start()
        nodes.cluster.wait_ready([victim])
    load.stop()
    wanted = {(part, number) for part, numbers in load.acknowledged.items() for number in numbers}
    work(lambda: wanted <= seen)
    kept = members[0].committed([TopicPartition(name, part) for part in range(4)], timeout=20)
    assert all(p.offset > 0 for p in kept)
    for member in members:
        member.close()
