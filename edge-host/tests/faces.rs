//! The two faces of one service: HTTP and gRPC on one port say the same.

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{Request as HttpRequest, StatusCode};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use nearfield_edge::error::{Class, EdgeError};
use nearfield_edge::grpc::proto::edge_client::EdgeClient;
use nearfield_edge::grpc::{CODE, proto};
use nearfield_edge::http::Description;
use nearfield_edge::{Edge, app};
use nearfield_engine::golden::Random;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use support::tokens::{Guard, user_token};
use support::{FakeCentral, GROUP, call, get, learn, metric, twenty};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tower::ServiceExt;
use utoipa::OpenApi;

/// An edge that serves on a socket.
struct Served {
    app: Router,
    edge: Arc<Edge>,
    client: EdgeClient<Channel>,
    channel: Channel,
    central: FakeCentral,
    _folder: TempDir,
}

impl Served {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let central = FakeCentral::start();
        let edge = central.edge(folder.path()).await;
        let app = app(Arc::clone(&edge));
        let channel = serve(app.clone()).await;
        Self { app, edge, client: EdgeClient::new(channel.clone()), channel, central, _folder: folder }
    }
}

/// Serves on a free port and connects to it.
async fn serve(app: Router) -> Channel {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        nearfield_edge::listener::serve(listener, app, None, 100, stopping).await;
        drop(stop);
    });
    Endpoint::new(address).unwrap().timeout(Duration::from_secs(120)).connect().await.unwrap()
}

fn view(item: &str) -> proto::Event {
    proto::Event { kind: "view_item".to_owned(), item_id: item.to_owned(), ..Default::default() }
}

fn list_of(user: &str) -> proto::RecommendationsRequest {
    proto::RecommendationsRequest { user: user.to_owned(), list: None }
}

/// Writes a number as JSON has it.
fn number(value: f32) -> Value {
    serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap()
}

