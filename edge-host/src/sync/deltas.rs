//! The deltas of one user: taken, made durable, sent, settled.

use super::error::SyncError;
use crate::abi::EncodeSync;
use crate::edge::Edge;
use crate::host::worker::Prepared;
use nearfield_engine::limits::DELTA_IDLE_MS;
use nearfield_engine::{DeltaId, Outcome};

impl Edge {
    /// Sends the deltas of one user and settles them; returns how many deltas were settled. Each is made when
    /// central has answered what came before it.
    pub(super) async fn flush(&self, user: &str) -> Result<u32, SyncError> {
        let now_ms = self.now_ms();
        let asked_ms = self.due_ms.lock().expect("no holder panics").get(user).copied();
        let mut settled = 0;
        let mut again_ms = None;
        while let Some(prepared) = self.prepare(user, now_ms).await? {
            if prepared.taken.outbox == 0 {
                again_ms = (prepared.taken.unsent > 0).then_some(now_ms + DELTA_IDLE_MS);
                break;
            }
            let Some(reply) = self.send(user, prepared.token).await? else { break };
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
            if outcome.outbox >= prepared.taken.outbox {
                // A reply that settles none of what was sent would keep this loop going for ever.
                let message = "the reply settles nothing that was sent".to_owned();
                return Err(SyncError::Answer { what: "sync", message });
            }
            settled += prepared.taken.outbox - outcome.outbox;
        }
        self.done_with(user, asked_ms, again_ms);
        Ok(settled)
    }

    /// Returns the user's outbox, durable: the same learning under a second id, after a crash, would be counted
    /// twice. `None` if the user is gone.
    async fn prepare(&self, user: &str, now_ms: u64) -> Result<Option<Prepared>, SyncError> {
        let mut id = DeltaId([0; 16]);
        getrandom::fill(&mut id.0).map_err(|error| SyncError::Answer {
            what: "the system's random source",
            message: error.to_string(),
        })?;
        let name = user.to_owned();
        let prepared = self.pool.run(user, move |worker| worker.prepare_delta(&name, id, now_ms)).await?;
        let Some(mut prepared) = prepared else { return Ok(None) };
        if let Some(ticket) = prepared.ticket.take() {
            self.durable(user, ticket).await?;
        }
        Ok(Some(prepared))
    }

    /// Sends the oldest deltas of the outbox and returns central's reply. A token that central does not take
    /// is replaced once. `None` if the user is gone.
    async fn send(&self, user: &str, held: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, SyncError> {
        if let Some(token) = held {
            match self.send_with(user, token).await {
                Err(SyncError::Status { status: 401, .. }) => {}
                other => return other,
            }
        }
        let token = self.central.device().await?;
        let (name, keep) = (user.to_owned(), token.clone());
        let ticket = self.pool.run(user, move |worker| worker.keep_token(&name, keep)).await?;
        let Some(ticket) = ticket else { return Ok(None) };
        self.durable(user, ticket).await?;
        self.send_with(user, token).await
    }

    async fn send_with(&self, user: &str, token: Vec<u8>) -> Result<Option<Vec<u8>>, SyncError> {
        let message = EncodeSync { site: self.options.site.clone(), token };
        let name = user.to_owned();
        let body = self.pool.run(user, move |worker| worker.encode_sync(&name, &message)).await?;
        match body.filter(|body| !body.is_empty()) {
            Some(body) => self.central.sync(body).await.map(Some),
            None => Ok(None),
        }
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
