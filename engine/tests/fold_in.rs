//! The fold-in beside its reference: the formula of docs/model.md, written down with nalgebra in double precision.

use nalgebra::{DMatrix, DVector};
use nearfield_engine::event::Kind;
use nearfield_engine::limits::{HISTORY_MAX, HISTORY_MIN};
use nearfield_engine::*;

const NOW: u64 = 1_700_000_000_000;
const ITEMS: u64 = 150;

/// A model of 150 items that a few hundred devices of many tastes have taught.
fn model(dim: usize) -> Model {
    let mut hyper = Hyperparameters::starting_point();
    (hyper.alpha, hyper.lambda, hyper.recent_weight, hyper.recent_decay) = (0.05, 0.02, 3.0, 0.8);
    let mut statistics = Statistics::new(Lineage(1), dim, 8, hyper);
    (0..ITEMS).for_each(|item| _ = statistics.register(&format!("i{item}")).unwrap());
    let mut window = Window::new();
    for device in 0..300u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&device.to_le_bytes());
        let touch =
            |step: u64| Touch::new(((device * 7 + step * 11) % ITEMS) as u32, Kind::Click as u8, step == 0);
        let delta = Delta {
            id: DeltaId(id),
            lineage: Lineage(1),
            base_version: ModelVersion(0),
            factor_scale: 0.01,
            factor: (0..dim as u64).map(|at| ((device * 31 + at * at * 17) % 127) as i8 - 63).collect(),
            items: (0..6).map(touch).collect(),
            share: 1024,
            metrics: Vec::new(),
        };
        window.admit(&delta, device, &[]);
    }
    let mut model = statistics.empty_model();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    model
}

fn row(model: &Model, row: Row) -> DVector<f64> {
    let (factors, scale) = model.factors(row);
    DVector::from_iterator(factors.len(), factors.iter().map(|factor| f64::from(*factor) * f64::from(scale)))
}

/// p = (α0 G + A₁ + κA₂ + λ(h + α0 n) I)⁻¹ (b₁ + κ b₂), from the history as it is.
fn reference(model: &Model, person: &UserState, kappa: f64) -> DVector<f64> {
    let (hyper, d) = (model.hyperparameters(), model.dim());
    let alpha = f64::from(hyper.alpha);
    let (mut a, mut b, mut h) = (DMatrix::zeros(d, d), DVector::zeros(d), 0.0);
    for item in 0..model.len() as Row {
        let q = row(model, item);
        a.ger(alpha, &q, &q, 1.0);
    }
    for (age, entry) in person.history().rev().enumerate() {
        let Some(item) = model.row(entry.key) else { continue };
        let q = row(model, item);
        let weights = hyper.kind(entry.kind());
        let (weight, target) = (f64::from(weights.weight), f64::from(weights.target));
        let recency = 1.0 + kappa * f64::from(hyper.recent_decay).powi(age as i32);
        a.ger(recency * weight, &q, &q, 1.0);
        b.axpy(recency * weight * target, &q, 1.0);
        h += weight;
    }
    let ridge = f64::from(hyper.lambda) * (h + alpha * model.len() as f64);
    (a + DMatrix::identity(d, d) * ridge).cholesky().expect("a ridge makes it positive definite").solve(&b)
}

#[test]
fn both_factors_are_those_of_the_formula_before_and_after_old_events_have_left() {
    for dim in [3, 16, 64] {
        let model = model(dim);
        let (mut person, mut workspace) = (UserState::new(), Workspace::new());
        let kinds = [Kind::View, Kind::Click, Kind::Cart, Kind::Dismiss, Kind::Purchase];
        let mut checked = 0;
        for step in 0..HISTORY_MAX as u64 + 200 {
            // Every tenth item has no row.
            let item = if step % 10 == 9 { ITEMS + step } else { (step * step * 13 + step) % ITEMS };
            let event = Event::new(kinds[(step * 3 % 5) as usize], format!("i{item}"), NOW + step * 1000);
            person.learn(&model, &event, NOW + step * 1000).unwrap();
            if step % 67 != 5 {
                continue;
            }
            checked += 1;
            let ([recent, whole, _], _) = person.features(&model, &mut workspace);
            for (found, kappa) in [(recent, 3.0), (whole, 0.0)] {
                let found = DVector::from_vec(found.unwrap()).map(f64::from);
                let exact = reference(&model, &person, kappa);
                let wrong = (&found - &exact).norm();
                assert!(
                    wrong <= 2e-4 * exact.norm(),
                    "d = {dim}, step {step}, κ = {kappa}: {wrong} of {}",
                    exact.norm()
                );
            }
        }
        assert!(checked > 8 && (HISTORY_MIN..HISTORY_MAX).contains(&person.len()));
    }
}

/// A state that is stored and read after every event, as on an edge without a warm cache, is the same function of
/// its events as one that stays in memory: lists and deltas agree in every bit.
#[test]
fn a_state_read_from_bytes_ranks_and_tells_to_the_bit_what_one_kept_in_memory_does() {
    let model = model(64);
    let (mut kept, mut read) = (UserState::new(), UserState::new());
    let mut workspace = Workspace::new();
    let kinds = [Kind::View, Kind::Click, Kind::Cart, Kind::Dismiss, Kind::Purchase];
    let request = Request { count: 30, scenario: Scenario::Continue, ..Request::default() };
    for step in 0..2 * HISTORY_MAX as u64 {
        let item = if step % 10 == 9 { ITEMS + step } else { (step * step * 13 + step) % ITEMS };
        let event = Event::new(kinds[(step * 3 % 5) as usize], format!("i{item}"), NOW + step * 1000);
        for person in [&mut kept, &mut read] {
            person.learn(&model, &event, NOW + step * 1000).unwrap();
        }
        read = UserState::from_bytes(&read.to_bytes()).unwrap();
        if step % 7 == 0 || step % 128 > 125 || step % 128 < 2 {
            let bits = |person: &mut UserState, workspace: &mut Workspace| {
                let list = person.peek(&model, &request, workspace);
                let list: Vec<_> = list.iter().map(|item| (item.row, item.score.to_bits())).collect();
                (list, person.preview_delta(&model, workspace))
            };
            assert_eq!(bits(&mut kept, &mut workspace), bits(&mut read, &mut workspace), "step {step}");
        }
    }
    assert_eq!(kept.to_bytes(), read.to_bytes());
}
