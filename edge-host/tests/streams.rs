//! Events from a real Kafka: each counted once and in order, whatever happens on the way, and what is no event put
//! aside with its reason.

mod support;

use nearfield_edge::streams::letters::{self, Letter};
use nearfield_edge::streams::{
    ClusterError, Consume, Consumer, Kafka, Produce, PublishFeatures, StreamError, Topic,
};
use nearfield_edge::users::UserStore;
use nearfield_edge::users::redis::RedisUsers;
use nearfield_edge::{Edge, Options, UsersIn, system_now_ms};
use nearfield_engine::features::{Baseline, Features, Profile};
use nearfield_engine::golden::Random;
use nearfield_engine::{Event, Kind, Model, UserState};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::NewTopic;
use nearfield_events::registry::{HttpRegistry, ReleasedSchemas};
use nearfield_events::{Context, Encoder, FeatureRow, Format, StreamEvent, VALUE_BYTES_MAX};
use nearfield_services::{Server, streams_are_off};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{FakeCentral, GROUP, guest};

const AVRO: Encoder = Encoder::Avro(SchemaId(1));
const PROTOBUF: Encoder = Encoder::Protobuf(SchemaId(2));
/// How events are written, by turns.
const ENCODERS: [Encoder; 2] = [AVRO, PROTOBUF];
const FEATURES: SchemaId = SchemaId(3);
const PARTITIONS: i32 = 4;
/// Records that are no events.
const HOSTILE: usize = 10_000;

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
        let dead_letters = format!("{name}.dead-letters");
        let kafka = Kafka {
            brokers: self.0.endpoint(),
            registry: Arc::new(ReleasedSchemas),
            settings: vec![("session.timeout.ms".to_owned(), "2000".to_owned())],
        };
        let topics = [(name, PARTITIONS), (&dead_letters, 1)].map(|(name, partitions)| NewTopic {
            name,
            partitions,
            replicas: 1,
        });
        kafka.create(&topics).await.unwrap();
        Consume {
            kafka,
            group: format!("{name}-group"),
            topics: vec![Topic::parse(name).unwrap()],
            dead_letters,
            features: None,
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
        let value = ENCODERS[index % 2].encode(event);
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

/// Reads the dead letters that are there now.
async fn dead_letters(kafka: &Consume) -> Vec<Letter> {
    let (brokers, topic) = (kafka.kafka.clone(), kafka.dead_letters.clone());
    let read = move || {
        let mut letters = Vec::new();
        letters::list(&brokers, &topic, |letter| letters.push(letter)).unwrap();
        letters
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// An event of Ann, whose last field is her session.
fn ann(time_ms: u64) -> StreamEvent {
    let session_id = Some("session-of-ann".to_owned());
    event("ann", Event { session_id, ..Event::new(Kind::View, "tent-1", time_ms) })
}

/// A record that is no event: its key and value, and the reason and schema that its dead letter must name.
struct Hostile {
    key: Option<&'static str>,
    value: Vec<u8>,
    reason: &'static str,
    schema: Option<&'static str>,
}

/// Returns the record of one of twelve kinds, with a draw of where it is broken.
fn hostile(index: usize, random: &mut Random) -> Hostile {
    let now = system_now_ms();
    let good = ann(now);
    let (avro, protobuf) = (AVRO.encode(&good), PROTOBUF.encode(&good));
    let cut = |mut value: Vec<u8>, last: usize, random: &mut Random| {
        value.truncate(value.len() - 1 - random.below(last));
        value
    };
    let (key, value, reason, schema) = match index % 12 {
        // The bytes after the head are cut anywhere; in Protobuf, where any field may be absent, within the last one.
        0 => (Some("ann"), cut(avro.clone(), avro.len() - 6, random), "malformed", Some("1")),
        1 => (Some("ann"), cut(protobuf, "session-of-ann".len(), random), "malformed", Some("2")),
        2 => (Some("ann"), avro[..random.below(5)].to_vec(), "frame", None),
        3 => (Some("ann"), [&[0, 0, 0, 0, 99], &avro[5..]].concat(), "unknown_schema", Some("99")),
        // A text of a negative length, and a text where the time belongs.
        4 => (Some("ann"), [&avro[..5], &[1], &avro[6..]].concat(), "malformed", Some("1")),
        5 => {
            let text = [0x22, 3, b'n', b'o', b'w'];
            (Some("ann"), [&protobuf[..], &text].concat(), "malformed", Some("2"))
        }
        6 => (Some("ann"), vec![0; VALUE_BYTES_MAX + 1 + random.below(10_000)], "too_large", Some("0")),
        7 => {
            let late = ann(now + (2 + random.below(1000) as u64) * 86_400_000);
            (Some("ann"), ENCODERS[random.below(2)].encode(&late), "future", None)
        }
        // The last one of a field that is there twice counts.
        8 => {
            let kind = 9 + random.below(100) as u8;
            (Some("ann"), [&protobuf[..], &[0x10, kind]].concat(), "unknown_kind", Some("2"))
        }
        9 => {
            let mut wrong = ann(now);
            match random.below(3) {
                0 => wrong.event.item_id = String::new(),
                1 => wrong.event.value = Some(f32::NAN),
                _ => wrong.context.price = Some(-1.0),
            }
            (Some("ann"), PROTOBUF.encode(&wrong), "field", Some("2"))
        }
        10 => (Some("bob"), avro.clone(), "key", Some("1")),
        _ => (None, avro.clone(), "key", Some("1")),
    };
    let schema = if reason == "future" { Some(if value[4] == 1 { "1" } else { "2" }) } else { schema };
    Hostile { key, value, reason, schema }
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

/// Events with what was known around them, many of them without one thing or another.
fn events_with_context(users: usize, count: usize) -> Vec<StreamEvent> {
    let mut random = Random(23);
    let mut events = events(users, count);
    for event in &mut events {
        let mut known = |text: &str| (random.below(4) > 0).then(|| text.to_owned());
        let (device, referrer) = (known("phone"), known("https://www.bing.com/search?q=tent"));
        let category = known(&event.event.item_id[..3]);
        event.context = Context {
            utc_offset_minutes: (random.below(3) > 0).then(|| random.below(1200) as i32 - 600),
            device,
            referrer,
            price: (random.below(5) > 0).then(|| random.below(30_000) as f64 / 100.0),
            category,
        };
        if random.below(10) == 0 {
            event.event = Event { item_id: String::new(), kind: Kind::Search, ..event.event.clone() };
        }
    }
    events
}

/// Reads the rows of a topic of features that are there now: user → row, `None` where the user is forgotten.
async fn feature_rows(broker: &Broker, topic: &str) -> Vec<(String, Option<FeatureRow>)> {
    let (mut config, topic) = (broker.config(), topic.to_owned());
    let read = move || {
        let consumer: BaseConsumer = config.set("group.id", "rankers").create().unwrap();
        let (mut from, mut left) = (TopicPartitionList::new(), BTreeMap::new());
        for number in 0..PARTITIONS {
            let (_, end) = consumer.fetch_watermarks(&topic, number, Duration::from_secs(10)).unwrap();
            if end > 0 {
                from.add_partition_offset(&topic, number, Offset::Beginning).unwrap();
                left.insert(number, end);
            }
        }
        consumer.assign(&from).unwrap();
        let mut rows = Vec::new();
        while !left.is_empty() {
            let message = consumer.poll(Duration::from_secs(10)).expect("there are rows left").unwrap();
            let user = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            let row = message.payload().map(|value| FeatureRow::decode(value, FEATURES).unwrap());
            rows.push((user, row));
            if message.offset() + 1 >= left[&message.partition()] {
                left.remove(&message.partition());
            }
        }
        rows
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_those_of_one_process_and_each_is_published() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let folder = tempfile::tempdir().unwrap();
    let edge = central.edge(folder.path()).await;
    let events = events_with_context(30, 2000);
    let mut expected: BTreeMap<String, Vec<Features>> = BTreeMap::new();
    let mut profiles: BTreeMap<String, Profile> = BTreeMap::new();
    for StreamEvent { user_id, event, context, .. } in &events {
        let features = profiles.entry(user_id.clone()).or_default().observe(event, context);
        expected.entry(user_id.clone()).or_default().push(features);
    }
    // In training everything cost a tenth, and nobody was without a price.
    let trained = expected.values().flatten().map(|features| {
        let price = Some(features.price.unwrap_or(100.0) / 10.0);
        Features { price, ..features.clone() }
    });
    let baseline = Baseline::of(&trained.collect::<Vec<_>>());

    let mut consume = broker.topic("featured").await;
    let topic = broker.topic("features").await.topics[0].name.clone();
    let subject = "features-value".to_owned();
    // One window of all events: in which order partitions are read, and so what half of them has, is open.
    let publish =
        PublishFeatures { topic: topic.clone(), subject, baseline: Some(baseline), window_events: 2000 };
    consume.features = Some(publish);
    let consumer = Consumer::start(Arc::clone(&edge), consume.clone()).await.unwrap();
    produce_all(&broker, "featured", &events).await;
    consumed(&broker, &consume).await;
    consumer.stop().await;

    let mut found: BTreeMap<String, BTreeMap<i64, Features>> = BTreeMap::new();
    for (user, row) in feature_rows(&broker, &topic).await {
        let row = row.unwrap();
        assert_eq!(row.user_id, user);
        assert_eq!(found.entry(user).or_default().insert(row.offset, row.features), None, "published once");
    }
    let in_order = |rows: BTreeMap<i64, Features>| rows.into_values().collect::<Vec<_>>();
    let found: BTreeMap<String, Vec<Features>> =
        found.into_iter().map(|(user, rows)| (user, in_order(rows))).collect();
    assert_eq!(found, expected);

    let metrics = edge.metrics_text();
    let counted = |feature: &str, reason: &str| {
        metrics.contains(&format!(
            r#"nearfield_edge_feature_failures_total{{feature="{feature}",reason="{reason}"}}"#
        ))
    };
    assert!(metrics.contains("nearfield_edge_feature_rows_total 2000"), "{metrics}");
    for reason in ["range", "missing", "drift"] {
        assert!(counted("price", reason), "{reason}: {metrics}");
        assert!(!counted("session_events", reason), "{reason}: {metrics}");
    }

    // Everything comes again: what the records have of their last step is told again, as it was.
    let again = Consume { group: "featured-again".to_owned(), ..consume.clone() };
    let consumer = Consumer::start(Arc::clone(&edge), again.clone()).await.unwrap();
    consumed(&broker, &again).await;
    let rows = feature_rows(&broker, &topic).await;
    assert!(rows.len() > events.len(), "the last step of each user comes twice");
    let mut places = BTreeMap::new();
    for (_, row) in rows {
        let row = row.unwrap();
        let before = places.entry((row.partition, row.offset)).or_insert_with(|| row.clone());
        assert_eq!(*before, row);
    }
    assert_eq!(places.len(), events.len());

    // Who is forgotten is forgotten here, too.
    produce(&broker.producer(), "featured", Some("user-1"), None).await;
    consumed(&broker, &again).await;
    consumer.stop().await;
    let rows = feature_rows(&broker, &topic).await;
    assert!(matches!(rows.iter().rfind(|(user, _)| user == "user-1"), Some((_, None))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_becomes_a_dead_letter_with_its_reason() {
    if streams_are_off() {
        return;
    }
    let (broker, central) = (Broker::open(), FakeCentral::start());
    let folder = tempfile::tempdir().unwrap();
    let edge = central.edge(folder.path()).await;
    let mut consume = broker.topic("hostile").await;
    // Nobody comes or goes, so each letter is written once.
    consume.kafka.settings.clear();
    let good = events(10, HOSTILE / 100);
    let expected_states = replay(&central.shared.lock().unwrap().model, &good);
    let consumer = Consumer::start(Arc::clone(&edge), consume.clone()).await.unwrap();

    let (producer, mut random) = (broker.producer(), Random(11));
    let hostile: Vec<Hostile> = (0..HOSTILE).map(|index| hostile(index, &mut random)).collect();
    let mut sent = Vec::new();
    for (index, Hostile { key, value, .. }) in hostile.iter().enumerate() {
        let mut record = FutureRecord::<str, [u8]>::to("hostile").payload(value);
        record.key = *key;
        sent.push(producer.send_result(record).unwrap());
        if index % 100 == 0 {
            let good = &good[index / 100];
            let value = ENCODERS[index / 100 % 2].encode(good);
            produce(&producer, "hostile", Some(&good.user_id), Some(&value)).await;
        }
    }
    let mut expected = BTreeMap::new();
    for (hostile, delivery) in hostile.iter().zip(sent) {
        let at = delivery.await.unwrap().unwrap();
        expected.insert((at.partition.to_string(), at.offset.to_string()), hostile);
    }
    consumed(&broker, &consume).await;

    let letters = dead_letters(&consume).await;
    assert_eq!(letters.len(), HOSTILE);
    for letter in &letters {
        let (topic, partition, offset) = letter.origin.clone();
        let hostile =
            expected.remove(&(partition, offset)).unwrap_or_else(|| panic!("{letter:?} was not sent"));
        assert_eq!(
            (topic.as_str(), letter.reason.as_str()),
            ("hostile", hostile.reason),
            "{}",
            letter.message
        );
        assert_eq!(letter.schema.as_deref(), hostile.schema, "{}", letter.message);
        assert_eq!(letter.key.as_deref(), hostile.key.map(str::as_bytes));
        assert_eq!(letter.value.as_ref(), Some(&hostile.value));
        assert!(!letter.message.is_empty());
    }
    let keys = hostile.iter().filter(|hostile| hostile.reason == "key").count();
    let metrics = edge.metrics_text();
    let counted = format!(r#"nearfield_edge_dead_letters_total{{reason="key"}} {keys}"#);
    assert!(metrics.contains(&counted), "{metrics}");
    assert!(metrics.contains("nearfield_edge_stream_lag_seconds{"), "{metrics}");
    // Nothing else changed: the users who sent events have just those, and nobody else is there.
    for (user, state) in &expected_states {
        let (kept, _) = edge.export(user).await.unwrap();
        assert_eq!(kept.history.len(), UserState::from_bytes(state).unwrap().len(), "{user}");
    }
    assert!(edge.export("ann").await.is_err());
    assert!(edge.export("bob").await.is_err());
    produce(&producer, "hostile", Some("ann"), Some(&AVRO.encode(&ann(system_now_ms())))).await;
    consumed(&broker, &consume).await;
    assert_eq!(edge.export("ann").await.unwrap().0.history.len(), 1);

    // What is sent back goes to where it came from, once; nothing was mended, so it is put aside again.
    consumer.stop().await;
    let (brokers, aside) = (consume.kafka.clone(), consume.dead_letters.clone());
    let replay = move || [(); 2].map(|()| letters::replay(&brokers, &aside, "key").unwrap());
    assert_eq!(tokio::task::spawn_blocking(replay).await.unwrap(), [keys as u64, 0]);
    let consumer = Consumer::start(Arc::clone(&edge), consume.clone()).await.unwrap();
    consumed(&broker, &consume).await;
    let again = dead_letters(&consume).await;
    assert_eq!(again.iter().filter(|letter| letter.reason == "key").count(), 2 * keys);

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
    assert!(
        matches!(&error, StreamError::Cluster(ClusterError::NoTopic { topic }) if topic == "nowhere"),
        "{error}"
    );
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
