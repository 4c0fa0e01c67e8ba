//! A Kafka cluster, and how it is spoken with: what a service that reads events and a tool that sends them have in
//! common.

use crate::Framing;
use crate::registry::{HttpRegistry, Registry, RegistryError, ReleasedSchemas};
use rdkafka::ClientConfig;
use rdkafka::admin::{self, AdminClient, AdminOptions, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest wait for an answer about topics.
pub const METADATA_WITHIN: Duration = Duration::from_secs(10);

/// Time for which a sender waits before it asks for room again.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// Brokers, and how they are spoken with.
#[derive(Clone)]
pub struct Kafka {
    /// Brokers to begin with, `host:port` separated by commas.
    pub brokers: String,
    /// Where schemas are found.
    pub registry: Arc<dyn Registry>,
    /// Further settings of librdkafka, such as those of SASL.
    pub settings: Vec<(String, String)>,
}

/// A topic of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How its records say what they are written with.
    pub framing: Framing,
}

/// A topic to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions it has: as many consumers share its records at most.
    pub partitions: i32,
    /// How many brokers keep each record.
    pub replicas: i32,
}

/// Why a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A client cannot be made of the settings, or no broker answers.
    #[error("kafka at {brokers}: {error}")]
    Client {
        /// The brokers that were asked.
        brokers: String,
        /// What the client said.
        error: KafkaError,
    },
    /// A topic is not there.
    #[error("kafka has no topic {topic:?}: create it first")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The file of settings cannot be read.
    #[error("{}: {what}", file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the line.
        what: String,
    },
    /// The registry's address is none.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Topic {
    /// Reads `NAME`, or `NAME=json` for a topic whose records are JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, framing) = match text.split_once('=') {
            None => (text, Framing::Confluent),
            Some((name, "json")) => (name, Framing::Json),
            Some((_, other)) => return Err(format!("{other:?} is not json")),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 249 || !name.bytes().all(fits) {
            return Err(format!("{name:?} is no topic: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        Ok(Self { name: name.to_owned(), framing })
    }
}

impl Kafka {
    /// Returns a cluster with the registry of an address (the released schemas without one), and with settings from a
    /// file of librdkafka's names, `name=value` a line.
    ///
    /// # Errors
    /// [`ClusterError::Settings`], [`ClusterError::Registry`].
    pub fn of(brokers: &str, registry: Option<&str>, settings: Option<&Path>) -> Result<Self, ClusterError> {
        let registry: Arc<dyn Registry> = match registry {
            Some(address) => Arc::new(HttpRegistry::new(address)?),
            None => Arc::new(ReleasedSchemas),
        };
        let settings = settings.map(read_settings).transpose()?.unwrap_or_default();
        Ok(Self { brokers: brokers.to_owned(), registry, settings })
    }

    /// Returns what a client of these brokers is made with: what is chosen here, then the operator's settings.
    pub fn client(&self, chosen: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in
            chosen.iter().copied().chain([("bootstrap.servers", self.brokers.as_str())]).chain(settings)
        {
            config.set(name, value);
        }
        config
    }

    /// Returns what a producer is made with whose answer means that the brokers have a record, once, and that gives a
    /// user one partition, whoever produces: the partitioner is that of Kafka's own clients.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client(&[]);
        config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", "murmur2_random");
        config
    }

    /// Returns what makes an error of these brokers.
    pub fn failed(&self) -> impl Fn(KafkaError) -> ClusterError + use<> {
        let brokers = self.brokers.clone();
        move |error| ClusterError::Client { brokers: brokers.clone(), error }
    }

    /// Returns the partitions of a topic, which must be there. This blocks.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn partitions(
        &self,
        client: &Client<impl ClientContext>,
        topic: &str,
    ) -> Result<Vec<i32>, ClusterError> {
        let metadata = client.fetch_metadata(Some(topic), METADATA_WITHIN).map_err(self.failed())?;
        let found =
            metadata.topics().iter().find(|found| found.error().is_none() && !found.partitions().is_empty());
        let found = found.ok_or_else(|| ClusterError::NoTopic { topic: topic.to_owned() })?;
        Ok(found.partitions().iter().map(|partition| partition.id()).collect())
    }

    /// Makes a topic unless it is there; returns whether it was made.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub async fn create_missing(&self, topic: NewTopic<'_>) -> Result<bool, ClusterError> {
        match self.create(&[topic]).await {
            Ok(()) => Ok(true),
            Err(ClusterError::Client {
                error: KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists),
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes topics.
    ///
    /// # Errors
    /// [`ClusterError::Client`], also where one is there already.
    pub async fn create(&self, topics: &[NewTopic<'_>]) -> Result<(), ClusterError> {
        let admin: AdminClient<DefaultClientContext> = self.client(&[]).create().map_err(self.failed())?;
        let topics = topics.iter().map(|NewTopic { name, partitions, replicas }| {
            admin::NewTopic::new(name, *partitions, TopicReplication::Fixed(*replicas))
        });
        let topics: Vec<_> = topics.collect();
        let made = admin.create_topics(&topics, &AdminOptions::new()).await.map_err(self.failed())?;
        made.into_iter().try_for_each(|made| match made {
            Ok(_) => Ok(()),
            Err((_, code)) => Err(self.failed()(KafkaError::AdminOp(code))),
        })
    }
}

/// Sends many records one after another: waits where the client has no more room, and counts what did not arrive.
/// Its calls block.
pub struct Sender {
    producer: ThreadedProducer<Deliveries>,
    lost: Arc<AtomicU64>,
    kafka: Kafka,
}

impl Sender {
    /// Returns a sender to a cluster, with settings such as those of [`Kafka::producer`].
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub fn open(kafka: &Kafka, config: &ClientConfig) -> Result<Self, ClusterError> {
        let lost = Arc::new(AtomicU64::new(0));
        let producer = config.create_with_context(Deliveries(Arc::clone(&lost))).map_err(kafka.failed())?;
        Ok(Self { producer, lost, kafka: kafka.clone() })
    }

    /// Returns the client.
    pub fn client(&self) -> &Client<impl ClientContext + use<>> {
        self.producer.client()
    }

    /// Hands a record over, as soon as there is room.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), ClusterError> {
        while let Err((error, again)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.kafka.failed()(error));
            }
            self.producer.poll(ROOM_WITHIN);
            record = again;
        }
        Ok(())
    }

    /// Returns how many records the brokers have not taken, as far as that is known.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until the brokers have answered for every record; returns how many they have not taken.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub fn flush(&self, within: Duration) -> Result<u64, ClusterError> {
        self.producer.flush(within).map_err(self.kafka.failed())?;
        Ok(self.lost())
    }
}

