//! Our own generator: an open loop over HTTP/1.1 at edge and central, and at what any server on this stack could do.
//!
//! Rates rise by turns: each rate for every target before the next one. A target that does not keep up is left out of
//! the higher ones.

use super::curve::{Curve, Load, Step};
use crate::callers::{Connections, Verb, check, request};
use crate::devices::{acknowledged, deltas, post};
use crate::faces::{PEOPLE, name};
use crate::open_loop;
use crate::servers::{self, Server, Site};
use crate::shop::Shop;
use anyhow::Result;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use indicatif::ProgressBar;
use nearfield_engine::Model;
use nearfield_engine::golden::Random;
use std::rc::Rc;
use std::time::Duration;

/// Calls a second, each √2 above the one before.
const RATES: [f64; 14] = [
    250.0, 354.0, 500.0, 707.0, 1000.0, 1414.0, 2000.0, 2828.0, 4000.0, 5657.0, 8000.0, 11_314.0, 16_000.0,
    22_627.0,
];
/// What is asked of a server.
struct Target<'a> {
    curve: Curve,
    server: &'a Server,
    connections: Connections,
    make: Rc<dyn Fn(u64) -> Result<Request<Full<Bytes>>>>,
    check: fn(&[u8]) -> Result<()>,
}

/// How many trials [`run`] makes.
pub(super) const TRIALS: usize = TARGETS * RATES.len();
const TARGETS: usize = 5;

/// Measures for some seconds a target.
pub(super) async fn run(
    site: &Site<'_>,
    shop: &Rc<Shop>,
    [edge, central]: [&Server; 2],
    model: &Model,
    seconds: f64,
    bar: &ProgressBar,
) -> Result<Vec<Curve>> {
    let seconds = seconds / RATES.len() as f64;
    let at_central = Connections::open(central.address).await?;
    let sync = deltas(&at_central, model).await?;
    let first = Connections::open(edge.address)
        .await?
        .send(request(Verb::Observe, "somebody", shop.item(0, 0))?)
        .await?;
    let limits = site.limits(first.len())?;

    let of_edge = |verb: Verb| -> Rc<dyn Fn(u64) -> Result<Request<Full<Bytes>>>> {
        let shop = Rc::clone(shop);
        Rc::new(move |seed| {
            let mut random = Random(seed);
            let person = random.below(PEOPLE);
            request(verb, &name(person), shop.item(person, random.below(1 << 20)))
        })
    };
    let event =
        Bytes::from(format!(r#"{{"events":{{"kind":"view_item","item_id":"{}"}}}}"#, shop.item(0, 0)));
    let committed = Rc::clone(&sync);
    let curve =
        |what, limit| Curve { what, by: "our own", limit, load: Load::Open("calls"), steps: Vec::new() };
    let (handler, commit) = ("a plain axum handler", "a plain redb group commit");
    let mut targets: [Target<'_>; TARGETS] = [
        Target {
            curve: curve("edge: a list", Some(handler)),
            server: edge,
            connections: Connections::open(edge.address).await?,
            make: of_edge(Verb::Recommendations),
            check: |body| check(Verb::Recommendations, body),
        },
        Target {
            curve: curve("edge: an event and its list", Some(commit)),
            server: edge,
            connections: Connections::open(edge.address).await?,
            make: of_edge(Verb::Observe),
            check: |body| check(Verb::Observe, body),
        },
        Target {
            curve: curve("central: a delta", Some(commit)),
            server: central,
            connections: at_central,
            make: Rc::new(move |seed| post("/v1/sync", sync(seed)?)),
            check: acknowledged,
        },
        Target {
            curve: curve(handler, None),
            server: &limits,
            connections: Connections::open(limits.address).await?,
            make: Rc::new(move |_| post("/answer", event.clone())),
            check: |_| Ok(()),
        },
        Target {
            curve: curve(commit, None),
            server: &limits,
            connections: Connections::open(limits.address).await?,
            make: Rc::new(move |seed| post("/commit", committed(seed)?)),
            check: |_| Ok(()),
        },
    ];

    for target in &targets {
        trial(target, 250.0, seconds.min(1.0), 1).await?;
    }
    for rate in RATES {
        for target in &mut targets {
            bar.inc(1);
            if target.curve.goes_on() {
                bar.set_message(format!("{} at {rate}/s", target.curve.what));
                let step = trial(target, rate, seconds, rate as u64).await?;
                target.curve.steps.push(step);
            }
        }
    }
    Ok(targets.into_iter().map(|target| target.curve).collect())
}

async fn trial(target: &Target<'_>, rate: f64, seconds: f64, seed: u64) -> Result<Step> {
    let before = (target.server.cpu_seconds()?, servers::own_cpu_seconds()?);
    let call = |index: usize| {
        let (connections, check) = (target.connections.clone(), target.check);
        let request = (target.make)(seed << 32 | index as u64);
        async move { check(&connections.send(request?).await?) }
    };
    let done = open_loop::run(rate, seconds, seed, call).await;
    // What was begun for a call may end after its answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let after = (target.server.cpu_seconds()?, servers::own_cpu_seconds()?);
    Ok(Step::of(&done, rate, after.0 - before.0, after.1 - before.1))
}
