//! What is timed, the same text for every host: natively it is a module of the driver, elsewhere it
//! is compiled to WebAssembly.

use nearfield_engine::algebra::{NormalEquations, Solver, add_outer, packed_len};
use nearfield_engine::golden::{self, Random};
use nearfield_engine::model::Step;
use nearfield_engine::{Event, Kind, Model, Request, Scenario, Scored, UserState, Workspace};
use serde::{Deserialize, Serialize};

/// One person of a case: item ids in the order of their events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Person {
    /// Learned before anything is timed.
    pub(crate) history: Vec<String>,
    /// Learned one by one between timed calls, from the front again at the end.
    pub(crate) next: Vec<String>,
}

/// Who comes to a case, and what is published while they are there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Visitors {
    pub(crate) people: Vec<Person>,
    /// Patches that follow the pack.
    pub(crate) patches: Vec<Vec<u8>>,
}

/// One thing to do for the person whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Untimed: forget the last list and solve the equations, so that a list starts from nothing.
    Chill,
    /// Untimed: learn one event and solve the equations, so that a list starts from the last one.
    Warm,
    /// A list of 20 of the whole catalogue, with blend and without what the person has seen.
    Recommend,
    /// One event, the equations solved anew, and a list.
    Observe,
    /// One solve of the person's equations, d × d.
    FoldIn,
    /// Reads the factors' bytes once and adds them up: the limit of a scan that reads all of them.
    Stream,
    /// Reads the case's pack into a model.
    Load,
    /// One event and a list of changing length, scenario and filters, compared with every row scored and sorted:
    /// 1 where they differ.
    Differs,
    /// Applies the next of the case's patches, if there is one.
    Patch,
}

impl Operation {
    /// Every operation, at the place of its number.
    #[cfg(target_arch = "wasm32")]
    pub(crate) const ALL: [Self; 9] = [
        Self::Chill,
        Self::Warm,
        Self::Recommend,
        Self::Observe,
        Self::FoldIn,
        Self::Stream,
        Self::Load,
        Self::Differs,
        Self::Patch,
    ];
}

/// Items of a list.
pub(crate) const COUNT: u32 = 20;

/// A model and the people who are served from it.
#[derive(Default)]
pub(crate) struct Work {
    pack: Vec<u8>,
    model: Option<Model>,
    people: Vec<Member>,
    patches: std::vec::IntoIter<Vec<u8>>,
    equations: Option<(Vec<f32>, NormalEquations, Solver)>,
    workspace: Workspace,
    list: Vec<Scored>,
}

#[derive(Default)]
struct Member {
    state: UserState,
    next: Vec<Event>,
    turn: usize,
    /// One second later with each event.
    now_ms: u64,
}

impl Work {
    /// Takes a case: a pack, and [`Visitors`] as postcard.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn open(pack: Vec<u8>, visitors: &[u8]) -> Result<Self, String> {
        let model = Model::load(&pack).map_err(|error| error.to_string())?;
        let Visitors { people, patches } =
            postcard::from_bytes(visitors).map_err(|error| error.to_string())?;
        let equations = Some(equations(model.dim()));
        let mut work = Self { pack, equations, patches: patches.into_iter(), ..Self::default() };
        for person in people {
            let mut member = Member::default();
            for id in &person.history {
                member.now_ms += 1000;
                let event = Event::new(Kind::Click, id.as_str(), member.now_ms);
                member.state.learn(&model, &event, member.now_ms).map_err(|error| error.to_string())?;
            }
            member.next = person.next.iter().map(|id| Event::new(Kind::Click, id.as_str(), 0)).collect();
            work.people.push(member);
        }
        work.model = Some(model);
        Ok(work)
    }

    /// Does one operation for person `turn` (modulo their number) and returns a number that depends
    /// on the result, so that none of it can be left out.
    pub(crate) fn run(&mut self, operation: Operation, turn: usize) -> u32 {
        let Some(model) = &mut self.model else { return 0 };
        let count = self.people.len().max(1);
        let Some(member) = self.people.get_mut(turn % count) else { return 0 };
        let request = Request { count: COUNT, ..Request::default() };
        let nothing = Request { count: 0, ..Request::default() };
        let (workspace, list) = (&mut self.workspace, &mut self.list);
        match operation {
            Operation::Chill => {
                member.state.rest();
                member.state.recommend_into(model, &nothing, workspace, list);
            }
            Operation::Warm => {
                member.learn(model);
                member.state.recommend_into(model, &nothing, workspace, list);
            }
            Operation::Recommend => member.state.recommend_into(model, &request, workspace, list),
            Operation::Observe => {
                member.learn(model);
                member.state.recommend_into(model, &request, workspace, list);
            }
            Operation::FoldIn => {
                let Some((gram, equations, solver)) = &mut self.equations else { return 0 };
                let solved = solver.solve(&[(0.1, gram), (1.0, &equations.a)], 0.5, &equations.b);
                return solved.map_or(0, |x| x[0].to_bits());
            }
            Operation::Stream => return sum(model.all_factors()),
            Operation::Differs => {
                member.learn(model);
                let request = varied(turn as u64, model.len());
                member.state.recommend_into(model, &request, workspace, list);
                let exact = golden::every_row(model, &mut member.state, &request, workspace);
                return u32::from(bits(list) != bits(&exact));
            }
            Operation::Patch => {
                let applied = self.patches.next().map(|patch| model.apply(&patch));
                return u32::from(applied.is_some_and(|applied| applied.is_err()));
            }
            Operation::Load => return Model::load(&self.pack).map_or(0, |model| model.len() as u32),
        }
        self.list.first().map_or(0, |item| item.row)
    }

    /// Returns which share of the factors' bytes the last list read.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read(&self) -> f64 {
        let steps = self.model.as_ref().map_or(0, |model| model.all_factors().len());
        self.workspace.read().steps as f64 / steps.max(1) as f64
    }

    /// Returns the last list as (row, bits of the score).
    pub(crate) fn list(&self) -> Vec<(u32, u32)> {
        bits(&self.list)
    }
}

