//! An etcd, which a kube-apiserver keeps its objects in.

use crate::{Probe, Server, StartError, free_port};

const READY: Probe = Probe { ask: b"GET /health HTTP/1.0\r\n\r\n", answer: b"\"true\"" };

impl Server {
    /// Starts an etcd of one member.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn etcd() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        let [port, peer_port] = [free_port()?, free_port()?];
        let [clients, peers] = [port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let arguments = vec![
            "--data-dir=data".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ];
        Self::start("etcd", arguments, &path, READY, port, Some(folder))
    }
}
