//! The member of the group: one thread that polls, hands records to their partitions, commits what is done, and hands
//! partitions over.

use super::dead_letters::DeadLetters;
use super::features::{self, FeatureTopic};
use super::partition::{NONE, Partition, Record};
use super::{Consume, StreamError, Topic, cluster_id, topic_key};
use crate::edge::Edge;
use nearfield_events::Decoder;
use nearfield_events::frame::SchemaId;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message, Offset, Statistics, TopicPartitionList};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most records that wait for their partition's worker (choice: a few batches; then the partition is paused).
const QUEUE_MAX: usize = 2000;
/// Records below which a paused partition goes on.
const RESUME_BELOW: usize = QUEUE_MAX / 4;
/// Longest wait for a record, after which pauses and commits are looked at.
const POLL: Duration = Duration::from_millis(20);
/// Time between two commits (choice: what is read again after a crash, and passed over).
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a partition's work when it is handed over (choice: less than a session of the group). What is
/// not done by then the next owner does, or finds done.
const HAND_OVER: Duration = Duration::from_secs(4);

/// A running member of the group.
pub struct Consumer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Consumer {
    /// Joins the group. The topics must be there, and the registry must answer.
    ///
    /// # Errors
    /// [`StreamError`] names what is missing.
    pub async fn start(edge: Arc<Edge>, consume: Consume) -> Result<Self, StreamError> {
        // Whether it has a schema of this id is no matter.
        consume.kafka.registry.schema(SchemaId(0)).await?;
        let schema = features::register(&consume).await?;
        let runtime = Handle::current();
        // The client's calls block.
        let opened = tokio::task::spawn_blocking(move || open(edge, &consume, schema, runtime)).await;
        let consumer = opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("kafka".to_owned());
        let thread = thread.spawn(move || poll(&consumer, &stopping)).map_err(StreamError::Thread)?;
        Ok(Self { stop, thread })
    }

    /// Leaves the group: what is under way is finished and committed.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // A thread that panicked has been reported.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

fn open(
    edge: Arc<Edge>,
    consume: &Consume,
    schema: Option<SchemaId>,
    runtime: Handle,
) -> Result<BaseConsumer<Member>, StreamError> {
    let Consume { kafka, group, topics, dead_letters, features } = consume;
    let asked: BaseConsumer = kafka.client(&[]).create().map_err(kafka.failed())?;
    for topic in topics.iter().map(|topic| &topic.name).chain([dead_letters]) {
        kafka.partitions(asked.client(), topic)?;
    }
    let cluster = cluster_id(asked.client());
    let sources = topics.iter().map(|topic| Source {
        topic: topic.clone(),
        key: topic_key(&cluster, &topic.name),
        decoder: Arc::new(Decoder::new(topic.framing, Arc::clone(&kafka.registry))),
    });
    let features = match (features, schema) {
        (Some(publish), Some(schema)) => {
            Some(Arc::new(FeatureTopic::open(kafka, publish, schema, Arc::clone(&edge.metrics))?))
        }
        _ => None,
    };
    let member = Member {
        edge,
        features,
        runtime,
        dead_letters: Arc::new(DeadLetters::open(consume)?),
        sources: sources.collect(),
        partitions: Mutex::default(),
    };
    let mut config = kafka.client(&[
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("isolation.level", "read_committed"),
        ("session.timeout.ms", "10000"),
        ("statistics.interval.ms", "1000"),
    ]);
    // No setting may change this.
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer<Member> = config.create_with_context(member).map_err(kafka.failed())?;
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    consumer.subscribe(&names).map_err(kafka.failed())?;
    Ok(consumer)
}

fn poll(consumer: &BaseConsumer<Member>, stop: &AtomicBool) {
    let member = consumer.context();
    let mut committed = Instant::now();
    while !stop.load(Ordering::Acquire) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => member.hand(consumer, &message),
            Some(Err(error)) => {
                member.edge.metrics.stream_waits("kafka");
                tracing::warn!(%error, "kafka");
            }
            None => {}
        }
        if let Err(error) = member.resume(consumer) {
            tracing::warn!(%error, "kafka: a partition stays paused");
        }
        if committed.elapsed() >= COMMIT_EVERY {
            member.commit(consumer, CommitMode::Async);
            committed = Instant::now();
        }
    }
    // Dropping the consumer leaves the group, which revokes the partitions.
}

/// A topic that is consumed.
struct Source {
    topic: Topic,
    key: u64,
    decoder: Arc<Decoder>,
}

/// What the group's events and the polling thread share.
struct Member {
    edge: Arc<Edge>,
    runtime: Handle,
    dead_letters: Arc<DeadLetters>,
    features: Option<Arc<FeatureTopic>>,
    sources: Vec<Source>,
    partitions: Mutex<HashMap<(String, i32), Owned>>,
}

/// A partition that this member owns.
struct Owned {
    queue: mpsc::Sender<Record>,
    paused: bool,
    done: Arc<AtomicI64>,
    committed: i64,
    oldest_ms: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    /// None once it is asked to end.
    task: Option<JoinHandle<()>>,
}

