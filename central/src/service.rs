//! One running central service: its parts, opened and started together.

use crate::clock::{Clock, system_ms};
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
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// One running central service.
pub struct Service {
    /// Its settings.
    pub config: Config,
    /// Its keys.
    pub keys: Keys,
    /// What it counts.
    pub metrics: Arc<Metrics>,
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

        let failed = Arc::new(AtomicBool::new(false));
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
            failed.clone(),
            metrics.clone(),
            clock.clone(),
        )?;
        let (sender, jobs) = mpsc::sync_channel(config.queue as usize);
        let threads = vec![
            std::thread::Builder::new().name("publisher".into()).spawn(move || publisher.run(&handovers))?,
            std::thread::Builder::new().name("writer".into()).spawn(move || writer.run(&jobs))?,
        ];
        let queue = Queue::new(sender, failed, threads);
        Ok(Arc::new(Self { config, keys, metrics, queue, registry, log, clock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    }

    impl Disk {
        fn fail(&self, failing: bool) {
            self.0.lock().unwrap().failing = failing;
        }

        /// Returns the disk as a machine finds it that has lost its memory.
        fn after_a_power_cut(&self) -> Self {
            let flushed = self.0.lock().unwrap().flushed.clone();
            Self(Arc::new(Mutex::new(DiskState { written: flushed.clone(), flushed, failing: false })))
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
        let log: Arc<dyn Log> = Arc::new(log);
        let merger = replay(&*log, data).unwrap();
        Service::start(config(data), Keys::open(data).unwrap(), merger, log, Arc::new(system_ms)).unwrap()
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
        assert_eq!(send(&service, 2).await, Err(Unavailable::StoreFailed));
        // The disk flushes again, but nobody knows what became of the writes before.
        disk.fail(false);
        for id in [2, 1, 3] {
            assert_eq!(send(&service, id).await, Err(Unavailable::StoreFailed), "delta {id}");
        }
        assert_eq!(service.queue.publish().await, Err(Unavailable::StoreFailed));
        let readiness = Request::get("/readyz").body(Body::empty()).unwrap();
        let answer = app(service.clone()).oneshot(readiness).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);

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