/// Writes a list of the one face in the words of the other.
fn in_json(list: &proto::List) -> Value {
    let items: Vec<Value> = list
        .items
        .iter()
        .map(|item| {
            let mut told = json!({ "item_id": item.item_id, "score": number(item.score) });
            if !item.reasons.is_empty() {
                let reasons = item.reasons.iter().map(|reason| {
                    let mut told = json!({ "part": reason.part, "share": number(reason.share) });
                    if let (Some(item_id), Some(kind)) = (&reason.item_id, &reason.kind) {
                        (told["item_id"], told["kind"]) = (json!(item_id), json!(kind));
                    }
                    told
                });
                told["reasons"] = reasons.collect();
            }
            told
        })
        .collect();
    let model = list.model.as_ref();
    json!({
        "rung": list.rung,
        "lineage": model.map(|model| &model.lineage),
        "model_version": model.map(|model| model.version),
        "items": items,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_faces_give_the_same_lists_for_a_thousand_random_requests() {
    let served = Served::start().await;
    let (app, mut client) = (served.app.clone(), served.client.clone());
    let mut random = Random(7);
    let (mut live, mut reasoned) = (0, 0);
    for _ in 0..1000 {
        let user = format!("user-{}", random.below(40));
        if random.below(3) == 0 {
            let item = format!("{}-{}", ["tent", "boot"][random.below(2)], random.below(GROUP));
            let kind = ["view", "click", "cart", "purchase", "dismiss"][random.below(5)];
            if random.below(2) == 0 {
                learn(&app, &user, &json!({ "kind": kind, "item_id": item })).await;
            } else {
                let event = proto::Event { kind: kind.to_owned(), ..view(&item) };
                client
                    .events(proto::EventsRequest { user: user.clone(), events: vec![event] })
                    .await
                    .unwrap();
            }
        }
        let count = 1 + random.below(24) as u32;
        let (scenario, continuing) = [("discover", 0), ("continue", 1)][random.below(2)];
        let deny: Vec<String> =
            (0..random.below(3)).map(|_| format!("tent-{}", random.below(GROUP))).collect();
        let allow: Option<Vec<String>> =
            (random.below(4) == 0).then(|| (0..GROUP).map(|item| format!("boot-{item}")).collect());
        let (diversity, explore) = (random.below(3) as f32 / 4.0, random.below(3) as f32 / 4.0);
        let (seed, reasons) = (random.below(1000) as u64, random.below(2) == 0);
        let mut uri = format!(
            "/v1/users/{user}/recommendations?count={count}&scenario={scenario}&diversity={diversity}&explore={explore}\
             &seed={seed}&reasons={reasons}"
        );
        if !deny.is_empty() {
            uri += &format!("&deny={}", deny.join(","));
        }
        if let Some(allow) = &allow {
            uri += &format!("&allow={}", allow.join(","));
        }
        let allow = allow.map(|ids| proto::Items { ids });
        let list = Some(proto::ListRequest {
            count,
            scenario: continuing,
            allow,
            deny,
            diversity,
            explore,
            seed,
            reasons,
        });
        let over_http = get(&app, &uri).await;
        let over_grpc = client.recommendations(proto::RecommendationsRequest { user, list }).await.unwrap();
        assert_eq!(over_http, in_json(over_grpc.get_ref()), "{uri}");
        live += usize::from(over_http["rung"] == "live");
        reasoned += usize::from(over_http["items"][0].get("reasons").is_some());
    }
    assert!(live == 1000 && reasoned > 300, "{live} live, {reasoned} with reasons");
}

#[tokio::test]
async fn every_verb_does_the_same_on_both_faces() {
    let served = Served::start().await;
    let (app, mut client) = (served.app.clone(), served.client.clone());
    let (http, grpc) = ("over-http", "over-grpc");
    let event =
        json!({ "kind": "view", "item_id": "tent-1", "time_ms": 1_700_000_000_000u64, "event_id": "e1" });
    let same =
        proto::Event { time_ms: Some(1_700_000_000_000), event_id: Some("e1".into()), ..view("tent-1") };

    let told = learn(&app, http, &event).await;
    let events = vec![same.clone()];
    let counts =
        client.events(proto::EventsRequest { user: grpc.into(), events }).await.unwrap().into_inner();
    assert_eq!(told, json!({ "applied": 1, "duplicate": 0, "context_only": 0 }));
    assert_eq!((counts.applied, counts.duplicate, counts.context_only), (1, 0, 0));

    let body = json!({ "events": [event, { "kind": "search" }], "list": { "count": 3 } }).to_string();
    let (status, observed) = call(&app, "POST", "/v1/users/over-http/observe", body).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&observed));
    let observed: Value = serde_json::from_slice(&observed).unwrap();
    let search = proto::Event { kind: "search".into(), ..Default::default() };
    let list = Some(proto::ListRequest { count: 3, ..Default::default() });
    let request = proto::ObserveRequest { user: grpc.into(), events: vec![same, search], list };
    let answer = client.observe(request).await.unwrap().into_inner();
    assert_eq!(observed["events"], json!({ "applied": 0, "duplicate": 1, "context_only": 1 }));
    assert_eq!(
        answer.events.map(|counts| (counts.applied, counts.duplicate, counts.context_only)),
        Some((0, 1, 1))
    );
    assert_eq!(observed["list"], in_json(&answer.list.unwrap()));
    assert_eq!(observed["list"]["items"].as_array().unwrap().len(), 3);

    let similar = get(&app, "/v1/items/tent-1/similar?count=4").await;
    let request = proto::SimilarRequest { item_id: "tent-1".into(), count: 4 };
    assert_eq!(similar, in_json(client.similar(request).await.unwrap().get_ref()));
    assert_eq!(similar["items"].as_array().unwrap().len(), 4);

    let kept = get(&app, "/v1/users/over-http").await;
    let told = client.export(proto::ExportRequest { user: grpc.into() }).await.unwrap().into_inner();
    let (past, entry) = (&told.history[0], &kept["history"][0]);
    assert_eq!(
        json!({ "item_id": past.item_id, "key": past.key, "kind": past.kind, "time_ms": past.time_ms }),
        *entry
    );
    assert_eq!(
        (json!(told.outbox), json!(told.state_bytes)),
        (kept["outbox"].clone(), kept["state_bytes"].clone())
    );

    let (_, erased) = call(&app, "DELETE", "/v1/users/over-http", Body::empty()).await;
    assert_eq!(erased, br#"{"erased":true}"#);
    for erased in [true, false] {
        let answer = client.erase(proto::EraseRequest { user: grpc.into() }).await.unwrap();
        assert_eq!(answer.get_ref().erased, erased);
    }
}

#[tokio::test]
async fn a_batch_answers_each_call_by_itself_and_one_users_calls_in_their_order() {
    let served = Served::start().await;
    let (app, mut client) = (served.app.clone(), served.client.clone());
    let event = |item: &str| json!({ "kind": "view", "item_id": item });
    let calls = json!([
        { "verb": "events", "user": "ada", "events": [event("tent-1")] },
        { "verb": "similar", "item_id": "tent-1", "count": 2 },
        { "verb": "observe", "user": "ada", "events": [event("tent-2")], "list": { "count": 2 } },
        { "verb": "events", "user": "bob", "events": [] },
        { "verb": "export", "user": "ada" },
        { "verb": "erase", "user": "ada" },
        { "verb": "export", "user": "ada" },
        { "verb": "recommendations", "user": "cleo" },
    ]);
    let (status, body) = call(&app, "POST", "/v1/batch", calls.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let answers: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answers[0]["applied"], 1);
    assert_eq!(answers[1]["items"].as_array().unwrap().len(), 2);
    assert_eq!(answers[2]["events"]["applied"], 1);
    assert_eq!(
        answers[3],
        json!({ "code": "event_count", "error": "body has 0 events, the limit is 1 to 1000" })
    );
    assert_eq!(answers[4]["history"].as_array().unwrap().len(), 2);
    assert_eq!(answers[5], json!({ "erased": true }));
    assert_eq!(answers[6]["code"], "unknown_user");
    assert_eq!(answers[7]["items"].as_array().unwrap().len(), 20);

    use proto::{answer::Answer, call::Call};
    let calls = [
        Call::Events(proto::EventsRequest { user: "ada".into(), events: vec![view("tent-1")] }),
        Call::Export(proto::ExportRequest { user: "ada".into() }),
        Call::Export(proto::ExportRequest { user: "nobody".into() }),
    ];
    let calls = calls.into_iter().map(|call| proto::Call { call: Some(call) }).collect();
    let answers = client.batch(proto::BatchRequest { calls }).await.unwrap().into_inner().answers;
    assert!(
        matches!(&answers[1].answer, Some(Answer::Export(kept)) if kept.history.len() == 1),
        "{answers:?}"
    );
    assert!(matches!(&answers[2].answer, Some(Answer::Failure(failure)) if failure.code == "unknown_user"));

    for calls in [json!([]), json!(vec![json!({ "verb": "similar", "item_id": "a" }); 101])] {
        let (status, body) = call(&app, "POST", "/v1/batch", calls.to_string()).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("batch_count")));
    }
    let (status, body) = call(&app, "POST", "/v1/batch", r#"[{ "verb": "dance" }]"#).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("shape")), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_list_comes_again_after_each_event_and_each_model() {
    let served = Served::start().await;
    let (app, edge, mut client, central) =
        (served.app.clone(), served.edge.clone(), served.client.clone(), &served.central);
    let mut over_grpc = client.follow(list_of("ada")).await.unwrap().into_inner();
    let request =
        HttpRequest::builder().uri("/v1/users/ada/recommendations/stream").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut over_http = response.into_body().into_data_stream();
    let mut both = async || {
        let wait = Duration::from_secs(20);
        let told = tokio::time::timeout(wait, over_grpc.message()).await.unwrap().unwrap().unwrap();
        let event = tokio::time::timeout(wait, over_http.next()).await.unwrap().unwrap().unwrap();
        let text = String::from_utf8(event.to_vec()).unwrap();
        let data = text.strip_prefix("event: list\ndata: ").unwrap_or_else(|| panic!("{text}"));
        assert_eq!(serde_json::from_str::<Value>(data).unwrap(), in_json(&told));
        told
    };
    let first = both().await;
    learn(&app, "bob", &json!({ "kind": "view", "item_id": "tent-1" })).await;
    learn(&app, "ada", &json!({ "kind": "view", "item_id": "tent-1" })).await;
    let second = both().await;
    assert_ne!(first.items, second.items);
    assert!(second.items.iter().all(|item| item.item_id != "tent-1"), "it was seen");
    let version = central.shared.lock().unwrap().publish();
    Arc::clone(&edge).sync_now().await.unwrap();
    assert_eq!(both().await.model.unwrap().version, version.0);
    let timed = metric(&app, "nearfield_edge_event_to_list_seconds_count{by=\"stream\"}").await;
    assert_eq!(timed, 2.0, "ada's event on two streams; a model is no event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let guard = Guard::start().await;
    // Clocks may differ by five seconds, so this one holds for one more.
    let token = guard.token("ada", support::SITE, -4);
    let channel = serve(guard.app.clone()).await;
    let bearer = format!("Bearer {token}");
    let (value, header) = (bearer.parse().unwrap(), bearer);
    let sign = move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", Clone::clone(&value));
        Ok(request)
    };
    let mut client = EdgeClient::with_interceptor(channel, sign);
    let mut over_grpc = client.follow(list_of("ada")).await.unwrap().into_inner();
    let request = HttpRequest::builder().uri("/v1/users/ada/recommendations/stream");
    let request = request.header("authorization", header).body(Body::empty()).unwrap();
    let response = guard.app.clone().oneshot(request).await.unwrap();
    assert_eq!(over_grpc.message().await.unwrap().unwrap().items.len(), 20);
    assert_eq!(over_grpc.message().await.unwrap_err().code(), Code::Unauthenticated);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.starts_with("event: list\n"), "{text}");
    assert!(text.contains("event: error\n") && text.contains("\"code\":\"unauthorized\""), "{text}");
}

