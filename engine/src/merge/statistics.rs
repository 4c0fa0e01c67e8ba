//! The merge: deltas into sufficient statistics, statistics into the next version.
//!
//! ```text
//! admit     A_i += w·p pᵀ    b_i += w·t·p    N_i += w      C += f·p pᵀ    m += f    T[a → b] += weight
//! publish   q_i = (A_i + α0 C + λ (N_i + α0 m) I)⁻¹ b_i
//! ```
//!
//! The sums of a publish window are integers, so that deltas may come in any order. Publishing
//! folds the window into the aged base once, in row order; only touched rows are solved again.
//! Ageing is by merged weight and lazy: a row is aged when it is touched.

use crate::algebra::{Solver, packed_len};
use crate::error::{CatalogError, MergeError, Refusal};
use crate::event::Kind;
use crate::ids::{ITEM_ID_BYTES_MAX, ItemKey, Lineage, ModelVersion, ROWS_MAX, Row};
use crate::model::hyper::Hyperparameters;
use crate::model::patch::Patch;
use crate::model::popularity::{ENTRIES, HALF_LIVES, OCTAVES_MAX, Scale, decay, level};
use crate::model::transitions::{Neighbour, Stored};
use crate::model::{Model, quantise};
use crate::sync::delta::{Delta, SHARE_STEPS};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most versions that one delta's metrics may speak of.
pub const METRICS_MAX: usize = 4;

/// Fixed point of p pᵀ and p: 2⁻²⁴. With weights in 2⁻⁸, a sum of 2²⁰ deltas at norm 4 stays below 2⁶³.
const FACTOR_ONE: f64 = (1u64 << 24) as f64;
const WEIGHT_ONE: f64 = 256.0;
const SHARE_ONE: f64 = SHARE_STEPS as f64;
const TRANSITION_ONE: f64 = 65_536.0;

/// Private statistics of one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct RowStatistics {
    /// A_i, packed; empty while nothing was merged.
    a: Vec<f32>,
    b: Vec<f32>,
    n: f32,
    popularity: [f64; HALF_LIVES],
    /// Neighbours, rising rows.
    neighbours: Vec<Pair>,
    /// Sums over all neighbours, those not kept among them.
    totals: Readings,
    /// Merged weight at which the row was aged last.
    aged_at: f64,
}

/// Readings of the transitions between a row and another: forward, backward, fresh.
pub type Readings = [f32; 3];

/// Transitions between a row and one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The neighbour's row.
    pub row: Row,
    /// Weight of the transitions: forward, backward, fresh.
    pub sums: Readings,
}

/// What central goes on from: sums behind every row. Private; never published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    lineage: Lineage,
    version: ModelVersion,
    dim: usize,
    neighbours_max: usize,
    hyper: Hyperparameters,
    rows: Vec<RowStatistics>,
    c: Vec<f64>,
    m: f64,
    /// W, the weight merged so far.
    merged: f64,
    c_aged_at: f64,
    /// Octaves that all popularity levels of a half-life leave out.
    popularity_bases: [f64; HALF_LIVES],
    ids: Vec<String>,
    withdrawn: Vec<bool>,
    /// Rows whose id or withdrawal no version tells yet.
    catalogue_changes: BTreeSet<Row>,
    /// Rows that published versions have; later ones are new to them.
    told: usize,
    /// Running Gram and sum of the published rows.
    gram: Vec<f64>,
    sum: Vec<f64>,
    /// Published rows, quantised: what the Gram is made of.
    factors: Vec<i8>,
    scales: Vec<f32>,
    #[serde(skip)]
    rows_by_key: HashMap<ItemKey, Row>,
}

/// Integer sums of one row in a window.
#[derive(Clone, Debug, PartialEq)]
struct RowWindow {
    a: Vec<i64>,
    b: Vec<i64>,
    n: i64,
    popularity: i64,
    /// Of these, what began a sitting.
    entries: i64,
    /// Transitions to other rows and from them.
    neighbours: BTreeMap<Row, [i64; 2]>,
    devices: BTreeSet<u64>,
    /// Devices counted in windows before this one, while the row waited.
    devices_before: u32,
}

