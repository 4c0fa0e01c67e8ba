//! Recorded events into a real Kafka, and features out of one.

use nearfield_engine::features::{Baseline, Features};
use nearfield_engine::{Event, Kind};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::{Kafka, NewTopic, Topic};
use nearfield_events::registry::ReleasedSchemas;
use nearfield_events::{Decoder, FeatureRow, StreamEvent};
use nearfield_services::{Server, streams_are_off};
use nearfield_trainer::features::Rows;
use nearfield_trainer::recorded::Recorded;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 3;
const FEATURES: SchemaId = SchemaId(3);
const WITHIN: Duration = Duration::from_secs(10);

fn trainer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearfield-trainer")).args(arguments).output().unwrap()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Events of 20 people, with what was known around some of them.
fn file(path: &Path, events: usize) -> Vec<StreamEvent> {
    let mut text = String::from("user,item,timestamp,event,session,price,category,utc_offset_minutes\n");
    for index in 0..events {
        let (user, item, time) = (index * 7 % 20, index * 31 % 40, 1_700_000_000 + index);
        let kind = ["view", "cart", "purchase"][index % 3];
        let session = if index % 4 == 0 { "s" } else { "" };
        let price = if index % 5 == 0 { String::new() } else { format!("{}.25", item * 3) };
        text += &format!("user-{user},i{item},{time},{kind},{session},{price},c{},60\n", item % 4);
    }
    fs::write(path, &text).unwrap();
    let mut recorded = Recorded::open(text.as_bytes()).unwrap();
    std::iter::from_fn(|| recorded.next().unwrap()).collect()
}

async fn topic(name: &str) -> (Arc<Server>, Kafka) {
    let server = Server::shared_kafka().unwrap_or_else(|error| panic!("{error}"));
    let kafka = Kafka::of(&server.endpoint(), None, None).unwrap();
    kafka.create(&[NewTopic { name, partitions: PARTITIONS, replicas: 1 }]).await.unwrap();
    (server, kafka)
}

