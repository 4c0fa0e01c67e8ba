//! The edge host: Nearfield's core for many users, on a server of the site's own.
//!
//! The core runs as a WebAssembly guest in wasmtime, one instance a worker thread, bounded in memory
//! and time. Around it stand a store for the users' states, an HTTP interface, and a loop that syncs
//! with central. The paths:
//!
//! ```text
//! out    http → pool (the user's worker) → guest: learn → store → 200        guest: recommend → list
//! back   sync: take delta → store → POST /v1/sync → settle → store
//! model  sync: manifest → patch or pack → verify → model.pack on disk → every instance
//! ```
//!
//! # What holds
//! - Events answered with 200 are on disk. What was refused changed nothing.
//! - A delta is on disk before it is first sent, and leaves the outbox only on central's answer.
//! - Central may be away: events and recommendations go on with the last good model, after a restart
//!   too. When it is back, sync goes on by itself.
//! - A model is served only if a signed manifest named its hash; a refused one changes nothing.
//!
//! This crate is no load balancer and no cluster: a user's requests go to one edge.

#[path = "../guest/src/abi.rs"]
pub mod abi;
pub mod error;
pub mod host;
pub mod http;
mod metrics;
pub mod sync;
pub mod users;

pub use http::app;
pub use metrics::Metrics;
pub use sync::{Round, SyncError};

use abi::{Learnt, ModelInfo};
use error::EdgeError;
use host::pool::{Held, Pool};
use host::sandbox::{GuestError, Limits, Sandbox};
use nearfield_engine::{Event, Model, PackError};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sync::central::Central;
use users::redb::{Store, StoreError, Ticket};

/// Name of the last good model within the data folder.
pub const MODEL_FILE: &str = "model.pack";
/// Name of the user store within the data folder.
pub const USERS_FILE: &str = "users.redb";

/// What an edge is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base address of central, as `http://host:port`.
    pub central: String,
    /// Central's public key, ed25519.
    pub public_key: [u8; 32],
    /// The site that models and deltas are for.
    pub site: String,
    /// Folder of the user store and the last good model.
    pub data: PathBuf,
    /// Worker threads, each with one guest instance (default: the number of cores).
    pub workers: usize,
    /// Users kept open in guests, over all workers (default 10 000). Smaller takes less memory;
    /// larger reads the store less often.
    pub users_open_max: usize,
    /// What one guest instance may use.
    pub limits: Limits,
    /// Time between two rounds with central while it answers (default 5 s). Smaller brings models
    /// sooner; larger asks less.
    pub sync_every: Duration,
    /// Longest request to central (default 10 s).
    pub central_timeout: Duration,
    /// Start without a model and wait for central, instead of refusing to start.
    pub wait_for_model: bool,
    /// The clock, in milliseconds since 1970-01-01 UTC.
    pub now_ms: fn() -> u64,
}

impl Options {
    /// Returns the defaults for a site, its central, the key and a data folder.
    pub fn new(site: &str, central: &str, public_key: [u8; 32], data: PathBuf) -> Self {
        Self {
            central: central.to_owned(),
            public_key,
            site: site.to_owned(),
            data,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            users_open_max: 10_000,
            limits: Limits::default(),
            sync_every: Duration::from_secs(5),
            central_timeout: Duration::from_secs(10),
            wait_for_model: false,
            now_ms: system_now_ms,
        }
    }
}

