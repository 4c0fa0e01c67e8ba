//! SIGKILL at any moment: no acknowledged delta is lost, none is merged twice, and the model is the
//! one that the log says.

mod common;

use common::{SITE, body, client, delta, delta_of, outcomes, train, train_of};
use nearfield_central::log::entry::Entry;
use nearfield_central::log::redb::RedbLog;
use nearfield_central::log::{Log, LogError, for_each_entry};
use nearfield_central::merge::replay::replay;
use nearfield_engine::sync::wire;
use nearfield_engine::{Delta, Model, Outcome, Statistics, Window};
use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Kills of one run where `NEARFIELD_KILLS` gives no other number.
const KILLS: u64 = 20;
/// Kills of a run whose log is never cut short, at most: its start takes longer each time.
const KILLS_WITHOUT_SNAPSHOT: u64 = 20;
/// Deltas between two kills, at least.
const SETTLED: u64 = 60;
/// Longest time that these may take.
const SETTLING_MAX: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 4;
/// Devices of each client; a row waits for ten.
const DEVICES: u64 = 4;
/// Longest time that a start may take.
const START_MAX: Duration = Duration::from_secs(2);
/// Most entries that a log with a snapshot every 8 versions may hold.
const LOG_MAX: u64 = 4000;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// A running central, and how long it took to start.
struct Central {
    child: Child,
    address: String,
    metrics: String,
    started_in: Duration,
}

async fn start(data: &Path, settings: &[&str]) -> Central {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nearfield-central"))
        .args(["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--site", SITE, "--k", "10"])
        // The shoppers are many clients at one address, and in more of a hurry than people.
        .args(["--trusted", "127.0.0.0/8", "--syncs-per-token", "0"])
        .args(settings)
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap();
    let line = line.expect("central ended before it was ready");
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, metrics) = (words[1].to_owned(), words[words.len() - 1].to_owned());
    Central { child, address, metrics, started_in: began.elapsed() }
}

/// Returns how many entries the log holds, as the metrics say.
async fn log_length(metrics: &str) -> u64 {
    let answer = client().get(format!("{metrics}/metrics")).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("nearfield_log_length ")).unwrap();
    line.parse::<f64>().unwrap() as u64
}

/// One client: several devices, and the numbers of the deltas that it sends.
struct Shopper {
    number: u64,
    client: reqwest::Client,
    tokens: Vec<Vec<u8>>,
    sent: u64,
}

impl Shopper {
    fn new(number: u64) -> Self {
        Self { number, client: client(), tokens: Vec::new(), sent: 0 }
    }

    /// Returns the numbers of the deltas that it has sent, or of the `count` next ones.
    fn numbers(&self, from: u64, count: u64) -> Vec<u64> {
        (from..from + count).map(|at| at * CLIENTS + self.number).collect()
    }

