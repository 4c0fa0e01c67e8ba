//! An edge parts of which fail: it refuses what it cannot keep, goes on recommending, and its other users
//! notice nothing.

mod support;

use axum::body::Body;
use axum::http::StatusCode;
use nearfield_edge::abi::{Learnt, List, ModelInfo};
use nearfield_edge::error::EdgeError;
use nearfield_edge::users::redb::RedbUsers;
use nearfield_edge::users::{Record, StoreError, Ticket, UserStore};
use nearfield_edge::{Edge, MODEL_FILE, Options, SyncError, USERS_FILE, app};
use nearfield_engine::{Lineage, ModelVersion};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{FakeCentral, call, get, guest, learn, metric, recommended, twenty};

/// A store that can be taken away.
struct Flaky {
    users: RedbUsers,
    away: AtomicBool,
}

impl Flaky {
    fn open(folder: &Path) -> Arc<Self> {
        let users = RedbUsers::open(&folder.join(USERS_FILE)).unwrap();
        Arc::new(Self { users, away: AtomicBool::new(false) })
    }

    /// Starts an edge of one worker on the store.
    async fn edge(self: &Arc<Self>, options: Options, guest: &[u8]) -> Arc<Edge> {
        let users = Arc::clone(self) as Arc<dyn UserStore>;
        Edge::start_on(users, Options { workers: 1, ..options }, guest).await.unwrap()
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::new("answer", "it is away")),
            false => Ok(()),
        }
    }
}

impl UserStore for Flaky {
    fn get(&self, user: &str) -> Result<Option<Record>, StoreError> {
        self.check()?;
        self.users.get(user)
    }

    fn put(&self, user: &str, record: Option<Record>) -> Ticket {
        match self.check() {
            Ok(()) => self.users.put(user, record),
            Err(error) => {
                let (answer, ticket) = Ticket::new();
                answer.answer(Err(error));
                ticket
            }
        }
    }

    fn pending(&self) -> Result<Vec<String>, StoreError> {
        self.users.pending()
    }
}

fn code(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["code"].clone()
}

#[tokio::test]
async fn a_store_that_fails_refuses_events_and_lists_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    // Room for one user, so that the other's state must be read.
    let options = Options { users_open_max: 1, ..central.options(folder.path()) };
    let edge = store.edge(options, &guest()).await;
    let app = app(edge);
    let newcomer = recommended(&app, "nobody", 10).await;
    learn(&app, "ada", &twenty("tent")).await;
    let own = recommended(&app, "ada", 10).await;
    assert_ne!(own, newcomer);
    learn(&app, "bob", &twenty("boot")).await;

    store.away.store(true, Ordering::SeqCst);
    for user in ["ada", "bob", "cleo"] {
        let uri = format!("/v1/users/{user}/events");
        let (status, body) = call(&app, "POST", &uri, twenty("boot").to_string()).await;
        assert_eq!((status, code(&body)), (StatusCode::SERVICE_UNAVAILABLE, json!("store")), "{user}");
        let list = get(&app, &format!("/v1/users/{user}/recommendations?count=10")).await;
        assert_eq!(list["rung"], "newcomer", "{user}");
        assert_eq!(recommended(&app, user, 10).await, newcomer, "{user}");
    }
    assert_eq!(metric(&app, "nearfield_edge_fallbacks_total{reason=\"store\"}").await, 6.0);
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::SERVICE_UNAVAILABLE);

    // The store can be read again: lists are the users' own, without what was refused.
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(recommended(&app, "ada", 10).await, own);
    let list = get(&app, "/v1/users/ada/recommendations").await;
    assert_eq!(list["rung"], "live");
    assert_eq!(get(&app, "/v1/users/ada").await["history"].as_array().unwrap().len(), 20);
    let (_, body) = call(&app, "POST", "/v1/users/ada/events", twenty("boot").to_string()).await;
    assert_eq!(code(&body), "store", "events wait for a restart");
}

