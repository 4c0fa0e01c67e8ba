//! Callers: one for each way to reach a server.

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nearfield_edge::grpc::proto;
use nearfield_edge::grpc::proto::edge_client::EdgeClient;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};

/// Connections of HTTP/1.1, each for one call at a time.
const CONNECTIONS: usize = 64;
/// Connections of HTTP/2 and gRPC, which carry many calls at a time.
const SHARED_CONNECTIONS: usize = 4;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// JSON, a connection for each call at a time.
    Http1,
    /// JSON, many calls on a connection.
    Http2,
    /// Protobuf on HTTP/2.
    Grpc,
}

impl Face {
    /// All of an edge.
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];

    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// One event, durable when it is answered.
    Events,
    /// A list of 20.
    Recommendations,
    /// Both, in one step.
    Observe,
    /// The same of serenade: an item enters the session, and a list comes back.
    Serenade,
}

impl Verb {
    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Recommendations => "recommendations",
            Self::Observe => "observe",
            Self::Serenade => "recommend",
        }
    }
}

/// Connections of HTTP/1.1 to one server: those that are free, and how many are.
#[derive(Clone)]
pub(crate) struct Connections {
    address: SocketAddr,
    free: Rc<RefCell<Vec<http1::SendRequest<Full<Bytes>>>>>,
    count: Rc<Semaphore>,
}

impl Connections {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let mut free = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            free.push(connect_http1(address).await?);
        }
        let count = Rc::new(Semaphore::new(CONNECTIONS));
        Ok(Self { address, free: Rc::new(RefCell::new(free)), count })
    }

    /// Sends a request on a free connection, and returns the answer; one that is no success is an error.
    pub(crate) async fn send(self, request: Request<Full<Bytes>>) -> Result<Bytes> {
        let _one = self.count.acquire().await?;
        let mut sender = self.free.borrow_mut().pop().context("a free connection is there")?;
        let asked = async {
            // A server closes what lay idle for long.
            if sender.ready().await.is_err() {
                sender = connect_http1(self.address).await?;
            }
            success(sender.send_request(request).await?).await
        };
        let asked = asked.await;
        self.free.borrow_mut().push(sender);
        asked
    }
}

/// Connections to one server.
pub(crate) enum Caller {
    Http1(Connections),
    /// Calls go around.
    Http2(SocketAddr, Vec<Rc<RefCell<http2::SendRequest<Full<Bytes>>>>>),
    /// Calls go around.
    Grpc(Vec<EdgeClient<Channel>>),
}

impl Caller {
    /// Connects.
    pub(crate) async fn connect(face: Face, address: SocketAddr) -> Result<Self> {
        Ok(match face {
            Face::Http1 => Self::Http1(Connections::open(address).await?),
            Face::Http2 => {
                let mut all = Vec::with_capacity(SHARED_CONNECTIONS);
                for _ in 0..SHARED_CONNECTIONS {
                    all.push(Rc::new(RefCell::new(connect_http2(address).await?)));
                }
                Self::Http2(address, all)
            }
            Face::Grpc => {
                let mut all = Vec::with_capacity(SHARED_CONNECTIONS);
                for _ in 0..SHARED_CONNECTIONS {
                    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
                    all.push(EdgeClient::new(channel));
                }
                Self::Grpc(all)
            }
        })
    }

    /// Makes a call; the future holds all that it needs.
    pub(crate) fn call(&self, index: usize, verb: Verb, user: String, item: &str) -> Answering {
        let item = item.to_owned();
        match self {
            Self::Http1(connections) => {
                let connections = connections.clone();
                Box::pin(async move { check(verb, &connections.send(request(verb, &user, &item)?).await?) })
            }
            Self::Http2(address, all) => {
                let (address, shared) = (*address, Rc::clone(&all[index % all.len()]));
                Box::pin(async move {
                    // A server closes what lay idle for long.
                    if shared.borrow().is_closed() {
                        let again = connect_http2(address).await?;
                        shared.replace(again);
                    }
                    let mut sender = shared.borrow().clone();
                    let response = sender.send_request(request(verb, &user, &item)?).await?;
                    check(verb, &success(response).await?)
                })
            }
            Self::Grpc(all) => {
                let client = all[index % all.len()].clone();
                Box::pin(grpc(client, verb, user, item))
            }
        }
    }
}

async fn stream(address: SocketAddr) -> Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

async fn connect_http1(address: SocketAddr) -> Result<http1::SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(stream(address).await?).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn connect_http2(address: SocketAddr) -> Result<http2::SendRequest<Full<Bytes>>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream(address).await?).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A call that is on its way.
pub(crate) type Answering = std::pin::Pin<Box<dyn Future<Output = Result<()>>>>;

