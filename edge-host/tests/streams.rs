//! Events from a real Kafka: each counted once and in order, whatever happens on the way, and what is no event put
//! aside with its reason.

mod support;

use nearfield_edge::streams::letters;
use nearfield_edge::streams::{Consume, Consumer, Kafka, Produce, StreamError, Topic};
use nearfield_edge::users::UserStore;
use nearfield_edge::users::redis::RedisUsers;
use nearfield_edge::{Edge, Options, UsersIn, system_now_ms};
use nearfield_engine::golden::Random;
use nearfield_engine::{Event, Kind, Model, UserState};
use nearfield_events::frame::SchemaId;
use nearfield_events::registry::{HttpRegistry, ReleasedSchemas};
use nearfield_events::{Context, Encoder, Format, StreamEvent};
use nearfield_services::{Server, streams_are_off};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{FakeCentral, GROUP, guest};

const AVRO: Encoder = Encoder::Avro(SchemaId(1));
const PROTOBUF: Encoder = Encoder::Protobuf(SchemaId(2));
const PARTITIONS: i32 = 4;

/// The broker that the tests of this run share.
struct Broker(Arc<Server>);

impl Broker {
    fn open() -> Self {
        Self(Server::shared_kafka().unwrap_or_else(|error| panic!("{error}")))
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.0.endpoint());
        config
    }

    /// Makes a topic and that of its dead letters, of which no other test knows, and returns what consumes it.
    async fn topic(&self, name: &str) -> Consume {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let dead_letters = format!("{name}.dead-letters");
        let topics = [(name, PARTITIONS), (&dead_letters, 1)]
            .map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
        for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
            made.unwrap();
        }
        Consume {
            kafka: Kafka {
                brokers: self.0.endpoint(),
                registry: Arc::new(ReleasedSchemas),
                settings: vec![("session.timeout.ms".to_owned(), "2000".to_owned())],
            },
            group: format!("{name}-group"),
            topics: vec![Topic::parse(name).unwrap()],
            dead_letters,
        }
    }

    fn producer(&self) -> FutureProducer {
        self.config().set("acks", "all").create().unwrap()
    }
}

async fn produce(producer: &FutureProducer, topic: &str, key: Option<&str>, value: Option<&[u8]>) {
    let mut record = FutureRecord::<str, [u8]>::to(topic);
    record.key = key;
    record.payload = value;
    producer.send(record, Duration::from_secs(10)).await.unwrap();
}

fn event(user: &str, event: Event) -> StreamEvent {
    StreamEvent { user_id: user.to_owned(), event, query: None, context: Context::default() }
}

/// Events of some users, in the order in which they happen; every tenth of no item that the model has.
fn events(users: usize, count: usize) -> Vec<StreamEvent> {
    let (mut random, begin) = (Random(7), system_now_ms() - 86_400_000);
    let one = |index: usize| {
        let user = random.below(users);
        let item = match random.below(10) {
            0 => format!("new-{}", random.below(5)),
            _ => format!("{}-{}", ["tent", "boot"][user % 2], random.below(GROUP)),
        };
        let kind = [Kind::View, Kind::Click, Kind::Cart, Kind::Impression][random.below(4)];
        event(&format!("user-{user}"), Event::new(kind, item, begin + index as u64 * 1000))
    };
    (0..count).map(one).collect()
}

/// What the states must be: every event once, in order, without a server.
fn replay(model: &Model, events: &[StreamEvent]) -> BTreeMap<String, Vec<u8>> {
    let mut states: BTreeMap<String, UserState> = BTreeMap::new();
    for StreamEvent { user_id, event, .. } in events {
        let state = states.entry(user_id.clone()).or_default();
        state.learn(model, event, event.time_ms).unwrap();
    }
    states.into_iter().map(|(user, state)| (user, state.to_bytes())).collect()
}