/// The byte that makes a state poisonous for the guest of [`brittle_guest`].
const POISON: u8 = 255;

/// A guest that answers every call with the same, and traps in learning and ranking for a user whose state begins
/// with [`POISON`].
fn brittle_guest(model: ModelInfo) -> Vec<u8> {
    let list = List { model, items: vec![] };
    let answers = [
        postcard::to_allocvec(&model).unwrap(),
        postcard::to_allocvec(&list).unwrap(),
        postcard::to_allocvec(&Learnt { applied: 1, ..Learnt::default() }).unwrap(),
    ];
    let mut data = String::new();
    let mut output = Vec::new();
    for (number, answer) in answers.iter().enumerate() {
        let at = 1024 + 256 * number;
        let bytes: String = answer.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(data, r#"(data (i32.const {at}) "{bytes}")"#).unwrap();
        output.push(format!("(global.set $output (i64.const {}))", (at << 32) | answer.len()));
    }
    let [model, list, learnt] = <[String; 3]>::try_from(output).unwrap();
    let own = "(if (local.get 0) (then unreachable))";
    let nothing = "(global.set $output (i64.const 0))";
    let text = format!(
        r#"(module
            (memory (export "memory") 4)
            {data}
            (global $output (mut i64) (i64.const 0))
            (global $length (mut i32) (i32.const 0))
            (func (export "nf_abi_version") (result i32) (i32.const 1))
            (func (export "nf_input") (param i32) (result i32) (global.set $length (local.get 0)) (i32.const 4096))
            (func (export "nf_output") (result i64) (global.get $output))
            (func (export "nf_model_version") (result i32) {model} (i32.const 0))
            (func (export "nf_model_load") (result i32) {model} (i32.const 0))
            (func (export "nf_user_open") (result i32)
                ;; The handle is 1 for a poisonous state and 0 for another one, at address 8.
                (i32.store8 (i32.const 8) (i32.and
                    (i32.gt_u (global.get $length) (i32.const 0))
                    (i32.eq (i32.load8_u (i32.const 4096)) (i32.const {POISON}))))
                (global.set $output (i64.const {handle}))
                (i32.const 0))
            (func (export "nf_user_close") (param i32) (result i32) {nothing} (i32.const 0))
            (func (export "nf_user_save") (param i32) (result i32) {nothing} (i32.const 0))
            (func (export "nf_user_learn") (param i32) (result i32) {own} {learnt} (i32.const 0))
            (func (export "nf_user_recommend") (param i32) (result i32) {own} {list} (i32.const 0)))"#,
        handle = (8u64 << 32) | 1,
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_user_whose_state_traps_twice_is_quarantined_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let poisoned = Record { state: vec![POISON], ..Record::default() };
    store.put("ada", Some(poisoned.clone())).durable().await.unwrap();
    let info = ModelInfo { lineage: Lineage(7), version: ModelVersion(2), rows: 24 };
    let edge = store.edge(central.options(folder.path()), &brittle_guest(info)).await;
    let app = app(edge);
    let replaced = "nearfield_edge_guests_replaced_total";
    let quarantined = "nearfield_edge_users_quarantined";
    let event = json!({ "kind": "view_item", "item_id": "tent-1" }).to_string();

    for code in ["guest", "guest", "quarantined", "quarantined"] {
        let list = get(&app, "/v1/users/ada/recommendations").await;
        assert_eq!(list["rung"], "newcomer");
        let fallbacks = format!("nearfield_edge_fallbacks_total{{reason=\"{code}\"}}");
        assert!(metric(&app, &fallbacks).await >= 1.0, "{code}");
        learn(&app, "bob", &json!({ "kind": "view_item", "item_id": "tent-1" })).await;
    }
    assert_eq!((metric(&app, replaced).await, metric(&app, quarantined).await), (2.0, 1.0));

    let (status, body) = call(&app, "POST", "/v1/users/ada/events", event.clone()).await;
    assert_eq!((status, code(&body)), (StatusCode::CONFLICT, json!("quarantined")));
    let (status, _) = call(&app, "GET", "/v1/users/ada", Body::empty()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(metric(&app, replaced).await, 2.0, "the guest was not asked");
    assert_eq!(store.get("ada").unwrap(), Some(poisoned), "what is kept is kept");
    assert_eq!(get(&app, "/v1/users/bob/recommendations").await["rung"], "live");

    let (status, _) = call(&app, "DELETE", "/v1/users/ada", Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metric(&app, quarantined).await, 0.0);
    assert_eq!(call(&app, "POST", "/v1/users/ada/events", event).await.0, StatusCode::OK);
    assert_eq!(get(&app, "/v1/users/ada/recommendations").await["rung"], "live");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_delays_a_delta_by_a_round_only() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let options = Options { users_open_max: 1, ..central.options(folder.path()) };
    let edge = store.edge(options, &guest()).await;
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &twenty("tent")).await;
    recommended(&app, "bob", 1).await;

    store.away.store(true, Ordering::SeqCst);
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Edge(EdgeError::Store(_))), "{error}");
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(edge.sync_now().await.unwrap().settled, 1);
}

