//! The edge as its callers see it: the router without a socket, the real guest in wasmtime, and a
//! central that comes and goes.

mod support;

use axum::body::Body;
use axum::http::StatusCode;
use nearfield_edge::{Edge, MODEL_FILE, Options, SyncError, app, system_now_ms};
use nearfield_engine::{ManifestError, ModelVersion, UpdateError};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{FakeCentral, Fault, GROUP, call, get, guest, learn, metric, recommended, twenty, workspace};

/// Starts an edge in a folder that another edge has just left.
async fn restart(central: &FakeCentral, data: &Path) -> Arc<Edge> {
    let mut last = String::new();
    for _ in 0..200 {
        match Edge::start(central.options(data), &guest()).await {
            Ok(edge) => return edge,
            // The store's file is free once the threads of the edge before have ended.
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the edge does not start again: {last}");
}

#[tokio::test]
async fn events_change_the_list_and_leave_out_what_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let app = app(central.edge(folder.path()).await);

    let events = json!([
        { "kind": "view_item", "item_id": "tent-0" },
        { "kind": "add_to_cart", "item_id": "tent-1", "value": 99.5 },
        { "kind": "click", "item_id": "tent-2", "event_id": "e1" },
        { "kind": "click", "item_id": "tent-2", "event_id": "e1" },
        { "kind": "search" },
    ]);
    assert_eq!(learn(&app, "ada", &events).await, json!({ "applied": 3, "duplicate": 1, "context_only": 1 }));
    learn(&app, "bob", &json!({ "kind": "purchase", "item_id": "boot-0" })).await;

    let for_ada = recommended(&app, "ada", 6).await;
    assert_eq!(for_ada.len(), 6);
    assert!(for_ada.iter().all(|item| item.starts_with("tent-")), "{for_ada:?}");
    assert!(
        !for_ada.iter().any(|item| ["tent-0", "tent-1", "tent-2"].contains(&item.as_str())),
        "{for_ada:?}"
    );
    let for_bob = recommended(&app, "bob", 6).await;
    assert!(for_bob.iter().all(|item| item.starts_with("boot-") && item != "boot-0"), "{for_bob:?}");

    let all = get(&app, "/v1/users/ada/recommendations?count=100&scenario=continue").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2 * GROUP);
    assert_eq!(all["model_version"], 2);

    learn(&app, "ada", &json!({ "kind": "view", "item_id": for_ada[0] })).await;
    let after = recommended(&app, "ada", 6).await;
    assert_ne!(after[0], for_ada[0]);

    let kept = get(&app, "/v1/users/ada").await;
    let history: Vec<_> = kept["history"].as_array().unwrap().iter().map(|seen| &seen["item_id"]).collect();
    assert_eq!(history, ["tent-0", "tent-1", "tent-2", &for_ada[0]]);
    assert_eq!(kept["history"][1]["kind"], "cart");
    assert_eq!(metric(&app, "nearfield_edge_events_total{outcome=\"applied\"}").await, 5.0);
}

