//! What an edge is started with, each setting with its unit, default and effect.

use crate::auth::Access;
use crate::host::sandbox::Limits;
use crate::listener::Tls;
use crate::service::fallback::BuiltIn;
use crate::streams::Produce;
use axum::http::HeaderValue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where an edge keeps its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsersIn {
    /// One redb file in the data folder: for one host.
    File,
    /// The host's memory, up to about so many bytes: for trials. A restart forgets everyone.
    Memory {
        /// Most bytes.
        bytes_max: u64,
    },
    /// A Redis, which hosts may share.
    Redis {
        /// Its address: see [`crate::redis::Redis::open`].
        address: String,
        /// How long a user is kept after the last event, once central has everything (default: for ever).
        keep: Option<Duration>,
    },
}

/// What an edge is started with.
#[derive(Clone)]
pub struct Options {
    /// Base address of central, as `https://host` or `http://host:port`.
    pub central: String,
    /// Further root certificates for central, PEM, beside those that the system trusts.
    pub central_ca: Option<Vec<u8>>,
    /// Who may call (default: those with a token, of which there is none).
    pub access: Access,
    /// Origins whose pages may call, as `https://shop.example` (default: none).
    pub origins: Vec<HeaderValue>,
    /// The certificate that is served with, to be read again when it changes (default: none).
    pub tls: Option<Arc<Tls>>,
    /// Central's public key, ed25519.
    pub public_key: [u8; 32],
    /// The site that models and deltas are for.
    pub site: String,
    /// Folder of the user store, where that is a file, and of the last good model.
    pub data: PathBuf,
    /// Where the users are kept (default: in a file of the data folder).
    pub users: UsersIn,
    /// Address of a Memcached in front of the users, as `host:port` (default: none).
    pub users_cache: Option<String>,
    /// How long that cache keeps a record (default 60 s). Smaller bounds how far behind a list may be when the cache
    /// missed a write; larger reads the users' store less.
    pub users_cache_for: Duration,
    /// Where callers' events go, to be consumed from there (default: none; they are taken in at once).
    pub produce: Option<Produce>,
    /// Worker threads, each with one guest instance (default: the number of cores).
    pub workers: usize,
    /// Bytes of what guests keep derived from users' states, over all workers (default 256 MiB, some thousand users
    /// at d = 64). Smaller takes less memory; larger derives less often again.
    pub warm_bytes_max: u64,
    /// Users whose last list is kept in memory (default 100,000, about 30 MB), for when no list can be made.
    pub lists_max: usize,
    /// The list that is served while there is no model (default: none).
    pub built_in: BuiltIn,
    /// What one guest instance may use.
    pub limits: Limits,
    /// Time between two rounds with central while it answers (default 5 s). Smaller brings models
    /// sooner; larger asks less.
    pub sync_every: Duration,
    /// Address of a Redis in which edges share model files (default: none; see [`crate::redis::Redis::open`]).
    pub models: Option<String>,
    /// Longest request to central (default 10 s).
    pub central_timeout: Duration,
    /// Start without a model and wait for central, instead of refusing to start.
    pub wait_for_model: bool,
    /// Longest wait for an answer where the caller names none (default 2 s). A list that takes longer comes from a
    /// lower rung.
    pub call_deadline: Duration,
    /// The clock, in milliseconds since 1970-01-01 UTC.
    pub now_ms: fn() -> u64,
}

impl Options {
    /// Returns the defaults for a site, its central, the key and a data folder.
    pub fn new(site: &str, central: &str, public_key: [u8; 32], data: PathBuf) -> Self {
        Self {
            central: central.to_owned(),
            central_ca: None,
            access: Access::nobody(),
            origins: Vec::new(),
            tls: None,
            public_key,
            site: site.to_owned(),
            data,
            users: UsersIn::File,
            users_cache: None,
            produce: None,
            users_cache_for: Duration::from_secs(60),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            warm_bytes_max: 256 << 20,
            lists_max: 100_000,
            built_in: BuiltIn::default(),
            limits: Limits::default(),
            sync_every: Duration::from_secs(5),
            models: None,
            central_timeout: Duration::from_secs(10),
            wait_for_model: false,
            call_deadline: Duration::from_secs(2),
            now_ms: system_now_ms,
        }
    }
}

/// Returns the system's time, in milliseconds since 1970-01-01 UTC.
pub fn system_now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
