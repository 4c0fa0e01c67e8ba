//! The records of one partition, in batches: read, checked, sorted by user, and taken through the guest.

use super::Streamed;
use super::dead_letters::DeadLetters;
use super::features::FeatureTopic;
use crate::edge::Edge;
use crate::error::Class;
use crate::service::messages::EVENTS_MAX;
use crate::users::Position;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearfield_engine::features::Features;
use nearfield_engine::{Context, Event};
use nearfield_events::{DecodeError, Decoder, FeatureRow, Refusal, StreamEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Most records of a batch (choice: some tens of milliseconds of work, and several events a user where users are few).
const BATCH_MAX: usize = 500;
/// Users of a batch who are under way at the same time (choice: more than there are workers, few enough to be fair to
/// calls).
const USERS_AT_ONCE: usize = 32;
/// Times that a step on which the guest failed is tried again (the second failure quarantines the user).
const GUEST_TRIES: u32 = 3;

/// Stands for no offset, and for no time.
pub(super) const NONE: i64 = -1;

/// A record.
pub(super) struct Record {
    pub(super) offset: i64,
    /// When it was produced, in milliseconds since 1970-01-01 UTC.
    pub(super) time_ms: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    /// What was produced; none asks to forget the user.
    pub(super) value: Option<Vec<u8>>,
}

/// A partition's work is to end: it was revoked, or the edge stops.
struct Stopped;

/// Takes the records of one partition in.
pub(super) struct Partition {
    pub(super) edge: Arc<Edge>,
    pub(super) decoder: Arc<Decoder>,
    pub(super) dead_letters: Arc<DeadLetters>,
    /// Where the features of the events go, if anywhere.
    pub(super) features: Option<Arc<FeatureTopic>>,
    /// Name of the topic, and as a record's position has it.
    pub(super) topic: String,
    pub(super) topic_key: u64,
    pub(super) number: i32,
    /// The offset after the last one of which everything is done.
    pub(super) done: Arc<AtomicI64>,
    /// When the oldest record under way was produced, in milliseconds since 1970-01-01 UTC; [`NONE`] while there is
    /// none.
    pub(super) oldest_ms: Arc<AtomicI64>,
    /// Set when the work is to end after what is under way.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a record asks for.
enum Act<'a> {
    Learn(&'a Record, Event, Context),
    Forget(&'a Record),
}

impl Partition {
    /// Works until the queue is closed, or the work is to end.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Record>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let oldest_ms = batch.iter().find_map(|record| record.time_ms).unwrap_or(NONE);
            self.oldest_ms.store(oldest_ms, Ordering::Release);
            if self.stop.load(Ordering::Acquire) || self.take_in(&batch).await.is_err() {
                return;
            }
            self.oldest_ms.store(NONE, Ordering::Release);
            if let Some(last) = batch.last() {
                self.done.store(last.offset + 1, Ordering::Release);
            }
            batch.clear();
        }
    }

    async fn take_in(&self, batch: &[Record]) -> Result<(), Stopped> {
        let mut users: HashMap<String, Vec<Act<'_>>> = HashMap::new();
        let mut refused = Vec::new();
        for record in batch {
            let key = record.key.as_deref();
            if let (None, Some(user)) = (&record.value, key.and_then(|key| std::str::from_utf8(key).ok())) {
                users.entry(user.to_owned()).or_default().push(Act::Forget(record));
                continue;
            }
            match self.decode(record).await? {
                Ok(StreamEvent { user_id, event, context, .. }) => {
                    users.entry(user_id).or_default().push(Act::Learn(record, event, context));
                }
                Err(refusal) => refused.push((record, refusal)),
            }
        }
        let letters = refused.into_iter().map(|(record, refusal)| async move {
            self.put_aside(record, refusal.reason.as_str(), &refusal.message).await
        });
        let letters: Vec<_> = letters.collect();
        stream::iter(letters).buffer_unordered(BATCH_MAX).try_collect::<()>().await?;
        let work: Vec<_> = users.into_iter().map(|(user, acts)| self.user(user, acts)).collect();
        stream::iter(work).buffer_unordered(USERS_AT_ONCE).try_collect().await
    }

    /// Reads a record, as soon as the registry answers.
    async fn decode(&self, record: &Record) -> Result<Result<StreamEvent, Refusal>, Stopped> {
        let mut waits = waits();
        loop {
            let value = record.value.as_deref().unwrap_or_default();
            match self.decoder.decode(record.key.as_deref(), value, self.edge.now_ms()).await {
                Ok(event) => return Ok(Ok(event)),
                Err(DecodeError::Refused(refusal)) => return Ok(Err(refusal)),
                Err(DecodeError::Registry(error)) => {
                    self.wait(&mut waits, "registry", &error).await?;
                }
            }
        }
    }

    /// Does what the records of one user ask for, in their order.
    async fn user(&self, user: String, acts: Vec<Act<'_>>) -> Result<(), Stopped> {
        let user = user.as_str();
        let mut events = Vec::new();
        for act in acts {
            match act {
                Act::Learn(record, event, context) => {
                    events.push((record, event, context));
                    if events.len() == EVENTS_MAX {
                        self.learn(user, std::mem::take(&mut events)).await?;
                    }
                }
                Act::Forget(record) => {
                    self.learn(user, std::mem::take(&mut events)).await?;
                    let position =
                        Position { topic: self.topic_key, partition: self.number, next: record.offset + 1 };
                    let mut waits = waits();
                    while let Err(error) = self.edge.forget_once(user, position).await {
                        self.wait(&mut waits, error.code(), &error).await?;
                    }
                    if let Some(topic) = &self.features {
                        while let Err(error) = topic.forget(user).await {
                            self.wait(&mut waits, "features", &error).await?;
                        }
                    }
                }
            }
        }
        self.learn(user, events).await
    }

    async fn learn(&self, user: &str, told: Vec<(&Record, Event, Context)>) -> Result<(), Stopped> {
        if told.is_empty() {
            return Ok(());
        }
        let (mut records, mut events, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
        for (record, event, context) in told {
            records.push(record);
            events.push(event);
            contexts.push(context);
        }
        let streamed = Arc::new(Streamed {
            topic: self.topic_key,
            partition: self.number,
            offsets: records.iter().map(|record| record.offset).collect(),
            events,
            contexts: self.features.is_some().then_some(contexts),
        });
        let (mut waits, mut failures) = (waits(), 0);
        let features = loop {
            let error = match self.edge.consume(user, Arc::clone(&streamed)).await {
                Ok(features) => break features,
                Err(error) => error,
            };
            match error.class() {
                Class::Unavailable | Class::Late => {}
                Class::Internal if failures + 1 < GUEST_TRIES => failures += 1,
                _ => {
                    for record in records {
                        self.put_aside(record, error.code(), &error.to_string()).await?;
                    }
                    return Ok(());
                }
            }
            self.wait(&mut waits, error.code(), &error).await?;
        };
        self.publish(user, &streamed, features).await?;
        let now_ms = self.edge.now_ms();
        for record in records {
            if let Some(time_ms) = record.time_ms.and_then(|time_ms| u64::try_from(time_ms).ok()) {
                self.edge.metrics.produced_to_list(Duration::from_millis(now_ms.saturating_sub(time_ms)));
            }
        }
        Ok(())
    }

    /// Publishes the features of events. The record keeps those of its last step, so what is not published before a
    /// crash is when the events come again.
    async fn publish(
        &self,
        user: &str,
        streamed: &Streamed,
        features: Vec<Option<Features>>,
    ) -> Result<(), Stopped> {
        let Some(topic) = &self.features else { return Ok(()) };
        let rows = streamed.events.iter().zip(&streamed.offsets).zip(features);
        let rows = rows.filter_map(|((event, offset), features)| {
            Some(FeatureRow::new(user, event, self.number, *offset, features?))
        });
        let sent = rows.into_iter().map(|row| async move {
            let mut waits = waits();
            while let Err(error) = topic.put(&row).await {
                self.wait(&mut waits, "features", &error).await?;
            }
            Ok(())
        });
        let sent: Vec<_> = sent.collect();
        stream::iter(sent).buffered(EVENTS_MAX).try_collect().await
    }

    async fn put_aside(&self, record: &Record, reason: &'static str, message: &str) -> Result<(), Stopped> {
        let mut waits = waits();
        while let Err(error) = self.dead_letters.put(&self.topic, self.number, record, reason, message).await
        {
            self.wait(&mut waits, "dead_letters", &error).await?;
        }
        self.edge.metrics.dead_letter(reason);
        tracing::debug!(
            topic = self.topic,
            partition = self.number,
            offset = record.offset,
            reason,
            "dead letter"
        );
        Ok(())
    }

    /// Waits before what failed is tried again, unless the work is to end.
    async fn wait(
        &self,
        waits: &mut impl Iterator<Item = Duration>,
        what: &'static str,
        error: &impl std::fmt::Display,
    ) -> Result<(), Stopped> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Stopped);
        }
        self.edge.metrics.stream_waits(what);
        tracing::warn!(%error, topic = self.topic, partition = self.number, "kafka: waiting to try again");
        tokio::time::sleep(waits.next().unwrap_or(WAIT_MAX)).await;
        if self.stop.load(Ordering::Acquire) { Err(Stopped) } else { Ok(()) }
    }
}

/// Longest wait before something is tried again.
const WAIT_MAX: Duration = Duration::from_secs(2);

fn waits() -> impl Iterator<Item = Duration> {
    let growing =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(WAIT_MAX);
    growing.with_jitter().without_max_times().build()
}
