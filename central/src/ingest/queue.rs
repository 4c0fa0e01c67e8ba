//! The bounded queue between requests and the writer: full, it answers at once instead of growing.

use crate::condition::{Condition, Failure};
use crate::log::entry::Change;
use nearfield_engine::{CatalogError, Delta, ModelVersion, Outcome};
use std::fmt;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Why the writer did not do what was asked. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Too much waits: in the queue, or for the next version.
    Busy,
    /// The service has failed.
    Failed(Failure),
    /// The server is stopping.
    Stopping,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "too many requests or deltas wait; try again"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Stopping => write!(f, "the server is stopping"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Why catalogue changes were not made. Nothing was changed.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeError {
    /// A change cannot be applied.
    Catalog(CatalogError),
    /// The writer is not available.
    Unavailable(Unavailable),
}

/// What catalogue changes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Items that got a row.
    pub added: u64,
    /// Changes asked for.
    pub asked: u64,
}

/// What the writer is asked to do.
pub(crate) enum Job {
    Sync { deltas: Vec<Delta>, token: Vec<u8>, answer: oneshot::Sender<Result<Vec<Outcome>, Unavailable>> },
    Change { changes: Vec<Change>, answer: oneshot::Sender<Result<Changed, ChangeError>> },
    Publish { answer: oneshot::Sender<Result<ModelVersion, Unavailable>> },
    Stop,
}

/// The bounded queue to the writer.
pub struct Queue {
    jobs: SyncSender<Job>,
    condition: Arc<Condition>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Queue {
    /// Returns the queue in front of running threads.
    pub(crate) fn new(
        jobs: SyncSender<Job>,
        condition: Arc<Condition>,
        threads: Vec<JoinHandle<()>>,
    ) -> Self {
        Self { jobs, condition, threads: Mutex::new(threads) }
    }

    /// Makes deltas durable and returns what became of each.
    ///
    /// # Errors
    /// [`Unavailable`]; nothing of it was taken.
    pub async fn sync(&self, deltas: Vec<Delta>, token: Vec<u8>) -> Result<Vec<Outcome>, Unavailable> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Sync { deltas, token, answer })?;
        outcome.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Makes catalogue changes durable; the next version contains them.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Change { changes, answer }).map_err(ChangeError::Unavailable)?;
        outcome.await.unwrap_or_else(|_| Err(ChangeError::Unavailable(self.ended())))
    }

    /// Publishes what waits, if anything does, and returns the newest version.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn publish(&self) -> Result<ModelVersion, Unavailable> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Publish { answer })?;
        outcome.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Finishes what is queued, publishes, writes a snapshot and ends the threads. Blocks.
    pub fn stop(&self) {
        // The writer may have ended already; then there is nothing to tell it.
        let _ = self.jobs.send(Job::Stop);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the writer has panicked");
            }
        }
    }

    /// Says why the writer has ended.
    fn ended(&self) -> Unavailable {
        self.condition.failure().map_or(Unavailable::Stopping, Unavailable::Failed)
    }

    fn send(&self, job: Job) -> Result<(), Unavailable> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Unavailable::Busy,
            TrySendError::Disconnected(_) => self.ended(),
        })
    }
}
