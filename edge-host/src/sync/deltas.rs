//! The deltas of one user: made, stored, sent, settled. The record's outbox says how far they have come, so that
//! another host, or this one after a restart, goes on where the last one stopped.

use super::error::SyncError;
use crate::abi::Send;
use crate::edge::{Ask, Edge};
use crate::users::{Outbox, StoreError};
use nearfield_engine::{DeltaId, Outcome};

/// Deltas that one user sends in one go (choice: a user with more goes on in the next round).
const DELTAS_MAX: u32 = 16;

impl Edge {
    /// Sends the deltas of one user and settles them; returns how many deltas were settled. Each is made when
    /// central has answered what came before it.
    pub(super) async fn flush(&self, user: &str) -> Result<u32, SyncError> {
        let mut settled = 0;
        for _ in 0..DELTAS_MAX {
            let Some(held) = self.users.get(user).await.map_err(store)? else { break };
            let mut token = held.record.token;
            let mut renewed = false;
            let reply = loop {
                if token.is_none() {
                    token = Some(self.central.device().await?);
                    renewed = true;
                }
                // The step stores the delta before it is sent: the same learning under a second id, after a crash,
                // would be counted twice.
                let send = Send { id: delta_id()?, site: self.options.site.clone(), token: token.clone() };
                let prepared = self.step(user, Ask { send: Some(send), ..Ask::default() }).await?;
                let Some(body) = prepared.body else { return Ok(settled) };
                match self.central.sync(body).await {
                    // A token that central does not take any more is replaced, and its deltas go out with the new one.
                    Err(SyncError::Status { status: 401, .. }) if !renewed => token = None,
                    answer => break answer?,
                }
            };
            let answered = self.step(user, Ask { settle: Some(reply), ..Ask::default() }).await?;
            if answered.outcomes.is_empty() {
                // A reply that settles none of what was sent would keep this loop going for ever.
                let message = "the reply settles nothing that was sent".to_owned();
                return Err(SyncError::Answer { what: "sync", message });
            }
            for (_, outcome) in &answered.outcomes {
                self.metrics.delta(match outcome {
                    Outcome::Acknowledged => "acknowledged",
                    Outcome::Duplicate => "duplicate",
                    Outcome::Refused(refusal) => refusal.reason(),
                });
            }
            settled += answered.outcomes.len() as u32;
            if answered.outbox == 0 && !answered.delta_due {
                break;
            }
        }
        Ok(settled)
    }

    /// Notes that a user's deltas were not answered, so that they are sent again after `wait_ms` and not only when
    /// the answer has been waited for.
    pub(super) async fn put_off(&self, user: &str, wait_ms: u64) {
        let later = |outbox| match outbox {
            Outbox::Due { .. } if wait_ms == 0 => outbox,
            _ => Outbox::Due { at_ms: self.now_ms() + wait_ms },
        };
        if let Err(error) = self.postpone(user, later).await {
            tracing::warn!(%error, "could not put a user's deltas off");
        }
    }
}

fn store(error: StoreError) -> SyncError {
    SyncError::Edge(error.into())
}

/// Draws an id for a delta.
fn delta_id() -> Result<DeltaId, SyncError> {
    let mut id = DeltaId([0; 16]);
    getrandom::fill(&mut id.0).map_err(|error| SyncError::Answer {
        what: "the system's random source",
        message: error.to_string(),
    })?;
    Ok(id)
}
