//! `evaluate`: how good the recommendations are, by the product's own path.

use crate::commands::gate;
use crate::commands::train::{Training, open, read_events, train_log};
use crate::plot;
use anyhow::{Context, bail, ensure};
use nearfield_engine::Model;
use nearfield_trainer::evaluate::compare::{Comparison, compare};
use nearfield_trainer::evaluate::holdout_users::{holdout_users, test_users, without};
use nearfield_trainer::evaluate::leave_one_out::{leave_one_out, leave_out, read_cases};
use nearfield_trainer::evaluate::stream::stream;
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::progress::{Bar, Progress};
use nearfield_trainer::replay::Flow;
use nearfield_trainer::train::Trained;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;
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
    /// Exit with 1 if a figure is lower than in this earlier report by more than twice its standard error.
    #[arg(long, value_name = "BASELINE.json")]
    gate: Option<PathBuf>,
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
    // Read first: a file that is missing is told before minutes of work.
    let baseline = args.gate.as_deref().map(gate::read).transpose()?;
    let report = match args.protocol {
        Protocol::Stream => stream_report(args)?,
        Protocol::Loo => loo_report(args)?,
        Protocol::HoldoutUsers => holdout_report(args)?,
    };
    let text =
        if args.json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    println!("{text}");
    baseline.map_or(Ok(()), |baseline| gate::check(&baseline, &report))
}

fn stream_report(args: &Args) -> anyhow::Result<Value> {
    let mut log = read_events(&args.events)?;
    ensure!(
        log.timed,
        "{}: column \"timestamp\" is missing; the stream protocol needs it",
        args.events.display()
    );
    if let Some(seed) = args.shuffle_within_day {
        log.shuffle_within_day(seed);
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
        "idle_ms": args.idle_ms,
        "publish_ms": args.publish_ms,
        "publish_events": args.publish_events,
        "shuffled": args.shuffle_within_day.is_some(),
        "events": log.events.len(),
        "train_s": train_s,
        "replay_s": replay_s,
        "dim": report.dim, "sweeps": report.sweeps, "chosen": report.chosen,
    });
    merge(&mut value, rest);
    Ok(value)
}

fn loo_report(args: &Args) -> anyhow::Result<Value> {
    let Some(test) = &args.test else { bail!("--test FILE is missing; the loo protocol needs it") };
    let mut log = read_events(&args.events)?;
    let cases = read_cases(open(test)?).with_context(|| format!("cannot read {}", test.display()))?;
    leave_out(&mut log, &cases);
    report_on(args, "loo", &log, &log, |model| leave_one_out(&log, model, &cases))
}

fn holdout_report(args: &Args) -> anyhow::Result<Value> {
    let log = read_events(&args.events)?;
    ensure!(
        args.test_users > 0 && args.test_users < log.users.len(),
        "--test-users is {}, the range is 1 to {}",
        args.test_users,
        log.users.len() - 1
    );
    let test = test_users(&log, args.seed, args.test_users);
    let seen = without(&log, &test);
    report_on(args, "holdout-users", &log, &seen, |model| holdout_users(&log, model, &test))
}

/// Trains on the events of `seen`, and reports what a protocol over `log` finds of the model.
fn report_on<T: Serialize>(
    args: &Args,
    protocol: &str,
    log: &EventLog,
    seen: &EventLog,
    measure: impl FnOnce(&Model) -> T,
) -> anyhow::Result<Value> {
    let started = Instant::now();
    let Trained { model, report, .. } =
        train_log(seen, seen.events.len(), args.training.options(), !args.json)?;
    let train_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let all = measure(&model);
    Ok(json!({
        "protocol": protocol, "method": "nearfield", "events": log.events.len(), "all": all,
        "train_s": train_s, "replay_s": started.elapsed().as_secs_f64(), "dim": report.dim, "sweeps": report.sweeps, "chosen": report.chosen,
    }))
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}
