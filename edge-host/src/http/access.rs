//! Who may call: bearer tokens, each for some of the calls.
//!
//! A file of tokens has one on each line, before the scopes that it opens:
//!
//! ```text
//! # the shop's servers
//! 4f1c…64 hex digits…  events,recommend
//! 9a0b…64 hex digits…  inspect,forget
//! ```

use super::Refused;
use crate::Edge;
use crate::error::EdgeError;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shortest token, in bytes: 32 hexadecimal digits are 128 random bits.
pub const TOKEN_BYTES_MIN: usize = 32;

/// What a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To tell events of users.
    Events,
    /// To ask for users' lists.
    Recommend,
    /// To read what is kept of users.
    Inspect,
    /// To forget users.
    Forget,
    /// To read the metrics.
    Metrics,
}

impl Scope {
    const ALL: [Self; 5] = [Self::Events, Self::Recommend, Self::Inspect, Self::Forget, Self::Metrics];

    /// Returns its name in a file of tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Recommend => "recommend",
            Self::Inspect => "inspect",
            Self::Forget => "forget",
            Self::Metrics => "metrics",
        }
    }
}

/// Who may call what.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everyone who reaches the port may call everything: for a loopback address only.
    Open,
    /// Those who have a token, what its scopes open.
    Tokens(Vec<Grant>),
}

/// A token's hash, and what it opens.
#[derive(Clone, Debug)]
pub struct Grant {
    hash: blake3::Hash,
    scopes: Vec<Scope>,
}

/// Why a file of tokens cannot be used.
#[derive(Debug)]
pub enum AccessError {
    /// The file cannot be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others than its owner may read the file.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line is not a token and its scopes.
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        number: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The file has no token.
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::ReadableByOthers { path, mode } => {
                write!(f, "{} has mode {mode:o}; only its owner may read it: chmod 600", path.display())
            }
            Self::Line { path, number, message } => write!(f, "{}:{number}: {message}", path.display()),
            Self::Empty { path } => write!(f, "{} has no token, so nobody could call", path.display()),
        }
    }
}

impl std::error::Error for AccessError {}

impl Access {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// [`AccessError`] names the file and the line.
    pub fn from_file(path: &Path) -> Result<Self, AccessError> {
        let io = |error| AccessError::Io { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(AccessError::ReadableByOthers { path: path.to_owned(), mode });
            }
        }
        let lines = text.lines().map(str::trim).enumerate();
        let grants = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| {
                let number = at + 1;
                grant(line).map_err(|message| AccessError::Line { path: path.to_owned(), number, message })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if grants.is_empty() {
            return Err(AccessError::Empty { path: path.to_owned() });
        }
        Ok(Self::Tokens(grants))
    }

    /// Checks the header `authorization` of a call.
    fn check(&self, scope: Scope, authorization: Option<&str>) -> Result<(), EdgeError> {
        let Self::Tokens(grants) = self else { return Ok(()) };
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        // Hashes are compared, in constant time, so that timing reveals nothing about a token.
        let hash = blake3::hash(token.ok_or(EdgeError::Unauthorized)?.trim().as_bytes());
        let grant = grants.iter().find(|grant| grant.hash == hash).ok_or(EdgeError::Unauthorized)?;
        if grant.scopes.contains(&scope) { Ok(()) } else { Err(EdgeError::Forbidden { scope: scope.name() }) }
    }
}

/// Reads one line of a file of tokens. What is wrong is said without the token.
fn grant(line: &str) -> Result<Grant, String> {
    let (token, names) =
        line.split_once(char::is_whitespace).ok_or("the scopes are missing after the token")?;
    if token.len() < TOKEN_BYTES_MIN {
        return Err(format!("the token has {} bytes, the least is {TOKEN_BYTES_MIN}", token.len()));
    }
    let scopes = names.split(',').map(str::trim).map(|name| {
        Scope::ALL.into_iter().find(|scope| scope.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::name).collect();
            format!("scope {name:?} is none of {}", known.join(", "))
        })
    });
    Ok(Grant { hash: blake3::hash(token.as_bytes()), scopes: scopes.collect::<Result<_, _>>()? })
}

/// Lets a call pass that has a token with the scope.
pub(super) async fn authorise(
    State((edge, scope)): State<(Arc<Edge>, Scope)>,
    request: Request,
    next: Next,
) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match edge.options.access.check(scope, authorization) {
        Ok(()) => next.run(request).await,
        Err(error) => Refused(error).into_response(),
    }
}
