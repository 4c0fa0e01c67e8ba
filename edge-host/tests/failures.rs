//! An edge parts of which fail: it refuses what it cannot keep, goes on recommending, and its other users
//! notice nothing.

mod support;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::StatusCode;
use nearfield_edge::abi::{ListRequest, ModelInfo};
use nearfield_edge::error::EdgeError;
use nearfield_edge::host::sandbox::Limits;
use nearfield_edge::service::fallback::{BuiltIn, Rung};
use nearfield_edge::users::redb::RedbUsers;
use nearfield_edge::users::{Due, Outbox, Record, StoreError, UserStore, Version, Versioned};
use nearfield_edge::watched::Watched;
use nearfield_edge::{Edge, MODEL_FILE, Options, SyncError, USERS_FILE, app};
use nearfield_engine::{Lineage, ModelVersion};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::hostile::{self, Misdeed};
use support::{FakeCentral, call, get, guest, learn, metric, recommended, twenty};

/// A store that can be taken away.
struct Flaky {
    users: RedbUsers,
    away: AtomicBool,
    /// How long a write takes, in milliseconds.
    slow_ms: AtomicU64,
}

impl Flaky {
    fn open(folder: &Path) -> Arc<Self> {
        let users = RedbUsers::open(&folder.join(USERS_FILE)).unwrap();
        Arc::new(Self { users, away: AtomicBool::new(false), slow_ms: AtomicU64::new(0) })
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

#[async_trait]
impl UserStore for Flaky {
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        self.check()?;
        self.users.get(user).await
    }

    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError> {
        self.check()?;
        tokio::time::sleep(Duration::from_millis(self.slow_ms.load(Ordering::SeqCst))).await;
        self.users.put_if(user, expected, next).await
    }

    async fn erase(&self, user: &str) -> Result<bool, StoreError> {
        self.check()?;
        self.users.erase(user).await
    }

    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.check()?;
        self.users.pending(now_ms, after, limit).await
    }
}

fn code(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["code"].clone()
}

fn rung(list: &Value) -> (&str, usize) {
    (list["rung"].as_str().unwrap(), list["items"].as_array().unwrap().len())
}

#[tokio::test]
async fn while_the_store_is_away_events_are_refused_and_lists_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let edge = store.edge(central.options(folder.path()), &guest()).await;
    let app = app(edge);
    let popular = recommended(&app, "nobody", 10).await;
    learn(&app, "ada", &twenty("tent")).await;
    let own = recommended(&app, "ada", 10).await;
    assert_ne!(own, popular);
    learn(&app, "bob", &twenty("boot")).await;

    store.away.store(true, Ordering::SeqCst);
    for (user, wanted, list_wanted) in
        [("ada", "last", &own), ("bob", "popular", &popular), ("cleo", "popular", &popular)]
    {
        let uri = format!("/v1/users/{user}/events");
        let (status, body) = call(&app, "POST", &uri, twenty("boot").to_string()).await;
        assert_eq!((status, code(&body)), (StatusCode::SERVICE_UNAVAILABLE, json!("store")), "{user}");
        let list = get(&app, &format!("/v1/users/{user}/recommendations?count=10")).await;
        assert_eq!(rung(&list), (wanted, 10), "{user}");
        assert_eq!(&recommended(&app, user, 10).await, list_wanted, "{user}");
    }
    let counted = |rung: &str| format!("nearfield_edge_lists_total{{rung=\"{rung}\",reason=\"store\"}}");
    assert_eq!(metric(&app, &counted("last")).await, 2.0);
    assert_eq!(metric(&app, &counted("popular")).await, 4.0);
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::OK, "it recommends");

    // The store is back: lists are the users' own, without what was refused, and events are taken.
    store.away.store(false, Ordering::SeqCst);
    assert_eq!(recommended(&app, "ada", 10).await, own);
    assert_eq!(rung(&get(&app, "/v1/users/ada/recommendations").await).0, "live");
    assert_eq!(get(&app, "/v1/users/ada").await["history"].as_array().unwrap().len(), 20);
    learn(&app, "ada", &twenty("boot")).await;
}

#[tokio::test]
async fn events_whose_deadline_passes_half_way_are_learnt_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let options = Options { call_deadline: Duration::from_millis(50), ..central.options(folder.path()) };
    let app = app(store.edge(options, &guest()).await);
    store.slow_ms.store(400, Ordering::SeqCst);
    let (status, body) = call(&app, "POST", "/v1/users/ada/events", twenty("tent").to_string()).await;
    assert_eq!((status, code(&body)), (StatusCode::GATEWAY_TIMEOUT, json!("deadline")));
    assert_eq!(store.get("ada").await.unwrap(), None, "it is under way");
    for _ in 0..200 {
        if store.get("ada").await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(&app, "/v1/users/ada").await["history"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn without_model_and_store_the_list_is_the_one_of_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let mut central = FakeCentral::start();
    central.down();
    let store = Flaky::open(folder.path());
    let built_in = BuiltIn::from_lines("tent-1\n\nboot-2\n tent-3 \n");
    let options = Options { wait_for_model: true, built_in, ..central.options(folder.path()) };
    let app = app(store.edge(options, &guest()).await);
    store.away.store(true, Ordering::SeqCst);
    let list = get(&app, "/v1/users/ada/recommendations?count=2").await;
    assert_eq!(rung(&list), ("built_in", 2));
    assert_eq!(list["items"][1]["item_id"], "boot-2");
    assert_eq!(list["model_version"], Value::Null);
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::OK);
}

