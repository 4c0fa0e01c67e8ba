//! Traces as an OpenTelemetry collector receives them, from the program itself.

mod support;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::tokens::hex;
use support::{FakeCentral, SITE};

/// Starts a collector that keeps what it is sent.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let received: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&received);
    let export = async move |body: Bytes| {
        kept.lock().unwrap().extend(body);
        // An empty answer, and that all is well.
        let ended = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(ended)];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>)));
        Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
    };
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let app = Router::new().route(path, axum::routing::post(export));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        nearfield_edge::listener::serve(listener, app, None, 10, stopping).await;
    });
    (address, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_goes_on_in_the_edge_without_the_user_in_it() {
    let (collector, received) = collector().await;
    let central = FakeCentral::start();
    let folder = tempfile::tempdir().unwrap();
    let nearfield_edge::Options { central: address, public_key: key, .. } = central.options(folder.path());
    let mut edge = Command::new(env!("CARGO_BIN_EXE_nearfield-edge"))
        .args(["--insecure", "--listen", "127.0.0.1:0", "--site", SITE, "--workers", "1"])
        .args(["--central", &address, "--public-key", &hex(&key), "--otlp", &collector])
        .arg("--data")
        .arg(folder.path())
        .arg("--guest")
        .arg(support::workspace().join("target/nearfield/nearfield_guest.wasm"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(edge.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let base = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line}")).to_owned();

    let _ = rustls::crypto::ring::default_provider().install_default();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = reqwest::Client::new()
        .post(format!("{base}/v1/users/ada-lovelace/observe"))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("x-request-id", "request-77")
        .body(r#"{"events": {"kind": "view", "item_id": "tent-1"}}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // It sends what waits before it ends.
    assert!(Command::new("kill").arg(edge.id().to_string()).status().unwrap().success());
    let until = Instant::now() + Duration::from_secs(20);
    while edge.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the edge does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let sent = received.lock().unwrap().clone();
    let has = |wanted: &[u8]| sent.windows(wanted.len()).any(|bytes| bytes == wanted);
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..][..2], 16).unwrap()).collect();
    assert!(has(&id), "the caller's trace");
    for name in ["nearfield-edge", SITE, "observe", "store.get", "guest", "store.put", "request-77", "live"] {
        assert!(has(name.as_bytes()), "{name} is missing");
    }
    for secret in ["ada", "lovelace", "tent-1"] {
        assert!(!has(secret.as_bytes()), "{secret} must not leave");
    }
}
