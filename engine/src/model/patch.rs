//! A patch: all that differs between two versions of one lineage. Versions advance in no other
//! way, in the central service too, so a patched model and a downloaded one are equal to the byte.
//!
//! ```text
//! "NFPT"  format u16 LE  postcard { lineage, from, to, gram, mean, popularity, rows }  first 8 bytes of BLAKE3
//! ```

use crate::encoding;
use crate::error::{PatchError, in_words};
use crate::ids::{ItemKey, Lineage, ModelVersion, Row, short_hash};
use crate::limits::{ITEM_ID_BYTES_MAX, ROWS_MAX};
use crate::model::Model;
use crate::model::popularity::{HALF_LIVES, Scale, shifted};
use crate::model::transitions::Stored;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use nearfield_kernels::algebra::packed_len;
use serde::{Deserialize, Serialize};

/// The format that this engine writes and reads.
pub const FORMAT: u16 = 2;

const MAGIC: [u8; 4] = *b"NFPT";

/// One row as it is in the newer version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PatchRow {
    pub(crate) row: Row,
    /// The id, for rows that the older version does not have.
    pub(crate) id: Option<String>,
    pub(crate) scale: f32,
    pub(crate) factors: Vec<i8>,
    pub(crate) popularity: [u16; HALF_LIVES],
    pub(crate) neighbours: Vec<Stored>,
    pub(crate) withdrawn: bool,
}

/// The step from one version to a later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    pub(crate) lineage: Lineage,
    pub(crate) from: ModelVersion,
    pub(crate) to: ModelVersion,
    pub(crate) gram: Vec<f32>,
    pub(crate) mean: Vec<f32>,
    /// Where levels of popularity stand in the newer version.
    pub(crate) popularity: [Scale; HALF_LIVES],
    /// Changed rows, rising.
    pub(crate) rows: Vec<PatchRow>,
    pub(crate) extensions: Vec<u8>,
}

impl Patch {
    /// Returns the patch that brings version `from`, which had `rows_before` rows, to `model`.
    /// `changed` names every older row that changed since then; newer rows are added by themselves.
    pub fn between(model: &Model, from: ModelVersion, rows_before: usize, changed: &[Row]) -> Vec<u8> {
        let mut rows: Vec<Row> =
            changed.iter().copied().filter(|row| (*row as usize) < rows_before).collect();
        rows.sort_unstable();
        rows.dedup();
        rows.extend(rows_before as Row..model.len() as Row);
        let rows = rows.into_iter().map(|row| {
            let (factors, scale) = model.factors(row);
            PatchRow {
                row,
                id: (row as usize >= rows_before).then(|| model.item_id(row).to_owned()),
                scale,
                factors,
                popularity: model.popularity(row),
                neighbours: model.stored_neighbours(row).filter(|s| !s.is_empty()).collect(),
                withdrawn: model.is_withdrawn(row),
            }
        });
        Patch {
            lineage: model.lineage,
            from,
            to: model.version,
            gram: model.gram().to_vec(),
            mean: model.mean().to_vec(),
            popularity: model.scales_of_popularity,
            rows: rows.collect(),
            extensions: Vec::new(),
        }
        .to_bytes()
    }

    /// Returns the patch as a file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes = postcard::to_extend(self, bytes).expect("a patch has no type that postcard refuses");
        bytes.extend(short_hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a patch file.
    ///
    /// # Errors
    /// [`PatchError`] for a file of another kind or a damaged one.
    pub fn load(bytes: &[u8]) -> Result<Self, PatchError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(PatchError::Foreign)?;
        let damaged = |what| PatchError::Damaged { what: in_words(|| what) };
        let (covered, checksum) = bytes.split_last_chunk::<8>().ok_or(damaged("cut off"))?;
        if body.len() < 2 + 8 || body[..2] != FORMAT.to_le_bytes() {
            return Err(damaged("unknown format"));
        }
        if short_hash(covered).to_le_bytes() != *checksum {
            return Err(damaged("its checksum does not match"));
        }
        encoding::read(&body[2..body.len() - 8]).map_err(|_| damaged("not the canonical encoding of a patch"))
    }

    /// Returns the version that the patch starts at.
    pub fn from(&self) -> ModelVersion {
        self.from
    }

