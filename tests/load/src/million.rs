//! Very many users in one redb file: what one takes, how fast they are taught, and how soon one of them, whom nobody
//! has asked for since, is answered.

use crate::Args;
use crate::callers::{Caller, Face, Verb, teach};
use crate::faces::{KEPT_UP_MS, Step, name};
use crate::open_loop;
use crate::report::latencies;
use crate::servers::Site;
use crate::shop::Shop;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_edge::grpc::proto::edge_client::EdgeClient;
use nearfield_engine::golden::Random;
use std::fmt::Write;
use std::time::Instant;
use tonic::transport::Endpoint;

/// Events behind each user.
const EVENTS: usize = 20;
/// Users taught in one call, and calls at a time.
const TAUGHT_AT_ONCE: usize = 100;
const TEACHERS: usize = 8;
/// Calls a second.
const RATES: [f64; 7] = [250.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0];
/// Seconds of a rate.
const SECONDS: f64 = 5.0;

/// Measures, and returns the table.
pub(crate) async fn run(args: &Args, users: u32) -> Result<String> {
    let shop = Shop::open()?;
    let site = Site::open(args, &shop)?;
    let central = site.central()?;
    let edge = site.edge(&central, "redb")?;

    let bar = ProgressBar::new(users.into());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} users, {per_sec}, {eta} left")?);
    let endpoint = Endpoint::from_shared(format!("http://{}", edge.address))?;
    let started = Instant::now();
    let mut next = 0..users as usize;
    let mut teachers = tokio::task::JoinSet::new();
    loop {
        while teachers.len() < TEACHERS {
            let people: Vec<usize> = next.by_ref().take(TAUGHT_AT_ONCE).collect();
            if people.is_empty() {
                break;
            }
            let past = |person: usize| {
                let events = (0..EVENTS).map(|event| shop.item(person, event).to_owned()).collect();
                (name(person), events)
            };
            let people: Vec<_> = people.into_iter().map(past).collect();
            let endpoint = endpoint.clone();
            teachers.spawn(async move {
                let mut client = EdgeClient::new(endpoint.connect().await?);
                let count = people.len();
                teach(&mut client, people.into_iter()).await?;
                anyhow::Ok(count)
            });
        }
        match teachers.join_next().await {
            Some(taught) => bar.inc(taught?? as u64),
            None => break,
        }
    }
    let taught_seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let file = edge.folder.join("users.redb");
    let bytes = std::fs::metadata(&file).with_context(|| file.display().to_string())?.len();

    let mut text = format!(
        "## {users} users in redb\n\nWritten by `cargo xtask bench --edge --users {users}`: each user has {EVENTS} events. The file takes {:.0} bytes a user ({:.2} GB).\n\
         {:.0} users a second were taught ({:.0} events a second, durable). Then users drawn from all of them ask, so that\n\
         hardly any is warm; over gRPC, an open loop as above, {SECONDS} s a rate. All the while the edge sends central the\n\
         deltas of those who were taught, which is most of its CPU at the low rates.\n\n\
         | call | calls/s | p50 ms | p90 ms | p99 ms | p99.9 ms | CPU µs | |\n|---|--:|--:|--:|--:|--:|--:|---|\n",
        bytes as f64 / f64::from(users),
        bytes as f64 / 1e9,
        f64::from(users) / taught_seconds,
        f64::from(users) * EVENTS as f64 / taught_seconds,
    );
    let caller = Caller::connect(Face::Grpc, edge.address).await?;
    let seconds = if args.quick { 1.0 } else { SECONDS };
    for verb in [Verb::Recommendations, Verb::Observe] {
        for rate in RATES {
            eprintln!("{} at {rate}/s", verb.name());
            let before = edge.cpu_seconds()?;
            let call = |index: usize| {
                let mut random = Random((rate as u64) << 32 | index as u64);
                let person = random.below(users as usize);
                caller.call(index, verb, name(person), shop.item(person, random.below(1 << 20)))
            };
            let trial = open_loop::run(rate, seconds, rate as u64, call).await;
            let step = Step { rate, trial, cpu_seconds: edge.cpu_seconds()? - before };
            let note = match (step.trial.failed(), step.kept_up()) {
                (0, true) => String::new(),
                (0, false) => format!("p99 over {KEPT_UP_MS} ms"),
                (failed, _) => format!("{failed} failed: {}", step.trial.failure.as_deref().unwrap_or("")),
            };
            let _ = writeln!(
                text,
                "| {} | {:.0} | {} | {note} |",
                verb.name(),
                step.trial.rate(),
                latencies(&step)
            );
            if !step.kept_up() {
                break;
            }
        }
    }
    let _ = writeln!(text, "\nThe edge takes {:.0} MB at the end.", edge.memory_mb()?);
    Ok(text)
}
