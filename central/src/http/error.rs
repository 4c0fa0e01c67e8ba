//! The errors of requests: code, status and text of each, decided in one place.

use crate::catalogue::CatalogueError;
use crate::condition::Failure;
use crate::ingest::queue::Unavailable;
use crate::ingest::token::TokenError;
use crate::service::Service;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nearfield_engine::{CatalogError, DecodeError};
use std::fmt;
use std::sync::Arc;

/// Seconds that a client waits before it tries a busy server again.
const RETRY_AFTER_S: u64 = 2;

/// Why a request was not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// The body is larger than the route takes; it was not parsed.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body broke off.
    BrokenBody,
    /// The sync body does not decode.
    Decode(DecodeError),
    /// The sync body is for another site.
    WrongSite {
        /// The body's.
        found: String,
        /// The one served here.
        served: String,
    },
    /// The device token does not hold: a new one is to be asked for, and the same deltas sent with it.
    Token(TokenError),
    /// An address or a device token asks more often than it may.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Seconds until the next may come.
        retry_after_s: u64,
    },
    /// The writer is not available.
    Unavailable(Unavailable),
    /// No such route.
    NoRoute,
    /// No such model file is kept.
    NotKept {
        /// The file's name.
        file: String,
    },
    /// The admin token is missing or wrong.
    Unauthorized,
    /// The body's type is neither CSV nor JSON.
    MediaType,
    /// The catalogue does not read.
    Catalogue(CatalogueError),
    /// A change of the catalogue cannot be made.
    Change(CatalogError),
    /// A file or random bytes could not be read.
    Internal,
}

impl ApiError {
    /// Returns the status that answers it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::Decode(DecodeError::TooLarge { .. }) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::BrokenBody
            | Self::Decode(
                DecodeError::Foreign
                | DecodeError::UnknownFormat { .. }
                | DecodeError::Malformed
                | DecodeError::NotCanonical
                | DecodeError::Field { .. },
            )
            | Self::Catalogue(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany { .. } | Self::Unavailable(Unavailable::Busy) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(Unavailable::Failed(_) | Unavailable::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NoRoute | Self::NotKept { .. } => StatusCode::NOT_FOUND,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Change(_) | Self::WrongSite { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns a short stable name, for metrics and for callers' code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::BrokenBody => "broken_body",
            Self::Decode(error) => error.reason(),
            Self::WrongSite { .. } => "wrong_site",
            Self::Token(error) => error.code(),
            Self::TooMany { .. } => "too_many",
            Self::Unavailable(Unavailable::Busy) => "busy",
            Self::Unavailable(Unavailable::Failed(Failure::Store)) => "store_failed",
            Self::Unavailable(Unavailable::Failed(Failure::Thread(_))) => "thread_failed",
            Self::Unavailable(Unavailable::Stopping) => "shutting_down",
            Self::NoRoute => "no_route",
            Self::NotKept { .. } => "not_kept",
            Self::Unauthorized => "unauthorized",
            Self::MediaType => "media_type",
            Self::Catalogue(_) => "catalogue",
            Self::Change(error) => error.reason(),
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "body is too large, the limit is {limit} bytes"),
            Self::BrokenBody => write!(f, "body broke off"),
            Self::Decode(error) => write!(f, "{error}"),
            Self::WrongSite { found, served } => {
                write!(f, "sync body is for site {found:?}, site {served:?} is served here")
            }
            Self::Token(error) => write!(f, "{error}; POST /v1/device gives a new one"),
            Self::TooMany { what, retry_after_s } => {
                write!(f, "too many {what}; the next may come in {retry_after_s} s")
            }
            Self::Unavailable(error) => write!(f, "{error}"),
            Self::NoRoute => write!(f, "no such route"),
            Self::NotKept { file } => write!(f, "{file} is not kept; GET /v1/model/latest names what is"),
            Self::Unauthorized => {
                write!(f, "header authorization must be: Bearer, and the text of admin-token")
            }
            Self::MediaType => write!(f, "content-type must be application/json or text/csv"),
            Self::Catalogue(error) => write!(f, "{error}"),
            Self::Change(error) => write!(f, "{error}"),
            Self::Internal => write!(f, "the server could not read what it needs; its log says why"),
        }
    }
}

impl std::error::Error for ApiError {}

/// An error with the service that counts it.
pub(super) struct Counted {
    pub(super) service: Arc<Service>,
    pub(super) error: ApiError,
}

impl IntoResponse for Counted {
    fn into_response(self) -> Response {
        self.service.metrics.rejected(self.error.code());
        let body = serde_json::json!({ "code": self.error.code(), "error": self.error.to_string() });
        let mut response =
            (self.error.status(), [(header::CONTENT_TYPE, "application/json")], body.to_string())
                .into_response();
        let more = match self.error {
            ApiError::TooMany { retry_after_s, .. } => {
                Some((header::RETRY_AFTER, HeaderValue::from(retry_after_s)))
            }
            ApiError::Unavailable(Unavailable::Busy) => {
                Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S)))
            }
            ApiError::Unauthorized => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            ApiError::Token(_) => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Nearfield-Device")))
            }
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Returns a function that turns the errors of a request into answers that are counted.
pub(super) fn counted(service: &Arc<Service>) -> impl Fn(ApiError) -> Counted {
    let service = service.clone();
    move |error| Counted { service: service.clone(), error }
}
