//! Event to list, beside plain loops that do the same scan: ratios within one run are what counts.

use nearfield_engine::algebra::{NormalEquations, Solver, packed_len};
use nearfield_engine::{DeltaId, Hyperparameters, ModelVersion};
use nearfield_engine::{
    Event, Kind, Lineage, Model, Request, Statistics, Threshold, UserState, Window, Workspace,
};
use std::hint::black_box;

const ITEMS: usize = 10_000;
const DIM: usize = 64;

fn main() {
    divan::main();
}

/// Ten thousand items taught by deltas of pseudo-random tastes.
fn model() -> (Statistics, Model) {
    let mut statistics = Statistics::new(Lineage(1), DIM, 24, Hyperparameters::starting_point());
    for item in 0..ITEMS {
        statistics.register(&format!("item-{item}")).expect("ids are short and distinct");
    }
    let mut model = statistics.empty_model();
    let mut window = Window::new();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).expect("the first patch");
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for person in 0..2_000u64 {
        let mut state = UserState::new();
        for step in 0..20 {
            let event = Event::new(Kind::Click, format!("item-{}", random() % ITEMS), step);
            state.learn(&model, &event, step).expect("the event is sound");
        }
        let id = DeltaId(u128::from(person).to_le_bytes());
        let mut delta = state.take_delta(&model, id, &mut Workspace::new()).expect("twenty events").clone();
        delta.factor_scale = 0.005;
        delta.factor.iter_mut().for_each(|value| *value = (random() % 255) as u8 as i8);
        statistics.policy(ModelVersion(0)).check(&delta).expect("an honest delta");
        window.admit(&delta, person, &[]);
    }
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).expect("the second patch");
    (statistics, model)
}

/// One event learned, the whole catalogue ranked again.
#[divan::bench]
fn event_to_list(bencher: divan::Bencher<'_, '_>) {
    let (_, model) = model();
    let mut person = UserState::new();
    let mut step = 0u64;
    bencher.bench_local(|| {
        step += 1;
        let event = Event::new(Kind::Click, format!("item-{}", step * 31 % ITEMS as u64), step);
        person.learn(&model, &event, step).expect("the event is sound");
        black_box(person.recommend(&model, &Request::default(), &mut Workspace::new()))
    });
}

/// Peer: the same scan in f32 by plain loops, with a full sort of the scores.
#[divan::bench]
fn peer_plain_scan_and_sort(bencher: divan::Bencher<'_, '_>) {
    let rows: Vec<f32> = (0..ITEMS * DIM).map(|at| ((at * 7919) % 255) as f32 / 127.0 - 1.0).collect();
    let person: Vec<f32> = (0..DIM).map(|at| at as f32 / DIM as f32).collect();
    bencher.bench_local(|| {
        let scores =
            rows.chunks_exact(DIM).map(|row| row.iter().zip(&person).map(|(q, p)| q * p).sum::<f32>());
        let mut ranked: Vec<(usize, f32)> = scores.enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(20);
        black_box(ranked)
    });
}

/// A pack read into a model.
#[divan::bench]
fn load_pack(bencher: divan::Bencher<'_, '_>) {
    let pack = model().1.to_pack();
    bencher.bench_local(|| black_box(Model::load(&pack)));
}

/// The systems of one person, n events, ready to solve.
fn equations() -> (Vec<f32>, NormalEquations) {
    let mut gram = vec![0.0; packed_len(DIM)];
    let mut equations = NormalEquations::new(DIM);
    for event in 0..200 {
        let q: Vec<f32> =
            (0..DIM).map(|at| (((event * DIM + at) * 7919) % 255) as f32 / 255.0 - 0.5).collect();
        nearfield_engine::algebra::add_outer(&mut gram, &q, 1.0);
        if event % 10 == 0 {
            equations.add(&q, 1.0, 1.0);
        }
    }
    (gram, equations)
}

/// A fold-in: the solve of one system.
#[divan::bench]
fn fold_in(bencher: divan::Bencher<'_, '_>) {
    let (gram, equations) = equations();
    let mut solver = Solver::new(DIM);
    bencher.bench_local(|| {
        let x = solver.solve(&[(0.1, &gram), (1.0, &equations.a)], 0.5, &equations.b);
        black_box(x.expect("a definite system")[0])
    });
}

/// Peer: the same system solved by nalgebra.
#[divan::bench]
fn peer_fold_in_nalgebra(bencher: divan::Bencher<'_, '_>) {
    let (gram, equations) = equations();
    bencher.bench_local(|| {
        let entry = |i: usize, j: usize| {
            let at = packed_len(i.max(j)) + i.min(j);
            0.1 * gram[at] + equations.a[at] + if i == j { 0.5 } else { 0.0 }
        };
        let matrix = nalgebra::DMatrix::from_fn(DIM, DIM, entry);
        let b = nalgebra::DVector::from_column_slice(&equations.b);
        black_box(matrix.cholesky().expect("a definite system").solve(&b))
    });
}

/// Rows of the large catalogue: 64 MB of factors, which no cache holds.
const MANY: usize = 1_000_000;

/// A list of a catalogue of a million pseudo-random rows, of which no block can be skipped.
#[divan::bench(sample_count = 30)]
fn list_of_a_million_rows(bencher: divan::Bencher<'_, '_>) {
    let rows: Vec<f32> = (0..MANY * DIM)
        .map(|at| {
            let hash = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // The sum of three uniform numbers is nearly Gaussian.
            let part = |shift: u32| (hash >> shift & 0xffff) as f32 / 65_536.0 - 0.5;
            part(0) + part(16) + part(32)
        })
        .collect();
    let model = Model::from_factors(Lineage(1), DIM, &rows, Hyperparameters::starting_point());
    drop(rows);
    let (mut person, mut workspace, mut list) = (UserState::new(), Workspace::new(), Vec::new());
    for step in 0..20u64 {
        let event = Event::new(Kind::Click, format!("item-{}", step * 31_337), step);
        person.learn(&model, &event, step).expect("the event is sound");
    }
    bencher.bench_local(|| {
        person.recommend_into(&model, &Request::default(), &mut workspace, &mut list);
        black_box(list.len())
    });
}

/// Peer: the same 64 MB read once and added up.
#[divan::bench(sample_count = 30)]
fn peer_reads_a_million_rows(bencher: divan::Bencher<'_, '_>) {
    let bytes: Vec<u8> = (0..MANY * DIM).map(|at| (at * 7919) as u8).collect();
    bencher.bench_local(|| {
        let mut lanes = [0u8; 128];
        for chunk in bytes.as_chunks::<128>().0 {
            lanes.iter_mut().zip(chunk).for_each(|(lane, byte)| *lane = lane.wrapping_add(*byte));
        }
        black_box(lanes)
    });
}
