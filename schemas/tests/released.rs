//! The contract against its released versions: what they wrote, it reads.

use nearfield_events::compatibility::backward;
use nearfield_events::registry::{Of, Registry, ReleasedSchemas, Schema, SchemaType, released};

const CURRENT: [(Of, SchemaType); 3] =
    [(Of::Event, SchemaType::Avro), (Of::Event, SchemaType::Protobuf), (Of::Features, SchemaType::Avro)];

fn current(of: Of, kind: SchemaType) -> Schema {
    match (of, kind) {
        (Of::Event, SchemaType::Avro) => Schema::avro(),
        (Of::Event, SchemaType::Protobuf) => Schema::protobuf(),
        (Of::Features, _) => Schema::features(),
    }
}

#[test]
fn the_contract_reads_what_every_released_version_wrote() {
    for (of, version, old) in released() {
        if let Err(error) = backward(&old, &current(of, old.kind)) {
            let kind = old.kind.as_str();
            panic!("the {kind} schema of {of:?} cannot follow its released version {version}: {error}");
        }
    }
}

#[tokio::test]
async fn the_contract_is_released_itself() {
    for (of, kind) in CURRENT {
        let id = ReleasedSchemas.register("any", &current(of, kind)).await.expect("a producer may start");
        assert_eq!(ReleasedSchemas.schema(id).await.unwrap(), Some(current(of, kind)));
    }
}

/// Each change of the contract that would lose a record, and what is said of it.
#[test]
fn a_change_that_cannot_read_the_past_is_refused_by_its_field() {
    let avro = [
        (r#""name": "time_ms","#, r#""name": "at_ms","#, r#"field "at_ms" is new and has no default"#),
        (
            r#""name": "session_id",
      "type": ["null", "string"],"#,
            r#""name": "session_id",
      "type": ["null", "long"],"#,
            r#"field "session_id" cannot be String any more"#,
        ),
        (r#""UNCART", "#, "", r#"field "kind" lost UNCART of its enum"#),
        (
            r#""name": "user_id",
      "type": "string","#,
            r#""name": "user_id",
      "type": "long","#,
            r#"field "user_id" was String and is Long"#,
        ),
    ];
    let protobuf = [
        ("int64 time_ms = 4;", "", r#"field "time_ms" (4) is gone, and its number is not reserved"#),
        ("optional float value = 6;", "optional float worth = 6;", r#"field "value" (6) is "worth" now"#),
        (
            "string item_id = 3;",
            "repeated string item_id = 3;",
            r#"field "item_id" (3) changed between one and many"#,
        ),
        (
            "optional double price = 4;",
            "optional string price = 4;",
            r#"field "context" (9): field "price" (4) was double and is string"#,
        ),
        ("KIND_DISMISS = 7;", "", r#"field "kind" (2) lost KIND_DISMISS (7) of its enum"#),
    ];
    let cases = avro
        .map(|case| (Schema::avro(), case))
        .into_iter()
        .chain(protobuf.map(|case| (Schema::protobuf(), case)));
    for (old, (from, to, said)) in cases {
        let text = old.text.replacen(from, to, 1);
        assert_ne!(text, old.text, "{from} is in the contract");
        let error = backward(&old, &Schema { text, ..old }).expect_err(said).to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

#[test]
fn a_change_that_reads_the_past_passes() {
    let avro = [
        (
            r#""name": "query","#,
            r#""name": "channel", "type": "string", "default": "web" }, { "name": "query","#,
        ),
        (r#""symbols": ["UNSPECIFIED", "#, r#""symbols": ["UNSPECIFIED", "SHARE", "#),
        (
            r#""name": "user_id",
      "type": "string","#,
            r#""name": "user_id",
      "type": ["string", "null"],"#,
        ),
    ];
    let protobuf = [
        ("optional string query = 8;", "optional string query = 8; string channel = 10;"),
        ("optional string query = 8;", "reserved 8;"),
        ("optional int32 utc_offset_minutes = 1;", "optional int64 utc_offset_minutes = 1;"),
        ("KIND_SEARCH = 8;", "KIND_SEARCH = 8; KIND_SHARE = 9;"),
    ];
    let cases = avro
        .map(|case| (Schema::avro(), case))
        .into_iter()
        .chain(protobuf.map(|case| (Schema::protobuf(), case)));
    for (old, (from, to)) in cases {
        let text = old.text.replacen(from, to, 1);
        assert_ne!(text, old.text, "{from} is in the contract");
        assert_eq!(backward(&old, &Schema { text, ..old.clone() }), Ok(()), "{from} to {to}");
    }
}

/// A field has one name and one meaning in both formats.
#[test]
fn avro_and_protobuf_have_the_same_fields() {
    let avro: serde_json::Value = serde_json::from_str(&Schema::avro().text).unwrap();
    let names = |record: &serde_json::Value| -> Vec<String> {
        record["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let context = avro["fields"].as_array().unwrap().iter().find(|field| field["name"] == "context").unwrap();
    let kind = avro["fields"].as_array().unwrap().iter().find(|field| field["name"] == "kind").unwrap();
    let symbols: Vec<String> = kind["type"]["symbols"]
        .as_array()
        .unwrap()
        .iter()
        .map(|symbol| format!("KIND_{}", symbol.as_str().unwrap()))
        .collect();
    let protobuf = Schema::protobuf().text;
    let block = |head: &str| {
        let body = protobuf.split_once(head).unwrap().1.split_once('}').unwrap().0;
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        lines
            .map(|line| line.split(" = ").next().unwrap().rsplit(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&avro), block("message Event {"));
    assert_eq!(names(&context["type"][1]), block("message Context {"));
    assert_eq!(symbols, block("enum Kind {"));
}