/// The deltas admitted since the last publish, as integer sums; rows below the k-threshold wait here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    rows: BTreeMap<Row, RowWindow>,
    c: Vec<i64>,
    m: i64,
    merged: i64,
    deltas: u64,
}

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
}

impl Window {
    /// Returns an empty window.
    pub fn new(_statistics: &Statistics) -> Self {
        Self::default()
    }

    /// Returns the deltas admitted since the last publish.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Returns whether nothing was admitted since the last publish.
    pub fn is_empty(&self) -> bool {
        self.deltas == 0
    }

    /// Checks a delta against the model's bounds; nothing is changed.
    ///
    /// # Errors
    /// [`Refusal`], which is final for the delta.
    pub fn check(
        &self,
        statistics: &Statistics,
        delta: &Delta,
        oldest_base: ModelVersion,
    ) -> Result<(), Refusal> {
        let bounds = &statistics.hyper.bounds;
        if delta.lineage != statistics.lineage {
            return Err(Refusal::WrongLineage { found: delta.lineage, current: statistics.lineage });
        }
        if delta.base_version < oldest_base {
            return Err(Refusal::Stale { base: delta.base_version, oldest: oldest_base });
        }
        if delta.base_version > statistics.version {
            return Err(Refusal::FromTheFuture { base: delta.base_version, latest: statistics.version });
        }
        if delta.factor.len() != statistics.dim {
            return Err(Refusal::FactorLength {
                found: delta.factor.len() as u32,
                expected: statistics.dim as u32,
            });
        }
        if !(delta.factor_scale.is_finite() && delta.factor_scale > 0.0) {
            return Err(Refusal::FactorScale);
        }
        let norm = delta.factor_norm();
        if norm.is_nan() || norm > bounds.factor_norm_max {
            return Err(Refusal::FactorNorm { found: norm, limit: bounds.factor_norm_max });
        }
        if delta.items.is_empty() || delta.items.len() > usize::from(bounds.items_max) {
            return Err(Refusal::ItemCount {
                found: delta.items.len() as u32,
                limit: u32::from(bounds.items_max),
            });
        }
        let mut mentions: HashMap<Row, u32> = HashMap::new();
        for touch in &delta.items {
            let row = touch.row();
            if row as usize >= statistics.rows.len() {
                return Err(Refusal::UnknownRow { row, rows: statistics.rows.len() as u32 });
            }
            let known = Kind::from_index(touch.kind)
                .is_some_and(|kind| kind.is_history() && statistics.hyper.kind(kind).weight > 0.0);
            if !known {
                return Err(Refusal::UnknownKind { kind: touch.kind });
            }
            let found = mentions.entry(row).or_insert(0);
            *found += 1;
            if *found > u32::from(bounds.repeats_max) {
                return Err(Refusal::Repeats { row, found: *found, limit: u32::from(bounds.repeats_max) });
            }
        }
        if delta.share == 0 || delta.share > SHARE_STEPS {
            return Err(Refusal::Share { found: f32::from(delta.share) / f32::from(SHARE_STEPS) });
        }
        let choices: u32 =
            delta.metrics.iter().flat_map(|metrics| metrics.bins).map(u32::from).fold(0, u32::saturating_add);
        let limit = crate::person::HISTORY_MAX as u32;
        if delta.metrics.len() > METRICS_MAX || choices > limit {
            return Err(Refusal::Metrics { found: choices, limit });
        }
        Ok(())
    }

