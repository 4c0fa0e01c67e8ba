//! The one thread that writes: it takes what waits in the queue into one transaction, admits the deltas
//! to the window, and publishes.
//!
//! ```text
//! HTTP → queue (bounded; full → 429) → writer: check, append + commit, admit, acknowledge
//!                                              publish: window → statistics → model, mark + commit
//!                                      → publisher: pack, patches, manifest → readers; now and then a snapshot
//! ```
//!
//! Group commit: a transaction costs a wait for the disk whatever is in it, so all that came in
//! during the last one goes into the next.

use crate::clock::Clock;
use crate::condition::{Condition, Failure};
use crate::config::Config;
use crate::ingest::queue::{ChangeError, Changed, Job, Unavailable};
use crate::ingest::token;
use crate::keys;
use crate::log::entry::{Change, VersionRecord};
use crate::log::{Appended, Candidate, Log, LogError, Marked, RowKey};
use crate::merge::snapshot::write_snapshot;
use crate::merge::state::{Merger, Published};
use crate::metrics::Metrics;
use crate::publish::publisher::Handover;
use crate::publish::versions::oldest_kept;
use nearfield_engine::{Delta, ModelVersion, Outcome, Preview, Row, Threshold};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most deltas in one transaction: it bounds the time that a request waits behind others.
const BATCH_DELTAS_MAX: usize = 4096;

/// Newest versions whose quality is counted one by one; each is five series in the metrics.
const QUALITY_VERSIONS: u64 = 64;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// How long the writer sleeps when it has nothing to do; only gauges are refreshed after it.
const IDLE: Duration = Duration::from_millis(500);

/// How long the writer waits before it asks again whether the last version's files are made.
const PUBLISHER_BUSY: Duration = Duration::from_millis(5);

/// The writer: it alone changes log, statistics and window.
pub(crate) struct Writer {
    config: Config,
    merger: Merger,
    log: Arc<dyn Log>,
    window_key: [u8; 32],
    /// Keys of the rows that wait for devices.
    row_keys: HashMap<Row, RowKey>,
    /// Oldest version that a delta may be based on. It only rises.
    oldest: ModelVersion,
    started: Instant,
    /// The version published last before this start.
    before: VersionRecord,
    /// Deltas merged since the first start.
    merged_deltas: u64,
    /// When the oldest thing that is in no version came in.
    waiting_since: Option<Instant>,
    /// Whether what waits is kept back until the operator asks for a publish.
    held: bool,
    publishes_since_snapshot: u64,
    to_publisher: Sender<Handover>,
    /// Versions handed over whose files are not made yet.
    unfinished: Arc<AtomicUsize>,
    condition: Arc<Condition>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Why something is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// It is time.
    Due,
    /// The operator wants it, also what is held.
    Asked,
    /// The service stops.
    Last,
}

struct Waiting {
    deltas: Vec<Delta>,
    token: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<Outcome>, Unavailable>>,
}

