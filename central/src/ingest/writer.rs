//! The one thread that writes: it takes what waits in a bounded queue into one transaction, admits
//! the deltas to the window, and publishes.
//!
//! ```text
//! HTTP → queue (bounded; full → 429) → writer: check, append + commit, admit, acknowledge
//!                                              publish: window → statistics → model, mark + commit
//!                                      → maker: pack, patches, manifest → readers; now and then a snapshot
//! ```
//!
//! Group commit: a transaction costs a wait for the disk whatever is in it, so all that came in
//! during the last one goes into the next.

use crate::config::Config;
use crate::ingest::token;
use crate::keys;
use crate::log::entry::{Change, LoggedDelta, VersionRecord};
use crate::log::redb::{Appended, Store, StoreError};
use crate::merge::state::{self, Merger, OpenError, Published};
use crate::metrics::Metrics;
use crate::publish::publisher::{Maker, Registry, oldest_kept};
use ed25519_dalek::SigningKey;
use nearfield_engine::{CatalogError, Delta, DeltaId, Model, ModelVersion, Outcome};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most deltas in one transaction: bounds the time that a request waits behind others.
const BATCH_DELTAS_MAX: usize = 4096;

/// Newest versions whose quality is counted one by one; each is five series in the metrics.
const QUALITY_VERSIONS: u64 = 64;

/// How long the writer sleeps when it has nothing to do; only gauges are refreshed after it.
const IDLE: Duration = Duration::from_millis(500);

/// How long the writer waits before it asks again whether the last version's files are made.
const MAKER_BUSY: Duration = Duration::from_millis(5);

/// Returns the time in milliseconds since 1970-01-01 UTC.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why the writer did not do what was asked. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The queue is full.
    Busy,
    /// The store has failed; nothing is written until a restart.
    StoreFailed,
    /// The server is stopping.
    Stopping,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "too many requests wait for the disk"),
            Self::StoreFailed => write!(f, "the store has failed; nothing is written until a restart"),
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
    /// Rows after it, withdrawn ones included; some may not be published yet.
    pub asked: u64,
}

enum Job {
    Sync { deltas: Vec<Delta>, token: Vec<u8>, answer: oneshot::Sender<Result<Vec<Outcome>, Unavailable>> },
    Change { changes: Vec<Change>, answer: oneshot::Sender<Result<Changed, ChangeError>> },
    Publish { answer: oneshot::Sender<Result<ModelVersion, Unavailable>> },
    Stop,
}

