//! The publisher: it makes and signs the files of each version, the same bytes for everyone.
//!
//! All of it is derived from the log. A version's files are made and in place before the manifest
//! that names them is served, and a file under a name never changes.

use crate::clock::Clock;
use crate::config::Config;
use crate::durable;
use crate::log::Log;
use crate::merge::replay::OpenError;
use crate::merge::snapshot::write_snapshot;
use crate::metrics::Metrics;
use crate::publish::files::{FileName, Registry, Served};
use crate::publish::versions::{oldest_kept, patch_bases};
use ed25519_dalek::SigningKey;
use nearfield_engine::model::manifest::{self, FileRef, Manifest, Slot};
use nearfield_engine::{Lineage, Model, Patch, RowVersions};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Makes the files of each version and signs manifests. One thread owns it.
pub struct Publisher {
    registry: Arc<Registry>,
    site: String,
    key: SigningKey,
    manifest_ms: u64,
    keep_packs: u64,
    patches: u32,
    slot: Slot,
}

impl Publisher {
    /// Makes the newest version's files anew, checks the older packs, and serves them.
    ///
    /// # Errors
    /// What the log or the disk said.
    pub fn start(
        config: &Config,
        key: SigningKey,
        log: &dyn Log,
        model: &Model,
        rows: &RowVersions,
        pack: &[u8],
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let folder = config.data.join("models");
        std::fs::create_dir_all(&folder)?;
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(FileName::parse);
            let record = match name {
                Some(FileName::Pack(version)) => log.version(version)?,
                Some(FileName::Patch(..)) | None => None,
            };
            let whole = record.is_some_and(|record| {
                let file = FileRef { hash: record.pack_hash, bytes: record.pack_bytes };
                durable::read(&path).is_ok_and(|bytes| file.check(&bytes).is_ok())
            });
            match record {
                Some(record) if whole => {
                    let file = FileRef { hash: record.pack_hash, bytes: record.pack_bytes };
                    kept.insert(FileName::Pack(record.version), file);
                }
                // A file that a crash cut off, or that no manifest names any more.
                _ => std::fs::remove_file(path)?,
            }
        }
        let slot = Slot { version: model.version(), pack: FileRef::of(pack), patches: Vec::new() };
        let served = Served {
            lineage: model.lineage(),
            version: model.version(),
            rows: model.len(),
            manifest: Arc::from([]),
            published_ms: now_ms,
            not_after_ms: now_ms,
            files: kept,
        };
        let mut publisher = Self {
            registry: Arc::new(Registry::new(folder, served)),
            site: config.site.clone(),
            key,
            manifest_ms: config.manifest_ms,
            keep_packs: config.keep_packs,
            patches: config.patches,
            slot,
        };
        publisher.publish(model, rows, pack, now_ms)?;
        Ok(publisher)
    }

    /// Returns what readers see.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Makes and serves the files of a new version.
    ///
    /// # Errors
    /// The I/O error; what was served before stays.
    pub fn publish(&mut self, model: &Model, rows: &RowVersions, pack: &[u8], now_ms: u64) -> io::Result<()> {
        let newest = model.version();
        let mut files = self.registry.served().files.clone();
        let mut add = |name: FileName, bytes: &[u8]| {
            durable::write_derived(&self.registry.path(name), bytes)?;
            let file = FileRef::of(bytes);
            files.insert(name, file);
            io::Result::Ok(file)
        };
        let file = add(FileName::Pack(newest), pack)?;
        let mut patches = Vec::new();
        for from in patch_bases(newest, self.patches) {
            let patch = Patch::between(model, from, rows.rows_at(from), &rows.changed_since(from));
            // One from further back is hardly smaller than the pack, if at all.
            if patch.len() as u64 * 2 > file.bytes {
                break;
            }
            patches.push((from, add(FileName::Patch(from, newest), &patch)?));
        }
        self.slot = Slot { version: newest, pack: file, patches };
        let oldest = oldest_kept(newest, self.keep_packs);
        let gone: Vec<FileName> = files.keys().copied().filter(|name| name.version() < oldest).collect();
        for name in &gone {
            files.remove(name);
        }
        self.registry.set(Served {
            lineage: model.lineage(),
            version: newest,
            rows: model.len(),
            manifest: self.sign(model.lineage(), now_ms),
            published_ms: now_ms,
            not_after_ms: now_ms + self.manifest_ms,
            files,
        });
        for name in gone {
            match std::fs::remove_file(self.registry.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Signs the manifest again, so that it does not expire.
    pub fn renew(&self, now_ms: u64) {
        let served = self.registry.served();
        let manifest = self.sign(served.lineage, now_ms);
        let not_after_ms = now_ms + self.manifest_ms;
        self.registry.set(Served { manifest, not_after_ms, ..(*served).clone() });
    }

    fn sign(&self, lineage: Lineage, now_ms: u64) -> Arc<[u8]> {
        let manifest = Manifest {
            site: self.site.clone(),
            lineage,
            issued_ms: now_ms,
            not_after_ms: now_ms + self.manifest_ms,
            stable: self.slot.clone(),
            canary: None,
            canary_share: 0,
            keys: Vec::new(),
            root_signature: Vec::new(),
            extensions: Vec::new(),
        };
        manifest::sign(&manifest, &self.key).into()
    }
}

/// A version that the writer hands over.
pub(crate) struct Handover {
    pub(crate) model: Arc<Model>,
    pub(crate) rows: RowVersions,
    pub(crate) pack: Vec<u8>,
    /// Log position and statistics, where a snapshot is due.
    pub(crate) snapshot: Option<(u64, Vec<u8>)>,
}

/// The thread that owns the publisher.
pub(crate) struct PublisherThread {
    pub(crate) publisher: Publisher,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) data: PathBuf,
    /// Versions handed over whose files are not made yet.
    pub(crate) unfinished: Arc<AtomicUsize>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) renew_every: Duration,
}

impl PublisherThread {
    pub(crate) fn run(mut self, handovers: &Receiver<Handover>) {
        let mut renew_at = Instant::now() + self.renew_every;
        loop {
            match handovers.recv_timeout(renew_at.saturating_duration_since(Instant::now())) {
                Ok(handover) => {
                    self.make(handover);
                    self.unfinished.fetch_sub(1, Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also where versions come all the time: one whose files cannot be written signs nothing.
            if Instant::now() >= renew_at {
                self.publisher.renew((self.clock)());
                self.metrics.served(&self.publisher.registry.served());
                renew_at = Instant::now() + self.renew_every;
            }
        }
    }

    fn make(&mut self, handover: Handover) {
        let Handover { model, rows, pack, snapshot } = handover;
        match self.publisher.publish(&model, &rows, &pack, (self.clock)()) {
            Ok(()) => {
                self.metrics.served(&self.publisher.registry.served());
            }
            Err(error) => {
                self.metrics.publish_errors.increment(1);
                tracing::error!(%error, version = %model.version(), "model files were not written; the version before stays");
            }
        }
        if let Some((sequence, statistics)) = snapshot {
            let written =
                write_snapshot(&*self.log, &self.data, sequence, model.version(), &statistics, &pack);
            if let Err(error) = written {
                self.metrics.publish_errors.increment(1);
                tracing::error!(%error, "the snapshot was not written; the log stays");
            }
        }
    }
}