impl Member {
    /// Starts the work of a partition.
    fn own(&self, topic: &str, number: i32) -> Option<Owned> {
        let source = self.sources.iter().find(|source| source.topic.name == topic)?;
        let (queue, records) = mpsc::channel(QUEUE_MAX);
        let [done, oldest_ms] = [(); 2].map(|()| Arc::new(AtomicI64::new(NONE)));
        let stop = Arc::new(AtomicBool::new(false));
        let partition = Partition {
            edge: Arc::clone(&self.edge),
            decoder: Arc::clone(&source.decoder),
            dead_letters: Arc::clone(&self.dead_letters),
            features: self.features.clone(),
            topic: topic.to_owned(),
            topic_key: source.key,
            number,
            done: Arc::clone(&done),
            oldest_ms: Arc::clone(&oldest_ms),
            stop: Arc::clone(&stop),
        };
        let task = self.runtime.spawn(partition.run(records));
        let task = Some(task);
        Some(Owned { queue, paused: false, done, committed: NONE, oldest_ms, stop, task })
    }

    /// Hands a record to its partition, and pauses the partition where its queue is full.
    fn hand(&self, consumer: &BaseConsumer<Self>, message: &BorrowedMessage<'_>) {
        let record = Record {
            offset: message.offset(),
            time_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        };
        let place = (message.topic().to_owned(), message.partition());
        let mut partitions = self.partitions.lock().expect("no holder panics");
        // One that has just been revoked is somebody else's.
        let Some(owned) = partitions.get_mut(&place) else { return };
        let queue = owned.queue.clone();
        if queue.capacity() <= 1 && !owned.paused {
            let mut list = TopicPartitionList::new();
            list.add_partition(&place.0, place.1);
            owned.paused = consumer.pause(&list).is_ok();
        }
        drop(partitions);
        // What was fetched before the pause waits here.
        if queue.blocking_send(record).is_err() {
            // Its work panicked. Nothing of it is committed, so a restart reads it again.
            self.edge.metrics.stream_waits("panic");
            tracing::error!(topic = place.0, partition = place.1, "kafka: the work of a partition has ended");
        }
    }

    /// Lets partitions go on whose queues have emptied.
    fn resume(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<()> {
        let mut partitions = self.partitions.lock().expect("no holder panics");
        for ((topic, number), owned) in partitions.iter_mut().filter(|(_, owned)| owned.paused) {
            if QUEUE_MAX - owned.queue.capacity() < RESUME_BELOW {
                let mut list = TopicPartitionList::new();
                list.add_partition(topic, *number);
                consumer.resume(&list)?;
                owned.paused = false;
            }
        }
        Ok(())
    }

    /// Commits what is done.
    fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        let mut partitions = self.partitions.lock().expect("no holder panics");
        for ((topic, number), owned) in partitions.iter_mut() {
            let done = owned.done.load(Ordering::Acquire);
            if done > owned.committed
                && list.add_partition_offset(topic, *number, Offset::Offset(done)).is_ok()
            {
                owned.committed = done;
            }
        }
        drop(partitions);
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, mode)
        {
            tracing::warn!(%error, "kafka: offsets were not committed; what follows is passed over when it comes again");
        }
    }

    /// Ends the work of partitions after what is under way, and commits it.
    fn hand_over(&self, consumer: &BaseConsumer<Self>, revoked: &TopicPartitionList) {
        let places =
            revoked.elements().into_iter().map(|place| (place.topic().to_owned(), place.partition()));
        let places: Vec<(String, i32)> = places.collect();
        let tasks: Vec<JoinHandle<()>> = {
            let mut partitions = self.partitions.lock().expect("no holder panics");
            let mut tasks = Vec::new();
            for place in &places {
                let Some(owned) = partitions.get_mut(place) else { continue };
                owned.stop.store(true, Ordering::Release);
                // The queue is closed, and what waits in it is left to the next owner.
                owned.queue = mpsc::channel(1).0;
                tasks.extend(owned.task.take());
            }
            tasks
        };
        let ended = async {
            for task in tasks {
                // One that panicked has been reported.
                let _ = task.await;
            }
        };
        if self.runtime.block_on(async { tokio::time::timeout(HAND_OVER, ended).await }).is_err() {
            tracing::warn!("kafka: a partition is handed over with work under way");
        }
        self.commit(consumer, CommitMode::Sync);
        let mut partitions = self.partitions.lock().expect("no holder panics");
        places.iter().for_each(|place| {
            partitions.remove(place);
        });
    }
}

impl ClientContext for Member {
    fn stats(&self, statistics: Statistics) {
        let now_ms = self.edge.now_ms();
        let partitions = self.partitions.lock().expect("no holder panics");
        for (topic, found) in &statistics.topics {
            for (number, partition) in found.partitions.iter().filter(|(number, _)| **number >= 0) {
                let owned = partitions.get(&(topic.clone(), *number));
                let records = owned.map_or(0, |_| partition.consumer_lag.max(0)) as u64;
                let oldest_ms = owned.map_or(NONE, |owned| owned.oldest_ms.load(Ordering::Acquire));
                let age_ms = u64::try_from(oldest_ms).map_or(0, |time_ms| now_ms.saturating_sub(time_ms));
                self.edge.metrics.stream_lag(topic, *number, records, Duration::from_millis(age_ms));
            }
        }
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(revoked) = rebalance {
            self.edge.metrics.rebalanced("revoked");
            self.hand_over(consumer, revoked);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(assigned) => {
                self.edge.metrics.rebalanced("assigned");
                let mut partitions = self.partitions.lock().expect("no holder panics");
                for place in assigned.elements() {
                    if let Some(owned) = self.own(place.topic(), place.partition()) {
                        partitions.insert((place.topic().to_owned(), place.partition()), owned);
                    }
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "kafka: rebalancing"),
        }
    }
}