pub(crate) fn request(verb: Verb, user: &str, item: &str) -> Result<Request<Full<Bytes>>> {
    const HOST: &str = "http://edge.example";
    let event = || format!(r#"{{"kind":"view_item","item_id":"{item}"}}"#);
    let (method, path, body) = match verb {
        Verb::Events => (Method::POST, format!("/v1/users/{user}/events"), event()),
        Verb::Observe => {
            (Method::POST, format!("/v1/users/{user}/observe"), format!(r#"{{"events":{}}}"#, event()))
        }
        Verb::Recommendations => {
            (Method::GET, format!("/v1/users/{user}/recommendations?count=20"), String::new())
        }
        Verb::Serenade => {
            let path = format!("/v1/recommend?session_id={user}&user_consent=true&item_id={item}");
            (Method::GET, path, String::new())
        }
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("{HOST}{path}"))
        .header("host", "edge.example")
        .header("content-type", "application/json");
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

/// Reads an answer that is a success.
async fn success(response: Response<hyper::body::Incoming>) -> Result<Bytes> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// Sees that an answer is what was asked for.
pub(crate) fn check(verb: Verb, body: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(body).context("the answer is no text")?;
    let as_asked = match verb {
        Verb::Events => text.contains(r#""applied":1"#),
        Verb::Recommendations => text.contains(r#""rung":"live""#),
        Verb::Observe => text.contains(r#""applied":1"#) && text.contains(r#""rung":"live""#),
        Verb::Serenade => text.starts_with('[') && text.len() > 2,
    };
    ensure!(as_asked, "{} answered {text:.200}", verb.name());
    Ok(())
}

async fn grpc(mut client: EdgeClient<Channel>, verb: Verb, user: String, item: String) -> Result<()> {
    let events = vec![proto::Event { kind: "view_item".to_owned(), item_id: item, ..Default::default() }];
    let list = Some(proto::ListRequest { count: 20, ..Default::default() });
    let (applied, list) = match verb {
        Verb::Events => {
            (Some(client.events(proto::EventsRequest { user, events }).await?.into_inner().applied), None)
        }
        Verb::Recommendations => {
            let asked = proto::RecommendationsRequest { user, list };
            (None, Some(client.recommendations(asked).await?.into_inner()))
        }
        Verb::Observe => {
            let answer = client.observe(proto::ObserveRequest { user, events, list }).await?.into_inner();
            let applied = answer.events.map_or(0, |events| events.applied);
            (Some(applied), Some(answer.list.unwrap_or_default()))
        }
        Verb::Serenade => bail!("serenade speaks no gRPC"),
    };
    ensure!(applied.is_none_or(|applied| applied == 1), "{} applied {applied:?} of 1 event", verb.name());
    if let Some(list) = list {
        let is_live = list.rung == "live" && list.items.len() == 20;
        ensure!(is_live, "{} answered {} items of rung {:?}", verb.name(), list.items.len(), list.rung);
    }
    Ok(())
}

/// Teaches an edge many users, so many of them in one call.
pub(crate) async fn teach_all(
    edge: SocketAddr,
    at_once: usize,
    people: impl Iterator<Item = (String, Vec<String>)>,
) -> Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{edge}"))?;
    let mut client = EdgeClient::new(endpoint.connect().await?);
    let mut people = people.peekable();
    while people.peek().is_some() {
        teach(&mut client, people.by_ref().take(at_once)).await?;
    }
    Ok(())
}

/// Teaches a user many events at once.
pub(crate) async fn teach(
    client: &mut EdgeClient<Channel>,
    people: impl Iterator<Item = (String, Vec<String>)>,
) -> Result<()> {
    let calls = people.map(|(user, items)| {
        let event = |item_id| proto::Event { kind: "view_item".to_owned(), item_id, ..Default::default() };
        let events = items.into_iter().map(event).collect();
        let call = proto::call::Call::Events(proto::EventsRequest { user, events });
        proto::Call { call: Some(call) }
    });
    let batch = proto::BatchRequest { calls: calls.collect() };
    for answer in client.batch(batch).await?.into_inner().answers {
        match answer.answer {
            Some(proto::answer::Answer::Events(_)) => {}
            Some(proto::answer::Answer::Failure(failure)) => bail!("{}: {}", failure.code, failure.error),
            _ => bail!("a batch of events is answered otherwise"),
        }
    }
    Ok(())
}
