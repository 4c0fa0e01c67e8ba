//! Rounds with central: first the model, then the deltas that are due. A round that meets an absent
//! central ends at once and the next one waits, longer each time, with jitter so that many edges do
//! not come back together.

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
        self.metrics.upkeep();
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
                    let wait_ms = if error.passes() { 0 } else { REFUSED_WAIT_MS };
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
}