/// The way to the writer.
pub struct Writer {
    queue: SyncSender<Job>,
    failed: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    /// Opens the data directory and starts the writer and the maker of model files.
    ///
    /// # Errors
    /// [`OpenError`]; nothing runs then.
    pub fn start(
        config: &Config,
        key: SigningKey,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<(Self, Arc<Registry>, Arc<Store>), OpenError> {
        let now_ms = clock();
        let (merger, store) = Merger::open(&config.data, &config.site, now_ms)?;
        let store = Arc::new(store);
        let window_key = store.window_key()?;
        let maker =
            Maker::start(config, key, store.versions()?, merger.model(), &merger.model().to_pack(), now_ms)?;
        let registry = maker.registry();
        metrics.model_version.set(merger.model().version().0 as f64);
        metrics.model_rows.set(merger.model().len() as f64);

        let failed = Arc::new(AtomicBool::new(false));
        let making = Arc::new(AtomicUsize::new(0));
        let (queue, jobs) = mpsc::sync_channel(config.queue as usize);
        let (to_maker, made) = mpsc::channel();
        let maker = MakerLoop {
            maker,
            store: store.clone(),
            data: config.data.clone(),
            making: making.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            renew_every: Duration::from_millis(config.manifest_ms / 2),
        };
        let writer = WriterLoop {
            waiting_since: merger.something_waits().then(Instant::now),
            oldest: oldest_kept(merger.model().version(), config.keep_versions),
            // A server that is killed often must still take snapshots.
            publishes_since_snapshot: merger.model().version().0.saturating_sub(store.snapshot()?.version.0),
            config: config.clone(),
            merger,
            store: store.clone(),
            window_key,
            to_maker,
            making,
            failed: failed.clone(),
            metrics,
            clock,
        };
        let threads = vec![
            std::thread::Builder::new().name("maker".into()).spawn(move || maker.run(&made))?,
            std::thread::Builder::new().name("writer".into()).spawn(move || writer.run(&jobs))?,
        ];
        Ok((Self { queue, failed, threads: Mutex::new(threads) }, registry, store))
    }

    /// Returns whether the store has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Makes deltas durable and returns what became of each.
    ///
    /// # Errors
    /// [`Unavailable`]; nothing of it was taken.
    pub async fn sync(&self, deltas: Vec<Delta>, token: Vec<u8>) -> Result<Vec<Outcome>, Unavailable> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Sync { deltas, token, answer })?;
        outcome.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// Makes catalogue changes durable; the next version tells of them.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Change { changes, answer }).map_err(ChangeError::Unavailable)?;
        outcome.await.unwrap_or(Err(ChangeError::Unavailable(Unavailable::Stopping)))
    }

    /// Publishes what waits, if anything does, and returns the newest version.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn publish(&self) -> Result<ModelVersion, Unavailable> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Publish { answer })?;
        outcome.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// Finishes what is queued, publishes, writes a snapshot and ends the threads. Blocks.
    pub fn stop(&self) {
        // The writer may have ended already; then there is nothing to tell it.
        let _ = self.queue.send(Job::Stop);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the writer has panicked");
            }
        }
    }

    fn send(&self, job: Job) -> Result<(), Unavailable> {
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Unavailable::Busy,
            TrySendError::Disconnected(_) => Unavailable::Stopping,
        })
    }
}

/// What the writer hands to the maker.
struct Finished {
    model: Arc<Model>,
    record: VersionRecord,
    pack: Vec<u8>,
    /// Log position and statistics, where a snapshot is due.
    snapshot: Option<(u64, Vec<u8>)>,
}

struct WriterLoop {
    config: Config,
    merger: Merger,
    store: Arc<Store>,
    window_key: [u8; 32],
    oldest: ModelVersion,
    /// When the oldest thing that no version contains came in.
    waiting_since: Option<Instant>,
    publishes_since_snapshot: u64,
    to_maker: Sender<Finished>,
    making: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

struct Waiting {
    deltas: Vec<Delta>,
    token: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<Outcome>, Unavailable>>,
}

impl WriterLoop {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let mut next = match jobs.recv_timeout(self.sleep()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Job::Stop),
            };
            let mut batch = Vec::new();
            let mut deltas_in_batch = 0;
            // Syncs that wait go into one transaction; anything else keeps its place in the order.
            while let Some(Job::Sync { deltas, token, answer }) = next {
                deltas_in_batch += deltas.len();
                batch.push(Waiting { deltas, token, answer });
                next = if deltas_in_batch < BATCH_DELTAS_MAX { jobs.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            match next {
                Some(Job::Change { changes, answer }) => {
                    let _ = answer.send(self.change(changes));
                }
                Some(Job::Publish { answer }) => {
                    let result = self.publish(false).map(|()| self.merger.model().version());
                    let _ = answer.send(result);
                }
                Some(Job::Stop) => {
                    if let Err(error) = self.publish(true) {
                        tracing::error!(%error, "the last publish failed; the log is whole and is replayed at the next start");
                    }
                    return;
                }
                Some(Job::Sync { .. }) | None => {}
            }
            if self.publish_is_due() && self.publish(false).is_err() {
                tracing::error!("publishing has stopped");
            }
            self.refresh_gauges();
        }
    }

    fn sleep(&self) -> Duration {
        if self.failed.load(Ordering::Acquire) {
            return IDLE;
        }
        match self.waiting_since {
            Some(since) => {
                let due = Duration::from_millis(self.config.publish_every_ms).saturating_sub(since.elapsed());
                due.max(MAKER_BUSY).min(IDLE)
            }
            None => IDLE,
        }
    }

