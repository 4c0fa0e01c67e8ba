//! What the made shop must show, and what its server must send.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use nearfield_shop::catalogue::{Made, describe, generate};
use nearfield_shop::events::{Event, read, write};
use nearfield_shop::products::{CATEGORIES, STYLES};
use nearfield_shop::serve::{ServeOptions, app};
use nearfield_shop::sessions::split;
use nearfield_shop::shoppers::{Plan, Shop, open};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;
use tower::ServiceExt as _;

static SHOP: LazyLock<Shop> = LazyLock::new(|| open(&Plan::default()));

/// Index of each product by its id.
static INDEX: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
    SHOP.products.iter().enumerate().map(|(index, product)| (product.id.as_str(), index)).collect()
});

/// Each person's items, in order.
fn by_user(events: &[Event]) -> HashMap<&str, Vec<(usize, u64)>> {
    let mut people: HashMap<&str, Vec<(usize, u64)>> = HashMap::new();
    for event in events {
        people.entry(&event.user).or_default().push((INDEX[event.item.as_str()], event.time_ms));
    }
    people
}

#[test]
fn the_shop_is_as_large_as_promised_and_in_time_order() {
    assert_eq!(SHOP.products.len(), 2400);
    assert!((80_000..=100_000).contains(&SHOP.events.len()), "{} events", SHOP.events.len());
    assert!(SHOP.events.is_sorted_by_key(|event| event.time_ms));
    let span_ms = SHOP.events[SHOP.events.len() - 1].time_ms - SHOP.events[0].time_ms;
    assert!((13..=14).contains(&(span_ms / 86_400_000)), "{span_ms} ms");
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    let plan = Plan { shoppers: 200, ..Plan::default() };
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
    generate(&plan, dirs[0].path()).expect("made");
    generate(&plan, dirs[1].path()).expect("made");
    generate(&Plan { seed: 8, ..plan }, dirs[2].path()).expect("made");
    for file in ["events.csv.gz", "catalogue.json", "items.csv", "shoppers.json"] {
        let [one, same, other] = [0, 1, 2].map(|n| std::fs::read(dirs[n].path().join(file)).expect(file));
        assert!(one == same, "{file} differs between two runs of one seed");
        assert!(one != other || file == "items.csv", "{file} does not depend on the seed");
    }
}

#[test]
fn arrivals_come_only_after_the_split_and_are_then_bought() {
    for until_fraction in [0.3, 0.5, 0.8] {
        let shop = open(&Plan { until_fraction, shoppers: 2000, ..Plan::default() });
        let arrivals: HashSet<&str> = shop
            .products
            .iter()
            .filter(|product| product.arrives_ms.is_some())
            .map(|product| product.id.as_str())
            .collect();
        let (before, after) = shop.events.split_at(split(shop.events.len(), until_fraction));
        assert_eq!(before.iter().filter(|event| arrivals.contains(event.item.as_str())).count(), 0);
        let share = after.iter().filter(|event| arrivals.contains(event.item.as_str())).count() as f64
            / after.len() as f64;
        assert!((0.03..0.4).contains(&share), "{share} of the later events at {until_fraction}");
    }
}

#[test]
fn one_step_leads_to_the_same_collection_and_look_far_above_chance() {
    let (mut steps, mut moves, mut same_line, mut same_style, mut same_category) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for items in by_user(&SHOP.events).values() {
        for pair in items.windows(2) {
            let ((a, from_ms), (b, to_ms)) = (pair[0], pair[1]);
            if a == b || to_ms - from_ms > 1_800_000 {
                continue;
            }
            let (a, b) = (&SHOP.products[a], &SHOP.products[b]);
            steps += 1.0;
            same_style += f64::from(a.style == b.style);
            same_category += f64::from(a.category == b.category);
            if a.category != b.category {
                moves += 1.0;
                same_line += f64::from(a.line == b.line);
            }
        }
    }
    // Chance: 1 in 100 collections, 1 in 5 looks, 1 in 24 shelves.
    assert!(same_line / moves > 0.15, "same collection {}", same_line / moves);
    assert!(same_style / steps > 3.0 / STYLES.len() as f64, "same look {}", same_style / steps);
    assert!(same_category / steps > 8.0 / CATEGORIES.len() as f64, "same shelf {}", same_category / steps);
}

