//! Events through a real Kafka into two edges on one Redis, while one of them is killed and another one joins: every
//! user's state is, to the byte, what one process makes of the events in order.
//!
//! `NEARFIELD_EVENTS` names a CSV of user, item and timestamp in seconds (5,000 events of 400 users are generated).

mod support;

use nearfield_edge::redis::Redis;
use nearfield_edge::users::UserStore;
use nearfield_edge::users::redis::RedisUsers;
use nearfield_engine::{Event, Kind, Model, UserState};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::{Kafka, NewTopic};
use nearfield_events::{Context, Encoder, StreamEvent};
use nearfield_services::{Server, streams_are_off};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};
use support::Fleet;

const TOPIC: &str = "events";
const DEAD_LETTERS: &str = "nearfield.dead-letters";
const PARTITIONS: i32 = 8;
/// How the events are written, by turns.
const ENCODERS: [Encoder; 2] = [Encoder::Avro(SchemaId(1)), Encoder::Protobuf(SchemaId(2))];
const APPLIED: &str = r#"nearfield_edge_events_total{outcome="applied"}"#;
/// Longest wait for something to happen.
const WITHIN: Duration = Duration::from_secs(300);

fn events() -> Vec<StreamEvent> {
    let event = |user: &str, item: &str, time_ms: u64, index: usize| StreamEvent {
        user_id: user.to_owned(),
        event: Event::new([Kind::View, Kind::Click, Kind::Cart][index % 3], item, time_ms),
        query: None,
        context: Context::default(),
    };
    let Some(file) = std::env::var_os("NEARFIELD_EVENTS") else {
        let one = |index: usize| {
            let (user, item) = (index * 7919 % 400, index * 31 % 40);
            event(
                &format!("user-{user}"),
                &format!("i{item}"),
                1_700_000_000_000 + index as u64 * 1000,
                index,
            )
        };
        return (0..5000).map(one).collect();
    };
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut text = String::new();
    if file.to_string_lossy().ends_with(".gz") {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    let lines = text.lines().skip(1).enumerate();
    let read = lines.map(|(index, line)| {
        let mut fields = line.split(',');
        let mut field = || fields.next().unwrap_or_else(|| panic!("line {}: {line}", index + 2));
        let (user, item, seconds): (_, _, u64) = (field(), field(), field().parse().unwrap());
        event(user, item, seconds * 1000, index)
    });
    read.collect()
}

/// Produces everything, as fast as the brokers take it; returns the offset of each user's last event.
async fn produce(broker: String, events: Vec<StreamEvent>) -> HashMap<String, i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker).set("enable.idempotence", "true").set("acks", "all");
    let producer: FutureProducer = config.create().unwrap();
    let mut sent = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let value = ENCODERS[index % 2].encode(&event);
        let mut record = FutureRecord::to(TOPIC).key(&event.user_id).payload(&value);
        let delivery = loop {
            match producer.send_result(record) {
                Ok(delivery) => break delivery,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err((error, _)) => panic!("{error}"),
            }
        };
        sent.push((event.user_id, delivery));
    }
    let mut last = HashMap::new();
    for (user, delivery) in sent {
        last.insert(user, delivery.await.unwrap().unwrap().offset);
    }
    last
}

/// Waits until edges have taken in so many events.
async fn applied(fleet: &Fleet, edges: &[&str], count: u64) {
    let started = Instant::now();
    loop {
        let mut sum = 0;
        for edge in edges {
            sum += fleet.metric(edge, APPLIED).await;
        }
        if sum >= count {
            return;
        }
        assert!(started.elapsed() < WITHIN, "{sum} of {count} events were taken in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_edge_and_a_new_one_leave_every_state_as_one_process_would() {
    if streams_are_off() {
        return;
    }
    let events = events();
    let fleet = Fleet::trained();
    let redis = Server::redis().unwrap_or_else(|error| panic!("{error}"));
    let kafka = Server::kafka().unwrap_or_else(|error| panic!("{error}"));
    let topics = [(TOPIC, PARTITIONS), (DEAD_LETTERS, 1)].map(|(name, partitions)| NewTopic {
        name,
        partitions,
        replicas: 1,
    });
    Kafka::of(&kafka.endpoint(), None, None).unwrap().create(&topics).await.unwrap();
    let settings = fleet.folder.path().join("kafka.settings");
    fs::write(&settings, "# A member that is gone is noticed soon.\nsession.timeout.ms=2000\n").unwrap();
    let (users, broker) = (format!("redis://{}", redis.endpoint()), kafka.endpoint());
    let streams = ["--users", &users, "--consume", "kafka", "--kafka", &broker, "--kafka-topic", TOPIC];
    let streams = [&streams[..], &["--kafka-settings", settings.to_str().unwrap()]].concat();

    // Central gives the model, and is away from then on: no delta changes a state.
    let central = fleet.central();
    let (_north, north) = fleet.edge_with("north", &streams);
    let (south_process, south) = fleet.edge_with("south", &streams);
    let (west_process, _) = fleet.edge_with("west", &streams);
    drop(west_process);
    drop(central);
    let model = Model::load(&fs::read(fleet.folder.path().join("north/model.pack")).unwrap()).unwrap();

    let started = Instant::now();
    let count = events.len() as u64;
    let producing = tokio::spawn(produce(broker.clone(), events.clone()));
    applied(&fleet, &[&south], count / 10).await;
    drop(south_process);
    applied(&fleet, &[&north], count / 4).await;
    let (_west, _) = fleet.edge_with("west", &streams);
    let last = producing.await.unwrap();

    let mut expected: HashMap<String, UserState> = HashMap::new();
    for StreamEvent { user_id, event, .. } in &events {
        expected.entry(user_id.clone()).or_default().learn(&model, event, event.time_ms).unwrap();
    }
    let store = RedisUsers::open(Redis::open(&users).await.unwrap(), "shop", None).await.unwrap();
    let (mut lost, mut doubled, mut other) = (0, 0, 0);
    for (user, expected) in &expected {
        let record = loop {
            let held = store.get(user).await.unwrap();
            match held {
                Some(held) if held.record.positions.iter().any(|at| at.next > last[user]) => {
                    break held.record;
                }
                _ => assert!(started.elapsed() < WITHIN, "{user}: the last event was not taken in"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let state = UserState::from_bytes(&record.state).unwrap();
        lost += expected.len().saturating_sub(state.len());
        doubled += state.len().saturating_sub(expected.len());
        other += usize::from(record.state != expected.to_bytes());
    }
    println!(
        "{count} events of {} users, half Avro, half Protobuf, in {:.1} s with one edge killed and one joining: {lost} \
         lost, {doubled} doubled, {other} states other than one process makes",
        expected.len(),
        started.elapsed().as_secs_f64(),
    );
    assert_eq!((lost, doubled, other), (0, 0, 0));
}