    /// Returns the version that the patch leads to.
    pub fn to(&self) -> ModelVersion {
        self.to
    }
}

impl Model {
    /// Applies a patch file, from the version held or from an older one: a patch states its rows whole, and
    /// those that changed since a version are among those that changed since an older one. It is checked
    /// wholly first: after an error the model is as before.
    ///
    /// # Errors
    /// [`PatchError`] for a damaged patch, one of another lineage, or one that starts after the version held
    /// or does not lead beyond it.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), PatchError> {
        let patch = Patch::load(bytes)?;
        self.check_patch(&patch)?;
        self.version = patch.to;
        let steps: [u32; HALF_LIVES] =
            core::array::from_fn(|at| patch.popularity[at].shift_from(&self.scales_of_popularity[at]));
        if steps != [0; HALF_LIVES] {
            for levels in self.sections.popularity_mut() {
                *levels = core::array::from_fn(|at| shifted(levels[at], steps[at]));
            }
        }
        self.scales_of_popularity = patch.popularity;
        let in_use = core::mem::take(&mut self.derived).in_use();
        let rows_before = self.len() as Row;
        let new_ids = patch.rows.iter().filter(|changed| changed.row >= rows_before);
        self.push_rows(new_ids.filter_map(|changed| changed.id.as_deref()));
        self.sections.gram_mut().copy_from_slice(&patch.gram);
        self.sections.mean_mut().copy_from_slice(&patch.mean);
        let rows: Vec<Row> = patch.rows.iter().map(|changed| changed.row).collect();
        for changed in &patch.rows {
            let row = changed.row as usize;
            self.sections.set_factors(changed.row, &changed.factors);
            self.sections.scales_mut()[row] = changed.scale;
            self.sections.popularity_mut()[row] = changed.popularity;
            self.sections.withdrawn_mut()[row] = u8::from(changed.withdrawn);
            self.sections.set_neighbours(changed.row, &changed.neighbours);
        }
        self.update_bounds(rows.into_iter());
        // Now, so that the first list after the patch need not wait for them.
        for (scenario, bucket) in in_use {
            self.priors(scenario, bucket);
        }
        Ok(())
    }

    fn check_patch(&self, patch: &Patch) -> Result<(), PatchError> {
        if patch.lineage != self.lineage {
            return Err(PatchError::WrongLineage { found: patch.lineage, held: self.lineage });
        }
        if patch.from > self.version || patch.to <= self.version {
            return Err(PatchError::WrongVersion { from: patch.from, held: self.version });
        }
        let new_rows = patch.rows.iter().filter(|changed| changed.row as usize >= self.len()).count();
        let rows_after = self.len() + new_rows;
        let mut next_row = 0;
        let mut next_new = self.len() as Row;
        let mut new_keys = BTreeSet::new();
        for changed in &patch.rows {
            let in_range = match &changed.id {
                None => (changed.row as usize) < self.len(),
                Some(id) if (changed.row as usize) < self.len() => self.item_id(changed.row) == id,
                Some(id) => {
                    let key = ItemKey::of(id);
                    let fits = changed.row == next_new && !id.is_empty() && id.len() <= ITEM_ID_BYTES_MAX;
                    next_new += 1;
                    fits && self.row(key).is_none() && new_keys.insert(key)
                }
            };
            let sound = in_range
                && changed.row >= next_row
                && changed.factors.len() == self.dim()
                && changed.scale.is_finite()
                && changed.scale >= 0.0
                && changed.neighbours.len() <= self.neighbours_max()
                && changed.neighbours.iter().all(|stored| (stored.row() as usize) < rows_after);
            if !sound {
                return Err(PatchError::Damaged { what: in_words(|| "a row is out of range") });
            }
            next_row = changed.row + 1;
        }
        let numbers = patch.gram.len() == packed_len(self.dim())
            && patch.mean.len() == self.dim()
            && rows_after <= ROWS_MAX
            && patch.gram.iter().chain(&patch.mean).all(|number| number.is_finite())
            && patch.popularity.iter().all(|scale| scale.base.is_finite());
        if numbers {
            Ok(())
        } else {
            Err(PatchError::Damaged { what: in_words(|| "gram, mean or popularity is out of range") })
        }
    }
}
