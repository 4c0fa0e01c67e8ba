//! Events from Kafka: a member of a consumer group, which takes the records of its partitions through the guest; and
//! callers' events on their way there.
//!
//! ```text
//! events, observe → producer → topic
//! topic → consumer: one thread polls → a queue for each partition → partition: decode, check, by user → edge: step
//!       ↘ what cannot be read or is refused → dead letters              ↘ features → topic
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
mod features;
pub mod letters;
mod partition;
mod producer;

pub use consumer::Consumer;
pub use producer::Produce;
pub(crate) use producer::Producer;

use crate::users::{Profiled, Record};
use nearfield_engine::features::{Baseline, Features};
use nearfield_engine::{Context, Event};
pub use nearfield_events::kafka::{ClusterError, Kafka, Topic};

use nearfield_events::kafka::METADATA_WITHIN;
use nearfield_events::registry::RegistryError;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use std::fmt;

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
    /// Where the features of the events go (none: they are not made).
    pub features: Option<PublishFeatures>,
}

/// Where the features of events go.
#[derive(Clone)]
pub struct PublishFeatures {
    /// The topic.
    pub topic: String,
    /// The subject under which the registry has their schema (usually the topic's name and `-value`).
    pub subject: String,
    /// What they were in training, to be compared with.
    pub baseline: Option<Baseline>,
    /// Events of a window whose features are compared with those of training (10,000 tell a share of a hundredth to a
    /// tenth of itself). Smaller tells a drift sooner; larger is less often wrong.
    pub window_events: u64,
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
    /// The cluster does not answer, or lacks a topic.
    Cluster(ClusterError),
    /// The brokers did not take records.
    Lost {
        /// How many.
        records: u64,
    },
    /// A baseline is not one of these features.
    Baseline {
        /// What does not fit.
        what: &'static str,
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
            Self::Cluster(error) => error.fmt(f),
            Self::Lost { records } => write!(f, "kafka did not take {records} records"),
            Self::Baseline { what } => write!(f, "baseline of features: {what}"),
            Self::Silent => f.write_str("kafka gives no records, although there are some"),
            Self::Registry(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for kafka: {error}"),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<ClusterError> for StreamError {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

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
    /// What was known around each event, where their features are asked for.
    pub(crate) contexts: Option<Vec<Context>>,
}

impl Streamed {
    /// Returns how many of the events a record has already.
    pub(crate) fn passed_over(&self, before: Option<&Record>) -> usize {
        let next = before.map_or(0, |record| record.next_offset(self.topic, self.partition));
        self.offsets.partition_point(|offset| *offset < next)
    }

    /// Returns the features of each event: of those that are passed over what the record has kept, then the new ones.
    pub(crate) fn features(
        &self,
        before: Option<&Record>,
        new: Vec<Option<Features>>,
    ) -> Vec<Option<Features>> {
        if self.contexts.is_none() {
            return Vec::new();
        }
        let passed_over = &self.offsets[..self.passed_over(before)];
        let kept = |offset: &i64| before?.last_features(self.topic, self.partition, *offset).cloned();
        passed_over.iter().map(kept).chain(new).collect()
    }

    /// Returns what a record keeps for features after a step that told those of the events: those that are told again,
    /// too, since the topic of features may not have them yet.
    pub(crate) fn profiled(&self, profile: Vec<u8>, features: &[Option<Features>]) -> Profiled {
        let told = self.offsets.iter().zip(features);
        let last = told.filter_map(|(offset, features)| Some((*offset, features.clone()?))).collect();
        Profiled { profile, topic: self.topic, partition: self.partition, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Position;
    use nearfield_engine::Kind;

    /// Two events of a user were stored, and the host ended before the topic of features had them.
    #[test]
    fn features_that_are_told_again_stay_in_the_record_beside_the_new_ones() {
        let of = |count: u32| Some(Features { history_events: count, ..Features::default() });
        let streamed = Streamed {
            topic: 1,
            partition: 2,
            offsets: vec![10, 11, 14],
            events: vec![Event::new(Kind::View, "a", 1); 3],
            contexts: Some(vec![Context::default(); 3]),
        };
        let mut before = Record::default();
        before.move_to(Position { topic: 1, partition: 2, next: 12 });
        before.profile = Some(streamed.profiled(vec![1], &[of(0), of(1)]));
        assert_eq!(streamed.passed_over(Some(&before)), 2);

        let features = streamed.features(Some(&before), vec![of(2)]);
        assert_eq!(features, [of(0), of(1), of(2)]);
        let after = streamed.profiled(vec![2], &features);
        assert_eq!(after.last.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [10, 11, 14]);
    }
}
