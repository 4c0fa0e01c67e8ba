//! `evaluate`: how good the recommendations are, by the product's own path.

use crate::commands::train::{Training, open, read_events, train_log};
use crate::plot;
use anyhow::{Context, bail, ensure};
use nearfield_engine::{Event, ItemKey, Kind, UserState, Workspace};
use nearfield_trainer::evaluate::compare::{Comparison, compare};
use nearfield_trainer::evaluate::stream;
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::progress::{Bar, Progress};
use nearfield_trainer::replay::Flow;
use nearfield_trainer::train::Trained;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Measures recommendation quality and prints one JSON object.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// stream: test, then learn, over the second half. loo: the held-out item among 99 negatives.
    /// holdout-users: people unseen in training.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Events (stream) or pairs (loo, holdout-users): .csv or .csv.gz.
    #[arg(long)]
    events: PathBuf,
    /// For loo: user,item,timestamp,n0…n98.
    #[arg(long)]
    test: Option<PathBuf>,
    /// Keep the trained model unchanged: the difference is what syncing is worth.
    #[arg(long)]
    frozen: bool,
    /// Shuffle the events of each day with this seed: shows what of the figure is listing order.
    #[arg(long, value_name = "SEED")]
    shuffle_within_day: Option<u64>,
    /// Seed of the choice of test users (numpy's default_rng).
    #[arg(long, default_value_t = 98765)]
    seed: u64,
    /// Test users of holdout-users.
    #[arg(long, default_value_t = 600)]
    test_users: usize,
    /// Idle time after which a device sends, in ms of stream time.
    #[arg(long, default_value_t = Flow::default().idle_ms)]
    idle_ms: u64,
    /// Time between versions, in ms of stream time.
    #[arg(long, default_value_t = Flow::default().publish_ms)]
    publish_ms: u64,
    /// Events between versions.
    #[arg(long, default_value_t = Flow::default().publish_events)]
    publish_events: u64,
    /// Devices that a row's contributions wait for.
    #[arg(long, default_value_t = 1)]
    k: u32,
    /// Run baselines and the parts of the score beside the product, on the same moments of the stream.
    #[arg(long)]
    compare: bool,
    /// Draw the learning curves of the comparison into this .svg file.
    #[arg(long, value_name = "FILE", requires = "compare")]
    plot: Option<PathBuf>,
    /// Print compact JSON, without the progress bar.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    training: Training,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Stream,
    Loo,
    HoldoutUsers,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with a file or an argument.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        !args.compare || args.protocol == Protocol::Stream,
        "--compare needs --protocol stream: its baselines learn from a stream"
    );
    if let Some(path) = &args.plot {
        let svg = path.extension().is_some_and(|extension| extension == "svg");
        ensure!(svg, "--plot {}: the name must end in .svg", path.display());
    }
    let report = match args.protocol {
        Protocol::Stream => stream_report(args)?,
        Protocol::Loo => loo_report(args)?,
        Protocol::HoldoutUsers => holdout_report(args)?,
    };
    let text =
        if args.json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    println!("{text}");
    Ok(())
}

