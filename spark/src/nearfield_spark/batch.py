"""The batch job: a history of events, from Parquet or CSV, into what the trainer reads and into features."""

from pyspark.sql import DataFrame, SparkSession, functions

from .core import shared
from .messages import Context, Event

#: Columns of a history, with the type that each is read as. ``user``, ``item`` and ``time_ms`` (or ``timestamp``, in
#: seconds or milliseconds) must be there.
COLUMNS = {
    "user": "string",
    "item": "string",
    "time_ms": "bigint",
    "event": "string",
    "event_id": "string",
    "value": "float",
    "session": "string",
    "utc_offset_minutes": "int",
    "device": "string",
    "referrer": "string",
    "price": "double",
    "category": "string",
}
#: Numbers below this are seconds, from it on milliseconds.
SECONDS_BELOW = 100_000_000_000
#: Events whose features are asked for in one call.
EVENTS_AT_ONCE = 5000

FEATURES = (
    "user_id string, item_id string, kind string, time_ms timestamp, event_id string, "
    "new_session boolean, session_events bigint, session_seconds bigint, hour int, weekday int, "
    "seconds_since_event bigint, seconds_since_item bigint, seconds_since_purchase bigint, history_events bigint, "
    "recent_views int, recent_carts int, recent_purchases int, recent_items array<string>, "
    "price double, price_affinity double, category_affinity double, device string, referrer string"
)


def history(spark: SparkSession, path: str) -> DataFrame:
    """Reads a history: a file or folder of Parquet, or CSV with a header, with gzip where the name ends in .gz."""
    if path.endswith((".csv", ".csv.gz")):
        read = spark.read.option("header", True).csv(path)
    else:
        read = spark.read.parquet(path)
    missing = [name for name in ("user", "item") if name not in read.columns]
    if missing or not {"time_ms", "timestamp"} & set(read.columns):
        missing = missing or ["timestamp"]
        raise ValueError(f"{path}: column {missing[0]!r} is missing; there are {', '.join(read.columns)}")
    if "time_ms" not in read.columns:
        time = functions.col("timestamp").cast("double")
        milliseconds = functions.when(time < SECONDS_BELOW, time * 1000).otherwise(time)
        read = read.withColumn("time_ms", milliseconds)
    columns = [
        (functions.col(name) if name in read.columns else functions.lit(None)).cast(kind).alias(name)
        for name, kind in COLUMNS.items()
    ]
    read = read.select(*columns)
    return read.withColumn("event", functions.coalesce("event", functions.lit("view")))


def training_input(events: DataFrame) -> DataFrame:
    """Returns what ``nearfield-trainer train`` reads: user, item, timestamp in milliseconds, event; in the order of
    time. Searches have no item to learn of and are left out."""
    rows = events.where("item is not null and item != ''")
    rows = rows.select("user", "item", functions.col("time_ms").alias("timestamp"), "event")
    return rows.orderBy("timestamp", "user", "item")


def features(events: DataFrame) -> DataFrame:
    """Returns the features of every event, by the guest: each user's events in the order of their times."""

    def of_user(rows):
        import pandas

        rows = rows.sort_values("time_ms", kind="stable")
        core, profile, found = shared(), b"", []
        told = list(rows.itertuples(index=False))
        for begin in range(0, len(told), EVENTS_AT_ONCE):
            part = told[begin : begin + EVENTS_AT_ONCE]
            pairs = [_pair(row) for row in part]
            values, profile = core.features(profile, *map(list, zip(*pairs)))
            found += [
                {
                    "user_id": row.user,
                    "item_id": event.item_id,
                    "kind": event.kind,
                    "time_ms": pandas.Timestamp(event.time_ms, unit="ms", tz="UTC"),
                    "event_id": event.event_id,
                }
                | value
                for row, (event, _), value in zip(part, pairs, values)
            ]
        columns = [column.strip().split(" ")[0] for column in FEATURES.split(",")]
        return pandas.DataFrame(found, columns=columns).astype(
            {name: "Int64" for name in columns if name.startswith("seconds_since")} | {"hour": "Int32", "weekday": "Int32"}
        )

    return events.groupBy("user").applyInPandas(of_user, FEATURES)


def _pair(row):
    def known(value):
        # pandas has NaN where a number is missing.
        return None if value is None or value != value else value

    offset = known(row.utc_offset_minutes)
    event = Event(
        kind=row.event,
        item_id=row.item or "",
        time_ms=int(row.time_ms),
        event_id=known(row.event_id),
        value=known(row.value),
        session_id=known(row.session),
    )
    context = Context(
        utc_offset_minutes=None if offset is None else int(offset),
        device=known(row.device),
        referrer=known(row.referrer),
        price=known(row.price),
        category=known(row.category),
    )
    return event, context