const INFO: ModelInfo = ModelInfo { lineage: Lineage(7), version: ModelVersion(2), rows: 24 };

/// Keeps a user whose state makes the hostile core misbehave.
async fn keep(store: &Flaky, user: &str, misdeed: Misdeed) -> Versioned {
    let outbox = Outbox::Due { at_ms: 1 };
    let record = Record { state: misdeed.mark().into_bytes(), outbox, ..Record::default() };
    let versioned = Versioned { version: Version::draw(), record };
    assert!(store.put_if(user, None, &versioned).await.unwrap());
    versioned
}

#[tokio::test]
async fn a_user_whose_state_traps_twice_is_quarantined_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let poisoned = keep(&store, "ada", Misdeed::Trap).await;
    let edge = store.edge(central.options(folder.path()), &hostile::core(INFO)).await;
    let app = app(edge);
    let replaced = "nearfield_edge_guests_replaced_total";
    let quarantined = "nearfield_edge_users_quarantined";
    let event = json!({ "kind": "view_item", "item_id": "tent-1" }).to_string();

    for code in ["guest", "guest", "quarantined", "quarantined"] {
        assert_eq!(rung(&get(&app, "/v1/users/ada/recommendations").await), ("popular", 20));
        let counted = format!("nearfield_edge_lists_total{{rung=\"popular\",reason=\"{code}\"}}");
        assert!(metric(&app, &counted).await >= 1.0, "{code}");
        learn(&app, "bob", &json!({ "kind": "view_item", "item_id": "tent-1" })).await;
    }
    assert_eq!((metric(&app, replaced).await, metric(&app, quarantined).await), (2.0, 1.0));

    let (status, body) = call(&app, "POST", "/v1/users/ada/events", event.clone()).await;
    assert_eq!((status, code(&body)), (StatusCode::CONFLICT, json!("quarantined")));
    let (status, _) = call(&app, "GET", "/v1/users/ada", Body::empty()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(metric(&app, replaced).await, 2.0, "the guest was not asked");
    assert_eq!(store.get("ada").await.unwrap(), Some(poisoned), "what is kept is kept");
    assert_eq!(rung(&get(&app, "/v1/users/bob/recommendations").await).0, "live");

    let (status, _) = call(&app, "DELETE", "/v1/users/ada", Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metric(&app, quarantined).await, 0.0);
    assert_eq!(call(&app, "POST", "/v1/users/ada/events", event).await.0, StatusCode::OK);
    assert_eq!(rung(&get(&app, "/v1/users/ada/recommendations").await).0, "live");
}

