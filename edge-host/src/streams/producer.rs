//! Events of callers, on their way to Kafka: an answer means that the brokers have them.

use super::{Kafka, StreamError, Topic, cluster_id, topic_key};
use crate::error::EdgeError;
use crate::users::Position;
use nearfield_engine::Event;
use nearfield_events::registry::Schema;
use nearfield_events::{Context, Encoder, Format, Framing, StreamEvent};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// Longest time for which a record is tried, in milliseconds (choice: longer than any caller waits).
const DELIVERY_MS: &str = "60000";

/// Where callers' events go.
#[derive(Clone)]
pub struct Produce {
    /// The brokers.
    pub kafka: Kafka,
    /// The topic.
    pub topic: Topic,
    /// What records are written in; a topic of JSON takes JSON only.
    pub format: Format,
    /// The subject under which the registry has the schema (usually the topic's name and `-value`).
    pub subject: String,
}

/// A topic that takes callers' events.
pub(crate) struct Producer {
    topic: String,
    key: u64,
    encoder: Encoder,
    producer: FutureProducer,
}

/// Events that the topic has.
pub(crate) struct Sent {
    /// How many.
    pub(crate) count: u32,
    /// Where the stream is when the last one that enters the history is taken in.
    pub(crate) position: Option<Position>,
}

impl Producer {
    /// Registers the schema, which must be able to read what the one before it wrote, and finds the topic.
    pub(crate) async fn open(produce: &Produce) -> Result<Self, StreamError> {
        let Produce { kafka, topic, format, subject } = produce;
        let register = async |schema: Schema| kafka.registry.register(subject, &schema).await;
        let encoder = match (topic.framing, format) {
            (Framing::Json, _) | (_, Format::Json) => Encoder::Json,
            (Framing::Confluent, Format::Avro) => Encoder::Avro(register(Schema::avro()).await?),
            (Framing::Confluent, Format::Protobuf) => Encoder::Protobuf(register(Schema::protobuf()).await?),
        };
        let (kafka, topic) = (kafka.clone(), topic.name.clone());
        let open = move || {
            let mut config = kafka.producer();
            config.set("message.timeout.ms", DELIVERY_MS);
            let producer: FutureProducer = config.create().map_err(kafka.failed())?;
            let client = rdkafka::producer::Producer::client(&producer);
            kafka.partitions(client, &topic)?;
            let key = topic_key(&cluster_id(client), &topic);
            Ok(Self { topic, key, encoder, producer })
        };
        // The client's calls block.
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Sends events of a user; the brokers have them when this returns.
    ///
    /// # Errors
    /// [`EdgeError::Stream`]; some of the events may be taken in all the same.
    pub(crate) async fn send(&self, user: &str, events: Vec<Event>) -> Result<Sent, EdgeError> {
        let mut deliveries = Vec::with_capacity(events.len());
        for event in events {
            let enters_history = event.kind.is_history();
            let event =
                StreamEvent { user_id: user.to_owned(), event, query: None, context: Context::default() };
            let value = self.encoder.encode(&event);
            let record = FutureRecord::to(&self.topic).key(user).payload(&value);
            let sent = self.producer.send_result(record).map_err(|(error, _)| EdgeError::stream(error))?;
            deliveries.push((sent, enters_history));
        }
        let mut sent = Sent { count: deliveries.len() as u32, position: None };
        for (delivery, enters_history) in deliveries {
            let delivered = delivery.await.map_err(EdgeError::stream)?;
            let place = delivered.map_err(|(error, _)| EdgeError::stream(error))?;
            if enters_history {
                let (partition, next) = (place.partition, place.offset + 1);
                sent.position = Some(Position { topic: self.key, partition, next });
            }
        }
        Ok(sent)
    }

    /// Asks everyone who reads the topic to forget a user.
    ///
    /// # Errors
    /// [`EdgeError::Stream`].
    pub(crate) async fn forget(&self, user: &str) -> Result<(), EdgeError> {
        let record = FutureRecord::<str, [u8]>::to(&self.topic).key(user);
        let sent = self.producer.send_result(record).map_err(|(error, _)| EdgeError::stream(error))?;
        let delivered = sent.await.map_err(EdgeError::stream)?;
        delivered.map_err(|(error, _)| EdgeError::stream(error))?;
        Ok(())
    }
}
