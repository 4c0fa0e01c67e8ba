//! A Memcached.

use crate::{Probe, Server, StartError, free_port};
use std::path::Path;
use tempfile::TempDir;

const VERSION: Probe = Probe { ask: b"version\r\n", answer: b"VERSION" };

impl Server {
    /// Starts a Memcached.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn memcached() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_memcached(&path, Some(folder))
    }

    /// Starts a Memcached whose log lies in a folder.
    ///
    /// # Errors
    /// As [`Server::memcached`].
    pub fn memcached_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_memcached(folder, None)
    }

    fn start_memcached(folder: &Path, temporary: Option<TempDir>) -> Result<Self, StartError> {
        let port = free_port()?;
        let mut arguments =
            ["-l", "127.0.0.1", "-U", "0", "-p", &port.to_string()].map(str::to_owned).to_vec();
        // As root it wants to be told whom to be.
        if std::env::var_os("USER").is_none_or(|user| user == "root") {
            arguments.extend(["-u", "root"].map(str::to_owned));
        }
        Self::start("memcached", arguments, folder, VERSION, port, temporary)
    }
}
