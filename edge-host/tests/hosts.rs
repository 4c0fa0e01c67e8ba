//! Several hosts on the same users, in real servers: no event is lost or doubled, whoever writes when.

mod support;

use nearfield_edge::abi::ListRequest;
use nearfield_edge::service::fallback::Rung;
use nearfield_edge::{Edge, Options, UsersIn};
use nearfield_engine::{Event, Kind};
use nearfield_services::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{FakeCentral, GROUP, guest};
use tempfile::TempDir;

/// Events that two hosts learn between them.
const EVENTS: usize = 10_000;

fn on(redis: &Server, cache: Option<&Server>, options: Options) -> Options {
    let address = format!("redis://{}", redis.endpoint());
    let users_cache = cache.map(Server::endpoint);
    Options { users: UsersIn::Redis { address, keep: None }, users_cache, ..options }
}

/// Starts a host on these servers, with a data folder of its own.
async fn host(central: &FakeCentral, redis: &Server, cache: Option<&Server>) -> (TempDir, Arc<Edge>) {
    let folder = tempfile::tempdir().unwrap();
    let options = on(redis, cache, central.options(folder.path()));
    let edge = Edge::start(options, &guest()).await.unwrap();
    (folder, edge)
}

fn event(user: usize, number: usize) -> Event {
    let item = format!("{}-{}", ["tent", "boot"][number % 2], number * 5 % GROUP);
    let id = format!("{user}/{number}");
    let time_ms = 1_700_000_000_000 + number as u64;
    Event { event_id: Some(id), ..Event::new(Kind::View, item, time_ms) }
}

