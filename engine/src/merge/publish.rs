//! Publishing: the window folded once into the aged statistics, touched rows solved, the step to the
//! next version.
//!
//! ```text
//! q_i = (A_i + α0 C + λ (N_i + α0 m) I)⁻¹ b_i
//! ```
//!
//! Ageing is by merged weight and lazy: a row is aged when it is touched.

use crate::ids::{ModelVersion, Row};
use crate::merge::evidence::{Evidence, TRANSITION_ONE, WEIGHT_ONE, outer_sum};
use crate::merge::parallel;
use crate::merge::statistics::{Pair, Readings, RowStatistics, Statistics};
use crate::merge::waiting::{Threshold, Waiting, shed};
use crate::merge::window::{Contributions, Window};
use crate::model::hyper::Hyperparameters;
use crate::model::patch::{Patch, PatchRow};
use crate::model::popularity::{ENTRIES, HALF_LIVES, OCTAVES_MAX, Scale, decay, level};
use crate::model::transitions::Stored;
use crate::model::{Model, quantise};
use crate::sync::delta::SHARE_STEPS;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::algebra::{Solver, packed_len};
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// What a publish brought.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The new version.
    pub version: ModelVersion,
    /// The patch from the version before.
    pub patch: Vec<u8>,
    /// Rows that it changes, rising.
    pub changed: Vec<Row>,
    /// Rows that still wait for more devices.
    pub waiting: usize,
    /// Rows that were dropped because they had waited too long.
    pub dropped_by_age: usize,
    /// Rows that were dropped because too much waited.
    pub dropped_by_bytes: usize,
}

impl Statistics {
    /// Folds the window into the aged base and returns the step to the next version; the window is empty
    /// then. Rows that do not reach the threshold wait in the statistics.
    pub fn publish(&mut self, window: &mut Window, threshold: Threshold) -> Publication {
        let hyper = self.hyper.clone();
        let window = core::mem::take(window);
        let mut weight = 0;
        let mut passed: BTreeMap<Row, Evidence> = BTreeMap::new();
        for Contributions { row, by_device } in window.by_row(&hyper, |_| true) {
            weight += by_device.iter().map(|(_, evidence)| evidence.weight()).sum::<u64>();
            let waiting = self.waiting.entry(row).or_insert_with(|| Waiting::since(threshold.day));
            if waiting.add(by_device, &threshold) {
                passed.extend(self.waiting.remove(&row).map(|waiting| (row, waiting.evidence)));
            }
        }
        let mut dropped_by_age = 0;
        self.waiting.retain(|row, waiting| {
            if waiting.passes(&threshold) {
                passed.insert(*row, core::mem::take(&mut waiting.evidence));
                return false;
            }
            let stays = !waiting.is_too_old(&threshold);
            dropped_by_age += usize::from(!stays);
            stays
        });
        let dropped_by_bytes = shed(&mut self.waiting, &threshold);

        self.merged += weight as f64 / WEIGHT_ONE;
        self.fold_people(&window, &hyper);
        let mut changed: BTreeSet<Row> = core::mem::take(&mut self.catalogue_changes);
        changed.extend(passed.keys());
        self.update_rows(passed.into_iter().map(|(row, evidence)| (row, Some(evidence))), &hyper);
        self.version = self.version.next();

        self.raise_popularity_bases();
        let changed: Vec<Row> = changed.into_iter().collect();
        let patch = self.patch_rows(&changed);
        self.published_rows = self.rows.len();
        self.row_versions.note(self.version, self.published_rows, &changed);
        Publication {
            version: self.version,
            patch,
            changed,
            waiting: self.waiting.len(),
            dropped_by_age,
            dropped_by_bytes,
        }
    }

    /// Ages C and m and adds the window's people.
    fn fold_people(&mut self, window: &Window, hyper: &Hyperparameters) {
        (self.c, self.m) = self.people_with(window, hyper);
        self.c_aged_at = self.merged;
    }

