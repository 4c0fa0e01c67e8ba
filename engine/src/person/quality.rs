//! How well the lists foresaw what the person chose: counts of ranks, by model version.

use crate::event::Kind;
use crate::ids::{ItemKey, ModelVersion};
use crate::limits::{CHOICES_MAX, METRICS_MAX};
use crate::model::Model;
use crate::person::UserState;
use crate::sync::delta::{RANK_BINS, VersionMetrics};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Choices by the rank that the item had in the list shown just before: 1, 2–5, 6–10, 11–20, beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankBins {
    /// Counts by bin.
    pub bins: [u32; RANK_BINS],
}

impl RankBins {
    /// The ranks of each bin, as metrics name them.
    pub const NAMES: [&str; RANK_BINS] = ["1", "2-5", "6-10", "11-20", "beyond"];

    /// Returns the bin of an index in the list (0 is first), `None` being not in the first 20.
    fn bin(index: Option<usize>) -> usize {
        match index {
            Some(0) => 0,
            Some(1..=4) => 1,
            Some(5..=9) => 2,
            Some(10..=19) => 3,
            _ => 4,
        }
    }

    /// Returns the choices counted.
    pub fn total(&self) -> u32 {
        self.bins.iter().sum()
    }
}

/// The counts of one person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Quality {
    /// All choices.
    pub(super) whole: RankBins,
    /// Those that no delta carries yet, by version.
    pub(super) unsent: Vec<VersionMetrics>,
}

impl Quality {
    fn count(&mut self, bin: usize, version: ModelVersion) {
        self.whole.bins[bin] += 1;
        if self.unsent.last().is_none_or(|last| last.version != version) {
            if self.unsent.len() == METRICS_MAX {
                self.unsent.remove(0);
            }
            self.unsent.push(VersionMetrics { version, bins: [0; RANK_BINS] });
        }
        if let Some(last) = self.unsent.last_mut() {
            last.bins[bin] = last.bins[bin].saturating_add(1);
        }
    }
}

/// Returns counts that a delta may carry. Where a person has made more choices than that since the
/// last delta, all counts shrink by the same factor, so that they keep their proportions.
pub(super) fn clipped(unsent: &[VersionMetrics]) -> Vec<VersionMetrics> {
    let choices: u32 = unsent.iter().flat_map(|metrics| metrics.bins).map(u32::from).sum();
    let limit = CHOICES_MAX;
    let clip = |count: u16| if choices > limit { (u32::from(count) * limit / choices) as u16 } else { count };
    unsent
        .iter()
        .map(|metrics| VersionMetrics { version: metrics.version, bins: metrics.bins.map(clip) })
        .collect()
}

impl UserState {
    /// Counts the rank of a chosen item in the list shown last, for the version that made the list. A
    /// list of another lineage cannot be compared, so its choice is not counted.
    pub(super) fn count_choice(&mut self, model: &Model, key: ItemKey, kind: Kind) {
        if !self.last.shown || !model.hyper.is_target(kind) {
            return;
        }
        self.last.shown = false;
        let Some((lineage, version)) = self.last.made_by else { return };
        if lineage != model.lineage {
            return;
        }
        let row = model.row(key);
        let bin = RankBins::bin(self.last.rows.iter().position(|listed| Some(*listed) == row));
        self.stored.quality.count(bin, version);
    }
}
