//! Deltas: how small they are, and how fast one core takes them in.

use anyhow::Result;
use nearfield_engine::golden::Random;
use nearfield_engine::sync::wire::{decode_delta, encode_delta};
use nearfield_engine::{Delta, DeltaId, Event, Hyperparameters, Kind, Lineage, Model, ModelVersion};
use nearfield_engine::{Statistics, Threshold, UserState, Window, Workspace};
use serde_json::json;
use std::ops::Range;
use std::time::Instant;

/// A shop with its statistics, and deltas that its people sent.
pub(crate) struct Shop {
    statistics: Statistics,
    /// What the shop has published.
    pub(crate) model: Model,
    deltas: Vec<Delta>,
}

impl Shop {
    /// A shop of so many items without events.
    fn empty(items: usize, dim: usize) -> Self {
        let mut hyper = Hyperparameters::starting_point();
        // Every feature has a weight, so that lists depend on all of them.
        for (bucket, weights) in hyper.blend.by_scenario.iter_mut().flatten().enumerate() {
            for (at, weight) in weights.iter_mut().enumerate() {
                *weight += ((at * 7 + bucket * 3) % 5) as f32 * 0.05;
            }
        }
        let mut statistics = Statistics::new(Lineage(1), dim, 24, hyper);
        for item in 0..items {
            statistics.register(&format!("item-{item}")).expect("ids are short and distinct");
        }
        let mut model = statistics.empty_model();
        let first = statistics.publish(&mut Window::new(), Threshold::NONE);
        model.apply(&first.patch).expect("the first patch");
        Self { statistics, model, deltas: Vec::new() }
    }

    /// Lets people of pseudo-random tastes send a delta of 20 events each; they are in no window yet.
    fn visit(&mut self, people: Range<u64>) {
        let Self { statistics, model, deltas } = self;
        let mut random = Random(people.start + 1);
        let mut workspace = Workspace::new();
        for person in people {
            let mut state = UserState::new();
            for step in 1..=20 {
                let event = Event::new(Kind::Click, format!("item-{}", random.below(model.len())), step);
                state.learn(model, &event, step).expect("the event is sound");
            }
            let id = DeltaId(u128::from(person).to_le_bytes());
            let mut delta = state.take_delta(model, id, &mut workspace).expect("twenty events").clone();
            // The first rows are empty, and so would the factors be.
            delta.factor_scale = 0.005;
            delta.factor.iter_mut().for_each(|value| *value = (random.draw() % 255) as u8 as i8);
            statistics.policy(ModelVersion(0)).check(&delta).expect("an honest delta");
            deltas.push(delta);
        }
    }

    /// Returns the deltas in a window.
    fn window(&self) -> Window {
        let mut window = Window::new();
        for (device, delta) in self.deltas.iter().enumerate() {
            window.admit(delta, device as u64, &[]);
        }
        window
    }

    /// Returns the model, and patches from further visits.
    pub(crate) fn patches(mut self, count: u64) -> (Model, Vec<Vec<u8>>) {
        let model = self.model.clone();
        let patches = (0..count).map(|turn| {
            self.deltas.clear();
            let first = 10_000 + 500 * turn;
            self.visit(first..first + 500);
            let patch = self.statistics.publish(&mut self.window(), Threshold::NONE).patch;
            self.model.apply(&patch).expect("patches follow each other");
            patch
        });
        let patches = patches.collect();
        (model, patches)
    }
}

/// A shop taught by 2,000 deltas.
pub(crate) fn shop(items: usize, dim: usize) -> Shop {
    let mut shop = Shop::empty(items, dim);
    shop.visit(0..2_000);
    let patch = shop.statistics.publish(&mut shop.window(), Threshold::NONE).patch;
    shop.model.apply(&patch).expect("the second patch");
    shop
}

/// Figures of one publish of many rows.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Publish {
    /// Rows that it touched.
    pub(crate) rows: usize,
    /// Deltas in the window.
    pub(crate) deltas: u64,
    /// Bytes of memory of the window, as it counts them.
    pub(crate) window_bytes: u64,
    /// Seconds, the median of rounds.
    pub(crate) seconds: f64,
    /// Threads that the machine has.
    pub(crate) threads: usize,
}

/// Measures a publish at d = 64 that touches every row of a catalogue of so many items.
pub(crate) fn publish(items: usize, rounds: usize) -> Publish {
    let mut shop = Shop::empty(items, 64);
    // Each row is touched four times in the mean.
    shop.visit(0..(items / 5) as u64);
    let mut taken: Vec<(f64, usize)> = Vec::new();
    for _ in 0..rounds {
        let (mut statistics, mut window) = (shop.statistics.clone(), shop.window());
        let start = Instant::now();
        let publication = statistics.publish(&mut window, Threshold::NONE);
        taken.push((start.elapsed().as_secs_f64(), publication.changed.len()));
    }
    taken.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, rows) = taken[taken.len() / 2];
    let (window, threads) = (shop.window(), std::thread::available_parallelism().map_or(1, usize::from));
    Publish { rows, deltas: window.deltas(), window_bytes: window.bytes(), seconds, threads }
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
