//! Two edges and one central, as real processes: what one edge's people do, the other edge's
//! people profit from; central may be killed at any moment.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with the test.
struct Running(Child);

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
        assert!(line.starts_with("listening http://"), "{program} said {line:?}");
        Self(child)
    }
}

/// Returns a binary of this workspace, beside the folder of this test.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p {name}`", path.display());
    path
}

fn guest() -> PathBuf {
    let path = std::env::var_os("NEARFIELD_GUEST").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nearfield/nearfield_guest.wasm"),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `cargo xtask wasm`", path.display());
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(program: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(binary(program)).args(arguments).output().unwrap()
}

/// Writes events of two tastes: people of even number walk through even items, others through odd.
fn write_events(path: &Path) {
    let mut text = String::from("user,item,timestamp\n");
    for person in 0..120u64 {
        for step in 0..6 {
            let item = (person / 2 * 3 + step) % 20 * 2 + person % 2;
            text.push_str(&format!("u{person},i{item},{}\n", 1_700_000_000 + person * 600 + step * 20));
        }
    }
    fs::write(path, text).unwrap();
}

struct Fleet {
    folder: tempfile::TempDir,
    central: String,
    metrics: String,
    client: reqwest::Client,
}

impl Fleet {
    fn trained() -> Self {
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

    fn central(&self) -> Running {
        let data = self.folder.path().join("central");
        let arguments = ["serve", "--site", "shop", "--publish-every-ms", "200", "--trusted", "127.0.0.0/8"];
        let places =
            ["--listen", &self.central, "--metrics", &self.metrics, "--data", data.to_str().unwrap()];
        Running::start("nearfield-central", &[&arguments[..], &places].concat())
    }

    fn edge(&self, name: &str) -> (Running, String) {
        let key = fs::read_to_string(self.folder.path().join("central/keys/online.pub")).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let data = self.folder.path().join(name);
        let guest = guest();
        let central = format!("http://{}", self.central);
        let running = Running::start(
            "nearfield-edge",
            &[
                "--insecure",
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
            ],
        );
        (running, format!("http://{address}"))
    }

    async fn send(&self, edge: &str, user: &str, items: impl Iterator<Item = String>) {
        let events: Vec<Value> =
            items.map(|item| json!({ "kind": "select_item", "item_id": item })).collect();
        let answer =
            self.client.post(format!("{edge}/v1/users/{user}/events")).body(json!(events).to_string());
        let answer = answer.header("content-type", "application/json").send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
    }

    async fn list(&self, edge: &str, user: &str) -> Value {
        let url = format!("{edge}/v1/users/{user}/recommendations?count=10");
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the value of one metric, 0 where it has not been counted yet.
    async fn metric(&self, base: &str, name: &str) -> u64 {
        let text = self.client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Waits until a metric has reached a value; tells the value that it stopped at otherwise.
    async fn reaches(&self, base: &str, name: &str, value: u64) {
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

fn items(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no items in {list}"));
    items.iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_edges_people_teach_the_others_and_a_killed_central_loses_nothing() {
    let fleet = Fleet::trained();
    let central = fleet.central();
    let (_north, north) = fleet.edge("north");
    let (_south, south) = fleet.edge("south");
    let central_metrics = format!("http://{}", fleet.metrics);
    let before = fleet.list(&south, "newcomer").await;
    assert_eq!(before["model_version"], 1);

    // A fashion that training never saw: who takes i1 takes i38 next. Three people in the north.
    for person in 0..3 {
        let pair = (0..20).map(|step| if step % 2 == 0 { "i1".into() } else { "i38".into() });
        fleet.send(&north, &format!("n{person}"), pair).await;
    }
    fleet.reaches(&central_metrics, "nearfield_deltas_acknowledged_total", 3).await;
    fleet.reaches(&south, "nearfield_edge_model_version", 2).await;
    fleet.send(&south, "newcomer", ["i1".to_owned()].into_iter()).await;
    let taught = fleet.list(&south, "newcomer").await;
    assert!(items(&taught).contains(&"i38".to_owned()), "the south follows the north's fashion: {taught}");

    // SIGKILL, in the middle of it all.
    drop(central);
    let alone = fleet.list(&north, "n0").await;
    assert_eq!(items(&alone).len(), 10, "an edge serves on without central");
    fleet.send(&north, "later", (0..20).map(|step| format!("i{}", step * 2))).await;
    let changed = fleet.list(&north, "later").await;
    assert_ne!(items(&changed), items(&alone));

    let version_before = fleet.metric(&north, "nearfield_edge_model_version").await;
    let _central = fleet.central();
    let version_after = fleet.metric(&central_metrics, "nearfield_model_version").await;
    assert!(
        version_after >= version_before,
        "version {version_before} was published, {version_after} came back"
    );
    fleet.reaches(&central_metrics, "nearfield_deltas_acknowledged_total", 1).await;
    fleet.reaches(&north, "nearfield_edge_model_version", version_before + 1).await;
    assert_eq!(
        fleet.metric(&central_metrics, "nearfield_deltas_duplicate_total").await,
        0,
        "nothing came twice"
    );
    fleet.send(&south, "second", ["i1".to_owned()].into_iter()).await;
    let kept = fleet.list(&south, "second").await;
    assert!(items(&kept).contains(&"i38".to_owned()), "what was acknowledged before the kill is still known");
}

#[test]
fn a_broken_file_of_events_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    let cases = [
        ("user,thing,timestamp\na,b,1\n", "column \"item\" is missing"),
        ("user,item,timestamp\na,b,1\na,b,noon\n", "line 3, timestamp"),
        ("user,item,timestamp\na,b,1\n", "training has 1 events, at least 100 are needed"),
    ];
    for (text, reason) in cases {
        fs::write(&file, text).unwrap();
        let out = folder.path().join("out");
        let output = run(
            "nearfield-trainer",
            &["train", "--events", file.to_str().unwrap(), "--out", out.to_str().unwrap()],
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(reason), "expected {reason:?} in {said:?}");
        assert!(!out.join("model.pack").exists(), "nothing is written after an error");
    }
}

#[test]
fn the_trained_model_does_not_depend_on_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let train = |name: &str, poison: bool| {
        let file = folder.path().join(format!("{name}.csv"));
        write_events(&file);
        if poison {
            let text = fs::read_to_string(&file).unwrap();
            let half = text.lines().count() / 2 + 1;
            let lines = text.lines().enumerate().map(|(at, line)| {
                if at < half { line.to_owned() } else { format!("u{at},i{},{}", at % 7, 1_800_000_000 + at) }
            });
            fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        }
        let out = folder.path().join(name);
        let output = run(
            "nearfield-trainer",
            &[
                "train",
                "--events",
                file.to_str().unwrap(),
                "--out",
                out.to_str().unwrap(),
                "--until-fraction",
                "0.5",
                "--dim",
                "8",
                "--lineage",
                "0000000000000001",
            ],
        );
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(out.join("model.pack")).unwrap()
    };
    assert_eq!(train("honest", false), train("poisoned", true), "the second half was looked at");
}
