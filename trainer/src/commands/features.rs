//! `features`: the features of recorded events, or of a topic of features, as Parquet; and how they are distributed.

use super::replay::{KafkaArgs, Stream};
use super::train;
use anyhow::{Context, bail};
use nearfield_engine::features::{Baseline, Features};
use nearfield_events::FeatureRow;
use nearfield_events::registry::Schema;
use nearfield_trainer::features::{Rows, Writer};
use nearfield_trainer::progress::{Bar, Progress};
use nearfield_trainer::recorded::Recorded;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes the features of events as Parquet, for the training of rankers.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Recorded events, .csv or .csv.gz, as for `replay`.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    events: Option<PathBuf>,
    /// A topic of features instead, which edges publish.
    #[arg(long, value_enum)]
    from: Option<Stream>,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic of features.
    #[arg(long, value_name = "NAME", requires = "from")]
    kafka_features: Option<String>,
    /// The Parquet file; of a topic, a folder that gets a file for each partition with what the files there do not
    /// have yet.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// A file for how the features written now are distributed, which edges compare theirs with.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// Longest wait for the brokers.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// What is wrong with a file, the topic, or a row.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut written = Vec::new();
    match &args.events {
        Some(events) => recorded(events, &args.out, &mut written)?,
        None => topic(args, &mut written)?,
    }
    eprintln!("features of {} events", written.len());
    if let Some(file) = &args.baseline {
        if written.is_empty() {
            bail!("no features, so no baseline");
        }
        let json = serde_json::to_vec_pretty(&Baseline::of(&written))?;
        in_place(file, |path| Ok(fs::write(path, &json)?))?;
    }
    Ok(())
}

/// Writes the features of a file of events.
fn recorded(events: &Path, out: &Path, written: &mut Vec<Features>) -> anyhow::Result<()> {
    let named = || events.display().to_string();
    let mut rows = Rows::new(Recorded::open(train::open(events)?).with_context(named)?);
    let bar = Bar::new();
    bar.stage("features", 0);
    in_place(out, |path| {
        let mut writer = Writer::new(File::create(path)?)?;
        while let Some(row) = rows.next().with_context(named)? {
            written.push(row.features.clone());
            writer.push(row)?;
            bar.advance(1);
        }
        Ok(writer.finish()?)
    })?;
    bar.finish();
    Ok(())
}

/// Writes what a topic has now and the folder's files do not: `features-PARTITION-FIRST-LAST.parquet`, by the offsets
/// in the topic. A row that came twice is written once in a file, and whoever is forgotten is left out from there back
/// to the file's beginning.
fn topic(args: &Args, written: &mut Vec<Features>) -> anyhow::Result<()> {
    let topic = args.kafka_features.as_deref().context("--kafka-features NAME is missing")?;
    let kafka = args.kafka.open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let subject = format!("{topic}-value");
    let schema = runtime.block_on(kafka.registry.register(&subject, &Schema::features()))?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;

    let mut config = kafka.client(&[("group.id", "nearfield-features")]);
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().map_err(kafka.failed())?;
    let (mut list, mut open) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in kafka.partitions(consumer.client(), topic)? {
        let (first, end) = consumer.fetch_watermarks(topic, partition, WITHIN).map_err(kafka.failed())?;
        let begin = next_offset(&args.out, partition)?.max(first);
        if begin < end {
            list.add_partition_offset(topic, partition, Offset::Offset(begin)).map_err(kafka.failed())?;
            open.insert(partition, Part { begin, end, rows: Vec::new(), places: HashSet::new() });
        }
    }
    consumer.assign(&list).map_err(kafka.failed())?;
    let bar = Bar::new();
    bar.stage("features", open.values().map(|part| (part.end - part.begin) as u64).sum());
    while !open.is_empty() {
        let message = consumer.poll(WITHIN).context("kafka gives no records, although there are some")?;
        let message = message.map_err(kafka.failed())?;
        let partition = message.partition();
        let Some(part) = open.get_mut(&partition) else { continue };
        match message.payload().map(|value| FeatureRow::decode(value, schema)) {
            Some(row) => {
                let offset = message.offset();
                let row = row.with_context(|| format!("{topic}, partition {partition}, offset {offset}"))?;
                if part.places.insert((row.partition, row.offset)) {
                    part.rows.push(row);
                }
            }
            None => part.rows.retain(|row| Some(row.user_id.as_bytes()) != message.key()),
        }
        bar.advance(1);
        if message.offset() + 1 >= part.end
            && let Some(Part { begin, end, rows, .. }) = open.remove(&partition)
        {
            written.extend(rows.iter().map(|row| row.features.clone()));
            let file = args.out.join(format!("features-{partition}-{begin}-{}.parquet", end - 1));
            in_place(&file, |path| {
                let mut writer = Writer::new(File::create(path)?)?;
                rows.into_iter().try_for_each(|row| writer.push(row))?;
                Ok(writer.finish()?)
            })?;
        }
    }
    bar.finish();
    Ok(())
}

/// What is read of one partition, from its first offset to the one after its last.
struct Part {
    begin: i64,
    end: i64,
    rows: Vec<FeatureRow>,
    /// Where the rows came from in the topic of events.
    places: HashSet<(i32, i64)>,
}

/// Returns the offset after those that the files of a folder have of a partition.
fn next_offset(folder: &Path, partition: i32) -> anyhow::Result<i64> {
    let prefix = format!("features-{partition}-");
    let mut next = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let last = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".parquet"));
        if let Some(last) = last.and_then(|offsets| offsets.rsplit('-').next()?.parse::<i64>().ok()) {
            next = next.max(last + 1);
        }
    }
    Ok(next)
}

/// Writes a file beside its place first, so that a half of one never stands there.
fn in_place(file: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    write(&beside)
        .and_then(|()| Ok(fs::rename(&beside, file)?))
        .with_context(|| format!("cannot write {}", file.display()))
}
