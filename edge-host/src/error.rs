//! The errors of the HTTP interface: code, status and text of each.

use crate::host::sandbox::GuestError;
use crate::users::StoreError;
use axum::http::StatusCode;
use nearfield_engine::EventError;
use std::fmt;

/// Why a request was not served. Nothing was changed.
#[derive(Debug)]
pub enum EdgeError {
    /// The body is larger than the limit.
    BodyTooLarge {
        /// Most bytes of a body.
        limit: usize,
    },
    /// The body broke off.
    BodyUnreadable {
        /// What the transport said.
        message: String,
    },
    /// The body is not JSON.
    MalformedJson {
        /// Line, column and what was expected there.
        message: String,
    },
    /// No events, or too many.
    EventCount {
        /// Events in the body.
        found: usize,
        /// Most events of a body.
        limit: usize,
    },
    /// An event is not an object of the right fields.
    EventField {
        /// Index of the event in the body, from 0.
        index: usize,
        /// The field and what is wrong with it.
        message: String,
    },
    /// A field of an event is out of its range.
    Event {
        /// Index of the event in the body, from 0.
        index: usize,
        /// The engine's reason.
        error: EventError,
    },
    /// The user's name is empty, too long or has a control character.
    UserName {
        /// Bytes of the name.
        bytes: usize,
        /// Most bytes of a name.
        limit: usize,
    },
    /// A query parameter is unknown or out of its range.
    Query {
        /// The parameter and its limit.
        message: String,
    },
    /// Nothing is kept of this user.
    UnknownUser,
    /// No token, or one that does not hold.
    Unauthorized {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token is one user's, and the call is about another.
    ForeignUser,
    /// The token does not open this call.
    Forbidden {
        /// The scope that does.
        scope: &'static str,
    },
    /// No such path.
    UnknownPath,
    /// The path does not take this method.
    Method,
    /// No model has arrived yet.
    NoModel,
    /// The user's worker has a full queue.
    Busy {
        /// Most calls that wait.
        limit: usize,
    },
    /// Other hosts wrote the user each time before this one could.
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// The model has no such item.
    UnknownItem {
        /// Which one.
        message: String,
    },
    /// The store failed.
    Store(StoreError),
    /// The guest refused or failed.
    Guest(GuestError),
    /// The user's state made the guest trap again and again.
    Quarantined,
    /// The process is ending.
    Stopping,
}

impl EdgeError {
    /// Returns a short stable name, for metrics and for callers' code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyUnreadable { .. } => "body_unreadable",
            Self::MalformedJson { .. } => "malformed_json",
            Self::EventCount { .. } => "event_count",
            Self::EventField { .. } => "event_field",
            Self::Event { error, .. } => error.reason(),
            Self::UserName { .. } => "user_name",
            Self::Query { .. } => "query",
            Self::UnknownUser => "unknown_user",
            Self::Unauthorized { .. } => "unauthorized",
            Self::ForeignUser => "foreign_user",
            Self::Forbidden { .. } => "forbidden",
            Self::UnknownPath => "unknown_path",
            Self::Method => "method",
            Self::NoModel => "no_model",
            Self::Busy { .. } => "busy",
            Self::Contended { .. } => "contended",
            Self::UnknownItem { .. } => "unknown_item",
            Self::Store(_) => "store",
            Self::Guest(GuestError::Refused { status, .. }) => status.as_str(),
            Self::Guest(GuestError::Deadline { .. } | GuestError::Fuel { .. }) => "guest_deadline",
            Self::Guest(_) => "guest",
            Self::Quarantined => "quarantined",
            Self::Stopping => "stopping",
        }
    }

    /// Returns the HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable { .. }
            | Self::MalformedJson { .. }
            | Self::EventCount { .. }
            | Self::EventField { .. }
            | Self::Event { .. }
            | Self::UserName { .. }
            | Self::Query { .. } => StatusCode::BAD_REQUEST,
            Self::UnknownUser | Self::UnknownItem { .. } | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::ForeignUser => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoModel | Self::Busy { .. } | Self::Contended { .. } | Self::Store(_) | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Quarantined => StatusCode::CONFLICT,
            Self::Guest(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for EdgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyTooLarge { limit } => write!(f, "body is larger than {limit} bytes, the limit"),
            Self::BodyUnreadable { message } => write!(f, "body could not be read: {message}"),
            Self::MalformedJson { message } => write!(f, "body is not JSON: {message}"),
            Self::EventCount { found, limit } => {
                write!(f, "body has {found} events, the limit is 1 to {limit}")
            }
            Self::EventField { index, message } => write!(f, "event {index}: {message}"),
            Self::Event { index, error } => write!(f, "event {index}: {error}"),
            Self::UserName { bytes, limit } => {
                write!(f, "user has {bytes} bytes, the limit is 1 to {limit} without control characters")
            }
            Self::Query { message } => write!(f, "query: {message}"),
            Self::UnknownUser => f.write_str("nothing is kept of this user"),
            Self::Unauthorized { why } => {
                write!(f, "header authorization must be Bearer and a token that holds: {why}")
            }
            Self::ForeignUser => f.write_str("the token is one user's, and the call is about another"),
            Self::Forbidden { scope } => write!(f, "the token does not have the scope {scope}"),
            Self::UnknownPath => f.write_str("there is no such path"),
            Self::Method => f.write_str("the path does not take this method"),
            Self::NoModel => f.write_str("no model has arrived from central yet"),
            Self::Busy { limit } => {
                write!(f, "{limit} calls wait for this user's worker, the limit; try again")
            }
            Self::Contended { tries } => {
                write!(f, "other hosts wrote this user first, {tries} times; try again")
            }
            Self::UnknownItem { message } => f.write_str(message),
            Self::Store(error) => error.fmt(f),
            Self::Guest(error) => error.fmt(f),
            Self::Quarantined => f.write_str(
                "what is kept of this user made the core fail twice; it is kept, but used no more until the user is \
                 deleted or the edge starts anew",
            ),
            Self::Stopping => f.write_str("the edge is stopping"),
        }
    }
}

impl std::error::Error for EdgeError {}

impl From<StoreError> for EdgeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
