"""Nodes that Kafka clients talk to: those of a cluster under test, or with KAFKA_TARGET=host:port,… servers that run already."""

import itertools
import os
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from raw import eventually

KAFKA_TARGET = os.environ.get("KAFKA_TARGET")

_number = itertools.count(1)


def fresh(prefix):
    """A name that no other test uses, on a server that runs already either."""
    return f"{prefix}-{next(_number)}-{uuid.uuid4().hex[:6]}"


class KafkaNodes:
    """Brokers, the first one's number 0."""

    def __init__(self, cluster=None):
        self.cluster = cluster
        if cluster is None:
            self.addresses = KAFKA_TARGET.split(",")
        else:
            self.addresses = [server.kafka_address for server in cluster.servers]
        self._admin = None

    def __len__(self):
        return len(self.addresses)

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient(self.options())
        return self._admin

    def options(self, **more):
        """What every client is given; `_` in a name stands for `.`."""
        options = {
            "bootstrap.servers": ",".join(self.addresses),
            "socket.timeout.ms": 10_000,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "topic.metadata.refresh.fast.interval.ms": 100,
        }
        return {**options, **{key.replace("_", "."): value for key, value in more.items()}}

    def producer(self, **more):
        return Producer(self.options(**{"linger_ms": 2, **more}))

    def consumer(self, group=None, **more):
        """A member of a group that begins at the beginning and commits nothing by itself."""
        defaults = {
            "group_id": group or fresh("group"),
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 6000,
            "heartbeat_interval_ms": 500,
            "max_poll_interval_ms": 30_000,
            "fetch_wait_max_ms": 200,
        }
        return Consumer(self.options(**{**defaults, **more}))

    def topic(self, partitions=1, prefix="topic", **config):
        """Makes a topic; `retention_ms=5` configures retention.ms."""
        name = fresh(prefix)
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        made = NewTopic(name, partitions, replication_factor=min(3, len(self)), config=config)
        eventually(lambda: self._made(made), 60)
        # A broker other than the one asked may hear of it a little later.
        eventually(lambda: self.leaders(name) == partitions, 30)
        return name

    def _made(self, topic):
        """True once there is such a topic; false where nobody answered, which a cluster without a leader does not."""
        try:
            self.admin.create_topics([topic])[topic.topic].result(30)
        except KafkaException as e:
            error = e.args[0]
            if error.name() == "TOPIC_ALREADY_EXISTS":
                return True
            if error.retriable() or error.name() == "_TIMED_OUT":
                return False
            raise
        return True

    def leaders(self, topic):
        """Partitions of a topic that have a leader."""
        found = self.admin.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            return 0
        return sum(p.leader >= 0 and p.error is None for p in found.partitions.values())

    def wait_ready(self, timeout=90):
        """Waits until every node takes a record."""
        name = fresh("ready")
        eventually(lambda: self._made(NewTopic(name, 1, 1)), timeout, 0.5)
        for address in self.addresses:

            def ready(address=address):
                seen = []
                producer = self.producer(bootstrap_servers=address)
                producer.produce(name, b"ready", on_delivery=lambda e, _: seen.append(e))
                producer.flush(5)
                return seen == [None]

            eventually(ready, timeout, 0.5)


def send(producer, topic, values, timeout=30, **options):
    """Sends values and returns what came back: messages with their offsets. Fails if one was refused."""
    done, refused = [], []

    def delivered(error, message):
        (refused if error else done).append(error or message)

    for value in values:
        while True:
            try:
                producer.produce(topic, value, on_delivery=delivered, **options)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(timeout)
    assert not refused, f"refused: {refused[0]}"
    assert left == 0, f"{left} messages were not answered within {timeout} s"
    return done


def receive(consumer, count, timeout=30):
    """Polls until so many messages have come."""
    found, end = [], time.monotonic() + timeout
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} messages within {timeout} s"
        found += poll_some(consumer)
    return found


def poll_some(consumer, timeout=0.2):
    """What comes within the time; errors that pass by themselves are passed over."""
    messages = consumer.consume(500, timeout)
    for message in messages:
        error = message.error()
        assert error is None or error.retriable() or not error.fatal(), error
    return [m for m in messages if m.error() is None]


def read_all(nodes, topic, partitions=1, timeout=60):
    """Every message of a topic, by partition, without a group."""
    consumer = nodes.consumer()
    found = {}
    for partition in range(partitions):
        at = TopicPartition(topic, partition)
        low, high = eventually(lambda at=at: consumer.get_watermark_offsets(at, timeout=5), timeout)
        consumer.assign([TopicPartition(topic, partition, low)])
        found[partition] = []
        end = time.monotonic() + timeout
        while low < high:
            assert time.monotonic() < end, f"{topic}/{partition}: at {low} of {high} after {timeout} s"
            for message in poll_some(consumer):
                found[partition].append(message)
                low = message.offset() + 1
    consumer.close()
    return found


def error_name(call):
    """The name of Kafka's error that a call or a future ends with."""
    try:
        call()
    except KafkaException as e:
        return e.args[0].name()
    return None
