//! Deltas: how small they are, and how fast one core takes them in.

use crate::cases::Random;
use anyhow::Result;
use nearfield_engine::sync::wire::{decode_delta, encode_delta};
use nearfield_engine::{Delta, DeltaId, Event, Hyperparameters, Kind, Lineage, Model, ModelVersion};
use nearfield_engine::{Statistics, Threshold, UserState, Window, Workspace};
use serde_json::json;
use std::time::Instant;

/// A shop with its statistics, and deltas that its people sent.
pub(crate) struct Shop {
    statistics: Statistics,
    /// What the shop has published.
    pub(crate) model: Model,
    deltas: Vec<Delta>,
}

/// A shop of pseudo-random tastes, taught by 2,000 deltas of 20 events.
pub(crate) fn shop(items: usize, dim: usize) -> Shop {
    let mut statistics = Statistics::new(Lineage(1), dim, 24, Hyperparameters::starting_point());
    for item in 0..items {
        statistics.register(&format!("item-{item}")).expect("ids are short and distinct");
    }
    let mut model = statistics.empty_model();
    let mut window = Window::new();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).expect("the first patch");
    let mut random = Random(1);
    let mut deltas = Vec::new();
    for person in 0..2_000u64 {
        let mut state = UserState::new();
        for step in 1..=20 {
            let event = Event::new(Kind::Click, format!("item-{}", random.below(items)), step);
            state.learn(&model, &event, step).expect("the event is sound");
        }
        let id = DeltaId(u128::from(person).to_le_bytes());
        let mut delta = state.take_delta(&model, id, &mut Workspace::new()).expect("twenty events").clone();
        // The first rows are empty, and so would the factors be.
        delta.factor_scale = 0.005;
        delta.factor.iter_mut().for_each(|value| *value = (random.bits() % 255) as u8 as i8);
        statistics.policy(ModelVersion(0)).check(&delta).expect("an honest delta");
        window.admit(&delta, person, &[]);
        deltas.push(delta);
    }
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).expect("the second patch");
    Shop { statistics, model, deltas }
}

/// Figures of deltas.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Figures {
    /// Bytes of a delta of 20 events, the largest seen.
    pub(crate) bytes: usize,
    /// Bytes of the same 20 events and their rows as JSON, the smallest seen.
    pub(crate) json_bytes: usize,
    /// Deltas decoded, checked and summed a second on one core, the median of rounds.
    pub(crate) a_second: f64,
}

/// Measures at d = 64 in a shop of 10,000 items.
///
/// # Errors
/// When a delta that was just made is refused.
pub(crate) fn measure(rounds: usize) -> Result<Figures> {
    let shop = shop(10_000, 64);
    let bodies: Vec<Vec<u8>> = shop.deltas.iter().map(encode_delta).collect();
    let json_bytes = shop.deltas.iter().map(|delta| {
        let events: Vec<_> = delta.items.iter().enumerate().map(|(at, item)| {
            let (factors, scale) = shop.model.factors(item.row());
            let row: Vec<f32> = factors.iter().map(|factor| f32::from(*factor) * scale).collect();
            json!({"event": "view_item", "item_id": shop.model.item_id(item.row()), "timestamp": 1_700_000_000_000u64 + at as u64, "factors": row})
        }).collect();
        json!(events).to_string().len()
    }).min().unwrap_or(0);
    let mut rates = Vec::new();
    for _ in 0..rounds.max(3) {
        let mut window = Window::new();
        let policy = shop.statistics.policy(ModelVersion(0));
        let start = Instant::now();
        for (tag, body) in bodies.iter().enumerate() {
            let delta = decode_delta(body)?;
            policy.check(&delta).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
            window.admit(&delta, tag as u64, &[]);
        }
        rates.push(bodies.len() as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(Figures {
        bytes: bodies.iter().map(Vec::len).max().unwrap_or(0),
        json_bytes,
        a_second: rates[rates.len() / 2],
    })
}
