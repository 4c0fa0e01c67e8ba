"""The streaming job: events of a Kafka topic into each user's state, by the guest, as the edge does it.

Each micro-batch gives one row for each user in it: the user's factor and list. What cannot be read or is refused
becomes a row with the reason. Spark keeps the states in its checkpoint, together with how far the topic is read, so a
job that is killed goes on where it was.
"""

import json
import time

from pyspark.sql import SparkSession, functions
from pyspark.sql.streaming.state import GroupState, GroupStateTimeout

from .core import shared
from .events import Decoder, Refusal

#: Events that a step takes at most.
EVENTS_AT_ONCE = 500

STATE = "state binary, profile binary"
OUTPUT = (
    "user_id string, what string, state binary, factor array<float>, "
    "items array<struct<item_id: string, score: float>>, lineage string, version long, events long, "
    "reason string, message string, partition int, offset long, value binary"
)
COLUMNS = [column.strip().split(" ")[0] for column in (
    "user_id,what,state,factor,items,lineage,version,events,reason,message,partition,offset,value".split(",")
)]


def factors(records, *, pack_file, count=20, framing="confluent", keep_days=None):
    """Returns a streaming DataFrame of ``OUTPUT`` from one of Kafka's records (key, value, partition, offset,
    timestamp).

    ``what`` says what a row is: ``user`` (factor, items, and the state as bytes), ``forgotten`` (a record without a
    value asked for it), or ``refused`` (reason, message, and where the record lies).
    A user without events for ``keep_days`` is forgotten; without it none is.
    """

    def step(key, batches, group):
        import pandas

        yield pandas.DataFrame(
            _of_user(key[0], batches, group, pack_file, count, framing, keep_days), columns=COLUMNS
        )

    users = records.withColumn("user_id", functions.coalesce(functions.col("key").cast("string"), functions.lit("")))
    if keep_days is None:
        timeout = GroupStateTimeout.NoTimeout
    else:
        timeout = GroupStateTimeout.EventTimeTimeout
        users = users.withWatermark("timestamp", "1 hour")
    grouped = users.groupBy("user_id")
    return grouped.applyInPandasWithState(step, OUTPUT, STATE, "append", timeout)


def _row(user, what, **values):
    row = dict.fromkeys(COLUMNS) | {"user_id": user, "what": what} | values
    return [row[column] for column in COLUMNS]


def _of_user(user, batches, group: GroupState, pack_file, count, framing, keep_days):
    if group.hasTimedOut:
        group.remove()
        return [_row(user, "forgotten")]
    core, decoder, now_ms = shared(pack_file), Decoder(framing), int(time.time() * 1000)
    state, profile = (bytes(part) for part in group.get) if group.exists else (b"", b"")
    rows, taken, latest_ms, forgotten = [], 0, 0, False
    records = sorted(
        (record for batch in batches for record in batch.itertuples(index=False)),
        key=lambda record: (record.partition, record.offset),
    )
    waiting = []

    def learn():
        nonlocal state, profile, taken
        events = [event.event for event in waiting]
        contexts = [event.context for event in waiting]
        stepped = core.step(now_ms=now_ms, state=state, profile=profile, events=events, contexts=contexts)
        state, profile = stepped.state or state, stepped.profile or profile
        taken += len(waiting)
        waiting.clear()

    for record in records:
        latest_ms = max(latest_ms, int(record.timestamp.timestamp() * 1000))
        if record.value is None:
            waiting.clear()
            state, profile, taken, forgotten = b"", b"", 0, True
            continue
        try:
            key = None if record.key is None else bytes(record.key)
            waiting.append(decoder.decode(key, bytes(record.value), now_ms))
        except Refusal as refusal:
            where = {"partition": record.partition, "offset": record.offset, "value": bytes(record.value)}
            rows.append(_row(user, "refused", reason=refusal.reason, message=str(refusal), **where))
        if len(waiting) == EVENTS_AT_ONCE:
            learn()
    if waiting:
        learn()

    if forgotten and not taken:
        if group.exists:
            group.remove()
        rows.append(_row(user, "forgotten"))
    if taken:
        group.update((state, profile))
        if keep_days is not None:
            group.setTimeoutTimestamp(latest_ms + int(keep_days * 24 * 60 * 60 * 1000))
        # A list that nobody is shown: what it leaves in the state is dropped.
        listed = core.step(now_ms=now_ms, state=state, count=count, factor=True)
        items = [(item.item_id, item.score) for item in listed.items]
        model = listed.model
        told = {"lineage": f"{model.lineage:016x}", "version": model.version, "events": taken}
        rows.append(_row(user, "user", state=state, factor=listed.factor, items=items, **told))
    return rows


def emit(batch, *, brokers=None, topic=None, dead_letters=None, redis=None, prefix="nearfield:list:"):
    """Writes the rows of one micro-batch: users to a topic as JSON (key = user; no value where the user is forgotten)
    and to Redis under ``prefix`` and the user; what is refused to the topic of dead letters, with the edge's headers.

    A batch that runs again after a crash writes the same rows again.
    """
    batch.persist()
    try:
        if topic:
            told = functions.to_json(
                functions.struct("user_id", "factor", "items", "lineage", "version"), {"ignoreNullFields": "false"}
            )
            users = batch.where("what in ('user', 'forgotten')").select(
                functions.col("user_id").alias("key"),
                functions.when(functions.col("what") == "user", told).alias("value"),
            )
            _to_kafka(users, brokers, topic)
        if dead_letters:
            _to_kafka(_letters(batch.where("what = 'refused'")), brokers, dead_letters)
        if redis:
            users = batch.where("what in ('user', 'forgotten')").select("user_id", "what", "factor", "items", "version")
            users.foreachPartition(lambda rows: _to_redis(rows, redis, prefix))
    finally:
        batch.unpersist()


def _to_kafka(rows, brokers, topic):
    rows.write.format("kafka").option("kafka.bootstrap.servers", brokers).option("topic", topic).option(
        "kafka.acks", "all"
    ).save()


def _letters(refused):
    def header(key, value):
        return functions.struct(
            functions.lit(key).alias("key"), value.cast("string").cast("binary").alias("value")
        )

    headers = functions.array(
        header("nearfield-reason", functions.col("reason")),
        header("nearfield-message", functions.col("message")),
        header("nearfield-partition", functions.col("partition")),
        header("nearfield-offset", functions.col("offset")),
    )
    return refused.select(functions.col("user_id").alias("key"), "value", headers.alias("headers"))


def _to_redis(rows, address, prefix):
    import redis

    with redis.Redis.from_url(address) as client:
        pipe = client.pipeline(transaction=False)
        for row in rows:
            if row.what == "forgotten":
                pipe.delete(prefix + row.user_id)
                continue
            items = [[item.item_id, item.score] for item in row["items"]]
            pipe.set(prefix + row.user_id, json.dumps({"version": row.version, "factor": row.factor, "items": items}))
        pipe.execute()


def read(spark: SparkSession, *, brokers, topic, options=None):
    """Returns the records of a topic, from its beginning where the checkpoint knows nothing of it."""
    reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", brokers).option("subscribe", topic)
    reader = reader.option("startingOffsets", "earliest").option("failOnDataLoss", "true")
    for name, value in (options or {}).items():
        reader = reader.option(name, value)
    return reader.load().select("key", "value", "partition", "offset", "timestamp")
