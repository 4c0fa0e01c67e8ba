//! Lists beside brute force on catalogues in which most blocks are skipped or left off half-way.

use nearfield_engine::event::Kind;
use nearfield_engine::golden::Random;
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

                let mut scores = Vec::new();
                state.scores(&model, Scenario::Discover, &mut workspace, &mut scores);
                let seen: Vec<Row> = state.history().filter_map(|entry| model.row(entry.key)).collect();
                let mut exact: Vec<Scored> = (0..items as Row)
                    .filter(|row| !seen.contains(row))
                    .map(|row| Scored { row, score: scores[row as usize] })
                    .collect();
                exact.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
                exact.truncate(request.count as usize);
                let bits = |list: &[Scored]| -> Vec<(Row, u32)> {
                    list.iter().map(|item| (item.row, item.score.to_bits())).collect()
                };
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
