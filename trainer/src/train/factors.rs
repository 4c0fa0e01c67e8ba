//! The search for what the factors need: α0, λ, d, the number of sweeps, ρ and κ.
//!
//! 1. α0 × λ on a coarse logarithmic grid, and between its points around the best, with few factors.
//! 2. ρ and κ on the factors so far, without training (only where events have times).
//! 3. d: the next larger number of factors is taken only where its gain on the held-out events is
//!    larger than twice its standard error, the same judges compared in pairs; with the λ so far and
//!    with a larger one.
//! 4. α0 × λ once more around the best, in finer steps, with the chosen d, ρ and κ.
//! 5. Sweeps, one after the other with what was chosen, until neither the loss nor the figure on the held-out
//!    events moves: as many as brought gains larger than their standard errors.
//! 6. ρ and κ once more.
//!
//! Candidates start from the same rows and have the same number of sweeps, so that
//! none has an advantage from its start. A judge is a person at a moment: the fold-in of what the person has
//! touched ranks every item that is new to the person. With times, a judge is one held-out event and
//! gives NDCG@10 of the item that comes; without, a judge is one person and gives NDCG@100 of all that
//! was held out, since there is no item that comes next.

use super::dense::inner;
use super::descent::descend;
use super::solve::Side;
use super::{Given, Options, Shape, Sweep, Trial, ials};
use crate::evaluate::figures::rank;
use crate::event_log::EventLog;
use crate::progress::Progress;
use nearfield_engine::ids::Row;
use nearfield_engine::limits::HISTORY_MIN;
use nearfield_engine::model::hyper::Hyperparameters;
use nearfield_engine::model::transitions::neighbours_for_budget;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Judges at most, evenly drawn.
const JUDGES_MAX: usize = 6_000;

/// Sweeps of each candidate, a choice: on a million pairs of films 4, 8 and 16 sweeps gave NDCG@100
/// .4705, .4755 and .4765.
const SEARCH_SWEEPS: usize = 6;

/// Sweeps at most: on a million pairs of films sixteen gave .001 more than eight.
const SWEEPS_MAX: usize = 20;

/// The loss does not move if a sweep lowers it by less than this fraction (choice).
const LOSS_STILL: f64 = 5e-3;

/// The figure does not move if so many sweeps bring no gain larger than its standard error (choice: three may
/// bring what one does not).
const FIGURE_STILL: usize = 3;

/// Numbers of factors to try in turn. The first is cheap, and finds α0 and λ for the others.
const DIMS: [usize; 5] = [32, 64, 96, 128, 192];

/// Neighbours that must be left in the byte budget beside the factors (a choice of the design).
const NEIGHBOURS_MIN: usize = 8;

/// α0 and λ are searched on powers of ten, in eighths (a factor of 1.33): on a million pairs of films
/// λ off by a factor of 1.4 cost more than half the factors (.0086 against .0044 at d = 128).
const EIGHTHS: f32 = 8.0;

/// Range of log10 α0 and of log10 λ, in eighths.
const ALPHA_RANGE: std::ops::RangeInclusive<i32> = -32..=0;
const LAMBDA_RANGE: std::ops::RangeInclusive<i32> = -28..=0;

/// More factors may want more ridge: what is tried with a larger d, in eighths above the smaller one's.
const LAMBDA_RISES: [i32; 2] = [0, 2];

/// What was found, and the factors of the fitted events.
pub(super) struct Found {
    pub(super) shape: Shape,
    pub(super) sweeps: Vec<Sweep>,
    pub(super) data: ials::Data,
    pub(super) factors: ials::Factors,
}