    /// Returns C and m, aged, with the window's people.
    pub(super) fn people_with(&self, window: &Window, hyper: &Hyperparameters) -> (Vec<f64>, f64) {
        let age = decay(self.merged - self.c_aged_at, f64::from(hyper.factor_half_life));
        let people = window.deltas.iter();
        let shares = people.map(|delta| (&delta.factor, f64::from(delta.share) / f64::from(SHARE_STEPS)));
        let sums = outer_sum(self.dim, shares);
        let c = self.c.iter().zip(sums).map(|(sum, value)| *sum * age + value).collect();
        let shares: u64 = window.deltas.iter().map(|delta| u64::from(delta.share)).sum();
        (c, self.m * age + shares as f64 / f64::from(SHARE_STEPS))
    }

    /// Solves rows, rising, again, those with evidence after it is folded in; then updates Gram and sum.
    fn update_rows(&mut self, rows: impl Iterator<Item = (Row, Option<Evidence>)>, hyper: &Hyperparameters) {
        let steps = Steps::new(self, &self.c, self.m, hyper);
        let (dim, merged, neighbours_kept) = (self.dim, self.merged, 4 * self.neighbours_max);
        let mut rows = rows.peekable();
        let published = self.factors.chunks_exact(dim).zip(&self.scales);
        let held = (0..).zip(self.rows.iter_mut().zip(published));
        let updates = held.filter_map(|(row, (statistics, (factors, scale)))| {
            let (_, evidence) = rows.next_if(|(next, _)| *next == row)?;
            Some(Update { row, statistics, evidence, factors, scale: *scale, solved: None })
        });
        let mut updates: Vec<Update<'_>> = updates.collect();
        parallel::by_parts(&mut updates, |part| {
            let mut steps = steps.clone();
            for Update { statistics, evidence, factors, scale, solved, .. } in part {
                if let Some(evidence) = evidence.take() {
                    statistics.fold(&evidence, merged, dim, neighbours_kept, hyper);
                }
                *solved = steps.solve(statistics, factors, *scale).map(|step| step.quantised());
            }
        });
        let solved = updates.into_iter().filter_map(|update| Some((update.row, update.solved?)));
        for (row, (factors, scale)) in solved.collect::<Vec<_>>() {
            self.replace(row, &factors, scale);
        }
    }

    /// Puts a solved row in the place of the one published before.
    fn replace(&mut self, row: Row, factors: &[i8], scale: f32) {
        let range = row as usize * self.dim..(row as usize + 1) * self.dim;
        let numbers = |factors: &[i8], scale: f32| -> Vec<f64> {
            factors.iter().map(|factor| f64::from(f32::from(*factor) * scale)).collect()
        };
        let before = numbers(&self.factors[range.clone()], self.scales[row as usize]);
        let after = numbers(factors, scale);
        let mut gram = self.gram.iter_mut();
        for i in 0..self.dim {
            self.sum[i] += after[i] - before[i];
            for ((after_j, before_j), entry) in after[..=i].iter().zip(&before).zip(&mut gram) {
                *entry += after[i] * after_j - before[i] * before_j;
            }
        }
        self.factors[range].copy_from_slice(factors);
        self.scales[row as usize] = scale;
    }

    /// Returns the patch from the version before, over the given rows.
    fn patch_rows(&self, changed: &[Row]) -> Vec<u8> {
        let n = self.rows.len().max(1) as f64;
        let rows = changed.iter().map(|row| {
            let at = *row as usize;
            PatchRow {
                row: *row,
                id: (at >= self.published_rows).then(|| self.ids[at].clone()),
                scale: self.scales[at],
                factors: self.factors[at * self.dim..(at + 1) * self.dim].to_vec(),
                popularity: self.popularity_levels(at),
                neighbours: self.published_neighbours(at),
                withdrawn: self.withdrawn[at],
            }
        });
        let patch = Patch {
            lineage: self.lineage,
            from: ModelVersion(self.version.0 - 1),
            to: self.version,
            gram: self.gram.iter().map(|value| *value as f32).collect(),
            mean: self.sum.iter().map(|value| (*value / n) as f32).collect(),
            popularity: self.popularity_scales(),
            rows: rows.collect(),
            extensions: Vec::new(),
        };
        patch.to_bytes()
    }