async fn produce_all(broker: &Broker, topic: &str, events: &[StreamEvent]) {
    let producer = broker.producer();
    let mut sent = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let value = if index % 2 == 0 { AVRO } else { PROTOBUF }.encode(event);
        let record = FutureRecord::to(topic).key(&event.user_id).payload(&value);
        let mut record = Some(record);
        loop {
            match producer.send_result(record.take().unwrap()) {
                Ok(delivery) => break sent.push(delivery),
                Err((_, again)) => {
                    record = Some(again);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
    for delivery in sent {
        delivery.await.unwrap().unwrap();
    }
}

/// Waits until a group has committed everything of a topic.
async fn consumed(broker: &Broker, kafka: &Consume) {
    let mut config = broker.config();
    let (group, topic) = (kafka.group.clone(), kafka.topics[0].name.clone());
    let wait = move || {
        let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, PARTITIONS - 1);
        loop {
            let committed = consumer.committed_offsets(list.clone(), Duration::from_secs(10)).unwrap();
            let behind = committed.elements().into_iter().any(|place| {
                let (_, end) =
                    consumer.fetch_watermarks(&topic, place.partition(), Duration::from_secs(10)).unwrap();
                end > 0 && place.offset() != Offset::Offset(end)
            });
            if !behind {
                return;
            }
            assert!(Instant::now() < until, "{committed:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    tokio::task::spawn_blocking(wait).await.unwrap();
}

/// Reads the dead letters: origin's offset → reason, schema id and message.
async fn dead_letters(
    broker: &Broker,
    kafka: &Consume,
    count: usize,
) -> Vec<(String, Option<String>, String)> {
    let mut config = broker.config();
    let topic = kafka.dead_letters.clone();
    let read = move || {
        let consumer: BaseConsumer = config.set("group.id", "reader").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut letters = Vec::new();
        let until = Instant::now() + Duration::from_secs(30);
        while letters.len() < count && Instant::now() < until {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
            let headers = message.headers().unwrap();
            let header = |key: &str| {
                let found = headers.iter().find(|header| header.key == key)?;
                Some(String::from_utf8(found.value?.to_vec()).unwrap())
            };
            let reason = header("nearfield-reason").unwrap();
            letters.push((reason, header("nearfield-schema-id"), header("nearfield-message").unwrap()));
        }
        letters
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn on_redis(central: &FakeCentral, data: &std::path::Path, redis: &Server) -> Options {
    let address = format!("redis://{}", redis.endpoint());
    Options { users: UsersIn::Redis { address, keep: None }, ..central.options(data) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_counts_once_although_members_come_and_go() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let redis = Server::redis().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut edges = Vec::new();
    for folder in &folders {
        let options = on_redis(&central, folder.path(), &redis);
        edges.push(Edge::start(options, &guest()).await.unwrap_or_else(|error| panic!("{error}")));
    }
    let kafka = broker.topic("members").await;
    let events = events(100, 5000);
    let expected = replay(&central.shared.lock().unwrap().model, &events);

    let first = Consumer::start(Arc::clone(&edges[0]), kafka.clone()).await.unwrap();
    let half = events.len() / 2;
    produce_all(&broker, "members", &events[..half]).await;
    // A second member takes partitions over, and the first one leaves, both while events come.
    let second = Consumer::start(Arc::clone(&edges[1]), kafka.clone()).await.unwrap();
    produce_all(&broker, "members", &events[half..]).await;
    first.stop().await;
    consumed(&broker, &kafka).await;
    second.stop().await;

    let store = redis::open(&redis).await;
    for (user, state) in &expected {
        let record = store.get(user).await.unwrap().unwrap().record;
        assert_eq!(&record.state, state, "{user}");
    }

    // Everything comes again, for a group that has not seen it: nothing changes.
    let again = Consume { group: "members-again".to_owned(), ..kafka };
    let third = Consumer::start(Arc::clone(&edges[0]), again.clone()).await.unwrap();
    consumed(&broker, &again).await;
    third.stop().await;
    for (user, state) in &expected {
        let record = store.get(user).await.unwrap().unwrap().record;
        assert_eq!(&record.state, state, "{user} after a replay");
    }
}

mod redis {
    use super::*;

    pub(crate) async fn open(server: &Server) -> RedisUsers {
        let redis =
            nearfield_edge::redis::Redis::open(&format!("redis://{}", server.endpoint())).await.unwrap();
        RedisUsers::open(redis, support::SITE, None).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_becomes_a_dead_letter_with_its_reason() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let folder = tempfile::tempdir().unwrap();
    let edge = central.edge(folder.path()).await;
    let consume = broker.topic("hostile").await;
    let good = event("ann", Event::new(Kind::View, "tent-1", system_now_ms()));
    let avro = AVRO.encode(&good);
    let late = event("ann", Event::new(Kind::View, "tent-1", system_now_ms() + 10 * 86_400_000));
    let foreign = [&[0, 0, 0, 0, 99][..], &avro[5..]].concat();
    type Hostile = (Option<&'static str>, Vec<u8>, &'static str, Option<&'static str>);
    let hostile: [Hostile; 7] = [
        (Some("ann"), avro[..9].to_vec(), "malformed", Some("1")),
        (Some("ann"), foreign, "unknown_schema", Some("99")),
        (Some("ann"), b"{}".to_vec(), "frame", None),
        (Some("ann"), vec![0; 100_000], "too_large", Some("0")),
        (Some("ann"), PROTOBUF.encode(&late), "future", Some("2")),
        (Some("bob"), avro.clone(), "key", Some("1")),
        (None, avro.clone(), "key", Some("1")),
    ];
    let producer = broker.producer();
    let consumer = Consumer::start(Arc::clone(&edge), consume.clone()).await.unwrap();
    for (key, value, ..) in &hostile {
        produce(&producer, "hostile", *key, Some(value)).await;
    }
    produce(&producer, "hostile", Some("ann"), Some(&avro)).await;
    consumed(&broker, &consume).await;

    let mut found = dead_letters(&broker, &consume, hostile.len()).await;
    let mut expected: Vec<(String, Option<String>)> = hostile
        .iter()
        .map(|(_, _, reason, schema)| ((*reason).to_owned(), schema.map(str::to_owned)))
        .collect();
    found.sort();
    expected.sort();
    assert!(found.iter().all(|(_, _, message)| !message.is_empty()));
    assert_eq!(found.into_iter().map(|(reason, schema, _)| (reason, schema)).collect::<Vec<_>>(), expected);
    let metrics = edge.metrics_text();
    assert!(metrics.contains(r#"nearfield_edge_dead_letters_total{reason="key"} 2"#), "{metrics}");
    let (kept, _) = edge.export("ann").await.unwrap();
    assert_eq!(kept.history.len(), 1);
    assert!(edge.export("bob").await.is_err());

    // What is sent back goes to where it came from, once; nothing was mended, so it is put aside again.
    consumer.stop().await;
    let (brokers, aside) = (consume.kafka.clone(), consume.dead_letters.clone());
    let replay = move || [(); 2].map(|()| letters::replay(&brokers, &aside, "key").unwrap());
    assert_eq!(tokio::task::spawn_blocking(replay).await.unwrap(), [2, 0]);
    let consumer = Consumer::start(Arc::clone(&edge), consume.clone()).await.unwrap();
    consumed(&broker, &consume).await;
    let again = dead_letters(&broker, &consume, hostile.len() + 2).await;
    assert_eq!(again.iter().filter(|(reason, ..)| reason == "key").count(), 4);

    // A record without a value forgets the user.
    produce(&producer, "hostile", Some("ann"), None).await;
    consumed(&broker, &consume).await;
    assert!(edge.export("ann").await.is_err());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_are_away_stop_the_stream_and_lose_nothing() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let mut redis = Server::redis().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(on_redis(&central, folder.path(), &redis), &guest())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let kafka = broker.topic("away").await;
    let events = events(20, 400);
    let expected = replay(&central.shared.lock().unwrap().model, &events);
    let consumer = Consumer::start(Arc::clone(&edge), kafka.clone()).await.unwrap();
    produce_all(&broker, "away", &events[..200]).await;
    redis.kill();
    produce_all(&broker, "away", &events[200..]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.up().unwrap();
    consumed(&broker, &kafka).await;
    consumer.stop().await;
    let store = redis::open(&redis).await;
    for (user, state) in &expected {
        assert_eq!(&store.get(user).await.unwrap().unwrap().record.state, state, "{user}");
    }
    assert!(!edge.metrics_text().contains("nearfield_edge_dead_letters_total{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_or_topic_that_is_not_there_stops_the_start() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let folder = tempfile::tempdir().unwrap();
    let edge = central.edge(folder.path()).await;
    let consume = broker.topic("there").await;
    let elsewhere = Consume { topics: vec![Topic::parse("nowhere").unwrap()], ..consume.clone() };
    let error = Consumer::start(Arc::clone(&edge), elsewhere).await.err().unwrap();
    assert!(matches!(&error, StreamError::NoTopic { topic } if topic == "nowhere"), "{error}");
    let with = |kafka| Consume { kafka, ..consume.clone() };
    let away = Kafka { brokers: "127.0.0.1:1".to_owned(), ..consume.kafka.clone() };
    let error = Consumer::start(Arc::clone(&edge), with(away)).await.err().unwrap();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    let registry = Arc::new(HttpRegistry::new("http://127.0.0.1:1/").unwrap());
    let error = Consumer::start(Arc::clone(&edge), with(Kafka { registry, ..consume.kafka.clone() })).await;
    assert!(matches!(error.err().unwrap(), StreamError::Registry(_)));
    let settings = vec![("no.such.setting".to_owned(), "1".to_owned())];
    let error = Consumer::start(edge, with(Kafka { settings, ..consume.kafka.clone() })).await.err().unwrap();
    assert!(error.to_string().contains("no.such.setting"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_callers_go_through_kafka_and_observe_waits_for_them() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let consume = broker.topic("callers").await;
    for (format, user) in [(Format::Avro, "ann"), (Format::Protobuf, "bob")] {
        let folder = tempfile::tempdir().unwrap();
        let produce = Produce {
            kafka: consume.kafka.clone(),
            topic: consume.topics[0].clone(),
            format,
            subject: "callers-value".to_owned(),
        };
        let options = Options { produce: Some(produce), ..central.options(folder.path()) };
        let edge = Edge::start(options, &guest()).await.unwrap_or_else(|error| panic!("{error}"));
        let app = nearfield_edge::app(Arc::clone(&edge));

        // Nobody consumes yet: the events are durable, and the list says that it does not know them.
        let view = json!({ "kind": "view", "item_id": "tent-1", "event_id": "e-1" });
        let told = support::learn(&app, user, &json!([view])).await;
        assert_eq!(told, json!({ "applied": 0, "duplicate": 0, "context_only": 0, "sent": 1 }));
        let observe = async |item: &str| {
            let body = json!({ "events": [{ "kind": "view", "item_id": item }], "list": { "count": 3 } });
            let (status, body) =
                support::call(&app, "POST", &format!("/v1/users/{user}/observe"), body.to_string()).await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let early = observe("tent-2").await;
        assert_eq!((&early["list"]["stale"], &early["list"]["rung"]), (&json!(true), &json!("live")));

        let group = format!("callers-{user}");
        let consumer =
            Consumer::start(Arc::clone(&edge), Consume { group, ..consume.clone() }).await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let list = loop {
            let observed = observe("tent-3").await;
            if observed["list"].get("stale").is_none() {
                break observed["list"].clone();
            }
            assert!(Instant::now() < until, "{observed}");
        };
        let items: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap()).collect();
        assert!(items.iter().all(|item| item.starts_with("tent-")), "{items:?}");
        assert!(!items.contains(&"tent-3"), "the list knows the event before it: {items:?}");

        // Forgotten here and in the topic: a replay does not bring the user back.
        assert!(edge.forget(user).await.unwrap());
        let group = format!("callers-{user}-again");
        let again = Consume { group, ..consume.clone() };
        let replay = Consumer::start(Arc::clone(&edge), again.clone()).await.unwrap();
        consumed(&broker, &again).await;
        assert!(edge.export(user).await.is_err());
        replay.stop().await;
        consumer.stop().await;
    }
}
