//! The model files served: signed manifest, packs and patches, the same bytes for everyone.
//!
//! All of it is derived from the log. A version's files are made and in place before the manifest
//! that names them is served, and a file under a name never changes.

use crate::config::Config;
use crate::durable;
use crate::log::entry::VersionRecord;
use crate::merge::state::changed_since;
use ed25519_dalek::SigningKey;
use nearfield_engine::model::manifest::{self, FileRef, Manifest, Slot};
use nearfield_engine::{Lineage, Model, ModelVersion, Patch};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// Name of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// `{version}.pack`
    Pack(ModelVersion),
    /// `{from}..{to}.patch`
    Patch(ModelVersion, ModelVersion),
}

impl FileName {
    /// Reads a name as it stands in a URL; only the one way to write it is taken.
    ///
    /// ```
    /// use nearfield_central::publish::publisher::FileName;
    /// use nearfield_engine::ModelVersion;
    /// assert_eq!(FileName::parse("7.pack"), Some(FileName::Pack(ModelVersion(7))));
    /// assert_eq!(FileName::parse("6..7.patch"), Some(FileName::Patch(ModelVersion(6), ModelVersion(7))));
    /// assert_eq!(FileName::parse("07.pack"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let version = |digits: &str| {
            let number: u64 = digits.parse().ok()?;
            (number.to_string() == digits).then_some(ModelVersion(number))
        };
        if let Some(number) = text.strip_suffix(".pack") {
            return Some(Self::Pack(version(number)?));
        }
        let (from, to) = text.strip_suffix(".patch")?.split_once("..")?;
        Some(Self::Patch(version(from)?, version(to)?))
    }

    fn version(self) -> ModelVersion {
        match self {
            Self::Pack(version) | Self::Patch(_, version) => version,
        }
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pack(version) => write!(f, "{version}.pack"),
            Self::Patch(from, to) => write!(f, "{from}..{to}.patch"),
        }
    }
}

/// What is served at one moment.
#[derive(Clone, Debug)]
pub struct Served {
    /// The current lineage.
    pub lineage: Lineage,
    /// The newest version whose files are in place.
    pub version: ModelVersion,
    /// Rows of that version.
    pub rows: usize,
    /// The signed manifest.
    pub manifest: Arc<[u8]>,
    /// Files that may be asked for.
    pub files: BTreeMap<FileName, FileRef>,
}

/// What readers see; replaced as a whole.
pub struct Registry {
    folder: PathBuf,
    served: RwLock<Arc<Served>>,
}

impl Registry {
    /// Returns what is served now.
    pub fn served(&self) -> Arc<Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the path of a file.
    pub fn path(&self, name: FileName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn set(&self, served: Served) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }
}

/// Makes the files of each version and signs manifests. One thread owns it.
pub struct Maker {
    registry: Arc<Registry>,
    site: String,
    key: SigningKey,
    manifest_ms: u64,
    keep_versions: u64,
    keep_packs: u64,
    patches: u64,
    /// The versions kept, oldest first.
    records: VecDeque<VersionRecord>,
    slot: Slot,
}

impl Maker {
    /// Makes the newest version's files anew, checks the older packs, and serves them.
    ///
    /// # Errors
    /// The I/O error, with the path in its text.
    pub fn start(
        config: &Config,
        key: SigningKey,
        records: Vec<VersionRecord>,
        model: &Model,
        pack: &[u8],
        now_ms: u64,
    ) -> io::Result<Self> {
        let folder = config.data.join("models");
        std::fs::create_dir_all(&folder)?;
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(FileName::parse);
            let record = match name {
                Some(FileName::Pack(version)) => records.iter().find(|record| record.version == version),
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
            files: kept,
        };
        let mut maker = Self {
            registry: Arc::new(Registry { folder, served: RwLock::new(Arc::new(served)) }),
            site: config.site.clone(),
            key,
            manifest_ms: config.manifest_ms,
            keep_versions: config.keep_versions,
            keep_packs: config.keep_packs,
            patches: config.patches,
            records: records.into(),
            slot,
        };
        maker.serve(model, pack, now_ms)?;
        Ok(maker)
    }

    /// Returns what readers see.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Makes and serves the files of a new version.
    ///
    /// # Errors
    /// The I/O error; what was served before stays.
    pub fn publish(
        &mut self,
        record: VersionRecord,
        model: &Model,
        pack: &[u8],
        now_ms: u64,
    ) -> io::Result<()> {
        self.records.push_back(record);
        let oldest = oldest_kept(model.version(), self.keep_versions);
        self.records.retain(|record| record.version >= oldest);
        self.serve(model, pack, now_ms)
    }

    fn serve(&mut self, model: &Model, pack: &[u8], now_ms: u64) -> io::Result<()> {
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
        for from in
            self.records.iter().rev().filter(|record| record.version < newest).take(self.patches as usize)
        {
            let changed = changed_since(&self.records, from.version);
            let patch = Patch::between(model, from.version, from.rows as usize, &changed);
            // From here back, the whole pack is the shorter way.
            if patch.len() as u64 >= file.bytes {
                break;
            }
            patches.push((from.version, add(FileName::Patch(from.version, newest), &patch)?));
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

    /// Signs the manifest anew, so that it does not run out.
    pub fn renew(&self, now_ms: u64) {
        let served = self.registry.served();
        let manifest = self.sign(served.lineage, now_ms);
        self.registry.set(Served { manifest, ..(*served).clone() });
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

/// Returns the oldest of `count` versions that end with `newest`.
pub fn oldest_kept(newest: ModelVersion, count: u64) -> ModelVersion {
    ModelVersion((newest.0 + 1).saturating_sub(count))
}
