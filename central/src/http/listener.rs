//! The listener's own loop: connections with deadlines and a cap, so that slow clients hold nothing for long.
//!
//! | what a client does not do | what happens | after |
//! |---|---|---|
//! | send a first request | the connection is closed | [`Times::head`] |
//! | finish the head of a request | the connection is closed | [`Times::head`] |
//! | finish the body of a request | 408, by a layer of the router | the router's request time |
//! | send another request | the connection is closed in order | [`Times::idle`] |
//! | read its answer | the connection is cut | [`Times::stall`] |

use super::rates::{Addresses, Peer};
use crate::config::Config;
use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Requests that one HTTP/2 connection may have under way (choice: a page has a handful).
const STREAMS_MAX: u32 = 64;

/// How long accepting rests after it has failed, as where file descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long a connection gets to end in order.
const ENDING: Duration = Duration::from_secs(5);

/// How long a client may take over what it has to do.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the head of a request, and for the first one on a connection.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For a part of an answer: the connection is cut where nothing of it goes out for so long. Longer than a
    /// request may take.
    pub stall: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(90) }
    }
}

/// How many connections may be open, and for how long.
#[derive(Clone, Debug)]
pub struct Connections {
    max: usize,
    per_address_max: u32,
    addresses: Addresses,
    times: Times,
}

impl Connections {
    /// Returns the limits that the settings name.
    pub fn new(config: &Config) -> Self {
        Self {
            max: config.connections as usize,
            per_address_max: config.connections_per_address,
            addresses: Addresses::new(config),
            times: Times::default(),
        }
    }

    /// Returns the same with other times.
    pub fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }
}

/// Serves until told to stop, then lets the connections end in order and returns.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    let free = Arc::new(Semaphore::new(connections.max));
    let by_address: Arc<Mutex<HashMap<IpAddr, u32>>> = Arc::default();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let counted = connections.addresses.limits_connections_of(peer);
        let limit = if counted { connections.per_address_max } else { u32::MAX };
        // One too many is closed by being dropped.
        let Some(place) = Place::take(&by_address, peer, limit) else { continue };
        let (app, stop, times) = (app.clone(), stop.clone(), connections.times);
        open.spawn(async move {
            connection(stream, peer, app, times, stop).await;
            drop((place, permit));
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Accepts a connection once there is room for one.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = free.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer.ip(), permit))
}

/// One of the connections that an address may have; given back when dropped.
struct Place {
    by_address: Arc<Mutex<HashMap<IpAddr, u32>>>,
    address: IpAddr,
}

impl Place {
    fn take(by_address: &Arc<Mutex<HashMap<IpAddr, u32>>>, address: IpAddr, limit: u32) -> Option<Self> {
        let mut open = lock(by_address);
        let count = open.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Self { by_address: by_address.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.by_address);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Serves one connection until it ends or a deadline passes.
async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    app: Router,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small, and whole when they are written.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let noted = activity.clone();
    let service = service_fn(move |request: axum::http::Request<Incoming>| {
        let (app, answering) = (app.clone(), Answering::begin(&noted));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            let response = app.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(response.map(|body| Tracked { body, answering }))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(times.idle)
        .keep_alive_timeout(times.head)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        let (deadline, stalled) = activity.deadline(&times);
        tokio::select! {
            // Whatever ended it, a client that went away included, is nobody's fault here.
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep_until(deadline) => match activity.deadline(&times) {
                (later, _) if later > Instant::now() => {}
                _ if stalled => return,
                _ => break,
            },
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(ENDING, connection).await;
}

/// When something last went on at a connection, and how much is under way.
struct Activity(Mutex<Moment>);

struct Moment {
    last: Instant,
    begun: bool,
    under_way: usize,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Moment { last: Instant::now(), begun: false, under_way: 0 }))
    }

    /// Returns when the connection has waited for too long, and whether it then waits for the client to read.
    fn deadline(&self, times: &Times) -> (Instant, bool) {
        let moment = lock(&self.0);
        let stalled = moment.under_way > 0;
        let time = match (stalled, moment.begun) {
            (true, _) => times.stall,
            (false, true) => times.idle,
            (false, false) => times.head,
        };
        (moment.last + time, stalled)
    }

    fn goes_on(&self) {
        lock(&self.0).last = Instant::now();
    }
}

/// A request from its head to the end of its answer.
struct Answering(Arc<Activity>);

impl Answering {
    fn begin(activity: &Arc<Activity>) -> Self {
        let mut moment = lock(&activity.0);
        moment.last = Instant::now();
        moment.begun = true;
        moment.under_way += 1;
        drop(moment);
        Self(activity.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut moment = lock(&self.0.0);
        moment.last = Instant::now();
        moment.under_way -= 1;
    }
}

/// The body of an answer that notes how it goes out.
struct Tracked {
    body: Body,
    answering: Answering,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.answering.0.goes_on();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
