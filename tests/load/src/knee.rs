//! Where edge and central bend: the rate at which the 99th percentile has doubled, beside what any server on this
//! stack could do in the same run.
//!
//! Rates rise by turns: each rate for every target before the next one. A target that does not keep up is left out of
//! the higher ones.

use crate::Args;
use crate::callers::{Connections, Verb, check, request};
use crate::curve::{KEPT_UP_MS, PEOPLE, name, warm};
use crate::open_loop::{self, Trial};
use crate::servers::{Server, Site};
use crate::shop::Shop;
use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_engine::golden::Random;
use nearfield_engine::sync::wire::{Outcome, SyncReply, SyncRequest, decode_reply, encode_request};
use nearfield_engine::{Delta, DeltaId, Kind, Lineage, Model, ModelVersion, Touch};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

/// Calls a second, each √2 above the one before.
const RATES: [f64; 14] = [
    250.0, 354.0, 500.0, 707.0, 1000.0, 1414.0, 2000.0, 2828.0, 4000.0, 5657.0, 8000.0, 11_314.0, 16_000.0,
    22_627.0,
];
/// Rates whose percentiles, their median, say how long an answer takes without a queue.
const CALM: usize = 3;
/// Items of a delta.
const TOUCHES: u64 = 20;

/// What is asked of a server.
struct Target<'a> {
    what: &'static str,
    /// The target that is the most that could be had.
    limit: Option<&'static str>,
    server: &'a Server,
    connections: Connections,
    make: Rc<dyn Fn(u64) -> Result<Request<Full<Bytes>>>>,
    check: fn(&[u8]) -> Result<()>,
    steps: Vec<Step>,
}

struct Step {
    rate: f64,
    trial: Trial,
    cpu_seconds: f64,
}

impl Target<'_> {
    /// The 99th percentile without a queue, in milliseconds.
    fn calm_ms(&self) -> f64 {
        let mut calm: Vec<f64> =
            self.steps.iter().take(CALM).map(|step| step.trial.percentile(0.99)).collect();
        calm.sort_by(f64::total_cmp);
        calm.get(calm.len() / 2).copied().unwrap_or(f64::INFINITY)
    }

    /// The last step before the percentile had doubled for good.
    fn knee(&self) -> Option<&Step> {
        let doubled = 2.0 * self.calm_ms();
        self.steps
            .iter()
            .rev()
            .find(|step| step.trial.failed() == 0 && step.trial.percentile(0.99) <= doubled)
    }

    fn keeps_up(&self) -> bool {
        self.steps
            .last()
            .is_none_or(|step| step.trial.failed() == 0 && step.trial.percentile(0.5) <= KEPT_UP_MS)
    }
}

