//! The listener's own loop: HTTP/1.1 and HTTP/2 on one port, with TLS where a certificate is given, connections that
//! are capped, and none that holds a place without asking for anything.

use crate::watched::Watched;
use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Longest wait for a handshake, for the first request, and for the head of each (choice).
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Time between two pings of an HTTP/2 connection, which is closed where none comes back (choice).
const PING_EVERY: Duration = Duration::from_secs(30);
/// Calls that one HTTP/2 connection may have under way (choice: services bring many users' calls on one).
const STREAMS_MAX: u32 = 1024;
/// How long accepting rests after it has failed, as where file descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long connections get to end in order.
const ENDING: Duration = Duration::from_secs(5);

/// A certificate and its key, read again when their files change.
pub struct Tls(Watched<Served>);

/// What connections are served with.
struct Served {
    config: Arc<ServerConfig>,
    /// Until when the certificate holds, in Unix seconds.
    expires: i64,
}

/// Why a certificate cannot be used.
#[derive(Debug)]
pub struct TlsError {
    path: PathBuf,
    message: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for TlsError {}

impl Tls {
    /// Reads a chain of certificates and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificates, key) = (certificates.to_owned(), key.to_owned());
        let paths = vec![certificates.clone(), key.clone()];
        Watched::of(paths, move || config(&certificates, &key)).map(Self)
    }

    /// Reads the files again if they have changed.
    pub fn refresh(&self) {
        self.0.refresh();
    }

    /// Returns until when the certificate holds, in Unix seconds.
    pub fn expires(&self) -> i64 {
        self.0.get().expires
    }
}

fn config(certificates: &Path, key: &Path) -> Result<Served, TlsError> {
    let refused = |path: &Path, message: String| TlsError { path: path.to_owned(), message };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|error| refused(certificates, format!("no certificates in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(refused(certificates, "it has no certificate".to_owned()));
    }
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])
        .map_err(|error| refused(certificates, format!("its first certificate cannot be read: {error}")))?;
    let expires = leaf.validity().not_after.timestamp();
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| refused(key, format!("no private key in PEM: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| refused(certificates, format!("certificate and key cannot be used: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Served { config: Arc::new(config), expires })
}

/// Serves until `stop` is true, then lets the connections end in order and returns. Those beyond
/// `connections_max` wait to be accepted.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<Arc<Tls>>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let free = Arc::new(Semaphore::new(connections_max));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (app, tls, stop) = (app.clone(), tls.clone(), stop.clone());
        open.spawn(async move {
            match tls {
                None => connection(stream, app, stop).await,
                Some(tls) => {
                    let acceptor = TlsAcceptor::from(Arc::clone(&tls.0.get().config));
                    match tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, app, stop).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                        Err(_) => {}
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDING + Duration::from_secs(1), ended).await.is_err() {
        tracing::warn!("connections were cut at the end");
    }
}

/// Accepts a connection once there is room for one.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small: waiting to fill a packet would cost a client's delayed acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// Serves one connection to its end.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    mut stop: watch::Receiver<bool>,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        app.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(HEAD_WITHIN);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let first = tokio::time::sleep(HEAD_WITHIN);
    tokio::pin!(first);
    let mut first_over = false;
    loop {
        tokio::select! {
            // How a connection ends is the client's business.
            _ = serving.as_mut() => return,
            () = &mut first, if !first_over => {
                first_over = true;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(ENDING, serving).await;
}
