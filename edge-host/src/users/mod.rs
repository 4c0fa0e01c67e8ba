//! The users' states, behind one trait: user id → record. The contract in its words and the tests in
//! `contract.rs` hold for every backend.

#[cfg(test)]
mod contract;
pub mod redb;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What is kept of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The engine's state, with its own schema version inside.
    pub state: Vec<u8>,
    /// Central's device token for this user, once there is one.
    pub token: Option<Vec<u8>>,
    /// Whether central has yet to receive something of this user.
    pub pending: bool,
}

/// Why the store failed.
#[derive(Clone, Debug)]
pub struct StoreError {
    what: &'static str,
    message: String,
}

impl StoreError {
    /// Returns the error of a step, such as `commit`, with what the backend said.
    pub fn new(what: &'static str, error: impl ToString) -> Self {
        Self { what, message: error.to_string() }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user store could not {}: {}", self.what, self.message)
    }
}

impl std::error::Error for StoreError {}

/// A write that is under way; it is answered when it is on disk.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<(), StoreError>>);

/// The backend's side of a [`Ticket`]. Dropped without an answer, it fails the ticket.
#[derive(Debug)]
pub struct Pending(oneshot::Sender<Result<(), StoreError>>);

impl Pending {
    /// Answers the ticket.
    pub fn answer(self, outcome: Result<(), StoreError>) {
        // A caller that has gone away needs no answer.
        let _ = self.0.send(outcome);
    }
}

impl Ticket {
    /// Returns a ticket and the side that answers it.
    pub fn new() -> (Pending, Self) {
        let (answer, ticket) = oneshot::channel();
        (Pending(answer), Self(ticket))
    }

    /// Waits until the write is on disk.
    ///
    /// # Errors
    /// [`StoreError`] if the transaction failed; nothing of it is on disk then.
    pub async fn durable(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or_else(|_| Err(StoreError::new("commit", "its writer has stopped")))
    }
}

/// A store of users.
///
/// # Contract
/// - **Durable when answered.** A [`Ticket`] is answered with success only after the write is where a
///   crash cannot take it, so a batch of events answered with 200 survives.
/// - **Reads see writes.** [`UserStore::get`] sees every [`UserStore::put`] before it, answered or not;
///   a write that failed is seen no longer.
/// - **Order.** The writes of one user take effect in the order in which they were made.
/// - **A failed write is the last.** Once a write has failed, every later one fails until the store is opened
///   anew: it may have been made from the record that failed, and what is on disk is known only after a restart.
///   What can still be read is.
/// - Nothing is promised for what was never answered.
///
/// # Errors
/// [`StoreError`] where the backend cannot be read, or a record is damaged. Nothing falls back to memory.
pub trait UserStore: Send + Sync {
    /// Returns what is kept of a user.
    fn get(&self, user: &str) -> Result<Option<Record>, StoreError>;

    /// Queues a record, or with `None` a removal, and returns the ticket of its write.
    fn put(&self, user: &str, record: Option<Record>) -> Ticket;

    /// Returns the users whose record says that central has yet to receive something of them.
    fn pending(&self) -> Result<Vec<String>, StoreError>;
}