#[tokio::test]
async fn bad_input_is_named_counted_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let app = app(central.edge(folder.path()).await);
    learn(&app, "ada", &json!({ "kind": "view", "item_id": "tent-0" })).await;
    let before = get(&app, "/v1/users/ada").await;

    let good = json!({ "kind": "view", "item_id": "tent-1" });
    let after_good = |event: Value| json!([good, event]).to_string();
    let cases = [
        (
            "{".to_owned(),
            400,
            "malformed_json",
            "body is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("[]".to_owned(), 400, "event_count", "body has 0 events, the limit is 1 to 1000"),
        (
            json!(vec![&good; 1001]).to_string(),
            400,
            "event_count",
            "body has 1001 events, the limit is 1 to 1000",
        ),
        (" ".repeat(256 * 1024 + 1), 413, "body_too_large", "body is larger than 262144 bytes, the limit"),
        ("7".to_owned(), 400, "event_field", "event 0: invalid type: integer `7`, expected struct EventIn"),
        (after_good(json!({ "item_id": "a" })), 400, "event_field", "event 1: missing field `kind`"),
        (
            after_good(json!({ "kind": "view", "item_id": 5 })),
            400,
            "event_field",
            "event 1: invalid type: integer `5`, expected a string",
        ),
        (
            after_good(json!({ "kind": "view", "item": "a" })),
            400,
            "event_field",
            "event 1: unknown field `item`, expected one of `kind`, `item_id`, `event_id`, `time_ms`, `value`, \
             `session_id`",
        ),
        (
            after_good(json!({ "kind": "poke", "item_id": "a" })),
            400,
            "unknown_kind",
            "event 1: kind \"poke\" is unknown",
        ),
        (after_good(json!({ "kind": "view" })), 400, "empty_item_id", "event 1: item_id is empty"),
        (
            after_good(json!({ "kind": "view", "item_id": "x".repeat(129) })),
            400,
            "too_long",
            "event 1: item_id has 129 bytes, the limit is 128",
        ),
        (
            after_good(json!({ "kind": "view", "item_id": "a", "value": 1e39 })),
            400,
            "non_finite_value",
            "event 1: value is not a finite number",
        ),
        (
            r#"{"kind":"view","item_id":"a","value":NaN}"#.to_owned(),
            400,
            "malformed_json",
            "body is not JSON: expected value at line 1 column 38",
        ),
    ];
    for (body, status, code, error) in cases {
        let shown = body.chars().take(80).collect::<String>();
        let counter = format!("nearfield_edge_refused_total{{code=\"{code}\"}}");
        let counted = metric(&app, &counter).await;
        let (found, answer) = call(&app, "POST", "/v1/users/ada/events", body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((found.as_u16(), answer), (status, json!({ "code": code, "error": error })), "{shown}");
        assert_eq!(metric(&app, &counter).await, counted + 1.0, "{shown}");
    }
    let far = json!({ "kind": "view", "item_id": "a", "time_ms": 9_000_000_000_000_000u64 });
    let (status, answer) = call(&app, "POST", "/v1/users/ada/events", after_good(far)).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status.as_u16(), &answer["code"]), (400, &json!("in_the_future")));

    for (method, uri, status, code) in [
        ("GET", "/v1/users/ada/recommendations?count=0".to_owned(), 400, "field"),
        ("GET", "/v1/users/ada/recommendations?count=1001".to_owned(), 400, "field"),
        ("GET", "/v1/users/ada/recommendations?limit=5".to_owned(), 400, "query"),
        ("GET", format!("/v1/users/{}", "x".repeat(129)), 400, "user_name"),
        ("GET", "/v1/users/a%00b".to_owned(), 400, "user_name"),
        ("GET", "/v1/users/a%FFb".to_owned(), 400, "user_name"),
        ("GET", "/v1/users/nobody".to_owned(), 404, "unknown_user"),
        ("GET", "/v2".to_owned(), 404, "unknown_path"),
        ("PUT", "/v1/users/ada/events".to_owned(), 405, "method"),
    ] {
        let (found, answer) = call(&app, method, &uri, Body::empty()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{method} {uri}");
    }
    assert_eq!(get(&app, "/v1/users/ada").await, before);
}

#[tokio::test]
async fn a_person_is_forgotten_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &twenty("tent")).await;
    let newcomer = recommended(&app, "nobody", 5).await;

    let (status, body) = call(&app, "DELETE", "/v1/users/ada", Body::empty()).await;
    assert_eq!((status, body), (StatusCode::OK, br#"{"erased":true}"#.to_vec()));
    assert_eq!(call(&app, "GET", "/v1/users/ada", Body::empty()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(recommended(&app, "ada", 5).await, newcomer);
    assert_eq!(edge.sync_now().await.unwrap().settled, 0);
    let (_, body) = call(&app, "DELETE", "/v1/users/ada", Body::empty()).await;
    assert_eq!(body, br#"{"erased":false}"#);
    assert!(central.shared.lock().unwrap().admitted.is_empty());
}

#[tokio::test]
async fn central_may_be_away_and_hears_everything_once_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));

    central.down();
    learn(&app, "ada", &twenty("tent")).await;
    learn(&app, "bob", &twenty("boot")).await;
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
    let list = recommended(&app, "bob", 5).await;
    learn(&app, "cleo", &json!({ "kind": "view", "item_id": "tent-3" })).await;
    assert_eq!(list.len(), 5);
    assert_eq!(metric(&app, "nearfield_edge_central_up{for=\"model\"}").await, 0.0);
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::OK);

    central.up();
    let round = Arc::clone(&edge).sync_now().await.unwrap();
    assert_eq!(round.settled, 2);
    let version = {
        let mut shared = central.shared.lock().unwrap();
        assert_eq!((shared.admitted.len(), shared.duplicates, shared.tokens), (2, 0, 2));
        shared.publish()
    };
    assert_eq!(get(&app, "/v1/users/ada").await["outbox"], json!([]));
    assert_eq!(metric(&app, "nearfield_edge_deltas_total{outcome=\"acknowledged\"}").await, 2.0);

    // The next round brings what the two have taught, by a patch, and tells nothing twice.
    central.shared.lock().unwrap().fetched.clear();
    let round = Arc::clone(&edge).sync_now().await.unwrap();
    assert_eq!((round.model, round.settled), (Some(version), 0));
    assert_eq!(central.shared.lock().unwrap().fetched, ["latest", "2..3.patch"]);
    let list = get(&app, "/v1/users/ada/recommendations").await;
    assert_eq!(list["model_version"], version.0);
    let on_disk = std::fs::read(folder.path().join(MODEL_FILE)).unwrap();
    assert_eq!(on_disk, central.shared.lock().unwrap().packs[&version.0]);
    assert_eq!(metric(&app, "nearfield_edge_central_up{for=\"model\"}").await, 1.0);
}

