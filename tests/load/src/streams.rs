//! Events through Kafka: how many a second one edge takes in and two of a group, what an event costs, beside a reader
//! that decodes and does nothing else; and how soon a list follows an event at half of that.

use crate::Args;
use crate::faces::name;
use crate::open_loop;
use crate::servers::{Server, Site, own_cpu_seconds};
use crate::shop::Shop;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_edge::grpc::proto;
use nearfield_edge::grpc::proto::edge_client::EdgeClient;
use nearfield_edge::system_now_ms;
use nearfield_engine::golden::Random;
use nearfield_engine::{Event, Kind};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::{Kafka, NewTopic};
use nearfield_events::{Context as Known, Decoder, Encoder, Framing, StreamEvent};
use nearfield_services as services;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, FutureProducer, FutureRecord, Producer, ThreadedProducer,
};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::transport::Endpoint;

/// People whose events are in the topic.
const PEOPLE: usize = 2000;
/// Partitions of the topic.
const PARTITIONS: i32 = 8;
/// How the events are written, by turns.
const ENCODERS: [Encoder; 2] = [Encoder::Avro(SchemaId(1)), Encoder::Protobuf(SchemaId(2))];
const DEAD_LETTERS: &str = "nearfield.dead-letters";
/// The share of the events between which a rate is taken: members have joined, and none is at the end.
const MIDDLE: (f64, f64) = (0.15, 0.85);
/// Time between two looks at what has been taken in.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for all events of a trial.
const WITHIN: Duration = Duration::from_secs(300);
/// Longest wait for the lists after the last event.
const LISTS_WITHIN: Duration = Duration::from_secs(10);
/// People whose lists are followed.
const FOLLOWED: usize = 50;
/// Events a second of the trials of lists, before the one at half of the highest rate.
const RATES: [f64; 2] = [1000.0, 5000.0];
/// Seconds of each of them.
const SECONDS: f64 = 20.0;

/// Who takes the events in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taker {
    /// A reader that decodes and checks, in this process.
    Decoder,
    /// One edge, its users in a file.
    Redb,
    /// So many edges of a group, their users in one Redis.
    Redis(usize),
}

impl Taker {
    const ALL: [Self; 4] = [Self::Decoder, Self::Redb, Self::Redis(1), Self::Redis(2)];

    fn name(self) -> &'static str {
        match self {
            Self::Decoder => "decodes only",
            Self::Redb => "one edge, redb",
            Self::Redis(1) => "one edge, Redis",
            Self::Redis(_) => "two edges, Redis",
        }
    }
}

/// What came of a trial.
#[derive(Clone, Copy)]
struct Taken {
    /// Events a second.
    rate: f64,
    /// Processors' time an event of the takers, in microseconds.
    cpu_us: f64,
}

/// A broker, a Redis, and what all trials share.
pub(crate) struct Streams<'a> {
    site: &'a Site<'a>,
    central: &'a Server,
    broker: services::Server,
    redis: services::Server,
    kafka: Kafka,
    /// Events in the topic that is read from its beginning.
    filled: usize,
    /// Numbers of groups and stores: each trial has its own.
    trials: usize,
}

/// What came of events at a rate.
pub(crate) struct Paced {
    /// From an event to the list that follows it, in microseconds.
    pub(crate) latencies: Vec<u32>,
    /// Lists that did not come in time.
    pub(crate) late: usize,
    pub(crate) events: usize,
    /// In which the events were sent.
    pub(crate) seconds: f64,
    /// Processors' time of the edge and of this process.
    pub(crate) edge_seconds: f64,
    pub(crate) producer_seconds: f64,
}

