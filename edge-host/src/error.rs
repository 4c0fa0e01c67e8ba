//! Why a call was not served: code and text of each error, and its status in HTTP and in gRPC.

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
    /// A query parameter is unknown or no value of its kind.
    Query {
        /// The parameter.
        message: String,
    },
    /// The body, or a message, does not have the right fields.
    Shape {
        /// Where, and what is wrong there.
        message: String,
    },
    /// A field is out of its range.
    Field {
        /// The field.
        field: &'static str,
        /// What it is, and the limit.
        message: String,
    },
    /// No calls in a batch, or too many.
    BatchCount {
        /// Calls in the batch.
        found: usize,
        /// Most calls of a batch.
        limit: usize,
    },
    /// Too many streams are open.
    Followers {
        /// Most streams.
        limit: usize,
    },
    /// The call's deadline passed. What was begun is done to its end all the same.
    Deadline,
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
    /// The brokers did not take events.
    Stream {
        /// What the client said.
        message: String,
    },
    /// The guest refused or failed.
    Guest(GuestError),
    /// The user's state made the guest trap again and again.
    Quarantined,
    /// The process is ending.
    Stopping,
}

impl EdgeError {
    /// Returns the error of brokers.
    pub(crate) fn stream(error: impl fmt::Display) -> Self {
        Self::Stream { message: error.to_string() }
    }

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
            Self::Shape { .. } => "shape",
            Self::Field { .. } => "field",
            Self::BatchCount { .. } => "batch_count",
            Self::Followers { .. } => "followers",
            Self::Deadline => "deadline",
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
            Self::Stream { .. } => "stream",
            Self::Guest(GuestError::Refused { status, .. }) => status.as_str(),
            Self::Guest(GuestError::Deadline { .. } | GuestError::Fuel { .. }) => "guest_deadline",
            Self::Guest(_) => "guest",
            Self::Quarantined => "quarantined",
            Self::Stopping => "stopping",
        }
    }

    /// Returns what kind of failure it is: the one place where that is decided.
    pub fn class(&self) -> Class {
        match self {
            Self::BodyTooLarge { .. } => Class::TooLarge,
            Self::BodyUnreadable { .. }
            | Self::MalformedJson { .. }
            | Self::EventCount { .. }
            | Self::EventField { .. }
            | Self::Event { .. }
            | Self::UserName { .. }
            | Self::Query { .. }
            | Self::Shape { .. }
            | Self::Field { .. }
            | Self::BatchCount { .. } => Class::Invalid,
            Self::UnknownUser | Self::UnknownItem { .. } => Class::NotFound,
            Self::UnknownPath => Class::NoPath,
            Self::Method => Class::NoMethod,
            Self::Unauthorized { .. } => Class::Unauthenticated,
            Self::Forbidden { .. } | Self::ForeignUser => Class::Denied,
            Self::NoModel
            | Self::Busy { .. }
            | Self::Contended { .. }
            | Self::Followers { .. }
            | Self::Store(_)
            | Self::Stream { .. }
            | Self::Stopping => Class::Unavailable,
            Self::Deadline => Class::Late,
            Self::Quarantined => Class::Conflict,
            Self::Guest(_) => Class::Internal,
        }
    }
}

/// A kind of failure, with its status on every face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The caller must change the call.
    Invalid,
    /// The call is too large.
    TooLarge,
    /// What the call is about is not there.
    NotFound,
    /// There is no such path.
    NoPath,
    /// The path does not take the method.
    NoMethod,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not.
    Denied,
    /// What is there does not allow it.
    Conflict,
    /// Later it may work.
    Unavailable,
    /// The deadline passed.
    Late,
    /// The edge failed.
    Internal,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::TooLarge,
        Self::NotFound,
        Self::NoPath,
        Self::NoMethod,
        Self::Unauthenticated,
        Self::Denied,
        Self::Conflict,
        Self::Unavailable,
        Self::Late,
        Self::Internal,
    ];

    /// Returns the HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound | Self::NoPath => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the gRPC code.
    pub fn code(self) -> tonic::Code {
        match self {
            Self::Invalid => tonic::Code::InvalidArgument,
            Self::TooLarge => tonic::Code::ResourceExhausted,
            Self::NotFound => tonic::Code::NotFound,
            Self::NoPath | Self::NoMethod => tonic::Code::Unimplemented,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Denied => tonic::Code::PermissionDenied,
            Self::Conflict => tonic::Code::FailedPrecondition,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Late => tonic::Code::DeadlineExceeded,
            Self::Internal => tonic::Code::Internal,
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
            Self::Shape { message } => f.write_str(message),
            Self::Field { field, message } => write!(f, "{field} {message}"),
            Self::BatchCount { found, limit } => {
                write!(f, "batch has {found} calls, the limit is 1 to {limit}")
            }
            Self::Followers { limit } => write!(f, "{limit} streams are open, the limit; try again"),
            Self::Deadline => f.write_str(
                "the call's deadline passed; events that were told may be learnt all the same, so tell them again \
                 with the same event ids",
            ),
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
            Self::Stream { message } => {
                write!(f, "the stream did not take the events: {message}; tell them again with the same event ids")
            }
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
