//! Statistics, open window and model, kept in step with the log.
//!
//! Every change of these three comes from a log entry, in the log's order, both while serving and
//! while replaying; so a restart reaches the same bytes, and [`crate::merge::replay`] checks that it did.

use crate::log::entry::{Change, LoggedDelta, Mark};
use nearfield_engine::limits::{ITEM_ID_BYTES_MAX, ROWS_MAX};
use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::sync::wire;
use nearfield_engine::{
    CatalogError, Delta, ItemKey, MergeError, Model, ModelVersion, Preview, Refusal, Row, RowVersions,
    Statistics, Threshold, Window,
};
use std::collections::HashMap;

/// A version as it comes out of the window.
pub struct Published {
    /// Its mark for the log.
    pub mark: Mark,
    /// Its pack.
    pub pack: Vec<u8>,
    /// Rows that still wait for more devices.
    pub waiting_rows: usize,
    /// Rows that were dropped because they had waited too long.
    pub dropped_by_age: usize,
    /// Rows that were dropped because too much waited.
    pub dropped_by_bytes: usize,
}

/// Statistics, open window and model.
pub struct Merger {
    statistics: Statistics,
    window: Window,
    model: Model,
    /// Items that have a row, but are in no published version yet.
    unpublished: HashMap<ItemKey, String>,
}

impl Merger {
    /// Returns the merger of statistics and the model that belongs to them.
    ///
    /// # Errors
    /// [`MergeError::Mismatch`] where they do not belong together.
    pub(super) fn new(statistics: Statistics, model: Model) -> Result<Self, MergeError> {
        statistics.check_model(&model)?;
        Ok(Self { statistics, window: Window::new(), model, unpublished: HashMap::new() })
    }

    /// Returns the newest model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the deltas that no version contains yet.
    pub fn waiting_deltas(&self) -> u64 {
        self.window.deltas()
    }

    /// Returns about how many bytes of memory these deltas take.
    pub fn waiting_bytes(&self) -> u64 {
        self.window.bytes()
    }

    /// Returns whether a publish would bring anything new.
    pub fn something_waits(&self) -> bool {
        !self.window.is_empty() || self.statistics.catalogue_waits()
    }

    /// Checks a delta; nothing is changed.
    ///
    /// # Errors
    /// [`Refusal`], final for the delta.
    pub fn check(&self, delta: &Delta, oldest: ModelVersion) -> Result<(), Refusal> {
        self.statistics.policy(oldest).check(delta)
    }

    /// Returns a checked delta as the log keeps it.
    pub fn logged(delta: &Delta, device_tag: u64, row_tags: Vec<u32>) -> LoggedDelta {
        LoggedDelta { device_tag, row_tags, bytes: wire::encode_delta(delta) }
    }

    /// Adds a delta that is in the log.
    pub fn admit(&mut self, delta: &Delta, device_tag: u64, row_tags: &[u32]) {
        self.window.admit(delta, device_tag, row_tags);
    }

    /// Checks catalogue changes wholly; nothing is changed.
    ///
    /// # Errors
    /// [`CatalogError`] for the first change that could not be applied.
    pub fn check_changes(&self, changes: &[Change]) -> Result<(), CatalogError> {
        let mut new = HashMap::new();
        for change in changes {
            let (Change::Add(id) | Change::Withdraw(id)) = change;
            let key = ItemKey::of(id);
            let held = match self.model.row(key) {
                Some(row) => Some(self.model.item_id(row)),
                None => self.unpublished.get(&key).map(String::as_str).or_else(|| new.get(&key).copied()),
            };
            match (change, held) {
                (Change::Add(_), Some(other)) if other != id => {
                    return Err(CatalogError::KeyCollision { item_id: id.clone(), other: other.to_owned() });
                }
                (Change::Add(_), Some(_)) => {}
                (Change::Add(_), None) => {
                    if id.is_empty() {
                        return Err(CatalogError::EmptyItemId);
                    }
                    let limit = ITEM_ID_BYTES_MAX;
                    if id.len() > limit {
                        return Err(CatalogError::TooLong { bytes: id.len(), limit });
                    }
                    new.insert(key, id.as_str());
                    let limit = ROWS_MAX;
                    if self.statistics.len() + new.len() > limit {
                        return Err(CatalogError::Full { limit });
                    }
                }
                (Change::Withdraw(_), Some(held)) if held == id => {}
                (Change::Withdraw(_), _) => return Err(CatalogError::Unknown { item_id: id.clone() }),
            }
        }
        Ok(())
    }

    /// Applies catalogue changes that are in the log, and returns how many items are new.
    ///
    /// # Errors
    /// [`CatalogError`], never after [`Merger::check_changes`].
    pub fn change(&mut self, changes: &[Change]) -> Result<u64, CatalogError> {
        let before = self.statistics.len();
        for change in changes {
            match change {
                Change::Add(id) => {
                    self.statistics.register(id)?;
                    self.unpublished.insert(ItemKey::of(id), id.clone());
                }
                Change::Withdraw(id) => {
                    self.statistics.withdraw(id)?;
                }
            }
        }
        Ok((self.statistics.len() - before) as u64)
    }

    /// Returns how far a publish would move the factors; nothing is changed.
    pub fn preview(&self, threshold: &Threshold) -> Preview {
        self.statistics.preview(&self.window, threshold)
    }

    /// Folds the window into the statistics and moves the model to the next version.
    pub fn publish(&mut self, threshold: Threshold) -> Published {
        let deltas = self.window.deltas();
        let publication = self.statistics.publish(&mut self.window, threshold);
        self.model
            .apply(&publication.patch)
            .expect("a publication applies to the model of the version before");
        self.unpublished.clear();
        let pack = self.model.to_pack();
        Published {
            mark: Mark {
                version: publication.version,
                threshold,
                deltas,
                pack_hash: FileRef::of(&pack).hash,
            },
            pack,
            waiting_rows: publication.waiting,
            dropped_by_age: publication.dropped_by_age,
            dropped_by_bytes: publication.dropped_by_bytes,
        }
    }

    /// Returns whether a row waits for more devices.
    pub fn waits(&self, row: Row) -> bool {
        self.statistics.waits(row)
    }

    /// Returns the versions at which rows appeared and changed last.
    pub fn row_versions(&self) -> &RowVersions {
        self.statistics.row_versions()
    }

    /// Returns the statistics for a snapshot, or `None` while something is in no version yet: a snapshot
    /// is a moment just after a publish.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        (!self.something_waits()).then(|| self.statistics.to_bytes())
    }
}
