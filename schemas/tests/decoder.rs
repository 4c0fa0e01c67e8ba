//! From bytes to events: every format there and back, older and newer writers, and everything that is refused.

use async_trait::async_trait;
use nearfield_engine::{Event, Kind};
use nearfield_events::frame::{self, SchemaId};
use nearfield_events::registry::{Registry, RegistryError, ReleasedSchemas, Schema, SchemaType};
use nearfield_events::{Context, DecodeError, Decoder, Encoder, Framing, Reason, StreamEvent};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const NOW_MS: u64 = 1_700_000_000_000;
const AVRO: SchemaId = SchemaId(1);
const PROTOBUF: SchemaId = SchemaId(2);

/// The released schemas and some more.
#[derive(Default)]
struct Schemas {
    more: Vec<(u32, Schema)>,
    asked: AtomicU32,
    away: bool,
}

#[async_trait]
impl Registry for Schemas {
    async fn schema(&self, id: SchemaId) -> Result<Option<Schema>, RegistryError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away {
            return Err(RegistryError::Away { registry: "here".to_owned(), message: "away".to_owned() });
        }
        match self.more.iter().find(|(more, _)| *more == id.0) {
            Some((_, schema)) => Ok(Some(schema.clone())),
            None => ReleasedSchemas.schema(id).await,
        }
    }

    async fn register(&self, subject: &str, schema: &Schema) -> Result<SchemaId, RegistryError> {
        ReleasedSchemas.register(subject, schema).await
    }
}

fn decoder(more: Vec<(u32, Schema)>) -> Decoder {
    Decoder::new(Framing::Confluent, Arc::new(Schemas { more, ..Schemas::default() }))
}

fn decode(decoder: &Decoder, key: Option<&str>, value: &[u8]) -> Result<StreamEvent, DecodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(decoder.decode(key.map(str::as_bytes), value, NOW_MS))
}

fn refused(decoder: &Decoder, key: Option<&str>, value: &[u8]) -> (Reason, String) {
    match decode(decoder, key, value) {
        Err(DecodeError::Refused(refusal)) => (refusal.reason, refusal.message),
        other => panic!("{other:?}"),
    }
}

fn event() -> StreamEvent {
    let event = Event {
        event_id: Some("e-1".to_owned()),
        value: Some(2.5),
        session_id: Some("s-1".to_owned()),
        ..Event::new(Kind::Cart, "shoe", NOW_MS)
    };
    let context = Context {
        utc_offset_minutes: Some(-210),
        device: Some("phone".to_owned()),
        referrer: Some("https://search.example/?q=shoe".to_owned()),
        price: Some(59.9),
        category: Some("shoes".to_owned()),
    };
    StreamEvent { user_id: "ann".to_owned(), event, query: Some("red shoe".to_owned()), context }
}

fn bare() -> StreamEvent {
    let event = Event::new(Kind::View, "shoe", NOW_MS);
    StreamEvent { user_id: "ann".to_owned(), event, query: None, context: Context::default() }
}

fn text(bytes: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-zé/:.]{{1,{}}}", bytes / 2)).unwrap()
}

