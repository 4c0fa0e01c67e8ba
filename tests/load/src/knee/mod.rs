//! Where edge and central bend: the load at which the 99th percentile has doubled. Our own generator first, beside what
//! any server on this stack could do, then the tools of `deploy/load`, then producers of a Kafka; all with the same
//! servers, in one run.

mod curve;
mod own;
mod page;
mod tools;

use crate::Args;
use crate::callers::{Connections, Verb, check, request};
use crate::faces::{PEOPLE, name, warm};
use crate::open_loop::Trial;
use crate::servers::{Server, Site};
use crate::shop::Shop;
use crate::streams::Streams;
use anyhow::{Context, Result, ensure};
use curve::{Curve, Load, Step};
use indicatif::{ProgressBar, ProgressStyle};
use nearfield_engine::Model;
use std::rc::Rc;

/// Events a second of the producers.
const EVENTS: [f64; 8] = [250.0, 500.0, 1000.0, 2000.0, 4000.0, 5657.0, 8000.0, 11_314.0];
/// People whose lists are followed while producers send.
const FOLLOWED: usize = 200;

/// How long, and by what.
#[derive(clap::Args)]
pub(crate) struct Knee {
    /// Seconds for each thing that is asked.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=3600))]
    seconds: u32,
    #[command(flatten)]
    programs: tools::Programs,
}

/// Measures, and returns the page.
pub(crate) async fn run(args: &Args, Knee { seconds, programs }: &Knee) -> Result<String> {
    let each = f64::from(*seconds);
    let shop = Rc::new(Shop::open()?);
    let site = Site::open(args, &shop)?;
    // As a busy site has it: a version every half a minute.
    let central = site.central_for_devices(30_000, 1_000_000)?;
    let edge = site.edge(&central, "redb")?;
    warm(&edge, &shop).await?;
    let pack = std::fs::read(edge.folder.join("model.pack")).context("the edge keeps its model")?;
    let model = Model::load(&pack)?;
    let key = site.public_key()?;
    let work = std::path::absolute(&args.work)?;
    let call = |at| (name(at % PEOPLE), shop.item(at % PEOPLE, at / 7).to_owned());
    let tools = tools::all(programs, &edge, &central, &key, &work, call)?;

    let trials = own::TRIALS + tools.iter().map(tools::Tool::steps).sum::<usize>() + EVENTS.len();
    let bar = ProgressBar::new(trials as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} left  {msg}")?);
    let mut curves = own::run(&site, &shop, [&edge, &central], &model, each, &bar).await?;
    for tool in tools {
        curves.push(tool.run(each, &work, &bar)?);
    }
    lists_follow(&edge).await?;
    let memory = [("edge", edge.memory_mb()?), ("central", central.memory_mb()?)];
    // Its processors are the next edge's.
    drop(edge);
    curves.push(producers(&site, &central, &shop, each, &bar).await?);
    bar.finish_and_clear();

    if let Some(picture) = &args.picture {
        page::draw(picture, &curves)?;
    }
    Ok(page::write(&curves, model.len(), &memory))
}

/// A last look at the edge after all that load: it still makes live lists.
async fn lists_follow(edge: &Server) -> Result<()> {
    let body = Connections::open(edge.address).await?;
    let body = body.send(request(Verb::Recommendations, &name(0), "")?).await?;
    check(Verb::Recommendations, &body)
}

/// Events through a Kafka at rising rates: from an event that is handed to the producer to the list that follows it.
async fn producers(
    site: &Site<'_>,
    central: &Server,
    shop: &Shop,
    seconds: f64,
    bar: &ProgressBar,
) -> Result<Curve> {
    let mut streams = Streams::open(site, central).await?;
    let what = "edge: from a Kafka's event to a list";
    let mut curve =
        Curve { what, by: "producers", limit: None, load: Load::Open("events"), steps: Vec::new() };
    let seconds = seconds / EVENTS.len() as f64;
    for rate in EVENTS {
        bar.inc(1);
        if curve.goes_on() {
            bar.set_message(format!("{what} at {rate}/s"));
            let paced = streams.lists(shop, rate, seconds * 0.8, FOLLOWED).await?;
            ensure!(!paced.latencies.is_empty(), "no list followed any event");
            let lists = Trial {
                calls: paced.latencies.len() + paced.late,
                latencies_us: paced.latencies,
                failure: (paced.late > 0).then(|| "no list followed in time".to_owned()),
                seconds: paced.seconds,
            };
            let mut step = Step::of(&lists, rate, paced.edge_seconds, paced.producer_seconds);
            // Of most events nobody follows the list.
            step.answered = paced.events as f64 / paced.seconds;
            step.server_us = paced.edge_seconds * 1e6 / paced.events as f64;
            curve.steps.push(step);
        }
    }
    Ok(curve)
}
