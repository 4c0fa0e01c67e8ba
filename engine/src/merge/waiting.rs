//! The k-threshold: a row's evidence waits until enough distinct devices stand behind it, or until it has
//! waited too long. What waits holds no id of a delta, no token and no time but the day on which the row
//! began to wait.

use crate::ids::Row;
use crate::merge::evidence::Evidence;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// When a row is published, and when what waits for that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// k: distinct devices that must stand behind a row, 1 or more.
    pub devices: u32,
    /// The day of the publish, counted from any fixed day.
    pub day: u32,
    /// Days that a row may wait; then what waits is dropped.
    pub wait_days: u32,
    /// Bytes of memory that all waiting rows may take; beyond it those behind which the fewest devices stand
    /// are dropped, of these the oldest first.
    pub waiting_bytes_max: u64,
}

impl Threshold {
    /// Every row is published at once.
    pub const NONE: Self = Self::of_devices(1);

    /// Returns a threshold of `devices` distinct devices, for which rows wait without limit.
    pub const fn of_devices(devices: u32) -> Self {
        Self { devices, day: 0, wait_days: u32::MAX, waiting_bytes_max: u64::MAX }
    }
}

/// Bytes of a waiting row without its evidence, and of a tag in a B-tree (estimates).
const WAITING_BYTES: u64 = 160;
const TAG_BYTES: u64 = 8;

/// Drops the rows that are over the threshold's bytes, those first behind which the fewest devices stand, and
/// returns how many they are.
pub(super) fn shed(waiting: &mut BTreeMap<Row, Waiting>, threshold: &Threshold) -> usize {
    let mut bytes: u64 = waiting.values().map(Waiting::bytes).sum();
    if bytes <= threshold.waiting_bytes_max {
        return 0;
    }
    let mut order: Vec<(usize, u32, Row)> =
        waiting.iter().map(|(row, waiting)| (waiting.devices(), waiting.since_day, *row)).collect();
    order.sort_unstable();
    let mut dropped = 0;
    for (.., row) in order {
        if bytes <= threshold.waiting_bytes_max {
            break;
        }
        bytes -= waiting.remove(&row).map_or(0, |gone| gone.bytes());
        dropped += 1;
    }
    dropped
}

/// A row that waits for more devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The day on which it began to wait.
    since_day: u32,
    /// Tags of the devices behind it. They are made with a key of this row alone, which is destroyed
    /// when the row has been published or dropped.
    tags: BTreeSet<u32>,
    pub(super) evidence: Evidence,
}

impl Waiting {
    /// Returns a row that begins to wait.
    pub(super) fn since(day: u32) -> Self {
        Self { since_day: day, ..Self::default() }
    }

    /// Adds what one window holds on the row, a device at a time. A device that stands behind the row
    /// already adds nothing until the row has been published.
    ///
    /// Returns whether enough devices stand behind the row now.
    pub(super) fn add(&mut self, by_device: Vec<(Option<u32>, Evidence)>, threshold: &Threshold) -> bool {
        let in_window = by_device.len();
        let tags = &mut self.tags;
        let new = by_device.into_iter().filter(|(tag, _)| tag.is_none_or(|tag| tags.insert(tag)));
        self.evidence.add(new.map(|(_, evidence)| evidence));
        self.devices().max(in_window) >= threshold.devices as usize
    }

    /// Returns how many devices stand behind the row.
    pub(super) fn devices(&self) -> usize {
        self.tags.len()
    }

    /// Returns whether the row has enough devices by a threshold that may have changed.
    pub(super) fn passes(&self, threshold: &Threshold) -> bool {
        self.devices() >= threshold.devices as usize
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        WAITING_BYTES + self.tags.len() as u64 * TAG_BYTES + self.evidence.bytes()
    }

    /// Returns whether the row has waited too long.
    pub(super) fn is_too_old(&self, threshold: &Threshold) -> bool {
        threshold.day.saturating_sub(self.since_day) >= threshold.wait_days
    }
}
