//! Latency over rate: each way to ask an edge, and serenade, at rates that rise until it falls behind.

use crate::Args;
use crate::callers::{Caller, Face, Verb, teach_all};
use crate::isolation;
use crate::open_loop::{self, Trial};
use crate::report;
use crate::servers::{Server, Site};
use crate::shop::Shop;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_engine::golden::Random;
use std::path::Path;
use std::time::Duration;

/// Calls a second.
const RATES: [f64; 10] = [250.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0, 6000.0, 8000.0, 12_000.0];
/// A target keeps up with a rate if 99 % of its answers come within so many milliseconds.
pub(crate) const KEPT_UP_MS: f64 = 50.0;
/// People who ask; each has 40 events behind them.
pub(crate) const PEOPLE: usize = 1000;
/// People taught in one call.
const TAUGHT_AT_ONCE: usize = 50;

/// One way to ask one server.
pub(crate) struct Target {
    /// Who answers.
    pub(crate) server: &'static str,
    /// How it is asked.
    pub(crate) face: Face,
    /// For what.
    pub(crate) verb: Verb,
    /// Where its users are kept.
    pub(crate) store: &'static str,
    caller: Caller,
    /// What came of each rate.
    pub(crate) steps: Vec<Step>,
}

/// What came of one rate.
#[derive(Default)]
pub(crate) struct Step {
    /// Calls a second that were due.
    pub(crate) rate: f64,
    /// The calls of all rounds.
    pub(crate) trial: Trial,
    /// Processors' time of the server, in seconds.
    pub(crate) cpu_seconds: f64,
}

impl Step {
    /// Whether the target kept up.
    pub(crate) fn kept_up(&self) -> bool {
        self.trial.failed() == 0 && self.trial.percentile(0.99) <= KEPT_UP_MS
    }

    /// Processors' time a call, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.trial.calls as f64
    }
}

impl Target {
    /// The highest rate that it kept up with, all those below included.
    pub(crate) fn highest(&self) -> Option<&Step> {
        self.steps.iter().take_while(|step| step.kept_up()).last()
    }

    fn is_behind(&self) -> bool {
        self.steps.last().is_some_and(|step| !step.kept_up())
    }
}

/// Measures, and returns the table.
pub(crate) async fn run(args: &Args, serenade: Option<&Path>, only: Option<&str>) -> Result<String> {
    let (rounds, seconds) = if args.quick { (1, 1.0) } else { (3, 2.0) };
    let shop = Shop::open()?;
    let site = Site::open(args, &shop)?;
    let central = site.central()?;
    let redb = site.edge(&central, "redb")?;
    let memory = site.edge(&central, "memory")?;
    let serenade = serenade.map(|program| site.serenade(program, &shop)).transpose()?;

    eprintln!("the core in and out of its sandbox");
    let pack = std::fs::read(redb.folder.join("model.pack")).context("the edge keeps its model")?;
    let guest = std::fs::read(&args.guest)?;
    let isolation = isolation::measure(&guest, &pack, &shop, if args.quick { 3 } else { 21 })?;

    let mut targets = Vec::new();
    for verb in [Verb::Events, Verb::Recommendations, Verb::Observe] {
        for face in Face::ALL {
            targets.push(target("edge", &redb, face, verb, "redb").await?);
        }
    }
    targets.push(target("edge", &memory, Face::Http1, Verb::Observe, "memory").await?);
    for server in [&redb, &memory] {
        warm(server, &shop).await?;
    }
    if let Some(serenade) = &serenade {
        targets.push(target("serenade", serenade, Face::Http1, Verb::Serenade, "RocksDB").await?);
    }
    if let Some(only) = only {
        targets.retain(|target| {
            let Target { server, face, verb, store, .. } = target;
            let words = [*server, face.name(), verb.name(), *store];
            only.split_whitespace().all(|word| words.contains(&word))
        });
        ensure!(!targets.is_empty(), "nothing answers to {only:?}");
    }
    let server_of = |target: &Target| match (target.server, &serenade) {
        ("serenade", Some(serenade)) => serenade,
        _ if target.store == "memory" => &memory,
        _ => &redb,
    };

    let bar = ProgressBar::new((RATES.len() * rounds * targets.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {eta} left  {msg}")?);
    // Connections, caches and pages are warm before anything counts.
    for target in &targets {
        trial(target, server_of(target), &shop, 500.0, seconds, 0).await?;
    }
    for rate in RATES {
        for round in 0..rounds {
            for target in &mut targets {
                bar.inc(1);
                let begun = target.steps.last().is_some_and(|step| step.rate >= rate);
                if !begun && target.is_behind() {
                    continue;
                }
                bar.set_message(format!("{} {} at {rate}/s", target.verb.name(), target.face.name()));
                // The same people at the same times for all.
                let seed = rate as u64 * 100 + round as u64;
                let (done, cpu_seconds) =
                    trial(target, server_of(target), &shop, rate, seconds, seed).await?;
                if !begun {
                    target.steps.push(Step { rate, ..Step::default() });
                }
                let step = target.steps.last_mut().context("a step was begun")?;
                step.trial.add(done);
                step.cpu_seconds += cpu_seconds;
            }
        }
    }
    bar.finish_and_clear();
    let memory_mb = redb.memory_mb()?;
    if let Some(picture) = &args.picture {
        report::draw(picture, &targets)?;
    }
    let items = items_of(&pack)?;
    Ok(report::table(items, &targets, &isolation, memory_mb))
}

fn items_of(pack: &[u8]) -> Result<usize> {
    Ok(nearfield_engine::Model::load(pack)?.len())
}

async fn target(
    name: &'static str,
    server: &Server,
    face: Face,
    verb: Verb,
    store: &'static str,
) -> Result<Target> {
    let caller = Caller::connect(face, server.address).await?;
    Ok(Target { server: name, face, verb, store, caller, steps: Vec::new() })
}

/// Teaches an edge everyone's past.
pub(crate) async fn warm(server: &Server, shop: &Shop) -> Result<()> {
    let past = |person: usize| (name(person), shop.people[person].clone());
    teach_all(server.address, TAUGHT_AT_ONCE, (0..PEOPLE).map(past)).await
}

pub(crate) fn name(person: usize) -> String {
    format!("person-{person}")
}

async fn trial(
    target: &Target,
    server: &Server,
    shop: &Shop,
    rate: f64,
    seconds: f64,
    seed: u64,
) -> Result<(Trial, f64)> {
    let before = server.cpu_seconds()?;
    let call = |index: usize| {
        let mut random = Random(seed << 32 | index as u64);
        let person = random.below(PEOPLE);
        target.caller.call(index, target.verb, name(person), shop.item(person, random.below(1 << 20)))
    };
    let done = open_loop::run(rate, seconds, seed, call).await;
    // What was begun for a call may end after its answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok((done, server.cpu_seconds()? - before))
}
