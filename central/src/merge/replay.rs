//! Opening a data directory: the first start from trained files, and the replay of the log from the last
//! snapshot, which must reach the bytes that were published.

use crate::durable;
use crate::keys::{self, KeyError, hex};
use crate::log::entry::{Entry, VersionRecord};
use crate::log::redb::{RedbLog, STORE_FILE};
use crate::log::{Identity, Log, LogError, SCHEMA, for_each_entry};
use crate::merge::snapshot::{self, snapshot_paths};
use crate::merge::state::Merger;
use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::sync::wire;
use nearfield_engine::{Lineage, MergeError, Model, ModelVersion, PackError, Statistics};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why central could not start.
#[derive(Debug)]
pub enum OpenError {
    /// A file cannot be read or written.
    Io(io::Error),
    /// The log cannot be read or written.
    Log(LogError),
    /// A key cannot be made.
    Key(KeyError),
    /// There is no store, but files that one has written.
    StoreMissing {
        /// The store's file.
        store: PathBuf,
        /// A folder of files that it wrote.
        beside: PathBuf,
    },
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
            Self::Log(error) => write!(f, "{error}"),
            Self::Key(error) => write!(f, "{error}"),
            Self::NothingTrained { missing } => write!(
                f,
                "{} is missing: make it with nearfield-trainer train --events FILE --out DIR",
                missing.display()
            ),
            Self::StoreMissing { store, beside } => write!(
                f,
                "{} is missing, but {} has files of an earlier life: restore it from a backup of the whole data \
                 directory; to start over from model.pack, which forgets all that was learned since, remove \
                 snapshots and models",
                store.display(),
                beside.display()
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
                "the store continues lineage {stored}, but model.pack is of lineage {trained}; \
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

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
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

/// Opens what a data directory holds, making the log from model.pack and statistics.bin
/// at the first start, and replays the log from the last snapshot.
///
/// # Errors
/// [`OpenError`] says what is missing or wrong; nothing is served then.
pub fn open(data: &Path, site: &str) -> Result<(Merger, RedbLog), OpenError> {
    durable::make_folder(data)?;
    let store_path = data.join(STORE_FILE);
    let trained = trained_files(data);
    if !store_path.exists() {
        for folder in ["snapshots", "models"].map(|name| data.join(name)) {
            if std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
                return Err(OpenError::StoreMissing { store: store_path, beside: folder });
            }
        }
        if let Some(missing) = trained.iter().find(|path| !path.exists()) {
            return Err(OpenError::NothingTrained { missing: missing.clone() });
        }
    }
    let log = RedbLog::open(&store_path)?;
    match log.identity()? {
        None => first_start(&log, data, site)?,
        Some(identity) => check_identity(&identity, site, &trained[0])?,
    }
    let merger = replay(&log, data)?;
    Ok((merger, log))
}

/// Replays the log from the last snapshot.
///
/// # Errors
/// [`OpenError::Replay`] where the bytes are not those that were published.
pub fn replay(log: &dyn Log, data: &Path) -> Result<Merger, OpenError> {
    let snapshot = log.snapshot()?;
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
    let mut merger = from_files(&statistics_path, &statistics_bytes, &pack_path, &pack)?;
    for_each_entry(log, snapshot.sequence, |sequence, entry| {
        let broken = |what: String| OpenError::Entry { sequence, what };
        match entry {
            Entry::Delta(logged) => {
                let delta = wire::decode_delta(&logged.bytes).map_err(|error| broken(error.to_string()))?;
                merger.admit(&delta, logged.device_tag, &logged.row_tags);
            }
            Entry::Catalogue(changes) => {
                merger.change(&changes).map_err(|error| broken(error.to_string()))?;
            }
            Entry::Mark(mark) => {
                let published = merger.publish(mark.threshold);
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

/// Reads the files of a snapshot or a training.
fn from_files(
    statistics_path: &Path,
    statistics: &[u8],
    pack_path: &Path,
    pack: &[u8],
) -> Result<Merger, OpenError> {
    let wrong = |error| OpenError::Statistics { path: statistics_path.to_owned(), error };
    let statistics = Statistics::from_bytes(statistics).map_err(wrong)?;
    let model = Model::load(pack).map_err(|error| OpenError::Pack { path: pack_path.to_owned(), error })?;
    Merger::new(statistics, model).map_err(wrong)
}

/// Returns where the trainer's pack and statistics lie.
pub(crate) fn trained_files(data: &Path) -> [PathBuf; 2] {
    [data.join("model.pack"), data.join("statistics.bin")]
}

/// Makes an empty log continue from the trained files.
///
/// # Errors
/// [`OpenError`] says which file is missing or wrong.
pub fn first_start(log: &dyn Log, data: &Path, site: &str) -> Result<(), OpenError> {
    let [pack_path, statistics_path] = trained_files(data);
    let pack = durable::read(&pack_path)?;
    let statistics = durable::read(&statistics_path)?;
    let merger = from_files(&statistics_path, &statistics, &pack_path, &pack)?;
    let version = merger.model().version();
    let snapshot = snapshot::write_files(data, 0, version, &statistics, &pack)?;
    let file = FileRef::of(&pack);
    let record =
        VersionRecord { version, pack_hash: file.hash, pack_bytes: file.bytes, deltas: 0, uptime_ms: 0 };
    let identity = Identity { schema: SCHEMA, site: site.to_owned(), lineage: merger.model().lineage() };
    log.initialise(&identity, &snapshot, &record, &keys::random()?)?;
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