/// Chooses d and sweeps, and α0, λ, ρ and κ in `hyper`.
pub(super) fn choose(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    options: &Options,
    hyper: &mut Hyperparameters,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) -> Found {
    let data = ials::Data::new(log, fit_until, hyper);
    let judges = if log.timed {
        moments(log, fit_until, until, &data, hyper)
    } else {
        // Without times no event is more recent than another.
        hyper.recent_weight = 0.0;
        people(log, fit_until, until, &data, hyper)
    };
    let dims = dims(log, &data, options);
    let mut search = Search {
        log,
        given: options.given.as_ref(),
        data: &data,
        judges: &judges,
        timed: log.timed,
        progress,
        trials,
    };

    progress.stage("alpha and lambda", 20);
    let starts = [(-16, -12), (-4, -16), (-8, -16), (-24, -12)];
    let mut best = search.descent(hyper, dims[0], &starts, 4, None);
    best = search.descent(hyper, dims[0], &[], 2, Some(best));
    search.recency(hyper, &mut best);
    if options.given.is_some() {
        best = search.descent(hyper, dims[0], &[], 1, Some(best));
        search.recency(hyper, &mut best);
        search.half_a_sweep_later(hyper, &best);
        let factors = best.factors;
        return Found { shape: Shape { dim: dims[0], sweeps: 0 }, sweeps: Vec::new(), data, factors };
    }

    progress.stage("dim", ((dims.len() - 1) * LAMBDA_RISES.len()) as u64);
    for dim in dims.into_iter().skip(1) {
        let candidates = LAMBDA_RISES.map(|rise| {
            let lambda = (best.point.1 + rise).min(*LAMBDA_RANGE.end());
            progress.advance(1);
            search.candidate("dim", hyper, dim, (best.point.0, lambda))
        });
        let larger = candidates
            .into_iter()
            .reduce(|best, next| if mean(&next.figures) > mean(&best.figures) { next } else { best })
            .expect("at least one rise is tried");
        let (gain, error) = gain(&best.figures, &larger.figures);
        if gain <= 2.0 * error {
            break;
        }
        best = larger;
    }

    progress.stage("alpha and lambda", 4);
    let dim = best.factors.dim;
    best = search.descent(hyper, dim, &[], 1, Some(best));

    let (chosen, sweeps) = search.sweeps(hyper, &mut best, options.sweeps);
    search.recency(hyper, &mut best);
    let factors = best.factors;
    Found { shape: Shape { dim, sweeps: chosen }, sweeps, data, factors }
}

/// Returns the numbers of factors to try, rising; the first one serves α0 and λ.
fn dims(log: &EventLog, data: &ials::Data, options: &Options) -> Vec<usize> {
    if let Some(dim) = options.given.as_ref().map(Given::dim).or(options.dim) {
        return vec![dim];
    }
    let id_bytes: usize = data.items.iter().map(|item| log.items[*item as usize].len() + 1).sum();
    let id_bytes_mean = id_bytes / data.items.len().max(1);
    let fits = |dim: &usize| neighbours_for_budget(*dim, id_bytes_mean) >= NEIGHBOURS_MIN;
    let fitting: Vec<usize> = DIMS.into_iter().filter(fits).collect();
    if fitting.is_empty() { vec![DIMS[0]] } else { fitting }
}

/// A trained candidate and its figure from each judge.
struct Candidate {
    /// Eighths of log10 α0 and log10 λ.
    point: (i32, i32),
    factors: ials::Factors,
    figures: Vec<f64>,
}

struct Search<'a> {
    log: &'a EventLog,
    given: Option<&'a Given>,
    data: &'a ials::Data,
    judges: &'a [Judge],
    timed: bool,
    progress: &'a dyn Progress,
    trials: &'a mut Vec<Trial>,
}