fn stream_report(args: &Args) -> anyhow::Result<Value> {
    let mut log = read_events(&args.events)?;
    ensure!(
        log.timed,
        "{}: column \"timestamp\" is missing; the stream protocol needs it",
        args.events.display()
    );
    if let Some(seed) = args.shuffle_within_day {
        shuffle_within_day(&mut log, seed);
    }
    let half = log.events.len() / 2;
    let started = Instant::now();
    let Trained { model, statistics, report } = train_log(&log, half, args.training.options(), !args.json)?;
    let train_s = started.elapsed().as_secs_f64();
    let flow = Flow {
        idle_ms: args.idle_ms,
        publish_ms: args.publish_ms,
        publish_events: args.publish_events,
        k: args.k,
        frozen: args.frozen,
    };
    let bar = Bar::new();
    let (mut value, replay_s) = if args.compare {
        let found = compare(&log, half, model, statistics, flow, &bar);
        if let Some(path) = &args.plot {
            std::fs::write(path, plot::learning_curves(&found)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let Comparison { report, compare, parts, replay_s, .. } = found;
        let mut value = serde_json::to_value(&report)?;
        merge(&mut value, json!({ "compare": compare, "parts": parts }));
        (value, replay_s)
    } else {
        bar.stage("replay", (log.events.len() - half) as u64);
        let started = Instant::now();
        let found = stream(&log, half, model, statistics, flow, |steps| bar.advance(steps));
        (serde_json::to_value(&found)?, started.elapsed().as_secs_f64())
    };
    bar.finish();
    let rest = json!({
        "protocol": "stream",
        "method": if args.frozen { "nearfield-frozen" } else { "nearfield" },
        "k": args.k,
        "shuffled": args.shuffle_within_day.is_some(),
        "events": log.events.len(),
        "train_s": train_s,
        "replay_s": replay_s,
        "dim": report.dim, "sweeps": report.sweeps, "chosen": report.chosen,
    });
    merge(&mut value, rest);
    Ok(value)
}

/// Orders the events of each day (UTC) by a keyed hash, leaving their times as slots.
fn shuffle_within_day(log: &mut EventLog, seed: u64) {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let times: Vec<u64> = log.events.iter().map(|event| event.time_ms).collect();
    let mut order: Vec<(u64, u64, usize)> = (0..log.events.len())
        .map(|index| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&seed.to_le_bytes());
            hasher.update(&(index as u64).to_le_bytes());
            let mut key = [0; 8];
            key.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
            (times[index] / DAY_MS, u64::from_le_bytes(key), index)
        })
        .collect();
    order.sort_unstable();
    let mut sorted = times;
    sorted.sort_unstable();
    log.events = order
        .iter()
        .zip(sorted)
        .map(|((.., index), time_ms)| nearfield_trainer::event_log::LogEvent {
            time_ms,
            ..log.events[*index]
        })
        .collect();
}

fn loo_report(args: &Args) -> anyhow::Result<Value> {
    let Some(test) = &args.test else { bail!("--test FILE is missing; the loo protocol needs it") };
    let mut log = read_events(&args.events)?;
    let users: HashMap<String, u32> =
        log.users.iter().enumerate().map(|(index, name)| (name.clone(), index as u32)).collect();
    drop_held_out(&mut log, &users, test)?;
    let started = Instant::now();
    let Trained { model, report, .. } =
        train_log(&log, log.events.len(), args.training.options(), !args.json)?;
    let train_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut people = people(&log);
    let mut reader = csv::Reader::from_reader(open(test)?);
    let (mut n, mut hits, mut gain) = (0u64, 0.0, 0.0);
    let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
    for record in reader.records() {
        let record = record.with_context(|| format!("cannot read {}", test.display()))?;
        let line = record.position().map_or(0, csv::Position::line);
        ensure!(
            record.len() > 3,
            "{}: line {line} has {} columns, at least 4 are needed",
            test.display(),
            record.len()
        );
        n += 1;
        let Some(person) = users.get(&record[0]).and_then(|user| people.get_mut(user)) else { continue };
        person.factor_scores(&model, &mut workspace, &mut scores);
        let score =
            |id: &str| model.row(ItemKey::of(id)).map_or(f32::NEG_INFINITY, |row| scores[row as usize]);
        let own = score(&record[1]);
        let above = record.iter().skip(3).filter(|id| score(id) > own).count();
        if above < 10 && own > f32::NEG_INFINITY {
            hits += 1.0;
            gain += 1.0 / (2.0 + above as f64).log2();
        }
    }
    let all = json!({ "n": n, "hr10": hits / n.max(1) as f64, "ndcg10": gain / n.max(1) as f64 });
    Ok(json!({
        "protocol": "loo", "method": "nearfield", "events": log.events.len(), "all": all,
        "train_s": train_s, "replay_s": started.elapsed().as_secs_f64(), "dim": report.dim, "sweeps": report.sweeps, "chosen": report.chosen,
    }))
}

/// Drops the pairs that the test asks for: a file of all pairs has them too.
fn drop_held_out(log: &mut EventLog, users: &HashMap<String, u32>, test: &Path) -> anyhow::Result<()> {
    let items: HashMap<&str, u32> =
        log.items.iter().enumerate().map(|(index, id)| (id.as_str(), index as u32)).collect();
    let mut held_out = HashSet::new();
    for record in csv::Reader::from_reader(open(test)?).records() {
        let record = record.with_context(|| format!("cannot read {}", test.display()))?;
        let pair =
            record.get(0).and_then(|user| users.get(user)).zip(record.get(1).and_then(|id| items.get(id)));
        held_out.extend(pair.map(|(user, item)| (*user, *item)));
    }
    log.events.retain(|event| !held_out.contains(&(event.user, event.item)));
    Ok(())
}