/// Whatever a core does with one user's state, it is stopped within two deadlines, and no neighbour fails or waits
/// longer than that. `NEARFIELD_HOSTILE_CALLS` says how many such calls are made (50).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_core_is_stopped_in_time_and_no_neighbour_notices() {
    let calls: u32 = std::env::var("NEARFIELD_HOSTILE_CALLS").map_or(50, |calls| calls.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let deadline = Duration::from_millis(200);
    let limits = Limits { memory_bytes_max: 64 << 20, call_deadline: deadline, ..Limits::default() };
    let options = Options { limits, ..central.options(folder.path()) };
    for call in 0..calls {
        // Two calls trap before a user is quarantined; each of these users makes one.
        keep(&store, &format!("villain-{call}"), Misdeed::ALL[call as usize % Misdeed::ALL.len()]).await;
    }
    let edge = store.edge(options, &hostile::core(INFO)).await;

    let done = Arc::new(AtomicBool::new(false));
    let neighbours: Vec<_> = (0..4)
        .map(|number| {
            let (edge, done) = (Arc::clone(&edge), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut longest, mut asked) = (Duration::ZERO, 0);
                while !done.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    let list =
                        edge.recommend(&format!("neighbour-{number}"), &ListRequest::default(), None).await;
                    assert_eq!(list.unwrap().rung, Rung::Live);
                    longest = longest.max(started.elapsed());
                    asked += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                (longest, asked)
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for call in 0..calls {
        let started = Instant::now();
        let error = edge.export(&format!("villain-{call}")).await.unwrap_err();
        longest = longest.max(started.elapsed());
        let looped = Misdeed::ALL[call as usize % Misdeed::ALL.len()] == Misdeed::Loop;
        assert_eq!(error.code(), if looped { "guest_deadline" } else { "guest" }, "{error}");
    }
    done.store(true, Ordering::SeqCst);
    println!("{calls} hostile calls, the longest {longest:?}, deadline {deadline:?}");
    assert!(longest < 2 * deadline, "{longest:?}");
    for neighbour in neighbours {
        let (longest, asked) = neighbour.await.unwrap();
        println!("a neighbour's {asked} lists, the longest wait {longest:?}");
        assert!(asked > 0 && longest < 2 * deadline, "{longest:?}");
    }
    let replaced = metric(&app(edge), "nearfield_edge_guests_replaced_total").await;
    assert_eq!(replaced, f64::from(calls));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_delays_a_delta_by_a_round_only() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    let edge = store.edge(central.options(folder.path()), &guest()).await;
    let app = app(Arc::clone(&edge));
    learn(&app, "ada", &twenty("tent")).await;

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
    let store = Flaky::open(folder.path());
    keep(&store, "villain", Misdeed::Loop).await;
    let due = Outbox::Due { at_ms: 0 };
    let record = Record { state: vec![1], outbox: due, ..Record::default() };
    assert!(store.put_if("ada", None, &Versioned { version: Version::draw(), record }).await.unwrap());
    let limits = Limits { call_deadline: Duration::from_secs(3), ..central.options(folder.path()).limits };
    let edge = store.edge(Options { limits, ..central.options(folder.path()) }, &hostile::core(INFO)).await;
    let app = app(Arc::clone(&edge));

    // One call holds the worker; others fill its queue until no more fit.
    let request = ListRequest::default();
    let mut calls = tokio::task::JoinSet::new();
    for user in 0..1100 {
        let (edge, request) = (Arc::clone(&edge), request.clone());
        let user = if user == 0 { "villain".to_owned() } else { format!("user-{user}") };
        calls.spawn(async move { edge.recommend(&user, &request, None).await.unwrap() });
        tokio::task::yield_now().await;
    }
    while metric(&app, "nearfield_edge_lists_total{rung=\"popular\",reason=\"busy\"}").await == 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = Arc::clone(&edge).sync_now().await.unwrap_err();
    assert!(matches!(error, SyncError::Edge(EdgeError::Busy { .. })), "{error}");
    assert_eq!(store.get("ada").await.unwrap().unwrap().record.outbox, due, "it is asked again");
    while let Some(list) = calls.join_next().await {
        assert!([Rung::Live, Rung::Popular].contains(&list.unwrap().rung), "no list failed");
    }
    store.erase("villain").await.unwrap();
    edge.sync_now().await.unwrap();
    assert_eq!(store.get("ada").await.unwrap().unwrap().record.outbox, Outbox::Empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_core_goes_into_service_while_calls_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let store = Flaky::open(folder.path());
    keep(&store, "villain", Misdeed::Trap).await;
    let options = Options { workers: 2, ..central.options(folder.path()) };
    let users = Arc::clone(&store) as Arc<dyn UserStore>;
    let edge = Edge::start_on(users, options, &hostile::core(INFO)).await.unwrap();
    for _ in 0..2 {
        edge.export("villain").await.unwrap_err();
    }
    assert_eq!(edge.export("villain").await.unwrap_err().code(), "quarantined");

    let done = Arc::new(AtomicBool::new(false));
    let (busy, stop) = (Arc::clone(&edge), Arc::clone(&done));
    let calls = tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            for user in ["ada", "bob", "cleo"] {
                let list = busy.recommend(user, &ListRequest::default(), None).await.unwrap();
                assert_eq!(list.rung, Rung::Live);
            }
        }
    });
    let before = edge.pool().core();
    let refused = edge.install_core(b"no module").await.unwrap_err();
    assert!(refused.to_string().contains("guest module cannot be used"), "{refused}");
    assert_eq!(edge.pool().core(), before);
    // The file of the core is exchanged, as a deployment would.
    let file = folder.path().join("core.wasm");
    std::fs::write(&file, hostile::core(INFO)).unwrap();
    let watched = Watched::open(&file, |path: &Path| std::fs::read(path)).unwrap();
    let watching = tokio::spawn(Arc::clone(&edge).watch_forever(watched));
    std::fs::write(&file, guest()).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while edge.pool().core() != blake3::hash(&guest()) {
        assert!(Instant::now() < until, "the new core is in service");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One worker after the other: the real core ranks, and gives every user a new chance.
    while edge.recommend("ada", &ListRequest::default(), None).await.unwrap().items.is_empty()
        || edge.export("villain").await.unwrap_err().code() != "state"
    {
        assert!(Instant::now() < until, "every worker has the new core");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    watching.abort();
    done.store(true, Ordering::SeqCst);
    calls.await.unwrap();
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