    /// Adds a checked delta to the sums. `device_tag` stands for the device within this window.
    pub fn admit(&mut self, statistics: &Statistics, delta: &Delta, device_tag: u64) {
        let d = statistics.dim;
        let hyper = &statistics.hyper;
        let scale = f64::from(delta.factor_scale);
        let square = scale * scale * FACTOR_ONE;
        let mut outer = Vec::with_capacity(packed_len(d));
        for (i, left) in delta.factor.iter().enumerate() {
            let left = i32::from(*left);
            outer.extend(
                delta.factor[..=i]
                    .iter()
                    .map(|right| libm::rint(f64::from(left * i32::from(*right)) * square) as i64),
            );
        }
        let line: Vec<i64> = delta
            .factor
            .iter()
            .map(|value| libm::rint(f64::from(*value) * scale * FACTOR_ONE) as i64)
            .collect();

        self.c.resize(packed_len(d), 0);
        let share = i64::from(delta.share);
        self.c.iter_mut().zip(&outer).for_each(|(sum, value)| *sum += share * value);
        self.m += share;
        self.deltas += 1;

        // The newest item last; a sitting's break ends the reach of what came before.
        let mut sitting: Vec<Row> = Vec::new();
        for touch in &delta.items {
            let Some(kind) = Kind::from_index(touch.kind) else { continue };
            let weights = hyper.kind(kind);
            let weight = libm::rint(f64::from(weights.weight) * WEIGHT_ONE) as i64;
            let wanted = libm::rint(f64::from(weights.weight * weights.target) * WEIGHT_ONE) as i64;
            let row = self.rows.entry(touch.row()).or_insert_with(|| RowWindow::new(d));
            row.a.iter_mut().zip(&outer).for_each(|(sum, value)| *sum += weight * value);
            row.b.iter_mut().zip(&line).for_each(|(sum, value)| *sum += wanted * value);
            row.n += weight;
            row.popularity += wanted;
            if touch.begins_sitting() {
                row.entries += wanted;
            }
            row.devices.insert(device_tag);
            self.merged += weight;
            if touch.begins_sitting() {
                sitting.clear();
            }
            if wanted == 0 {
                continue;
            }
            let mut share = 1.0;
            for leader in sitting.iter().rev().take(usize::from(hyper.transitions.reach)) {
                if *leader != touch.row() {
                    let pair = libm::rint(share * f64::from(weights.weight) * TRANSITION_ONE) as i64;
                    let row = self.rows.entry(*leader).or_insert_with(|| RowWindow::new(d));
                    row.neighbours.entry(touch.row()).or_default()[0] += pair;
                    let row = self.rows.entry(touch.row()).or_insert_with(|| RowWindow::new(d));
                    row.neighbours.entry(*leader).or_default()[1] += pair;
                }
                share *= f64::from(hyper.transitions.distance_decay);
            }
            sitting.push(touch.row());
        }
    }
}

impl RowWindow {
    fn new(d: usize) -> Self {
        Self {
            a: vec![0; packed_len(d)],
            b: vec![0; d],
            n: 0,
            popularity: 0,
            entries: 0,
            neighbours: BTreeMap::new(),
            devices: BTreeSet::new(),
            devices_before: 0,
        }
    }
}

impl RowStatistics {
    /// Returns the neighbours with their shares, strongest first.
    fn ranked_neighbours(&self, shrinkage: f32) -> Vec<Neighbour> {
        let share = |sums: &Readings, at: usize| {
            if sums[at] > 0.0 { sums[at] / (self.totals[at] + shrinkage) } else { 0.0 }
        };
        let read = |pair: &Pair| Neighbour {
            row: pair.row,
            forward: share(&pair.sums, 0),
            backward: share(&pair.sums, 1),
            fresh: share(&pair.sums, 2),
        };
        let mut ranked: Vec<Neighbour> = self.neighbours.iter().map(read).collect();
        // What follows weighs most: a choice; see docs/model.md.
        let strength = |n: &Neighbour| 2.0 * n.forward + n.backward + n.fresh;
        ranked.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.row.cmp(&b.row)));
        ranked
    }
}

const MAGIC: [u8; 4] = *b"NFST";
const FORMAT: u16 = 1;

