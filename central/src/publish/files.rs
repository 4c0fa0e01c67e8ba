//! What readers see: the names of the model files, and which of them are served at one moment.

use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::{Lineage, ModelVersion};
use std::collections::BTreeMap;
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
    /// Reads a name as it stands in a URL; only its canonical form is accepted.
    ///
    /// ```
    /// use nearfield_central::publish::files::FileName;
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

    /// Returns the version that the file leads to.
    pub(super) fn version(self) -> ModelVersion {
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
    /// When the version was published, in Unix milliseconds.
    pub published_ms: u64,
    /// Until when the manifest holds, in Unix milliseconds.
    pub not_after_ms: u64,
    /// Files that may be asked for.
    pub files: BTreeMap<FileName, FileRef>,
}

/// What readers see; replaced as a whole.
pub struct Registry {
    folder: PathBuf,
    served: RwLock<Arc<Served>>,
}

impl Registry {
    pub(super) fn new(folder: PathBuf, served: Served) -> Self {
        Self { folder, served: RwLock::new(Arc::new(served)) }
    }

    /// Returns what is served now.
    pub fn served(&self) -> Arc<Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the path of a file.
    pub fn path(&self, name: FileName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// Replaces what is served, as a whole.
    pub(super) fn set(&self, served: Served) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }
}
