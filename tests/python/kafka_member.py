"""A member of a group as a process of its own, to be killed: prints `partition offset value` of each message.

python kafka_member.py BOOTSTRAP GROUP TOPIC
"""

import sys

from confluent_kafka import Consumer


def main():
    bootstrap, group, topic = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        }
    )
    consumer.subscribe([topic], on_assign=lambda _, parts: print("assigned", len(parts), flush=True))
    while True:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            print(message.partition(), message.offset(), message.value().decode(), flush=True)
            consumer.commit(message, asynchronous=False)


main()
