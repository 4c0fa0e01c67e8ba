//! Admission: whether a delta may be merged, from a small policy and the delta alone.

use crate::error::Refusal;
use crate::event::Kind;
use crate::ids::{Lineage, ModelVersion, Row};
use crate::limits::{CHOICES_MAX, METRICS_MAX};
use crate::model::hyper::{Bounds, KindWeight};
use crate::sync::delta::{Delta, SHARE_STEPS};
use alloc::collections::BTreeMap;

/// What a delta is checked against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The current lineage.
    pub lineage: Lineage,
    /// Oldest version that a delta may be based on.
    pub oldest_base: ModelVersion,
    /// The version published last.
    pub latest: ModelVersion,
    /// d, the number of factors.
    pub dim: usize,
    /// Rows of the catalogue; a delta may name those below.
    pub rows: u32,
    /// Clip bounds of the model.
    pub bounds: Bounds,
    /// Confidence and target by kind; a kind without weight is not one of a history.
    pub kinds: [KindWeight; Kind::ALL.len()],
}

impl Policy {
    /// Checks a delta against every bound; the first that it breaks is named.
    ///
    /// # Errors
    /// [`Refusal`], which is final for the delta.
    pub fn check(&self, delta: &Delta) -> Result<(), Refusal> {
        let bounds = &self.bounds;
        if delta.lineage != self.lineage {
            return Err(Refusal::WrongLineage { found: delta.lineage, current: self.lineage });
        }
        if delta.base_version < self.oldest_base {
            return Err(Refusal::Stale { base: delta.base_version, oldest: self.oldest_base });
        }
        if delta.base_version > self.latest {
            return Err(Refusal::FromTheFuture { base: delta.base_version, latest: self.latest });
        }
        if delta.factor.len() != self.dim {
            return Err(Refusal::FactorLength {
                found: delta.factor.len() as u32,
                expected: self.dim as u32,
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
        let mut mentions: BTreeMap<Row, u32> = BTreeMap::new();
        for touch in &delta.items {
            let row = touch.row();
            if row >= self.rows {
                return Err(Refusal::UnknownRow { row, rows: self.rows });
            }
            let known = Kind::from_index(touch.kind)
                .is_some_and(|kind| kind.is_history() && self.kinds[kind as usize].weight > 0.0);
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
        let limit = CHOICES_MAX;
        if delta.metrics.len() > METRICS_MAX || choices > limit {
            return Err(Refusal::Metrics { found: choices, limit });
        }
        Ok(())
    }
}