impl Search<'_> {
    /// Goes from the best of `starts` and `from` to the best neighbour `step` eighths away until
    /// none is better, and sets α0 and λ.
    fn descent(
        &mut self,
        hyper: &mut Hyperparameters,
        dim: usize,
        starts: &[(i32, i32)],
        step: i32,
        from: Option<Candidate>,
    ) -> Candidate {
        let mut seen: HashSet<(i32, i32)> = from.iter().map(|from| from.point).collect();
        // Recency may have changed since, so the best is judged again.
        let mut best = from.map(|from| {
            let figures = judge(self.judges, &from.factors, hyper);
            Candidate { figures, ..from }
        });
        let mut frontier = starts.to_vec();
        loop {
            for point in std::mem::take(&mut frontier) {
                if !seen.insert(point) {
                    continue;
                }
                let candidate = self.candidate("alpha and lambda", hyper, dim, point);
                self.progress.advance(1);
                if best.as_ref().is_none_or(|best| mean(&candidate.figures) > mean(&best.figures)) {
                    best = Some(candidate);
                }
            }
            let (alpha, lambda) = best.as_ref().expect("a descent has a start").point;
            let around = [
                (alpha, lambda - step),
                (alpha, lambda + step),
                (alpha - step, lambda),
                (alpha + step, lambda),
            ];
            let inside =
                |(alpha, lambda): &(i32, i32)| ALPHA_RANGE.contains(alpha) && LAMBDA_RANGE.contains(lambda);
            frontier.extend(around.into_iter().filter(|point| inside(point) && !seen.contains(point)));
            if frontier.is_empty() {
                break;
            }
        }
        let best = best.expect("a descent has a start");
        (hyper.alpha, hyper.lambda) = (power(best.point.0), power(best.point.1));
        best
    }

    /// Trains and judges one candidate.
    fn candidate(
        &mut self,
        stage: &'static str,
        hyper: &Hyperparameters,
        dim: usize,
        point: (i32, i32),
    ) -> Candidate {
        let (alpha, lambda) = (power(point.0), power(point.1));
        let factors = match self.given {
            Some(given) => given.factors(self.log, self.data, alpha, lambda),
            None => {
                let mut factors = ials::Factors::new(self.data, dim);
                (0..SEARCH_SWEEPS).for_each(|_| factors.sweep(self.data, alpha, lambda));
                factors
            }
        };
        let name = format!("d {dim}, alpha {alpha:.1e}, lambda {lambda:.1e}");
        self.judged(stage, name, &Hyperparameters { alpha, lambda, ..hyper.clone() }, factors, point)
    }

    /// Judges trained factors.
    fn judged(
        &mut self,
        stage: &'static str,
        name: String,
        hyper: &Hyperparameters,
        factors: ials::Factors,
        point: (i32, i32),
    ) -> Candidate {
        let figures = judge(self.judges, &factors, hyper);
        self.trials.push(Trial { stage, candidate: name, ndcg10: mean(&figures) });
        Candidate { point, factors, figures }
    }

    /// Sweeps from the start with what was chosen, as often as `asked`, or until neither loss nor figure moves;
    /// returns how many sweeps are worth it and what each was, and leaves their factors in `best`.
    fn sweeps(
        &mut self,
        hyper: &Hyperparameters,
        best: &mut Candidate,
        asked: Option<usize>,
    ) -> (usize, Vec<Sweep>) {
        let most = asked.unwrap_or(SWEEPS_MAX);
        self.progress.stage("sweeps", most as u64);
        let mut factors = ials::Factors::new(self.data, best.factors.dim);
        let (mut chosen, mut seen) = (0, Vec::<Sweep>::new());
        for sweep in 1..=most {
            factors.sweep(self.data, hyper.alpha, hyper.lambda);
            let loss = factors.loss(self.data, hyper.alpha, hyper.lambda);
            let figures = judge(self.judges, &factors, hyper);
            let ndcg = mean(&figures);
            self.progress.advance(1);
            self.progress.note(&format!("sweep {sweep}: loss {loss:.5}, held-out NDCG {ndcg:.5}"));
            let (gain, error) = gain(&best.figures, &figures);
            if chosen == 0 || gain > error || asked.is_some() {
                (chosen, best.figures) = (sweep, figures);
                best.factors.clone_from(&factors);
            }
            let loss_is_still = seen.last().is_some_and(|last| last.loss - loss < LOSS_STILL * last.loss);
            seen.push(Sweep { sweep, loss, ndcg });
            if asked.is_none() && loss_is_still && sweep - chosen >= FIGURE_STILL {
                break;
            }
        }
        (chosen, seen)
    }

    /// Judges given factors as they will be published: the items solved against the people.
    fn half_a_sweep_later(&mut self, hyper: &Hyperparameters, best: &Candidate) {
        let mut factors = best.factors.clone();
        factors.sweep(self.data, hyper.alpha, hyper.lambda);
        let name = format!("d {}, as published", factors.dim);
        self.judged("given", name, hyper, factors, best.point);
    }

    /// Chooses ρ and κ for the best factors.
    fn recency(&mut self, hyper: &mut Hyperparameters, best: &mut Candidate) {
        if !self.timed {
            return;
        }
        descend(
            "recency",
            hyper,
            &[
                (&[0.3, 0.5, 0.7, 0.85, 0.95, 0.98], |hyper, value| hyper.recent_decay = value),
                (&[0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0], |hyper, value| hyper.recent_weight = value),
            ],
            self.progress,
            self.trials,
            |hyper| mean(&judge(self.judges, &best.factors, hyper)),
        );
        best.figures = judge(self.judges, &best.factors, hyper);
    }
}

