//! What can go wrong with central.

use crate::error::EdgeError;
use nearfield_engine::{ManifestError, UpdateError};
use std::fmt;
use std::time::Duration;

/// Why something with central failed. What was to be sent is kept, and the model stays.
#[derive(Debug)]
pub enum SyncError {
    /// This edge cannot use the base address.
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
    /// Central answered with a status other than 200.
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
    Update(UpdateError),
    /// Model or manifest could not be kept on disk.
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
            Self::Update(error) => error.reason(),
            Self::Disk { .. } => "disk",
            Self::Edge(error) => error.code(),
        }
    }

    /// Returns whether what failed for one user has nothing to do with that user, so that the next round may
    /// succeed.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Edge(error) => matches!(
                error,
                EdgeError::Busy { .. }
                    | EdgeError::Contended { .. }
                    | EdgeError::Stopping
                    | EdgeError::NoModel
                    | EdgeError::Store(_)
            ),
            other => other.ends_the_round(),
        }
    }

    /// Returns whether central is away or overloaded, so that the round had better end.
    pub(super) fn ends_the_round(&self) -> bool {
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
            Self::Update(error) => error.fmt(f),
            Self::Disk { message } => write!(f, "the model could not be kept on disk: {message}"),
            Self::Edge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SyncError {}

impl From<ManifestError> for SyncError {
    fn from(error: ManifestError) -> Self {
        Self::Update(error.into())
    }
}

impl From<UpdateError> for SyncError {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl From<EdgeError> for SyncError {
    fn from(error: EdgeError) -> Self {
        Self::Edge(error)
    }
}