/// Two hosts learn interleaved events of the same few users. Each user's events are numbered by their times: what is
/// kept of the user afterwards tells which were learnt, how often, and that no two hosts saw different pasts.
async fn interleaved(redis: &Server, cache: Option<&Server>) {
    let central = FakeCentral::start();
    let (_north, north) = host(&central, redis, cache).await;
    let (_south, south) = host(&central, redis, cache).await;
    // A history keeps 512 events at least, so each of these users fits.
    let users = EVENTS.div_ceil(500);
    let mut tasks = tokio::task::JoinSet::new();
    for user in 0..users {
        for (half, edge) in [&north, &south].into_iter().enumerate() {
            let edge = Arc::clone(edge);
            tasks.spawn(async move {
                // The tenth of them is told twice, to the two hosts at once.
                for number in (0..500).filter(|number| number % 2 == half || number % 10 == 0) {
                    let events = vec![event(user, number)];
                    let name = format!("user-{user}");
                    if number % 3 == 0 {
                        let (_, list) = edge.observe(&name, events, ListRequest::default()).await.unwrap();
                        assert_eq!(list.rung, Rung::Live);
                    } else {
                        edge.learn(&name, events).await.unwrap();
                    }
                }
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    for user in 0..users {
        let (kept, _) = north.export(&format!("user-{user}")).await.unwrap();
        let mut counts = BTreeMap::new();
        for seen in &kept.history {
            *counts.entry(seen.time_ms - 1_700_000_000_000).or_insert(0) += 1;
        }
        assert_eq!(
            counts,
            (0..500).map(|number| (number, 1)).collect(),
            "user-{user}: none lost, none doubled"
        );
        // Each host told its events in their order, so they lie in that order among one another.
        for half in 0..2 {
            let own = kept
                .history
                .iter()
                .map(|seen| seen.time_ms)
                .filter(|time| time % 10 != 0 && time % 2 == half);
            assert!(own.is_sorted(), "user-{user}");
        }
        assert_eq!(south.export(&format!("user-{user}")).await.unwrap().0, kept);
    }
    let conflicts = |edge: &Edge| {
        let text = edge.metrics().render();
        let line = text.lines().find_map(|line| line.strip_prefix("nearfield_edge_conflicts_total "));
        line.map_or(0.0, |count| count.parse::<f64>().unwrap())
    };
    let conflicts = conflicts(&north) + conflicts(&south);
    println!("{EVENTS} events of {users} users on two hosts, {conflicts} steps done again");
    assert!(conflicts > 0.0, "the hosts did meet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_on_one_redis_lose_and_double_no_event() {
    interleaved(&Server::redis_with(&["--appendonly", "yes"]).unwrap(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_on_one_redis_behind_memcached_lose_and_double_no_event() {
    let (redis, memcached) =
        (Server::redis_with(&["--appendonly", "yes"]).unwrap(), Server::memcached().unwrap());
    interleaved(&redis, Some(&memcached)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_of_shared_users_reach_central_once() {
    let redis = Server::redis().unwrap();
    let central = FakeCentral::start();
    let (_north, north) = host(&central, &redis, None).await;
    let (_south, south) = host(&central, &redis, None).await;
    for user in 0..40 {
        let events = (0..20).map(|number| event(user, number)).collect();
        [&north, &south][user % 2].learn(&format!("user-{user}"), events).await.unwrap();
    }
    // Both look for what is due at the same time.
    let rounds = tokio::join!(Arc::clone(&north).sync_now(), Arc::clone(&south).sync_now());
    let settled = rounds.0.map_or(0, |round| round.settled) + rounds.1.map_or(0, |round| round.settled);
    for _ in 0..3 {
        Arc::clone(&south).sync_now().await.unwrap();
    }
    let shared = central.shared.lock().unwrap();
    assert_eq!(
        shared.admitted.len(),
        40,
        "{settled} settled in the first rounds, {} sent twice",
        shared.duplicates
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_events_wait_and_lists_go_on() {
    let mut redis = Server::redis().unwrap();
    let central = FakeCentral::start();
    let (_folder, edge) = host(&central, &redis, None).await;
    let request = ListRequest::default();
    edge.learn("ada", (0..20).map(|number| event(0, number)).collect()).await.unwrap();
    let own = edge.recommend("ada", &request, None).await.unwrap();
    assert_eq!(own.rung, Rung::Live);

    redis.kill();
    let error = edge.learn("ada", vec![event(0, 20)]).await.unwrap_err();
    assert_eq!(error.code(), "store");
    let last = edge.recommend("ada", &request, None).await.unwrap();
    assert_eq!(last.rung, Rung::Last);
    let ids = |list: &nearfield_edge::service::fallback::Recommendations| -> Vec<String> {
        list.items.iter().map(|item| item.item_id.clone()).collect()
    };
    assert_eq!(ids(&last), ids(&own));
    assert_eq!(edge.recommend("bob", &request, None).await.unwrap().rung, Rung::Popular);

    redis.up().unwrap();
    let mut list = edge.recommend("ada", &request, None).await.unwrap();
    for _ in 0..100 {
        if list.rung == Rung::Live {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        list = edge.recommend("ada", &request, None).await.unwrap();
    }
    assert_eq!(list, own);
    edge.learn("ada", vec![event(0, 20)]).await.unwrap();
    assert_eq!(edge.export("ada").await.unwrap().0.history.len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_files_are_shared_in_redis_and_checked_by_hash() {
    let redis = Server::redis_with(&[]).unwrap();
    let address = format!("redis://{}", redis.endpoint());
    let mut central = FakeCentral::start();
    let folders: Vec<TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let start = async |central: &FakeCentral, folder: &TempDir| {
        let options = Options { models: Some(address.clone()), ..central.options(folder.path()) };
        Edge::start(options, &guest()).await
    };
    let north = start(&central, &folders[0]).await.unwrap();
    let fetched = |central: &FakeCentral| std::mem::take(&mut central.shared.lock().unwrap().fetched);
    assert_eq!(fetched(&central), ["latest", "2.pack"]);
    let south = start(&central, &folders[1]).await.unwrap();
    assert_eq!(fetched(&central), ["latest"], "the pack came from Redis");
    central.shared.lock().unwrap().publish();
    Arc::clone(&north).sync_now().await.unwrap();
    Arc::clone(&south).sync_now().await.unwrap();
    assert_eq!(fetched(&central), ["latest", "2..3.patch", "latest"], "the patch, too");
    // A host that is new takes the pack, which nobody has shared yet.
    start(&central, &folders[2]).await.unwrap();
    assert_eq!(fetched(&central), ["latest", "3.pack"]);

    // Without central a new host finds manifest and pack.
    central.down();
    let east = start(&central, &folders[3]).await.unwrap();
    assert_eq!(east.pool().model().unwrap().info, north.pool().model().unwrap().info);

    // What was changed in Redis is not taken.
    let client = redis::Client::open(address.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let files: Vec<String> =
        redis::cmd("KEYS").arg("nf:{camp}:file:*").query_async(&mut connection).await.unwrap();
    assert_eq!(files.len(), 3);
    for file in files {
        redis::cmd("SETRANGE")
            .arg(file)
            .arg(100)
            .arg("damage")
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
    }
    central.up();
    let west = tempfile::tempdir().unwrap();
    start(&central, &west).await.unwrap();
    assert_eq!(fetched(&central), ["latest", "3.pack"]);
}

/// The hours that have passed beside the system's clock.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

/// A day without central and without Redis, by a clock that is moved on: whoever asks gets a list, and afterwards
/// everything goes on. `NEARFIELD_DAY_STEPS` says in how many steps the day passes (48).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn central_and_redis_are_away_for_a_day_and_no_list_fails() {
    let steps: u64 = std::env::var("NEARFIELD_DAY_STEPS").map_or(48, |steps| steps.parse().unwrap());
    let mut redis = Server::redis().unwrap();
    let mut central = FakeCentral::start();
    let folder = tempfile::tempdir().unwrap();
    let now_ms = || nearfield_edge::system_now_ms() + AHEAD_MS.load(Ordering::SeqCst);
    let options = Options { now_ms, ..on(&redis, None, central.options(folder.path())) };
    let edge = Edge::start(options, &guest()).await.unwrap();
    for user in 0..20 {
        edge.learn(&format!("user-{user}"), (0..20).map(|number| event(user, number)).collect())
            .await
            .unwrap();
        edge.recommend(&format!("user-{user}"), &ListRequest::default(), None).await.unwrap();
    }

    redis.kill();
    central.down();
    let mut rungs: BTreeMap<&str, u32> = BTreeMap::new();
    let mut refused = 0;
    for step in 0..steps {
        AHEAD_MS.store((step + 1) * 24 * 60 * 60 * 1000 / steps, Ordering::SeqCst);
        for user in (0..4).map(|user| format!("user-{}", (step * 7 + user * 5) % 24)) {
            let deadline = Some(Instant::now() + Duration::from_secs(2));
            let list = edge.recommend(&user, &ListRequest::default(), deadline).await.unwrap();
            assert!(!list.items.is_empty());
            *rungs.entry(list.rung.as_str()).or_default() += 1;
        }
        refused += u32::from(edge.learn("user-1", vec![event(1, 20 + step as usize)]).await.is_err());
        Arc::clone(&edge).sync_now().await.unwrap_err();
    }
    println!(
        "a day in {steps} steps: lists by rung {rungs:?}, none failed; {refused} events refused, not acknowledged"
    );
    assert_eq!(refused as u64, steps);
    assert_eq!(rungs.values().sum::<u32>() as u64, 4 * steps);
    assert!(rungs["last"] > 0 && rungs["popular"] > 0 && !rungs.contains_key("live"));

    redis.up().unwrap();
    central.shared.lock().unwrap().ahead_ms = AHEAD_MS.load(Ordering::SeqCst);
    central.up();
    let until = Instant::now() + Duration::from_secs(30);
    while edge.recommend("user-3", &ListRequest::default(), None).await.unwrap().rung != Rung::Live {
        assert!(Instant::now() < until, "lists are live again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for user in 0..20 {
        let kept = edge.export(&format!("user-{user}")).await.unwrap().0;
        assert_eq!(kept.history.len(), 20, "user-{user}: what was acknowledged is kept");
    }
    assert_eq!(Arc::clone(&edge).sync_now().await.unwrap().settled, 20);
}

#[tokio::test]
async fn a_store_that_is_away_at_the_start_stops_it() {
    let central = FakeCentral::start();
    let folder = tempfile::tempdir().unwrap();
    let (mut redis, mut memcached) = (Server::redis().unwrap(), Server::memcached().unwrap());
    let options = on(&redis, Some(&memcached), central.options(folder.path()));
    memcached.kill();
    let error = Edge::start(options.clone(), &guest()).await.err().unwrap().to_string();
    assert!(error.starts_with("user store could not reach its cache: 127.0.0.1:"), "{error}");
    redis.kill();
    let error = Edge::start(options, &guest()).await.err().unwrap().to_string();
    assert!(error.starts_with("redis does not answer"), "{error}");
}