/// Returns the system's time, in milliseconds since 1970-01-01 UTC.
pub fn system_now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Why an edge did not start.
#[derive(Debug)]
pub enum StartError {
    /// The data folder cannot be made.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The user store cannot be opened.
    Store(StoreError),
    /// The guest module cannot be used.
    Guest(GuestError),
    /// The address of central is no base address, or its client cannot be made.
    Central(SyncError),
    /// The stored model is there and unusable, and central gave no other.
    StoredModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PackError,
        /// Why central gave none.
        central: SyncError,
    },
    /// There is no stored model and central gave none.
    NoModel {
        /// The file that would hold one.
        path: PathBuf,
        /// Why central gave none.
        central: SyncError,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, error } => {
                write!(f, "data folder {} cannot be made: {error}", path.display())
            }
            Self::Store(error) => error.fmt(f),
            Self::Guest(error) => error.fmt(f),
            Self::Central(error) => error.fmt(f),
            Self::StoredModel { path, error, central } => write!(
                f,
                "{} cannot be used ({error}), and central gave no other model: {central}",
                path.display()
            ),
            Self::NoModel { path, central } => write!(
                f,
                "there is no {} and central gave no model: {central}; start central, or pass --wait-for-model",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// A running edge.
pub struct Edge {
    options: Options,
    pool: Pool,
    metrics: Arc<Metrics>,
    central: Central,
    /// When each user that has something to tell is asked for a delta next.
    due_ms: Mutex<HashMap<String, u64>>,
    store_failure: Mutex<Option<StoreError>>,
    wake: tokio::sync::Notify,
    /// Held while a round with central runs, so that rounds do not overlap.
    rounds: tokio::sync::Mutex<()>,
}

impl Edge {
    /// Starts an edge on a guest module: store, workers, last good model. Without a stored model it
    /// asks central for one first.
    ///
    /// # Errors
    /// [`StartError`] names what is missing. Nothing falls back silently.
    pub async fn start(options: Options, guest_wasm: &[u8]) -> Result<Arc<Self>, StartError> {
        std::fs::create_dir_all(&options.data)
            .map_err(|error| StartError::Folder { path: options.data.clone(), error })?;
        let store = Arc::new(Store::open(&options.data.join(USERS_FILE)).map_err(StartError::Store)?);
        let metrics = Arc::new(Metrics::default());
        let sandbox = Sandbox::compile(guest_wasm, options.limits).map_err(StartError::Guest)?;
        let pool = Pool::start(&sandbox, &store, &metrics, options.workers.max(1), options.users_open_max)
            .map_err(StartError::Guest)?;
        let central = Central::new(&options).map_err(StartError::Central)?;
        // What was pending before a restart is asked for in the first round.
        let due_ms = store.pending().map_err(StartError::Store)?.into_iter().map(|user| (user, 0)).collect();
        let edge = Self {
            options,
            pool,
            metrics,
            central,
            due_ms: Mutex::new(due_ms),
            store_failure: Mutex::new(None),
            wake: tokio::sync::Notify::new(),
            rounds: tokio::sync::Mutex::new(()),
        };
        edge.first_model().await?;
        Ok(Arc::new(edge))
    }

    /// Puts the stored model into service, or else central's.
    async fn first_model(&self) -> Result<(), StartError> {
        let path = self.options.data.join(MODEL_FILE);
        let stored = match std::fs::read(&path) {
            Ok(pack) => match Model::load(&pack) {
                Ok(model) => {
                    let held = Held { info: model_info(&model), pack: Arc::new(pack) };
                    match self.pool.install(held.clone(), None).await {
                        Ok(()) => {
                            self.metrics.model(held.info.version, "disk");
                            return Ok(());
                        }
                        Err(EdgeError::Guest(error)) => return Err(StartError::Guest(error)),
                        Err(_) => None,
                    }
                }
                Err(error) => Some(error),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(StartError::Folder { path, error }),
        };
        let Err(central) = self.update_model().await else { return Ok(()) };
        self.metrics.sync_failed(central.reason());
        if self.options.wait_for_model {
            tracing::warn!(%central, "no model yet, waiting for central");
            return Ok(());
        }
        Err(match stored {
            Some(error) => StartError::StoredModel { path, error, central },
            None => StartError::NoModel { path, central },
        })
    }

    /// Learns events of one user; they are on disk when this returns.
    ///
    /// # Errors
    /// [`EdgeError`]; the user is as before.
    pub async fn learn(&self, user: &str, events: Vec<Event>, now_ms: u64) -> Result<Learnt, EdgeError> {
        if let Some(error) = self.store_failure() {
            return Err(error.into());
        }
        let name = user.to_owned();
        let (learnt, ticket) = self.pool.run(user, move |worker| worker.learn(&name, events, now_ms)).await?;
        self.durable(user, ticket).await?;
        self.metrics.events("applied", learnt.applied);
        self.metrics.events("duplicate", learnt.duplicate);
        self.metrics.events("context_only", learnt.context_only);
        if learnt.applied > 0 {
            let wait_ms = if learnt.delta_due { 0 } else { nearfield_engine::limits::DELTA_IDLE_MS };
            self.ask_at(user, now_ms + wait_ms);
        }
        Ok(learnt)
    }

    /// Forgets a user; returns whether anything was kept.
    ///
    /// # Errors
    /// [`EdgeError::Store`] if the record could not be removed.
    pub async fn forget(&self, user: &str) -> Result<bool, EdgeError> {
        let name = user.to_owned();
        let ticket = self.pool.run(user, move |worker| worker.forget(&name)).await?;
        let known = ticket.is_some();
        if let Some(ticket) = ticket {
            self.durable(user, ticket).await?;
        }
        self.due_ms.lock().expect("no holder panics").remove(user);
        Ok(known)
    }

    /// Returns the edge's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the workers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the time by the edge's clock, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        (self.options.now_ms)()
    }

    /// Returns what the store failed with. A store that failed once stays refused until a restart:
    /// events that it may lose are not taken.
    pub fn store_failure(&self) -> Option<StoreError> {
        self.store_failure.lock().expect("no holder panics").clone()
    }

    /// Waits for a write; if it fails, has the user read again from what is on disk.
    async fn durable(&self, user: &str, ticket: Ticket) -> Result<(), EdgeError> {
        let Err(error) = ticket.durable().await else { return Ok(()) };
        tracing::error!(%error, "events are refused from now on");
        *self.store_failure.lock().expect("no holder panics") = Some(error.clone());
        let name = user.to_owned();
        let closed = self.pool.run(user, move |worker| {
            worker.close(&name);
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "could not close a user after its write failed");
        }
        Err(error.into())
    }

    /// Has the user asked for a delta at a time.
    fn ask_at(&self, user: &str, at_ms: u64) {
        self.due_ms.lock().expect("no holder panics").insert(user.to_owned(), at_ms);
        if at_ms <= self.now_ms() {
            self.wake.notify_one();
        }
    }
}

fn model_info(model: &Model) -> ModelInfo {
    ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 }
}
