//! A version that would turn the model over is held, until the operator wants it.

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{SITE, config, counts, delta_of, train_with};
use http_body_util::BodyExt;
use nearfield_central::ingest::queue::Unavailable;
use nearfield_central::ingest::token;
use nearfield_central::{Service, admin_app};
use nearfield_engine::{Delta, Hyperparameters, ModelVersion, Outcome, Window};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const ITEMS: u32 = 60;
const DIM: usize = 8;

/// Writes a shop of sixty items that some devices have taught, and that moves slowly: a step is bounded to
/// `step_max` of a typical row.
fn train(data: &Path, step_max: f32) {
    let mut hyper = Hyperparameters::starting_point();
    hyper.bounds.step_max = step_max;
    let mut window = Window::new();
    (1000..1200).for_each(|device| window.admit(&delta_of(device, ITEMS, DIM), device, &[]));
    train_with(data, ITEMS, DIM, hyper, window);
}

/// Publishes what waits at once, if nothing else speaks against it.
fn open(data: &Path) -> Arc<Service> {
    let mut config = config(data);
    config.publish_deltas = 60;
    Service::open(config).unwrap()
}

/// Sends sixty deltas of one device each, in one transaction.
async fn send(central: &Service, from: u64) -> Result<Vec<Outcome>, Unavailable> {
    let token = token::issue(&central.keys.device, SITE, [1; 16], u64::MAX);
    let deltas: Vec<Delta> = (from..from + 60).map(|number| delta_of(number, ITEMS, DIM)).collect();
    central.queue.sync(deltas, token.to_vec()).await
}

async fn served(central: &Service, version: u64) -> bool {
    for _ in 0..500 {
        if central.registry.served().version == ModelVersion(version) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn wait_for(central: &Service, line: &str) {
    for _ in 0..500 {
        if central.metrics.render().lines().any(|have| have == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{line} is not in\n{}", central.metrics.render());
}

async fn ask_to_publish(central: &Arc<Service>, token: &str) -> (StatusCode, String) {
    let request = Request::post("/v1/publish").header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::empty()).unwrap();
    let response = admin_app(central.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_version_that_moves_most_rows_to_their_bound_is_held_until_the_operator_asks_for_it() {
    let data = tempfile::tempdir().unwrap();
    train(data.path(), 0.001);
    let central = open(data.path());
    assert!(send(&central, 1).await.unwrap().iter().all(|outcome| *outcome == Outcome::Acknowledged));
    wait_for(&central, "nearfield_publish_held 1").await;
    assert_eq!(central.registry.served().version, ModelVersion(1), "the last version stays");
    // What comes meanwhile is taken, and held too.
    assert!(send(&central, 100).await.unwrap().iter().all(|outcome| *outcome == Outcome::Acknowledged));
    wait_for(&central, "nearfield_waiting_deltas 120").await;
    central.queue.stop();
    assert_eq!(central.registry.served().version, ModelVersion(1), "nor is it published at the end");
    counts(&central, "nearfield_publish_holds_total 1");
    drop(central);

    // A restart finds it in the log, and holds it again.
    let central = open(data.path());
    wait_for(&central, "nearfield_publish_held 1").await;
    wait_for(&central, "nearfield_waiting_deltas 120").await;
    let (status, _) = ask_to_publish(&central, "not the token").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    counts(&central, "nearfield_publish_held 1");

    let token = central.keys.admin_token.clone();
    assert_eq!(ask_to_publish(&central, &token).await, (StatusCode::OK, r#"{"version":2}"#.to_owned()));
    assert!(served(&central, 2).await);
    counts(&central, "nearfield_publish_held 0");
    central.queue.stop();
    drop(central);
    assert_eq!(open(data.path()).registry.served().version, ModelVersion(2), "the log replays");
}

#[tokio::test]
async fn a_version_within_the_bounds_is_published_by_itself() {
    let data = tempfile::tempdir().unwrap();
    train(data.path(), 4.0);
    let central = open(data.path());
    send(&central, 1).await.unwrap();
    assert!(served(&central, 2).await);
    counts(&central, "nearfield_publish_held 0");
    counts(&central, "nearfield_publish_holds_total 0");
}

#[tokio::test]
async fn one_delta_alone_holds_nothing() {
    let data = tempfile::tempdir().unwrap();
    train(data.path(), 0.001);
    let mut config = config(data.path());
    config.publish_deltas = 1;
    let central = Service::open(config).unwrap();
    let token = token::issue(&central.keys.device, SITE, [1; 16], u64::MAX);
    central.queue.sync(vec![delta_of(1, ITEMS, DIM)], token.to_vec()).await.unwrap();
    assert!(served(&central, 2).await);
}