    /// Raises the bases, which moves all levels down, before levels outgrow 16 bits: they rise by an
    /// octave a half-life.
    fn raise_popularity_bases(&mut self) {
        for (base, half_life) in self.popularity_bases.iter_mut().zip(self.hyper.popularity_half_lives) {
            let step = OCTAVES_MAX / 2.0;
            let above = self.merged / f64::from(half_life) - *base - OCTAVES_MAX;
            if above > 0.0 {
                *base += step * libm::ceil(above / step);
            }
        }
    }

    fn popularity_levels(&self, row: usize) -> [u16; HALF_LIVES] {
        let statistics = &self.rows[row];
        let half_lives = self.hyper.popularity_half_lives;
        core::array::from_fn(|at| {
            let half_life = f64::from(half_lives[at]);
            level(statistics.popularity[at], statistics.aged_at, half_life, self.popularity_bases[at])
        })
    }

    fn popularity_scales(&self) -> [Scale; HALF_LIVES] {
        let half_lives = self.hyper.popularity_half_lives;
        core::array::from_fn(|at| {
            Scale::at(self.merged, f64::from(half_lives[at]), self.popularity_bases[at])
        })
    }

    /// Returns the strongest neighbours of a row as the model stores them, strongest first.
    fn published_neighbours(&self, row: usize) -> Vec<Stored> {
        let ranked = self.rows[row].ranked_neighbours(self.hyper.transitions.shrinkage);
        let stored = ranked.iter().map(Stored::new);
        stored.filter(|stored| !stored.is_empty()).take(self.neighbours_max).collect()
    }

    /// Publishes the first version of a training: every row is solved.
    pub fn publish_trained(&mut self) -> Model {
        let mut hyper = self.hyper.clone();
        hyper.bounds.step_max = f32::INFINITY;
        let rows: Vec<Row> =
            (0..self.rows.len() as Row).filter(|row| !self.rows[*row as usize].b.is_empty()).collect();
        self.update_rows(rows.into_iter().map(|row| (row, None)), &hyper);
        self.raise_popularity_bases();
        self.catalogue_changes.clear();
        self.version = self.version.next();
        let all: Vec<Row> = (0..self.rows.len() as Row).collect();
        let patch = self.patch_rows(&all);
        self.published_rows = self.rows.len();
        self.row_versions.note(self.version, self.published_rows, &all);
        let mut model = self.empty_model();
        model.apply(&patch).expect("a patch made from the same statistics applies");
        model
    }
}
/// A row that is being updated.
struct Update<'a> {
    row: Row,
    statistics: &'a mut RowStatistics,
    /// What stands behind it now.
    evidence: Option<Evidence>,
    /// The row as published.
    factors: &'a [i8],
    scale: f32,
    /// The row as it will be published, where it has a solution.
    solved: Option<(Vec<i8>, f32)>,
}

impl RowStatistics {
    /// Ages a row to the merged weight and adds what stands behind it. Beside those published, some neighbours are
    /// kept, so that one that becomes frequent has its earlier count.
    fn fold(
        &mut self,
        evidence: &Evidence,
        merged: f64,
        dim: usize,
        neighbours_kept: usize,
        hyper: &Hyperparameters,
    ) {
        let passed = merged - self.aged_at;
        self.aged_at = merged;
        self.fold_equations(evidence, decay(passed, f64::from(hyper.factor_half_life)) as f32, dim);
        for (at, count) in self.popularity.iter_mut().enumerate() {
            let half_life = f64::from(hyper.popularity_half_lives[at]);
            let sum = if at >= ENTRIES { evidence.entries } else { evidence.positive() };
            *count = *count * decay(passed, half_life) + sum as f64 / WEIGHT_ONE;
        }

        let age = decay(passed, f64::from(hyper.transitions.half_life)) as f32;
        let fresh_age = decay(passed, f64::from(hyper.transitions.fresh_half_life)) as f32;
        let ages = [age, age, fresh_age];
        let aged = |sums: Readings| core::array::from_fn(|at| sums[at] * ages[at]);
        self.totals = aged(self.totals);
        let before = core::mem::take(&mut self.neighbours);
        let mut neighbours: BTreeMap<Row, Readings> =
            before.into_iter().map(|pair| (pair.row, aged(pair.sums))).collect();
        for (neighbour, [forward, backward]) in &evidence.neighbours {
            let new = [forward, backward, forward].map(|sum| (*sum as f64 / TRANSITION_ONE) as f32);
            let held = neighbours.entry(*neighbour).or_default();
            for (at, new) in new.into_iter().enumerate() {
                held[at] += new;
                self.totals[at] += new;
            }
        }
        self.neighbours = neighbours.into_iter().map(|(row, sums)| Pair { row, sums }).collect();
        if self.neighbours.len() > neighbours_kept {
            let mut ranked = self.ranked_neighbours(hyper.transitions.shrinkage);
            ranked.truncate(neighbours_kept);
            let kept: BTreeSet<Row> = ranked.into_iter().map(|neighbour| neighbour.row).collect();
            self.neighbours.retain(|pair| kept.contains(&pair.row));
        }
    }

