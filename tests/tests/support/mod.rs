//! Central and edges as real processes, on a site that is trained in a second.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine: that is what the drop is for.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Running {
    /// Starts a program and waits for its line `listening …`.
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary(program))
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening http"), "{program} said {line:?}");
        Self(child)
    }
}

/// Returns a binary of this workspace, beside the folder of this test.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p {name}`", path.display());
    path
}

pub(crate) fn guest() -> PathBuf {
    let path = std::env::var_os("NEARFIELD_GUEST").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nearfield/nearfield_guest.wasm"),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `cargo xtask wasm`", path.display());
    path
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(binary(program)).args(arguments).output().unwrap()
}

/// Writes events of two tastes: people of even number walk through even items, others through odd.
pub(crate) fn write_events(path: &Path) {
    let mut text = String::from("user,item,timestamp\n");
    for person in 0..120u64 {
        for step in 0..6 {
            let item = (person / 2 * 3 + step) % 20 * 2 + person % 2;
            text.push_str(&format!("u{person},i{item},{}\n", 1_700_000_000 + person * 600 + step * 20));
        }
    }
    fs::write(path, text).unwrap();
}

pub(crate) struct Fleet {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) central: String,
    pub(crate) metrics: String,
    pub(crate) client: reqwest::Client,
}

impl Fleet {
    pub(crate) fn trained() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events.csv");
        write_events(&events);
        let data = folder.path().join("central");
        let out = run(
            "nearfield-trainer",
            &["train", "--events", events.to_str().unwrap(), "--out", data.to_str().unwrap(), "--dim", "16"],
        );
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let [central, metrics] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        // Built beside the edge, reqwest can speak TLS and wants to know with which cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { folder, central, metrics, client: reqwest::Client::new() }
    }

    pub(crate) fn central(&self) -> Running {
        let data = self.folder.path().join("central");
        let arguments = ["serve", "--site", "shop", "--publish-every-ms", "200", "--trusted", "127.0.0.0/8"];
        let places =
            ["--listen", &self.central, "--metrics", &self.metrics, "--data", data.to_str().unwrap()];
        Running::start("nearfield-central", &[&arguments[..], &places].concat())
    }

    pub(crate) fn edge(&self, name: &str) -> (Running, String) {
        self.edge_with(name, &[])
    }

    /// Starts an edge with further arguments, which everyone may call.
    pub(crate) fn edge_with(&self, name: &str, more: &[&str]) -> (Running, String) {
        self.guarded_edge(name, &[&["--insecure"], more].concat())
    }

    /// Starts an edge whose further arguments say who may call it.
    pub(crate) fn guarded_edge(&self, name: &str, more: &[&str]) -> (Running, String) {
        let key = fs::read_to_string(self.folder.path().join("central/keys/online.pub")).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let data = self.folder.path().join(name);
        let guest = guest();
        let central = format!("http://{}", self.central);
        let arguments = [
            "--central",
            &central,
            "--public-key",
            key.trim(),
            "--site",
            "shop",
            "--listen",
            &address,
            "--data",
            data.to_str().unwrap(),
            "--guest",
            guest.to_str().unwrap(),
            "--sync-every-ms",
            "100",
            "--workers",
            "1",
        ];
        let running = Running::start("nearfield-edge", &[&arguments[..], more].concat());
        let scheme = if more.contains(&"--tls-key") { "https" } else { "http" };
        (running, format!("{scheme}://{address}"))
    }

    pub(crate) async fn send(&self, edge: &str, user: &str, items: impl Iterator<Item = String>) {
        let events: Vec<Value> =
            items.map(|item| json!({ "kind": "select_item", "item_id": item })).collect();
        let answer =
            self.client.post(format!("{edge}/v1/users/{user}/events")).body(json!(events).to_string());
        let answer = answer.header("content-type", "application/json").send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
    }

    pub(crate) async fn list(&self, edge: &str, user: &str) -> Value {
        let url = format!("{edge}/v1/users/{user}/recommendations?count=10");
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the value of one metric, 0 where it has not been counted yet.
    pub(crate) async fn metric(&self, base: &str, name: &str) -> u64 {
        let text = self.client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Waits until a metric has reached a value; tells the value that it stopped at otherwise.
    pub(crate) async fn reaches(&self, base: &str, name: &str, value: u64) {
        let started = Instant::now();
        loop {
            let found = self.metric(base, name).await;
            if found >= value {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{name} stays at {found}, expected {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