fn bits(list: &[Scored]) -> Vec<(u32, u32)> {
    list.iter().map(|item| (item.row, item.score.to_bits())).collect()
}

/// A request of changing length, scenario and filters.
fn varied(turn: u64, items: usize) -> Request {
    let mut random = Random(turn);
    let mut rows = |count: usize| (0..count).map(|_| random.below(items) as u32).collect();
    Request {
        count: 1 + (turn * 7 % 60) as u32,
        scenario: Scenario::ALL[(turn / 3 % 2) as usize],
        deny: rows(turn as usize % 4 * 10),
        allow: (turn % 8 == 7).then(|| rows(items / 4)),
        ..Request::default()
    }
}

impl Member {
    fn learn(&mut self, model: &Model) {
        self.now_ms += 1000;
        let at = self.turn % self.next.len().max(1);
        self.turn += 1;
        if let Some(event) = self.next.get_mut(at) {
            event.time_ms = self.now_ms;
            // The ids are the pack's own and the time rises, so nothing is refused.
            let _ = self.state.learn(model, event, self.now_ms);
        }
    }
}

/// The equations of one person with 20 events of pseudo-random rows, as the fold-in solves them.
pub(crate) fn equations(dim: usize) -> (Vec<f32>, NormalEquations, Solver) {
    let mut gram = vec![0.0; packed_len(dim)];
    let mut equations = NormalEquations::new(dim);
    for event in 0..200 {
        let q: Vec<f32> =
            (0..dim).map(|at| (((event * dim + at) * 7919) % 255) as f32 / 255.0 - 0.5).collect();
        add_outer(&mut gram, &q, 1.0);
        if event % 10 == 0 {
            equations.add(&q, 1.0, 1.0);
        }
    }
    (gram, equations, Solver::new(dim))
}

/// Adds up all bytes in lanes, which a compiler turns into the widest loads that it has.
fn sum(steps: &[Step]) -> u32 {
    // Four steps at once: more loads are under way than one sum could use.
    let mut lanes = [[0u8; 64]; 4];
    let (fours, rest) = steps.as_chunks::<4>();
    for four in fours {
        for (lanes, step) in lanes.iter_mut().zip(four) {
            add(lanes, step);
        }
    }
    rest.iter().for_each(|step| add(&mut lanes[0], step));
    lanes.as_flattened().iter().copied().map(u32::from).sum()
}

fn add(lanes: &mut [u8; 64], step: &Step) {
    for (lane, byte) in lanes.iter_mut().zip(&step.0) {
        *lane = lane.wrapping_add(*byte as u8);
    }
}

/// The list of a person with every row scored and none skipped, as (row, bits of the score), after
/// `more` events beyond the history.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn every_row(model: &Model, people: &[Person], person: usize, more: usize) -> Vec<(u32, u32)> {
    let person = &people[person % people.len()];
    let mut state = UserState::new();
    for (at, id) in person.history.iter().chain(person.next.iter().take(more)).enumerate() {
        if at == person.history.len() {
            // As the first list did: sums built anew from the history.
            state.rest();
        }
        let now_ms = 1000 * (at as u64 + 1);
        let _ = state.learn(model, &Event::new(Kind::Click, id.as_str(), now_ms), now_ms);
    }
    if more == 0 {
        state.rest();
    }
    let request = Request { count: COUNT, ..Request::default() };
    bits(&golden::every_row(model, &mut state, &request, &mut Workspace::new()))
}
