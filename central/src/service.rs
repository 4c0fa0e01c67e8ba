//! One running central service: writer, readers, keys and settings.

use crate::config::Config;
use crate::ingest::writer::{Clock, Writer};
use crate::keys::Keys;
use crate::log::redb::Store;
use crate::merge::state::OpenError;
use crate::metrics::Metrics;
use crate::publish::publisher::Registry;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// One running central service.
pub struct Central {
    /// Its settings.
    pub config: Config,
    /// Its keys.
    pub keys: Keys,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The way to the thread that writes.
    pub writer: Writer,
    /// The model files served.
    pub registry: Arc<Registry>,
    /// The durable store, for reading; only the writer writes.
    pub store: Arc<Store>,
    /// Its clock.
    pub clock: Clock,
}

impl Central {
    /// Opens the data directory and starts the service, with the system's clock.
    ///
    /// # Errors
    /// [`OpenError`] says which part is missing or damaged; nothing runs then.
    pub fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        Self::open_at(config, Arc::new(system_ms))
    }

    /// As [`Central::open`], with a clock of the caller's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_at(config: Config, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let keys = Keys::open(&config.data)?;
        let metrics = Arc::new(Metrics::new());
        let (writer, registry, store) =
            Writer::start(&config, keys.online.clone(), metrics.clone(), clock.clone())?;
        Ok(Arc::new(Self { config, keys, metrics, writer, registry, store, clock }))
    }
}

/// Returns the system's time in milliseconds since 1970-01-01 UTC.
pub fn system_ms() -> u64 {
    // A clock before 1970 is a machine without time; 0 makes every token and manifest expire at once.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}