    /// Ages A, b and N and adds what stands behind the row.
    pub(super) fn fold_equations(&mut self, evidence: &Evidence, age: f32, dim: usize) {
        self.a.resize(packed_len(dim), 0.0);
        self.b.resize(dim, 0.0);
        let (a, b) = evidence.sums(dim);
        let add = |base: &mut [f32], sums: &[f64]| {
            for (base, sum) in base.iter_mut().zip(sums) {
                *base = *base * age + *sum as f32;
            }
        };
        add(&mut self.a, &a);
        add(&mut self.b, &b);
        self.n = self.n * age + (evidence.weight() as f64 / WEIGHT_ONE) as f32;
    }
}

/// Solves rows, and bounds how far each may move in one publish.
#[derive(Clone)]
pub(super) struct Steps {
    solver: Solver,
    alpha: f32,
    lambda: f32,
    c: Vec<f32>,
    m: f32,
    /// Length of the longest step.
    longest: f32,
    from: Vec<f32>,
}

/// The way of a row to its solution.
pub(super) struct Step<'a> {
    /// The row as published (d).
    pub(super) from: &'a [f32],
    /// The solution (d).
    pub(super) to: &'a [f32],
    /// How much of the way one publish may go: 1 where the step is not bounded.
    pub(super) fraction: f32,
}

impl Step<'_> {
    /// Returns where the step leads, quantised, with its scale.
    fn quantised(&self) -> (Vec<i8>, f32) {
        let way = |(old, q): (&f32, &f32)| old + self.fraction * (q - old);
        let after: Vec<f32> = self.from.iter().zip(self.to).map(way).collect();
        let mut factors = vec![0; after.len()];
        let scale = quantise(&after, &mut factors);
        (factors, scale)
    }
}

impl Steps {
    /// Returns what solves rows of the statistics with the people of `c` and `m`.
    pub(super) fn new(statistics: &Statistics, c: &[f64], m: f64, hyper: &Hyperparameters) -> Self {
        let d = statistics.dim;
        let trace: f64 = (0..d).map(|i| statistics.gram[packed_len(i + 1) - 1]).sum();
        let typical = f64::sqrt(trace / statistics.rows.len().max(1) as f64) as f32;
        Self {
            solver: Solver::new(d),
            alpha: hyper.alpha,
            lambda: hyper.lambda,
            c: c.iter().map(|value| *value as f32).collect(),
            m: m as f32,
            longest: hyper.bounds.step_max * if typical > 0.0 { typical } else { 1.0 },
            from: vec![0.0; d],
        }
    }

    /// Solves a row, whose factors are published as `factors` and `scale`; `None` if it has no solution.
    pub(super) fn solve(&mut self, row: &RowStatistics, factors: &[i8], scale: f32) -> Option<Step<'_>> {
        let ridge = self.lambda * (row.n + self.alpha * self.m);
        let parts: &[(f32, &[f32])] = &[(1.0, &row.a), (self.alpha, &self.c)];
        let to = self.solver.solve(parts, ridge, &row.b)?;
        for (value, factor) in self.from.iter_mut().zip(factors) {
            *value = f32::from(*factor) * scale;
        }
        let step = f32::sqrt(to.iter().zip(&self.from).map(|(q, old)| (q - old) * (q - old)).sum::<f32>());
        let fraction = if step > self.longest { self.longest / step } else { 1.0 };
        Some(Step { from: &self.from, to, fraction })
    }
}
