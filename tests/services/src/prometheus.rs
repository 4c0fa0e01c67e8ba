//! A Prometheus that scrapes what `targets.json` in its folder names, and reads that file again when it changes.

use crate::{Probe, Server, StartError, free_port};
use std::path::Path;

const READY: Probe = Probe { ask: b"GET /-/ready HTTP/1.0\r\n\r\n", answer: b"200 OK" };

const SETTINGS: &str = "global:
  scrape_interval: 5s
scrape_configs:
  - job_name: nearfield
    file_sd_configs:
      - files: [targets.json]
        refresh_interval: 5s
";

impl Server {
    /// Starts a Prometheus that keeps its data in a folder.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn prometheus_in(folder: &Path) -> Result<Self, StartError> {
        Self::prometheus_with(folder, SETTINGS)
    }

    /// Starts a Prometheus with settings of the caller's, which may name files in the folder.
    ///
    /// # Errors
    /// As [`Server::prometheus_in`].
    pub fn prometheus_with(folder: &Path, settings: &str) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("prometheus.yml"), settings)?;
        let targets = folder.join("targets.json");
        if !targets.exists() {
            std::fs::write(targets, "[]\n")?;
        }
        let port = free_port()?;
        let arguments = vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Self::start("prometheus", arguments, folder, READY, port, None)
    }
}