impl Statistics {
    /// Returns statistics without items.
    pub fn new(lineage: Lineage, dim: usize, neighbours_max: usize, hyper: Hyperparameters) -> Self {
        Self {
            lineage,
            version: ModelVersion(0),
            dim,
            neighbours_max,
            hyper,
            rows: Vec::new(),
            c: vec![0.0; packed_len(dim)],
            m: 0.0,
            merged: 0.0,
            c_aged_at: 0.0,
            // Room for counts down to 2⁻¹⁶ below one event at the start of the lineage.
            popularity_bases: [-16.0; HALF_LIVES],
            ids: Vec::new(),
            withdrawn: Vec::new(),
            catalogue_changes: BTreeSet::new(),
            told: 0,
            gram: vec![0.0; packed_len(dim)],
            sum: vec![0.0; dim],
            factors: Vec::new(),
            scales: Vec::new(),
            rows_by_key: HashMap::new(),
        }
    }

    /// Returns the lineage.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Returns the version published last.
    pub fn version(&self) -> ModelVersion {
        self.version
    }

    /// Returns the number of rows, withdrawn ones included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether the catalogue has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns whether a publish would tell of the catalogue.
    pub fn catalogue_waits(&self) -> bool {
        !self.catalogue_changes.is_empty()
    }

    /// Returns an empty model that the first publication applies to.
    pub fn empty_model(&self) -> Model {
        Model::empty(self.lineage, self.dim, self.neighbours_max, self.hyper.clone())
    }

    /// Registers an item and returns its row; a known one keeps its row, a withdrawn one comes back.
    ///
    /// # Errors
    /// [`CatalogError`] for a bad id, a key collision, or a full catalogue.
    pub fn register(&mut self, id: &str) -> Result<Row, CatalogError> {
        if id.is_empty() {
            return Err(CatalogError::EmptyItemId);
        }
        if id.len() > ITEM_ID_BYTES_MAX {
            return Err(CatalogError::TooLong { bytes: id.len(), limit: ITEM_ID_BYTES_MAX });
        }
        let key = ItemKey::of(id);
        if let Some(row) = self.rows_by_key.get(&key).copied() {
            let held = &self.ids[row as usize];
            if held != id {
                return Err(CatalogError::KeyCollision { item_id: id.to_owned(), other: held.clone() });
            }
            if self.withdrawn[row as usize] {
                self.withdrawn[row as usize] = false;
                self.catalogue_changes.insert(row);
            }
            return Ok(row);
        }
        if self.rows.len() == ROWS_MAX {
            return Err(CatalogError::Full { limit: ROWS_MAX });
        }
        let row = self.rows.len() as Row;
        self.rows.push(RowStatistics { aged_at: self.merged, ..RowStatistics::default() });
        self.ids.push(id.to_owned());
        self.withdrawn.push(false);
        self.factors.resize(self.rows.len() * self.dim, 0);
        self.scales.push(0.0);
        self.rows_by_key.insert(key, row);
        self.catalogue_changes.insert(row);
        Ok(row)
    }

    /// Withdraws an item: it keeps its row and is not recommended any more.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`].
    pub fn withdraw(&mut self, id: &str) -> Result<Row, CatalogError> {
        let row = self
            .rows_by_key
            .get(&ItemKey::of(id))
            .copied()
            .filter(|row| self.ids[*row as usize] == id)
            .ok_or_else(|| CatalogError::Unknown { item_id: id.to_owned() })?;
        if !self.withdrawn[row as usize] {
            self.withdrawn[row as usize] = true;
            self.catalogue_changes.insert(row);
        }
        Ok(row)
    }

