//! `replay`: recorded events sent to a topic, as fast as it takes them or at a multiple of the time they took.

use super::train;
use anyhow::{Context, bail};
use clap::ValueEnum;
use nearfield_events::kafka::{Kafka, Sender, Topic};
use nearfield_events::registry::Schema;
use nearfield_events::{Encoder, Framing};
use nearfield_trainer::progress::{Bar, Progress};
use nearfield_trainer::recorded::Recorded;
use rdkafka::producer::BaseRecord;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Sends recorded events to a stream, each with its recorded time.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Events: .csv or .csv.gz with user,item,timestamp and perhaps event, event_id, value, session, query,
    /// utc_offset_minutes, device, referrer, price, category.
    events: PathBuf,
    /// Where they go.
    #[arg(long, value_enum)]
    to: Stream,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic, or NAME=json where its records are JSON without a schema.
    #[arg(long, value_name = "NAME", value_parser = Topic::parse)]
    kafka_topic: Topic,
    /// What the events are written in, where the topic is not of JSON.
    #[arg(long, value_enum, default_value_t = Format::Avro)]
    kafka_format: Format,
    /// How many times faster than they happened, such as 60 for an hour a minute [default: as fast as the brokers take
    /// them].
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// Send this many events at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// The brokers.
#[derive(clap::Args, Debug)]
pub struct KafkaArgs {
    /// Kafka brokers to begin with, host:port separated by commas.
    #[arg(long, value_name = "BROKERS", env = "NEARFIELD_KAFKA")]
    pub kafka: Option<String>,
    /// A file of further settings of librdkafka, name=value a line, such as those of SASL.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_KAFKA_SETTINGS")]
    kafka_settings: Option<PathBuf>,
    /// A Confluent-compatible schema registry, https://user:password@host/path [default: the released schemas].
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_REGISTRY")]
    registry: Option<String>,
}

impl KafkaArgs {
    /// Returns the cluster.
    ///
    /// # Errors
    /// What is missing, or wrong with the settings or the registry's address.
    pub fn open(&self) -> anyhow::Result<Kafka> {
        let brokers = self.kafka.as_deref().context("--kafka BROKERS is missing")?;
        Ok(Kafka::of(brokers, self.registry.as_deref(), self.kafka_settings.as_deref())?)
    }
}

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// A Kafka topic.
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Avro,
    Protobuf,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if speed > 0.0 && speed.is_finite() { Ok(speed) } else { Err(format!("{speed} is not above 0")) }
}

/// Records that the producer holds before reading waits (choice: some megabytes).
const QUEUED_MAX: &str = "20000";
/// Longest wait for the brokers after the last event.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// Runs the command.
///
/// # Errors
/// What is wrong with the file, the brokers or the registry.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let named = || args.events.display().to_string();
    let mut recorded = Recorded::open(train::open(&args.events)?).with_context(named)?;
    if args.speed.is_some() && !recorded.timed() {
        bail!("{}: --speed needs a column timestamp", named());
    }
    let kafka = args.kafka.open()?;
    let encoder = encoder(&kafka, args)?;
    let mut config = kafka.producer();
    config.set("queue.buffering.max.messages", QUEUED_MAX);
    let sender = Sender::open(&kafka, &config)?;
    kafka.partitions(sender.client(), &args.kafka_topic.name)?;

    let bar = Bar::new();
    bar.stage("events sent", args.limit.unwrap_or(0));
    let (started, mut first_ms, mut sent) = (Instant::now(), None, 0u64);
    while args.limit.is_none_or(|limit| sent < limit) {
        let Some(event) = recorded.next().with_context(named)? else { break };
        if let Some(speed) = args.speed {
            let first_ms = *first_ms.get_or_insert(event.event.time_ms);
            let after_ms = event.event.time_ms.saturating_sub(first_ms) as f64 / speed;
            wait_until(started + Duration::from_secs_f64(after_ms / 1000.0));
        }
        let value = encoder.encode(&event);
        sender.send(BaseRecord::to(&args.kafka_topic.name).key(event.user_id.as_bytes()).payload(&value))?;
        sent += 1;
        bar.advance(1);
        if sender.lost() > 0 {
            break;
        }
    }
    let lost = sender.flush(FLUSH_WITHIN)?;
    bar.finish();
    if lost > 0 {
        bail!("the brokers did not take {lost} of {sent} events");
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{sent} events in {seconds:.1} s, {:.0} a second", sent as f64 / seconds.max(1e-9));
    Ok(())
}

fn encoder(kafka: &Kafka, args: &Args) -> anyhow::Result<Encoder> {
    let subject = format!("{}-value", args.kafka_topic.name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let register = |schema: Schema| runtime.block_on(kafka.registry.register(&subject, &schema));
    Ok(match (args.kafka_topic.framing, args.kafka_format) {
        (Framing::Json, _) => Encoder::Json,
        (Framing::Confluent, Format::Avro) => Encoder::Avro(register(Schema::avro())?),
        (Framing::Confluent, Format::Protobuf) => Encoder::Protobuf(register(Schema::protobuf())?),
    })
}

fn wait_until(when: Instant) {
    std::thread::sleep(when.saturating_duration_since(Instant::now()));
}
