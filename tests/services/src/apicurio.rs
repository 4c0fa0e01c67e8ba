//! An Apicurio registry with its schemas in memory, from the jars that `cargo xtask` copies by Maven.

use crate::java::{self, JVM};
use crate::{Probe, Server, StartError, free_port};
use std::path::Path;
use tempfile::TempDir;

/// Where it speaks as Confluent's registry does.
pub const CONFLUENT_PATH: &str = "/apis/ccompat/v7";

const READY: Probe = Probe { ask: b"GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n", answer: b"200 OK" };

impl Server {
    /// Starts an Apicurio registry.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn apicurio() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_apicurio(&path, Some(folder))
    }

    /// Starts an Apicurio registry whose log lies in a folder.
    ///
    /// # Errors
    /// As [`Server::apicurio`].
    pub fn apicurio_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_apicurio(folder, None)
    }

    fn start_apicurio(folder: &Path, temporary: Option<TempDir>) -> Result<Self, StartError> {
        let jars = java::jars("apicurio")?;
        let port = free_port()?;
        let classes = format!("{0}/*:{0}/lib/*", jars.display());
        let mut arguments: Vec<String> = JVM.map(str::to_owned).to_vec();
        arguments.extend(["-Dquarkus.http.host=127.0.0.1".to_owned(), format!("-Dquarkus.http.port={port}")]);
        arguments.extend(["-cp", &classes, "io.quarkus.runner.GeneratedMain"].map(str::to_owned));
        Self::start("java", arguments, folder, READY, port, temporary)
    }
}
