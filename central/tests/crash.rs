//! SIGKILL at any moment: no acknowledged delta is lost, none is merged twice, and the model is the
//! one that the log says.

mod common;

use common::{SITE, body, delta, outcomes, train};
use nearfield_central::log::entry::Entry;
use nearfield_central::log::redb::RedbLog;
use nearfield_central::log::{Log, LogError, for_each_entry};
use nearfield_central::merge::replay::replay;
use nearfield_engine::sync::wire;
use nearfield_engine::{Model, Outcome, Statistics, Window};
use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Kills of one run where `NEARFIELD_KILLS` gives no other number.
const KILLS: u64 = 8;
/// Deltas between two kills, at least.
const SETTLED: u64 = 60;
const CLIENTS: u64 = 4;

fn kills() -> u64 {
    std::env::var("NEARFIELD_KILLS").map_or(KILLS, |text| text.parse().expect("NEARFIELD_KILLS is a number"))
}

async fn start(data: &Path, snapshot_every: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nearfield-central"))
        .args(["serve", "--listen", "127.0.0.1:0", "--site", SITE, "--publish-every-ms", "40"])
        .args(["--publish-deltas", "30", "--snapshot-every", snapshot_every])
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap();
    let line = line.expect("central ended before it was ready");
    let address = line.split_whitespace().nth(1).unwrap().to_owned();
    (child, address)
}

/// Sends deltas until told to stop, each until it is acknowledged or known. Returns how many.
async fn shopper(
    number: u64,
    address: Arc<RwLock<String>>,
    stop: Arc<AtomicBool>,
    settled: Arc<AtomicU64>,
) -> u64 {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let mut token = Vec::new();
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        let batch: Vec<_> = (0..3).map(|at| delta((sent + at) * CLIENTS + number)).collect();
        sent += 3;
        loop {
            let base = address.read().unwrap().clone();
            let result = async {
                if token.is_empty() {
                    let answer = client.post(format!("{base}/v1/device")).send().await?.error_for_status()?;
                    token = answer.bytes().await?.to_vec();
                }
                let request = client.post(format!("{base}/v1/sync")).body(body(&token, batch.clone()));
                request.send().await?.error_for_status()?.bytes().await
            };
            match result.await {
                Ok(reply) => {
                    for outcome in outcomes(&reply) {
                        assert!(matches!(outcome, Outcome::Acknowledged | Outcome::Duplicate), "{outcome:?}");
                    }
                    settled.fetch_add(3, Ordering::SeqCst);
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
    sent
}

/// Runs shoppers against a server that is killed again and again; returns the deltas settled.
async fn storm(data: &Path, snapshot_every: &str) -> u64 {
    let (mut child, first) = start(data, snapshot_every).await;
    let address = Arc::new(RwLock::new(first));
    let stop = Arc::new(AtomicBool::new(false));
    let settled = Arc::new(AtomicU64::new(0));
    let mut shoppers = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        shoppers.spawn(shopper(number, address.clone(), stop.clone(), settled.clone()));
    }
    let kills = kills();
    for kill in 0..kills {
        let before = settled.load(Ordering::SeqCst);
        // Different moments of commit, publish and snapshot, but never before something was settled.
        while settled.load(Ordering::SeqCst) < before + SETTLED {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::time::sleep(Duration::from_millis(kill * 17 % 50)).await;
        child.kill().await.unwrap();
        let (next, moved) = start(data, snapshot_every).await;
        child = next;
        *address.write().unwrap() = moved;
    }
    stop.store(true, Ordering::SeqCst);
    let sent: u64 = shoppers.join_all().await.into_iter().sum();
    child.kill().await.unwrap();
    assert_eq!(sent, settled.load(Ordering::SeqCst));
    assert!(sent >= kills * SETTLED);
    println!("{kills} kills, snapshot every {snapshot_every} publishes: {sent} deltas settled");
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_log_holds_every_acknowledged_delta_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut statistics, mut model): (Statistics, Model) = train(dir.path());
    let sent = storm(dir.path(), "1000000").await;

    let log = RedbLog::open(&dir.path().join("store.redb")).unwrap();
    assert_eq!(log.remembered_ids().unwrap(), sent);
    // Without snapshots the log is whole: merge it with the engine alone, from the trained files.
    let mut ids = HashSet::new();
    let mut window = Window::new();
    let mut merged = 0;
    for_each_entry::<LogError>(&log, 0, |_, entry| {
        match entry {
            Entry::Delta(logged) => {
                let delta = wire::decode_delta(&logged.bytes).unwrap();
                assert!(ids.insert(delta.id), "delta {} is in the log twice", delta.id);
                window.admit(&delta, logged.device_tag, &logged.row_tags);
            }
            Entry::Mark(mark) => {
                assert_eq!(window.deltas(), mark.deltas);
                merged += mark.deltas;
                model.apply(&statistics.publish(&mut window, mark.threshold).patch).unwrap();
                assert_eq!(*blake3::hash(&model.to_pack()).as_bytes(), mark.pack_hash);
            }
            Entry::Catalogue(changes) => panic!("nobody sent {changes:?}"),
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((ids.len() as u64, merged + window.deltas()), (sent, sent));
    let reopened = replay(&log, dir.path()).unwrap();
    assert_eq!(reopened.model().to_pack(), model.to_pack());
    assert_eq!(reopened.waiting_deltas(), window.deltas());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_snapshots_the_same_model_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path());
    let sent = storm(dir.path(), "2").await;

    let log = RedbLog::open(&dir.path().join("store.redb")).unwrap();
    assert_eq!(log.remembered_ids().unwrap(), sent);
    let snapshot = log.snapshot().unwrap();
    assert!(snapshot.sequence > 0, "no snapshot was ever taken");
    let merger = replay(&log, dir.path()).unwrap();
    let newest = log.version(merger.model().version()).unwrap().unwrap();
    assert_eq!(*blake3::hash(&merger.model().to_pack()).as_bytes(), newest.pack_hash);
}
