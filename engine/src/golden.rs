//! One digest of recommendations that native, wasmtime, Node and Chromium must agree on.
//!
//! A small model is made from a fixed seed, taught by deltas through the whole path (learn, take a
//! delta, encode, decode, admit, publish, patch), and every list on the way, rows and score bits,
//! goes into one BLAKE3. It catches a fused multiply-add, a reordered sum, a host's own `exp`.

use crate::event::{Event, Kind};
use crate::ids::{DeltaId, Lineage, ModelVersion, Row};
use crate::limits::COUNT_MAX;
use crate::merge::{Statistics, Threshold, Window};
use crate::model::Model;
use crate::model::blend::Scenario;
use crate::model::hyper::Hyperparameters;
use crate::person::{UserState, Workspace};
use crate::rank::request::Request;
use crate::rank::top_k::Scored;
use crate::sync::wire::{SyncRequest, decode_request, encode_request};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::hash::Hasher;

const DIM: usize = 16;
const ITEMS: usize = 200;
const FOLLOWERS: usize = 16;

/// The same pseudo-random numbers on every host, for tests: SplitMix64 (Steele, Lea, Flood 2014, doi
/// 10.1145/2660193.2660195).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }
}

/// Returns a small model of 200 items, `item-0` to `item-199`, in ten groups of taste.
pub fn model() -> Model {
    let (_, model) = taught(|_, _| ());
    model
}

/// Returns the list of a request by scoring and sorting every row of the catalogue: what lists are compared with.
pub fn every_row(
    model: &Model,
    person: &mut UserState,
    request: &Request,
    workspace: &mut Workspace,
) -> Vec<Scored> {
    let mut scores = Vec::new();
    person.scores(model, request.scenario, workspace, &mut scores);
    let mut wanted = vec![request.allow.is_none(); model.len()];
    request.allow.iter().flatten().for_each(|row| wanted[*row as usize] = true);
    request.deny.iter().for_each(|row| wanted[*row as usize] = false);
    if request.scenario == Scenario::Discover {
        let seen = person.history().filter_map(|entry| model.row(entry.key));
        seen.for_each(|row| wanted[row as usize] = false);
    }
    let rows = (0..model.len() as Row).zip(scores).zip(wanted);
    let mut list: Vec<Scored> = rows
        .filter(|((row, _), wanted)| *wanted && !model.is_withdrawn(*row))
        .map(|((row, score), _)| Scored { row, score })
        .collect();
    let (count, order) = (request.count.min(COUNT_MAX) as usize, |a: &Scored, b: &Scored| {
        b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
    });
    if count < list.len() {
        list.select_nth_unstable_by(count, order);
        list.truncate(count);
    }
    list.sort_by(order);
    list
}

/// Returns the digest as lower-case hex.
pub fn digest() -> String {
    let mut hasher = Hasher::new();
    let mut workspace = Workspace::new();
    let (mut statistics, mut model) = taught(|model, person| {
        for scenario in [Scenario::Continue, Scenario::Discover] {
            let plain = Request { scenario, ..Request::default() };
            let varied = Request { diversity: 0.4, explore: 0.7, seed: person.len() as u64, ..plain.clone() };
            let varied = person.peek(model, &varied, &mut workspace);
            let rows: Vec<Row> = varied.iter().map(|item| item.row).collect();
            for item in person.recommend(model, &plain, &mut workspace).iter().chain(&varied) {
                hasher.update(&item.row.to_le_bytes());
                hasher.update(&item.score.to_bits().to_le_bytes());
            }
            for reason in person.explain(model, scenario, &rows, &mut workspace).iter().flatten().flatten() {
                hasher.update(&[reason.part as u8]);
                hasher.update(&reason.share.to_bits().to_le_bytes());
                hasher.update(&reason.because.map_or(Row::MAX, |(row, _)| row).to_le_bytes());
            }
        }
    });
    hasher.update(&model.to_pack());
    statistics.withdraw("item-3").expect("item-3 is in the catalogue");
    let publication = statistics.publish(&mut Window::new(), Threshold::NONE);
    model.apply(&publication.patch).expect("the patch follows the version held");
    hasher.update(&model.to_pack());
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Teaches an empty model by 60 people's deltas, and calls `watch` after every event.
fn taught(mut watch: impl FnMut(&Model, &mut UserState)) -> (Statistics, Model) {
    let mut hyper = Hyperparameters::starting_point();
    hyper.alpha = 0.1;
    // Every feature gets a weight, so that the digest covers all of them.
    for (bucket, weights) in hyper.blend.by_scenario.iter_mut().flatten().enumerate() {
        for (at, weight) in weights.iter_mut().enumerate() {
            *weight += ((at * 7 + bucket * 3) % 5) as f32 * 0.125 - 0.125;
        }
    }
    let mut random = Random(7);
    let mut statistics = Statistics::new(Lineage(0x4e46), DIM, FOLLOWERS, hyper);
    for item in 0..ITEMS {
        statistics.register(&format!("item-{item}")).expect("ids are short and distinct");
    }
    let mut model = statistics.empty_model();
    let mut window = Window::new();
    let mut workspace = Workspace::new();
    let first = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&first.patch).expect("the first patch starts from nothing");

    for turn in 0..60u64 {
        let mut person = UserState::new();
        let group = random.below(10);
        for step in 0..10u64 {
            let item = if random.below(5) == 0 { random.below(ITEMS) } else { group * 20 + random.below(20) };
            let kind = [Kind::View, Kind::Click, Kind::Cart, Kind::Purchase, Kind::Dismiss][random.below(5)];
            let time_ms = 1_700_000_000_000 + turn * 10_000_000 + step * 400_000;
            let event = Event::new(kind, format!("item-{item}"), time_ms);
            person.learn(&model, &event, time_ms).expect("the event is sound");
            watch(&model, &mut person);
        }
        // A fold-in on an empty model gives a factor of zero, so the first deltas get pseudo-random
        // factors instead.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.draw().to_le_bytes());
        let Some(mut delta) = person.take_delta(&model, DeltaId(id), &mut workspace).cloned() else {
            continue;
        };
        if turn < 20 {
            delta.factor_scale = 1.0 / 127.0;
            let mut taste = Random(group as u64);
            delta.factor.iter_mut().for_each(|factor| *factor = (taste.draw() % 127) as i8 - 63);
        }
        let request = SyncRequest {
            site: "golden".into(),
            token: vec![1, 2, 3],
            deltas: vec![delta],
            extensions: vec![],
        };
        let bytes = encode_request(&request).expect("one delta is far below the limit");
        let request = decode_request(&bytes).expect("what was encoded decodes");
        for delta in &request.deltas {
            statistics.policy(ModelVersion(0)).check(delta).expect("an honest delta passes");
            window.admit(delta, turn, &[]);
        }
        if turn % 5 == 4 {
            let publication = statistics.publish(&mut window, Threshold::NONE);
            model.apply(&publication.patch).expect("the patch follows the version held");
        }
    }
    (statistics, model)
}
