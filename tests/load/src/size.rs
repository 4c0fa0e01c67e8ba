//! What a user, an item, an event and a delta take: bytes and processors' time, and on paper what very many devices
//! take.

use crate::Args;
use crate::callers::{Caller, Connections, Face, Verb, teach_all};
use crate::devices::{acknowledged, deltas, post};
use crate::faces::{PEOPLE, name, warm};
use crate::open_loop;
use crate::servers::{self, Server, Site};
use crate::shop::Shop;
use crate::streams::Streams;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_engine::golden::Random;
use nearfield_engine::{
    Delta, DeltaId, Kind, Lineage, Model, ModelVersion, Statistics, Threshold, Touch, Window,
};
use nearfield_services as services;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Items of the two catalogues that are compared.
const ITEMS: [u32; 2] = [10_000, 100_000];
/// Users whose records are weighed, and the events of each.
const USERS: usize = 50_000;
const EVENTS: usize = 20;
/// Users taught in one call.
const TAUGHT_AT_ONCE: usize = 100;
/// Calls a second, and for how many seconds, while processors' time is taken.
const RATE: f64 = 1000.0;
const SECONDS: f64 = 8.0;
/// Events in the topic that an edge takes in.
const STREAMED: usize = 100_000;
/// Deltas of the version whose publication is timed.
const DELTAS: usize = 200;
/// As good as never: central publishes when it has the deltas for it.
const DAY_MS: u32 = 86_400_000;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(120);

/// What a catalogue takes.
struct Catalogue {
    items: u32,
    pack: f64,
    edge: f64,
    central: f64,
    /// Processors' time of an event and its list, users in memory, in microseconds.
    observe_us: f64,
    /// Time of a version of [`DELTAS`] deltas, in seconds, and the bytes that a client takes for it.
    publish: f64,
    patch: f64,
}

/// What was measured, in bytes and microseconds of processors' time.
struct Costs {
    catalogues: Vec<Catalogue>,
    redb_user: f64,
    redis_user: f64,
    taught_us: f64,
    event_us: f64,
    list_us: f64,
    observe_us: f64,
    streamed_us: f64,
    delta_us: f64,
    delta_bytes: f64,
}

/// Measures, and returns the section of the page.
pub(crate) async fn run(args: &Args) -> Result<String> {
    let bar = ProgressBar::new(ITEMS.len() as u64 + 5);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} parts, {elapsed}  {msg}")?);
    let part = |what: String| {
        bar.inc(1);
        bar.set_message(what);
    };
    let shop = Shop::open()?;
    let site = Site::open(args, &shop)?;
    let trained = site.model()?;
    let mut catalogues = Vec::new();
    for items in ITEMS {
        part(format!("a catalogue of {items} items"));
        catalogues.push(catalogue(args, &trained, items).await?);
    }
    let central = site.central()?;
    part(format!("{USERS} users in redb"));
    let edge = site.edge(&central, "redb")?;
    let file = edge.folder.join("users.redb");
    let size = || -> Result<f64> { Ok(std::fs::metadata(&file)?.len() as f64) };
    // The file grows in steps: what it is made with does not count.
    warm(&edge, &shop).await?;
    let (before, cpu) = (size()?, edge.cpu_seconds()?);
    fill(&edge, &shop).await?;
    let redb_user = (size()? - before) / USERS as f64;
    let taught_us = (edge.cpu_seconds()? - cpu) * 1e6 / (USERS * EVENTS) as f64;
    part(format!("{USERS} users in Redis"));
    let redis = services::Server::redis()?;
    let pid = redis.pid().context("a server that answers is a process")?;
    let before = servers::memory_bytes(pid)?;
    let shared = site.edge_named("redis", &central, &format!("redis://{}", redis.endpoint()), &[])?;
    fill(&shared, &shop).await?;
    let redis_user = (servers::memory_bytes(pid)? - before) / USERS as f64;
    drop((shared, redis, edge));

    part("calls of an edge".to_owned());
    let edge = site.edge_named("calls", &central, "redb", &[])?;
    warm(&edge, &shop).await?;
    let caller = Caller::connect(Face::Http1, edge.address).await?;
    let mut calls = Vec::new();
    for verb in [Verb::Events, Verb::Recommendations, Verb::Observe] {
        let call = |index: usize| {
            let mut random = Random(index as u64);
            let person = random.below(PEOPLE);
            caller.call(index, verb, name(person), shop.item(person, random.below(1 << 20)))
        };
        calls.push(cost(&edge, call).await?);
    }
    drop(edge);
    part("events from a Kafka".to_owned());
    let mut streams = Streams::open(&site, &central).await?;
    let streamed_us = streams.cost(&shop, STREAMED).await?;
    drop(streams);
    part("deltas at central".to_owned());
    drop(central);
    let (delta_us, delta_bytes) = delta(&site).await?;
    bar.finish_and_clear();
    let costs = Costs {
        catalogues,
        redb_user,
        redis_user,
        taught_us,
        event_us: calls[0],
        list_us: calls[1],
        observe_us: calls[2],
        streamed_us,
        delta_us,
        delta_bytes,
    };
    Ok(page(&costs))
}

