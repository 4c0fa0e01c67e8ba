//! The listener's own loop, over real sockets: slow clients, too many of them, and an orderly end.

mod common;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use common::{client, config, train};
use http_body_util::BodyExt;
use nearfield_central::http::Peer;
use nearfield_central::http::listener::{Connections, Times, serve};
use nearfield_central::{Config, Service, app, metrics_app};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, repeat};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::io::ReaderStream;
use tower::ServiceExt;

const HEAD: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(600);
const STALL: Duration = Duration::from_millis(900);
/// More than the buffers of both sockets take.
const LARGE: u64 = 64 << 20;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

impl Listener {
    /// Serves a greeting, the peer's address, and an answer that is larger than every buffer.
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/peer", get(|Extension(Peer(peer)): Extension<Peer>| async move { peer.to_string() }))
            .route(
                "/large",
                get(|| async { Body::from_stream(ReaderStream::new(repeat(b'x').take(LARGE))) }),
            );
        let mut config = Config::new("data".into(), "test");
        change(&mut config);
        let connections =
            Connections::new(&config).with_times(Times { head: HEAD, idle: IDLE, stall: STALL });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let ended = tokio::spawn(serve(listener, app, connections, stopped));
        Self { address, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Asks for the greeting on an open connection and reads the whole answer.
async fn greeted(stream: &mut TcpStream) {
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut part = [0; 512];
        let read = timeout(HEAD * 10, stream.read(&mut part)).await.expect("no answer").unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// Returns how long it takes until the other side has closed the connection.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    // An error is the end too: the connection was cut.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("never closed");
    started.elapsed()
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_head_is_closed() {
    let listener = Listener::start(|_| {}).await;
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = listener.connect().await;
        stream.write_all(sent).await.unwrap();
        let after = closed_after(&mut stream).await;
        assert!(after >= HEAD / 2 && after < HEAD * 5, "{after:?} with {:?}", String::from_utf8_lossy(sent));
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_does_not_hold_a_connection() {
    let listener = Listener::start(|_| {}).await;
    let stream = listener.connect().await;
    let (mut from, mut to) = stream.into_split();
    let drip = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a')) {
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(HEAD / 10).await;
        }
    });
    let mut rest = Vec::new();
    let _ = timeout(HEAD * 5, from.read_to_end(&mut rest)).await.expect("held");
    drip.abort();
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_is_closed_when_idle() {
    let listener = Listener::start(|_| {}).await;
    let mut stream = listener.connect().await;
    for _ in 0..3 {
        greeted(&mut stream).await;
    }
    let after = closed_after(&mut stream).await;
    assert!(after < IDLE * 3, "{after:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off_and_one_that_reads_slowly_is_not() {
    let listener = Listener::start(|_| {}).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut slow = listener.connect().await;
    slow.write_all(request).await.unwrap();
    let mut read = 0;
    let started = Instant::now();
    while started.elapsed() < STALL * 2 {
        let mut part = vec![0; 1 << 20];
        read += slow.read(&mut part).await.unwrap();
        tokio::time::sleep(STALL / 20).await;
    }
    assert!(read > 1 << 20, "{read}");

    let mut stalled = listener.connect().await;
    stalled.write_all(request).await.unwrap();
    tokio::time::sleep(STALL * 3).await;
    // What the buffers held is still there; it ends before the whole answer.
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(10), stalled.read_to_end(&mut rest)).await.expect("never cut");
    assert!((rest.len() as u64) < LARGE, "{} bytes", rest.len());
}

#[tokio::test]
async fn one_address_has_a_number_of_connections_and_trusted_ones_have_the_rest() {
    let listener = Listener::start(|config| config.connections_per_address = 2).await;
    let mut held = [listener.connect().await, listener.connect().await];
    for stream in &mut held {
        greeted(stream).await;
    }
    let mut third = listener.connect().await;
    assert!(closed_after(&mut third).await < HEAD / 2, "a third connection was held");
    drop(held);
    tokio::time::sleep(HEAD / 2).await;
    greeted(&mut listener.connect().await).await;

    let trusting = |config: &mut Config| {
        config.connections_per_address = 1;
        config.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let listener = Listener::start(trusting).await;
    let mut held = [listener.connect().await, listener.connect().await];
    for stream in &mut held {
        greeted(stream).await;
    }
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let listener = Listener::start(|config| config.connections = 1).await;
    let mut first = listener.connect().await;
    greeted(&mut first).await;
    let mut second = listener.connect().await;
    second.write_all(GET).await.unwrap();
    assert!(timeout(HEAD / 2, second.read(&mut [0; 64])).await.is_err(), "answered beyond the cap");
    drop(first);
    assert!(timeout(HEAD * 5, second.read(&mut [0; 64])).await.expect("no place came free").unwrap() > 0);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_those_under_way() {
    let listener = Listener::start(|_| {}).await;
    let mut idle = listener.connect().await;
    greeted(&mut idle).await;
    listener.stop.send_replace(true);
    assert!(closed_after(&mut idle).await < IDLE / 2);
    timeout(Duration::from_secs(5), listener.ended).await.expect("still serving").unwrap();
    assert!(TcpStream::connect(listener.address).await.is_err());
}

#[tokio::test]
async fn requests_carry_the_address_that_they_came_from() {
    let listener = Listener::start(|_| {}).await;
    let answer = client().get(format!("http://{}/peer", listener.address)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "127.0.0.1");
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_with_408() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let mut settings = config(data.path());
    settings.request_ms = 200;
    let service = Service::open(settings).unwrap();
    let body = Body::from_stream(ReaderStream::new(tokio::io::empty().chain(Never)));
    let request = Request::post("/v1/sync").body(body).unwrap();
    assert_eq!(app(service).oneshot(request).await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}

/// A reader that never has anything.
struct Never;

impl tokio::io::AsyncRead for Never {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn metrics_are_served_on_a_listener_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let service = Service::open(config(data.path())).unwrap();
    let ask = async |app: Router| {
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status();
        (
            status,
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        )
    };
    assert_eq!(ask(app(Arc::clone(&service))).await.0, StatusCode::NOT_FOUND);
    let (status, text) = ask(metrics_app(service)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("nearfield_model_version 1"), "{text}");
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let data = tempfile::tempdir().unwrap();
    train(data.path());
    let mut settings = config(data.path());
    (settings.tokens_per_address, settings.syncs_per_token) = (2, 1);
    let service = Service::open(settings).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, app(service.clone()), Connections::new(&service.config), stopped));
    let client = client();
    let mut token = Vec::new();
    for _ in 0..2 {
        let answer = client.post(format!("{base}/v1/device")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        token = answer.bytes().await.unwrap().to_vec();
    }
    let refused = client.post(format!("{base}/v1/device")).send().await.unwrap();
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!((refused.status().as_u16(), (1..=61).contains(&wait)), (429, true));
    assert!(refused.text().await.unwrap().contains("too many device tokens of one address"));

    let sync = |number| {
        client.post(format!("{base}/v1/sync")).body(common::body(&token, vec![common::delta(number)])).send()
    };
    assert_eq!(sync(1).await.unwrap().status(), 200);
    let refused = sync(2).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.text().await.unwrap().contains("too many sync requests of one device token"));
    assert_eq!(service.log.remembered_ids().unwrap(), 1);
    common::counts(&service, "nearfield_requests_rejected_total{code=\"too_many\"} 2");
}