    /// Sends a body until it is answered, wherever central is meanwhile.
    async fn send(&mut self, address: &RwLock<String>, deltas: Vec<Delta>) -> Vec<Outcome> {
        loop {
            let base = address.read().unwrap().clone();
            match self.try_send(&base, &deltas).await {
                Ok(outcomes) => return outcomes,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn try_send(&mut self, base: &str, deltas: &[Delta]) -> reqwest::Result<Vec<Outcome>> {
        while (self.tokens.len() as u64) < DEVICES {
            let answer = self.client.post(format!("{base}/v1/device")).send().await?.error_for_status()?;
            self.tokens.push(answer.bytes().await?.to_vec());
        }
        let token = &self.tokens[(self.sent % DEVICES) as usize];
        let request = self.client.post(format!("{base}/v1/sync")).body(body(token, deltas.to_vec()));
        Ok(outcomes(&request.send().await?.error_for_status()?.bytes().await?))
    }
}

/// Sends deltas until told to stop, each until it is acknowledged or known.
async fn shop(
    number: u64,
    address: Arc<RwLock<String>>,
    stop: Arc<AtomicBool>,
    settled: Arc<AtomicU64>,
) -> Shopper {
    let mut shopper = Shopper::new(number);
    while !stop.load(Ordering::SeqCst) {
        let batch = shopper.numbers(shopper.sent, 3).into_iter().map(delta).collect();
        for outcome in shopper.send(&address, batch).await {
            assert!(matches!(outcome, Outcome::Acknowledged | Outcome::Duplicate), "{outcome:?}");
        }
        shopper.sent += 3;
        settled.fetch_add(3, Ordering::SeqCst);
    }
    shopper
}

/// What a storm of kills left.
struct Storm {
    kills: u64,
    /// The clients, which know what they sent; all of it was acknowledged.
    shoppers: Vec<Shopper>,
    slowest_start: Duration,
    longest_log: u64,
}

impl Storm {
    /// Returns the number of deltas that were acknowledged.
    fn sent(&self) -> u64 {
        self.shoppers.iter().map(|shopper| shopper.sent).sum()
    }
}

/// Runs shoppers against a server that is killed again and again.
async fn storm(data: &Path, settings: &[&str], kills: u64) -> Storm {
    let mut central = start(data, settings).await;
    let address = Arc::new(RwLock::new(central.address.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let settled = Arc::new(AtomicU64::new(0));
    let mut shoppers = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        shoppers.spawn(shop(number, address.clone(), stop.clone(), settled.clone()));
    }
    let (mut slowest_start, mut longest_log) = (central.started_in, 0);
    for kill in 0..kills {
        let before = settled.load(Ordering::SeqCst);
        // Different moments of commit, publish and snapshot, but never before something was settled.
        let waiting = Instant::now();
        while settled.load(Ordering::SeqCst) < before + SETTLED {
            assert!(waiting.elapsed() < SETTLING_MAX, "nothing is settled any more");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::time::sleep(Duration::from_millis(kill * 37 % 250)).await;
        longest_log = longest_log.max(log_length(&central.metrics).await);
        central.child.kill().await.unwrap();
        central = start(data, settings).await;
        slowest_start = slowest_start.max(central.started_in);
        address.write().unwrap().clone_from(&central.address);
    }
    stop.store(true, Ordering::SeqCst);
    let shoppers = shoppers.join_all().await;
    central.child.kill().await.unwrap();
    let storm = Storm { kills, shoppers, slowest_start, longest_log };
    assert_eq!(storm.sent(), settled.load(Ordering::SeqCst));
    assert!(storm.sent() >= kills * SETTLED);
    storm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_log_holds_every_acknowledged_delta_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut statistics, mut model): (Statistics, Model) = train(dir.path());
    let settings = ["--publish-every-ms", "50", "--publish-deltas", "30", "--snapshot-every", "1000000"];
    let kills = number("NEARFIELD_KILLS", KILLS).min(KILLS_WITHOUT_SNAPSHOT);
    let sent = storm(dir.path(), &settings, kills).await.sent();

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
async fn killed_between_snapshots_nothing_is_lost_or_doubled_and_every_start_is_quick() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path());
    let settings = ["--publish-every-ms", "50", "--snapshot-every", "8"];
    let mut storm = storm(dir.path(), &settings, number("NEARFIELD_KILLS", KILLS)).await;

    // Every delta once more: one that is not known any more was lost.
    let mut central = start(dir.path(), &settings).await;
    let address = RwLock::new(central.address.clone());
    let mut lost = 0;
    for shopper in &mut storm.shoppers {
        for from in (0..shopper.sent).step_by(60) {
            let count = (shopper.sent - from).min(60);
            let again = shopper.numbers(from, count).into_iter().map(delta).collect();
            let outcomes = shopper.send(&address, again).await;
            lost += outcomes.iter().filter(|outcome| **outcome != Outcome::Duplicate).count() as u64;
        }
    }
    central.child.kill().await.unwrap();

    let log = RedbLog::open(&dir.path().join("store.redb")).unwrap();
    assert!(log.snapshot().unwrap().sequence > 0, "no snapshot was ever taken");
    let merger = replay(&log, dir.path()).unwrap();
    let version = merger.model().version();
    let newest = log.version(version).unwrap().unwrap();
    assert_eq!(*blake3::hash(&merger.model().to_pack()).as_bytes(), newest.pack_hash);
    // What a version contains was counted as it was merged.
    let doubled = (newest.deltas + merger.waiting_deltas()).saturating_sub(storm.sent());
    let Storm { kills, slowest_start, longest_log, .. } = &storm;
    println!(
        "{kills} kills at k = 10: {} deltas acknowledged, lost {lost}, doubled {doubled}; {version} versions; \
         slowest start {:.2} s (at most {} s); log at most {longest_log} entries (at most {LOG_MAX})",
        storm.sent(),
        slowest_start.as_secs_f64(),
        START_MAX.as_secs()
    );
    assert_eq!((lost, doubled), (0, 0));
    assert_eq!(newest.deltas + merger.waiting_deltas(), storm.sent());
    assert!(version.0 > *kills, "hardly a version was published");
    assert!(*slowest_start < START_MAX && *longest_log < LOG_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask torture start"]
async fn after_many_deltas_a_killed_server_starts_quickly() {
    const ITEMS: u32 = 10_000;
    const DIM: usize = 64;
    const BODY: u64 = 250;
    /// Deltas before each further kill: the log then holds another part of what a snapshot takes away.
    const MORE: u64 = 27_000;
    const STARTS: u64 = 5;
    let deltas = number("NEARFIELD_DELTAS", 1_000_000);
    let dir = tempfile::tempdir().unwrap();
    train_of(dir.path(), ITEMS, DIM);
    let settings = ["--publish-deltas", "2000"];
    let mut central = start(dir.path(), &settings).await;
    let mut shopper = Shopper::new(0);
    let began = Instant::now();
    let mut starts = Vec::new();
    for kill in 0..STARTS {
        let until = deltas + kill * MORE;
        while shopper.sent < until {
            let numbers = shopper.numbers(shopper.sent, BODY);
            let batch = numbers.into_iter().map(|number| delta_of(number, ITEMS, DIM)).collect();
            for outcome in shopper.send(&RwLock::new(central.address.clone()), batch).await {
                assert_eq!(outcome, Outcome::Acknowledged);
            }
            shopper.sent += BODY;
            if shopper.sent.is_multiple_of(100_000) {
                println!("{} of {deltas} deltas after {:.0?}", shopper.sent, began.elapsed());
            }
        }
        central.child.kill().await.unwrap();
        let entries = RedbLog::open(&dir.path().join("store.redb")).unwrap().entries().unwrap();
        central = start(dir.path(), &settings).await;
        starts.push((entries, central.started_in));
    }
    let store = std::fs::metadata(dir.path().join("store.redb")).unwrap().len() >> 20;
    println!("{} deltas; a store of {store} MiB", shopper.sent);
    for (entries, time) in &starts {
        println!(
            "start in {:.2} s (at most {}) from {entries} log entries",
            time.as_secs_f64(),
            START_MAX.as_secs()
        );
    }
    assert!(starts.iter().all(|(_, time)| *time < START_MAX));
}
