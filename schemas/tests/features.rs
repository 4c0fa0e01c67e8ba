//! Rows of features come back as they went.

use nearfield_engine::features::{Device, Features, Profile, Referrer};
use nearfield_engine::{Context, Event, Kind};
use nearfield_events::frame::SchemaId;
use nearfield_events::{FeatureRow, Reason};

const ID: SchemaId = SchemaId(3);

fn row(features: Features) -> FeatureRow {
    let event =
        Event { event_id: Some("e-1".to_owned()), ..Event::new(Kind::Cart, "tent-1", 1_700_000_000_000) };
    FeatureRow::new("ann", &event, 3, 1 << 40, features)
}

#[test]
fn a_row_comes_back_to_the_bit() {
    let mut profile = Profile::default();
    for index in 0..60u64 {
        let context = Context {
            price: Some(index as f64 * 1.37),
            category: (index % 3 > 0).then(|| format!("c{}", index % 5)),
            utc_offset_minutes: (index > 10).then_some(-90),
            device: Some(Device::ALL[index as usize % 6].as_str().to_owned()),
            referrer: (index % 7 == 0).then(|| "https://bing.com/".to_owned()),
        };
        let event = Event::new(Kind::ALL[index as usize % 8], format!("i{}", index % 9), index * 1_000_000);
        let row = row(profile.observe(&event, &context));
        assert_eq!(FeatureRow::decode(&row.encode(ID), ID), Ok(row));
    }
}

#[test]
fn every_word_has_its_symbol() {
    for device in Device::ALL {
        for referrer in Referrer::ALL {
            let row = row(Features { device, referrer, session_seconds: u32::MAX, ..Features::default() });
            assert_eq!(FeatureRow::decode(&row.encode(ID), ID), Ok(row));
        }
    }
}

#[test]
fn what_is_no_row_is_refused() {
    let value = row(Features::default()).encode(ID);
    let reason = |value: &[u8]| FeatureRow::decode(value, ID).unwrap_err().reason;
    assert_eq!(reason(&value[..value.len() - 1]), Reason::Malformed);
    assert_eq!(reason(&[&value[..], &[0]].concat()), Reason::Malformed);
    assert_eq!(reason(&row(Features::default()).encode(SchemaId(4))), Reason::Schema);
    assert_eq!(reason(b"{}"), Reason::Frame);
}