/// Hit rate of two lists of ten on later visits: what followed the last item before, and what was popular.
#[test]
fn following_what_others_did_next_beats_popularity() {
    let (before, after) = SHOP.events.split_at(split(SHOP.events.len(), 0.5));
    let mut popular = vec![0usize; SHOP.products.len()];
    let mut next: HashMap<usize, HashMap<usize, usize>> = HashMap::new();
    for items in by_user(before).values() {
        for pair in items.windows(2) {
            *next.entry(pair[0].0).or_default().entry(pair[1].0).or_default() += 1;
        }
        for (item, _) in items {
            popular[*item] += 1;
        }
    }
    let mut top: Vec<usize> = (0..popular.len()).collect();
    top.sort_by_key(|item| std::cmp::Reverse(popular[*item]));
    top.truncate(10);

    let (mut asked, mut personal_hits, mut popular_hits) = (0, 0, 0);
    for items in by_user(after).values() {
        for pair in items.windows(2).filter(|pair| pair[0].0 != pair[1].0) {
            let (last, target) = (pair[0].0, pair[1].0);
            asked += 1;
            popular_hits += usize::from(top.contains(&target));
            if let Some(followers) = next.get(&last) {
                let mut list: Vec<(&usize, &usize)> = followers.iter().collect();
                list.sort_by_key(|(item, count)| (std::cmp::Reverse(**count), **item));
                personal_hits += usize::from(list.iter().take(10).any(|(item, _)| **item == target));
            }
        }
    }
    let rate = |hits: usize| hits as f64 / f64::from(asked);
    assert!(rate(personal_hits) > 0.15, "followers hit {}", rate(personal_hits));
    assert!(
        rate(personal_hits) > 4.0 * rate(popular_hits),
        "followers {} against popular {}",
        rate(personal_hits),
        rate(popular_hits)
    );
}

#[test]
fn people_come_back_to_what_they_saw() {
    let (mut all, mut repeats) = (0u32, 0u32);
    for items in by_user(&SHOP.events).values() {
        let mut seen = HashSet::new();
        for (item, _) in items {
            all += 1;
            repeats += u32::from(!seen.insert(*item));
        }
    }
    let share = f64::from(repeats) / f64::from(all);
    assert!((0.1..0.45).contains(&share), "{share} of the events repeat an item");
}

#[test]
fn the_files_agree_with_each_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let made = generate(&Plan { shoppers: 1500, ..Plan::default() }, dir.path()).expect("the files are made");
    let events = read(&dir.path().join("events.csv.gz")).expect("the log is read");
    let catalogue = json(&dir.path().join("catalogue.json"));
    let shoppers = json(&dir.path().join("shoppers.json"));
    assert_eq!(catalogue["named"], true);
    let items = catalogue["items"].as_array().expect("a list");
    assert_eq!((items.len(), events.len()), (made.items, made.events));
    let item = &items[0];
    assert!(item["name"].is_string() && item["price"].is_u64() && item["art"]["glyph"] == "tent", "{item}");
    assert!(items.iter().any(|item| item["new"] == true));

    let after = &events[split(events.len(), 0.5)..];
    let replayed: usize = shoppers["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|session| session[2].as_array().expect("steps").len())
        .sum();
    assert_eq!(replayed, after.len());
    let (first, start) = (&shoppers["sessions"][0], &after[0]);
    let place = first[2][0][0].as_u64().expect("an index") as usize;
    assert_eq!(items[place]["id"], start.item.as_str());
    assert_eq!(shoppers["kinds"][first[2][0][2].as_u64().expect("a kind") as usize], start.kind.as_str());
    assert_eq!(catalogue["split_ms"].as_u64(), Some(start.time_ms));
}

