//! Lists beside brute force on catalogues in which most blocks are skipped or left off half-way.

use nearfield_engine::event::Kind;
use nearfield_engine::golden::{Random, every_row};
use nearfield_engine::*;

const DIM: usize = 64;

/// Returns a nearly Gaussian number.
fn gaussian(random: &mut Random) -> f32 {
    let hash = random.draw();
    let part = |shift: u32| (hash >> shift & 0xffff) as f32 / 65_536.0 - 0.5;
    2.0 * (part(0) + part(16) + part(32))
}

/// Rows as a training leaves them: the first dimensions say most, long rows come first, and the 32 rows of a block
/// point one way.
fn catalogue(items: usize, decay: f32, random: &mut Random) -> Model {
    let mut rows = Vec::with_capacity(items * DIM);
    let mut centre = [0.0; DIM];
    for item in 0..items {
        if item % 32 == 0 {
            centre = std::array::from_fn(|at| gaussian(random) * (-(at as f32) / decay).exp());
        }
        let length = 4.0 / (1.0 + item as f32 / 500.0);
        let own = |at: usize, random: &mut Random| gaussian(random) * 0.3 * (-(at as f32) / decay).exp();
        rows.extend((0..DIM).map(|at| length * (centre[at] + own(at, random))));
    }
    Model::from_factors(Lineage(1), DIM, &rows, Hyperparameters::starting_point())
}

fn bits(list: &[Scored]) -> Vec<(Row, u32)> {
    list.iter().map(|item| (item.row, item.score.to_bits())).collect()
}

#[test]
fn blocks_that_are_left_off_half_way_change_no_list() {
    let mut random = Random(11);
    let mut workspace = Workspace::new();
    for decay in [4.0, 12.0, 60.0] {
        let items = 5_000;
        let model = catalogue(items, decay, &mut random);
        let whole = (items.div_ceil(32) * DIM / 2) as u64;
        let (mut steps, mut lists) = (0, 0);
        for person in 0..60u64 {
            let mut state = UserState::new();
            for step in 0..1 + person % 7 {
                let event = Event::new(Kind::Click, format!("item-{}", random.draw() % items as u64), step);
                state.learn(&model, &event, step).unwrap();
                let request = Request { count: 1 + (person % 40) as u32, ..Request::default() };
                let list = state.recommend(&model, &request, &mut workspace);
                steps += workspace.read().steps;
                lists += 1;

                let exact = every_row(&model, &mut state, &request, &mut workspace);
                assert_eq!(bits(&list), bits(&exact), "decay {decay}, person {person}, step {step}");
            }
        }
        let share = steps as f64 / (lists * whole) as f64;
        assert!(
            share < if decay < 50.0 { 0.5 } else { 1.0 },
            "{share} of the factors is read at decay {decay}"
        );
    }
}

/// A delta of a person who went through `items` at random.
fn delta(statistics: &Statistics, model: &Model, items: usize, person: u64, random: &mut Random) -> Delta {
    let mut state = UserState::new();
    for step in 1..=20 {
        // Small numbers come often, so that popularity and neighbours differ.
        let item = random.draw() % items as u64 * (random.draw() % items as u64) / items as u64;
        state.learn(model, &Event::new(Kind::Click, format!("item-{item}"), step), step).unwrap();
    }
    let id = DeltaId(u128::from(person).to_le_bytes());
    let mut delta = state.take_delta(model, id, &mut Workspace::new()).unwrap().clone();
    delta.factor_scale = 0.01;
    delta.factor.iter_mut().for_each(|value| *value = (random.draw() % 255) as u8 as i8);
    statistics.policy(ModelVersion(0)).check(&delta).unwrap();
    delta
}

#[test]
fn candidates_priors_filters_and_patches_change_no_list() {
    let items = 1_500;
    let mut random = Random(5);
    let mut hyper = Hyperparameters::starting_point();
    // Every feature has a weight, some of them below 0, in each bucket others.
    for (bucket, weights) in hyper.blend.by_scenario.iter_mut().flatten().enumerate() {
        for (at, weight) in weights.iter_mut().enumerate() {
            *weight = ((at * 7 + bucket * 3) % 5) as f32 * 0.1 - 0.1;
        }
    }
    let mut statistics = Statistics::new(Lineage(1), 24, 12, hyper);
    for item in 0..items {
        statistics.register(&format!("item-{item}")).unwrap();
    }
    let mut model = statistics.empty_model();
    let mut window = Window::new();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    let mut people: Vec<UserState> = (0..40).map(|_| UserState::new()).collect();
    let mut workspace = Workspace::new();
    let mut candidates_won = 0;
    for version in 0..4u64 {
        for person in 0..150 {
            let delta = delta(&statistics, &model, items, 150 * version + person, &mut random);
            window.admit(&delta, person, &[]);
        }
        statistics.withdraw(&format!("item-{version}")).unwrap();
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        for (person, state) in people.iter_mut().enumerate() {
            for step in 0..4 {
                let now_ms = 1 + 100 * version + step;
                let item = random.draw() % items as u64;
                state
                    .learn(&model, &Event::new(Kind::Click, format!("item-{item}"), now_ms), now_ms)
                    .unwrap();
                let rows = |limit: u64, random: &mut Random| -> Vec<Row> {
                    (0..limit).map(|_| (random.draw() % items as u64) as Row).collect()
                };
                let request = Request {
                    count: 1 + (random.draw() % 60) as u32,
                    scenario: Scenario::ALL[person % 2],
                    deny: rows(person as u64 % 3 * 20, &mut random),
                    allow: (person % 5 == 4).then(|| rows(200, &mut random)),
                    ..Request::default()
                };
                let list = state.recommend(&model, &request, &mut workspace);
                let exact = every_row(&model, state, &request, &mut workspace);
                assert_eq!(bits(&list), bits(&exact), "version {version}, person {person}, step {step}");
                let (_, candidates) = state.features(&model, &mut workspace);
                let is_candidate = |item: &&Scored| candidates.iter().any(|(row, _)| *row == item.row);
                candidates_won += list.iter().filter(is_candidate).count();
            }
        }
    }
    assert!(candidates_won > 1000, "only {candidates_won} candidates were on a list");
}
