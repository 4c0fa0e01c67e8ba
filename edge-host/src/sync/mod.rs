//! Rounds with central: first the model, then the deltas that are due. A round that meets an absent
//! central ends at once and the next one waits, longer each time, with jitter so that many edges do
//! not come back together.

pub mod central;

use crate::abi::EncodeSync;
use crate::error::EdgeError;
use crate::host::pool::Held;
use crate::{Edge, MODEL_FILE, model_info};
use backon::{BackoffBuilder, ExponentialBuilder};
use nearfield_engine::limits::DELTA_IDLE_MS;
use nearfield_engine::model::manifest::{self, Manifest};
use nearfield_engine::{DeltaId, ManifestError, Model, ModelVersion, Outcome, PackError, PatchError};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Users whose deltas are under way at the same time (choice: central answers in about a
/// millisecond, so eight keep a core of it busy).
const USERS_AT_ONCE: usize = 8;
/// Time until a user is asked again whose sync body central refused as a whole (choice).
const REFUSED_WAIT_MS: u64 = 10 * 60 * 1000;
/// Shortest and longest wait while central is away (choice).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why something with central failed. What was to be sent is kept, and the model stays.
#[derive(Debug)]
pub enum SyncError {
    /// The base address is no address that this edge can use.
    Address {
        /// The address.
        base: String,
        /// What is wrong with it.
        message: String,
    },
    /// Central did not answer.
    Unreachable {
        /// The request.
        what: &'static str,
        /// What the transport said.
        message: String,
    },
    /// Central answered with another status than 200.
    Status {
        /// The request.
        what: &'static str,
        /// The status.
        status: u16,
        /// How long central asks to wait.
        retry_after: Option<Duration>,
    },
    /// An answer is larger than its limit.
    TooLarge {
        /// The request.
        what: &'static str,
        /// Most bytes of its answer.
        limit: u64,
    },
    /// An answer makes no sense.
    Answer {
        /// The request.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The manifest, or a file that it names, was refused.
    Manifest(ManifestError),
    /// The pack is the one that was signed, but this engine refuses it.
    Pack(PackError),
    /// The patch is the one that was signed, but does not fit.
    Patch(PatchError),
    /// The model could not be kept on disk.
    Disk {
        /// What the system said.
        message: String,
    },
    /// The store or the guest failed.
    Edge(EdgeError),
}

impl SyncError {
    /// Returns a short stable name, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Unreachable { .. } => "unreachable",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Answer { .. } => "answer",
            Self::Manifest(error) => error.reason(),
            Self::Pack(_) => "pack",
            Self::Patch(_) => "patch",
            Self::Disk { .. } => "disk",
            Self::Edge(error) => error.code(),
        }
    }

    /// Returns whether central is away or overloaded, so that the round had better end.
    fn ends_the_round(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { base, message } => {
                write!(f, "central's address {base:?} cannot be used: {message}")
            }
            Self::Unreachable { what, message } => write!(f, "central did not answer ({what}): {message}"),
            Self::Status { what, status, .. } => write!(f, "central answered {status} ({what})"),
            Self::TooLarge { what, limit } => write!(f, "{what} is larger than {limit} bytes, the limit"),
            Self::Answer { what, message } => {
                write!(f, "central's answer ({what}) makes no sense: {message}")
            }
            Self::Manifest(error) => error.fmt(f),
            Self::Pack(error) => error.fmt(f),
            Self::Patch(error) => error.fmt(f),
            Self::Disk { message } => write!(f, "the model could not be kept on disk: {message}"),
            Self::Edge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SyncError {}

impl From<ManifestError> for SyncError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl From<EdgeError> for SyncError {
    fn from(error: EdgeError) -> Self {
        Self::Edge(error)
    }
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The version installed, if a newer one came.
    pub model: Option<ModelVersion>,
    /// Deltas that central settled: acknowledged, known already, or refused.
    pub settled: u32,
}

impl Edge {
    /// Runs rounds with central for as long as the edge lives.
    pub async fn sync_forever(self: Arc<Self>) {
        let backoff = || {
            ExponentialBuilder::default()
                .with_min_delay(BACKOFF.0)
                .with_max_delay(BACKOFF.1)
                .with_jitter()
                .without_max_times()
                .build()
        };
        let mut waits = backoff();
        loop {
            let wait = match Arc::clone(&self).sync_now().await {
                Ok(_) => {
                    waits = backoff();
                    tokio::select! {
                        () = tokio::time::sleep(self.options.sync_every) => continue,
                        () = self.wake.notified() => continue,
                    }
                }
                Err(SyncError::Status { retry_after: Some(wait), .. }) => wait.min(Duration::from_secs(300)),
                Err(_) => waits.next().unwrap_or(BACKOFF.1),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Runs one round: the model, then every delta that is due.
    ///
    /// # Errors
    /// The first failure, after what could be done was done; it is counted.
    pub async fn sync_now(self: Arc<Self>) -> Result<Round, SyncError> {
        let _one_at_a_time = self.rounds.lock().await;
        let result = Arc::clone(&self).round().await;
        self.metrics.central_up(!result.as_ref().is_err_and(SyncError::ends_the_round));
        if let Err(error) = &result {
            tracing::warn!(%error, reason = error.reason(), "sync");
        }
        result
    }

    async fn round(self: Arc<Self>) -> Result<Round, SyncError> {
        let mut round = Round::default();
        let mut first_failure = None;
        match self.update_model().await {
            Ok(model) => round.model = model,
            Err(error) => {
                self.metrics.sync_failed(error.reason());
                if error.ends_the_round() {
                    return Err(error);
                }
                // A refused model is no reason to keep deltas back.
                first_failure = Some(error);
            }
        }

        let mut due = self.due(self.now_ms()).into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < USERS_AT_ONCE
                && let Some(user) = due.next()
            {
                let edge = Arc::clone(&self);
                under_way.spawn(async move {
                    let result = edge.flush(&user).await;
                    (user, result)
                });
            }
            let Some(joined) = under_way.join_next().await else { break };
            let (user, result) = joined.expect("a flush does not panic");
            match result {
                Ok(settled) => round.settled += settled,
                Err(error) => {
                    self.metrics.sync_failed(error.reason());
                    let wait_ms = if error.ends_the_round() { 0 } else { REFUSED_WAIT_MS };
                    if error.ends_the_round() {
                        due = Vec::new().into_iter();
                    }
                    self.due_ms.lock().expect("no holder panics").insert(user, self.now_ms() + wait_ms);
                    first_failure.get_or_insert(error);
                }
            }
        }
        match first_failure {
            None => Ok(round),
            Some(error) => Err(error),
        }
    }

    /// Returns the users to be asked now.
    fn due(&self, now_ms: u64) -> Vec<String> {
        let due = self.due_ms.lock().expect("no holder panics");
        due.iter().filter(|(_, at_ms)| **at_ms <= now_ms).map(|(user, _)| user.clone()).collect()
    }

    /// Sends what a user has to tell and settles it; returns how many deltas were settled.
    async fn flush(&self, user: &str) -> Result<u32, SyncError> {
        let mut id = DeltaId([0; 16]);
        getrandom::fill(&mut id.0).map_err(|error| SyncError::Answer {
            what: "the system's random source",
            message: error.to_string(),
        })?;
        let (name, now_ms) = (user.to_owned(), self.now_ms());
        let asked_ms = self.due_ms.lock().expect("no holder panics").get(user).copied();
        let prepared = self.pool.run(user, move |worker| worker.prepare_delta(&name, id, now_ms)).await?;
        let Some(prepared) = prepared else {
            self.done_with(user, asked_ms, None);
            return Ok(0);
        };
        // The id must be on disk before the first send: the same learning under a second id, after
        // a crash, would be counted twice.
        if let Some(ticket) = prepared.ticket {
            self.durable(user, ticket).await?;
        }
        let mut settled = 0;
        let mut left = (prepared.taken.outbox, prepared.taken.unsent);
        let mut token = prepared.token;
        while left.0 > 0 {
            let held_token = match token.take() {
                Some(token) => token,
                None => {
                    let fresh = self.central.device().await?;
                    let (name, keep) = (user.to_owned(), fresh.clone());
                    let ticket = self.pool.run(user, move |worker| worker.keep_token(&name, keep)).await?;
                    let Some(ticket) = ticket else { break };
                    self.durable(user, ticket).await?;
                    fresh
                }
            };
            let message = EncodeSync { site: self.options.site.clone(), token: held_token.clone() };
            let name = user.to_owned();
            let body = self.pool.run(user, move |worker| worker.encode_sync(&name, &message)).await?;
            let Some(body) = body.filter(|body| !body.is_empty()) else { break };
            let reply = self.central.sync(body).await?;
            let name = user.to_owned();
            let answer = self.pool.run(user, move |worker| worker.settle(&name, &reply)).await?;
            let Some((outcome, ticket)) = answer else { break };
            self.durable(user, ticket).await?;
            for (_, outcome) in &outcome.outcomes {
                self.metrics.delta(match outcome {
                    Outcome::Acknowledged => "acknowledged",
                    Outcome::Duplicate => "duplicate",
                    Outcome::Refused(refusal) => refusal.reason(),
                });
            }
            if outcome.outbox >= left.0 {
                // A reply that settles none of what was sent would keep this loop going for ever.
                let message = "the reply settles nothing that was sent".to_owned();
                return Err(SyncError::Answer { what: "sync", message });
            }
            settled += left.0 - outcome.outbox;
            left = (outcome.outbox, outcome.unsent);
            token = Some(held_token);
        }
        let again_ms = (left.1 > 0).then(|| now_ms + DELTA_IDLE_MS);
        self.done_with(user, asked_ms, again_ms);
        Ok(settled)
    }

    /// Sets when a user is asked next, unless an event has set it meanwhile.
    fn done_with(&self, user: &str, asked_ms: Option<u64>, again_ms: Option<u64>) {
        let mut due = self.due_ms.lock().expect("no holder panics");
        if due.get(user).copied() == asked_ms {
            match again_ms {
                Some(at_ms) => due.insert(user.to_owned(), at_ms),
                None => due.remove(user),
            };
        }
    }

    /// Brings the model up to the signed manifest; returns the version if it is a newer one.
    ///
    /// # Errors
    /// [`SyncError`]; the model held stays in service and on disk.
    pub(crate) async fn update_model(&self) -> Result<Option<ModelVersion>, SyncError> {
        let bytes = self.central.manifest().await?;
        let held = self.pool.held();
        let current = held.as_ref().map(|held| (held.info.lineage, held.info.version));
        let manifest =
            manifest::verify(&bytes, &self.options.public_key, &self.options.site, current, self.now_ms())?;
        if current == Some((manifest.lineage, manifest.stable.version)) {
            return Ok(None);
        }
        let (next, patch) = match self.patched(&manifest, held).await {
            Some((next, patch)) => (next, Some(patch)),
            None => (self.whole(&manifest).await?, None),
        };
        // Disk first: an edge that serves a version must come up with it again, or the next
        // manifest's version would look to it like any other.
        keep(&self.options.data.join(MODEL_FILE), &next.pack)
            .map_err(|error| SyncError::Disk { message: error.to_string() })?;
        let by = if patch.is_some() { "patch" } else { "pack" };
        self.pool.install(next.clone(), patch).await?;
        self.metrics.model(next.info.version, by);
        tracing::info!(version = %next.info.version, lineage = %next.info.lineage, by, "model");
        Ok(Some(next.info.version))
    }

    /// Returns the manifest's model made from the one held and a patch. Whatever goes wrong is
    /// counted and answered by fetching the whole pack.
    async fn patched(&self, manifest: &Manifest, held: Option<Held>) -> Option<(Held, Arc<Vec<u8>>)> {
        let held = held.filter(|held| held.info.lineage == manifest.lineage)?;
        let slot = &manifest.stable;
        let (from, file) = slot.patches.iter().find(|(from, _)| *from == held.info.version)?;
        let patch = async {
            let patch = self.central.patch(*from, slot.version, file).await?;
            let mut model = Model::load(&held.pack).map_err(SyncError::Pack)?;
            model.apply(&patch).map_err(SyncError::Patch)?;
            let pack = model.to_pack();
            // The patched model must be the very bytes that were signed.
            slot.pack.check(&pack)?;
            Ok::<_, SyncError>((Held { info: model_info(&model), pack: Arc::new(pack) }, Arc::new(patch)))
        };
        match patch.await {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!(%error, "patch not used, fetching the pack");
                self.metrics.sync_failed(error.reason());
                None
            }
        }
    }

    /// Returns the manifest's model from its whole pack.
    async fn whole(&self, manifest: &Manifest) -> Result<Held, SyncError> {
        let slot = &manifest.stable;
        let pack = self.central.pack(slot.version, &slot.pack).await?;
        let model = Model::load(&pack).map_err(SyncError::Pack)?;
        let info = model_info(&model);
        if (info.lineage, info.version) != (manifest.lineage, slot.version) {
            let message = format!("it holds version {} of lineage {}", info.version, info.lineage);
            return Err(SyncError::Answer { what: "pack", message });
        }
        Ok(Held { info, pack: Arc::new(pack) })
    }
}

/// Puts a file in place whole: a crash leaves the old one or the new one.
fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("pack.next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}
