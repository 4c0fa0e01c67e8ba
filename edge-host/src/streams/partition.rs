//! The records of one partition, in batches: read, checked, sorted by user, and taken through the guest.

use super::Streamed;
use super::dead_letters::DeadLetters;
use crate::edge::Edge;
use crate::error::Class;
use crate::service::messages::EVENTS_MAX;
use crate::users::Position;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};
use nearfield_engine::Event;
use nearfield_events::{DecodeError, Decoder, Refusal, StreamEvent};
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
    /// Name of the topic, and as a record's position has it.
    pub(super) topic: String,
    pub(super) topic_key: u64,
    pub(super) number: i32,
    /// The offset after the last one of which everything is done.
    pub(super) done: Arc<AtomicI64>,
    /// Set when the work is to end after what is under way.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a record asks for.
enum Act<'a> {
    Learn(&'a Record, Event),
    Forget(&'a Record),
}

impl Partition {
    /// Works until the queue is closed, or the work is to end.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Record>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            if self.stop.load(Ordering::Acquire) || self.take_in(&batch).await.is_err() {
                return;
            }
            if let Some(last) = batch.last() {
                self.done.store(last.offset + 1, Ordering::Release);
            }
            batch.clear();
        }
    }

    async fn take_in(&self, batch: &[Record]) -> Result<(), Stopped> {
        let mut users: HashMap<String, Vec<Act<'_>>> = HashMap::new();
        for record in batch {
            let key = record.key.as_deref();
            if let (None, Some(user)) = (&record.value, key.and_then(|key| std::str::from_utf8(key).ok())) {
                users.entry(user.to_owned()).or_default().push(Act::Forget(record));
                continue;
            }
            match self.decode(record).await? {
                Ok(StreamEvent { user_id, event, .. }) => {
                    users.entry(user_id).or_default().push(Act::Learn(record, event));
                }
                Err(refusal) => self.put_aside(record, refusal.reason.as_str(), &refusal.message).await?,
            }
        }
        let work: Vec<_> = users.into_iter().map(|(user, acts)| self.user(user, acts)).collect();
        let mut work = stream::iter(work).buffer_unordered(USERS_AT_ONCE);
        while let Some(done) = work.next().await {
            done?;
        }
        Ok(())
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
                Act::Learn(record, event) => {
                    events.push((record, event));
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
                }
            }
        }
        self.learn(user, events).await
    }

    async fn learn(&self, user: &str, events: Vec<(&Record, Event)>) -> Result<(), Stopped> {
        if events.is_empty() {
            return Ok(());
        }
        let (records, events): (Vec<&Record>, Vec<Event>) = events.into_iter().unzip();
        let streamed = Arc::new(Streamed {
            topic: self.topic_key,
            partition: self.number,
            offsets: records.iter().map(|record| record.offset).collect(),
            events,
        });
        let (mut waits, mut failures) = (waits(), 0);
        loop {
            let Err(error) = self.edge.consume(user, Arc::clone(&streamed)).await else { break };
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
        }
        let now_ms = self.edge.now_ms();
        for record in records {
            if let Some(time_ms) = record.time_ms.and_then(|time_ms| u64::try_from(time_ms).ok()) {
                self.edge.metrics.produced_to_list(Duration::from_millis(now_ms.saturating_sub(time_ms)));
            }
        }
        Ok(())
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
