//! Rounds with central: one for the model, one for the deltas that are due, each with its own pace, since models may
//! come from elsewhere than where deltas go. A round that meets an absent central ends at once and the next one
//! waits, longer each time, with jitter so that many edges do not come back together.

pub mod central;
mod deltas;
pub(crate) mod error;
pub(crate) mod model;

pub use error::SyncError;

use crate::edge::Edge;
use backon::{BackoffBuilder, ExponentialBuilder};
use nearfield_engine::ModelVersion;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time until a user is asked again whose delta could not be made, or whose sync body central refused as a
/// whole (choice).
const REFUSED_WAIT_MS: u64 = 10 * 60 * 1000;
/// Users whose deltas are under way at the same time (choice: central answers in about a
/// millisecond, so eight keep a core of it busy).
const USERS_AT_ONCE: usize = 8;
/// Users that are listed at a time (choice).
const PAGE: usize = 256;
/// Shortest and longest wait while central is away (choice).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

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
        let models = forever(
            || async { self.model_round().await.map(|_| ()) },
            || tokio::time::sleep(self.options.sync_every),
        );
        let deltas = forever(
            || async { Arc::clone(&self).delta_round().await.map(|_| ()) },
            || async {
                tokio::select! {
                    () = tokio::time::sleep(self.options.sync_every) => {}
                    () = self.wake.notified() => {}
                }
            },
        );
        tokio::join!(models, deltas);
    }

    /// Runs one round: the model, then every delta that is due.
    ///
    /// # Errors
    /// The first failure, after what could be done was done; it is counted.
    pub async fn sync_now(self: Arc<Self>) -> Result<Round, SyncError> {
        let model = self.model_round().await;
        if model.as_ref().is_err_and(SyncError::ends_the_round) {
            return model.map(|_| Round::default());
        }
        // A refused model is no reason to keep deltas back.
        let settled = Arc::clone(&self).delta_round().await;
        Ok(Round { model: model?, settled: settled? })
    }

    async fn model_round(&self) -> Result<Option<ModelVersion>, SyncError> {
        let result = self.update_model().await;
        self.metrics.upkeep();
        if let Err(error) = &result {
            self.metrics.sync_failed(error.reason());
        }
        self.noted("model", result)
    }

    /// Notes how a round ended.
    fn noted<T>(&self, what: &'static str, result: Result<T, SyncError>) -> Result<T, SyncError> {
        self.metrics.central_up(what, !result.as_ref().is_err_and(SyncError::ends_the_round));
        if let Err(error) = &result {
            tracing::warn!(%error, reason = error.reason(), what, "sync");
        }
        result
    }

    /// Sends the deltas that are due; returns how many were settled.
    async fn delta_round(self: Arc<Self>) -> Result<u32, SyncError> {
        let _one_at_a_time = self.rounds.lock().await;
        let result = Arc::clone(&self).send_due().await;
        self.noted("deltas", result)
    }

    async fn send_due(self: Arc<Self>) -> Result<u32, SyncError> {
        let now_ms = self.now_ms();
        let (mut settled, mut first_failure) = (0, None);
        let mut after = None;
        let mut page = Vec::new().into_iter();
        let mut under_way = JoinSet::new();
        let mut more = true;
        loop {
            while more && under_way.len() < USERS_AT_ONCE {
                let Some(due) = page.next() else {
                    let listed = self.users.pending(now_ms, after.as_ref(), PAGE).await;
                    page = listed.map_err(|error| SyncError::Edge(error.into()))?.into_iter();
                    self.metrics
                        .sync_lag(page.as_slice().first().map_or(0, |due| now_ms.saturating_sub(due.at_ms)));
                    more = page.len() > 0;
                    after = page.as_slice().last().cloned().or(after);
                    continue;
                };
                let edge = Arc::clone(&self);
                under_way.spawn(async move {
                    let result = edge.flush(&due.user).await;
                    if let Err(error) = &result {
                        edge.put_off(&due.user, if error.passes() { 0 } else { REFUSED_WAIT_MS }).await;
                    }
                    result
                });
            }
            let Some(joined) = under_way.join_next().await else { break };
            match joined.expect("a flush does not panic") {
                Ok(count) => settled += count,
                Err(error) => {
                    self.metrics.sync_failed(error.reason());
                    more &= !error.ends_the_round();
                    first_failure.get_or_insert(error);
                }
            }
        }
        first_failure.map_or(Ok(settled), Err)
    }
}

/// Runs rounds for ever: after one that succeeded when `pause` is over, after one that failed later each time.
async fn forever<R, P>(round: impl Fn() -> R, pause: impl Fn() -> P)
where
    R: Future<Output = Result<(), SyncError>>,
    P: Future<Output = ()>,
{
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
        match round().await {
            Ok(()) => {
                waits = backoff();
                pause().await;
            }
            Err(SyncError::Status { retry_after: Some(wait), .. }) => {
                tokio::time::sleep(wait.min(Duration::from_secs(300))).await;
            }
            Err(_) => tokio::time::sleep(waits.next().unwrap_or(BACKOFF.1)).await,
        }
    }
}