#[tokio::test]
async fn events_of_a_client_that_hangs_up_are_counted_and_go_to_central() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    let events = twenty("tent");
    // The request is begun, and dropped at the first wait.
    tokio::select! {
        biased;
        _ = learn(&app, "ada", &events) => panic!("the answer came before the client had gone"),
        () = std::future::ready(()) => {}
    }
    let applied = "nearfield_edge_events_total{outcome=\"applied\"}";
    for _ in 0..500 {
        if metric(&app, applied).await == 20.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(get(&app, "/v1/users/ada").await["history"].as_array().unwrap().len(), 20);
    assert_eq!(metric(&app, applied).await, 20.0);
    assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().settled, 1);
}

#[tokio::test]
async fn a_token_that_central_does_not_take_is_replaced_once_and_the_delta_goes_out_with_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    for (fault, items) in [(Fault::None, "tent"), (Fault::FirstTokenExpired, "boot")] {
        central.set(fault);
        learn(&app, "ada", &twenty(items)).await;
        assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().settled, 1);
    }
    assert_eq!(central.shared.lock().unwrap().tokens, 2);

    central.set(Fault::TokensExpired);
    learn(&app, "ada", &twenty("tent")).await;
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Status { status: 401, .. }), "{error}");
    let outbox = get(&app, "/v1/users/ada").await["outbox"].clone();
    assert_eq!((outbox.as_array().unwrap().len(), central.shared.lock().unwrap().tokens), (1, 3));
}

#[tokio::test]
async fn deltas_of_a_busy_user_are_made_one_after_the_answer_to_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &twenty("tent")).await;
    central.set(Fault::LostReply);
    Arc::clone(&edge).sync_now().await.unwrap_err();
    learn(&app, "ada", &twenty("boot")).await;
    Arc::clone(&edge).sync_now().await.unwrap_err();
    assert_eq!(get(&app, "/v1/users/ada").await["outbox"].as_array().unwrap().len(), 1);
    central.set(Fault::None);
    learn(&app, "ada", &twenty("tent")).await;
    assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().settled, 2);
    assert_eq!(get(&app, "/v1/users/ada").await["outbox"], json!([]));
    assert_eq!(central.shared.lock().unwrap().admitted.len(), 2);
}

#[tokio::test]
async fn a_lost_reply_and_a_restart_count_a_delta_once() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let first = app(Arc::clone(&edge));
    learn(&first, "ada", &twenty("tent")).await;
    central.set(Fault::LostReply);
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Status { status: 502, .. }), "{error}");
    let outbox = get(&first, "/v1/users/ada").await["outbox"].clone();
    assert_eq!(outbox.as_array().unwrap().len(), 1);
    drop((first, edge));

    central.set(Fault::None);
    let edge = restart(&central, folder.path()).await;
    let second = app(Arc::clone(&edge));
    assert_eq!(get(&second, "/v1/users/ada").await["outbox"], outbox);
    assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().settled, 1);
    let shared = central.shared.lock().unwrap();
    assert_eq!((shared.admitted.len(), shared.duplicates, shared.tokens), (1, 1, 1));
}

