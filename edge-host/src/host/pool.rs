//! Worker threads, one guest instance each. A user belongs to one worker, by the hash of the name, so that what was
//! derived from the user's state is warm there, and no lock stands around an instance.

use crate::abi::{List, Similar, Step, Stepped};
use crate::error::EdgeError;
use crate::host::in_service::{InService, InstalledModel, Slot};
use crate::host::sandbox::{Export, GuestError, Sandbox, decode, message};
use crate::host::strikes::Kind;
use crate::host::worker::Worker;
use crate::metrics::Metrics;
use nearfield_engine::ItemKey;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most calls that wait for one worker (choice: at 50 µs a call, 50 ms of work).
pub const QUEUE_MAX: usize = 1024;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The workers.
pub struct Pool {
    queues: Vec<mpsc::SyncSender<Job>>,
    slot: Arc<Slot>,
    /// The worker of the next call that is not about a user.
    next: AtomicUsize,
}

impl Pool {
    /// Starts `workers` threads with an instance each, which keep up to `warm_bytes_max` bytes derived from states
    /// between them.
    ///
    /// # Errors
    /// [`GuestError`] if the module cannot be instantiated.
    pub fn start(
        sandbox: &Sandbox,
        metrics: &Arc<Metrics>,
        workers: usize,
        warm_bytes_max: u64,
    ) -> Result<Self, GuestError> {
        assert!(workers > 0, "a pool has a worker");
        let warm_bytes_max = warm_bytes_max / workers as u64;
        let slot = Slot::new(InService { sandbox: sandbox.clone(), model: None, warm_bytes_max });
        let mut queues = Vec::new();
        for index in 0..workers {
            let (queue, jobs) = mpsc::sync_channel::<Job>(QUEUE_MAX);
            let mut worker = Worker::new(&slot, metrics)?;
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
        Ok(Self { queues, slot, next: AtomicUsize::new(0) })
    }

    /// Does a step of a user on the user's worker.
    ///
    /// # Errors
    /// [`EdgeError::Busy`] if too many calls wait there, else what the guest gives.
    pub async fn step(&self, user: &str, step: &Step<'_>) -> Result<Stepped, EdgeError> {
        let kind = match step {
            Step { events, .. } if !events.is_empty() => Kind::Learn,
            Step { list: Some(_), .. } => Kind::List,
            _ => Kind::Other,
        };
        let (name, step) = (user.to_owned(), message(step));
        let answer = self.run_on(self.worker_of(user), move |worker| worker.step(&name, kind, &step)).await?;
        decode(Export::Step, &answer).map_err(EdgeError::Guest)
    }

    /// Returns the items that are like another one.
    ///
    /// # Errors
    /// [`EdgeError::UnknownItem`] if the model does not have it, else as [`Pool::step`].
    pub async fn similar(&self, similar: &Similar) -> Result<List, EdgeError> {
        let asked = message(similar);
        let answer = self.run_on(self.any(), move |worker| worker.bytes(Export::Similar, &asked)).await?;
        decode(Export::Similar, &answer).map_err(EdgeError::Guest)
    }

    /// Starts anew with a user whose state made the guest trap.
    ///
    /// # Errors
    /// [`EdgeError::Busy`] if too many calls wait.
    pub async fn forgive(&self, user: &str) -> Result<(), EdgeError> {
        let name = user.to_owned();
        let forgive = move |worker: &mut Worker| {
            worker.forgive(&name);
            Ok(())
        };
        self.run_on(self.worker_of(user), forgive).await
    }

    fn worker_of(&self, user: &str) -> usize {
        (ItemKey::of(user).0 % self.queues.len() as u64) as usize
    }

    fn any(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len()
    }

    async fn run_on<T: Send + 'static>(
        &self,
        worker: usize,
        call: impl FnOnce(&mut Worker) -> Result<T, EdgeError> + Send + 'static,
    ) -> Result<T, EdgeError> {
        let (answer, waiting) = oneshot::channel();
        let since = Instant::now();
        let job: Job = Box::new(move |worker| {
            worker.waited(since.elapsed());
            // A caller that has gone away needs no answer.
            let _ = answer.send(call(worker));
        });
        self.queues[worker].try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => EdgeError::Busy { limit: QUEUE_MAX },
            mpsc::TrySendError::Disconnected(_) => EdgeError::Stopping,
        })?;
        waiting.await.unwrap_or(Err(EdgeError::Stopping))
    }

    /// As [`Pool::run_on`], waiting where the queue is full: it drains within milliseconds, and an update must not
    /// be lost to it.
    async fn run_when_free<T: Send + 'static>(
        &self,
        worker: usize,
        call: impl FnOnce(&mut Worker) -> Result<T, EdgeError> + Clone + Send + 'static,
    ) -> Result<T, EdgeError> {
        loop {
            match self.run_on(worker, call.clone()).await {
                Err(EdgeError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => return other,
            }
        }
    }

    /// Gives every worker a model: by the patch, in place, where it fits; else by an instance that has loaded the
    /// pack aside, so that no call waits for it.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if the core refuses the model; every worker keeps the one it had then.
    pub async fn install(&self, model: InstalledModel, patch: Option<Arc<Vec<u8>>>) -> Result<(), EdgeError> {
        let next = InService { model: Some(model.clone()), ..self.slot.in_service() };
        for worker in 0..self.queues.len() {
            if let Some(patch) = &patch {
                let (wanted, patch) = (model.info, Arc::clone(patch));
                if self.run_when_free(worker, move |worker| Ok(worker.patch(&wanted, &patch))).await? {
                    if worker == 0 {
                        self.slot.replace(next.clone());
                    }
                    continue;
                }
            }
            self.replace(worker, &next, false).await?;
        }
        Ok(())
    }

    /// Gives every worker another core, with the model in service, while calls go on.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if the core cannot be used or refuses the model; every worker keeps the one it had then.
    pub async fn install_core(&self, sandbox: Sandbox) -> Result<(), EdgeError> {
        let next = InService { sandbox, ..self.slot.in_service() };
        for worker in 0..self.queues.len() {
            self.replace(worker, &next, true).await?;
        }
        Ok(())
    }

    /// Makes an instance aside and gives it to a worker. The first one that works puts core and model into service.
    async fn replace(&self, worker: usize, next: &InService, another_core: bool) -> Result<(), EdgeError> {
        let making = next.clone();
        let made = tokio::task::spawn_blocking(move || making.instantiate()).await;
        let guest = made.unwrap_or(Err(GuestError::Module { message: "the edge is stopping".to_owned() }));
        let guest = Arc::new(std::sync::Mutex::new(Some(guest.map_err(EdgeError::Guest)?)));
        if worker == 0 {
            self.slot.replace(next.clone());
        }
        let given = move |worker: &mut Worker| {
            if let Some(guest) = guest.lock().expect("no holder panics").take() {
                worker.replace(guest, another_core);
            }
            Ok(())
        };
        self.run_when_free(worker, given).await
    }

    /// Returns the model in service, if one has arrived.
    pub fn model(&self) -> Option<InstalledModel> {
        self.slot.in_service().model
    }

    /// Returns the hash of the core in service.
    pub fn core(&self) -> blake3::Hash {
        self.slot.in_service().sandbox.hash()
    }

    /// Returns the golden digest as this pool's guest computes it.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if the guest traps.
    pub async fn golden_digest(&self) -> Result<String, EdgeError> {
        let digest = self.run_on(0, |worker| worker.bytes(Export::GoldenDigest, &[])).await?;
        Ok(String::from_utf8_lossy(&digest).into_owned())
    }
}
