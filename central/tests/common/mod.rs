//! A small trained shop on disk, and deltas for it.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use nearfield_central::{Config, Service};
use nearfield_engine::sync::wire::{SyncReply, SyncRequest, decode_reply, encode_request};
use nearfield_engine::{
    Delta, DeltaId, Hyperparameters, Kind, Lineage, Model, ModelVersion, Outcome, Statistics, Threshold,
    Touch, Window,
};
use std::path::Path;

pub const SITE: &str = "test";
pub const DIM: usize = 8;
pub const ITEMS: u32 = 20;

/// Writes model.pack and statistics.bin of twenty items and returns them.
pub fn train(data: &Path) -> (Statistics, Model) {
    train_of(data, ITEMS, DIM)
}

/// As [`train`], with another number of items and factors.
pub fn train_of(data: &Path, items: u32, dim: usize) -> (Statistics, Model) {
    train_with(data, items, dim, Hyperparameters::starting_point(), Window::new())
}

/// As [`train_of`], with hyperparameters and what devices have taught.
pub fn train_with(
    data: &Path,
    items: u32,
    dim: usize,
    hyper: Hyperparameters,
    mut window: Window,
) -> (Statistics, Model) {
    let mut statistics = Statistics::new(Lineage(7), dim, 8, hyper);
    for item in 0..items {
        statistics.register(&format!("i{item}")).unwrap();
    }
    let mut model = statistics.empty_model();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    std::fs::write(data.join("model.pack"), model.to_pack()).unwrap();
    std::fs::write(data.join("statistics.bin"), statistics.to_bytes()).unwrap();
    (statistics, model)
}

/// Settings under which nothing is published unless asked for, and one device may ask as often as it likes.
pub fn config(data: &Path) -> Config {
    let mut config = Config::new(data.to_owned(), SITE);
    config.publish_every_ms = 3_600_000;
    config.publish_deltas = 1_000_000;
    config.syncs_per_token = 0;
    config
}

/// Returns a good delta on the first version; every number makes another one.
pub fn delta(number: u64) -> Delta {
    delta_of(number, ITEMS, DIM)
}

/// As [`delta`], for another number of items and factors.
pub fn delta_of(number: u64, items: u32, dim: usize) -> Delta {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let touches = (0..4u64).map(|step| {
        let row = (number * 3 + step * 5) % u64::from(items);
        Touch::new(row as u32, Kind::Click as u8, step == 0)
    });
    Delta {
        id: DeltaId(id),
        lineage: Lineage(7),
        base_version: ModelVersion(1),
        factor_scale: 0.01,
        factor: (0..dim as u64).map(|at| ((number * 31 + at * 17) % 101) as i8 - 50).collect(),
        items: touches.collect(),
        share: 1024,
        metrics: Vec::new(),
    }
}

/// Returns an HTTP client that gives up after ten seconds.
pub fn client() -> reqwest::Client {
    // Built beside the edge, reqwest can speak TLS and wants to know with which cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(std::time::Duration::from_secs(10)).build().unwrap()
}

/// Returns the sync body of some deltas.
pub fn body(token: &[u8], deltas: Vec<Delta>) -> Vec<u8> {
    let request =
        SyncRequest { site: SITE.to_owned(), token: token.to_vec(), deltas, extensions: Vec::new() };
    encode_request(&request).unwrap()
}

/// Returns the outcomes of a reply.
pub fn outcomes(reply: &[u8]) -> Vec<Outcome> {
    let reply: SyncReply = decode_reply(reply).unwrap();
    reply.results.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Publishes, and waits until the version's files are served.
pub async fn publish(central: &Service) -> ModelVersion {
    let version = central.queue.publish().await.unwrap();
    while central.registry.served().version < version {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    version
}

/// Checks that a line stands in the metrics.
pub fn counts(central: &Service, line: &str) {
    let text = central.metrics.render();
    assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
}
