//! Events from Kafka: a member of a consumer group, which takes the records of its partitions through the guest; and
//! callers' events on their way there.
//!
//! ```text
//! events, observe → producer → topic
//! topic → consumer: one thread polls → a queue for each partition → partition: decode, check, by user → edge: step
//!       ↘ what cannot be read or is refused → dead letters
//! ```
//!
//! # What holds
//! - Kafka delivers at least once. An event's offset is written with the user's record, in the same compare-and-set,
//!   and one that is there already is passed over: no crash, rebalance or replay loses or doubles an event.
//! - The events of a user are taken in in the order of their partition. With the user as key that is their order.
//! - An offset is committed after everything before it is stored or among the dead letters.
//! - What is away (users, registry, broker of the dead letters) stops the partition until it is back; nothing is
//!   passed over meanwhile, and Kafka keeps what has not been read.

mod consumer;
mod dead_letters;
pub mod letters;
mod partition;
mod producer;

pub use consumer::Consumer;
pub use producer::Produce;
pub(crate) use producer::Producer;

use nearfield_engine::Event;
use nearfield_events::Framing;
use nearfield_events::registry::{Registry, RegistryError};
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for an answer about topics.
const METADATA_WITHIN: Duration = Duration::from_secs(10);

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

/// What is consumed.
#[derive(Clone)]
pub struct Consume {
    /// The brokers.
    pub kafka: Kafka,
    /// The consumer group, which hosts on one store of users share.
    pub group: String,
    /// The topics.
    pub topics: Vec<Topic>,
    /// The topic of what cannot be read or is refused.
    pub dead_letters: String,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How its records say what they are written with.
    pub framing: Framing,
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
    /// Returns what a client of these brokers is made with: what is chosen here, then the operator's settings.
    fn client(&self, chosen: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in
            chosen.iter().copied().chain([("bootstrap.servers", self.brokers.as_str())]).chain(settings)
        {
            config.set(name, value);
        }
        config
    }

    /// Returns what a producer is made with whose answer means that the brokers have a record, once.
    fn producer(&self) -> ClientConfig {
        let mut config = self.client(&[]);
        config.set("enable.idempotence", "true").set("acks", "all");
        config
    }

    fn failed(&self) -> impl Fn(KafkaError) -> StreamError {
        let brokers = self.brokers.clone();
        move |error| StreamError::Kafka { brokers: brokers.clone(), error }
    }
}

/// Returns the partitions of a topic, which must be there.
fn partitions(
    kafka: &Kafka,
    client: &Client<impl ClientContext>,
    topic: &str,
) -> Result<Vec<i32>, StreamError> {
    let metadata = client.fetch_metadata(Some(topic), METADATA_WITHIN).map_err(kafka.failed())?;
    let found =
        metadata.topics().iter().find(|found| found.error().is_none() && !found.partitions().is_empty());
    let found = found.ok_or_else(|| StreamError::NoTopic { topic: topic.to_owned() })?;
    Ok(found.partitions().iter().map(|partition| partition.id()).collect())
}

fn cluster_id(client: &Client<impl ClientContext>) -> String {
    client.fetch_cluster_id(METADATA_WITHIN).unwrap_or_default()
}

/// Returns a topic of a cluster as users' positions have it.
fn topic_key(cluster: &str, topic: &str) -> u64 {
    let hash = blake3::hash(format!("{cluster}\0{topic}").as_bytes());
    let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// Why Kafka cannot be used.
#[derive(Debug)]
pub enum StreamError {
    /// A client cannot be made of the settings, or no broker answers.
    Kafka {
        /// The brokers that were asked.
        brokers: String,
        /// What the client said.
        error: KafkaError,
    },
    /// A topic is not there.
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The brokers did not take records.
    Lost {
        /// How many.
        records: u64,
    },
    /// The brokers give no records, although there are some.
    Silent,
    /// The registry does not have the schema, or does not take it.
    Registry(RegistryError),
    /// The thread that polls could not be started.
    Thread(std::io::Error),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { brokers, error } => write!(f, "kafka at {brokers}: {error}"),
            Self::NoTopic { topic } => write!(f, "kafka has no topic {topic:?}: create it first"),
            Self::Lost { records } => write!(f, "kafka did not take {records} records"),
            Self::Silent => f.write_str("kafka gives no records, although there are some"),
            Self::Registry(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for kafka: {error}"),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<RegistryError> for StreamError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// Events of one user from one partition, in their order.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// The topic, as [`crate::users::Position`] has it.
    pub(crate) topic: u64,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset of each event, ascending.
    pub(crate) offsets: Vec<i64>,
    /// The events.
    pub(crate) events: Vec<Event>,
}
