//! Identifiers, each a type of its own, so that an item's key cannot be passed as its row.

use core::fmt;
use nearfield_kernels::hash::hash;
use serde::{Deserialize, Serialize};

/// Row of an item in one lineage's catalogue. Only the operator's catalogue allocates rows, and a
/// row is never used again within its lineage.
pub type Row = u32;

/// Stable key of an item: the first 8 bytes, little-endian, of BLAKE3 of its id. It outlives rows
/// and lineages, so a person's history keeps items that the model does not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemKey(pub u64);

impl ItemKey {
    /// Returns the key of an item id.
    ///
    /// ```
    /// use nearfield_engine::ItemKey;
    /// assert_eq!(ItemKey::of("tent-2"), ItemKey::of("tent-2"));
    /// assert_ne!(ItemKey::of("tent-2"), ItemKey::of("tent-3"));
    /// ```
    pub fn of(item_id: &str) -> Self {
        Self(short_hash(item_id.as_bytes()))
    }
}

/// Returns the first 8 bytes of BLAKE3 as a number.
pub fn short_hash(bytes: &[u8]) -> u64 {
    let hash = hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// Name of one training from scratch: factors of different lineages share no basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage(pub u64);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Number of a published model. It only rises, even at a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelVersion(pub u64);

impl ModelVersion {
    /// Returns the version after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random name of a delta, 128 bits, drawn by the caller and stored before the first send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeltaId(pub [u8; 16]);

impl fmt::Display for DeltaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