#[test]
fn a_real_file_gives_every_id_and_no_names() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let log = dir.path().join("clicks.csv");
    std::fs::write(&log, "user,item,timestamp\n1,x,1000\n1,y,1010\n2,x,5000\n2,z,5010\n").expect("written");
    let made = describe(&log, 0.5, dir.path()).expect("described");
    assert_eq!(made, Made { items: 3, arrivals: 1, events: 4, sessions: 1, left_out: 0 });
    let catalogue = json(&dir.path().join("catalogue.json"));
    assert_eq!(
        catalogue,
        serde_json::json!({"named": false, "split_ms": 5_000_000, "items": [
            {"id": "x"}, {"id": "y"}, {"id": "z", "new": true},
        ]})
    );
    let rows = std::fs::read_to_string(dir.path().join("items.csv")).expect("read");
    assert_eq!(rows, "item_id\nx\ny\nz\n");
}

#[test]
fn a_split_that_leaves_nothing_to_replay_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let error = generate(&Plan { until_fraction: 1.0, ..Plan::default() }, dir.path()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "--until-fraction 1 leaves no event on one side of the split; it must be from 0.1 to 0.9"
    );
}

/// A page, a package and data of a few bytes.
fn options(dir: &Path) -> ServeOptions {
    for (path, text) in [
        ("www/index.html", "<title>shop</title>"),
        ("www/src/page.js", "export {}"),
        ("www/shop/Cargo.toml", "[package]"),
        ("package/index.js", "export {}"),
        ("package/nearfield_bg.wasm", "\0asm"),
        ("data/catalogue.json", "{\"named\":true,\"items\":[]}"),
        ("data/shoppers.json", "{}"),
    ] {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let event = Event {
        user: "u".into(),
        item: "i".into(),
        time_ms: 1,
        kind: nearfield_shop::events::EventKind::View,
    };
    write(&dir.join("data/events.csv.gz"), &[event]).expect("written");
    ServeOptions {
        www: dir.join("www"),
        package: dir.join("package"),
        data: dir.join("data"),
        vendor: None,
        endpoint: "http://127.0.0.1:7801/".to_owned(),
        public_key: "ab".repeat(32),
        site: "demo".to_owned(),
        edge: None,
        streams: false,
    }
}

async fn fetch(options: &ServeOptions, path: &str) -> (StatusCode, HashMap<String, String>, Vec<u8>) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let reply = app(options).expect("an app").oneshot(request).await.expect("a reply");
    let headers = reply
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    let status = reply.status();
    (status, headers, reply.into_body().collect().await.expect("a body").to_bytes().to_vec())
}

#[tokio::test]
async fn the_page_is_cross_origin_isolated_and_wasm_has_its_type() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = options(dir.path());
    for (path, kind) in [
        ("/", "text/html"),
        ("/src/page.js", "text/javascript"),
        ("/nearfield/nearfield_bg.wasm", "application/wasm"),
    ] {
        let (status, headers, _) = fetch(&options, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(headers["content-type"].starts_with(kind), "{path} is {}", headers["content-type"]);
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers["cross-origin-embedder-policy"], "require-corp");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        let policy = &headers["content-security-policy"];
        assert!(
            policy.contains("'wasm-unsafe-eval'")
                && policy.contains("connect-src 'self' http://127.0.0.1:7801;")
        );
    }
    let (_, _, config) = fetch(&options, "/config.json").await;
    assert_eq!(
        serde_json::from_slice::<Value>(&config).expect("JSON"),
        serde_json::json!({
            "endpoint": "http://127.0.0.1:7801", "publicKey": "ab".repeat(32), "site": "demo", "named": true,
        })
    );
}

#[tokio::test]
async fn neither_the_log_nor_the_crate_is_served() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = options(dir.path());
    for path in ["/data/events.csv.gz", "/shop/Cargo.toml", "/src/../shop/Cargo.toml", "/nothing"] {
        assert_eq!(fetch(&options, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn wrong_options_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let good = options(dir.path());
    let refused = |options: ServeOptions| app(&options).map(|_| ()).expect_err("refused").to_string();
    assert_eq!(
        refused(ServeOptions { public_key: "ab".to_owned(), ..good.clone() }),
        "--public-key must be 64 hex digits, but has 2 characters or others than hex digits"
    );
    assert_eq!(
        refused(ServeOptions { endpoint: "http://x; script-src *".to_owned(), ..good.clone() }),
        "--endpoint must be an http:// or https:// address without spaces, but is \"http://x; script-src *\""
    );
    let bare = ServeOptions { package: dir.path().join("none"), ..good };
    assert!(refused(bare).ends_with("none: index.js is not there"));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}
