//! Spark on a real Kafka, beside an edge on the same topic: factors and lists are the same to the bit, also when the job
//! is killed and goes on from its checkpoint.
//!
//! `cargo xtask test --only spark` names Python and jars: `NEARFIELD_SPARK_PYTHON`, `NEARFIELD_SPARK_JARS`.

mod support;

use nearfield_edge::redis::Redis;
use nearfield_edge::users::UserStore;
use nearfield_edge::users::redis::RedisUsers;
use nearfield_engine::golden::Random;
use nearfield_engine::{Context, Event, Kind, Model, UserState, Workspace};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::{Kafka, NewTopic};
use nearfield_events::{Encoder, StreamEvent};
use nearfield_services::{Server, streams_are_off};
use nearfield_trainer::features::Rows;
use nearfield_trainer::recorded::Recorded;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use support::Fleet;

const USERS: usize = 2000;
const EVENTS: usize = 10_000;
const TOPIC: &str = "events";
const LISTS: &str = "lists";
const DEAD_LETTERS: &str = "nearfield.dead-letters";
/// How the events are written, by turns.
const ENCODERS: [Encoder; 2] = [Encoder::Avro(SchemaId(1)), Encoder::Protobuf(SchemaId(2))];
const COUNT: usize = 20;
/// Longest wait for the brokers.
const WITHIN: Duration = Duration::from_secs(10);
/// Longest run of a job.
const JOB_WITHIN: Duration = Duration::from_secs(300);

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test --only spark`"))
        .into()
}

/// A job of the package, as a group of processes: Python, and the Java that it starts.
fn job(arguments: &[&str]) -> Child {
    python(&[&["-m", "nearfield_spark"], arguments].concat())
}

/// A program on Spark, in the same way.
fn python(arguments: &[&str]) -> Child {
    let jars = fs::read_dir(variable("NEARFIELD_SPARK_JARS")).unwrap().map(|entry| entry.unwrap().path());
    let jars = jars.filter(|path| path.extension().is_some_and(|extension| extension == "jar"));
    let jars: Vec<String> = jars.map(|path| path.display().to_string()).collect();
    let submit = format!(
        "--master local[2] --driver-memory 1g --jars {} --conf spark.sql.shuffle.partitions=4 \
         --conf spark.ui.enabled=false pyspark-shell",
        jars.join(",")
    );
    Command::new(variable("NEARFIELD_SPARK_PYTHON"))
        .args(arguments)
        .env("PYSPARK_SUBMIT_ARGS", submit)
        .env("PYSPARK_PYTHON", variable("NEARFIELD_SPARK_PYTHON"))
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Kills a job with all that it has started.
fn kill(mut job: Child) {
    let group = format!("-{}", job.id());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
    job.wait().unwrap();
}

fn finish(mut job: Child) {
    let until = Instant::now() + JOB_WITHIN;
    loop {
        if let Some(status) = job.try_wait().unwrap() {
            assert!(status.success(), "the job ended with {status}");
            return;
        }
        if Instant::now() > until {
            kill(job);
            panic!("the job took longer than {} s", JOB_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn events() -> Vec<StreamEvent> {
    let mut random = Random(5);
    let one = |index: usize| {
        let kind = [Kind::View, Kind::Click, Kind::Cart, Kind::Purchase][random.below(4)];
        let event =
            Event::new(kind, format!("i{}", random.below(40)), 1_700_000_000_000 + index as u64 * 1000);
        let price = (random.below(3) > 0).then(|| random.below(10_000) as f64 / 100.0);
        let context = Context { price, ..Context::default() };
        StreamEvent { user_id: format!("user-{}", index % USERS), event, query: None, context }
    };
    (0..EVENTS).map(one).collect()
}

fn produce(kafka: &Kafka, events: &[StreamEvent]) {
    let producer: ThreadedProducer<DefaultProducerContext> = kafka.producer().create().unwrap();
    for (index, event) in events.iter().enumerate() {
        let value = ENCODERS[index % 2].encode(event);
        producer
            .send(BaseRecord::to(TOPIC).key(&event.user_id).payload(&value))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    // What is no event: a key that is another user's.
    let value = ENCODERS[0].encode(&events[0]);
    producer.send(BaseRecord::to(TOPIC).key("nobody").payload(&value)).map_err(|(error, _)| error).unwrap();
    producer.flush(WITHIN).unwrap();
}

/// Reads a topic of one partition: key and value of each record.
fn records(kafka: &Kafka, topic: &str) -> Vec<(String, Vec<u8>)> {
    let consumer: BaseConsumer = kafka.client(&[("group.id", "reader")]).create().unwrap();
    let (_, end) = consumer.fetch_watermarks(topic, 0, WITHIN).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let (mut records, mut next) = (Vec::new(), 0);
    while next < end {
        let message = consumer.poll(WITHIN).unwrap().unwrap();
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        records.push((key, message.payload().unwrap_or_default().to_vec()));
        next = message.offset() + 1;
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts Spark: cargo xtask test --only spark"]
async fn factors_and_lists_of_spark_are_those_of_the_edge_to_the_bit() {
    if streams_are_off() {
        return;
    }
    let events = events();
    let fleet = Fleet::trained();
    let redis = Server::redis().unwrap_or_else(|error| panic!("{error}"));
    let broker = Server::kafka().unwrap_or_else(|error| panic!("{error}"));
    let kafka = Kafka::of(&broker.endpoint(), None, None).unwrap();
    let topics = [(TOPIC, 4), (DEAD_LETTERS, 1), (LISTS, 1), ("refused", 1)]
        .map(|(name, partitions)| NewTopic { name, partitions, replicas: 1 });
    kafka.create(&topics).await.unwrap();
    let (users, broker) = (format!("redis://{}", redis.endpoint()), broker.endpoint());
    let streams = ["--users", &users, "--consume", "kafka", "--kafka", &broker, "--kafka-topic", TOPIC];
    // Central gives the model, and is away from then on.
    let central = fleet.central();
    let (_edge, edge) = fleet.edge_with("edge", &streams);
    drop(central);
    let pack = fleet.folder.path().join("edge/model.pack");
    produce(&kafka, &events);

    let checkpoint = fleet.folder.path().join("checkpoint");
    let arguments = [
        "stream",
        "--brokers",
        &broker,
        "--topic",
        TOPIC,
        "--pack",
        pack.to_str().unwrap(),
        "--checkpoint",
        checkpoint.to_str().unwrap(),
        "--to-topic",
        LISTS,
        "--dead-letters",
        "refused",
        "--redis",
        &format!("redis://{}/1", redis.endpoint()),
        "--records-at-once",
        "2500",
    ];
    let first = job(&arguments);
    let started = Instant::now();
    // It is in the midst of the topic when it is killed.
    while records(&kafka, LISTS).len() < USERS / 2 {
        assert!(started.elapsed() < JOB_WITHIN, "the job gives no lists");
        std::thread::sleep(Duration::from_millis(200));
    }
    kill(first);
    let before = records(&kafka, LISTS).len();
    assert!(
        before < 2 * USERS,
        "the job was killed too late to be in the midst of the topic: {before} lists"
    );
    finish(job(&[&arguments[..], &["--available-now"]].concat()));

    let mut lists = BTreeMap::new();
    for (user, value) in records(&kafka, LISTS) {
        lists.insert(user, serde_json::from_slice::<Value>(&value).unwrap());
    }
    let store = RedisUsers::open(Redis::open(&users).await.unwrap(), "shop", None).await.unwrap();
    let model = Model::load(&fs::read(&pack).unwrap()).unwrap();
    let mut workspace = Workspace::new();
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let (mut factors, mut ranked) = (0, 0);
    for user in (0..USERS).map(|user| format!("user-{user}")) {
        let told = &lists[&user];
        let record = store.get(&user).await.unwrap().unwrap().record;
        let factor = UserState::from_bytes(&record.state).unwrap().factor(&model, &mut workspace).unwrap();
        let spark: Vec<f32> = told["factor"].as_array().unwrap().iter().map(number).collect();
        let bits = |factor: &[f32]| factor.iter().map(|number| number.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&spark), bits(&factor), "{user} {told}");
        factors += 1;

        let list = fleet.client.get(format!("{edge}/v1/users/{user}/recommendations?count={COUNT}")).send();
        let list: Value = serde_json::from_slice(&list.await.unwrap().bytes().await.unwrap()).unwrap();
        assert_eq!(list["rung"], "live");
        let item =
            |item: &Value| (item["item_id"].as_str().unwrap().to_owned(), number(&item["score"]).to_bits());
        let items = |list: &Value| list["items"].as_array().unwrap().iter().map(item).collect::<Vec<_>>();
        assert_eq!(items(told), items(&list), "{user}");
        assert_eq!(items(told).len(), COUNT.min(items(&list).len()));
        ranked += 1;
    }
    let kept = redis_lists(&format!("redis://{}/1", redis.endpoint()));
    assert_eq!(kept.len(), USERS);
    for (user, told) in &lists {
        let factor =
            |list: &Value| list["factor"].as_array().unwrap().iter().map(number).collect::<Vec<f32>>();
        assert_eq!(factor(&kept[user]), factor(told), "{user}");
        let ids = |list: &Value, id: &dyn Fn(&Value) -> Value| {
            list["items"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&kept[user], &|item| item[0].clone()),
            ids(told, &|item| item["item_id"].clone()),
            "{user}"
        );
    }
    let refused = records(&kafka, "refused");
    assert!(!refused.is_empty() && refused.iter().all(|(key, _)| key == "nobody"), "{refused:?}");
    println!(
        "{factors} factors and {ranked} lists of Spark, killed after {before} lists and gone on, are the edge's to the bit"
    );
}

#[test]
#[ignore = "starts Spark: cargo xtask test --only spark"]
fn features_of_spark_are_those_of_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.csv");
    let mut text =
        String::from("user,item,timestamp,event,session,utc_offset_minutes,device,referrer,price,category\n");
    let mut random = Random(9);
    for index in 0..3000u64 {
        let blank = |value: String, draw: usize| if draw == 0 { String::new() } else { value };
        let (user, item, kind) =
            (random.below(50), random.below(30), ["view", "cart", "purchase"][random.below(3)]);
        let session = blank(format!("s{}", index / 500), random.below(3));
        let offset = blank(format!("{}", random.below(600)), random.below(3));
        let device = blank("Mobile".to_owned(), random.below(2));
        let referrer = blank("https://duckduckgo.com/".to_owned(), random.below(2));
        let price = blank(format!("{}.5", random.below(500)), random.below(4));
        let category = blank(format!("c{}", item % 5), random.below(4));
        let time = 1_700_000_000 + index * 37;
        text += &format!(
            "u{user},i{item},{time},{kind},{session},{offset},{device},{referrer},{price},{category}\n"
        );
    }
    fs::write(&history, &text).unwrap();
    let (features, training) = (folder.path().join("features"), folder.path().join("training"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = [
        "features",
        "--events",
        &path(&history),
        "--features",
        &path(&features),
        "--training",
        &path(&training),
    ];
    finish(job(&arguments));

    let mut rows = Rows::new(Recorded::open(text.as_bytes()).unwrap());
    let mut expected: BTreeMap<(String, i64), _> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        expected.insert((row.user_id.clone(), row.time_ms), row);
    }
    let found = parquet_rows(&features);
    assert_eq!(found.len(), expected.len());
    for row in &found {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let key = (text("user_id").unwrap(), row["time_ms"].as_i64().unwrap());
        let expected = serde_json::to_value(&expected[&key].features).unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&row[name], value, "{name} of {key:?}");
        }
    }
    let part = fs::read_dir(&training).unwrap().map(|entry| entry.unwrap().path());
    let part = part.filter(|path| path.extension().is_some_and(|extension| extension == "csv"));
    let csv = fs::read_to_string(part.into_iter().next().unwrap()).unwrap();
    assert_eq!((csv.lines().next(), csv.lines().count()), (Some("user,item,timestamp,event"), 3001));
}

#[test]
#[ignore = "starts Spark: cargo xtask test --only spark"]
fn factors_of_sparks_als_become_a_model() {
    const TRAIN: &str = "
import sys
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession, functions as f
spark = SparkSession.builder.getOrCreate()
events = spark.read.option('header', True).csv(sys.argv[1])
number = lambda name: f.substring(name, 2, 9).cast('int').alias(name)
pairs = events.select(number('user'), number('item')).groupBy('user', 'item').count()
als = ALS(rank=8, implicitPrefs=True, userCol='user', itemCol='item', ratingCol='count', seed=1)
factors = als.fit(pairs).itemFactors
factors.select(f.concat(f.lit('i'), 'id').alias('item'), 'features').write.parquet(sys.argv[2])
";
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (events, factors, model) = (place("events.csv"), place("factors"), place("model"));
    support::write_events(Path::new(&events));
    finish(python(&["-c", TRAIN, &events, &factors]));
    let imported = ["import", "--factors", &factors, "--events", &events, "--out", &model];
    let output = support::run("nearfield-trainer", &imported);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("40 factors of 8 numbers") && said.contains("as given"), "{said}");
    let model = Model::load(&fs::read(folder.path().join("model/model.pack")).unwrap()).unwrap();
    assert_eq!((model.dim(), model.len()), (8, 40));
    println!("{said}");
}

/// Reads the lists that a job left in Redis: user → list.
fn redis_lists(address: &str) -> BTreeMap<String, Value> {
    const READ: &str = "
import sys, redis
client, prefix = redis.Redis.from_url(sys.argv[1]), 'nearfield:list:'
for key in client.scan_iter(prefix + '*', count=1000):
    print(key.decode().removeprefix(prefix), client.get(key).decode())
";
    let out = Command::new(variable("NEARFIELD_SPARK_PYTHON")).args(["-c", READ, address]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8(out.stdout).unwrap();
    let lists = lines.lines().map(|line| line.split_once(' ').unwrap());
    lists.map(|(user, list)| (user.to_owned(), serde_json::from_str(list).unwrap())).collect()
}

/// Reads what Spark wrote, by the Python that wrote it: rows as JSON, times in milliseconds.
fn parquet_rows(folder: &Path) -> Vec<serde_json::Map<String, Value>> {
    const READ: &str = "
import json, sys, pyarrow.parquet
for row in pyarrow.parquet.read_table(sys.argv[1]).to_pylist():
    row['time_ms'] = round(row['time_ms'].timestamp() * 1000)
    print(json.dumps(row))
";
    let out =
        Command::new(variable("NEARFIELD_SPARK_PYTHON")).args(["-c", READ]).arg(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = String::from_utf8(out.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
