//! Snapshots: statistics and pack of a version, from which a replay of the log starts.

use crate::durable;
use crate::log::entry::SnapshotRecord;
use crate::log::{Log, LogError};
use nearfield_engine::ModelVersion;
use nearfield_engine::model::manifest::FileRef;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a snapshot was not written. The one before it stays.
#[derive(Debug)]
pub enum SnapshotError {
    /// A file cannot be written.
    Io(io::Error),
    /// The log did not take the record.
    Log(LogError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<LogError> for SnapshotError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Writes a snapshot's files durably and makes it the one that replay starts from.
///
/// # Errors
/// [`SnapshotError`]; the snapshot before it then stays.
pub fn write_snapshot(
    log: &dyn Log,
    data: &Path,
    sequence: u64,
    version: ModelVersion,
    statistics: &[u8],
    pack: &[u8],
) -> Result<(), SnapshotError> {
    let record = write_files(data, sequence, version, statistics, pack)?;
    log.set_snapshot(&record)?;
    let (keep_statistics, keep_pack) = snapshot_paths(data, version);
    for entry in std::fs::read_dir(data.join("snapshots"))? {
        let path = entry?.path();
        if path != keep_statistics && path != keep_pack {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes a snapshot's files durably and returns their record.
pub(super) fn write_files(
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

/// Returns the paths of a snapshot's statistics and pack.
pub(super) fn snapshot_paths(data: &Path, version: ModelVersion) -> (PathBuf, PathBuf) {
    let folder = data.join("snapshots");
    (folder.join(format!("{version}.statistics")), folder.join(format!("{version}.pack")))
}
