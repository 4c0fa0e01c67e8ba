//! Rows that wait for k devices, through publishes, snapshots and restarts.

mod common;

use common::{SITE, config, delta, train};
use nearfield_central::ingest::token;
use nearfield_central::merge::replay::replay;
use nearfield_central::{Config, Service};
use nearfield_engine::{Delta, DeltaId, Outcome};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: u64 = 1_700_000_000_000;
const DAY_MS: u64 = 86_400_000;

/// A service at k = 3 that takes a snapshot at every second publish.
struct Shop {
    central: Arc<Service>,
    clock: Arc<AtomicU64>,
}

fn settings(data: &Path) -> Config {
    let mut config = config(data);
    (config.k, config.snapshot_every) = (3, 2);
    config
}

impl Shop {
    fn open(data: &Path) -> Self {
        Self::open_with(data, |_| {})
    }

    fn open_with(data: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(AtomicU64::new(NOW));
        let time = clock.clone();
        let mut config = settings(data);
        change(&mut config);
        let central = Service::open_at(config, Arc::new(move || time.load(Ordering::SeqCst))).unwrap();
        Self { central, clock }
    }

    /// Sends one delta of a device, always on the same items, and publishes.
    async fn visit(&self, device: u8, id: u8) {
        let token = token::issue(&self.central.keys.device, SITE, [device; 16], u64::MAX);
        let delta = Delta { id: DeltaId([id; 16]), ..delta(1) };
        let outcome = self.central.queue.sync(vec![delta], token.to_vec()).await.unwrap();
        assert_eq!(outcome, [Outcome::Acknowledged]);
        common::publish(&self.central).await;
    }

    fn waiting(&self) -> usize {
        self.central.log.row_keys().unwrap().len()
    }

    fn counts(&self, line: &str) {
        common::counts(&self.central, line);
    }
}

#[tokio::test]
async fn a_device_that_comes_back_in_every_window_never_publishes_a_row_alone() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let shop = Shop::open(data.path());
    for id in 0..6 {
        shop.visit(1, id).await;
        assert_eq!(shop.waiting(), 4, "the four items of the delta wait for three devices");
    }
    shop.visit(2, 10).await;
    assert_eq!(shop.waiting(), 4);
    shop.visit(3, 11).await;
    assert_eq!(shop.waiting(), 0, "the third device has come, and the keys are destroyed");
}

#[tokio::test]
async fn snapshots_are_taken_while_rows_wait_and_the_threshold_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let shop = Shop::open(data.path());
    for id in 0..8 {
        shop.visit(1 + id % 2, id).await;
    }
    shop.counts("nearfield_waiting_rows 4");
    shop.central.queue.stop();
    let entries = shop.central.log.entries().unwrap();
    assert!(entries < 6, "{entries} entries: the log was never compacted while rows waited");
    let merged = replay(&*shop.central.log, data.path()).unwrap().snapshot().unwrap();
    drop(shop);

    let shop = Shop::open(data.path());
    assert_eq!(replay(&*shop.central.log, data.path()).unwrap().snapshot().unwrap(), merged);
    shop.visit(1, 20).await;
    assert_eq!(shop.waiting(), 4, "a device from before the restart is known again");
    shop.visit(3, 21).await;
    assert_eq!(shop.waiting(), 0);
}

#[tokio::test]
async fn what_waits_longer_than_seven_days_is_dropped_and_counted() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let shop = Shop::open(data.path());
    shop.visit(1, 1).await;
    shop.clock.store(NOW + 6 * DAY_MS, Ordering::SeqCst);
    shop.visit(1, 2).await;
    shop.counts("nearfield_dropped_rows_total{cause=\"age\"} 0");
    shop.clock.store(NOW + 7 * DAY_MS, Ordering::SeqCst);
    shop.visit(1, 3).await;
    shop.counts("nearfield_dropped_rows_total{cause=\"age\"} 4");
    assert_eq!(shop.waiting(), 0);
}

#[tokio::test]
async fn what_waits_for_devices_stays_within_its_bytes() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let shop = Shop::open_with(data.path(), |config| config.waiting_bytes = 600);
    shop.visit(1, 1).await;
    assert!(shop.waiting() < 4, "all four rows wait");
    let dropped = 4 - shop.waiting();
    shop.counts(&format!("nearfield_dropped_rows_total{{cause=\"bytes\"}} {dropped}"));
}
