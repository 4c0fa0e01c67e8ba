//! One running central service: its parts, opened and started together.

use crate::clock::{Clock, system_ms};
use crate::condition::Condition;
use crate::config::Config;
use crate::http::Rates;
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
    /// How often an address or a device token may ask.
    pub rates: Rates,
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
        let (merger, log) = open(&config.data, &config.site)?;
        Self::start(config, keys, merger, Arc::new(log), clock)
    }

    /// Starts the service over a log that has been opened and replayed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start(
        config: Config,
        keys: Keys,
        merger: Merger,
        log: Arc<dyn Log>,
        clock: Clock,
    ) -> Result<Arc<Self>, OpenError> {
        let now_ms = clock();
        let metrics = Arc::new(Metrics::new());
        let (model, key) = (merger.model(), keys.online.clone());
        let publisher =
            Publisher::start(&config, key, &*log, model, merger.row_versions(), &model.to_pack(), now_ms)?;
        let registry = publisher.registry();
        metrics.served(&registry.served());
        metrics.watch_process(&config.data);

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
        let rates = Rates::new(&config);
        Ok(Arc::new(Self { config, rates, keys, metrics, condition, queue, registry, log, clock }))
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