/// Reads what a topic has now: key and value of each record, in the order of its partition.
fn records(kafka: &Kafka, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let consumer: BaseConsumer = kafka.client(&[("group.id", "reader")]).create().unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in 0..PARTITIONS {
        let (_, end) = consumer.fetch_watermarks(topic, partition, WITHIN).unwrap();
        if end > 0 {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            left.insert(partition, end);
        }
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    while !left.is_empty() {
        let message = consumer.poll(WITHIN).unwrap().unwrap();
        records.push((message.key().unwrap().to_vec(), message.payload().unwrap().to_vec()));
        if message.offset() + 1 >= left[&message.partition()] {
            left.remove(&message.partition());
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_events_arrive_as_they_were_recorded() {
    if streams_are_off() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    let events = file(&path, 1000);
    let mut expected: BTreeMap<String, Vec<StreamEvent>> = BTreeMap::new();
    events.iter().for_each(|event| expected.entry(event.user_id.clone()).or_default().push(event.clone()));
    for (name, format) in
        [("replayed-avro", "avro"), ("replayed-protobuf", "protobuf"), ("replayed=json", "avro")]
    {
        let Topic { name: bare, framing } = Topic::parse(name).unwrap();
        let (server, kafka) = topic(&bare).await;
        let file = path.to_str().unwrap();
        let broker = server.endpoint();
        let arguments = ["replay", "--to", "kafka", file, "--kafka", &broker, "--kafka-topic", name];
        succeeded(&trainer(&[&arguments[..], &["--kafka-format", format]].concat()));

        let decoder = Decoder::new(framing, Arc::new(ReleasedSchemas));
        let mut found: BTreeMap<String, Vec<StreamEvent>> = BTreeMap::new();
        for (key, value) in records(&kafka, &bare) {
            let event = decoder.decode(Some(&key), &value, 1_800_000_000_000).await.unwrap();
            found.entry(event.user_id.clone()).or_default().push(event);
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_its_pace_and_its_limit() {
    if streams_are_off() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    file(&path, 1000);
    let (server, kafka) = topic("paced").await;
    let started = Instant::now();
    let broker = server.endpoint();
    let arguments = ["replay", "--to", "kafka", path.to_str().unwrap(), "--kafka", &broker];
    let paced = ["--kafka-topic", "paced", "--speed", "50", "--limit", "101"];
    succeeded(&trainer(&[&arguments[..], &paced].concat()));
    // A hundred seconds between the first and the last one, fifty times faster.
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(records(&kafka, "paced").len(), 101);

    let output = trainer(&[&arguments[..], &["--kafka-topic", "nowhere"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("kafka has no topic \"nowhere\""), "{said}");
}

fn offsets_of(file: &Path) -> Vec<i64> {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        row.get_column_iter().find(|(name, _)| *name == "offset").unwrap().1.to_string().parse().unwrap()
    })
    .collect()
}

/// Appends rows of a partition; an offset without features forgets.
fn publish(kafka: &Kafka, topic: &str, rows: &[(i64, Option<&str>)]) {
    let producer: ThreadedProducer<DefaultProducerContext> = kafka.producer().create().unwrap();
    for (offset, user) in rows {
        let event = Event::new(Kind::View, "tent", 1_700_000_000_000);
        let row = FeatureRow::new(user.unwrap_or("ann"), &event, 0, *offset, Features::default());
        let value = row.encode(FEATURES);
        let mut record = BaseRecord::<str, [u8]>::to(topic).key(&row.user_id).partition(0);
        record.payload = user.map(|_| &value[..]);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(WITHIN).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn features_of_a_topic_become_files_each_once_and_without_the_forgotten() {
    if streams_are_off() {
        return;
    }
    let (server, kafka) = topic("ranker-features").await;
    let folder = tempfile::tempdir().unwrap();
    let (out, baseline) = (folder.path().join("features"), folder.path().join("baseline.json"));
    let (broker, folder) = (server.endpoint(), out.to_str().unwrap());
    let arguments =
        ["features", "--from", "kafka", "--kafka", &broker, "--kafka-features", "ranker-features"];
    let arguments = [&arguments[..], &["--out", folder]].concat();

    publish(
        &kafka,
        "ranker-features",
        &[(10, Some("bob")), (11, Some("ann")), (10, Some("bob")), (12, None)],
    );
    let with_baseline = [&arguments[..], &["--baseline", baseline.to_str().unwrap()]].concat();
    succeeded(&trainer(&with_baseline));
    assert_eq!(offsets_of(&out.join("features-0-0-3.parquet")), [10]);
    let read: Baseline = serde_json::from_slice(&fs::read(&baseline).unwrap()).unwrap();
    assert_eq!((read.events, read.check()), (1, Ok(())));

    // What is there already stays; what came since is another file.
    publish(&kafka, "ranker-features", &[(13, Some("cid"))]);
    succeeded(&trainer(&arguments));
    assert_eq!(offsets_of(&out.join("features-0-4-4.parquet")), [13]);
    succeeded(&trainer(&arguments));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn features_of_a_file_are_those_of_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("events.csv"), folder.path().join("features.parquet"));
    let baseline = folder.path().join("baseline.json");
    file(&path, 500);
    let arguments = ["features", path.to_str().unwrap(), "--out", out.to_str().unwrap(), "--baseline"];
    succeeded(&trainer(&[&arguments[..], &[baseline.to_str().unwrap()]].concat()));
    assert_eq!(offsets_of(&out), (0..500).collect::<Vec<i64>>());
    let mut rows = Rows::new(Recorded::open(File::open(&path).unwrap()).unwrap());
    let features: Vec<Features> =
        std::iter::from_fn(|| rows.next().unwrap()).map(|row| row.features).collect();
    let read: Baseline = serde_json::from_slice(&fs::read(&baseline).unwrap()).unwrap();
    assert_eq!(read, Baseline::of(&features));
}