impl Writer {
    /// Returns a writer that continues from an opened log. Versions go to the publisher through `handover`,
    /// a channel and the count of versions that are not finished.
    pub(crate) fn new(
        config: &Config,
        merger: Merger,
        log: Arc<dyn Log>,
        handover: (Sender<Handover>, Arc<AtomicUsize>),
        condition: Arc<Condition>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, LogError> {
        let version = merger.model().version();
        let before = log
            .version(version)?
            .ok_or_else(|| LogError::Damaged { what: format!("the record of version {version}") })?;
        Ok(Self {
            waiting_since: merger.something_waits().then(Instant::now),
            oldest: log.oldest_base()?,
            started: Instant::now(),
            merged_deltas: before.deltas,
            before,
            held: false,
            // A server that is killed often must still take snapshots.
            publishes_since_snapshot: version.0.saturating_sub(log.snapshot()?.version.0),
            window_key: log.window_key()?,
            row_keys: log.row_keys()?.into_iter().collect(),
            config: config.clone(),
            merger,
            log,
            to_publisher: handover.0,
            unfinished: handover.1,
            condition,
            metrics,
            clock,
        })
    }

    /// Works through the queue until it is told to stop.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
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
                    let result = self.publish(Occasion::Asked).map(|()| self.merger.model().version());
                    let _ = answer.send(result);
                }
                Some(Job::Stop) => {
                    if let Err(error) = self.publish(Occasion::Last) {
                        tracing::error!(%error, "the last publish failed; the log is whole and is replayed at the next start");
                    }
                    return;
                }
                Some(Job::Sync { .. }) | None => {}
            }
            if self.publish_is_due() && self.publish(Occasion::Due).is_err() {
                tracing::error!("publishing has stopped");
            }
            self.refresh_gauges();
            self.metrics.upkeep();
        }
    }

    fn sleep(&self) -> Duration {
        if self.condition.failure().is_some() {
            return IDLE;
        }
        match self.waiting_since.filter(|_| !self.held) {
            Some(since) => {
                let due = Duration::from_millis(self.config.publish_every_ms).saturating_sub(since.elapsed());
                due.max(PUBLISHER_BUSY).min(IDLE)
            }
            None => IDLE,
        }
    }

    fn publish_is_due(&self) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let due = since.elapsed() >= Duration::from_millis(self.config.publish_every_ms)
            || self.merger.waiting_deltas() >= self.config.publish_deltas
            || self.merger.waiting_bytes() >= self.config.window_bytes / 2;
        due && !self.held
            && self.unfinished.load(Ordering::Acquire) == 0
            && self.condition.failure().is_none()
    }

    fn refresh_gauges(&self) {
        self.metrics.waiting_deltas.set(self.merger.waiting_deltas() as f64);
        self.metrics
            .merge_lag_seconds
            .set(self.waiting_since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        if let Ok(length) = self.log.entries() {
            self.metrics.log_length.set(length as f64);
        }
    }

    /// Stops all writing: after a failed commit it is unknown what the disk holds.
    fn fail(&self, error: &LogError) -> Unavailable {
        tracing::error!(%error, "the store has failed: nothing is written until a restart");
        self.metrics.store_healthy.set(0.0);
        self.condition.fail(Failure::Store);
        Unavailable::Failed(Failure::Store)
    }

    fn writable(&self) -> Result<(), Unavailable> {
        self.condition.failure().map_or(Ok(()), |failure| Err(Unavailable::Failed(failure)))
    }

    /// Returns whether the window may grow. It may not while the files of the last version are still made and
    /// deltas come faster than that.
    fn has_room(&self) -> Result<(), Unavailable> {
        if self.merger.waiting_bytes() < self.config.window_bytes { Ok(()) } else { Err(Unavailable::Busy) }
    }

    /// Checks, appends and admits a batch, then acknowledges it.
    fn commit(&mut self, batch: Vec<Waiting>) {
        let outcomes = self.writable().and_then(|()| self.has_room()).and_then(|()| self.append(&batch));
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
        let mut candidates = Vec::new();
        let mut new_keys = Vec::new();
        for waiting in batch {
            let tag = token::tag(&self.window_key, &waiting.token);
            for delta in &waiting.deltas {
                let refusal = self.merger.check(delta, self.oldest).err();
                let logged = match refusal {
                    None => {
                        let row_tags =
                            self.row_tags(delta, &waiting.token, &mut new_keys).inspect_err(|_| {
                                // Nothing of the batch is written, so these keys are nobody's.
                                new_keys.iter().for_each(|(row, _)| _ = self.row_keys.remove(row));
                            })?;
                        Some(Merger::logged(delta, tag, row_tags))
                    }
                    Some(_) => None,
                };
                candidates.push(Candidate { id: delta.id, base_version: delta.base_version, delta: logged });
                refusals.push(refusal);
            }
        }
        let appended = self.log.append(&candidates, &new_keys).map_err(|error| self.fail(&error))?;
        let deltas = batch.iter().flat_map(|waiting| &waiting.deltas);
        let mut new = 0;
        let newest = self.merger.model().version();
        let counted = oldest_kept(newest, QUALITY_VERSIONS)..=newest;
        let mut outcomes = Vec::with_capacity(appended.len());
        for (((appended, refusal), delta), candidate) in
            appended.into_iter().zip(refusals).zip(deltas).zip(candidates)
        {
            outcomes.push(match (appended, refusal) {
                (Some(Appended::Duplicate), _) => {
                    self.metrics.duplicate.increment(1);
                    Outcome::Duplicate
                }
                (Some(Appended::New(_)), _) => {
                    let logged = candidate.delta.expect("only what was handed over is appended");
                    self.merger.admit(delta, logged.device_tag, &logged.row_tags);
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

    /// Returns the device's tag at each row that a delta touches, and makes a key for rows that have none.
    /// Without a threshold no row waits, and there is nothing to tell apart beyond the window.
    fn row_tags(
        &mut self,
        delta: &Delta,
        token: &[u8],
        new_keys: &mut Vec<(Row, RowKey)>,
    ) -> Result<Vec<u32>, Unavailable> {
        if self.config.k == 1 {
            return Ok(Vec::new());
        }
        let mut tags = Vec::with_capacity(delta.items.len());
        for touch in &delta.items {
            let key = match self.row_keys.entry(touch.row()) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(vacant) => {
                    let key = keys::random().map_err(|error| {
                        tracing::error!(%error, "no key for a waiting row");
                        Unavailable::Stopping
                    })?;
                    new_keys.push((touch.row(), key));
                    vacant.insert(key)
                }
            };
            tags.push(token::row_tag(key, token));
        }
        Ok(tags)
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        self.writable().map_err(ChangeError::Unavailable)?;
        self.merger.check_changes(&changes).map_err(ChangeError::Catalog)?;
        self.log
            .append_changes(changes.clone())
            .map_err(|error| ChangeError::Unavailable(self.fail(&error)))?;
        let added = self.merger.change(&changes).map_err(ChangeError::Catalog)?;
        if self.merger.something_waits() {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        Ok(Changed { added, asked: changes.len() as u64 })
    }

    /// Publishes what waits, if anything does and unless it is held. At the last occasion a snapshot is taken
    /// too.
    fn publish(&mut self, occasion: Occasion) -> Result<(), Unavailable> {
        let last = occasion == Occasion::Last;
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
        let threshold = Threshold {
            devices: self.config.k,
            day: (now_ms / DAY_MS) as u32,
            wait_days: self.config.wait_days,
            waiting_bytes_max: self.config.waiting_bytes,
        };
        if occasion != Occasion::Asked && self.is_to_be_held(&threshold) {
            return Ok(());
        }
        let Published { mark, pack, waiting_rows, dropped_by_age, dropped_by_bytes } =
            self.merger.publish(threshold);
        self.merged_deltas += mark.deltas;
        let record = VersionRecord {
            version: mark.version,
            pack_hash: mark.pack_hash,
            pack_bytes: pack.len() as u64,
            deltas: self.merged_deltas,
            // What passed after the last publish of the run before does not count: ids are then kept longer.
            uptime_ms: self.before.uptime_ms + self.started.elapsed().as_millis() as u64,
        };
        let published: Vec<Row> =
            self.row_keys.extract_if(|row, _| !self.merger.waits(*row)).map(|(row, _)| row).collect();
        let Marked { number, oldest_base } = self
            .log
            .publish(mark, &record, self.config.keep_ms, &window_key, &published)
            .map_err(|error| self.fail(&error))?;
        self.window_key = window_key;
        self.oldest = oldest_base;
        self.held = false;
        self.metrics.publish_held.set(0.0);
        self.waiting_since = None;
        self.publishes_since_snapshot += 1;
        let due = last || self.publishes_since_snapshot >= self.config.snapshot_every;
        let snapshot = if due { self.merger.snapshot() } else { None };
        if snapshot.is_some() {
            self.publishes_since_snapshot = 0;
        }
        self.metrics.publishes.increment(1);
        self.metrics.waiting_rows.set(waiting_rows as f64);
        self.metrics.dropped_by_age.increment(dropped_by_age as u64);
        self.metrics.dropped_by_bytes.increment(dropped_by_bytes as u64);
        if dropped_by_bytes > 0 {
            tracing::warn!(rows = dropped_by_bytes, "too much waits for k devices: rows were dropped");
        }
        self.metrics.publish_seconds.record(started.elapsed().as_secs_f64());
        tracing::debug!(version = %mark.version, deltas = mark.deltas, waiting_rows, "published");
        self.hand_over(Handover {
            model: Arc::new(self.merger.model().clone()),
            rows: self.merger.row_versions().clone(),
            pack,
            snapshot: snapshot.map(|statistics| (number, statistics)),
        });
        Ok(())
    }

    /// Returns whether what waits is kept back: it is already, or it would move more rows past their step bound
    /// than it may. Nothing is lost then: deltas are taken as long as there is room, and the log has them.
    fn is_to_be_held(&mut self, threshold: &Threshold) -> bool {
        if self.held {
            return true;
        }
        let share = self.config.hold_share;
        if share >= 1.0 {
            return false;
        }
        let preview = self.merger.preview(threshold);
        let Preview { rows, bounded } = preview;
        // One delta alone holds nothing.
        let most = usize::from(self.merger.model().hyperparameters().bounds.items_max);
        self.held = bounded > most && preview.share() > share;
        if self.held {
            self.metrics.publish_holds.increment(1);
            self.metrics.publish_held.set(1.0);
            tracing::error!(
                rows,
                bounded,
                share,
                "the next version would move too many rows past their step bound: it is held; look at what has \
                 come in, then POST /v1/publish on the admin listener goes on"
            );
        }
        self.held
    }

    /// Writes a snapshot at the end, when nothing new waits but the log holds published deltas.
    fn last_snapshot(&mut self) {
        // An older snapshot may be on its way to disk.
        while self.unfinished.load(Ordering::Acquire) > 0 {
            if self.condition.failure().is_some() {
                return;
            }
            std::thread::sleep(PUBLISHER_BUSY);
        }
        let last_mark = self.log.last_number();
        let (Ok(Some(sequence)), true) = (last_mark, self.publishes_since_snapshot > 0) else { return };
        let Some(statistics) = self.merger.snapshot() else { return };
        let pack = self.merger.model().to_pack();
        let version = self.merger.model().version();
        let written = write_snapshot(&*self.log, &self.config.data, sequence, version, &statistics, &pack);
        if let Err(error) = written {
            tracing::error!(%error, "the snapshot was not written; the log is replayed at the next start");
        }
    }

    fn hand_over(&self, handover: Handover) {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        // The publisher ends only after the writer.
        let _ = self.to_publisher.send(handover);
    }
}