/// Measures, and returns the table.
pub(crate) async fn run(args: &Args, seconds: u32) -> Result<String> {
    let seconds = f64::from(seconds) / RATES.len() as f64;
    let shop = Rc::new(Shop::open()?);
    let site = Site::open(args, &shop)?;
    // As a busy site has it: a version every half a minute.
    let central = site.central_with(&[
        "--publish-every-ms",
        "30000",
        "--publish-deltas",
        "1000000",
        "--syncs-per-token",
        "0",
    ])?;
    let edge = site.edge(&central, "redb")?;
    warm(&edge, &shop).await?;
    let model =
        Model::load(&std::fs::read(edge.folder.join("model.pack")).context("the edge keeps its model")?)?;
    let token = Connections::open(central.address).await?.send(post("/v1/device", Bytes::new())?).await?;
    let sync = deltas(&model, token);
    let first = Connections::open(edge.address)
        .await?
        .send(request(Verb::Observe, "somebody", shop.item(0, 0))?)
        .await?;
    let limits = site.limits(first.len())?;

    let (asked, observed) = (Rc::clone(&shop), Rc::clone(&shop));
    let of_edge = |verb: Verb, shop: Rc<Shop>| -> Rc<dyn Fn(u64) -> Result<Request<Full<Bytes>>>> {
        Rc::new(move |seed| {
            let mut random = Random(seed);
            let person = random.below(PEOPLE);
            request(verb, &name(person), shop.item(person, random.below(1 << 20)))
        })
    };
    let event =
        Bytes::from(format!(r#"{{"events":{{"kind":"view_item","item_id":"{}"}}}}"#, shop.item(0, 0)));
    let committed = Rc::clone(&sync);
    let mut targets = vec![
        Target {
            what: "edge: a list",
            limit: Some("a plain axum handler"),
            server: &edge,
            connections: Connections::open(edge.address).await?,
            make: of_edge(Verb::Recommendations, asked),
            check: |body| check(Verb::Recommendations, body),
            steps: Vec::new(),
        },
        Target {
            what: "edge: an event and its list",
            limit: Some("a plain redb group commit"),
            server: &edge,
            connections: Connections::open(edge.address).await?,
            make: of_edge(Verb::Observe, observed),
            check: |body| check(Verb::Observe, body),
            steps: Vec::new(),
        },
        Target {
            what: "central: a delta",
            limit: Some("a plain redb group commit"),
            server: &central,
            connections: Connections::open(central.address).await?,
            make: Rc::new(move |seed| post("/v1/sync", sync(seed)?)),
            check: acknowledged,
            steps: Vec::new(),
        },
        Target {
            what: "a plain axum handler",
            limit: None,
            server: &limits,
            connections: Connections::open(limits.address).await?,
            make: Rc::new(move |_| post("/answer", event.clone())),
            check: |_| Ok(()),
            steps: Vec::new(),
        },
        Target {
            what: "a plain redb group commit",
            limit: None,
            server: &limits,
            connections: Connections::open(limits.address).await?,
            make: Rc::new(move |seed| post("/commit", committed(seed)?)),
            check: |_| Ok(()),
            steps: Vec::new(),
        },
    ];

    let bar = ProgressBar::new((RATES.len() * targets.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {eta} left  {msg}")?);
    for target in &targets {
        trial(target, 250.0, seconds.min(1.0), 1).await?;
    }
    for rate in RATES {
        for target in &mut targets {
            bar.inc(1);
            if !target.keeps_up() {
                continue;
            }
            bar.set_message(format!("{} at {rate}/s", target.what));
            let (trial, cpu_seconds) = trial(target, rate, seconds, rate as u64).await?;
            target.steps.push(Step { rate, trial, cpu_seconds });
        }
    }
    bar.finish_and_clear();
    table(&targets, model.len(), &[("edge", &edge), ("central", &central)])
}

async fn trial(target: &Target<'_>, rate: f64, seconds: f64, seed: u64) -> Result<(Trial, f64)> {
    let before = target.server.cpu_seconds()?;
    let call = |index: usize| {
        let (connections, check) = (target.connections.clone(), target.check);
        let request = (target.make)(seed << 32 | index as u64);
        async move { check(&connections.send(request?).await?) }
    };
    let done = open_loop::run(rate, seconds, seed, call).await;
    // What was begun for a call may end after its answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok((done, target.server.cpu_seconds()? - before))
}

fn post(path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    let request = Request::post(format!("http://site.example{path}")).header("host", "site.example");
    Ok(request.header("content-type", "application/octet-stream").body(Full::new(body))?)
}

/// Returns what makes sync bodies of one delta each, with an id for each number.
fn deltas(model: &Model, token: Bytes) -> Rc<impl Fn(u64) -> Result<Bytes> + use<>> {
    let (lineage, rows, dim): (Lineage, u64, usize) = (model.lineage(), model.len() as u64, model.dim());
    Rc::new(move |seed: u64| {
        let mut random = Random(seed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seed.to_le_bytes());
        let first = random.draw() % rows;
        let touch = |at: u64| Touch::new(((first + at * 7) % rows) as u32, Kind::Click as u8, at == 0);
        let delta = Delta {
            id: DeltaId(id),
            lineage,
            base_version: ModelVersion(1),
            factor_scale: 0.005,
            factor: (0..dim).map(|_| (random.draw() % 21) as i8 - 10).collect(),
            items: (0..TOUCHES).map(touch).collect(),
            share: 1024,
            metrics: Vec::new(),
        };
        let request = SyncRequest {
            site: "shop".to_owned(),
            token: token.to_vec(),
            deltas: vec![delta],
            extensions: Vec::new(),
        };
        Ok(Bytes::from(encode_request(&request)?))
    })
}

fn acknowledged(body: &[u8]) -> Result<()> {
    let SyncReply { results, .. } = decode_reply(body)?;
    let is_taken = matches!(results[..], [(_, Outcome::Acknowledged)]);
    ensure!(is_taken, "a delta was answered {:?}", results.first().map(|(_, outcome)| outcome));
    Ok(())
}

fn table(targets: &[Target<'_>], items: usize, servers: &[(&str, &Server)]) -> Result<String> {
    let mut text = format!(
        "A catalogue of {items} items, {PEOPLE} users on redb, open loop over HTTP/1.1; the knee is the highest rate at which the 99th \
         percentile is at most twice that of calm rates.\n\n\
         | | calm: p50, p99 | knee | p99 there | CPU a call | of the limit's knee |\n|---|---|---|---|---|---|\n"
    );
    let knee = |what: &str| targets.iter().find(|target| target.what == what)?.knee().map(|step| step.rate);
    for target in targets {
        let calm = target.steps.first().context("every target has a step")?;
        let Some(step) = target.knee() else {
            writeln!(text, "| {} | | below {}/s | | | |", target.what, RATES[0])?;
            continue;
        };
        let share =
            target.limit.and_then(knee).map_or(String::new(), |limit| format!("{:.2}", step.rate / limit));
        writeln!(
            text,
            "| {} | {:.2}, {:.2} ms | {:.0}/s | {:.2} ms | {:.0} µs | {share} |",
            target.what,
            calm.trial.percentile(0.5),
            target.calm_ms(),
            step.rate,
            step.trial.percentile(0.99),
            step.cpu_seconds * 1e6 / step.trial.calls as f64,
        )?;
        if let Some(failure) = target.steps.iter().find_map(|step| step.trial.failure.as_ref()) {
            eprintln!("{}: {failure}", target.what);
        }
    }
    for (name, server) in servers {
        writeln!(text, "\nMemory of the {name} at the end: {:.0} MB.", server.memory_mb()?)?;
    }
    Ok(text)
}
