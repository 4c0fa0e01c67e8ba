//! The HTTP of central, called without a socket: good requests, and every bad one by its name.

mod common;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode};
use common::{SITE, body, config, delta, outcomes, train};
use http_body_util::BodyExt;
use nearfield_central::{Config, Service, admin_app, app};
use nearfield_engine::model::manifest::{self, Manifest};
use nearfield_engine::sync::wire::{SyncRequest, encode_request};
use nearfield_engine::{
    Delta, ItemKey, Lineage, Model, ModelVersion, Outcome, Threshold, Touch, Update, VersionMetrics,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tower::ServiceExt;

const NOW: u64 = 1_700_000_000_000;

struct Shop {
    central: Arc<Service>,
    clock: Arc<AtomicU64>,
    token: Vec<u8>,
    _data: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        train(data.path());
        let mut config = config(data.path());
        change(&mut config);
        let clock = Arc::new(AtomicU64::new(NOW));
        let time = clock.clone();
        let central = Service::open_at(config, Arc::new(move || time.load(Ordering::SeqCst))).unwrap();
        let mut shop = Self { central, clock, token: Vec::new(), _data: data };
        shop.token = shop.post("/v1/device", Vec::new()).await.1.to_vec();
        shop
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        app(self.central.clone()).oneshot(request).await.unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
        let response = self.send(Request::post(path).body(body.into()).unwrap()).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        let response = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn sync(&self, deltas: Vec<Delta>) -> Vec<Outcome> {
        let (status, reply) = self.post("/v1/sync", body(&self.token, deltas)).await;
        assert_eq!(status, StatusCode::OK, "{reply:?}");
        outcomes(&reply)
    }

    async fn publish(&self) -> ModelVersion {
        common::publish(&self.central).await
    }

    async fn manifest(&self) -> Manifest {
        let (status, bytes) = self.get("/v1/model/latest").await;
        assert_eq!(status, StatusCode::OK);
        let key = self.central.keys.online.verifying_key();
        let now_ms = self.clock.load(Ordering::SeqCst);
        let update = Update::read(&bytes, SITE, None, now_ms, manifest::signed_by(key.as_bytes()));
        update.unwrap().manifest().clone()
    }

    fn log_len(&self) -> u64 {
        self.central.log.entries().unwrap()
    }

    fn counts(&self, line: &str) {
        common::counts(&self.central, line);
    }

    /// Sends a body that must be refused whole, and checks that it changed nothing and was counted.
    async fn rejects(&self, bytes: Vec<u8>, status: StatusCode, code: &str) {
        let before = self.log_len();
        let (found, answer) = self.post("/v1/sync", bytes).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((found, answer["code"].as_str().unwrap()), (status, code), "{answer}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
        assert_eq!(self.log_len(), before, "{code} changed the log");
        self.counts(&format!("nearfield_requests_rejected_total{{code=\"{code}\"}} 1"));
    }

    /// Sends a delta that must be refused, and checks that it changed nothing and was counted.
    async fn refuses(&self, delta: Delta, reason: &str) {
        let before = self.log_len();
        let outcome = self.sync(vec![delta]).await;
        let [Outcome::Refused(refusal)] = outcome.as_slice() else { panic!("{reason}: {outcome:?}") };
        assert_eq!(refusal.reason(), reason);
        assert_eq!(self.log_len(), before, "{reason} changed the log");
        self.counts(&format!("nearfield_deltas_refused_total{{reason=\"{reason}\"}} 1"));
    }
}

#[tokio::test]
async fn a_delta_is_acknowledged_once_and_then_known() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.sync(vec![delta(1), delta(2), delta(1)]).await,
        [Outcome::Acknowledged, Outcome::Acknowledged, Outcome::Duplicate]
    );
    assert_eq!(shop.sync(vec![delta(2)]).await, [Outcome::Duplicate]);
    assert_eq!(shop.log_len(), 2);
    shop.counts("nearfield_deltas_acknowledged_total 2");
    shop.counts("nearfield_deltas_duplicate_total 2");
}

