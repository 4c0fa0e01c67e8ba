//! What cannot be read or is refused: the record as it came, with the reason and the origin in its headers.

use super::partition::Record;
use super::{Consume, StreamError};
use nearfield_events::frame;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

/// Headers of a dead letter.
pub(super) const REASON: &str = "nearfield-reason";
pub(super) const MESSAGE: &str = "nearfield-message";
pub(super) const SCHEMA: &str = "nearfield-schema-id";
pub(super) const TOPIC: &str = "nearfield-topic";
pub(super) const PARTITION: &str = "nearfield-partition";
pub(super) const OFFSET: &str = "nearfield-offset";

/// The topic of the dead letters.
pub(super) struct DeadLetters {
    topic: String,
    producer: FutureProducer,
}

impl DeadLetters {
    pub(super) fn open(Consume { kafka, dead_letters, .. }: &Consume) -> Result<Self, StreamError> {
        let producer = kafka.producer().create().map_err(kafka.failed())?;
        Ok(Self { topic: dead_letters.clone(), producer })
    }

    /// Puts a record aside; it is durable when this returns.
    pub(super) async fn put(
        &self,
        topic: &str,
        partition: i32,
        record: &Record,
        reason: &str,
        message: &str,
    ) -> Result<(), String> {
        let schema = record.value.as_deref().and_then(|value| frame::split(value).ok());
        let schema = schema.map(|(id, _)| id.0.to_string());
        let (partition, offset) = (partition.to_string(), record.offset.to_string());
        let headers = [
            (REASON, Some(reason)),
            (MESSAGE, Some(message)),
            (SCHEMA, schema.as_deref()),
            (TOPIC, Some(topic)),
            (PARTITION, Some(&partition)),
            (OFFSET, Some(&offset)),
        ];
        let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| match value {
            Some(_) => headers.insert(Header { key, value }),
            None => headers,
        });
        let mut letter = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        letter.key = record.key.as_deref();
        letter.payload = record.value.as_deref();
        letter.timestamp = record.time_ms;
        let sent = self.producer.send(letter, Timeout::Never).await;
        sent.map(|_| ()).map_err(|(error, _)| error.to_string())
    }
}
