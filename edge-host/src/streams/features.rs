//! The features of events on their way to their topic, and beside what they were in training.

use super::{Consume, Kafka, PublishFeatures, StreamError};
use crate::metrics::Metrics;
use nearfield_engine::features::{Features, MISSING_MORE_MAX, Monitor, PSI_MAX};
use nearfield_events::FeatureRow;
use nearfield_events::frame::SchemaId;
use nearfield_events::registry::Schema;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use std::sync::{Arc, Mutex};

/// The topic of features.
pub(super) struct FeatureTopic {
    topic: String,
    schema: SchemaId,
    producer: FutureProducer,
    monitor: Option<Mutex<Monitor>>,
    window_events: u64,
    metrics: Arc<Metrics>,
}

/// Asks the registry for the id of the schema of features, which must be able to read what the one before it wrote.
pub(super) async fn register(consume: &Consume) -> Result<Option<SchemaId>, StreamError> {
    let Some(features) = &consume.features else { return Ok(None) };
    Ok(Some(consume.kafka.registry.register(&features.subject, &Schema::features()).await?))
}

impl FeatureTopic {
    /// Finds the topic. This blocks.
    pub(super) fn open(
        kafka: &Kafka,
        publish: &PublishFeatures,
        schema: SchemaId,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StreamError> {
        let monitor = match &publish.baseline {
            Some(baseline) => {
                baseline.check().map_err(|what| StreamError::Baseline { what })?;
                Some(Mutex::new(Monitor::new(baseline.clone())))
            }
            None => None,
        };
        let mut config = kafka.producer();
        // The answer is waited for, so nothing is gained by waiting for company.
        config.set("linger.ms", "0");
        let producer: FutureProducer = config.create().map_err(kafka.failed())?;
        kafka.partitions(rdkafka::producer::Producer::client(&producer), &publish.topic)?;
        Ok(Self {
            topic: publish.topic.clone(),
            schema,
            producer,
            monitor,
            window_events: publish.window_events,
            metrics,
        })
    }

    /// Publishes a row; it is durable when this returns.
    pub(super) async fn put(&self, row: &FeatureRow) -> Result<(), String> {
        let value = row.encode(self.schema);
        self.send(&row.user_id, Some(&value)).await?;
        self.watch(&row.features);
        Ok(())
    }

    /// Asks everyone who reads the topic to forget a user.
    pub(super) async fn forget(&self, user: &str) -> Result<(), String> {
        self.send(user, None).await
    }

    async fn send(&self, user: &str, value: Option<&[u8]>) -> Result<(), String> {
        let mut record = FutureRecord::<str, [u8]>::to(&self.topic).key(user);
        record.payload = value;
        let sent = self.producer.send(record, Timeout::Never).await;
        sent.map(|_| ()).map_err(|(error, _)| error.to_string())
    }

    /// Counts the features beside those of training.
    fn watch(&self, features: &Features) {
        self.metrics.feature_row();
        let Some(monitor) = &self.monitor else { return };
        let mut monitor = monitor.lock().expect("no holder panics");
        for outside in monitor.observe(features) {
            self.metrics.feature_failed(outside.feature, "range");
        }
        if monitor.events() < self.window_events {
            return;
        }
        for drift in monitor.close() {
            self.metrics.feature_window(drift.feature, drift.psi, drift.missing);
            if drift.psi > PSI_MAX {
                self.metrics.feature_failed(drift.feature, "drift");
                tracing::warn!(feature = drift.feature, psi = drift.psi, "a feature has drifted");
            }
            if drift.missing > drift.missing_in_training + MISSING_MORE_MAX {
                self.metrics.feature_failed(drift.feature, "missing");
                tracing::warn!(feature = drift.feature, share = drift.missing, "a feature is missing");
            }
        }
    }
}
