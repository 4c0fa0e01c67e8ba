//! The services' tokens: a file that has one on each line, before the scopes that it opens.
//!
//! ```text
//! # the shop's servers
//! 4f1c…64 hex digits…  write,read
//! 9a0b…64 hex digits…  admin
//! ```

use super::Scope;
use std::fmt;
use std::path::{Path, PathBuf};

/// Shortest token, in bytes: 32 hexadecimal digits are 128 random bits.
pub const TOKEN_BYTES_MIN: usize = 32;

/// The tokens of a file.
#[derive(Clone, Debug)]
pub struct Grants(Vec<Grant>);

/// A token's hash, and what it opens.
#[derive(Clone, Debug)]
struct Grant {
    hash: blake3::Hash,
    scopes: Vec<Scope>,
}

/// Why a file of tokens cannot be used.
#[derive(Debug)]
pub enum TokensError {
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

impl fmt::Display for TokensError {
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

impl std::error::Error for TokensError {}

impl Grants {
    /// Reads a file of tokens, which only its owner may read, or our group where it is not ours.
    ///
    /// # Errors
    /// [`TokensError`] names the file and the line.
    pub fn from_file(path: &Path) -> Result<Self, TokensError> {
        let io = |error| TokensError::Io { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let file = std::fs::metadata(path).map_err(io)?;
            let mode = file.mode() & 0o777;
            // A secret that a cluster mounts belongs to somebody else, and to our group alone.
            let is_mounted = file.uid() != rustix::process::geteuid().as_raw() && mode & 0o037 == 0;
            if mode & 0o077 != 0 && !is_mounted {
                return Err(TokensError::ReadableByOthers { path: path.to_owned(), mode });
            }
        }
        let lines = text.lines().map(str::trim).enumerate();
        let grants = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| {
                let number = at + 1;
                grant(line).map_err(|message| TokensError::Line { path: path.to_owned(), number, message })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if grants.is_empty() {
            return Err(TokensError::Empty { path: path.to_owned() });
        }
        Ok(Self(grants))
    }

    /// Returns what a token opens, if it is known.
    pub(super) fn scopes(&self, token: &str) -> Option<Vec<Scope>> {
        // Hashes are compared, in constant time, so that timing reveals nothing about a token.
        let hash = blake3::hash(token.as_bytes());
        self.0.iter().find(|grant| grant.hash == hash).map(|grant| grant.scopes.clone())
    }
}

/// Reads one line of a file of tokens. What is wrong is said without the token.
fn grant(line: &str) -> Result<Grant, String> {
    let (token, names) =
        line.split_once(char::is_whitespace).ok_or("the scopes are missing after the token")?;
    if token.len() < TOKEN_BYTES_MIN {
        return Err(format!("the token has {} bytes, the least is {TOKEN_BYTES_MIN}", token.len()));
    }
    if token.contains('.') {
        return Err("the token has a dot, by which users' signed tokens are known".to_owned());
    }
    let scopes = names.split(',').map(str::trim).map(|name| {
        Scope::of_name(name).ok_or_else(|| {
            let known = Scope::ALL.map(Scope::name).join(", ");
            format!("scope {name:?} is none of {known}")
        })
    });
    Ok(Grant { hash: blake3::hash(token.as_bytes()), scopes: scopes.collect::<Result<_, _>>()? })
}
