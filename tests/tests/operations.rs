//! What an operator sees of real processes: every panel of every dashboard has data from a fleet at work, and three
//! faults raise the alerts that are meant for them.

mod support;

use nearfield_engine::sync::wire::encode_request;
use nearfield_engine::{Delta, DeltaId, Event, Kind, Lineage, ModelVersion, SyncRequest, Touch};
use nearfield_events::frame::SchemaId;
use nearfield_events::kafka::{Kafka, NewTopic};
use nearfield_events::{Context, Encoder, StreamEvent};
use nearfield_services::{OPERATIONS_OFF, Server, streams_are_off};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{Fleet, run};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const TOPIC: &str = "events";
const FEATURES: &str = "features";
const DEAD_LETTERS: &str = "nearfield.dead-letters";
/// Longest wait for data, or for an alert.
const WITHIN: Duration = Duration::from_secs(90);
/// The token that metrics are scraped with.
const TOKEN: &str = "scrape-token-of-the-test-of-operations";

fn are_off() -> bool {
    std::env::var_os(OPERATIONS_OFF).is_some()
}

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn started<T>(server: Result<T, nearfield_services::StartError>) -> T {
    server.unwrap_or_else(|error| panic!("{error}"))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Writes a certificate for localhost that holds for so many days.
fn certify(folder: &Path, days: i64) -> [String; 2] {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let expires = UNIX_EPOCH + Duration::from_millis(now_ms()) + Duration::from_secs(days as u64 * 86_400);
    wanted.not_after = expires.into();
    let certificate = wanted.self_signed(&key).unwrap();
    let paths = ["tls.crt", "tls.key"].map(|name| folder.join(name));
    // The key first: the edge reads both again as soon as one has changed, and keeps the old ones until they fit.
    fs::write(&paths[1], key.serialize_pem()).unwrap();
    fs::write(&paths[0], certificate.pem()).unwrap();
    paths.map(|path| path.display().to_string())
}

/// Arguments of an edge that serves over TLS to those who have a token.
fn guarded(folder: &Path) -> Vec<String> {
    let tokens = folder.join("tokens");
    fs::write(&tokens, format!("{TOKEN} metrics\n")).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let [certificates, key] = certify(folder, 90);
    ["--tokens", tokens.to_str().unwrap(), "--tls-certificates", &certificates, "--tls-key", &key]
        .map(str::to_owned)
        .to_vec()
}

/// A Prometheus that scrapes central and edges every second.
struct Watch {
    server: Server,
    client: reqwest::Client,
}

impl Watch {
    fn start(fleet: &Fleet, edges: &[&str], guarded: &str, more: &str) -> Self {
        let place = |address: &str| address.split("://").last().unwrap_or(address).to_owned();
        let edges: Vec<String> = edges.iter().map(|edge| format!("'{}'", place(edge))).collect();
        let settings = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             scrape_configs:\n\
             - {{job_name: nearfield-central, static_configs: [{{targets: ['{}'], labels: {{site: shop}}}}]}}\n\
             - {{job_name: nearfield-edge, static_configs: [{{targets: [{}], labels: {{site: shop}}}}]}}\n\
             - {{job_name: nearfield-guarded, scheme: https, tls_config: {{insecure_skip_verify: true}}, \
             authorization: {{credentials: {TOKEN}}}, static_configs: [{{targets: ['{}'], labels: {{site: shop}}}}]}}\n\
             {more}",
            fleet.metrics,
            edges.join(", "),
            place(guarded),
        );
        let server = started(Server::prometheus_with(&fleet.folder.path().join("prometheus"), &settings));
        Self { server, client: fleet.client.clone() }
    }

    /// Returns the values that a query has now.
    async fn query(&self, query: &str) -> Vec<f64> {
        let url = format!("http://{}/api/v1/query", self.server.endpoint());
        let body: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = self.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        let text = request.body(format!("query={body}")).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(answer["status"], "success", "{query}: {text}");
        let results = answer["data"]["result"].as_array().unwrap();
        results.iter().map(|result| result["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }
}

/// Every query of the dashboards, with the panel that it belongs to.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(workspace("deploy/grafana")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$site", ".*").replace("$__rate_interval", "60s");
                let what = format!("{}: {}", dashboard["title"], panel["title"]);
                queries.push((what, query));
            }
        }
    }
    queries
}

/// What people and producers do, for as long as the test asks.
struct Traffic<'a> {
    fleet: &'a Fleet,
    edge: &'a str,
    producer: FutureProducer,
    turns: u64,
}