    fn publish_is_due(&self) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let due = since.elapsed() >= Duration::from_millis(self.config.publish_every_ms)
            || self.merger.waiting_deltas() >= self.config.publish_deltas;
        due && self.making.load(Ordering::Acquire) == 0 && !self.failed.load(Ordering::Acquire)
    }

    fn refresh_gauges(&self) {
        self.metrics.waiting_deltas.set(self.merger.waiting_deltas() as f64);
        self.metrics
            .merge_lag_seconds
            .set(self.waiting_since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        if let Ok(length) = self.store.log_len() {
            self.metrics.log_length.set(length as f64);
        }
    }

    /// Stops all writing: after a failed commit it is unknown what the disk holds.
    fn fail(&self, error: &StoreError) -> Unavailable {
        tracing::error!(%error, "the store has failed: nothing is written until a restart");
        self.metrics.store_healthy.set(0.0);
        self.failed.store(true, Ordering::Release);
        Unavailable::StoreFailed
    }

    fn writable(&self) -> Result<(), Unavailable> {
        if self.failed.load(Ordering::Acquire) { Err(Unavailable::StoreFailed) } else { Ok(()) }
    }

    /// Checks, appends and admits a batch, then acknowledges it.
    fn commit(&mut self, batch: Vec<Waiting>) {
        let outcomes = self.writable().and_then(|()| self.append(&batch));
        match outcomes {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for waiting in batch {
                    let own = outcomes.by_ref().take(waiting.deltas.len()).collect();
                    // A client that has gone away gets its answer as a duplicate next time.
                    let _ = waiting.answer.send(Ok(own));
                }
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn append(&mut self, batch: &[Waiting]) -> Result<Vec<Outcome>, Unavailable> {
        let started = Instant::now();
        let mut refusals = Vec::new();
        let mut rows: Vec<(DeltaId, Option<LoggedDelta>)> = Vec::new();
        let mut tags = Vec::new();
        for waiting in batch {
            let tag = token::tag(&self.window_key, &waiting.token);
            for delta in &waiting.deltas {
                let refusal = self.merger.check(delta, self.oldest).err();
                rows.push((delta.id, refusal.is_none().then(|| Merger::logged(delta, tag))));
                refusals.push(refusal);
                tags.push(tag);
            }
        }
        let appended = self.store.append(&rows).map_err(|error| self.fail(&error))?;
        let deltas = batch.iter().flat_map(|waiting| &waiting.deltas);
        let mut new = 0;
        let newest = self.merger.model().version();
        let counted = oldest_kept(newest, QUALITY_VERSIONS)..=newest;
        let mut outcomes = Vec::with_capacity(appended.len());
        for (((appended, refusal), delta), tag) in appended.into_iter().zip(refusals).zip(deltas).zip(tags) {
            outcomes.push(match (appended, refusal) {
                (Some(Appended::Duplicate), _) => {
                    self.metrics.duplicate.increment(1);
                    Outcome::Duplicate
                }
                (Some(Appended::New(_)), _) => {
                    self.merger.admit(delta, tag);
                    delta.metrics.iter().for_each(|seen| self.metrics.quality(seen, counted.clone()));
                    new += 1;
                    Outcome::Acknowledged
                }
                (None, Some(refusal)) => {
                    self.metrics.refused(refusal.reason());
                    Outcome::Refused(refusal)
                }
                (None, None) => unreachable!("a delta without a refusal is appended or a duplicate"),
            });
        }
        if new > 0 {
            self.metrics.acknowledged.increment(new);
            self.metrics.commit_deltas.record(new as f64);
            self.metrics.commit_seconds.record(started.elapsed().as_secs_f64());
            self.waiting_since.get_or_insert(started);
        }
        Ok(outcomes)
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        self.writable().map_err(ChangeError::Unavailable)?;
        self.merger.check_changes(&changes).map_err(ChangeError::Catalog)?;
        self.store
            .append_changes(changes.clone())
            .map_err(|error| ChangeError::Unavailable(self.fail(&error)))?;
        let added = self.merger.change(&changes).map_err(ChangeError::Catalog)?;
        if self.merger.something_waits() {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        Ok(Changed { added, asked: changes.len() as u64 })
    }

    /// Publishes what waits, if anything does; `last` also asks for a snapshot.
    fn publish(&mut self, last: bool) -> Result<(), Unavailable> {
        self.writable()?;
        if !self.merger.something_waits() {
            if last {
                self.last_snapshot();
            }
            return Ok(());
        }
        let started = Instant::now();
        let now_ms = (self.clock)();
        let window_key = keys::random().map_err(|error| {
            tracing::error!(%error, "no new window key: publishing waits");
            Unavailable::Stopping
        })?;
        let Published { mark, record, pack, waiting_rows } = self.merger.publish(self.config.k, now_ms);
        let oldest = oldest_kept(mark.version, self.config.keep_versions);
        let sequence =
            self.store.publish(mark, &record, oldest, &window_key).map_err(|error| self.fail(&error))?;
        self.window_key = window_key;
        self.oldest = oldest;
        self.waiting_since = None;
        self.publishes_since_snapshot += 1;
        let due = last || self.publishes_since_snapshot >= self.config.snapshot_every;
        let snapshot = if due { self.merger.snapshot() } else { None };
        if snapshot.is_some() {
            self.publishes_since_snapshot = 0;
        }
        self.metrics.publishes.increment(1);
        self.metrics.waiting_rows.set(waiting_rows as f64);
        self.metrics.publish_seconds.record(started.elapsed().as_secs_f64());
        tracing::debug!(version = %mark.version, deltas = mark.deltas, waiting_rows, "published");
        self.hand_over(Finished {
            model: Arc::new(self.merger.model().clone()),
            record,
            pack,
            snapshot: snapshot.map(|statistics| (sequence, statistics)),
        });
        Ok(())
    }

    /// Writes a snapshot at the end, when nothing new waits but the log holds published deltas.
    fn last_snapshot(&mut self) {
        // An older snapshot may be on its way to disk.
        while self.making.load(Ordering::Acquire) > 0 {
            std::thread::sleep(MAKER_BUSY);
        }
        let last_mark = self.store.last_sequence();
        let (Ok(Some(sequence)), true) = (last_mark, self.publishes_since_snapshot > 0) else { return };
        let Some(statistics) = self.merger.snapshot() else { return };
        let pack = self.merger.model().to_pack();
        let version = self.merger.model().version();
        let written =
            state::write_snapshot(&self.store, &self.config.data, sequence, version, &statistics, &pack);
        if let Err(error) = written {
            tracing::error!(%error, "the snapshot was not written; the log is replayed at the next start");
        }
    }

    fn hand_over(&self, finished: Finished) {
        self.making.fetch_add(1, Ordering::AcqRel);
        // The maker ends only after the writer.
        let _ = self.to_maker.send(finished);
    }
}

struct MakerLoop {
    maker: Maker,
    store: Arc<Store>,
    data: PathBuf,
    making: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    clock: Clock,
    renew_every: Duration,
}

impl MakerLoop {
    fn run(mut self, finished: &Receiver<Finished>) {
        loop {
            match finished.recv_timeout(self.renew_every) {
                Ok(finished) => {
                    self.make(finished);
                    self.making.fetch_sub(1, Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Timeout) => self.maker.renew((self.clock)()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn make(&mut self, finished: Finished) {
        let Finished { model, record, pack, snapshot } = finished;
        match self.maker.publish(record, &model, &pack, (self.clock)()) {
            Ok(()) => {
                self.metrics.model_version.set(model.version().0 as f64);
                self.metrics.model_rows.set(model.len() as f64);
            }
            Err(error) => {
                self.metrics.publish_errors.increment(1);
                tracing::error!(%error, version = %model.version(), "model files were not written; the version before stays");
            }
        }
        if let Some((sequence, statistics)) = snapshot {
            let written =
                state::write_snapshot(&self.store, &self.data, sequence, model.version(), &statistics, &pack);
            if let Err(error) = written {
                self.metrics.publish_errors.increment(1);
                tracing::error!(%error, "the snapshot was not written; the log stays");
            }
        }
    }
}
