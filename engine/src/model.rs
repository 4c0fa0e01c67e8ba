//! The shared model: versioned, the same for everyone.

use crate::fold_in::packed_len;
use crate::hyper::Hyperparameters;
use crate::ids::{ItemKey, Lineage, ModelVersion, Row};
use crate::recommend::{Scored, TopK};
use crate::score::dot_rows;
use std::collections::HashMap;

/// Largest number of factors: 512 products of 15 and 7 bits fit an `i32`.
pub const DIM_MAX: usize = 512;

/// The model: item factors, Gram, transitions, popularity, blend, ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub(crate) lineage: Lineage,
    pub(crate) version: ModelVersion,
    pub(crate) dim: usize,
    /// m: places for followers of each item.
    pub(crate) followers_max: usize,
    pub(crate) hyper: Hyperparameters,
    /// n × d, row after row.
    pub(crate) factors: Vec<i8>,
    /// n; row i is scale[i] · factors[i].
    pub(crate) scales: Vec<f32>,
    /// G = QᵀQ of the dequantised rows, packed.
    pub(crate) gram: Vec<f32>,
    /// Mean row, d.
    pub(crate) mean: Vec<f32>,
    /// n levels of popularity.
    pub(crate) popularity: Vec<u16>,
    /// n × m stored followers.
    pub(crate) followers: Vec<u32>,
    pub(crate) ids: Vec<String>,
    pub(crate) withdrawn: Vec<bool>,
    pub(crate) rows_by_key: HashMap<ItemKey, Row>,
}

impl Model {
    /// Returns a model without items.
    pub(crate) fn empty(lineage: Lineage, dim: usize, followers_max: usize, hyper: Hyperparameters) -> Self {
        Self {
            lineage,
            version: ModelVersion(0),
            dim,
            followers_max,
            hyper,
            factors: Vec::new(),
            scales: Vec::new(),
            gram: vec![0.0; packed_len(dim)],
            mean: vec![0.0; dim],
            popularity: Vec::new(),
            followers: Vec::new(),
            ids: Vec::new(),
            withdrawn: Vec::new(),
            rows_by_key: HashMap::new(),
        }
    }

    /// Adds an item with an empty row. Its key must be new.
    pub(crate) fn push_row(&mut self, id: String) {
        self.rows_by_key.insert(ItemKey::of(&id), self.ids.len() as Row);
        self.ids.push(id);
        self.factors.resize(self.ids.len() * self.dim, 0);
        self.scales.push(0.0);
        self.popularity.push(0);
        self.followers.resize(self.ids.len() * self.followers_max, 0);
        self.withdrawn.push(false);
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
        self.ids.len()
    }

    /// Returns whether the catalogue has no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns d, the number of factors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns m, the places for followers of each item.
    pub fn followers_max(&self) -> usize {
        self.followers_max
    }

    /// Returns what the trainer chose.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// Returns the row of an item, if the catalogue has it.
    pub fn row(&self, key: ItemKey) -> Option<Row> {
        self.rows_by_key.get(&key).copied()
    }

    /// Returns the operator's id of a row.
    ///
    /// # Panics
    /// When the row is not one of the model's.
    pub fn item_id(&self, row: Row) -> &str {
        &self.ids[row as usize]
    }

    /// Returns whether the operator has taken the item away.
    pub fn is_withdrawn(&self, row: Row) -> bool {
        self.withdrawn[row as usize]
    }

    /// Returns the item's level of popularity (256 steps double it, 0 is never seen).
    pub fn popularity(&self, row: Row) -> u16 {
        self.popularity[row as usize]
    }

    /// Returns the quantised row and its scale: qᵢ = scale · factors.
    pub fn factors(&self, row: Row) -> (&[i8], f32) {
        let start = row as usize * self.dim;
        (&self.factors[start..start + self.dim], self.scales[row as usize])
    }

    /// Returns the stored followers of a row.
    pub fn followers(&self, row: Row) -> &[u32] {
        let start = row as usize * self.followers_max;
        &self.followers[start..start + self.followers_max]
    }

    /// Writes the row as numbers into `out`, which has d places.
    pub(crate) fn dequantise(&self, row: Row, out: &mut [f32]) {
        let (factors, scale) = self.factors(row);
        for (out, factor) in out.iter_mut().zip(factors) {
            *out = f32::from(*factor) * scale;
        }
    }

    /// Returns the most popular items, best first; ties go to the lower row.
    pub fn popular(&self, count: usize) -> Vec<Scored> {
        let mut top = TopK::new(count);
        for row in 0..self.len() {
            if !self.withdrawn[row] {
                top.offer(row as Row, f32::from(self.popularity[row]));
            }
        }
        top.into_sorted()
    }

    /// Returns the items whose rows point most nearly the same way (cosine), best first.
    pub fn similar(&self, row: Row, count: usize) -> Vec<Scored> {
        let (own, _) = self.factors(row);
        let own: Vec<i16> = own.iter().map(|factor| i16::from(*factor)).collect();
        let norm = |factors: &[i8]| {
            libm::sqrtf(factors.iter().map(|f| i32::from(*f) * i32::from(*f)).sum::<i32>() as f32)
        };
        let own_norm = norm(self.factors(row).0);
        let mut top = TopK::new(count);
        for (other, dot) in dot_rows(&own, &self.factors).enumerate() {
            let other_norm = norm(self.factors(other as Row).0);
            if other != row as usize && !self.withdrawn[other] && other_norm > 0.0 && own_norm > 0.0 {
                top.offer(other as Row, dot as f32 / (own_norm * other_norm));
            }
        }
        top.into_sorted()
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
        *out = libm::rintf(value / scale) as i8;
    }
    scale
}
