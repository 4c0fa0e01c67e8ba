//! The shared model: versioned, the same for everyone.

pub mod blend;
pub(crate) mod bounds;
pub(crate) mod catalogue;
pub mod hyper;
pub mod manifest;
pub mod pack;
pub mod patch;
pub mod popularity;
pub(crate) mod priors;
pub(crate) mod sections;
pub mod transitions;
pub mod update;

use crate::ids::{ItemKey, Lineage, ModelVersion, Row};
use crate::model::blend::Scenario;
use crate::model::bounds::Bounds;
use crate::model::catalogue::Catalogue;
use crate::model::hyper::Hyperparameters;
use crate::model::popularity::{HALF_LIVES, LogTable, Scale};
use crate::model::priors::{Derived, Priors, prior};
use crate::model::sections::{Sections, Shape};
use crate::model::transitions::{Neighbour, Stored};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::BLOCK;
use nearfield_kernels::algebra::packed_len;
pub use nearfield_kernels::factors::Step;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// The model: item factors, Gram, transitions, popularity, blend, ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub(crate) lineage: Lineage,
    pub(crate) version: ModelVersion,
    pub(crate) hyper: Hyperparameters,
    /// All that there is of the rows, as it is in the file.
    pub(crate) sections: Sections,
    /// Where the levels of popularity stand at this version.
    pub(crate) scales_of_popularity: [Scale; HALF_LIVES],
    pub(crate) catalogue: Catalogue,
    /// Of each block of rows.
    pub(crate) bounds: Bounds,
    pub(crate) derived: Derived,
    log_table: LogTable,
}

impl Model {
    /// Returns a model of that shape, whose rows are zeros, without a catalogue and bounds.
    fn new(lineage: Lineage, version: ModelVersion, hyper: Hyperparameters, shape: Shape) -> Self {
        Self {
            lineage,
            version,
            hyper,
            sections: Sections::new(shape),
            scales_of_popularity: [Scale::default(); HALF_LIVES],
            catalogue: Catalogue::default(),
            bounds: Bounds::default(),
            derived: Derived::default(),
            log_table: LogTable::new(),
        }
    }

    /// Returns a model without items.
    pub(crate) fn empty(lineage: Lineage, dim: usize, neighbours_max: usize, hyper: Hyperparameters) -> Self {
        let shape = Shape { rows: 0, dim, neighbours_max, id_bytes: 0 };
        Self::new(lineage, ModelVersion(0), hyper, shape)
    }

    /// Returns a model of given factors (n × d, row after row), for measuring the ranking apart from
    /// any training: ids `item-0` …, no popularity, no neighbours.
    ///
    /// # Panics
    /// When `rows` is no multiple of `dim`.
    pub fn from_factors(lineage: Lineage, dim: usize, rows: &[f32], hyper: Hyperparameters) -> Self {
        assert!(rows.len().is_multiple_of(dim), "{} numbers cannot be rows of {dim}", rows.len());
        let mut model = Self::empty(lineage, dim, 0, hyper);
        model.version = ModelVersion(1);
        let count = rows.len() / dim;
        let ids: Vec<String> = (0..count).map(|at| format!("item-{at}")).collect();
        model.push_rows(ids.iter().map(String::as_str));
        let mut gram = vec![0.0f64; packed_len(dim)];
        let mut sum = vec![0.0f64; dim];
        let (mut row, mut quantised) = (vec![0.0; dim], vec![0; dim]);
        for (at, q) in rows.chunks_exact(dim).enumerate() {
            model.sections.scales_mut()[at] = quantise(q, &mut quantised);
            model.sections.set_factors(at as Row, &quantised);
            model.dequantise(at as Row, &mut row);
            let mut entry = 0;
            for i in 0..dim {
                sum[i] += f64::from(row[i]);
                for j in 0..=i {
                    gram[entry] += f64::from(row[i]) * f64::from(row[j]);
                    entry += 1;
                }
            }
        }
        for (value, sum) in model.sections.gram_mut().iter_mut().zip(gram) {
            *value = sum as f32;
        }
        for (value, sum) in model.sections.mean_mut().iter_mut().zip(sum) {
            *value = (sum / count.max(1) as f64) as f32;
        }
        model.update_bounds(0..count as Row);
        model
    }

