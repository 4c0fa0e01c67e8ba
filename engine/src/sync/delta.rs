//! What leaves the device: one factor, and a coefficient for each item touched.
//!
//! A delta of 20 events at d = 64 stays within 256 bytes on the wire. It names no person, no time
//! and no page; it does show a short run of touched items and a taste.

use crate::ids::{DeltaId, Lineage, ModelVersion, Row};
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use serde::{Deserialize, Serialize};

/// Steps of [`Delta::share`]: the share is `share / SHARE_STEPS`.
pub const SHARE_STEPS: u16 = 4096;

/// One touched item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Twice the item's row, plus one where a session starts with this item.
    row_and_break: u32,
    /// Index of the kind, which stands for confidence and target.
    pub kind: u8,
}

impl Touch {
    /// Returns a touch of a row; `starts_session` where a session starts with it.
    pub fn new(row: Row, kind: u8, starts_session: bool) -> Self {
        Self { row_and_break: row << 1 | u32::from(starts_session), kind }
    }

    /// Returns the item's row.
    pub fn row(self) -> Row {
        self.row_and_break >> 1
    }

    /// Returns whether a session starts with this item.
    pub fn starts_session(self) -> bool {
        self.row_and_break & 1 == 1
    }
}

/// Bins of the rank that the chosen item had in the list just before.
pub const RANK_BINS: usize = 5;

/// The quality that a device saw under one model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionMetrics {
    /// The version whose lists these were.
    pub version: ModelVersion,
    /// Choices by rank: 1, 2–5, 6–10, 11–20, beyond.
    pub bins: [u16; RANK_BINS],
}

/// A delta, as it is kept in the outbox and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Random name; the same delta is merged once.
    pub id: DeltaId,
    /// Lineage of the factor's basis.
    pub lineage: Lineage,
    /// Version that the factor was folded in on.
    pub base_version: ModelVersion,
    /// Scale of the factor: p = factor_scale · factor.
    pub factor_scale: f32,
    /// The plain factor (κ = 0), d numbers of 8 bits.
    pub factor: Vec<i8>,
    /// Touched items, in order.
    pub items: Vec<Touch>,
    /// f, the new weight as a share of all the person's weight, in 1/4096, 1 to 4096.
    pub share: u16,
    /// Rank bins by model version, at most 4.
    pub metrics: Vec<VersionMetrics>,
}

impl Delta {
    /// Returns ‖p‖.
    pub fn factor_norm(&self) -> f32 {
        let square: i32 = self.factor.iter().map(|value| i32::from(*value) * i32::from(*value)).sum();
        self.factor_scale * f32::sqrt(square as f32)
    }
}
