//! Registries over HTTP, in Confluent's words: one of the tests, and a real one.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use nearfield_engine::{Event, Kind};
use nearfield_events::frame::SchemaId;
use nearfield_events::registry::{HttpRegistry, Registry, RegistryError, Schema};
use nearfield_events::{Context, Decoder, Encoder, Framing, StreamEvent};
use nearfield_services::{CONFLUENT_PATH, Server, streams_are_off};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The versions of the one subject that there is; a version's place is its id.
type Versions = Arc<Mutex<Vec<Value>>>;

fn absent() -> (StatusCode, Json<Value>) {
    (StatusCode::NOT_FOUND, Json(json!({ "error_code": 40403, "message": "not found" })))
}

async fn by_id(State(versions): State<Versions>, Path(id): Path<usize>) -> (StatusCode, Json<Value>) {
    versions.lock().unwrap().get(id).map_or_else(absent, |version| (StatusCode::OK, Json(version.clone())))
}

async fn latest(State(versions): State<Versions>) -> (StatusCode, Json<Value>) {
    let versions = versions.lock().unwrap();
    let Some(newest) = versions.last() else { return absent() };
    let mut newest = newest.clone();
    newest["version"] = json!(versions.len());
    (StatusCode::OK, Json(newest))
}

async fn register(
    State(versions): State<Versions>,
    headers: HeaderMap,
    Json(mut schema): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if headers.get("authorization").is_none_or(|value| value != "Basic YW5uOnBhc3M=") {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "message": "who is it?" })));
    }
    // Registries leave the type out for Avro.
    if schema["schemaType"] == "AVRO" {
        schema.as_object_mut().unwrap().remove("schemaType");
    }
    let mut versions = versions.lock().unwrap();
    let id = versions.iter().position(|version| *version == schema).unwrap_or_else(|| {
        versions.push(schema);
        versions.len() - 1
    });
    (StatusCode::OK, Json(json!({ "id": id })))
}

async fn registry() -> (String, Versions) {
    let versions = Versions::default();
    let routes = Router::new()
        .route("/ccompat/schemas/ids/{id}", get(by_id))
        .route("/ccompat/subjects/events-value/versions/latest", get(latest))
        .route("/ccompat/subjects/events-value/versions", axum::routing::post(register))
        .with_state(Arc::clone(&versions));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, routes).await });
    (address.to_string(), versions)
}

#[tokio::test]
async fn schemas_are_registered_once_and_found_by_their_ids() {
    let (address, versions) = registry().await;
    let registry = HttpRegistry::new(&format!("http://ann:pass@{address}/ccompat/")).unwrap();
    for schema in [Schema::avro(), Schema::protobuf()] {
        versions.lock().unwrap().clear();
        assert_eq!(registry.schema(SchemaId(0)).await.unwrap(), None);
        for _ in 0..2 {
            let id = registry.register("events-value", &schema).await.unwrap();
            assert_eq!(registry.schema(id).await.unwrap(), Some(schema.clone()));
        }
        assert_eq!(versions.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_schema_that_cannot_read_the_newest_version_is_not_registered() {
    let (address, versions) = registry().await;
    let registry = HttpRegistry::new(&format!("http://ann:pass@{address}/ccompat")).unwrap();
    let other = Schema::avro().text.replacen(
        r#""name": "item_id","#,
        r#""name": "item_id", "aliases": ["item"],"#,
        1,
    );
    let newest = other.replacen(r#""name": "time_ms","#, r#""name": "at_ms","#, 1);
    versions.lock().unwrap().push(json!({ "schema": newest }));
    let error = registry.register("events-value", &Schema::avro()).await.unwrap_err();
    let said = r#"the schema cannot follow version 1 of subject "events-value": field "time_ms" is new and has no default"#;
    assert_eq!(error.to_string(), said);
    assert_eq!(versions.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_registry_that_refuses_or_is_away_is_named_without_its_password() {
    let (address, _) = registry().await;
    let stranger = HttpRegistry::new(&format!("http://bob:secret@{address}/ccompat")).unwrap();
    let error = stranger.register("events-value", &Schema::avro()).await.unwrap_err().to_string();
    assert!(error.contains("401 Unauthorized") && !error.contains("secret"), "{error}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let away = HttpRegistry::new(&format!("http://bob:secret@{address}")).unwrap();
    let error = away.schema(SchemaId(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Away { .. }) && !error.to_string().contains("secret"), "{error}");
    assert!(HttpRegistry::new("registry").is_err());
}

#[tokio::test]
async fn a_real_registry_takes_both_schemas_and_gives_them_back() {
    if streams_are_off() {
        return;
    }
    let server = Server::apicurio().unwrap_or_else(|error| panic!("{error}"));
    let registry = HttpRegistry::new(&format!("http://{}{CONFLUENT_PATH}", server.endpoint())).unwrap();
    assert_eq!(registry.schema(SchemaId(4_000_000_000)).await.unwrap(), None);
    let mut ids = Vec::new();
    for (subject, schema) in [("a-value", Schema::avro()), ("b-value", Schema::protobuf())] {
        let id = registry.register(subject, &schema).await.unwrap();
        assert_eq!(registry.register(subject, &schema).await.unwrap(), id);
        ids.push(id);
    }
    // What comes back may be written otherwise, but it means the same.
    let decoder = Decoder::new(Framing::Confluent, Arc::new(registry));
    let event = StreamEvent {
        user_id: "ann".to_owned(),
        event: Event::new(Kind::View, "shoe", 1),
        query: None,
        context: Context::default(),
    };
    for encoder in [Encoder::Avro(ids[0]), Encoder::Protobuf(ids[1])] {
        let read = decoder.decode(Some(b"ann"), &encoder.encode(&event), 1).await;
        assert_eq!(read.unwrap(), event);
    }

    let registry = HttpRegistry::new(&format!("http://{}{CONFLUENT_PATH}", server.endpoint())).unwrap();
    let text = Schema::avro().text.replacen(r#""name": "time_ms","#, r#""name": "at_ms","#, 1);
    let error = registry.register("a-value", &Schema { text, ..Schema::avro() }).await.unwrap_err();
    assert!(error.to_string().contains(r#"field "at_ms" is new and has no default"#), "{error}");
}