#[tokio::test]
async fn a_full_queue_delays_a_delta_by_a_round_only() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let options = Options { workers: 1, ..central.options(folder.path()) };
    let edge = Edge::start(options, &guest()).await.unwrap();
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &twenty("tent")).await;

    // One call holds the worker; others fill its queue until no more fit.
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut calls = tokio::task::JoinSet::new();
    let held = Arc::clone(&edge);
    calls.spawn(async move {
        let hold = move |_: &mut _| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            Ok(())
        };
        held.pool().run("ada", hold).await
    });
    begins.await.unwrap();
    let full = Arc::new(AtomicBool::new(false));
    while !full.load(Ordering::SeqCst) {
        let (edge, full) = (Arc::clone(&edge), Arc::clone(&full));
        calls.spawn(async move {
            let result = edge.pool().run("bob", |_| Ok(())).await;
            full.fetch_or(matches!(result, Err(EdgeError::Busy { .. })), Ordering::SeqCst);
            Ok(())
        });
        tokio::task::yield_now().await;
    }
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Edge(EdgeError::Busy { .. })), "{error}");

    go_on.send(()).unwrap();
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
    assert_eq!(edge.sync_now().await.unwrap().settled, 1);
}

/// The runtime has one thread: whatever blocks it stops every call.
#[tokio::test(flavor = "current_thread")]
async fn a_disk_that_keeps_a_model_waiting_stops_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let edge = central.edge(folder.path()).await;
    let app = app(Arc::clone(&edge));
    // A pipe takes a write only when somebody reads.
    let pipe = folder.path().join(MODEL_FILE).with_added_extension("next");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    central.shared.lock().unwrap().publish();

    let (served, waits) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let in_time = waits.recv_timeout(Duration::from_secs(10)).is_ok();
        std::fs::read(pipe).unwrap();
        in_time
    });
    let sync = tokio::spawn(Arc::clone(&edge).sync_now());
    let version = edge.pool().model().unwrap().info.version;
    // Until the model has been fetched and waits for the disk.
    while !central.shared.lock().unwrap().fetched.iter().any(|name| name.ends_with(".patch")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(recommended(&app, "ada", 5).await.len(), 5);
    served.send(()).unwrap();
    assert!(reader.join().unwrap(), "calls were served before the disk had taken the model");
    // A pipe cannot be flushed: the model of before stays.
    let error = sync.await.unwrap().unwrap_err();
    assert!(matches!(error, SyncError::Disk { .. }), "{error}");
    assert_eq!(edge.pool().model().unwrap().info.version, version);
}
