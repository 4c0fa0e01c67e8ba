//! The listener: TLS whose certificate is replaced while it serves, clients that ask for nothing, an end in order.

mod support;

use nearfield_edge::app;
use nearfield_edge::listener::{self, Tls};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::FakeCentral;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
    _central: FakeCentral,
    _folder: TempDir,
}

async fn listen(tls: Option<Arc<Tls>>, connections_max: usize) -> Listening {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let app = app(central.edge(folder.path()).await);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let ended = tokio::spawn(listener::serve(listener, app, tls, connections_max, stopping));
    Listening { address, stop, ended, _central: central, _folder: folder }
}

/// Writes a fresh certificate and its key; returns the certificate.
fn certify(folder: &Path) -> rcgen::Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert
}

async fn ask(address: SocketAddr, root: &rcgen::Certificate) -> Result<String, reqwest::Error> {
    let root = reqwest::Certificate::from_der(root.der()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    client.get(format!("https://localhost:{}/livez", address.port())).send().await?.text().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_while_the_edge_serves() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path());
    let tls = Arc::new(Tls::open(&folder.path().join("cert.pem"), &folder.path().join("key.pem")).unwrap());
    let listening = listen(Some(Arc::clone(&tls)), 100).await;
    assert_eq!(ask(listening.address, &first).await.unwrap(), "ok\n");

    let mut roots = RootCertStore::empty();
    roots.add(first.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(listening.address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await;
    assert_eq!(stream.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    // A key that is not the certificate's leaves what was there.
    let stray = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("key.pem"), format!("{}\n", stray.serialize_pem())).unwrap();
    tls.refresh();
    assert_eq!(ask(listening.address, &first).await.unwrap(), "ok\n");

    let second = certify(folder.path());
    tls.refresh();
    assert_eq!(ask(listening.address, &second).await.unwrap(), "ok\n");
    assert!(ask(listening.address, &first).await.is_err(), "the old one is gone");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let error = Tls::open(&cert, &folder.path().join("none")).err().unwrap().to_string();
    assert!(error.contains("none: no private key in PEM"), "{error}");
    std::fs::write(&cert, "no certificate").unwrap();
    let error = Tls::open(&cert, &key).err().unwrap().to_string();
    assert!(error.ends_with("cert.pem: it has no certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_nothing_gives_its_place_back() {
    let listening = listen(None, 2).await;
    let request = b"GET /livez HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n";
    // Two that say nothing, or too little, hold the only places.
    let mut silent = TcpStream::connect(listening.address).await.unwrap();
    let mut slow = TcpStream::connect(listening.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let started = Instant::now();
    let mut third = TcpStream::connect(listening.address).await.unwrap();
    third.write_all(request).await.unwrap();
    let mut answer = String::new();
    let answered = tokio::time::timeout(Duration::from_secs(40), third.read_to_string(&mut answer));
    answered.await.expect("it is served once a place is free").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() > Duration::from_secs(5), "the places were taken");
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it was closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_lets_what_was_asked_be_answered() {
    let listening = listen(None, 10).await;
    let mut idle = TcpStream::connect(listening.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    listening.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(20), listening.ended).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(listening.address).await.is_err(), "nobody listens any more");
}
