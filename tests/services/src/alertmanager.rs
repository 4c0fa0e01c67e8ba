//! An Alertmanager that tells a web hook what it is told.

use crate::{Probe, Server, StartError, free_port};

const READY: Probe = Probe { ask: b"GET /-/ready HTTP/1.0\r\n\r\n", answer: b"200 OK" };

impl Server {
    /// Starts an Alertmanager that posts alerts to `hook` within a second.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn alertmanager(hook: &str) -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        let settings = format!(
            "route: {{receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{hook}'}}]}}]\n"
        );
        std::fs::write(path.join("alertmanager.yml"), settings)?;
        let port = free_port()?;
        let arguments = vec![
            "--config.file=alertmanager.yml".to_owned(),
            "--storage.path=data".to_owned(),
            // Alone: it looks for no others.
            "--cluster.listen-address=".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Self::start("prometheus-alertmanager", arguments, &path, READY, port, Some(folder))
    }
}