fn events() -> impl Strategy<Value = StreamEvent> {
    let some = |bytes| proptest::option::of(text(bytes));
    let event = (0..8u8, text(128), 0..NOW_MS, some(128), proptest::option::of(-1e6f32..1e6), some(128));
    let context =
        (proptest::option::of(-1080..=1080), some(64), some(200), proptest::option::of(0.0..1e9), some(128));
    (text(128), event, some(512), context).prop_map(|(user_id, event, query, context)| {
        let (kind, item_id, time_ms, event_id, value, session_id) = event;
        let (utc_offset_minutes, device, referrer, price, category) = context;
        let kind = Kind::from_index(kind).unwrap();
        StreamEvent {
            user_id,
            event: Event { event_id, item_id, kind, time_ms, value, session_id },
            query,
            context: Context { utc_offset_minutes, device, referrer, price, category },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_event_comes_back_from_every_format(event in events()) {
        let confluent = decoder(Vec::new());
        let json = Decoder::new(Framing::Json, Arc::new(ReleasedSchemas));
        let ways = [(Encoder::Avro(AVRO), &confluent), (Encoder::Protobuf(PROTOBUF), &confluent), (Encoder::Json, &json)];
        for (encoder, decoder) in ways {
            let value = encoder.encode(&event);
            let back = decode(decoder, Some(&event.user_id), &value).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&back, &event);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_are_an_event(id in 0..4u32, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let value = [&frame::head(SchemaId(id))[..], &bytes].concat();
        match decode(&decoder(Vec::new()), Some("ann"), &value) {
            Ok(event) => prop_assert!(event.check(NOW_MS).is_ok()),
            Err(DecodeError::Refused(_)) => {}
            Err(DecodeError::Registry(error)) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused(part in 0.0..1.0f64) {
        for encoder in [Encoder::Avro(AVRO), Encoder::Protobuf(PROTOBUF)] {
            let value = encoder.encode(&bare());
            let cut = &value[..(value.len() as f64 * part) as usize];
            // A Protobuf that is cut between fields is whole: it only lacks the later ones.
            match decode(&decoder(Vec::new()), Some("ann"), cut) {
                Err(DecodeError::Refused(_)) => {}
                Ok(event) => prop_assert!(event.event.time_ms == 0 && matches!(encoder, Encoder::Protobuf(_))),
                Err(DecodeError::Registry(error)) => prop_assert!(false, "{}", error),
            }
        }
    }
}

#[test]
fn an_event_without_anything_optional_is_small() {
    assert_eq!(Encoder::Avro(AVRO).encode(&bare()).len(), 5 + 4 + 1 + 5 + 6 + 5);
    assert_eq!(
        decode(&decoder(Vec::new()), Some("ann"), &Encoder::Avro(AVRO).encode(&bare())).unwrap(),
        bare()
    );
}

/// A later version: a field more, a field less, a wider type, and a kind that this version does not know.
#[test]
fn newer_writers_are_read_by_the_rules_of_their_format() {
    let newer = Schema::avro()
        .text
        .replacen(r#""name": "query","#, r#""name": "channel", "type": "string" }, { "name": "query","#, 1)
        .replacen(r#""SEARCH"],"#, r#""SEARCH", "SHARE"],"#, 1);
    let newer = Schema { kind: SchemaType::Avro, text: newer };
    let schema = apache_avro::Schema::parse_str(&newer.text).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
    let value = |kind: &str, index: u32| {
        use apache_avro::types::Value;
        let none = || Value::Union(0, Box::new(Value::Null));
        let record = Value::Record(vec![
            ("user_id".into(), Value::String("ann".into())),
            ("kind".into(), Value::Enum(index, kind.into())),
            ("item_id".into(), Value::String("shoe".into())),
            ("time_ms".into(), Value::Long(NOW_MS as i64)),
            ("event_id".into(), none()),
            ("value".into(), none()),
            ("session_id".into(), none()),
            ("channel".into(), Value::String("app".into())),
            ("query".into(), none()),
            ("context".into(), none()),
        ]);
        [&frame::head(SchemaId(7))[..], &writer.write_value_to_vec(record).unwrap()].concat()
    };
    let decoder = decoder(vec![(7, newer)]);
    assert_eq!(decode(&decoder, Some("ann"), &value("VIEW", 1)).unwrap(), bare());
    assert_eq!(refused(&decoder, Some("ann"), &value("SHARE", 9)).0, Reason::UnknownKind);

    // In Protobuf the bytes of a newer field follow, and a newer kind is a number.
    let protobuf = Encoder::Protobuf(PROTOBUF).encode(&bare());
    let newer = [&protobuf[..], &[0x52, 3, b'a', b'p', b'p']].concat();
    assert_eq!(decode(&decoder, Some("ann"), &newer).unwrap(), bare());
    let unknown = [&protobuf[..], &[0x10, 99]].concat();
    assert_eq!(refused(&decoder, Some("ann"), &unknown).0, Reason::UnknownKind);
}

/// An earlier version, without the fields that came later.
#[test]
fn older_writers_are_read_with_defaults() {
    let older = r#"{"type":"record","name":"Event","namespace":"nearfield.event.v1","fields":[
        {"name":"time_ms","type":"int"},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["CLICK","VIEW"]}},
        {"name":"user_id","type":"string"},
        {"name":"item_id","type":"string"}]}"#;
    let older = Schema { kind: SchemaType::Avro, text: older.to_owned() };
    // 1000 ms, the second symbol, "ann", "shoe".
    let written = [&[0xd0, 0x0f, 0x02, 0x06][..], b"ann", &[0x08], b"shoe"].concat();
    let value = [&frame::head(SchemaId(7))[..], &written].concat();
    let read = decode(&decoder(vec![(7, older)]), Some("ann"), &value).unwrap();
    assert_eq!(read, StreamEvent { event: Event::new(Kind::View, "shoe", 1000), ..bare() });
}

#[test]
fn what_is_refused_says_why() {
    let foreign = Schema {
        kind: SchemaType::Avro,
        text: r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}"#.to_owned(),
    };
    let other = Schema {
        kind: SchemaType::Protobuf,
        text: Schema::protobuf().text.replacen("optional float value", "optional string value", 1),
    };
    let second = Schema {
        kind: SchemaType::Protobuf,
        text: Schema::protobuf().text.replacen("message Event {", "message First {}\nmessage Event {", 1),
    };
    let decoder = decoder(vec![(7, foreign), (8, other), (9, second)]);
    let avro = |event: &StreamEvent| Encoder::Avro(AVRO).encode(event);
    let changed = |change: fn(&mut StreamEvent)| {
        let mut event = event();
        change(&mut event);
        Encoder::Protobuf(PROTOBUF).encode(&event)
    };
    let framed = |id: u32, bytes: &[u8]| [&frame::head(SchemaId(id))[..], bytes].concat();
    let cases: [(Vec<u8>, Reason, &str); 19] = [
        (vec![0; 20_000], Reason::TooLarge, "20000 bytes, the limit is 16384"),
        (vec![0, 0, 0], Reason::Frame, "3 bytes"),
        (br#"{"user_id":"ann"}"#.to_vec(), Reason::Frame, "the first byte is 123"),
        (framed(99, &[]), Reason::UnknownSchema, "no schema 99"),
        (framed(7, &[2, 65]), Reason::Schema, "schema 7"),
        (framed(8, &[0]), Reason::Schema, r#"field "value" (6) was string and is float"#),
        (framed(9, &[0]), Reason::Schema, "is not nearfield.event.v1.Event"),
        (framed(2, &[]), Reason::Frame, "the path of the message"),
        (framed(1, &[0xfe, 0xff, 0xff, 0xff, 0x0f]), Reason::Malformed, ""),
        ([avro(&event()), vec![1]].concat(), Reason::Malformed, "1 bytes follow the event"),
        (changed(|event| event.user_id.clear()), Reason::Field, "user_id has 0 bytes"),
        (changed(|event| event.user_id.push('\n')), Reason::Field, "user_id holds a control character"),
        (
            changed(|event| event.event.item_id = "x".repeat(129)),
            Reason::Field,
            "item_id has 129 bytes, the limit is 128",
        ),
        (changed(|event| event.event.value = Some(f32::NAN)), Reason::Field, "value is not a finite number"),
        (changed(|event| event.event.time_ms += 2 * 86_400_000), Reason::Future, "time_ms"),
        (changed(|event| event.event.time_ms = u64::MAX), Reason::Field, "time_ms is -1, the limit is 0"),
        (
            changed(|event| event.context.utc_offset_minutes = Some(2000)),
            Reason::Field,
            "context.utc_offset_minutes is 2000",
        ),
        (
            changed(|event| event.context.price = Some(-1.0)),
            Reason::Field,
            "context.price is -1, the limit is 0 to 1e9",
        ),
        (
            changed(|event| event.context.category = Some("x".repeat(129))),
            Reason::Field,
            "context.category has 129 bytes",
        ),
    ];
    for (value, reason, said) in cases {
        let (found, message) = refused(&decoder, Some("ann"), &value);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(said), "{message:?} does not say {said:?}");
    }
    assert_eq!(refused(&decoder, None, &avro(&event())), (Reason::Key, "there is no key".to_owned()));
    assert_eq!(refused(&decoder, Some("bob"), &avro(&event())).0, Reason::Key);
    let json = Decoder::new(Framing::Json, Arc::new(ReleasedSchemas));
    let poke = br#"{"user_id":"ann","item_id":"a","time_ms":1,"kind":"poke"}"#;
    assert_eq!(
        refused(&json, Some("ann"), poke),
        (Reason::UnknownKind, r#"kind "poke" is unknown"#.to_owned())
    );
    assert_eq!(refused(&json, Some("ann"), b"{").0, Reason::Malformed);
}

/// A second message of a file is found by its path.
#[test]
fn the_message_may_be_any_of_its_file() {
    let text = Schema::protobuf().text.replacen("message Event {", "message First {}\nmessage Event {", 1);
    let decoder = decoder(vec![(9, Schema { kind: SchemaType::Protobuf, text })]);
    let value = Encoder::Protobuf(SchemaId(9)).encode(&bare());
    let second = [&value[..5], &[2, 2], &value[6..]].concat();
    assert_eq!(decode(&decoder, Some("ann"), &second).unwrap(), bare());
}

#[tokio::test]
async fn a_registry_is_asked_once_for_what_it_has_and_what_it_has_not() {
    let schemas = Arc::new(Schemas::default());
    let decoder = Decoder::new(Framing::Confluent, schemas.clone());
    for id in [1, 1, 99, 99, 99] {
        let value = [&frame::head(SchemaId(id))[..], &Encoder::Avro(AVRO).encode(&bare())[5..]].concat();
        let read = decoder.decode(Some(b"ann"), &value, NOW_MS).await;
        assert_eq!(read.is_ok(), id == 1);
    }
    assert_eq!(schemas.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_registry_that_is_away_refuses_nothing() {
    let decoder = Decoder::new(Framing::Confluent, Arc::new(Schemas { away: true, ..Schemas::default() }));
    let read = decode(&decoder, Some("ann"), &Encoder::Avro(AVRO).encode(&bare()));
    assert!(matches!(read, Err(DecodeError::Registry(_))), "{read:?}");
}
