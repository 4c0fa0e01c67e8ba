//! A running edge: store, workers, and what the rounds with central need.

use crate::abi::{Learnt, ModelInfo};
use crate::error::EdgeError;
use crate::host::model_slot::InstalledModel;
use crate::host::pool::Pool;
use crate::host::sandbox::{GuestError, Sandbox};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::sync::central::Central;
use crate::sync::error::SyncError;
use crate::users::redb::RedbUsers;
use crate::users::{StoreError, Ticket, UserStore};
use nearfield_engine::limits::DELTA_IDLE_MS;
use nearfield_engine::model::manifest::issued_ms;
use nearfield_engine::{Event, Model, PackError};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// Name of the last good model within the data folder.
pub const MODEL_FILE: &str = "model.pack";
/// Name of the manifest that was accepted last within the data folder.
pub const MANIFEST_FILE: &str = "model.manifest";
/// Name of the user store within the data folder.
pub const USERS_FILE: &str = "users.redb";

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
    /// The address of central is not a base address, or its client cannot be made.
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
    /// No model is stored, and central gave none.
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
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) central: Central,
    /// When the manifest that was accepted last was issued, 0 before there is one.
    pub(crate) issued_ms: AtomicU64,
    /// When each user with something unsent is asked for a delta next.
    pub(crate) due_ms: Mutex<HashMap<String, u64>>,
    store_failure: Mutex<Option<StoreError>>,
    pub(crate) wake: tokio::sync::Notify,
    /// Held while a round with central runs, so that rounds do not overlap.
    pub(crate) rounds: tokio::sync::Mutex<()>,
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
        let store = RedbUsers::open(&options.data.join(USERS_FILE)).map_err(StartError::Store)?;
        Self::start_on(Arc::new(store), options, guest_wasm).await
    }

    /// Starts an edge on a store of the caller's, which keeps the contract of [`UserStore`]. The data folder is
    /// there already.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub async fn start_on(
        store: Arc<dyn UserStore>,
        options: Options,
        guest_wasm: &[u8],
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Arc::new(Metrics::default());
        let sandbox = Sandbox::compile(guest_wasm, options.limits).map_err(StartError::Guest)?;
        let pool = Pool::start(&sandbox, &store, &metrics, options.workers.max(1), options.users_open_max)
            .map_err(StartError::Guest)?;
        let central = Central::new(&options).map_err(StartError::Central)?;
        // What was pending before a restart is asked for in the first round.
        let due_ms = store.pending().map_err(StartError::Store)?.into_iter().map(|user| (user, 0)).collect();
        let issued_ms = issued_ms(&std::fs::read(options.data.join(MANIFEST_FILE)).unwrap_or_default());
        let edge = Self {
            options,
            pool,
            metrics,
            central,
            issued_ms: AtomicU64::new(issued_ms),
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
                Ok(loaded) => {
                    let model = InstalledModel { info: model_info(&loaded), pack: Arc::new(pack) };
                    match self.pool.install(model.clone(), None).await {
                        Ok(()) => {
                            self.metrics.model(model.info.version, "disk");
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

    /// Learns events of one user; they are on disk when this returns. It runs to its end also where the
    /// caller goes away meanwhile.
    ///
    /// # Errors
    /// [`EdgeError`]; the user is as before.
    pub async fn learn(
        self: &Arc<Self>,
        user: &str,
        events: Vec<Event>,
        now_ms: u64,
    ) -> Result<Learnt, EdgeError> {
        let (edge, user) = (Arc::clone(self), user.to_owned());
        to_its_end(async move { edge.learn_whole(&user, events, now_ms).await }).await
    }

    async fn learn_whole(&self, user: &str, events: Vec<Event>, now_ms: u64) -> Result<Learnt, EdgeError> {
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
            let wait_ms = if learnt.delta_due { 0 } else { DELTA_IDLE_MS };
            self.ask_at(user, now_ms + wait_ms);
        }
        Ok(learnt)
    }

    /// Forgets a user; returns whether anything was kept. It runs to its end also where the caller goes
    /// away meanwhile.
    ///
    /// # Errors
    /// [`EdgeError::Store`] if the record could not be removed.
    pub async fn forget(self: &Arc<Self>, user: &str) -> Result<bool, EdgeError> {
        let (edge, user) = (Arc::clone(self), user.to_owned());
        to_its_end(async move { edge.forget_whole(&user).await }).await
    }

    async fn forget_whole(&self, user: &str) -> Result<bool, EdgeError> {
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
    pub(crate) async fn durable(&self, user: &str, ticket: Ticket) -> Result<(), EdgeError> {
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

    /// Schedules the user to be asked for a delta.
    fn ask_at(&self, user: &str, at_ms: u64) {
        self.due_ms.lock().expect("no holder panics").insert(user.to_owned(), at_ms);
        if at_ms <= self.now_ms() {
            self.wake.notify_one();
        }
    }
}

/// Runs work as a task of its own: a caller that is dropped half-way does not stop it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, EdgeError>> + Send + 'static,
) -> Result<T, EdgeError> {
    // A task ends without a result only when the runtime stops, or by a panic, which has been reported.
    tokio::spawn(work).await.unwrap_or(Err(EdgeError::Stopping))
}

/// Returns what a model says of itself.
pub(crate) fn model_info(model: &Model) -> ModelInfo {
    ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 }
}