impl Traffic<'_> {
    /// One turn: someone gets a list and takes an item of it, others come through the stream, and some ask for what
    /// they may not have.
    async fn turn(&mut self) {
        self.turns += 1;
        let turn = self.turns;
        for person in 0..8 {
            let user = format!("stream-{}", (turn + person) % 40);
            let event = Event::new(Kind::Click, format!("i{}", (turn * 7 + person) % 40), now_ms());
            let context = Context { price: Some(1e6 + turn as f64), ..Context::default() };
            let event = StreamEvent { user_id: user.clone(), event, query: None, context };
            let value = Encoder::Avro(SchemaId(1)).encode(&event);
            self.produce(&user, &value).await;
        }
        if turn.is_multiple_of(10) {
            self.produce("nobody", b"no record of ours").await;
        }
        // Twenty events, after which a delta goes out, come together within a few turns.
        let base = format!("{}/v1/users/caller-{}", self.edge, turn % 2);
        let mut list = self.call(self.fleet.client.get(format!("{base}/recommendations?count=10"))).await;
        for choice in 0..6 {
            let chosen = list["items"][((turn + choice) % 3) as usize]["item_id"].as_str().unwrap_or("i1");
            let event = json!({ "kind": "click", "item_id": chosen });
            let observed = json!({ "events": [event], "list": { "count": 10, "scenario": "continue" } });
            let answer = self.call(self.fleet.client.post(format!("{base}/observe")).json_body(&observed));
            list = answer.await["list"].take();
        }
        self.call(self.fleet.client.get(format!("{}/v1/items/i1/similar", self.edge))).await;
        let leaving = format!("{}/v1/users/leaving-{turn}", self.edge);
        let event = json!([{ "kind": "click", "item_id": "i1" }]);
        self.call(self.fleet.client.post(format!("{leaving}/events")).json_body(&event)).await;
        self.call(self.fleet.client.get(&leaving)).await;
        self.call(self.fleet.client.delete(&leaving)).await;
        self.call(self.fleet.client.get(format!("{}/v1/no-such-path", self.edge))).await;
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Value {
        match request.send().await {
            Ok(answer) => serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    async fn produce(&self, user: &str, value: &[u8]) {
        let record = FutureRecord::to(TOPIC).key(user).payload(value);
        self.producer.send(record, Duration::from_secs(10)).await.unwrap();
    }
}

/// Bodies in JSON, which this build of reqwest leaves to its callers.
trait JsonBody {
    fn json_body(self, value: &Value) -> Self;
}

impl JsonBody for reqwest::RequestBuilder {
    fn json_body(self, value: &Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }
}

/// Sends central what it does not take: a delta of another lineage, and no delta at all.
async fn send_what_is_refused(fleet: &Fleet) {
    let central = format!("http://{}", fleet.central);
    let token =
        fleet.client.post(format!("{central}/v1/device")).send().await.unwrap().bytes().await.unwrap();
    let delta = Delta {
        id: DeltaId([7; 16]),
        lineage: Lineage(7),
        base_version: ModelVersion(1),
        factor_scale: 0.01,
        factor: vec![1; 16],
        items: vec![Touch::new(0, Kind::Click as u8, true)],
        share: 1024,
        metrics: Vec::new(),
    };
    let request = SyncRequest {
        site: "shop".to_owned(),
        token: token.to_vec(),
        deltas: vec![delta],
        extensions: Vec::new(),
    };
    let url = format!("{central}/v1/sync");
    let answer = fleet.client.post(&url).header("content-type", "application/octet-stream");
    let answer = answer.body(encode_request(&request).unwrap()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let answer = fleet.client.post(&url).header("content-type", "application/octet-stream").body("nothing");
    assert!(answer.send().await.unwrap().status().is_client_error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_of_every_dashboard_has_data() {
    if are_off() || streams_are_off() {
        return;
    }
    let fleet = Fleet::trained();
    let folder = fleet.folder.path();
    let baseline = folder.join("baseline.json");
    let made = run(
        "nearfield-trainer",
        &[
            "features",
            folder.join("events.csv").to_str().unwrap(),
            "--out",
            folder.join("features.parquet").to_str().unwrap(),
            "--baseline",
            baseline.to_str().unwrap(),
        ],
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut redis = started(Server::redis());
    let kafka = started(Server::kafka());
    let topics = [(TOPIC, 2), (FEATURES, 2), (DEAD_LETTERS, 1)];
    let topics = topics.map(|(name, partitions)| NewTopic { name, partitions, replicas: 1 });
    Kafka::of(&kafka.endpoint(), None, None).unwrap().create(&topics).await.unwrap();

    let central = fleet.central();
    let (users, broker) = (format!("redis://{}", redis.endpoint()), kafka.endpoint());
    let streams = ["--users", &users, "--consume", "kafka", "--kafka", &broker, "--kafka-topic", TOPIC];
    let features = ["--kafka-features", FEATURES, "--features-window", "200", "--features-baseline"];
    let (_north, north) =
        fleet.edge_with("north", &[&streams[..], &features, &[baseline.to_str().unwrap()]].concat());
    let arguments = guarded(folder);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (_south, south) = fleet.guarded_edge("south", &arguments);
    let watch = Watch::start(&fleet, &[&north], &south, "");

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker);
    let mut traffic = Traffic { fleet: &fleet, edge: &north, producer: config.create().unwrap(), turns: 0 };
    let strangers = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
    for _ in 0..25 {
        traffic.turn().await;
        send_what_is_refused(&fleet).await;
        let refused = strangers.get(format!("{south}/v1/users/somebody")).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 401);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What fails for a moment: the store of users, and central.
    redis.kill();
    drop(central);
    for _ in 0..3 {
        traffic.turn().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    started(redis.up());
    let _central = fleet.central();

    let queries = queries();
    let until = Instant::now() + WITHIN;
    let mut missing = BTreeSet::new();
    while Instant::now() < until {
        traffic.turn().await;
        send_what_is_refused(&fleet).await;
        let _ = strangers.get(format!("{south}/v1/users/somebody")).send().await;
        missing.clear();
        for (what, query) in &queries {
            if !watch.query(query).await.iter().any(|value| value.is_finite()) {
                missing.insert(format!("{what}\n    {query}"));
            }
        }
        if missing.is_empty() {
            println!("{} queries of the dashboards have data", queries.len());
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no data for\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}

/// A web hook that remembers which alerts it was told of.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<BTreeSet<String>>>);

impl Hook {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hook = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hook = hook.clone();
                tokio::spawn(async move { hook.take(BufReader::new(stream)).await });
            }
        });
        address
    }

    /// Takes requests of one connection until it ends.
    async fn take(&self, mut stream: BufReader<tokio::net::TcpStream>) -> std::io::Result<()> {
        loop {
            let mut bytes = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    bytes = length.trim().parse().unwrap_or(0);
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; bytes];
            stream.read_exact(&mut body).await?;
            let told: Value = serde_json::from_slice(&body)?;
            for alert in told["alerts"].as_array().into_iter().flatten() {
                if alert["status"] == "firing" {
                    let labels = &alert["labels"];
                    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
                    assert!(workspace(runbook).is_file(), "{runbook} is no page");
                    let name = labels["alertname"].as_str().unwrap_or_default().to_owned();
                    self.0.lock().unwrap().insert(name);
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }

    fn told(&self, alert: &str) -> bool {
        self.0.lock().unwrap().contains(alert)
    }

    async fn tells(&self, alert: &str, mut meanwhile: impl AsyncFnMut()) {
        let started = Instant::now();
        while !self.told(alert) {
            assert!(
                started.elapsed() < WITHIN,
                "{alert} did not arrive; those that did: {:?}",
                self.0.lock().unwrap()
            );
            meanwhile().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("{alert} arrived after {:.1} s", started.elapsed().as_secs_f64());
    }
}

/// The rules as they are shipped, in a hundredth of their time.
fn hurried_rules() -> String {
    let rules = fs::read_to_string(workspace("deploy/prometheus/rules.yaml")).unwrap();
    let hurried = rules.lines().map(|line| {
        if line.trim().starts_with("for: ") {
            line.split("for:").next().unwrap_or_default().to_owned() + "for: 2s"
        } else {
            line.replace("[5m]", "[10s]").replace("[15m]", "[15s]")
        }
    });
    hurried.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_faults_raise_their_alerts() {
    if are_off() {
        return;
    }
    let hook = Hook::default();
    let alertmanager = started(Server::alertmanager(&hook.listen().await));
    let fleet = Fleet::trained();
    let folder = fleet.folder.path();
    let mut redis = started(Server::redis());
    let central = fleet.central();
    let (_north, north) = fleet.edge_with("north", &["--users", &format!("redis://{}", redis.endpoint())]);
    let arguments = guarded(folder);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (_south, south) = fleet.guarded_edge("south", &arguments);
    fs::create_dir_all(folder.join("prometheus")).unwrap();
    fs::write(folder.join("prometheus/rules.yaml"), hurried_rules()).unwrap();
    let more = format!(
        "rule_files: [rules.yaml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        alertmanager.endpoint()
    );
    let watch = Watch::start(&fleet, &[&north], &south, &more);

    let lists = async || {
        for person in 0..10 {
            let user = format!("caller-{person}");
            let list = fleet.list(&north, &user).await;
            assert_eq!(list["items"].as_array().map(Vec::len), Some(10), "a list at any time: {list}");
        }
    };
    let faults = ["NearfieldDown", "NearfieldMostlyFallback", "NearfieldCertificateExpiring"];
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(15) {
        lists().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(watch.query("count(up == 1)").await, [3.0], "all three are scraped");
    for fault in faults {
        assert!(!hook.told(fault), "{fault} was told while nothing was wrong");
    }

    // The certificate is replaced by one that ends soon, users' store goes away, central is killed.
    certify(folder, 3);
    hook.tells("NearfieldCertificateExpiring", &lists).await;
    redis.kill();
    hook.tells("NearfieldMostlyFallback", &lists).await;
    drop(central);
    hook.tells("NearfieldDown", &lists).await;
}