fn holdout_report(args: &Args) -> anyhow::Result<Value> {
    let log = read_events(&args.events)?;
    let order = crate::numpy::permutation(args.seed, log.users.len());
    ensure!(
        args.test_users > 0 && args.test_users < log.users.len(),
        "--test-users is {}, the range is 1 to {}",
        args.test_users,
        log.users.len() - 1
    );
    // Users as numpy would number them: in rising order of their ids where those are numbers.
    let mut numbered: Vec<u32> = (0..log.users.len() as u32).collect();
    numbered.sort_by_key(|user| {
        let name = &log.users[*user as usize];
        (name.parse::<u64>().unwrap_or(u64::MAX), name.clone())
    });
    let test: Vec<u32> =
        order[order.len() - args.test_users..].iter().map(|index| numbered[*index as usize]).collect();
    let test_set: HashSet<u32> = test.iter().copied().collect();
    let mut seen = EventLog { events: Vec::new(), ..log.clone() };
    seen.events = log.events.iter().copied().filter(|event| !test_set.contains(&event.user)).collect();
    let started = Instant::now();
    let Trained { model, report, .. } =
        train_log(&seen, seen.events.len(), args.training.options(), !args.json)?;
    let train_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut by_user: HashMap<u32, Vec<u32>> = HashMap::new();
    for event in log.events.iter().filter(|event| test_set.contains(&event.user)) {
        by_user.entry(event.user).or_default().push(event.item);
    }
    let (mut r20, mut r50, mut n100, mut n) = (0.0, 0.0, 0.0, 0u64);
    let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
    for user in &test {
        let items = &by_user[user];
        let cut = (items.len() as f64 * 0.8) as usize;
        if cut == 0 || cut == items.len() {
            continue;
        }
        n += 1;
        let mut person = UserState::new();
        for (index, item) in items[..cut].iter().enumerate() {
            let event = Event::new(Kind::View, log.items[*item as usize].clone(), index as u64);
            person.learn(&model, &event, index as u64)?;
        }
        person.factor_scores(&model, &mut workspace, &mut scores);
        let row = |item: &u32| model.row(ItemKey::of(&log.items[*item as usize]));
        let folded: HashSet<u32> = items[..cut].iter().filter_map(row).collect();
        let targets: HashSet<u32> = items[cut..].iter().filter_map(row).collect();
        let mut ranked: Vec<u32> = (0..model.len() as u32).filter(|row| !folded.contains(row)).collect();
        ranked.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let held_out = items.len() - cut;
        let hits =
            |count: usize| ranked.iter().take(count).filter(|row| targets.contains(row)).count() as f64;
        r20 += hits(20) / held_out.min(20) as f64;
        r50 += hits(50) / held_out.min(50) as f64;
        let discount = |index: usize| 1.0 / (2.0 + index as f64).log2();
        let gain: f64 = ranked
            .iter()
            .take(100)
            .enumerate()
            .filter(|(_, row)| targets.contains(row))
            .map(|(i, _)| discount(i))
            .sum();
        n100 += gain / (0..held_out.min(100)).map(discount).sum::<f64>();
    }
    let mean = |sum: f64| sum / n.max(1) as f64;
    Ok(json!({
        "protocol": "holdout-users", "method": "nearfield", "events": log.events.len(),
        "all": { "n": n, "recall20": mean(r20), "recall50": mean(r50), "ndcg100": mean(n100) },
        "train_s": train_s, "replay_s": started.elapsed().as_secs_f64(), "dim": report.dim, "sweeps": report.sweeps, "chosen": report.chosen,
    }))
}

/// Folds everyone's training events in.
fn people(log: &EventLog) -> HashMap<u32, UserState> {
    let mut people: HashMap<u32, UserState> = HashMap::new();
    for index in 0..log.events.len() {
        people.entry(log.events[index].user).or_default().remember(&log.event(index));
    }
    people
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_test_asks_for_is_not_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let test = folder.path().join("test.csv");
        std::fs::write(&test, "user,item,timestamp,n0\na,x,1,y\nb,unknown,1,y\n").unwrap();
        let mut log = EventLog::read_csv("user,item\na,x\na,y\nb,x\n".as_bytes()).unwrap();
        let users = HashMap::from([("a".to_owned(), 0), ("b".to_owned(), 1)]);
        drop_held_out(&mut log, &users, &test).unwrap();
        let left: Vec<(u32, u32)> = log.events.iter().map(|event| (event.user, event.item)).collect();
        assert_eq!(left, [(0, 1), (1, 0)]);
    }
}