fn power(eighths: i32) -> f32 {
    10f64.powf(f64::from(eighths as f32 / EIGHTHS)) as f32
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len().max(1) as f64
}

/// Returns the mean of `after` − `before` over the judges, and its standard error.
fn gain(before: &[f64], after: &[f64]) -> (f64, f64) {
    let differences: Vec<f64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    let gain = mean(&differences);
    let squares: f64 = differences.iter().map(|difference| (difference - gain).powi(2)).sum();
    let n = differences.len() as f64;
    (gain, (squares / (n * (n - 1.0)).max(1.0)).sqrt())
}

/// A person at a moment: what was touched, oldest first, and what came after.
struct Judge {
    /// (row, w, w·t), the last [`HISTORY_MIN`].
    history: Vec<(Row, f32, f32)>,
    touched: HashSet<Row>,
    targets: Vec<Row>,
    /// Length of the list that NDCG is taken of.
    length: usize,
}

/// Returns a judge for each held-out event that is new to a person with a history.
fn moments(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    data: &ials::Data,
    hyper: &Hyperparameters,
) -> Vec<Judge> {
    let mut histories: HashMap<u32, Vec<(Row, f32, f32)>> = HashMap::new();
    let mut judges = Vec::new();
    let every = ((until - fit_until) / JUDGES_MAX).max(1);
    for (index, event) in log.events[..until].iter().enumerate() {
        let history = histories.entry(event.user).or_default();
        let Some(row) = data.known_row(event.item) else { continue };
        let judged = index >= fit_until && index % every == 0 && hyper.is_target(event.kind);
        if judged && !history.is_empty() {
            let touched: HashSet<Row> = history.iter().map(|(row, ..)| *row).collect();
            if !touched.contains(&row) {
                let kept = history[history.len().saturating_sub(HISTORY_MIN)..].to_vec();
                judges.push(Judge { history: kept, touched, targets: vec![row], length: 10 });
            }
        }
        let weights = hyper.kind(event.kind);
        if event.kind.is_history() {
            history.push((row, weights.weight, weights.weight * weights.target));
        }
    }
    judges
}

/// Returns a judge for each person with items on both sides.
fn people(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    data: &ials::Data,
    hyper: &Hyperparameters,
) -> Vec<Judge> {
    let empty = || Judge { history: Vec::new(), touched: HashSet::new(), targets: Vec::new(), length: 100 };
    let mut judges: Vec<Judge> = log.users.iter().map(|_| empty()).collect();
    for (index, event) in log.events[..until].iter().enumerate() {
        let weights = hyper.kind(event.kind);
        let Some(row) = data.known_row(event.item).filter(|_| event.kind.is_history()) else { continue };
        let judge = &mut judges[event.user as usize];
        if index < fit_until {
            judge.history.push((row, weights.weight, weights.weight * weights.target));
            judge.touched.insert(row);
        } else if hyper.is_target(event.kind)
            && !judge.touched.contains(&row)
            && !judge.targets.contains(&row)
        {
            judge.targets.push(row);
        }
    }
    judges.retain(|judge| !judge.history.is_empty() && !judge.targets.is_empty());
    for judge in &mut judges {
        let start = judge.history.len().saturating_sub(HISTORY_MIN);
        judge.history.drain(..start);
    }
    let every = judges.len().div_ceil(JUDGES_MAX).max(1);
    judges.into_iter().step_by(every).collect()
}

/// Returns each judge's NDCG of the fold-in alone.
fn judge(judges: &[Judge], factors: &ials::Factors, hyper: &Hyperparameters) -> Vec<f64> {
    let dim = factors.dim;
    let items = Side::new(&factors.items, dim);
    let all = hyper.alpha * items.len() as f32;
    judges
        .par_iter()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(observations, scores), judge| {
                observations.clear();
                let (mut recency, mut whole) = (hyper.recent_weight, 0.0);
                for (row, weight, positive) in judge.history.iter().rev() {
                    observations.push((*row, (1.0 + recency) * weight, (1.0 + recency) * positive));
                    whole += weight;
                    recency *= hyper.recent_decay;
                }
                let ridge = hyper.lambda * (whole + all);
                let Some(p) = items.solve(hyper.alpha, ridge, observations) else { return 0.0 };
                let p = p.as_slice();
                scores.clear();
                scores.extend(factors.items.chunks_exact(dim).map(|q| inner(p, q)));
                ndcg(scores, judge)
            },
        )
        .collect()
}