    /// Folds the window into the aged base and returns the step to the next version. Rows behind
    /// which fewer than `k` distinct devices stand keep waiting in the window.
    pub fn publish(&mut self, window: &mut Window, k: u32) -> Publication {
        let hyper = self.hyper.clone();
        self.merged += window.merged as f64 / WEIGHT_ONE;
        let age = decay(self.merged - self.c_aged_at, f64::from(hyper.factor_half_life));
        self.c_aged_at = self.merged;
        for (sum, value) in self.c.iter_mut().zip(window.c.iter().chain(std::iter::repeat(&0))) {
            *sum = *sum * age + *value as f64 / (FACTOR_ONE * SHARE_ONE);
        }
        self.m = self.m * age + window.m as f64 / SHARE_ONE;
        window.c.fill(0);
        (window.m, window.merged, window.deltas) = (0, 0, 0);

        let mut changed: BTreeSet<Row> = std::mem::take(&mut self.catalogue_changes);
        let mut waiting = BTreeMap::new();
        let mut solve = Vec::new();
        for (row, mut sums) in std::mem::take(&mut window.rows) {
            let devices = sums.devices_before + sums.devices.len() as u32;
            if devices < k {
                // The tags end with the window's key; what is kept is how many there were.
                sums.devices_before = devices;
                sums.devices.clear();
                waiting.insert(row, sums);
                continue;
            }
            self.fold_row(row, &sums, &hyper);
            changed.insert(row);
            if sums.n != 0 {
                solve.push(row);
            }
        }
        window.rows = waiting;
        self.solve_rows(&solve, &hyper);
        self.version = self.version.next();

        self.settle_popularity_bases();
        let changed: Vec<Row> = changed.into_iter().collect();
        let patch = self.patch_rows(&changed);
        self.told = self.rows.len();
        Publication { version: self.version, patch, changed, waiting: window.rows.len() }
    }

    /// Ages one row and adds its window.
    fn fold_row(&mut self, row: Row, sums: &RowWindow, hyper: &Hyperparameters) {
        let passed = self.merged - self.rows[row as usize].aged_at;
        let d = self.dim;
        let statistics = &mut self.rows[row as usize];
        statistics.aged_at = self.merged;
        if sums.n != 0 {
            statistics.a.resize(packed_len(d), 0.0);
            statistics.b.resize(d, 0.0);
        }
        let age = decay(passed, f64::from(hyper.factor_half_life)) as f32;
        let unit = 1.0 / (FACTOR_ONE * WEIGHT_ONE);
        let add = |base: &mut [f32], sums: &[i64]| {
            for (base, sum) in base.iter_mut().zip(sums) {
                *base = *base * age + (*sum as f64 * unit) as f32;
            }
        };
        add(&mut statistics.a, &sums.a);
        add(&mut statistics.b, &sums.b);
        statistics.n = statistics.n * age + (sums.n as f64 / WEIGHT_ONE) as f32;
        for (at, count) in statistics.popularity.iter_mut().enumerate() {
            let half_life = f64::from(hyper.popularity_half_lives[at]);
            let sum = if at >= ENTRIES { sums.entries } else { sums.popularity };
            *count = *count * decay(passed, half_life) + sum as f64 / WEIGHT_ONE;
        }

        let age = decay(passed, f64::from(hyper.transitions.half_life)) as f32;
        let fresh_age = decay(passed, f64::from(hyper.transitions.fresh_half_life)) as f32;
        let ages = [age, age, fresh_age];
        let aged = |sums: Readings| std::array::from_fn(|at| sums[at] * ages[at]);
        statistics.totals = aged(statistics.totals);
        let before = std::mem::take(&mut statistics.neighbours);
        let mut neighbours: BTreeMap<Row, Readings> =
            before.into_iter().map(|pair| (pair.row, aged(pair.sums))).collect();
        for (neighbour, [forward, backward]) in &sums.neighbours {
            let new = [forward, backward, forward].map(|sum| (*sum as f64 / TRANSITION_ONE) as f32);
            let held = neighbours.entry(*neighbour).or_default();
            for (at, new) in new.into_iter().enumerate() {
                held[at] += new;
                statistics.totals[at] += new;
            }
        }
        statistics.neighbours = neighbours.into_iter().map(|(row, sums)| Pair { row, sums }).collect();
        // Kept beyond what is published, so that a rising neighbour has a count to rise from.
        let keep = 4 * self.neighbours_max;
        if statistics.neighbours.len() > keep {
            let statistics = &mut self.rows[row as usize];
            let mut ranked = statistics.ranked_neighbours(hyper.transitions.shrinkage);
            ranked.truncate(keep);
            let kept: BTreeSet<Row> = ranked.into_iter().map(|neighbour| neighbour.row).collect();
            statistics.neighbours.retain(|pair| kept.contains(&pair.row));
        }
    }