    /// Adds items with empty rows. Their keys must be new.
    pub(crate) fn push_rows<'a>(&mut self, ids: impl Iterator<Item = &'a str> + Clone) {
        let Shape { rows, id_bytes, .. } = self.sections.shape();
        let (mut count, mut at) = (rows, id_bytes);
        ids.clone().for_each(|id| (count, at) = (count + 1, at + 1 + id.len()));
        self.sections.grow(count, at);
        let mut room = &mut self.sections.ids_mut()[id_bytes..];
        for id in ids {
            let (own, rest) = room.split_at_mut(1 + id.len());
            own[0] = id.len() as u8;
            own[1..].copy_from_slice(id.as_bytes());
            room = rest;
        }
        for _ in rows..count {
            self.catalogue.read_next(self.sections.ids());
        }
        self.bounds.resize(count.div_ceil(BLOCK));
    }

    /// Derives the bounds of each block that holds one of the given rows, which are in rising order.
    pub(crate) fn update_bounds(&mut self, rows: impl Iterator<Item = Row>) {
        let mut done = None;
        for block in rows.map(|row| row as usize / BLOCK) {
            if done.replace(block) == Some(block) {
                continue;
            }
            let (first, last) = (block * BLOCK, (block * BLOCK + BLOCK).min(self.len()));
            let rows = self.sections.factors().block(block);
            self.bounds.derive(block, rows, &self.sections.scales()[first..last]);
        }
    }

    /// Returns the lineage: factors of another one share no basis with this.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Returns the version.
    pub fn version(&self) -> ModelVersion {
        self.version
    }

    /// Returns the number of rows, withdrawn ones included.
    pub fn len(&self) -> usize {
        self.sections.shape().rows
    }

    /// Returns whether the catalogue has no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns d, the number of factors.
    pub fn dim(&self) -> usize {
        self.sections.shape().dim
    }

    /// Returns m, the slots for neighbours of each item.
    pub fn neighbours_max(&self) -> usize {
        self.sections.shape().neighbours_max
    }

    /// Returns what the trainer chose.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// Returns the row of an item, if the catalogue has it.
    pub fn row(&self, key: ItemKey) -> Option<Row> {
        self.catalogue.row(self.sections.ids(), key)
    }

    /// Returns the operator's id of a row.
    ///
    /// # Panics
    /// When the row is not one of the model's.
    pub fn item_id(&self, row: Row) -> &str {
        self.catalogue.id(self.sections.ids(), row)
    }

    /// Returns whether the operator has withdrawn the item.
    pub fn is_withdrawn(&self, row: Row) -> bool {
        self.sections.withdrawn()[row as usize] != 0
    }

    /// Returns the item's levels of popularity, one a half-life (32 steps double it, 0 is never seen).
    pub fn popularity(&self, row: Row) -> [u16; HALF_LIVES] {
        self.sections.popularity()[row as usize]
    }

    /// Returns ln(1 + decayed count) of a row at each half-life.
    pub fn popularity_features(&self, row: Row) -> [f32; HALF_LIVES] {
        core::array::from_fn(|half_life| self.popularity_feature(row, half_life))
    }

    /// Returns the static prior of a row with these weights.
    pub(crate) fn prior_of(&self, row: Row, weights: &blend::Weights) -> f32 {
        prior(weights, &self.popularity_features(row), self.cold(row))
    }

    /// Returns ln(1 + decayed count) of a row at one half-life.
    #[inline]
    pub(crate) fn popularity_feature(&self, row: Row, half_life: usize) -> f32 {
        self.log_table.value(
            self.sections.popularity()[row as usize][half_life],
            self.scales_of_popularity[half_life].one,
        )
    }

    /// Returns the mean of [`Model::popularity_features`] over the catalogue.
    pub(crate) fn popularity_mean(&self) -> &[f32; HALF_LIVES] {
        self.derived.popularity_mean.get_or_init(|| {
            let mut sums = [0.0f64; HALF_LIVES];
            for row in 0..self.len() {
                let features = self.popularity_features(row as Row);
                sums.iter_mut().zip(features).for_each(|(sum, value)| *sum += f64::from(value));
            }
            sums.map(|sum| (sum / self.len().max(1) as f64) as f32)
        })
    }

    /// Returns the static prior of every row: the part of the score that is the same for everyone.
    pub(crate) fn priors(&self, scenario: Scenario, bucket: usize) -> &Priors {
        self.derived.priors[scenario as usize][bucket].get_or_init(|| {
            let weights = self.hyper.blend.weights(scenario, bucket);
            let prior = |row| self.prior_of(row, weights);
            Priors::new((0..self.len() as Row).map(prior).collect())
        })
    }

    /// Returns 1 where the row has no factor yet, else 0.
    pub fn cold(&self, row: Row) -> f32 {
        if self.sections.scales()[row as usize] == 0.0 { 1.0 } else { 0.0 }
    }

    /// Returns the mean of the dequantised rows (d).
    pub(crate) fn mean(&self) -> &[f32] {
        self.sections.mean()
    }

    /// Returns G = QᵀQ of the dequantised rows, packed (d(d+1)/2).
    pub fn gram(&self) -> &[f32] {
        self.sections.gram()
    }

    /// Returns the quantised rows as they lie in memory, for measuring how fast they can be read.
    pub fn all_factors(&self) -> &[Step] {
        self.sections.factors().steps()
    }

    /// Returns the quantised row and its scale: qᵢ = scale · factors.
    pub fn factors(&self, row: Row) -> (Vec<i8>, f32) {
        (self.sections.factors().row(row).collect(), self.sections.scales()[row as usize])
    }

    /// Returns the neighbours of a row, strongest first.
    pub fn neighbours(&self, row: Row) -> impl Iterator<Item = Neighbour> + '_ {
        self.stored_neighbours(row).filter_map(Stored::read)
    }

    /// Returns the slots for neighbours of a row; the last ones may be empty.
    pub(crate) fn stored_neighbours(&self, row: Row) -> impl Iterator<Item = Stored> + '_ {
        self.sections.neighbours(row as usize..row as usize + 1)
    }

    /// Writes the row as numbers into `out`, which has length d.
    pub(crate) fn dequantise(&self, row: Row, out: &mut [f32]) {
        let scale = self.sections.scales()[row as usize];
        for (out, factor) in out.iter_mut().zip(self.sections.factors().row(row)) {
            *out = f32::from(factor) * scale;
        }
    }
}

/// Quantises a row to int8 into `out` and returns its scale, max |q| / 127 (0 for a zero row).
pub(crate) fn quantise(q: &[f32], out: &mut [i8]) -> f32 {
    let largest = q.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        out.fill(0);
        return 0.0;
    }
    let scale = largest / 127.0;
    for (out, value) in out.iter_mut().zip(q) {
        *out = f32::round_ties_even(value / scale) as i8;
    }
    scale
}
