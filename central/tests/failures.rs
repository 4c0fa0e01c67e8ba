//! Failures of central's disk and threads: each ends all writing, is told, and leaves a log that a restart
//! can read.

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{SITE, config, delta, train};
use nearfield_central::clock::{Clock, system_ms};
use nearfield_central::condition::Failure;
use nearfield_central::ingest::queue::Unavailable;
use nearfield_central::keys::Keys;
use nearfield_central::log::Log;
use nearfield_central::log::redb::RedbLog;
use nearfield_central::merge::replay::{first_start, replay};
use nearfield_central::{Service, app};
use nearfield_engine::Outcome;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

/// A disk whose flush can fail: what was written since the last good flush is then lost.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    written: Vec<u8>,
    flushed: Vec<u8>,
    failing: bool,
    panicking: bool,
}

impl Disk {
    fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }

    /// Returns the disk as a machine finds it that has lost its memory.
    fn after_a_power_cut(&self) -> Self {
        let flushed = self.0.lock().unwrap().flushed.clone();
        Self(Arc::new(Mutex::new(DiskState { written: flushed.clone(), flushed, ..DiskState::default() })))
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.lock().unwrap().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        out.copy_from_slice(&self.0.lock().unwrap().written[offset as usize..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.lock().unwrap().written.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        assert!(!disk.panicking, "the driver of the disk has a bug");
        if disk.failing {
            return Err(std::io::Error::other("the disk does not flush"));
        }
        disk.flushed = disk.written.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap().written[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Returns a trained data directory, and a log on `disk` that begins there.
fn begun(disk: &Disk) -> (tempfile::TempDir, RedbLog) {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let log = RedbLog::on(disk.clone()).unwrap();
    first_start(&log, data.path(), SITE).unwrap();
    (data, log)
}

fn start(data: &Path, log: RedbLog, clock: Clock) -> Arc<Service> {
    let log: Arc<dyn Log> = Arc::new(log);
    let merger = replay(&*log, data).unwrap();
    Service::start(config(data), Keys::open(data).unwrap(), merger, log, clock).unwrap()
}

async fn readiness(service: &Arc<Service>) -> StatusCode {
    let request = Request::get("/readyz").body(Body::empty()).unwrap();
    app(service.clone()).oneshot(request).await.unwrap().status()
}

/// Waits for the service's failure, which must come.
async fn failure(service: &Service) -> Failure {
    tokio::time::timeout(Duration::from_secs(10), service.condition.failed()).await.expect("no failure")
}

/// Stops the service, which must not hang.
async fn stop(service: Arc<Service>) {
    let stopped = tokio::task::spawn_blocking(move || service.queue.stop());
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("stop hangs").unwrap();
}

#[tokio::test]
async fn a_writer_that_panics_is_the_services_failure() {
    let disk = Disk::default();
    let (data, log) = begun(&disk);
    let service = start(data.path(), log, Arc::new(system_ms));
    assert_eq!(readiness(&service).await, StatusCode::OK);
    disk.0.lock().unwrap().panicking = true;
    assert!(service.queue.sync(vec![delta(1)], Vec::new()).await.is_err());
    assert_eq!(failure(&service).await, Failure::Thread("writer"));
    let refused = service.queue.sync(vec![delta(2)], Vec::new()).await;
    assert_eq!(refused, Err(Unavailable::Failed(Failure::Thread("writer"))));
    assert_eq!(readiness(&service).await, StatusCode::SERVICE_UNAVAILABLE);
    stop(service).await;
}

#[tokio::test]
async fn a_publisher_that_panics_ends_acknowledgements_and_does_not_block_the_stop() {
    let (data, log) = begun(&Disk::default());
    let clock = || {
        let publisher = std::thread::current().name() == Some("publisher");
        assert!(!publisher, "the clock has a bug");
        system_ms()
    };
    let service = start(data.path(), log, Arc::new(clock));
    service.queue.sync(vec![delta(1)], Vec::new()).await.unwrap();
    service.queue.publish().await.unwrap();
    assert_eq!(failure(&service).await, Failure::Thread("publisher"));
    let refused = service.queue.sync(vec![delta(2)], Vec::new()).await;
    assert_eq!(refused, Err(Unavailable::Failed(Failure::Thread("publisher"))));
    assert_eq!(readiness(&service).await, StatusCode::SERVICE_UNAVAILABLE);
    stop(service).await;
}

#[tokio::test]
async fn after_a_failed_flush_everything_is_refused_until_a_restart_reads_the_disk_again() {
    let disk = Disk::default();
    let (data, log) = begun(&disk);
    let service = start(data.path(), log, Arc::new(system_ms));
    let send = async |service: &Service, id| service.queue.sync(vec![delta(id)], Vec::new()).await;
    assert_eq!(send(&service, 1).await, Ok(vec![Outcome::Acknowledged]));

    disk.fail(true);
    assert_eq!(send(&service, 2).await, Err(Unavailable::Failed(Failure::Store)));
    // The disk flushes again, but nobody knows what became of the writes before.
    disk.fail(false);
    for id in [2, 1, 3] {
        assert_eq!(send(&service, id).await, Err(Unavailable::Failed(Failure::Store)), "delta {id}");
    }
    assert_eq!(service.queue.publish().await, Err(Unavailable::Failed(Failure::Store)));
    assert_eq!(readiness(&service).await, StatusCode::SERVICE_UNAVAILABLE);

    let disk = disk.after_a_power_cut();
    service.queue.stop();
    drop(service);
    let service = start(data.path(), RedbLog::on(disk).unwrap(), Arc::new(system_ms));
    assert_eq!(send(&service, 1).await, Ok(vec![Outcome::Duplicate]), "it was acknowledged");
    assert_eq!(send(&service, 2).await, Ok(vec![Outcome::Acknowledged]), "it never reached the disk");
    assert_eq!(service.log.entries().unwrap(), 2);
    service.queue.stop();
}

#[tokio::test]
async fn deltas_that_come_faster_than_versions_are_put_off_at_the_window_s_bytes() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let mut config = config(data.path());
    config.window_bytes = 65_536;
    // The publisher asks for the time and waits until it may go on.
    let held = Arc::new(AtomicBool::new(true));
    let publisher_held = held.clone();
    let clock = move || {
        while std::thread::current().name() == Some("publisher") && publisher_held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        system_ms()
    };
    let service = Service::open_at(config, Arc::new(clock)).unwrap();
    let mut taken = 0;
    let busy = loop {
        let batch = (0..50).map(|at| delta(taken + at)).collect();
        match service.queue.sync(batch, vec![1; 41]).await {
            Ok(outcomes) => assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Acknowledged)),
            Err(error) => break error,
        }
        taken += 50;
        assert!(taken < 5_000, "the window grows without limit");
    };
    assert_eq!(busy, Unavailable::Busy);
    held.store(false, Ordering::SeqCst);
    while service.queue.sync(vec![delta(taken)], vec![1; 41]).await != Ok(vec![Outcome::Acknowledged]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop(service.clone()).await;
    assert_eq!(service.log.remembered_ids().unwrap(), taken + 1);
}