    /// Solves touched rows again and keeps Gram and sum in step.
    fn solve_rows(&mut self, rows: &[Row], hyper: &Hyperparameters) {
        let d = self.dim;
        let c: Vec<f32> = self.c.iter().map(|value| *value as f32).collect();
        let trace: f64 = (0..d).map(|i| self.gram[packed_len(i + 1) - 1]).sum();
        let typical = libm::sqrt(trace / self.rows.len().max(1) as f64) as f32;
        let step_max = hyper.bounds.step_max * if typical > 0.0 { typical } else { 1.0 };
        let mut solver = Solver::new(d);
        let mut before = vec![0.0; d];
        let mut after = vec![0.0; d];
        for row in rows.iter().map(|row| *row as usize) {
            let statistics = &self.rows[row];
            let ridge = hyper.lambda * (statistics.n + hyper.alpha * self.m as f32);
            let parts: &[(f32, &[f32])] = &[(1.0, &statistics.a), (hyper.alpha, &c)];
            let Some(q) = solver.solve(parts, ridge, &statistics.b) else { continue };
            let place = row * d..(row + 1) * d;
            for (value, factor) in before.iter_mut().zip(&self.factors[place.clone()]) {
                *value = f32::from(*factor) * self.scales[row];
            }
            let step = libm::sqrtf(q.iter().zip(&before).map(|(q, old)| (q - old) * (q - old)).sum::<f32>());
            let share = if step > step_max { step_max / step } else { 1.0 };
            for ((after, q), old) in after.iter_mut().zip(q).zip(&before) {
                *after = old + share * (q - old);
            }
            self.scales[row] = quantise(&after, &mut self.factors[place.clone()]);
            for (value, factor) in after.iter_mut().zip(&self.factors[place]) {
                *value = f32::from(*factor) * self.scales[row];
            }
            let mut at = 0;
            for i in 0..d {
                self.sum[i] += f64::from(after[i]) - f64::from(before[i]);
                for j in 0..=i {
                    self.gram[at] += f64::from(after[i]) * f64::from(after[j])
                        - f64::from(before[i]) * f64::from(before[j]);
                    at += 1;
                }
            }
        }
    }