#[tokio::test]
async fn malformed_bodies_are_named_counted_and_change_nothing() {
    let shop = Shop::open().await;
    let good = body(&shop.token, vec![delta(1)]);
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    shop.rejects(b"GET me".to_vec(), StatusCode::BAD_REQUEST, "foreign").await;
    shop.rejects(change(&|bytes| bytes[4] = 9), StatusCode::BAD_REQUEST, "unknown_format").await;
    shop.rejects(good[..good.len() - 1].to_vec(), StatusCode::BAD_REQUEST, "malformed").await;
    // The length of the site, 4, as two bytes: the same number, but not the one way to write it.
    let longer = change(&|bytes| {
        bytes.splice(6..7, [0x84, 0x00]);
    });
    shop.rejects(longer, StatusCode::BAD_REQUEST, "not_canonical").await;
    let mut long_site = b"NFSY\x02\x00".to_vec();
    long_site.push(65);
    long_site.extend([b'x'; 65]);
    long_site.extend([0, 0, 0]);
    shop.rejects(long_site, StatusCode::BAD_REQUEST, "field").await;
    shop.rejects(vec![0; 65_537], StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert_eq!(shop.sync(vec![delta(1)]).await, [Outcome::Acknowledged]);
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_the_body() {
    let shop = Shop::open().await;
    let never = Body::new(http_body_util::BodyExt::boxed(http_body_util::Empty::<Bytes>::new()));
    let request = Request::post("/v1/sync").header("content-length", "65537").body(never).unwrap();
    assert_eq!(shop.send(request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    shop.counts("nearfield_requests_rejected_total{code=\"too_large\"} 1");
}

#[tokio::test]
async fn bad_deltas_are_refused_by_name() {
    let shop = Shop::open().await;
    let with = |number: u64, change: &dyn Fn(&mut Delta)| {
        let mut delta = delta(number);
        change(&mut delta);
        delta
    };
    shop.refuses(with(1, &|delta| delta.factor_scale = f32::NAN), "factor_scale").await;
    shop.refuses(with(2, &|delta| delta.items[0] = Touch::new(999, 1, true)), "unknown_row").await;
    shop.refuses(with(3, &|delta| delta.lineage = Lineage(8)), "wrong_lineage").await;
    shop.refuses(with(4, &|delta| delta.base_version = ModelVersion(2)), "from_the_future").await;
    shop.refuses(with(5, &|delta| delta.factor.push(1)), "factor_length").await;
    shop.refuses(with(6, &|delta| delta.factor_scale = 1e6), "factor_norm").await;
    shop.refuses(with(7, &|delta| delta.items.clear()), "item_count").await;
    shop.refuses(with(8, &|delta| delta.share = 0), "share").await;
    shop.refuses(with(9, &|delta| delta.items[0] = Touch::new(0, 200, true)), "unknown_kind").await;
    shop.refuses(with(10, &|delta| delta.items = vec![Touch::new(0, 1, false); 17]), "repeats").await;
    let many = VersionMetrics { version: ModelVersion(1), bins: [u16::MAX; 5] };
    shop.refuses(with(11, &|delta| delta.metrics = vec![many]), "metrics").await;
    assert_eq!(shop.log_len(), 0);
    shop.counts("nearfield_deltas_acknowledged_total 0");
}

#[tokio::test]
async fn a_bad_delta_does_not_keep_its_neighbours_out() {
    let shop = Shop::open().await;
    let mut bad = delta(2);
    bad.factor_scale = f32::INFINITY;
    let outcome = shop.sync(vec![delta(1), bad, delta(3)]).await;
    assert_eq!((&outcome[0], &outcome[2]), (&Outcome::Acknowledged, &Outcome::Acknowledged));
    assert!(matches!(outcome[1], Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(shop.log_len(), 2);
}

#[tokio::test]
async fn a_stale_delta_is_refused_and_a_known_one_forgotten_only_then() {
    let shop = Shop::open_with(|config| config.keep_ms = 1).await;
    shop.sync(vec![delta(1)]).await;
    assert_eq!(shop.publish().await, ModelVersion(2));
    assert_eq!(shop.sync(vec![delta(1)]).await, [Outcome::Duplicate]);
    shop.sync(vec![delta(2)]).await;
    some_uptime().await;
    assert_eq!(shop.publish().await, ModelVersion(3));
    shop.refuses(delta(1), "stale").await;
}

/// Waits until the service has run for a few milliseconds more.
async fn some_uptime() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_no_base_stale() {
    let shop = Shop::open().await;
    for round in 0..4 {
        assert_eq!(shop.sync(vec![delta(round)]).await, [Outcome::Acknowledged]);
        shop.clock.store(NOW + 400 * 86_400_000, Ordering::SeqCst);
        shop.publish().await;
        shop.clock.store(NOW, Ordering::SeqCst);
    }
    assert_eq!(shop.sync(vec![delta(0), delta(4)]).await, [Outcome::Duplicate, Outcome::Acknowledged]);
}

#[tokio::test]
async fn a_forgotten_delta_stays_refused_when_versions_are_kept_for_longer_after_a_restart() {
    let shop = Shop::open_with(|config| config.keep_ms = 1).await;
    for number in 1..=2 {
        some_uptime().await;
        assert_eq!(shop.sync(vec![delta(number)]).await, [Outcome::Acknowledged]);
        shop.publish().await;
    }
    shop.refuses(delta(1), "stale").await;
    let Shop { central, clock, token, _data: data } = shop;
    central.queue.stop();
    drop(central);
    let mut config = config(data.path());
    config.keep_ms = 86_400_000;
    let central = Service::open_at(config, Arc::new(|| NOW)).unwrap();
    let shop = Shop { central, clock, token, _data: data };
    shop.refuses(delta(1), "stale").await;
}

#[tokio::test]
async fn another_site_is_refused_as_a_whole() {
    let shop = Shop::open().await;
    let request = SyncRequest {
        site: "other".into(),
        token: shop.token.clone(),
        deltas: vec![delta(1)],
        extensions: Vec::new(),
    };
    shop.rejects(encode_request(&request).unwrap(), StatusCode::UNPROCESSABLE_ENTITY, "wrong_site").await;
}

#[tokio::test]
async fn a_bad_token_rejects_the_request_and_the_same_delta_passes_with_a_new_one() {
    let shop = Shop::open().await;
    let rejects = async |token: &[u8], code: &str| {
        shop.rejects(body(token, vec![delta(1)]), StatusCode::UNAUTHORIZED, code).await;
    };
    let mut forged = shop.token.clone();
    forged[5] ^= 1;
    rejects(&forged, "token_forged").await;
    rejects(b"short", "token_malformed").await;
    shop.clock.fetch_add(31 * 86_400_000, Ordering::SeqCst);
    rejects(&shop.token, "token_expired").await;
    let (_, fresh) = shop.post("/v1/device", Vec::new()).await;
    let (_, reply) = shop.post("/v1/sync", body(&fresh, vec![delta(1)])).await;
    assert_eq!(outcomes(&reply), [Outcome::Acknowledged]);
}

#[tokio::test]
async fn a_full_queue_answers_429_and_loses_nothing() {
    let shop = Shop::open_with(|config| config.queue = 1).await;
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..200 {
        let app = app(shop.central.clone());
        let request =
            Request::post("/v1/sync").body(Body::from(body(&shop.token, vec![delta(number)]))).unwrap();
        sent.spawn(async move { app.oneshot(request).await.unwrap() });
    }
    let (mut taken, mut busy) = (0, 0);
    for response in sent.join_all().await {
        match response.status() {
            StatusCode::OK => taken += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                assert!(response.headers().contains_key("retry-after"));
                busy += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(busy > 0, "a queue of one was never full");
    assert_eq!((taken + busy, shop.log_len()), (200, taken));
    shop.counts(&format!("nearfield_requests_rejected_total{{code=\"busy\"}} {busy}"));
}

#[tokio::test]
async fn a_window_over_half_of_its_bytes_is_published_at_once() {
    let shop = Shop::open_with(|config| config.window_bytes = 65_536).await;
    for batch in 0..10 {
        let deltas = (0..50).map(|number| delta(batch * 50 + number)).collect();
        assert_eq!(shop.sync(deltas).await, vec![Outcome::Acknowledged; 50]);
    }
    let version = shop.manifest().await.stable.version;
    assert!(version > ModelVersion(1), "500 deltas of some 150 bytes were never published");
}

#[tokio::test]
async fn a_model_file_is_sent_as_it_is_read() {
    let data = tempfile::tempdir().unwrap();
    common::train_of(data.path(), 5_000, 32);
    let central = Service::open(config(data.path())).unwrap();
    let request = Request::get("/v1/model/1.pack").body(Body::empty()).unwrap();
    let response = app(central.clone()).oneshot(request).await.unwrap();
    let pack = std::fs::read(data.path().join("models/1.pack")).unwrap();
    assert_eq!(response.headers()["content-length"], pack.len().to_string());
    let (mut body, mut received, mut largest) = (response.into_body(), Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let part = frame.unwrap().into_data().unwrap();
        largest = largest.max(part.len());
        received.extend(part);
    }
    assert_eq!(received, pack);
    assert!(largest <= 64 * 1024 && pack.len() > 4 * largest, "{largest} of {} bytes at once", pack.len());
}

#[tokio::test]
async fn a_client_follows_manifest_pack_and_patches() {
    let shop = Shop::open().await;
    let first = shop.manifest().await;
    let (status, pack) = shop.get("/v1/model/1.pack").await;
    assert_eq!(status, StatusCode::OK);
    first.stable.pack.check(&pack).unwrap();
    let mut model = Model::load(&pack).unwrap();

    for round in 0..3 {
        shop.sync((0..10).map(|number| delta(round * 10 + number)).collect()).await;
        shop.publish().await;
    }
    let newest = shop.manifest().await;
    assert_eq!(newest.stable.version, ModelVersion(4));
    let (_, pack) = shop.get("/v1/model/4.pack").await;
    newest.stable.pack.check(&pack).unwrap();
    let froms: Vec<u64> = newest.stable.patches.iter().map(|(from, _)| from.0).collect();
    assert!(froms.contains(&1), "no patch from version 1, only from {froms:?}");
    for (from, file) in &newest.stable.patches {
        let (status, patch) = shop.get(&format!("/v1/model/{from}..4.patch")).await;
        assert_eq!(status, StatusCode::OK);
        file.check(&patch).unwrap();
        if from.0 == 1 {
            model.apply(&patch).unwrap();
        }
    }
    assert_eq!(model.to_pack(), pack, "the patched model is not the published one");

    let response = shop.send(Request::get("/v1/model/4.pack").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
    for gone in ["/v1/model/9.pack", "/v1/model/04.pack", "/v1/model/..%2Fstore.redb", "/v1/model/1..9.patch"]
    {
        assert_eq!(shop.get(gone).await.0, StatusCode::NOT_FOUND, "{gone}");
    }
}

#[tokio::test]
async fn a_restart_goes_on_from_the_same_model() {
    let shop = Shop::open().await;
    shop.sync((0..10).map(delta).collect()).await;
    shop.publish().await;
    shop.sync((10..15).map(delta).collect()).await;
    let (_, before) = shop.get("/v1/model/2.pack").await;
    let Shop { central, _data: data, .. } = shop;
    central.queue.stop();
    drop(central);

    let central = Service::open(config(data.path())).unwrap();
    // What waited was published on the way out, and a snapshot has emptied the log.
    assert_eq!(central.registry.served().version, ModelVersion(3));
    assert_eq!(central.log.entries().unwrap(), 0);
    assert_eq!(central.log.remembered_ids().unwrap(), 15);
    assert_eq!(std::fs::read(data.path().join("models/2.pack")).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_snapshot_or_another_site_stops_the_start() {
    let shop = Shop::open().await;
    let Shop { central, _data: data, .. } = shop;
    central.queue.stop();
    drop(central);
    let mut other = config(data.path());
    other.site = "other".into();
    let Err(error) = Service::open(other) else { panic!("another site was served") };
    assert_eq!(error.to_string(), "the store serves site \"test\", but site \"other\" is configured");

    let path = data.path().join("snapshots/1.statistics");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let Err(error) = Service::open(config(data.path())) else { panic!("a damaged snapshot was taken") };
    assert!(
        error.to_string().ends_with("is not the snapshot that the store names: its hash differs"),
        "{error}"
    );

    let empty = tempfile::tempdir().unwrap();
    let Err(error) = Service::open(config(empty.path())) else { panic!("an empty folder was served") };
    assert!(error.to_string().contains("model.pack is missing: make it with"), "{error}");
}

/// Returns the data directory of a shop that has served and stopped.
async fn stopped() -> tempfile::TempDir {
    let shop = Shop::open().await;
    shop.sync((0..10).map(delta).collect()).await;
    let Shop { central, _data: data, .. } = shop;
    central.queue.stop();
    drop(central);
    data
}

#[tokio::test]
async fn a_missing_store_beside_its_snapshots_or_models_stops_the_start() {
    for left in ["snapshots", "models"] {
        let data = stopped().await;
        std::fs::remove_file(data.path().join("store.redb")).unwrap();
        let other = if left == "models" { "snapshots" } else { "models" };
        std::fs::remove_dir_all(data.path().join(other)).unwrap();
        let Err(error) = Service::open(config(data.path())) else { panic!("a new life was started") };
        let text = error.to_string();
        assert!(text.contains("store.redb is missing, but ") && text.contains(left), "{text}");
        assert!(text.contains("restore it from a backup"), "{text}");
        assert!(!data.path().join("store.redb").exists(), "nothing was made");
        std::fs::remove_dir_all(data.path().join(left)).unwrap();
        assert!(Service::open(config(data.path())).is_ok(), "without either it is a first start");
    }
}

#[tokio::test]
async fn missing_keys_beside_a_store_stop_the_start_and_are_not_made_anew() {
    for key in ["keys/online.key", "keys/device.key"] {
        let data = stopped().await;
        std::fs::remove_file(data.path().join(key)).unwrap();
        let Err(error) = Service::open(config(data.path())) else { panic!("every client was cut off") };
        let text = error.to_string();
        assert!(text.contains(&format!("{key} is missing, but there is a store")), "{text}");
        assert!(text.contains("restore it from a backup"), "{text}");
        assert!(!data.path().join(key).exists(), "nothing was made");
    }
}

#[tokio::test]
async fn a_mark_that_the_replay_does_not_reach_stops_the_start() {
    let shop = Shop::open().await;
    let Shop { central, _data: data, .. } = shop;
    central.queue.stop();
    drop(central);
    {
        use nearfield_central::log::Log;
        use nearfield_central::log::entry::{Mark, VersionRecord};
        let store = nearfield_central::log::redb::RedbLog::open(&data.path().join("store.redb")).unwrap();
        let version = ModelVersion(2);
        let mark = Mark { version, threshold: Threshold::NONE, deltas: 0, pack_hash: [7; 32] };
        let record = VersionRecord { version, pack_hash: [7; 32], pack_bytes: 1, deltas: 0, uptime_ms: 0 };
        store.publish(mark, &record, 1, &[1; 32], &[]).unwrap();
    }
    let Err(error) = Service::open(config(data.path())) else { panic!("another model was served") };
    let text = error.to_string();
    assert!(text.starts_with("replaying the log gave another version 2 than the one published"), "{text}");
}

#[tokio::test]
async fn the_catalogue_grows_by_the_admin_listener_only_with_its_token() {
    let shop = Shop::open().await;
    let ask = async |token: &str, kind: &str, body: &str| {
        let request = Request::post("/v1/catalog")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", kind)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = admin_app(shop.central.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
    };
    let token = shop.central.keys.admin_token.clone();
    let items = r#"{"items":[{"id":"new"},{"id":"i1"}]}"#;
    assert_eq!(ask("guess", "application/json", items).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&token, "text/html", items).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, answer) = ask(&token, "text/csv", "sku\n1\n").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"], "column item_id is missing; the first line has sku");
    let (status, answer) = ask(&token, "application/json", r#"{"items":["x"],"withdraw":["nobody"]}"#).await;
    assert_eq!((status, answer["code"].as_str().unwrap()), (StatusCode::UNPROCESSABLE_ENTITY, "unknown"));
    assert_eq!(shop.log_len(), 0);

    let (status, answer) = ask(&token, "application/json", items).await;
    assert_eq!(
        (status, answer["added"].as_u64(), answer["items"].as_u64()),
        (StatusCode::OK, Some(1), Some(2))
    );
    shop.publish().await;
    let (_, pack) = shop.get("/v1/model/2.pack").await;
    let model = Model::load(&pack).unwrap();
    assert_eq!(model.row(ItemKey::of("new")), Some(20));

    assert_eq!(ask(&token, "application/json", r#"{"withdraw":["new"]}"#).await.0, StatusCode::OK);
    shop.publish().await;
    let model = Model::load(&shop.get("/v1/model/3.pack").await.1).unwrap();
    assert!(model.is_withdrawn(20));
    assert_eq!(shop.post("/v1/catalog", items).await.0, StatusCode::NOT_FOUND, "the public listener took it");
}

#[tokio::test]
async fn a_manifest_is_renewed_while_versions_come_whose_files_cannot_be_written() {
    let shop = Shop::open_with(|config| config.manifest_ms = 200).await;
    let issued = shop.manifest().await.issued_ms;
    let models = shop._data.path().join("models");
    std::fs::remove_dir_all(&models).unwrap();
    std::fs::write(&models, "a file where the folder was").unwrap();
    shop.clock.store(NOW + 100, Ordering::SeqCst);
    // A version every ten milliseconds for three times the renewal's period of 100 ms.
    for number in 1..=30 {
        shop.sync(vec![delta(number)]).await;
        shop.central.queue.publish().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(shop.manifest().await.issued_ms, issued + 100);
}

#[tokio::test]
async fn a_manifest_is_signed_anew_before_it_runs_out() {
    let shop = Shop::open_with(|config| config.manifest_ms = 100).await;
    let first = shop.manifest().await;
    assert_eq!((first.issued_ms, first.not_after_ms), (NOW, NOW + 100));
    shop.clock.fetch_add(60, Ordering::SeqCst);
    let started = std::time::Instant::now();
    while shop.manifest().await.issued_ms == NOW {
        assert!(started.elapsed().as_secs() < 20, "the manifest was never renewed");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(shop.manifest().await.not_after_ms, NOW + 160);
}