/// Measures, and returns the table.
pub(crate) async fn run(args: &Args) -> Result<String> {
    let (events, rounds, seconds) = if args.quick { (50_000, 1, 5.0) } else { (300_000, 3, SECONDS) };
    let shop = Shop::open()?;
    let site = Site::open(args, &shop)?;
    let central = site.central()?;
    let mut streams = Streams::open(&site, &central).await?;
    streams.fill(&shop, events).await?;

    let bar = ProgressBar::new((rounds * Taker::ALL.len() + RATES.len() + 1) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {eta} left  {msg}")?);
    let mut taken: Vec<(Taker, Vec<Taken>)> = Taker::ALL.map(|taker| (taker, Vec::new())).into();
    for _ in 0..rounds {
        for (taker, trials) in &mut taken {
            bar.set_message(taker.name());
            trials.push(streams.take_in(*taker).await?);
            bar.inc(1);
        }
    }
    let half = median(&taken[2].1, |taken| taken.rate) / 2.0;
    let mut lists = Vec::new();
    for rate in RATES.into_iter().chain([half]) {
        bar.set_message(format!("lists at {rate:.0} events/s"));
        let Paced { mut latencies, late, .. } = streams.lists(&shop, rate, seconds, FOLLOWED).await?;
        // Whoever has no list by now has waited for longer than all others.
        latencies.extend(std::iter::repeat_n(u32::MAX, late));
        latencies.sort_unstable();
        lists.push((rate, latencies));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(table(events, &taken, &lists))
}

fn median(trials: &[Taken], of: impl Fn(&Taken) -> f64) -> f64 {
    let mut sorted: Vec<f64> = trials.iter().map(of).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Returns an event of a person of the shop, which happens now.
fn event(shop: &Shop, draw: usize) -> StreamEvent {
    let mut random = Random(draw as u64);
    let person = random.below(PEOPLE);
    let kind = [Kind::View, Kind::Click, Kind::Cart][random.below(3)];
    let event = Event::new(kind, shop.item(person, random.below(1 << 20)), system_now_ms());
    StreamEvent { user_id: name(person), event, query: None, context: Known::default() }
}

impl<'a> Streams<'a> {
    /// Starts a broker and a Redis.
    pub(crate) async fn open(site: &'a Site<'a>, central: &'a Server) -> Result<Self> {
        let (broker, redis) = (services::Server::kafka()?, services::Server::redis()?);
        let kafka = Kafka::of(&broker.endpoint(), None, None)?;
        kafka.create(&[NewTopic { name: DEAD_LETTERS, partitions: 1, replicas: 1 }]).await?;
        Ok(Self { site, central, broker, redis, kafka, filled: 0, trials: 0 })
    }

    /// Fills a topic before anyone reads it.
    async fn fill(&mut self, shop: &Shop, events: usize) -> Result<()> {
        self.kafka.create(&[NewTopic { name: "full", partitions: PARTITIONS, replicas: 1 }]).await?;
        let producer: ThreadedProducer<DefaultProducerContext> = self.kafka.producer().create()?;
        for index in 0..events {
            let event = event(shop, index);
            let value = ENCODERS[index % 2].encode(&event);
            let mut record = BaseRecord::to("full").key(&event.user_id).payload(&value);
            while let Err((error, again)) = producer.send(record) {
                ensure!(error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull), "{error}");
                std::thread::sleep(Duration::from_millis(1));
                record = again;
            }
        }
        self.filled = events;
        Ok(producer.flush(WITHIN)?)
    }

    async fn take_in(&mut self, taker: Taker) -> Result<Taken> {
        self.trials += 1;
        match taker {
            Taker::Decoder => self.decode().await,
            Taker::Redb => {
                let edge = self.edge("redb", "full", "north")?;
                self.watch(&[edge]).await
            }
            Taker::Redis(edges) => {
                let users = self.users();
                let names = ["north", "south"];
                let edges = names[..edges].iter().map(|name| self.edge(&users, "full", name));
                let edges = edges.collect::<Result<Vec<_>>>()?;
                self.watch(&edges).await
            }
        }
    }

    /// Processors' time an event, in microseconds, of an edge with its users in Redis that takes in so many.
    pub(crate) async fn cost(&mut self, shop: &Shop, events: usize) -> Result<f64> {
        self.fill(shop, events).await?;
        Ok(self.take_in(Taker::Redis(1)).await?.cpu_us)
    }

    /// Users of whom nothing is kept: a database of the Redis that no trial has had.
    fn users(&self) -> String {
        format!("redis://{}/{}", self.redis.endpoint(), self.trials % 16)
    }

    fn edge(&self, users: &str, topic: &str, name: &str) -> Result<Server> {
        let group = format!("group-{}", self.trials);
        let brokers = self.broker.endpoint();
        let streams = ["--consume", "kafka", "--kafka", &brokers, "--kafka-topic", topic];
        let streams = [&streams[..], &["--kafka-group", &group]].concat();
        self.site.edge_named(&format!("{name}-{}", self.trials), self.central, users, &streams)
    }

    /// Reads the topic from its beginning, and decodes and checks every event as an edge does.
    async fn decode(&self) -> Result<Taken> {
        let consumer: BaseConsumer = self.kafka.client(&[("group.id", "decoder")]).create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset("full", partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let decoder = Decoder::new(Framing::Confluent, Arc::clone(&self.kafka.registry));
        let [from, to] = self.middle();
        let (mut begun, mut ended) = (None, None);
        for index in 0..self.filled {
            let message = consumer.poll(WITHIN).context("the topic has all events")??;
            let value = message.payload().unwrap_or_default();
            decoder.decode(message.key(), value, system_now_ms()).await?;
            if index == from {
                begun = Some((Instant::now(), own_cpu_seconds()?));
            } else if index == to {
                ended = Some((Instant::now(), own_cpu_seconds()?));
            }
        }
        let ((begun, cpu_before), (ended, cpu_after)) = begun.zip(ended).context("the middle was passed")?;
        Ok(taken(to - from, ended - begun, cpu_after - cpu_before))
    }

    fn middle(&self) -> [usize; 2] {
        [MIDDLE.0, MIDDLE.1].map(|share| (self.filled as f64 * share) as usize)
    }

    /// Watches edges until they have taken everything in.
    async fn watch(&self, edges: &[Server]) -> Result<Taken> {
        let [from, to] = self.middle();
        let (until, mut begun) = (Instant::now() + WITHIN, None);
        let cpu = || edges.iter().map(Server::cpu_seconds).sum::<Result<f64>>();
        loop {
            let applied = applied(edges).await?;
            match begun {
                None if applied >= from => begun = Some((Instant::now(), applied, cpu()?)),
                Some((since, before, cpu_before)) if applied >= to => {
                    return Ok(taken(applied - before, since.elapsed(), cpu()? - cpu_before));
                }
                _ => {}
            }
            ensure!(Instant::now() < until, "{applied} of {} events were taken in", self.filled);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Produces at a rate, and follows the lists of so many people.
    pub(crate) async fn lists(
        &mut self,
        shop: &Shop,
        rate: f64,
        seconds: f64,
        followed: usize,
    ) -> Result<Paced> {
        self.trials += 1;
        let topic = &format!("paced-{}", self.trials);
        self.kafka.create(&[NewTopic { name: topic, partitions: PARTITIONS, replicas: 1 }]).await?;
        let edge = self.edge(&self.users(), topic, "north")?;
        // Each event is sent at once: what waits for company would be counted here.
        let producer: FutureProducer = self.kafka.producer().set("linger.ms", "0").create()?;
        let names: HashSet<String> = (0..followed).map(name).collect();
        // Since when each of them waits for a list.
        let waiting: Rc<RefCell<HashMap<String, Instant>>> = Rc::default();
        let latencies: Rc<RefCell<Vec<u32>>> = Rc::default();
        let local = tokio::task::LocalSet::new();
        for person in 0..followed {
            let endpoint = Endpoint::from_shared(format!("http://{}", edge.address))?;
            let mut client = EdgeClient::new(endpoint.connect().await?);
            let list = Some(proto::ListRequest { count: 20, ..Default::default() });
            let asked = proto::RecommendationsRequest { user: name(person), list };
            let mut lists = client.follow(asked).await?.into_inner();
            // The list before any event.
            lists.message().await?;
            let (waiting, latencies) = (Rc::clone(&waiting), Rc::clone(&latencies));
            local.spawn_local(async move {
                while let Ok(Some(_)) = lists.message().await {
                    // It follows from the event that has waited longest, perhaps from further ones too: theirs are
                    // not counted.
                    if let Some(due) = waiting.borrow_mut().remove(&name(person)) {
                        latencies.borrow_mut().push(due.elapsed().as_micros() as u32);
                    }
                }
            });
        }
        let paced = local.run_until(async {
            let mut paced = None;
            // A warm-up, of which nothing is kept: the group forms, records are made.
            for (share, length, kept) in [(0.5, seconds / 4.0, false), (1.0, seconds, true)] {
                let call = |index: usize| {
                    let event = event(shop, index + usize::from(kept) * (1 << 30));
                    let value = ENCODERS[index % 2].encode(&event);
                    let record = FutureRecord::to(topic).key(&event.user_id).payload(&value);
                    if names.contains(&event.user_id) {
                        waiting.borrow_mut().entry(event.user_id.clone()).or_insert_with(Instant::now);
                    }
                    let sent = producer.send_result(record).map_err(|(error, _)| error);
                    async move {
                        let delivered = sent?.await?;
                        delivered.map_err(|(error, _): (KafkaError, _)| error)?;
                        Ok(())
                    }
                };
                let before = (edge.cpu_seconds()?, own_cpu_seconds()?);
                let trial = open_loop::run(rate * share, length, u64::from(kept), call).await;
                ensure!(trial.failed() == 0, "{}", trial.failure.unwrap_or_default());
                let until = Instant::now() + LISTS_WITHIN;
                while !waiting.borrow().is_empty() && Instant::now() < until {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                let after = (edge.cpu_seconds()?, own_cpu_seconds()?);
                let (late, latencies) = (waiting.take().len(), latencies.take());
                let (edge_seconds, producer_seconds) = (after.0 - before.0, after.1 - before.1);
                let (events, seconds) = (trial.calls, trial.seconds);
                paced = Some(Paced { latencies, late, events, seconds, edge_seconds, producer_seconds });
            }
            paced.context("the last trial is kept")
        });
        paced.await
    }
}

fn taken(events: usize, time: Duration, cpu_seconds: f64) -> Taken {
    Taken { rate: events as f64 / time.as_secs_f64(), cpu_us: cpu_seconds * 1e6 / events as f64 }
}

/// Returns how many events edges have taken in, by their metrics.
async fn applied(edges: &[Server]) -> Result<usize> {
    let mut applied = 0.0;
    for edge in edges {
        applied += edge.metric(r#"nearfield_edge_events_total{outcome="applied"}"#).await?;
    }
    Ok(applied as usize)
}

fn table(events: usize, taken: &[(Taker, Vec<Taken>)], lists: &[(f64, Vec<u32>)]) -> String {
    let mut text = format!(
        "## Events through Kafka\n\nWritten by `cargo xtask bench --streams`: {events} events of {PEOPLE} people, half in Avro, half in Protobuf, lie in a\n\
         topic of {PARTITIONS} partitions; 10,004 items, d = 64. Whoever takes them in begins at their beginning, with no user known, and\n\
         takes turns with the others; medians of {} rounds. The rate is that between 15 and 85 % of the events. The broker, Redis\n\
         and the edges share one machine's processors. CPU: of the edges or the reader, an event. \"Decodes only\" reads the topic in\n\
         one thread, decodes and checks each event as an edge does, and drops it.\n\n\
         | | events/s | × decodes only | CPU µs an event |\n|---|--:|--:|--:|\n",
        taken[0].1.len()
    );
    let limit = median(&taken[0].1, |taken| taken.rate);
    for (taker, trials) in taken {
        let (rate, cpu_us) = (median(trials, |taken| taken.rate), median(trials, |taken| taken.cpu_us));
        let _ = writeln!(text, "| {} | {rate:.0} | {:.3} | {cpu_us:.1} |", taker.name(), rate / limit);
    }
    let _ = write!(
        text,
        "\nHow soon a list follows: from an event that is handed to the producer to the list, pushed to a stream that follows the\n\
         user. One edge, Redis, an open loop; lists of {FOLLOWED} of the people; `acks=all`, and the producer does not wait for\n\
         company. It takes the same processors. The last rate is half of the edge's above, where the backlog gives it many\n\
         events of a user at once; here they come one by one.\n\n\
         | events/s | lists | p50 ms | p90 ms | p99 ms | p99.9 ms |\n|--:|--:|--:|--:|--:|--:|\n"
    );
    for (rate, latencies) in lists {
        let at = |share: f64| {
            let at = ((latencies.len() as f64 * share).ceil() as usize).clamp(1, latencies.len().max(1)) - 1;
            latencies.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1e3)
        };
        let percentiles = [0.5, 0.9, 0.99, 0.999].map(|share| format!("{:.1}", at(share))).join(" | ");
        let _ = writeln!(text, "| {rate:.0} | {} | {percentiles} |", latencies.len());
    }
    text
}
