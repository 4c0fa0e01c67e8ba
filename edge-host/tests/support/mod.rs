//! A small central, made of the engine's own merge, that can be taken down and brought back, and
//! that can misbehave in chosen ways.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod hostile;
pub(crate) mod tokens;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::routing;
use ed25519_dalek::SigningKey;
use http_body_util::BodyExt;
use nearfield_edge::auth::Access;
use nearfield_edge::host::sandbox::Limits;
use nearfield_edge::{Edge, Options, system_now_ms};
use nearfield_engine::model::manifest::{self, FileRef, Manifest, Slot};
use nearfield_engine::sync::wire::{self, Outcome, SyncReply, SyncRequest};
use nearfield_engine::{
    DeltaId, Event, Hyperparameters, Kind, Lineage, Model, ModelVersion, Statistics, Threshold, UserState,
    Window, Workspace,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

pub(crate) const SITE: &str = "camp";
/// Items of each of the two tastes: `tent-0` … and `boot-0` ….
pub(crate) const GROUP: usize = 12;
const HOUR_MS: u64 = 3_600_000;
const DIM: usize = 16;

pub(crate) async fn call(
    app: &Router,
    method: &str,
    uri: &str,
    body: impl Into<Body>,
) -> (StatusCode, Vec<u8>) {
    let request = Request::builder().method(method).uri(uri).body(body.into()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

pub(crate) async fn get(app: &Router, uri: &str) -> Value {
    let (status, body) = call(app, "GET", uri, Body::empty()).await;
    assert_eq!(status, StatusCode::OK, "{uri}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

pub(crate) async fn learn(app: &Router, user: &str, events: &Value) -> Value {
    let uri = format!("/v1/users/{user}/events");
    let (status, body) = call(app, "POST", &uri, events.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

pub(crate) async fn recommended(app: &Router, user: &str, count: usize) -> Vec<String> {
    let list = get(app, &format!("/v1/users/{user}/recommendations?count={count}")).await;
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn metric(app: &Router, line: &str) -> f64 {
    let (_, body) = call(app, "GET", "/metrics", Body::empty()).await;
    let text = String::from_utf8(body).unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

/// Twenty views of one taste: enough for a delta.
pub(crate) fn twenty(group: &str) -> Value {
    (0..20)
        .map(|step| json!({ "kind": "view_item", "item_id": format!("{group}-{}", step % GROUP) }))
        .collect()
}

/// How the fake central misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Admits deltas, then loses the reply.
    LostReply,
    /// Signs with another key.
    ForeignKey,
    /// Offers the version before the latest.
    Rollback,
    /// Sends a pack with one bit turned, and no patches.
    DamagedPack,
    /// Sends a damaged patch; the pack is right.
    DamagedPatch,
    /// Takes the first token no more.
    FirstTokenExpired,
    /// Takes no token.
    TokensExpired,
    /// Signs a manifest that has run out.
    Expired,
    /// Replays a manifest of another lineage, older than the ones before and still in force.
    OlderLineage,
}

pub(crate) struct Shared {
    pub(crate) statistics: Statistics,
    pub(crate) window: Window,
    pub(crate) model: Model,
    pub(crate) packs: BTreeMap<u64, Vec<u8>>,
    pub(crate) patches: BTreeMap<u64, Vec<u8>>,
    pub(crate) admitted: BTreeSet<DeltaId>,
    pub(crate) duplicates: u32,
    pub(crate) tokens: u8,
    pub(crate) fetched: Vec<String>,
    /// How far its clock is ahead of the system's.
    pub(crate) ahead_ms: u64,
    pub(crate) fault: Fault,
}

impl Shared {
    /// Two tastes, taught by people who each like one of them.
    fn new() -> Self {
        let mut hyper = Hyperparameters::starting_point();
        hyper.alpha = 0.1;
        let mut statistics = Statistics::new(Lineage(7), DIM, 8, hyper);
        for group in ["tent", "boot"] {
            for item in 0..GROUP {
                statistics.register(&format!("{group}-{item}")).unwrap();
            }
        }
        let mut window = Window::new();
        let mut model = statistics.empty_model();
        let first = statistics.publish(&mut window, Threshold::NONE);
        model.apply(&first.patch).unwrap();
        let mut shared = Self {
            statistics,
            window,
            model,
            packs: BTreeMap::new(),
            patches: BTreeMap::new(),
            admitted: BTreeSet::new(),
            duplicates: 0,
            tokens: 0,
            fetched: Vec::new(),
            ahead_ms: 0,
            fault: Fault::None,
        };
        for person in 0..24u8 {
            let taste = usize::from(person % 2);
            let mut user = UserState::new();
            for step in 0..8 {
                let item = (usize::from(person) + step * 5) % GROUP;
                let id = format!("{}-{item}", ["tent", "boot"][taste]);
                let event = Event::new(Kind::View, id, 1_700_000_000_000 + step as u64 * 1000);
                user.learn(&shared.model, &event, 1_700_000_100_000).unwrap();
            }
            let mut delta =
                user.take_delta(&shared.model, DeltaId([person; 16]), &mut Workspace::new()).unwrap().clone();
            // An empty model gives no factor yet: half of the axes stand for each taste.
            delta.factor_scale = 1.0 / 127.0;
            for (axis, factor) in delta.factor.iter_mut().enumerate() {
                *factor = if axis % 2 == taste { 40 } else { 0 };
            }
            shared.statistics.policy(ModelVersion(0)).check(&delta).unwrap();
            shared.window.admit(&delta, person.into(), &[]);
        }
        shared.publish();
        shared
    }

    /// Publishes the window and keeps pack and patch; returns the version.
    pub(crate) fn publish(&mut self) -> ModelVersion {
        let from = self.model.version();
        let publication = self.statistics.publish(&mut self.window, Threshold::NONE);
        self.model.apply(&publication.patch).unwrap();
        self.packs.insert(publication.version.0, self.model.to_pack());
        self.patches.insert(from.0, publication.patch);
        publication.version
    }

    fn manifest(&self) -> Vec<u8> {
        let latest = self.model.version();
        let version = if self.fault == Fault::Rollback { ModelVersion(latest.0 - 1) } else { latest };
        let mut patches = vec![];
        if let Some(patch) = self.patches.get(&(version.0 - 1))
            && self.fault != Fault::DamagedPack
        {
            patches.push((ModelVersion(version.0 - 1), FileRef::of(patch)));
        }
        let slot = Slot { version, pack: FileRef::of(&self.packs[&version.0]), patches };
        let now_ms = system_now_ms() + self.ahead_ms;
        let issued_ms = match self.fault {
            Fault::Expired => now_ms - 2 * HOUR_MS,
            // Before every one that this central has signed.
            Fault::OlderLineage => now_ms - HOUR_MS / 2,
            _ => now_ms,
        };
        let manifest = Manifest {
            site: SITE.to_owned(),
            lineage: if self.fault == Fault::OlderLineage { Lineage(6) } else { self.model.lineage() },
            issued_ms,
            not_after_ms: issued_ms + HOUR_MS,
            stable: slot,
            canary: None,
            canary_share: 0,
            keys: vec![],
            root_signature: vec![],
            extensions: vec![],
        };
        manifest::sign(&manifest, &key(if self.fault == Fault::ForeignKey { 2 } else { 1 }))
    }

    fn file(&mut self, name: &str) -> Option<Vec<u8>> {
        self.fetched.push(name.to_owned());
        if name == "latest" {
            return Some(self.manifest());
        }
        if let Some(version) = name.strip_suffix(".pack") {
            let mut pack = self.packs.get(&version.parse().ok()?)?.clone();
            if self.fault == Fault::DamagedPack {
                let middle = pack.len() / 2;
                pack[middle] ^= 1;
            }
            return Some(pack);
        }
        let (from, to) = name.strip_suffix(".patch")?.split_once("..")?;
        let from: u64 = from.parse().ok()?;
        assert_eq!(to, (from + 1).to_string());
        let mut patch = self.patches.get(&from)?.clone();
        if self.fault == Fault::DamagedPatch {
            let middle = patch.len() / 2;
            patch[middle] ^= 1;
        }
        Some(patch)
    }

    fn take(&mut self, request: &SyncRequest) -> SyncReply {
        assert_eq!(request.site, SITE);
        let results = request.deltas.iter().map(|delta| {
            let outcome = if !self.admitted.insert(delta.id) {
                self.duplicates += 1;
                Outcome::Duplicate
            } else if let Err(refusal) = self.statistics.policy(ModelVersion(0)).check(delta) {
                Outcome::Refused(refusal)
            } else {
                self.window.admit(delta, request.token[0].into(), &[]);
                Outcome::Acknowledged
            };
            (delta.id, outcome)
        });
        SyncReply {
            results: results.collect(),
            lineage: self.model.lineage(),
            version: self.model.version(),
            extensions: vec![],
        }
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The fake central: what it keeps outlives its process, as central's does.
pub(crate) struct FakeCentral {
    pub(crate) shared: Arc<Mutex<Shared>>,
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FakeCentral {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::new()));
        let mut central = Self { shared, port: 0, runtime: None };
        central.up();
        central
    }

    /// Returns what it serves.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/v1/device", routing::post(device))
            .route("/v1/sync", routing::post(sync))
            .route("/v1/model/{name}", routing::get(file))
            .with_state(Arc::clone(&self.shared))
    }

    /// Serves, on the same port as before.
    pub(crate) fn up(&mut self) {
        // A runtime of its own, so that taking it down closes every connection, as a kill would.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let app = self.router();
        let (ready, bound) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        self.port = bound.recv().unwrap();
        self.runtime = Some(runtime);
    }

    /// Ends at once, connections included.
    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.shared.lock().unwrap().fault = fault;
    }

    pub(crate) fn options(&self, data: &FilePath) -> Options {
        let address = format!("http://127.0.0.1:{}", self.port);
        let public = key(1).verifying_key().to_bytes();
        Options {
            workers: 2,
            access: Access::Open,
            central_timeout: Duration::from_secs(5),
            limits: Limits { memory_bytes_max: 64 << 20, ..Limits::default() },
            ..Options::new(SITE, &address, public, data.to_owned())
        }
    }

    pub(crate) async fn edge(&self, data: &FilePath) -> Arc<Edge> {
        Edge::start(self.options(data), &guest()).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for FakeCentral {
    fn drop(&mut self) {
        self.down();
    }
}

type Central = State<Arc<Mutex<Shared>>>;

async fn device(State(shared): Central) -> Vec<u8> {
    let mut shared = shared.lock().unwrap();
    shared.tokens += 1;
    vec![shared.tokens; 16]
}

async fn sync(State(shared): Central, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let request = wire::decode_request(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut shared = shared.lock().unwrap();
    let expired = match shared.fault {
        Fault::FirstTokenExpired => request.token[0] == 1,
        Fault::TokensExpired => true,
        _ => false,
    };
    if expired {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let reply = shared.take(&request);
    if shared.fault == Fault::LostReply {
        return Err(StatusCode::BAD_GATEWAY);
    }
    Ok(wire::encode_reply(&reply))
}

async fn file(State(shared): Central, Path(name): Path<String>) -> Result<Vec<u8>, StatusCode> {
    shared.lock().unwrap().file(&name).ok_or(StatusCode::NOT_FOUND)
}

/// Returns the workspace's root.
pub(crate) fn workspace() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the guest module as it was built last.
pub(crate) fn guest() -> Vec<u8> {
    let path = std::env::var_os("NEARFIELD_GUEST")
        .map_or_else(|| workspace().join("target/nearfield/nearfield_guest.wasm"), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("no guest module at {} ({error}): run `cargo xtask wasm`", path.display())
    })
}
