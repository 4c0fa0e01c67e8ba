//! The private statistics that central continues from: sums behind every row, and the operator's
//! catalogue, which alone allocates rows.

use crate::encoding;
use crate::error::{CatalogError, MergeError};
use crate::ids::{ItemKey, Lineage, ModelVersion, Row, short_hash};
use crate::limits::{ITEM_ID_BYTES_MAX, ROWS_MAX};
use crate::merge::admission::Policy;
use crate::merge::row_versions::RowVersions;
use crate::merge::waiting::Waiting;
use crate::model::Model;
use crate::model::hyper::Hyperparameters;
use crate::model::popularity::HALF_LIVES;
use crate::model::transitions::Neighbour;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::algebra::{NormalEquations, packed_len};
use serde::{Deserialize, Serialize};

/// Private statistics of one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RowStatistics {
    /// A_i, packed; empty while nothing was merged.
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
    pub(super) n: f32,
    pub(super) popularity: [f64; HALF_LIVES],
    /// Neighbours, rising rows.
    pub(super) neighbours: Vec<Pair>,
    /// Sums over all neighbours, including those not kept.
    pub(super) totals: Readings,
    /// Merged weight at which the row was aged last.
    pub(super) aged_at: f64,
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

/// What central continues from: sums behind every row. Private; never published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    pub(super) lineage: Lineage,
    pub(super) version: ModelVersion,
    pub(super) dim: usize,
    pub(super) neighbours_max: usize,
    pub(super) hyper: Hyperparameters,
    pub(super) rows: Vec<RowStatistics>,
    pub(super) c: Vec<f64>,
    pub(super) m: f64,
    /// W, the weight merged so far.
    pub(super) merged: f64,
    pub(super) c_aged_at: f64,
    /// Octaves subtracted from all popularity levels of a half-life.
    pub(super) popularity_bases: [f64; HALF_LIVES],
    pub(super) ids: Vec<String>,
    pub(super) withdrawn: Vec<bool>,
    /// Rows whose id or withdrawal is in no published version yet.
    pub(super) catalogue_changes: BTreeSet<Row>,
    /// Rows of the version published last; later ones are in none yet.
    pub(super) published_rows: usize,
    pub(super) row_versions: RowVersions,
    /// Running Gram and sum of the published rows.
    pub(super) gram: Vec<f64>,
    pub(super) sum: Vec<f64>,
    /// Published rows, quantised: what the Gram is made of.
    pub(super) factors: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// Rows behind which too few devices stand to be published.
    pub(super) waiting: BTreeMap<Row, Waiting>,
    #[serde(skip)]
    rows_by_key: BTreeMap<ItemKey, Row>,
}

impl RowStatistics {
    /// Returns the neighbours with their fractions, strongest first.
    pub(super) fn ranked_neighbours(&self, shrinkage: f32) -> Vec<Neighbour> {
        let fraction = |sums: &Readings, at: usize| {
            if sums[at] > 0.0 { sums[at] / (self.totals[at] + shrinkage) } else { 0.0 }
        };
        let read = |pair: &Pair| Neighbour {
            row: pair.row,
            forward: fraction(&pair.sums, 0),
            backward: fraction(&pair.sums, 1),
            fresh: fraction(&pair.sums, 2),
        };
        let mut ranked: Vec<Neighbour> = self.neighbours.iter().map(read).collect();
        // What follows weighs most: a choice; see docs/model.md.
        let strength = |n: &Neighbour| 2.0 * n.forward + n.backward + n.fresh;
        ranked.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.row.cmp(&b.row)));
        ranked
    }
}

const MAGIC: [u8; 4] = *b"NFST";
const FORMAT: u16 = 2;

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
            published_rows: 0,
            row_versions: RowVersions::default(),
            gram: vec![0.0; packed_len(dim)],
            sum: vec![0.0; dim],
            factors: Vec::new(),
            scales: Vec::new(),
            waiting: BTreeMap::new(),
            rows_by_key: BTreeMap::new(),
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

    /// Returns the hyperparameters of the lineage.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// Returns what a delta is checked against.
    pub fn policy(&self, oldest_base: ModelVersion) -> Policy {
        Policy {
            lineage: self.lineage,
            oldest_base,
            latest: self.version,
            dim: self.dim,
            rows: self.rows.len() as u32,
            bounds: self.hyper.bounds,
            kinds: self.hyper.kinds,
        }
    }

    /// Returns the versions at which published rows appeared and changed last.
    pub fn row_versions(&self) -> &RowVersions {
        &self.row_versions
    }

    /// Returns the rows that wait for more devices, rising.
    pub fn waiting_rows(&self) -> impl ExactSizeIterator<Item = Row> {
        self.waiting.keys().copied()
    }

    /// Returns whether a row waits for more devices.
    pub fn waits(&self, row: Row) -> bool {
        self.waiting.contains_key(&row)
    }

    /// Returns whether the catalogue has changed since the last publish.
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

    /// Checks that the statistics belong to this very model.
    ///
    /// # Errors
    /// [`MergeError::Mismatch`].
    pub fn check_model(&self, model: &Model) -> Result<(), MergeError> {
        if self.lineage == model.lineage()
            && self.version == model.version()
            && self.published_rows == model.len()
        {
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
        bytes.extend(short_hash(&bytes).to_le_bytes());
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
        if short_hash(&bytes[..bytes.len() - 8]).to_le_bytes() != *checksum {
            return Err(damaged("its checksum does not match"));
        }
        let mut statistics: Self =
            encoding::read(body).map_err(|_| damaged("not the canonical encoding of statistics"))?;
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
    pub equations: NormalEquations,
    /// Decayed counts, one a half-life.
    pub popularity: [f64; HALF_LIVES],
    /// Transitions to and from other rows, rising rows.
    pub neighbours: Vec<Pair>,
    /// Sums of the transitions over all neighbours.
    pub totals: Readings,
}