    /// Returns the patch from the version before, over the given rows.
    fn patch_rows(&self, changed: &[Row]) -> Vec<u8> {
        let n = self.rows.len().max(1) as f64;
        let rows = changed.iter().map(|row| {
            let place = *row as usize;
            crate::model::patch::PatchRow {
                row: *row,
                id: (place >= self.told).then(|| self.ids[place].clone()),
                scale: self.scales[place],
                factors: self.factors[place * self.dim..(place + 1) * self.dim].to_vec(),
                popularity: self.popularity_levels(place),
                neighbours: self.published_neighbours(place),
                withdrawn: self.withdrawn[place],
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

    /// Levels rise by an octave a half-life; before they outgrow 16 bits all move down.
    fn settle_popularity_bases(&mut self) {
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
        std::array::from_fn(|at| {
            let half_life = f64::from(half_lives[at]);
            level(statistics.popularity[at], statistics.aged_at, half_life, self.popularity_bases[at])
        })
    }

    fn popularity_scales(&self) -> [Scale; HALF_LIVES] {
        let half_lives = self.hyper.popularity_half_lives;
        std::array::from_fn(|at| Scale::at(self.merged, f64::from(half_lives[at]), self.popularity_bases[at]))
    }

    /// Returns the strongest neighbours of a row as the model stores them, strongest first.
    fn published_neighbours(&self, row: usize) -> Vec<Stored> {
        let ranked = self.rows[row].ranked_neighbours(self.hyper.transitions.shrinkage);
        let stored = ranked.iter().map(Stored::new);
        stored.filter(|stored| !stored.is_empty()).take(self.neighbours_max).collect()
    }

    /// Checks that the statistics go on from this model.
    ///
    /// # Errors
    /// [`MergeError::Mismatch`].
    pub fn check_model(&self, model: &Model) -> Result<(), MergeError> {
        if self.lineage == model.lineage() && self.version == model.version() && self.told == model.len() {
            return Ok(());
        }
        Err(MergeError::Mismatch { statistics: self.version, model: model.version() })
    }

    /// Returns the statistics as a private file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes =
            postcard::to_extend(self, bytes).expect("statistics have no type that postcard refuses");
        bytes.extend(crate::ids::short_hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a private file.
    ///
    /// # Errors
    /// [`MergeError`] for a file of another kind or a damaged one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MergeError> {
        let damaged = |what| MergeError::Damaged { what };
        let body = bytes.strip_prefix(&MAGIC).ok_or(MergeError::Foreign)?;
        let body = body.strip_prefix(&FORMAT.to_le_bytes()).ok_or(damaged("unknown format"))?;
        let (body, checksum) = body.split_last_chunk::<8>().ok_or(damaged("cut off"))?;
        if crate::ids::short_hash(&bytes[..bytes.len() - 8]).to_le_bytes() != *checksum {
            return Err(damaged("its checksum does not match"));
        }
        let mut statistics: Self = postcard::from_bytes(body).map_err(|_| damaged("not statistics"))?;
        statistics.rows_by_key =
            statistics.ids.iter().enumerate().map(|(row, id)| (ItemKey::of(id), row as Row)).collect();
        Ok(statistics)
    }

    /// Gives an item its sums from a training; the next [`Statistics::publish_trained`] solves it.
    pub fn set_trained(&mut self, trained: TrainedSums) {
        self.c = trained.c;
        self.m = trained.m;
        self.merged = trained.merged;
        self.c_aged_at = trained.merged;
        for (row, sums) in self.rows.iter_mut().zip(trained.rows) {
            *row = RowStatistics {
                a: sums.equations.a,
                b: sums.equations.b,
                n: sums.equations.h,
                popularity: sums.popularity,
                neighbours: sums.neighbours,
                totals: sums.totals,
                aged_at: trained.merged,
            };
        }
    }

    /// Publishes the first version of a training: every row is solved.
    pub fn publish_trained(&mut self) -> Model {
        let mut hyper = self.hyper.clone();
        hyper.bounds.step_max = f32::INFINITY;
        let rows: Vec<Row> =
            (0..self.rows.len() as Row).filter(|row| !self.rows[*row as usize].b.is_empty()).collect();
        self.solve_rows(&rows, &hyper);
        self.settle_popularity_bases();
        self.catalogue_changes.clear();
        self.version = self.version.next();
        let all: Vec<Row> = (0..self.rows.len() as Row).collect();
        let patch = self.patch_rows(&all);
        self.told = self.rows.len();
        let mut model = self.empty_model();
        model.apply(&patch).expect("a patch made from the same statistics applies");
        model
    }
}

/// Sums of a training, for all rows.
#[derive(Clone, Debug)]
pub struct TrainedSums {
    /// Sums of each row, in the order of the rows.
    pub rows: Vec<TrainedRow>,
    /// C = Σ f·p pᵀ, packed (d(d+1)/2).
    pub c: Vec<f64>,
    /// m = Σ f.
    pub m: f64,
    /// W, the weight of all training events.
    pub merged: f64,
}

/// Sums of a training, for one row, aged to its end.
#[derive(Clone, Debug)]
pub struct TrainedRow {
    /// A, b and N; empty where no person touched the item.
    pub equations: crate::algebra::NormalEquations,
    /// Decayed counts, one a half-life.
    pub popularity: [f64; HALF_LIVES],
    /// Transitions to and from other rows, rising rows.
    pub neighbours: Vec<Pair>,
    /// Sums of the transitions over all neighbours.
    pub totals: Readings,
}