/// Processors' time of a server a call, in microseconds.
async fn cost<F>(server: &Server, call: impl Fn(usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + 'static,
{
    open_loop::run(RATE, SECONDS / 4.0, 1, &call).await;
    let before = server.cpu_seconds()?;
    // Others than those of the warm-up: a delta counts once.
    let trial = open_loop::run(RATE, SECONDS, 2, |index| call(1 << 30 | index)).await;
    ensure!(trial.failed() == 0, "{}", trial.failure.unwrap_or_default());
    Ok((server.cpu_seconds()? - before) * 1e6 / trial.calls as f64)
}

/// Teaches users whom the edge has not met.
async fn fill(edge: &Server, shop: &Shop) -> Result<()> {
    let past = |person: usize| {
        let events = (0..EVENTS).map(|event| shop.item(person, event).to_owned()).collect();
        (name(PEOPLE + person), events)
    };
    teach_all(edge.address, TAUGHT_AT_ONCE, (0..USERS).map(past)).await
}

/// A model of so many items, each touched once or twice, with as much room for each as a trained one has, and its
/// statistics.
fn model_of(items: u32, trained: &Model) -> Result<(Model, Statistics)> {
    const TOUCHES: u32 = 20;
    let mut statistics = Statistics::new(
        Lineage(1),
        trained.dim(),
        trained.neighbours_max(),
        trained.hyperparameters().clone(),
    );
    for item in 0..items {
        statistics.register(&format!("item-{item}"))?;
    }
    let mut model = statistics.empty_model();
    let first = statistics.publish(&mut Window::new(), Threshold::NONE);
    model.apply(&first.patch)?;
    let mut window = Window::new();
    let mut random = Random(7);
    for (person, row) in (0..items).step_by(TOUCHES as usize / 2).enumerate() {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(person as u64).to_le_bytes());
        let delta = Delta {
            id: DeltaId(id),
            lineage: Lineage(1),
            base_version: model.version(),
            factor_scale: 1.0 / 127.0,
            factor: (0..trained.dim())
                .map(|_| (random.draw() % 255) as u8 as i8)
                .map(|value| value.max(-127))
                .collect(),
            items: (row..items.min(row + TOUCHES))
                .map(|item| Touch::new(item, Kind::Click as u8, item == row))
                .collect(),
            share: 4096,
            metrics: Vec::new(),
        };
        window.admit(&delta, person as u64, &[]);
    }
    let second = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&second.patch)?;
    ensure!(model.version() == ModelVersion(2), "two versions were published");
    Ok((model, statistics))
}

async fn catalogue(args: &Args, trained: &Model, items: u32) -> Result<Catalogue> {
    let (model, statistics) = model_of(items, trained)?;
    let site = Site::of(args, &model, &statistics)?;
    let pack = model.to_pack().len() as f64;
    drop(statistics);
    let central = site.central_for_devices(DAY_MS, DELTAS)?;
    let edge = site.edge(&central, "memory")?;
    let caller = Caller::connect(Face::Http1, edge.address).await?;
    let observe_us = cost(&edge, |index| {
        let mut random = Random(index as u64);
        let item = format!("item-{}", random.draw() % u64::from(items));
        caller.call(index, Verb::Observe, name(random.below(PEOPLE)), &item)
    })
    .await?;
    let memory = [edge.memory_mb()? * 1e6, central.memory_mb()? * 1e6];
    let (publish, patch) = publish(&central, &model).await?;
    let [edge, central] = memory;
    Ok(Catalogue { items, pack, edge, central, observe_us, publish, patch })
}

