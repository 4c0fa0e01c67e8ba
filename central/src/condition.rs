//! Whether the service can still write, and why not once it cannot. It never recovers by itself: only a
//! restart reads again what the disk holds.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::watch;

/// Why nothing is written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A write failed: it is unknown what the disk holds.
    Store,
    /// A thread of the service has panicked.
    Thread(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => write!(f, "the store has failed; nothing is written until a restart"),
            Self::Thread(name) => {
                write!(f, "the thread {name} has panicked; nothing is written until a restart")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// The service's condition, shared by its threads and its requests.
#[derive(Debug)]
pub struct Condition {
    failure: watch::Sender<Option<Failure>>,
}

impl Condition {
    /// Returns the condition of a service that works.
    pub(crate) fn good() -> Self {
        Self { failure: watch::Sender::new(None) }
    }

    /// Returns the failure that ended all writing, if there was one.
    pub fn failure(&self) -> Option<Failure> {
        *self.failure.borrow()
    }

    /// Waits for the failure that ends all writing.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        let found = failure.wait_for(Option::is_some).await;
        found
            .ok()
            .and_then(|found| *found)
            .expect("the sender lives as long as this, and a failure was waited for")
    }

    /// Ends all writing. The first failure stays.
    pub(crate) fn fail(&self, failure: Failure) {
        self.failure.send_if_modified(|held| {
            let first = held.is_none();
            if first {
                *held = Some(failure);
            }
            first
        });
    }

    /// Runs the work of a thread; its panic is the service's failure.
    pub(crate) fn supervise(&self, name: &'static str, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!(thread = name, "a thread has panicked: nothing is written until a restart");
            self.fail(Failure::Thread(name));
        }
    }
}
