//! What an operator does with dead letters: reads them, and sends them back to where they came from.

use super::dead_letters::{MESSAGE, OFFSET, PARTITION, REASON, SCHEMA, TOPIC};
use super::{Kafka, StreamError};
use nearfield_events::kafka::Sender;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// The group whose offsets say how far the letters of a reason have been sent back, without the reason.
const REPLAYED: &str = "nearfield-dead-letters-replayed-";
/// Longest wait for the brokers.
const WITHIN: Duration = Duration::from_secs(30);

/// A record that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its place in the topic of the dead letters.
    pub offset: i64,
    /// Why it was put aside.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// The schema that it names.
    pub schema: Option<String>,
    /// The topic, partition and offset that it came from.
    pub origin: (String, String, String),
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// What was produced.
    pub value: Option<Vec<u8>>,
}

impl Letter {
    fn read(message: &BorrowedMessage<'_>) -> Option<Self> {
        let headers = message.headers()?;
        let header = |key: &str| {
            let found = headers.iter().find(|header| header.key == key)?;
            Some(String::from_utf8_lossy(found.value?).into_owned())
        };
        Some(Self {
            offset: message.offset(),
            reason: header(REASON)?,
            message: header(MESSAGE).unwrap_or_default(),
            schema: header(SCHEMA),
            origin: (header(TOPIC)?, header(PARTITION)?, header(OFFSET)?),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        })
    }
}

/// Calls `visit` for each dead letter that is there now, oldest first within a partition. What has no reason in its
/// headers is passed over. This blocks.
///
/// # Errors
/// [`StreamError`].
pub fn list(kafka: &Kafka, topic: &str, mut visit: impl FnMut(Letter)) -> Result<(), StreamError> {
    read(kafka, topic, None, |letter| {
        visit(letter);
        Ok(())
    })?;
    Ok(())
}

/// Sends the dead letters of a reason back to the end of the topics that they came from, those that no earlier call
/// sent; returns how many. A letter that was written twice is sent once. This blocks.
///
/// # Errors
/// [`StreamError`]. The next call then sends all of them, so an event without an id may count twice.
pub fn replay(kafka: &Kafka, topic: &str, reason: &str) -> Result<u64, StreamError> {
    let sender = Sender::open(kafka, &kafka.producer())?;
    let mut sent = HashSet::new();
    let (consumer, ends) = read(kafka, topic, Some(reason), |letter| {
        if letter.reason != reason || !sent.insert(letter.origin.clone()) {
            return Ok(());
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&letter.origin.0);
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        Ok(sender.send(record)?)
    })?;
    let lost = sender.flush(WITHIN)?;
    if lost > 0 {
        return Err(StreamError::Lost { records: lost });
    }
    consumer.commit(&ends, CommitMode::Sync).map_err(kafka.failed())?;
    Ok(sent.len() as u64)
}

/// Reads a topic up to what is its end now, from where the replays of a reason stopped, or from its beginning; returns
/// the reader and where it stopped.
fn read(
    kafka: &Kafka,
    topic: &str,
    replayed: Option<&str>,
    mut visit: impl FnMut(Letter) -> Result<(), StreamError>,
) -> Result<(BaseConsumer, TopicPartitionList), StreamError> {
    let failed = kafka.failed();
    let mut config = kafka.client(&[]);
    config.set("group.id", format!("{REPLAYED}{}", replayed.unwrap_or_default()));
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().map_err(&failed)?;
    let mut asked = TopicPartitionList::new();
    for number in kafka.partitions(consumer.client(), topic)? {
        asked.add_partition(topic, number);
    }
    let stopped = consumer.committed_offsets(asked, WITHIN).map_err(&failed)?;

    let (mut begin, mut ends) = (TopicPartitionList::new(), TopicPartitionList::new());
    let mut left = HashMap::new();
    for place in stopped.elements() {
        let number = place.partition();
        let (first, end) = consumer.fetch_watermarks(topic, number, WITHIN).map_err(&failed)?;
        let from = match place.offset() {
            Offset::Offset(offset) if replayed.is_some() => offset.max(first),
            _ => first,
        };
        ends.add_partition_offset(topic, number, Offset::Offset(end)).map_err(&failed)?;
        if from < end {
            begin.add_partition_offset(topic, number, Offset::Offset(from)).map_err(&failed)?;
            left.insert(number, end);
        }
    }
    consumer.assign(&begin).map_err(&failed)?;
    while !left.is_empty() {
        let Some(message) = consumer.poll(WITHIN) else { return Err(StreamError::Silent) };
        let message = message.map_err(&failed)?;
        let (number, offset) = (message.partition(), message.offset());
        let Some(end) = left.get(&number).copied() else { continue };
        if offset < end
            && let Some(letter) = Letter::read(&message)
        {
            visit(letter)?;
        }
        if offset + 1 >= end {
            left.remove(&number);
        }
    }
    Ok((consumer, ends))
}
