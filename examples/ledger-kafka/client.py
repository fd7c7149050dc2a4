"""A client of a ledger that has nothing but Kafka: requests in JSON on ALL and ONE, typed rows on RESPONSE.

    pip install confluent-kafka
    KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 python client.py
"""

import json
import os
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
ALL = os.environ.get("KAFKA_ALL_TOPIC", "ALL")
ONE = os.environ.get("KAFKA_ONE_TOPIC", "ONE")
RESPONSE = os.environ.get("KAFKA_RESPONSE_TOPIC", "RESPONSE")


def sql(text, *params):
    """A statement with values for $1, $2, …, which are never part of its text."""
    return {"sql": text, "params": params}


class Ledger:
    def __init__(self):
        self.client, self.seen = f"python-{uuid.uuid4()}", 0
        self.producer = Producer({"bootstrap.servers": SERVERS, "acks": "all", "linger.ms": 0})
        self.answers = Consumer({"bootstrap.servers": SERVERS, "group.id": self.client, "enable.auto.commit": False})
        # From where the topic ends now, before anything is asked: no answer is missed, and nobody waits for a group.
        _, end = self.answers.get_watermark_offsets(TopicPartition(RESPONSE, 0), timeout=30)
        self.answers.assign([TopicPartition(RESPONSE, 0, end)])

    def write(self, *statements, **more):
        """One transaction, committed when this returns."""
        return self.ask(ALL, statements=statements, **more)

    def read(self, text, *params, **more):
        """What one node has, which is at least what this client has written or read before."""
        return self.ask(ONE, sqlString=text, params=params, after=self.seen, **more)

    def ask(self, topic, within=60, **request):
        request = {"messageId": str(uuid.uuid4()), "clientId": self.client, **request}
        deadline = time.monotonic() + within
        self.producer.produce(topic, json.dumps(request).encode())
        self.producer.flush(within)
        while time.monotonic() < deadline:
            record = self.answers.poll(1)
            if record is None or record.error():
                continue
            answer = json.loads(record.value())
            if (answer.get("clientId"), answer["requestId"]) != (self.client, request["messageId"]):
                continue
            if answer["resultCode"] != "OK":
                raise RuntimeError(f"{answer['error']} (SQLSTATE {answer['sqlstate']})")
            self.seen = max(self.seen, answer["offset"] or 0)
            return answer
        # Not a new id: under the same one nothing is done twice.
        raise TimeoutError(f"no answer to {request['messageId']}; ask again under the same id")


if __name__ == "__main__":
    ledger = Ledger()
    ledger.write("CREATE TABLE python_account (id bigint PRIMARY KEY, name varchar(40), balance numeric(12,2))")
    insert = "INSERT INTO python_account VALUES ($1, $2, $3)"
    ledger.write(sql(insert, 1, "Ada", "10.50"), sql(insert, 2, "Grace", 20))
    answer = ledger.read("SELECT id, name, balance FROM python_account WHERE balance > $1 ORDER BY id", 0)
    print([column["type"] for column in answer["columns"]])
    for row in answer["rows"]:
        print(row)
    try:
        ledger.write(sql(insert, 1, "Edsger", 30))
    except RuntimeError as error:
        print("refused:", str(error).rsplit("(", 1)[-1].rstrip(")"))
