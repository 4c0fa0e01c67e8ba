//! One running central service: its parts, opened and started together.

use crate::clock::{Clock, system_ms};
use crate::condition::Condition;
use crate::config::Config;
use crate::ingest::queue::Queue;
use crate::ingest::writer::Writer;
use crate::keys::Keys;
use crate::log::Log;
use crate::merge::replay::{OpenError, open};
use crate::merge::state::Merger;
use crate::metrics::Metrics;
use crate::publish::files::Registry;
use crate::publish::publisher::{Publisher, PublisherThread};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// One running central service.
pub struct Service {
    /// Its settings.
    pub config: Config,
    /// Its keys.
    pub keys: Keys,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Whether it can still write.
    pub condition: Arc<Condition>,
    /// The way to the thread that writes.
    pub queue: Queue,
    /// The model files served.
    pub registry: Arc<Registry>,
    /// The durable log, for reading; only the writer writes.
    pub log: Arc<dyn Log>,
    /// Its clock.
    pub clock: Clock,
}

impl Service {
    /// Opens the data directory and starts the service, with the system's clock.
    ///
    /// # Errors
    /// [`OpenError`] says which part is missing or damaged; nothing runs then.
    pub fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        Self::open_at(config, Arc::new(system_ms))
    }

    /// As [`Service::open`], with a clock of the caller's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_at(config: Config, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let keys = Keys::open(&config.data)?;
        let (merger, log) = open(&config.data, &config.site, clock())?;
        Self::start(config, keys, merger, Arc::new(log), clock)
    }

    /// Starts the threads over an opened log.
    fn start(
        config: Config,
        keys: Keys,
        merger: Merger,
        log: Arc<dyn Log>,
        clock: Clock,
    ) -> Result<Arc<Self>, OpenError> {
        let now_ms = clock();
        let metrics = Arc::new(Metrics::new());
        let (model, key) = (merger.model(), keys.online.clone());
        let publisher = Publisher::start(&config, key, log.versions()?, model, &model.to_pack(), now_ms)?;
        let registry = publisher.registry();
        metrics.model_version.set(model.version().0 as f64);
        metrics.model_rows.set(model.len() as f64);

        let condition = Arc::new(Condition::good());
        let unfinished = Arc::new(AtomicUsize::new(0));
        let (to_publisher, handovers) = mpsc::channel();
        let publisher = PublisherThread {
            publisher,
            log: log.clone(),
            data: config.data.clone(),
            unfinished: unfinished.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            renew_every: Duration::from_millis(config.manifest_ms / 2),
        };
        let writer = Writer::new(
            &config,
            merger,
            log.clone(),
            (to_publisher, unfinished),
            condition.clone(),
            metrics.clone(),
            clock.clone(),
        )?;
        let (sender, jobs) = mpsc::sync_channel(config.queue as usize);
        let threads = vec![
            spawn("publisher", &condition, move || publisher.run(&handovers))?,
            spawn("writer", &condition, move || writer.run(&jobs))?,
        ];
        let queue = Queue::new(sender, condition.clone(), threads);
        Ok(Arc::new(Self { config, keys, metrics, condition, queue, registry, log, clock }))
    }
}

fn spawn(
    name: &'static str,
    condition: &Arc<Condition>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let condition = condition.clone();
    std::thread::Builder::new().name(name.into()).spawn(move || condition.supervise(name, work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Failure;
    use crate::http::app;
    use crate::ingest::queue::Unavailable;
    use crate::log::redb::RedbLog;
    use crate::merge::replay::{first_start, replay};
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use nearfield_engine::{
        Delta, DeltaId, Hyperparameters, Kind, Lineage, ModelVersion, Outcome, Statistics, Touch, Window,
    };
    use std::path::Path;
    use std::sync::Mutex;
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
            Self(Arc::new(Mutex::new(DiskState {
                written: flushed.clone(),
                flushed,
                ..DiskState::default()
            })))
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

    fn config(data: &Path) -> Config {
        let mut config = Config::new(data.to_owned(), "test");
        config.publish_every_ms = 3_600_000;
        config.publish_deltas = 1_000_000;
        config
    }

    /// Writes the trained files of three items.
    fn train(data: &Path) {
        let mut statistics = Statistics::new(Lineage(7), 2, 4, Hyperparameters::starting_point());
        for item in ["a", "b", "c"] {
            statistics.register(item).unwrap();
        }
        let mut model = statistics.empty_model();
        model.apply(&statistics.publish(&mut Window::new(), 1).patch).unwrap();
        std::fs::write(data.join("model.pack"), model.to_pack()).unwrap();
        std::fs::write(data.join("statistics.bin"), statistics.to_bytes()).unwrap();
    }

    fn start(data: &Path, log: RedbLog) -> Arc<Service> {
        start_at(data, log, Arc::new(system_ms))
    }

    fn start_at(data: &Path, log: RedbLog, clock: Clock) -> Arc<Service> {
        let log: Arc<dyn Log> = Arc::new(log);
        let merger = replay(&*log, data).unwrap();
        Service::start(config(data), Keys::open(data).unwrap(), merger, log, clock).unwrap()
    }

    fn delta(id: u8) -> Delta {
        Delta {
            id: DeltaId([id; 16]),
            lineage: Lineage(7),
            base_version: ModelVersion(1),
            factor_scale: 0.01,
            factor: vec![1, 2],
            items: vec![Touch::new(0, Kind::Click as u8, true)],
            share: 1024,
            metrics: Vec::new(),
        }
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
        let data = tempfile::tempdir().unwrap();
        train(data.path());
        let disk = Disk::default();
        let log = RedbLog::on(disk.clone()).unwrap();
        first_start(&log, data.path(), "test", system_ms()).unwrap();
        let service = start(data.path(), log);
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
        let data = tempfile::tempdir().unwrap();
        train(data.path());
        let log = RedbLog::on(Disk::default()).unwrap();
        first_start(&log, data.path(), "test", system_ms()).unwrap();
        let clock = || {
            let publisher = std::thread::current().name() == Some("publisher");
            assert!(!publisher, "the clock has a bug");
            system_ms()
        };
        let service = start_at(data.path(), log, Arc::new(clock));
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
        let data = tempfile::tempdir().unwrap();
        train(data.path());
        let disk = Disk::default();
        let log = RedbLog::on(disk.clone()).unwrap();
        first_start(&log, data.path(), "test", system_ms()).unwrap();
        let service = start(data.path(), log);
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
        let service = start(data.path(), RedbLog::on(disk.clone()).unwrap());
        assert_eq!(send(&service, 1).await, Ok(vec![Outcome::Duplicate]), "it was acknowledged");
        assert_eq!(send(&service, 2).await, Ok(vec![Outcome::Acknowledged]), "it never reached the disk");
        assert_eq!(service.log.entries().unwrap(), 2);
        service.queue.stop();
    }
}