#[tokio::test]
async fn health_over_grpc_is_what_readyz_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut central = FakeCentral::start();
    central.down();
    let options = nearfield_edge::Options { wait_for_model: true, ..central.options(folder.path()) };
    let edge = Edge::start(options, &support::guest()).await.unwrap();
    let app = app(Arc::clone(&edge));
    let mut health = tonic_health::pb::health_client::HealthClient::new(serve(app.clone()).await);
    let mut becomes = async |wanted: ServingStatus| {
        for service in ["", "nearfield.edge.v1.Edge"] {
            let asked = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
            let mut watched = health.watch(asked).await.unwrap().into_inner();
            while watched.message().await.unwrap().unwrap().status() != wanted {}
        }
    };
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    becomes(ServingStatus::NotServing).await;
    central.up();
    Arc::clone(&edge).sync_now().await.unwrap();
    assert_eq!(call(&app, "GET", "/readyz", Body::empty()).await.0, StatusCode::OK);
    becomes(ServingStatus::Serving).await;
}

#[tokio::test]
async fn a_deadline_that_has_passed_lowers_a_list_and_begins_nothing() {
    let served = Served::start().await;
    let app = served.app.clone();
    learn(&app, "ada", &twenty("tent")).await;
    let own = get(&app, "/v1/users/ada/recommendations").await;
    let late = async |method: &str, uri: &str, body: String| {
        let request = HttpRequest::builder().method(method).uri(uri).header("x-deadline-ms", "0");
        let response = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (status, list) = late("GET", "/v1/users/ada/recommendations", String::new()).await;
    assert_eq!((status, &list["rung"]), (StatusCode::OK, &json!("last")));
    let ids = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["item_id"].to_string()).collect()
    };
    assert_eq!(ids(&list), ids(&own), "the one that was made last");
    assert_eq!(metric(&app, "nearfield_edge_lists_total{rung=\"last\",reason=\"deadline\"}").await, 1.0);

    let (status, failure) = late("POST", "/v1/users/bob/events", twenty("boot").to_string()).await;
    assert_eq!((status, &failure["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("deadline")));
    assert_eq!(call(&app, "GET", "/v1/users/bob", Body::empty()).await.0, StatusCode::NOT_FOUND, "not begun");

    // A client of the library would give up by itself, so the call is written by hand: a byte for no compression,
    // the length, the message.
    let message = prost::Message::encode_to_vec(&list_of("ada"));
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let request = HttpRequest::post("/nearfield.edge.v1.Edge/Recommendations")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1n");
    let response = app.clone().oneshot(request.body(Body::from(frame)).unwrap()).await.unwrap();
    let frame = response.into_body().collect().await.unwrap().to_bytes();
    let list = <proto::List as prost::Message>::decode(&frame[5..]).unwrap();
    assert_eq!(list.rung, "last");
}

#[tokio::test]
async fn a_requests_name_comes_back_and_one_that_is_unfit_is_replaced() {
    let served = Served::start().await;
    let (app, mut client) = (served.app.clone(), served.client.clone());
    for (given, kept) in [(Some("shop-42"), true), (Some("two words"), false), (None, false)] {
        let mut request = HttpRequest::builder().uri("/v1/users/ada/recommendations");
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let name = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(Some(name.as_str()) == given, kept, "{name}");
        assert!(kept || name.len() == 16, "{name}");
    }
    let mut request = Request::new(list_of("ada"));
    request.metadata_mut().insert("x-request-id", "shop-43".parse().unwrap());
    let answer = client.recommendations(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "shop-43");
}

#[tokio::test]
async fn an_error_has_one_meaning_on_both_faces() {
    let served = Served::start().await;
    let (app, mut client) = (served.app.clone(), served.client.clone());
    let of =
        |status: &Status| (status.code(), status.metadata().get(CODE).unwrap().to_str().unwrap().to_owned());
    let list = Some(proto::ListRequest { diversity: 1.5, ..Default::default() });
    let request = proto::RecommendationsRequest { user: "ada".into(), list };
    let status = client.recommendations(request).await.unwrap_err();
    assert_eq!(
        (of(&status), status.message()),
        ((Code::InvalidArgument, "field".into()), "diversity is 1.5, the limit is 0 to 1")
    );
    let (found, body) = call(&app, "GET", "/v1/users/ada/recommendations?diversity=1.5", Body::empty()).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (found, &body["error"]),
        (StatusCode::BAD_REQUEST, &json!("diversity is 1.5, the limit is 0 to 1"))
    );

    let list = Some(proto::ListRequest { scenario: 7, ..Default::default() });
    let request = proto::RecommendationsRequest { user: "ada".into(), list };
    let status = client.recommendations(request).await.unwrap_err();
    assert_eq!(status.message(), "scenario is 7, the limit is 0 (discover) or 1 (continue)");
    let status = client.export(proto::ExportRequest { user: "nobody".into() }).await.unwrap_err();
    assert_eq!(of(&status), (Code::NotFound, "unknown_user".into()));
    let status = client.export(proto::ExportRequest::default()).await.unwrap_err();
    assert_eq!(of(&status), (Code::InvalidArgument, "user_name".into()));
    let request = proto::SimilarRequest { item_id: "sofa".into(), count: 0 };
    let status = client.similar(request).await.unwrap_err();
    assert_eq!(
        (of(&status), status.message()),
        ((Code::NotFound, "unknown_item".into()), "the model has no item \"sofa\"")
    );
    assert_eq!(metric(&app, "nearfield_edge_refused_total{code=\"unknown_item\"}").await, 1.0);

    // No two kinds of failure are told apart on the one face only, but for what a path and a method are.
    let pairs: BTreeSet<_> =
        Class::ALL.into_iter().map(|class| (class.status().as_u16(), class.code() as i32)).collect();
    assert_eq!(pairs.len(), Class::ALL.len());
    assert!(
        Class::ALL
            .into_iter()
            .all(|class| class.status().is_client_error() || class.status().is_server_error())
    );
    assert_eq!(EdgeError::Deadline.class(), Class::Late);
}

#[tokio::test]
async fn health_and_reflection_stand_beside_the_service() {
    let served = Served::start().await;
    let channel = served.channel.clone();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let service = "nearfield.edge.v1.Edge".to_owned();
    let answer =
        health.check(tonic_health::pb::HealthCheckRequest { service: service.clone() }).await.unwrap();
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);

    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let stream = futures_util::stream::iter([ask]);
    let mut answers = reflection.server_reflection_info(stream).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else { panic!("{answer:?}") };
    assert!(services.service.iter().any(|found| found.name == service), "{services:?}");

    // Older tools ask as it was before it was v1.
    use tonic_reflection::pb::v1alpha;
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            service,
        )),
        ..Default::default()
    };
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let stream = futures_util::stream::iter([ask]);
    let mut answers = older.server_reflection_info(stream).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    use v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse;
    assert!(matches!(answer, Some(FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test]
async fn every_method_refuses_a_missing_wrong_or_foreign_token() {
    let guard = Guard::start().await;
    let channel = serve(guard.app.clone()).await;
    let tokens = [
        ("missing", None, Code::Unauthenticated),
        ("wrong", Some("guess-guess-guess-guess-guess-guess".to_owned()), Code::Unauthenticated),
        ("expired", Some(guard.token("ada", support::SITE, -60)), Code::Unauthenticated),
        ("another site's", Some(guard.token("ada", "other", 60)), Code::Unauthenticated),
        ("another user's", Some(user_token("bob")), Code::PermissionDenied),
    ];
    for (what, token, code) in tokens {
        let sign = |mut request: Request<()>| {
            if let Some(token) = &token {
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            Ok(request)
        };
        let mut client = EdgeClient::with_interceptor(channel.clone(), sign);
        let (user, list) = ("ada".to_owned(), None);
        let events = vec![view("tent-1")];
        let refused = [
            client.events(proto::EventsRequest { user: user.clone(), events: events.clone() }).await.err(),
            client
                .recommendations(proto::RecommendationsRequest { user: user.clone(), list: list.clone() })
                .await
                .err(),
            client
                .observe(proto::ObserveRequest { user: user.clone(), events, list: list.clone() })
                .await
                .err(),
            client.export(proto::ExportRequest { user: user.clone() }).await.err(),
            client.erase(proto::EraseRequest { user: user.clone() }).await.err(),
            client.follow(proto::RecommendationsRequest { user, list }).await.err(),
        ];
        for (method, status) in refused.into_iter().enumerate() {
            let status = status.unwrap_or_else(|| panic!("{what}: method {method} let it pass"));
            assert_eq!(status.code(), code, "{what}: method {method}: {status}");
        }
        if code == Code::Unauthenticated {
            let refused = [
                client.similar(proto::SimilarRequest { item_id: "tent-1".into(), count: 1 }).await.err(),
                client.batch(proto::BatchRequest { calls: vec![] }).await.err(),
            ];
            refused.into_iter().for_each(|status| assert_eq!(status.unwrap().code(), code, "{what}"));
        }
    }
    let sign = |mut request: Request<()>| {
        let value = format!("Bearer {}", user_token("ada"));
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        Ok(request)
    };
    let mut client = EdgeClient::with_interceptor(channel, sign);
    assert_eq!(client.recommendations(list_of("ada")).await.unwrap().get_ref().items.len(), 20);
    let calls = vec![proto::Call { call: Some(proto::call::Call::Recommendations(list_of("bob"))) }];
    let answers = client.batch(proto::BatchRequest { calls }).await.unwrap().into_inner().answers;
    let failure = answers[0].answer.clone();
    assert!(
        matches!(&failure, Some(proto::answer::Answer::Failure(failure)) if failure.code == "foreign_user"),
        "a batch opens nothing that its calls do not: {failure:?}"
    );
}

#[tokio::test]
async fn the_description_names_every_route() {
    let served = Served::start().await;
    let app = served.app.clone();
    let served = get(&app, "/v1/openapi.json").await;
    assert_eq!(served, serde_json::to_value(Description::openapi()).unwrap());
    let mut routes = Vec::new();
    for (path, methods) in served["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes.push(format!("{} {path}", method.to_uppercase()));
            // A stream would not end: it is refused for its length instead.
            let uri =
                path.replace("{user}", "ada").replace("{item}", "tent-1").replace("stream", "stream?count=0");
            let (status, body) = call(&app, &method.to_uppercase(), &uri, "{}").await;
            assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!String::from_utf8_lossy(&body).contains("unknown_path"), "{method} {path}");
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "DELETE /v1/users/{user}",
            "GET /livez",
            "GET /metrics",
            "GET /readyz",
            "GET /v1/items/{item}/similar",
            "GET /v1/users/{user}",
            "GET /v1/users/{user}/recommendations",
            "GET /v1/users/{user}/recommendations/stream",
            "POST /v1/batch",
            "POST /v1/users/{user}/events",
            "POST /v1/users/{user}/observe",
        ]
    );
    // Whoever reads it may follow every reference.
    let text = served.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(served["components"]["schemas"].get(name).is_some(), "{name}");
    }
}
