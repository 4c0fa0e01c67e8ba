"""``python -m nearfield_spark``: the jobs, for spark-submit or alone."""

import argparse

from pyspark.sql import SparkSession

from . import batch, stream


def main():
    parser = argparse.ArgumentParser(prog="nearfield_spark", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)

    job = jobs.add_parser("stream", help="events of a topic into factors and lists")
    job.add_argument("--brokers", required=True, help="Kafka brokers to begin with, host:port separated by commas")
    job.add_argument("--topic", required=True, help="the topic of events, or NAME=json where its records are JSON")
    job.add_argument("--pack", required=True, help="the model, as central serves it: a file that every worker reads")
    job.add_argument("--checkpoint", required=True, help="folder of the states, which a restart goes on from")
    job.add_argument("--count", type=int, default=20, help="items of a list")
    job.add_argument("--keep-days", type=float, help="forget users without events for so long [default: never]")
    job.add_argument("--to-topic", help="a topic for factors and lists")
    job.add_argument("--redis", help="a Redis for them, redis://host:port/db")
    job.add_argument("--dead-letters", help="a topic for what is no event")
    job.add_argument("--available-now", action="store_true", help="take in what is there, and end")
    job.add_argument("--records-at-once", type=int, default=100_000, help="records of a micro-batch at most")

    job = jobs.add_parser("features", help="a history into training input and features")
    job.add_argument("--events", required=True, help="Parquet, or CSV with a header")
    job.add_argument("--training", help="folder for what nearfield-trainer reads, as CSV in one file")
    job.add_argument("--features", help="folder for the features, as Parquet")

    args = parser.parse_args()
    spark = SparkSession.builder.appName(f"nearfield {args.job}").getOrCreate()
    (_stream if args.job == "stream" else _features)(spark, args)


def _stream(spark, args):
    topic, _, framing = args.topic.partition("=")
    if framing not in ("", "json"):
        raise SystemExit(f"--topic: {framing!r} is not json")
    if not (args.to_topic or args.redis):
        raise SystemExit("nothing to write to: --to-topic, --redis, or both")
    limit = {"maxOffsetsPerTrigger": str(args.records_at_once)}
    records = stream.read(spark, brokers=args.brokers, topic=topic, options=limit)
    rows = stream.factors(
        records,
        pack_file=args.pack,
        count=args.count,
        framing=framing or "confluent",
        keep_days=args.keep_days,
    )

    def write(batch, _):
        stream.emit(
            batch, brokers=args.brokers, topic=args.to_topic, dead_letters=args.dead_letters, redis=args.redis
        )

    query = rows.writeStream.foreachBatch(write).option("checkpointLocation", args.checkpoint)
    query = query.trigger(availableNow=True) if args.available_now else query
    query.start().awaitTermination()


def _features(spark, args):
    events = batch.history(spark, args.events).cache()
    if args.training:
        batch.training_input(events).coalesce(1).write.option("header", True).csv(args.training)
    if args.features:
        batch.features(events).write.parquet(args.features)


main()