/// Counts what did not arrive.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn read_settings(file: &Path) -> Result<Vec<(String, String)>, ClusterError> {
    let failed = |what: String| ClusterError::Settings { file: file.to_owned(), what };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let settings =
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
            let pair = line.split_once('=').ok_or_else(|| failed(format!("line {number} is not name=value")));
            pair.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_whether_it_is_of_json() {
        let topic = |text| Topic::parse(text).map(|topic| (topic.name, topic.framing));
        assert_eq!(topic("events"), Ok(("events".to_owned(), Framing::Confluent)));
        assert_eq!(topic("events=json"), Ok(("events".to_owned(), Framing::Json)));
        assert_eq!(topic("events=xml"), Err("\"xml\" is not json".to_owned()));
        assert!(topic("").is_err() && topic("a b").is_err() && topic(&"a".repeat(250)).is_err());
    }

    #[test]
    fn settings_are_read_line_by_line() {
        let file = std::env::temp_dir().join(format!("nearfield-settings-{}", std::process::id()));
        std::fs::write(&file, "# SASL\nsasl.mechanism = PLAIN\n\nsasl.password=a=b\n").unwrap();
        let kafka = Kafka::of("127.0.0.1:9092", None, Some(&file)).unwrap_or_else(|error| panic!("{error}"));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(kafka.settings, [("sasl.mechanism", "PLAIN"), ("sasl.password", "a=b")].map(owned));
        std::fs::write(&file, "acks=all\nacks\n").unwrap();
        let error = Kafka::of("127.0.0.1:9092", None, Some(&file)).err().unwrap().to_string();
        assert!(error.ends_with("line 2 is not name=value"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
