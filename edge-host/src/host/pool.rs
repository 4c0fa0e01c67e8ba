//! Worker threads, one guest instance each. A user belongs to one worker, by the hash of the name,
//! so that the events of one user are learnt in order and no lock stands around an instance.

use crate::error::EdgeError;
use crate::host::model_slot::{InstalledModel, ModelSlot};
use crate::host::sandbox::{GuestError, Sandbox};
use crate::host::worker::Worker;
use crate::metrics::Metrics;
use crate::users::UserStore;
use nearfield_engine::ItemKey;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Most calls that wait for one worker (choice: at 50 µs a call, 50 ms of work).
pub const QUEUE_MAX: usize = 1024;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The workers.
pub struct Pool {
    queues: Vec<mpsc::SyncSender<Job>>,
    slot: ModelSlot,
}

impl Pool {
    /// Starts `workers` threads with an instance each, which keep up to `users_open_max` users open
    /// between them.
    ///
    /// # Errors
    /// [`GuestError`] if the module cannot be instantiated.
    pub fn start(
        sandbox: &Sandbox,
        store: &Arc<dyn UserStore>,
        metrics: &Arc<Metrics>,
        workers: usize,
        users_open_max: usize,
    ) -> Result<Self, GuestError> {
        assert!(workers > 0, "a pool has a worker");
        let slot = ModelSlot::default();
        let mut queues = Vec::new();
        for index in 0..workers {
            let (queue, jobs) = mpsc::sync_channel::<Job>(QUEUE_MAX);
            let open_max = (users_open_max / workers).max(1);
            let mut worker = Worker::new(sandbox, &slot, store, metrics, open_max)?;
            std::thread::Builder::new()
                .name(format!("nearfield-guest-{index}"))
                .spawn(move || {
                    while let Ok(job) = jobs.recv() {
                        job(&mut worker);
                    }
                })
                .map_err(|error| GuestError::Module { message: format!("no thread: {error}") })?;
            queues.push(queue);
        }
        Ok(Self { queues, slot })
    }

    /// Runs a call on the user's worker.
    ///
    /// # Errors
    /// [`EdgeError::Busy`] if too many calls wait there, else what the call gives.
    pub async fn run<T: Send + 'static>(
        &self,
        user: &str,
        call: impl FnOnce(&mut Worker) -> Result<T, EdgeError> + Send + 'static,
    ) -> Result<T, EdgeError> {
        let shard = ItemKey::of(user).0 % self.queues.len() as u64;
        self.run_on(shard as usize, call).await
    }

    async fn run_on<T: Send + 'static>(
        &self,
        worker: usize,
        call: impl FnOnce(&mut Worker) -> Result<T, EdgeError> + Send + 'static,
    ) -> Result<T, EdgeError> {
        let (answer, waiting) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            let _ = answer.send(call(worker));
        });
        self.queues[worker].try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => EdgeError::Busy { limit: QUEUE_MAX },
            mpsc::TrySendError::Disconnected(_) => EdgeError::Stopping,
        })?;
        waiting.await.unwrap_or(Err(EdgeError::Stopping))
    }

    /// Gives every worker a model: by the patch where it fits, else by the pack.
    ///
    /// # Errors
    /// What the first worker's guest said. Every worker keeps the model it had then.
    pub async fn install(&self, model: InstalledModel, patch: Option<Arc<Vec<u8>>>) -> Result<(), EdgeError> {
        for worker in 0..self.queues.len() {
            let installed = loop {
                let (model, patch) = (model.clone(), patch.clone());
                match self.run_on(worker, move |worker| worker.install(&model, patch.as_deref())).await {
                    // A full queue drains within milliseconds; an update must not be lost to it.
                    Err(EdgeError::Busy { .. }) => {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await
                    }
                    other => break other,
                }
            };
            if worker == 0 {
                installed?;
                // From here on a worker that replaces its instance starts with the new model.
                *self.slot.lock().expect("no holder panics") = Some(model.clone());
            } else if let Err(error) = installed {
                tracing::error!(worker, %error, "worker could not take the model that another one took");
            }
        }
        Ok(())
    }

    /// Returns the model in service, if one has arrived.
    pub fn model(&self) -> Option<InstalledModel> {
        self.slot.lock().expect("no holder panics").clone()
    }

    /// Returns the golden digest as this pool's guest computes it.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if the guest traps.
    pub async fn golden_digest(&self) -> Result<String, EdgeError> {
        self.run_on(0, Worker::golden_digest).await
    }
}
