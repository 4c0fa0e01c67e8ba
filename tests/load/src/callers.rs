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

/// Connections to one server.
pub(crate) enum Caller {
    /// Those that are free, and how many are.
    Http1(SocketAddr, Rc<RefCell<Vec<http1::SendRequest<Full<Bytes>>>>>, Rc<Semaphore>),
    /// Calls go around.
    Http2(SocketAddr, Vec<Rc<RefCell<http2::SendRequest<Full<Bytes>>>>>),
    /// Calls go around.
    Grpc(Vec<EdgeClient<Channel>>),
}

impl Caller {
    /// Connects.
    pub(crate) async fn connect(face: Face, address: SocketAddr) -> Result<Self> {
        Ok(match face {
            Face::Http1 => {
                let mut free = Vec::with_capacity(CONNECTIONS);
                for _ in 0..CONNECTIONS {
                    free.push(connect_http1(address).await?);
                }
                Self::Http1(address, Rc::new(RefCell::new(free)), Rc::new(Semaphore::new(CONNECTIONS)))
            }
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
            Self::Http1(address, free, count) => {
                let address = *address;
                let (free, count) = (Rc::clone(free), Rc::clone(count));
                Box::pin(async move {
                    let _one = count.acquire().await?;
                    let mut sender = free.borrow_mut().pop().context("a free connection is there")?;
                    let asked = async {
                        // A server closes what lay idle for long.
                        if sender.ready().await.is_err() {
                            sender = connect_http1(address).await?;
                        }
                        let response = sender.send_request(request(verb, &user, &item)?).await?;
                        read(verb, response).await
                    };
                    let asked = asked.await;
                    free.borrow_mut().push(sender);
                    asked
                })
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
                    read(verb, response).await
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

fn request(verb: Verb, user: &str, item: &str) -> Result<Request<Full<Bytes>>> {
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

/// Reads an answer and sees that it is what was asked for.
async fn read(verb: Verb, response: Response<hyper::body::Incoming>) -> Result<()> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = std::str::from_utf8(&body).context("the answer is no text")?;
    ensure!(status.is_success(), "{status}: {text}");
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