#[tokio::test]
async fn a_restart_without_central_finds_every_user_and_the_model_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let first = app(Arc::clone(&edge));
    for user in 0..30 {
        let item = format!("{}-{}", ["tent", "boot"][user % 2], user % GROUP);
        learn(
            &first,
            &format!("user {user}").replace(' ', "%20"),
            &json!({ "kind": "view", "item_id": item }),
        )
        .await;
    }
    let kept = get(&first, "/v1/users/user%207").await;
    let list = recommended(&first, "user%207", 10).await;
    drop((first, edge));

    central.down();
    let second = app(restart(&central, folder.path()).await);
    assert_eq!(get(&second, "/v1/users/user%207").await, kept);
    assert_eq!(recommended(&second, "user%207", 10).await, list);
    assert_eq!(kept["history"][0]["item_id"], "boot-7");
}

#[tokio::test]
async fn what_a_guest_keeps_warm_changes_no_list_and_no_state() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let central = FakeCentral::start();
    let mut apps = Vec::new();
    for (folder, warm_bytes_max) in folders.iter().zip([0, 1 << 20]) {
        let options = Options { warm_bytes_max, ..central.options(folder.path()) };
        apps.push(app(Edge::start(options, &guest()).await.unwrap()));
    }
    let time_ms = 1_700_000_000_000u64;
    for step in 0..60u64 {
        let user = ["ada", "bob", "cleo"][step as usize % 3];
        let item = format!("{}-{}", ["tent", "boot"][step as usize / 7 % 2], step as usize * 5 % GROUP);
        let event = json!({ "kind": "view", "item_id": item, "time_ms": time_ms + step });
        let mut seen = Vec::new();
        for app in &apps {
            learn(app, user, &event).await;
            let list = get(app, &format!("/v1/users/{user}/recommendations?scenario=continue")).await;
            seen.push((list, get(app, &format!("/v1/users/{user}")).await));
        }
        assert_eq!(seen[0], seen[1], "step {step}");
    }
}

#[tokio::test]
async fn a_refused_model_leaves_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &json!({ "kind": "view", "item_id": "tent-0" })).await;
    let list = get(&app, "/v1/users/ada/recommendations").await;
    let on_disk = std::fs::read(folder.path().join(MODEL_FILE)).unwrap();

    type Expected = fn(&ManifestError) -> bool;
    let cases: [(Fault, Expected); 4] = [
        (Fault::ForeignKey, |error| matches!(error, ManifestError::BadSignature)),
        (Fault::Rollback, |error| matches!(error, ManifestError::Rollback { .. })),
        (Fault::OlderLineage, |error| matches!(error, ManifestError::Older { .. })),
        (Fault::Expired, |error| matches!(error, ManifestError::Expired { .. })),
    ];
    // Version 1 is there to roll back to.
    let pack = central.shared.lock().unwrap().packs[&2].clone();
    central.shared.lock().unwrap().packs.insert(1, pack);
    for (fault, expected) in cases {
        central.set(fault);
        let error = Arc::clone(&edge).sync_now().await.unwrap_err();
        assert!(
            matches!(&error, SyncError::Update(UpdateError::Manifest(error)) if expected(error)),
            "{fault:?}: {error}"
        );
        let counter = format!("nearfield_edge_sync_failures_total{{reason=\"{}\"}}", error.reason());
        assert_eq!(metric(&app, &counter).await, 1.0);
    }
    let next = central.shared.lock().unwrap().publish();
    central.set(Fault::DamagedPack);
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Update(UpdateError::Manifest(ManifestError::Hash))), "{error}");
    assert_eq!(get(&app, "/v1/users/ada/recommendations").await, list);
    assert_eq!(std::fs::read(folder.path().join(MODEL_FILE)).unwrap(), on_disk);

    // A damaged patch is counted, and the whole pack takes its place.
    central.set(Fault::DamagedPatch);
    assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().model, Some(next));
    assert_eq!(metric(&app, "nearfield_edge_sync_failures_total{reason=\"hash\"}").await, 2.0);
    assert_eq!(get(&app, "/readyz").await["model_version"], next.0);

    // When the last manifest was issued is known after a restart too.
    drop((app, edge));
    let edge = restart(&central, folder.path()).await;
    central.set(Fault::OlderLineage);
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(
        matches!(error, SyncError::Update(UpdateError::Manifest(ManifestError::Older { .. }))),
        "{error}"
    );
}

