//! Central and Redis are killed again and again while two edges serve: no list fails, and no event that was
//! acknowledged is lost or counted twice.
//!
//! `NEARFIELD_EDGE_KILLS` says how often (4).

mod support;

use nearfield_services::Server;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::Fleet;

/// Clients that tell events and ask for lists at the same time.
const CLIENTS: u64 = 8;
/// Most events of a user: a history keeps them all.
const EVENTS_A_USER: u64 = 400;

#[derive(Default)]
struct Tally {
    lists: AtomicU64,
    refused: AtomicU64,
    rungs: Mutex<BTreeMap<String, u64>>,
    failed: Mutex<Vec<String>>,
    /// Times of the events that were acknowledged, by user.
    acknowledged: Mutex<HashMap<String, Vec<u64>>>,
}

/// One client: tells an event until it is acknowledged, on the one edge or the other, and asks for a list each time.
async fn shop(
    client: reqwest::Client,
    edges: [String; 2],
    number: u64,
    tally: Arc<Tally>,
    done: Arc<AtomicBool>,
) {
    let mut step = 0u64;
    while !done.load(Ordering::SeqCst) {
        let user = format!("client-{number}-{}", step / EVENTS_A_USER);
        let time_ms = 1_700_000_000_000 + step;
        let item = format!("i{}", (number * 7 + step * 3) % 40);
        let event = json!({ "kind": "click", "item_id": item, "time_ms": time_ms, "event_id": format!("{user}/{step}") });
        for turn in 0.. {
            let edge = &edges[((step + turn) % 2) as usize];
            let list = client
                .get(format!("{edge}/v1/users/{user}/recommendations?count=5&scenario=continue"))
                .send()
                .await;
            let list: Value = match list {
                Ok(list) if list.status() == 200 => {
                    serde_json::from_str(&list.text().await.unwrap()).unwrap()
                }
                other => {
                    tally.failed.lock().unwrap().push(format!("{other:?}"));
                    continue;
                }
            };
            tally.lists.fetch_add(1, Ordering::SeqCst);
            if list["items"].as_array().is_none_or(|items| items.len() != 5) {
                tally.failed.lock().unwrap().push(list.to_string());
            }
            let rung = list["rung"].as_str().unwrap_or("none").to_owned();
            *tally.rungs.lock().unwrap().entry(rung).or_default() += 1;

            let url = format!("{edge}/v1/users/{user}/events");
            match client.post(url).body(event.to_string()).send().await {
                Ok(answer) if answer.status() == 200 => break,
                _ => tally.refused.fetch_add(1, Ordering::SeqCst),
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            if done.load(Ordering::SeqCst) {
                // It may be kept or not: nobody said.
                return;
            }
        }
        tally.acknowledged.lock().unwrap().entry(user).or_default().push(time_ms);
        step += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_central_and_redis_fail_no_list_and_lose_no_acknowledged_event() {
    let kills: u64 = std::env::var("NEARFIELD_EDGE_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let fleet = Fleet::trained();
    let mut redis = Server::redis().unwrap_or_else(|error| panic!("{error}"));
    let mut central = Some(fleet.central());
    let users = format!("redis://{}", redis.endpoint());
    let (_north, north) = fleet.edge_with("north", &["--users", &users]);
    let (_south, south) = fleet.edge_with("south", &["--users", &users]);

    let tally = Arc::new(Tally::default());
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let edges = [north.clone(), south.clone()];
            tokio::spawn(shop(fleet.client.clone(), edges, number, Arc::clone(&tally), Arc::clone(&done)))
        })
        .collect();
    let started = Instant::now();
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(300 + kill * 137 % 400)).await;
        // Central, Redis, both, in turn.
        if kill % 3 != 1 {
            drop(central.take());
        }
        if kill % 3 != 0 {
            redis.kill();
        }
        tokio::time::sleep(Duration::from_millis(100 + kill * 211 % 600)).await;
        redis.up().unwrap_or_else(|error| panic!("{error}"));
        if central.is_none() {
            central = Some(fleet.central());
        }
    }
    // Long enough for events to be taken again.
    let before = tally.acknowledged.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let until = Instant::now() + Duration::from_secs(30);
    while tally.acknowledged.lock().unwrap().values().map(Vec::len).sum::<usize>() < before + 100 {
        assert!(Instant::now() < until, "events are not taken again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }

    let acknowledged = std::mem::take(&mut *tally.acknowledged.lock().unwrap());
    let (mut lost, mut doubled) = (0, 0);
    for (user, times) in &acknowledged {
        let kept =
            fleet.client.get(format!("{south}/v1/users/{user}")).send().await.unwrap().text().await.unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for seen in kept["history"].as_array().unwrap_or_else(|| panic!("{kept}")) {
            *counts.entry(seen["time_ms"].as_u64().unwrap()).or_default() += 1;
        }
        lost += times.iter().filter(|time| !counts.contains_key(time)).count();
        doubled += counts.values().filter(|count| **count > 1).count();
    }
    let events: usize = acknowledged.values().map(Vec::len).sum();
    let failed = std::mem::take(&mut *tally.failed.lock().unwrap());
    println!(
        "{kills} kills in {:.0} s: {} lists, {} failed, rungs {:?}; {events} events acknowledged, {lost} lost, \
         {doubled} doubled, {} tries refused meanwhile",
        started.elapsed().as_secs_f64(),
        tally.lists.load(Ordering::SeqCst),
        failed.len(),
        tally.rungs.lock().unwrap(),
        tally.refused.load(Ordering::SeqCst),
    );
    assert_eq!(failed.len(), 0, "{:?}", failed.first());
    assert_eq!((lost, doubled), (0, 0));

    // What the edges' people taught reaches central, each delta once.
    let central_metrics = format!("http://{}", fleet.metrics);
    fleet.reaches(&central_metrics, "nearfield_deltas_acknowledged_total", 1).await;
}
