//! A Redis: a server, a cluster of one node, a sentinel.

use crate::{Probe, READY_WITHIN, Server, StartError, free_port};
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

const PING: Probe = Probe { ask: b"PING\r\n", answer: b"+PONG" };
/// Every write is in a file before it is acknowledged.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Server {
    /// Starts a Redis whose acknowledgements survive a kill.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn redis() -> Result<Self, StartError> {
        Self::redis_with(&DURABLE)
    }

    /// Starts a Redis with these settings.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_with(settings: &[&str]) -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_redis(&path, settings, Some(folder))
    }

    /// Starts a Redis that keeps its data in a folder.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_redis(folder, &DURABLE, None)
    }

    fn start_redis(folder: &Path, settings: &[&str], temporary: Option<TempDir>) -> Result<Self, StartError> {
        let port = free_port()?;
        let text = port.to_string();
        let fixed = ["--bind", "127.0.0.1", "--port", &text, "--save", "", "--dir", "."];
        let arguments = fixed.iter().chain(settings).map(ToString::to_string).collect();
        Self::start("redis-server", arguments, folder, PING, port, temporary)
    }

    /// Starts a Redis cluster of one node.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_cluster() -> Result<Self, StartError> {
        let server = Self::redis_with(&["--cluster-enabled", "yes", "--appendonly", "yes"])?;
        server.ask(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n", b"+OK")?;
        let until = Instant::now() + READY_WITHIN;
        while server.ask(b"CLUSTER INFO\r\n", b"cluster_state:ok").is_err() {
            if Instant::now() > until {
                return Err(server.silent());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Starts a sentinel that watches a Redis under the name `main`.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_sentinel(primary: &Self) -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        let watch = format!("sentinel monitor main 127.0.0.1 {} 1\nbind 127.0.0.1\n", primary.port);
        std::fs::write(path.join("sentinel.conf"), watch)?;
        let port = free_port()?;
        let arguments = vec!["sentinel.conf".to_owned(), "--port".to_owned(), port.to_string()];
        Self::start("redis-sentinel", arguments, &path, PING, port, Some(folder))
    }
}
