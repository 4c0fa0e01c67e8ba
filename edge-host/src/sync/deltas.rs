//! The deltas of one user: taken, made durable, sent, settled.

use super::error::SyncError;
use crate::abi::EncodeSync;
use crate::edge::Edge;
use nearfield_engine::limits::DELTA_IDLE_MS;
use nearfield_engine::{DeltaId, Outcome};

impl Edge {
    /// Sends the deltas of one user and settles them; returns how many deltas were settled.
    pub(super) async fn flush(&self, user: &str) -> Result<u32, SyncError> {
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
}