#[tokio::test]
async fn a_first_start_without_central_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut central = FakeCentral::start();
    central.down();
    let error = Edge::start(central.options(folder.path()), &guest()).await.err().unwrap().to_string();
    assert!(error.contains("model.pack and central gave no model"), "{error}");
    assert!(error.contains("Connection refused") && error.ends_with("--wait-for-model"), "{error}");

    let waiting = tempfile::tempdir().unwrap();
    let mut options = central.options(waiting.path());
    options.wait_for_model = true;
    let edge = Edge::start(options, &guest()).await.unwrap();
    let app = app(Arc::clone(&edge));
    let (status, body) = call(&app, "GET", "/readyz", Body::empty()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "no_model");
    let event = json!({ "kind": "view", "item_id": "tent-0" }).to_string();
    let (status, _) = call(&app, "POST", "/v1/users/ada/events", event).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    central.up();
    assert!(Arc::clone(&edge).sync_now().await.unwrap().model.is_some());
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_guest_computes_the_golden_digest() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let found = central.edge(folder.path()).await.pool().golden_digest().await.unwrap();
    assert_eq!(found, nearfield_engine::golden::digest(), "wasmtime and native differ");
    let path = workspace().join("tests/golden/digest.txt");
    let golden = std::fs::read_to_string(&path).expect("tests/golden/digest.txt is in the repository");
    assert_eq!(found, golden.trim());
}

#[tokio::test]
async fn lists_and_choices_are_counted_by_the_version_that_made_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    let version = central.shared.lock().unwrap().model.version();
    let lists = format!("nearfield_edge_lists_by_version_total{{version=\"{version}\"}}");
    let chosen = |version: ModelVersion, rank: &str| {
        format!("nearfield_edge_chosen_rank_total{{version=\"{version}\",rank=\"{rank}\"}}")
    };
    learn(&app, "ada", &json!({ "kind": "view", "item_id": "tent-1" })).await;
    assert_eq!(metric(&app, &chosen(version, "1")).await, 0.0, "no list was shown");
    let list = recommended(&app, "ada", 20).await;
    learn(&app, "ada", &json!({ "kind": "view", "item_id": list[0] })).await;
    // Central has published meanwhile: the choice counts for the version of the list.
    let list = recommended(&app, "ada", 20).await;
    let newer = central.shared.lock().unwrap().publish();
    Arc::clone(&edge).sync_now().await.unwrap();
    assert_eq!(edge.pool().model().unwrap().info.version, newer);
    learn(
        &app,
        "ada",
        &json!([{ "kind": "view", "item_id": list[3] }, { "kind": "view", "item_id": list[4] }]),
    )
    .await;
    assert_eq!(metric(&app, &lists).await, 2.0);
    assert_eq!(metric(&app, &chosen(version, "1")).await, 1.0);
    assert_eq!(metric(&app, &chosen(version, "2-5")).await, 1.0, "one choice a list");
    assert_eq!(metric(&app, &chosen(newer, "1")).await, 0.0);
    assert!(metric(&app, "nearfield_edge_queue_seconds_count").await >= 5.0);
}

#[tokio::test]
async fn the_model_and_the_manifest_grow_old_by_the_edges_clock() {
    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let now_ms = || system_now_ms() + AHEAD_MS.load(Ordering::SeqCst);
    let options = Options { now_ms, ..central.options(folder.path()) };
    let edge = Edge::start(options, &guest()).await.unwrap();
    let app = app(Arc::clone(&edge));
    AHEAD_MS.store(600_000, Ordering::SeqCst);
    let ages = async || {
        let age = async |what: &str| metric(&app, &format!("nearfield_edge_{what}_age_seconds")).await;
        (age("model").await, age("manifest").await)
    };
    let (model, manifest) = ages().await;
    assert!((600.0..660.0).contains(&model) && (600.0..660.0).contains(&manifest), "{model} {manifest}");
    // Central says again that this version is the one: the model stays as old as it is.
    central.shared.lock().unwrap().ahead_ms = 600_000;
    Arc::clone(&edge).sync_now().await.unwrap();
    let (model, manifest) = ages().await;
    assert!(model >= 600.0 && manifest < 60.0, "{model} {manifest}");
}
