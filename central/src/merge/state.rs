//! Statistics, open window and model, kept in step with the log.
//!
//! Every change of these three comes from a log entry, in the log's order, both while serving and
//! while replaying; so a restart reaches the same bytes, and [`Merger::open`] checks that it did.

use crate::durable;
use crate::keys::{self, KeyError, hex};
use crate::log::entry::{Change, Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use crate::log::redb::{Identity, SCHEMA, Store, StoreError};
use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::sync::wire;
use nearfield_engine::{
    CatalogError, Delta, ItemKey, Lineage, MergeError, Model, ModelVersion, PackError, Refusal, Row,
    Statistics, Window,
};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why central could not start.
#[derive(Debug)]
pub enum OpenError {
    /// A file cannot be read or written.
    Io(io::Error),
    /// The store cannot be read or written.
    Store(StoreError),
    /// A key cannot be made.
    Key(KeyError),
    /// There is no store yet, and nothing to make one from.
    NothingTrained {
        /// The file that is missing.
        missing: PathBuf,
    },
    /// A model file is not what it should be.
    Pack {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: PackError,
    },
    /// A statistics file is not what it should be.
    Statistics {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: MergeError,
    },
    /// A snapshot file is not the one that the store names.
    SnapshotHash {
        /// The file.
        path: PathBuf,
    },
    /// The store belongs to another site.
    Site {
        /// The store's.
        stored: String,
        /// The configured one.
        configured: String,
    },
    /// DIR/model.pack is of another lineage than the store.
    Lineage {
        /// The store's.
        stored: Lineage,
        /// The file's.
        trained: Lineage,
    },
    /// A log entry cannot be applied.
    Entry {
        /// Its number.
        sequence: u64,
        /// What is wrong.
        what: String,
    },
    /// Replaying the log gave another model than the one published.
    Replay {
        /// The version.
        version: ModelVersion,
        /// Hash of the model published.
        published: [u8; 32],
        /// Hash of the model that the replay gave.
        replayed: [u8; 32],
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Key(error) => write!(f, "{error}"),
            Self::NothingTrained { missing } => write!(
                f,
                "{} is missing: make it with nearfield-trainer train --events FILE --out DIR",
                missing.display()
            ),
            Self::Pack { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Statistics { path, error } => write!(f, "{}: {error}", path.display()),
            Self::SnapshotHash { path } => {
                write!(f, "{} is not the snapshot that the store names: its hash differs", path.display())
            }
            Self::Site { stored, configured } => {
                write!(f, "the store serves site {stored:?}, but site {configured:?} is configured")
            }
            Self::Lineage { stored, trained } => write!(
                f,
                "the store goes on from lineage {stored}, but model.pack is of lineage {trained}; \
                 to start over with it remove store.redb, snapshots and models"
            ),
            Self::Entry { sequence, what } => write!(f, "log entry {sequence} cannot be applied: {what}"),
            Self::Replay { version, published, replayed } => write!(
                f,
                "replaying the log gave another version {version} than the one published: hash {} instead of {}; \
                 serving it could undo learning, so central does not start",
                hex(replayed),
                hex(published)
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<KeyError> for OpenError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// A version as it comes out of the window.
pub struct Published {
    /// Its mark for the log.
    pub mark: Mark,
    /// Its record for the store.
    pub record: VersionRecord,
    /// Its pack.
    pub pack: Vec<u8>,
    /// Rows that still wait for more devices.
    pub waiting_rows: usize,
}

/// Statistics, open window and model.
pub struct Merger {
    statistics: Statistics,
    window: Window,
    model: Model,
    /// Rows that the last publish left waiting in the window.
    waiting_rows: usize,
    /// Items that have a row, but are in no published version yet.
    unpublished: HashMap<ItemKey, String>,
}

impl Merger {
    /// Opens what a data directory holds, making the store from model.pack and statistics.bin
    /// at the first start, and replays the log from the last snapshot.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing or wrong; nothing is served then.
    pub fn open(data: &Path, site: &str, now_ms: u64) -> Result<(Self, Store), OpenError> {
        std::fs::create_dir_all(data)?;
        let store_path = data.join("store.redb");
        let trained = (data.join("model.pack"), data.join("statistics.bin"));
        if !store_path.exists() {
            for path in [&trained.0, &trained.1] {
                if !path.exists() {
                    return Err(OpenError::NothingTrained { missing: path.clone() });
                }
            }
        }
        let store = Store::open(&store_path)?;
        match store.identity()? {
            None => first_start(&store, data, site, (&trained.0, &trained.1), now_ms)?,
            Some(identity) => check_identity(&identity, site, &trained.0)?,
        }
        let merger = Self::replay(&store, data)?;
        Ok((merger, store))
    }

    /// Replays the log from the last snapshot.
    ///
    /// # Errors
    /// [`OpenError::Replay`] where the bytes are not those that were published.
    pub fn replay(store: &Store, data: &Path) -> Result<Self, OpenError> {
        let snapshot = store.snapshot()?;
        let (statistics_path, pack_path) = snapshot_paths(data, snapshot.version);
        let statistics_bytes = durable::read(&statistics_path)?;
        let pack = durable::read(&pack_path)?;
        for (path, bytes, hash) in [
            (&statistics_path, &statistics_bytes, snapshot.statistics_hash),
            (&pack_path, &pack, snapshot.pack_hash),
        ] {
            if FileRef::of(bytes).hash != hash {
                return Err(OpenError::SnapshotHash { path: path.clone() });
            }
        }
        let mut merger = Self::from_files(&statistics_path, &statistics_bytes, &pack_path, &pack)?;
        store.replay(snapshot.sequence, |sequence, entry| {
            let broken = |what: String| OpenError::Entry { sequence, what };
            match entry {
                Entry::Delta(logged) => {
                    let delta =
                        wire::decode_delta(&logged.bytes).map_err(|error| broken(error.to_string()))?;
                    merger.admit(&delta, logged.device_tag);
                }
                Entry::Catalogue(changes) => {
                    merger.change(&changes).map_err(|error| broken(error.to_string()))?;
                }
                Entry::Mark(mark) => {
                    let published = merger.publish(mark.k, 0);
                    if (published.mark.version, published.mark.pack_hash) != (mark.version, mark.pack_hash) {
                        return Err(OpenError::Replay {
                            version: mark.version,
                            published: mark.pack_hash,
                            replayed: published.mark.pack_hash,
                        });
                    }
                }
            }
            Ok(())
        })?;
        Ok(merger)
    }

    fn from_files(
        statistics_path: &Path,
        statistics: &[u8],
        pack_path: &Path,
        pack: &[u8],
    ) -> Result<Self, OpenError> {
        let wrong = |error| OpenError::Statistics { path: statistics_path.to_owned(), error };
        let statistics = Statistics::from_bytes(statistics).map_err(wrong)?;
        let model =
            Model::load(pack).map_err(|error| OpenError::Pack { path: pack_path.to_owned(), error })?;
        statistics.check_model(&model).map_err(wrong)?;
        let window = Window::new();
        Ok(Self { statistics, window, model, waiting_rows: 0, unpublished: HashMap::new() })
    }

    /// Returns the newest model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the deltas that no version contains yet.
    pub fn waiting_deltas(&self) -> u64 {
        self.window.deltas()
    }

    /// Returns whether a publish would tell anything new.
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
    pub fn logged(delta: &Delta, device_tag: u64) -> LoggedDelta {
        LoggedDelta {
            id: delta.id,
            base_version: delta.base_version,
            device_tag,
            bytes: wire::encode_delta(delta),
        }
    }

    /// Adds a delta that is in the log.
    pub fn admit(&mut self, delta: &Delta, device_tag: u64) {
        self.window.admit(self.statistics.hyperparameters(), delta, device_tag);
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
                    let limit = nearfield_engine::limits::ITEM_ID_BYTES_MAX;
                    if id.len() > limit {
                        return Err(CatalogError::TooLong { bytes: id.len(), limit });
                    }
                    new.insert(key, id.as_str());
                    let limit = nearfield_engine::limits::ROWS_MAX;
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

    /// Folds the window into the statistics and moves the model to the next version.
    pub fn publish(&mut self, k: u32, now_ms: u64) -> Published {
        let deltas = self.window.deltas();
        let rows_before = self.model.len() as Row;
        let publication = self.statistics.publish(&mut self.window, k);
        self.model
            .apply(&publication.patch)
            .expect("a publication applies to the model that it goes on from");
        self.waiting_rows = publication.waiting;
        self.unpublished.clear();
        let pack = self.model.to_pack();
        let file = FileRef::of(&pack);
        let changed_rows = publication.changed.into_iter().filter(|row| *row < rows_before).collect();
        Published {
            mark: Mark { version: publication.version, k, deltas, pack_hash: file.hash },
            record: VersionRecord {
                version: publication.version,
                pack_hash: file.hash,
                pack_bytes: file.bytes,
                rows: self.model.len() as u32,
                published_ms: now_ms,
                changed_rows,
            },
            pack,
            waiting_rows: publication.waiting,
        }
    }

    /// Returns the statistics for a snapshot, or `None` while the window holds something: a
    /// snapshot is a moment just after a publish, and rows that wait for more devices live in the
    /// window alone.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        (self.window.is_empty() && self.waiting_rows == 0 && !self.statistics.catalogue_waits())
            .then(|| self.statistics.to_bytes())
    }
}

/// Writes a snapshot's files durably and makes it the one that replay starts from.
///
/// # Errors
/// [`OpenError::Io`] or [`OpenError::Store`]; the snapshot before it then stays.
pub fn write_snapshot(
    store: &Store,
    data: &Path,
    sequence: u64,
    version: ModelVersion,
    statistics: &[u8],
    pack: &[u8],
) -> Result<(), OpenError> {
    let record = write_snapshot_files(data, sequence, version, statistics, pack)?;
    store.set_snapshot(&record)?;
    let (keep_statistics, keep_pack) = snapshot_paths(data, version);
    for entry in std::fs::read_dir(data.join("snapshots"))? {
        let path = entry?.path();
        if path != keep_statistics && path != keep_pack {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn write_snapshot_files(
    data: &Path,
    sequence: u64,
    version: ModelVersion,
    statistics: &[u8],
    pack: &[u8],
) -> io::Result<SnapshotRecord> {
    let (statistics_path, pack_path) = snapshot_paths(data, version);
    durable::write_durably(&statistics_path, statistics)?;
    durable::write_durably(&pack_path, pack)?;
    Ok(SnapshotRecord {
        sequence,
        version,
        statistics_hash: FileRef::of(statistics).hash,
        pack_hash: FileRef::of(pack).hash,
    })
}

fn snapshot_paths(data: &Path, version: ModelVersion) -> (PathBuf, PathBuf) {
    let folder = data.join("snapshots");
    (folder.join(format!("{version}.statistics")), folder.join(format!("{version}.pack")))
}

fn first_start(
    store: &Store,
    data: &Path,
    site: &str,
    trained: (&Path, &Path),
    now_ms: u64,
) -> Result<(), OpenError> {
    let pack = durable::read(trained.0)?;
    let statistics = durable::read(trained.1)?;
    let merger = Merger::from_files(trained.1, &statistics, trained.0, &pack)?;
    let version = merger.model.version();
    let snapshot = write_snapshot_files(data, 0, version, &statistics, &pack)?;
    let file = FileRef::of(&pack);
    let record = VersionRecord {
        version,
        pack_hash: file.hash,
        pack_bytes: file.bytes,
        rows: merger.model.len() as u32,
        published_ms: now_ms,
        changed_rows: Vec::new(),
    };
    let identity = Identity { schema: SCHEMA, site: site.to_owned(), lineage: merger.model.lineage() };
    store.initialise(&identity, &snapshot, &record, &keys::random()?)?;
    Ok(())
}

fn check_identity(identity: &Identity, site: &str, trained_pack: &Path) -> Result<(), OpenError> {
    if identity.site != site {
        return Err(OpenError::Site { stored: identity.site.clone(), configured: site.to_owned() });
    }
    if trained_pack.exists() {
        let model = Model::load(&durable::read(trained_pack)?)
            .map_err(|error| OpenError::Pack { path: trained_pack.to_owned(), error })?;
        if model.lineage() != identity.lineage {
            return Err(OpenError::Lineage { stored: identity.lineage, trained: model.lineage() });
        }
    }
    Ok(())
}

/// Returns the union of the rows that changed after `from`, for a patch.
pub fn changed_since<'a>(
    records: impl IntoIterator<Item = &'a VersionRecord>,
    from: ModelVersion,
) -> Vec<Row> {
    let rows: HashSet<Row> = records
        .into_iter()
        .filter(|record| record.version > from)
        .flat_map(|record| record.changed_rows.iter().copied())
        .collect();
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}