/// Returns NDCG of a judge's targets among the items that the person has not touched.
fn ndcg(scores: &[f32], judge: &Judge) -> f64 {
    let discount = |rank: f64| if rank <= judge.length as f64 { 1.0 / (1.0 + rank).log2() } else { 0.0 };
    let found: f64 = if let [target] = judge.targets[..] {
        discount(rank(scores, target, judge.touched.iter().copied()))
    } else {
        // One pass over the items for all targets: an item stands before the targets that it
        // reaches, ties to the worse, so that equal scores for all items are worth nothing.
        let mut targets: Vec<f32> = judge.targets.iter().map(|target| scores[*target as usize]).collect();
        targets.sort_by(|a, b| b.total_cmp(a));
        let mut reached = vec![0i64; targets.len() + 1];
        let first = |score: f32| targets.partition_point(|target| *target > score);
        scores.iter().for_each(|score| reached[first(*score)] += 1);
        judge.touched.iter().for_each(|row| reached[first(scores[*row as usize])] -= 1);
        let mut rank = 0;
        let ranks = reached.iter().take(targets.len()).map(|more| {
            rank += more;
            discount(rank as f64)
        });
        ranks.sum()
    };
    found / (1..=judge.targets.len().min(judge.length)).map(|rank| discount(rank as f64)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::EventLog;
    use crate::progress::Silent;
    use crate::train::{Options, Trained, hash, train};
    use nearfield_engine::{ItemKey, UserState, Workspace};

    /// Pairs without times: every person of `people` with every item that `likes` says.
    fn log(people: u64, items: u64, likes: impl Fn(u64, u64) -> bool) -> EventLog {
        let mut text = String::from("user,item\n");
        for person in 0..people {
            for item in (0..items).filter(|item| likes(person, *item)) {
                text.push_str(&format!("u{person},i{item}\n"));
            }
        }
        EventLog::read_csv(text.as_bytes()).unwrap()
    }

    /// Returns whether a draw of a person and an item, the same one every time, is below `chance`.
    fn drawn(person: u64, item: u64, chance: f64) -> bool {
        ((hash(person * 1009 + item + 1) >> 40) as f64) < chance * (1u64 << 24) as f64
    }

    fn trained(log: &EventLog) -> Trained {
        train(log, log.events.len(), &Options::default(), &Silent).unwrap()
    }

    fn chosen_dim(log: &EventLog) -> usize {
        let until = log.events.len();
        let (log, fit_until) = crate::train::held_out::split(log, until);
        let mut hyper = Hyperparameters::starting_point();
        let options = Options::default();
        choose(&log, fit_until, until, &options, &mut hyper, &Silent, &mut Vec::new()).shape.dim
    }

    #[test]
    fn without_times_a_withheld_item_of_the_own_group_is_ranked_first() {
        // Even people like even items, odd people odd ones; each lacks one of ten.
        let log = log(60, 20, |person, item| person % 2 == item % 2 && (person / 2) % 10 != item / 2);
        let Trained { model, report, .. } = trained(&log);
        assert_eq!(report.chosen.recent_weight, 0.0, "nothing is recent where there is no time");
        let mut people = vec![UserState::new(); 60];
        for (index, event) in log.events.iter().enumerate() {
            people[event.user as usize].remember(&log.event(index));
        }
        let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
        for (number, person) in people.iter_mut().enumerate() {
            person.factor_scores(&model, &mut workspace, &mut scores);
            let withheld = model.row(ItemKey::of(&format!("i{}", number / 2 % 10 * 2 + number % 2))).unwrap();
            let others = (0..20)
                .filter(|item| item % 2 != number % 2)
                .map(|item| scores[model.row(ItemKey::of(&format!("i{item}"))).unwrap() as usize]);
            let best_other = others.fold(f32::NEG_INFINITY, f32::max);
            assert!(scores[withheld as usize] > best_other, "person {number}");
        }
    }

    #[test]
    fn data_of_rank_one_get_the_smallest_number_of_factors() {
        // People differ in how much they take, items in how popular they are, and in nothing else.
        let log = log(200, 150, |person, item| {
            let (eager, popular) = (0.2 + (person % 5) as f64 * 0.2, 1.0 / (1.0 + item as f64 / 10.0));
            drawn(person, item, eager * popular)
        });
        assert_eq!(chosen_dim(&log), DIMS[0]);
    }

    #[test]
    fn many_groups_of_taste_get_more_factors() {
        // Each person mixes six of 240 groups that share no item: 32 directions mix them up.
        let member =
            |person: u64, group: u64| (0..6).any(|nth| (hash(person * 6 + nth + 1) >> 32) % 240 == group);
        let log = log(900, 720, |person, item| member(person, item % 240) && drawn(person, item, 0.9));
        assert!(chosen_dim(&log) > DIMS[0]);
    }

    #[test]
    fn a_number_of_factors_and_of_sweeps_that_was_asked_for_is_taken() {
        let log = log(60, 20, |person, item| person % 2 == item % 2 && drawn(person, item, 0.7));
        let options = Options { dim: Some(5), sweeps: Some(3), ..Options::default() };
        let Trained { model, report, .. } = train(&log, log.events.len(), &options, &Silent).unwrap();
        assert_eq!((model.dim(), report.dim, report.sweeps), (5, 5, 3));
        assert_eq!(report.held_out_sweeps.len(), 3);
    }

    #[test]
    fn sweeps_are_told_one_by_one_and_end_when_neither_loss_nor_figure_moves() {
        let log = log(100, 30, |person, item| person % 2 == item % 2 && drawn(person, item, 0.7));
        let said = Said::default();
        let report = train(&log, log.events.len(), &Options::default(), &said).unwrap().report;
        let seen = &report.held_out_sweeps;
        assert!(seen.len() < SWEEPS_MAX, "{seen:?}");
        let [before, last] = seen.last_chunk().unwrap();
        assert!(before.loss - last.loss < LOSS_STILL * before.loss, "{seen:?}");
        assert!(seen.len() >= report.sweeps + FIGURE_STILL, "{seen:?}");
        let said = said.0.into_inner().unwrap();
        for Sweep { sweep, loss, ndcg } in seen {
            let line = format!("sweep {sweep}: loss {loss:.5}, held-out NDCG {ndcg:.5}");
            assert!(said.contains(&line), "{line} is not in {said:?}");
        }
        assert_eq!(said.iter().filter(|line| line.starts_with("all events, ")).count(), report.sweeps);
    }

    /// Keeps what is said of a training.
    #[derive(Default)]
    struct Said(std::sync::Mutex<Vec<String>>);

    impl Progress for Said {
        fn stage(&self, _name: &str, _total: u64) {}
        fn advance(&self, _steps: u64) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn without_times_too_nothing_after_the_training_events_is_looked_at() {
        let honest = log(60, 20, |person, item| person % 2 == item % 2 && drawn(person, item, 0.7));
        let until = honest.events.len() / 2;
        let mut poisoned = honest.clone();
        for event in &mut poisoned.events[until..] {
            event.item = 0;
        }
        let pack = |log| train(log, until, &Options::default(), &Silent).unwrap().model.to_pack();
        assert!(pack(&honest) == pack(&poisoned), "what comes after was looked at");
    }

    #[test]
    fn the_gain_of_a_list_counts_several_targets_and_gives_nothing_for_equal_scores() {
        let judge = |targets: Vec<Row>, length| Judge {
            history: vec![],
            touched: HashSet::from([0]),
            targets,
            length,
        };
        let scores = [9.0, 4.0, 3.0, 2.0, 1.0];
        // Row 0 is touched; targets 1 and 3 have ranks 1 and 3.
        let expected = (1.0 + 0.5) / (1.0 + 1.0 / 3f64.log2());
        assert!((ndcg(&scores, &judge(vec![3, 1], 100)) - expected).abs() < 1e-12);
        assert_eq!(ndcg(&scores, &judge(vec![3, 4], 2)), 0.0, "both are beyond the list");
        assert_eq!(ndcg(&scores, &judge(vec![1], 10)), 1.0);
        assert_eq!(ndcg(&[0.0; 5], &judge(vec![1, 2], 3)), 0.0);
    }

    #[test]
    fn a_gain_is_weighed_by_pairs_of_judges() {
        // Differences 0.1 and 0.3: mean 0.2, standard error 0.1, however much the judges differ.
        let (gain, error) = gain(&[0.1, 0.6], &[0.2, 0.9]);
        assert!((gain - 0.2).abs() < 1e-12 && (error - 0.1).abs() < 1e-12, "{gain} ± {error}");
    }
}