/// Sends deltas until central publishes, and returns how long that took and what a client takes for it, in bytes.
async fn publish(central: &Server, model: &Model) -> Result<(f64, f64)> {
    const VERSION: &str = "nearfield_model_version";
    const SUM: &str = "nearfield_publish_seconds_sum";
    let connections = Connections::open(central.address).await?;
    let sync = deltas(&connections, model).await?;
    let (from, before) = (central.metric(VERSION).await?, central.metric(SUM).await?);
    for index in 0..DELTAS {
        acknowledged(&connections.clone().send(post("/v1/sync", sync(index as u64)?)?).await?)?;
    }
    let until = Instant::now() + PUBLISHED_WITHIN;
    while central.metric(VERSION).await? <= from {
        ensure!(Instant::now() < until, "no version was published");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (to, seconds) = (central.metric(VERSION).await?, central.metric(SUM).await? - before);
    let file = async |name: String| {
        let request = hyper::Request::get(format!("http://site.example/v1/model/{name}"));
        let request = request.header("host", "site.example").body(http_body_util::Full::default())?;
        connections.clone().send(request).await
    };
    // A patch that is no shorter than the pack is not kept: clients take the pack.
    let taken = match file(format!("{from}..{to}.patch")).await {
        Ok(patch) => patch,
        Err(_) => file(format!("{to}.pack")).await?,
    };
    Ok((seconds, taken.len() as f64))
}

/// What a delta takes at central: processors' time, and bytes of its request.
async fn delta(site: &Site<'_>) -> Result<(f64, f64)> {
    let central = site.central_for_devices(DAY_MS, 1_000_000)?;
    let model = site.model()?;
    let connections = Connections::open(central.address).await?;
    let sync = deltas(&connections, &model).await?;
    let bytes = sync(0)?.len() as f64;
    let call = |index: usize| {
        let (connections, request) = (connections.clone(), sync(1 << 40 | index as u64));
        async move { acknowledged(&connections.send(post("/v1/sync", request?)?).await?) }
    };
    Ok((cost(&central, call).await?, bytes))
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Of the site on paper: devices, the share of them that is there on a day, visits of those, events of a visit, and
/// how much busier the busiest hour is.
const DEVICES: f64 = 1e9;
const ACTIVE: f64 = 0.1;
const VISITS: f64 = 2.0;
const EVENTS_A_VISIT: f64 = 10.0;
const PEAK: f64 = 3.0;
const PAPER_ITEMS: f64 = 1e6;
const DAY: f64 = 86_400.0;

fn page(costs: &Costs) -> String {
    let Costs { redb_user, redis_user, taught_us, event_us, list_us, observe_us, streamed_us, .. } = *costs;
    let Costs { delta_us, delta_bytes, .. } = *costs;
    let [small, large] = &costs.catalogues[..] else { return String::new() };
    // What each further item takes: what a process takes without any does not count.
    let items = f64::from(large.items - small.items);
    let [pack_item, edge_item, central_item] =
        [large.pack - small.pack, large.edge - small.edge, large.central - small.central]
            .map(|bytes| bytes / items);
    let mut text = String::from("| | takes | a core serves | a GiB holds |\n|---|--:|--:|--:|\n");
    let holds = |bytes: f64| format!("| {bytes:.0} bytes | | {} |", grouped(GIB / bytes));
    let serves = |us: f64| format!("| {us:.0} µs | {}/s | |", grouped(1e6 / us));
    let rows = [
        (format!("a user with {EVENTS} events in redb, on disk"), holds(redb_user)),
        (format!("a user with {EVENTS} events in Redis, in memory"), holds(redis_user)),
        ("an event, on disk when it is answered".to_owned(), serves(event_us)),
        (format!("the same, {EVENTS} of a user in one call"), serves(taught_us)),
        ("a list".to_owned(), serves(list_us)),
        ("an event and its list".to_owned(), serves(observe_us)),
        ("an event from a Kafka, users in Redis".to_owned(), serves(streamed_us)),
        ("a delta at central, on disk when it is acknowledged".to_owned(), serves(delta_us)),
        ("an item at an edge, in memory".to_owned(), holds(edge_item)),
        ("an item at central, in memory".to_owned(), holds(central_item)),
        ("an item of a pack, which is downloaded once".to_owned(), holds(pack_item)),
    ];
    for (what, cells) in rows {
        let _ = writeln!(text, "| {what} {cells}");
    }
    let _ = write!(
        text,
        "\nHow it grows with the catalogue (users in memory):\n\n\
         | items | pack | edge's memory | central's memory | an event and its list | a version of {DELTAS} deltas | a client takes for it |\n\
         |--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for catalogue in &costs.catalogues {
        let Catalogue { items, pack, edge, central, observe_us, publish, patch } = catalogue;
        let _ = writeln!(
            text,
            "| {} | {:.1} MB | {:.0} MB | {:.0} MB | {observe_us:.0} µs | {publish:.2} s | {:.0} kB |",
            grouped(f64::from(*items)),
            pack / 1e6,
            edge / 1e6,
            central / 1e6,
            patch / 1e3,
        );
    }

    let visits = DEVICES * ACTIVE * VISITS;
    let [deltas, events] = [visits, visits * EVENTS_A_VISIT].map(|a_day| a_day / DAY * PEAK);
    let _ = write!(
        text,
        "\n## On paper: 10⁹ devices\n\n\
         Nobody has run this. {} devices, {:.0} % of them there on a day, {VISITS} visits each of {EVENTS_A_VISIT} events, one delta a visit; the busiest hour {PEAK} times the mean; {} items.\n\n\
         **The core in the page** (nothing but deltas and models moves):\n\n",
        grouped(DEVICES),
        ACTIVE * 100.0,
        grouped(PAPER_ITEMS)
    );
    // Whoever was away for half a day finds most rows changed.
    let models = |items: f64| {
        let a_day = visits * items * pack_item;
        format!(
            "models of {} items, whose pack has {:.1} MB: a visit takes what changed since the last one, at most a pack: {} visits × {:.1} MB = at most {:.1} PB a day, {:.0} GB/s in the mean, of files that never change, from a CDN",
            grouped(items),
            items * pack_item / 1e6,
            grouped(visits),
            items * pack_item / 1e6,
            a_day / 1e15,
            a_day / DAY / 1e9,
        )
    };
    let lines = [
        format!(
            "deltas: {} × {ACTIVE} × {VISITS} ÷ {DAY} s × {PEAK} = {}/s at the busiest, × {delta_us:.0} µs = {:.1} cores of central, and {:.1} MB/s of requests of {delta_bytes:.0} bytes",
            grouped(DEVICES),
            grouped(deltas),
            deltas * delta_us / 1e6,
            deltas * delta_bytes / 1e6,
        ),
        format!(
            "central's memory: {} items × {central_item:.0} bytes = {:.1} GiB, and what waits (`--waiting-bytes`, `--window-bytes`)",
            grouped(PAPER_ITEMS),
            PAPER_ITEMS * central_item / GIB,
        ),
        models(PAPER_ITEMS),
        models(f64::from(small.items)),
    ];
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\n**The core in edges** (events move, by HTTP or a Kafka):\n\n");
    let lines = [
        format!(
            "events and lists: {}/s at the busiest × {observe_us:.0} µs = {:.0} cores of edges, at half of their capacity {:.0}",
            grouped(events),
            events * observe_us / 1e6,
            events * observe_us / 1e6 * 2.0,
        ),
        format!(
            "or events from a Kafka, and a list a visit: {}/s × {streamed_us:.0} µs + {}/s × {list_us:.0} µs = {:.0} cores",
            grouped(events),
            grouped(deltas),
            (events * streamed_us + deltas * list_us) / 1e6,
        ),
        format!(
            "users: {} × {redis_user:.0} bytes = {:.0} GiB of Redis, so many shards of it",
            grouped(DEVICES),
            DEVICES * redis_user / GIB,
        ),
        format!(
            "each edge's memory for the catalogue: {} items × {edge_item:.0} bytes = {:.2} GiB",
            grouped(PAPER_ITEMS),
            PAPER_ITEMS * edge_item / GIB,
        ),
    ];
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
    text
}

/// A number with commas between its thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let grouped = [0.4, 999.0, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }
}
