//! The signed manifest: which model files are current, by hash, for how long.
//!
//! ```text
//! "NFMF"  format u16 LE  ed25519 signature (64) of all that follows  postcard manifest
//! ```
//!
//! What a client does with it is in [`crate::model::update`]. The slots and the key list follow The Update
//! Framework, so that rotation and canaries need no new format.

use crate::encoding;
use crate::error::ManifestError;
use crate::ids::{Lineage, ModelVersion};
use alloc::string::String;
use alloc::vec::Vec;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use nearfield_kernels::hash;
use serde::{Deserialize, Serialize};

/// The format that this engine writes and reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"NFMF";

/// A file, named by what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Its length, in bytes.
    pub bytes: u64,
}

impl FileRef {
    /// Returns the reference of a file's content.
    pub fn of(content: &[u8]) -> Self {
        Self { hash: hash::hash(content), bytes: content.len() as u64 }
    }

    /// Checks a downloaded file.
    ///
    /// # Errors
    /// [`ManifestError::Length`] or [`ManifestError::Hash`].
    pub fn check(&self, content: &[u8]) -> Result<(), ManifestError> {
        self.check_bytes(content.len() as u64)?;
        self.check_ref(&Self::of(content))
    }

    /// Checks the length of a file.
    pub(crate) fn check_bytes(&self, found: u64) -> Result<(), ManifestError> {
        if found == self.bytes { Ok(()) } else { Err(ManifestError::Length { found, expected: self.bytes }) }
    }

    /// Checks the reference of a downloaded file.
    pub(crate) fn check_ref(&self, found: &Self) -> Result<(), ManifestError> {
        self.check_bytes(found.bytes)?;
        if found.hash == self.hash { Ok(()) } else { Err(ManifestError::Hash) }
    }
}

/// One published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its version.
    pub version: ModelVersion,
    /// The whole model.
    pub pack: FileRef,
    /// Patches to it, by the version that they start from.
    pub patches: Vec<(ModelVersion, FileRef)>,
}

/// What the signature covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The site.
    pub site: String,
    /// The lineage of both slots.
    pub lineage: Lineage,
    /// When it was signed, in milliseconds since 1970-01-01 UTC.
    pub issued_ms: u64,
    /// After this time it is void.
    pub not_after_ms: u64,
    /// What everyone gets.
    pub stable: Slot,
    /// The model that a part of the fleet tries, if any.
    pub canary: Option<Slot>,
    /// Part of the fleet on the canary, in 1/10,000.
    pub canary_share: u16,
    /// Keys that may sign from now on, signed by the root; empty while the key never changed.
    pub keys: Vec<[u8; 32]>,
    /// The root's signature over the keys; empty with them.
    pub root_signature: Vec<u8>,
    /// Room for later formats; empty today.
    pub extensions: Vec<u8>,
}

/// Returns the manifest as signed bytes.
pub fn sign(manifest: &Manifest, key: &SigningKey) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    let body = postcard::to_allocvec(manifest).expect("a manifest has no type that postcard refuses");
    bytes.extend(key.sign(&body).to_bytes());
    bytes.extend(body);
    bytes
}

/// A signed manifest as it came: nothing of it is trusted yet.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// What the signature covers.
    pub message: &'a [u8],
    /// The ed25519 signature.
    pub signature: &'a [u8; 64],
}

impl<'a> Signed<'a> {
    /// Takes signed bytes apart.
    ///
    /// # Errors
    /// [`ManifestError`] for a file of another kind or format.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        let head = bytes.strip_prefix(&MAGIC).ok_or(ManifestError::Foreign)?;
        let (format, rest) = head.split_first_chunk::<2>().ok_or(ManifestError::Damaged)?;
        let found = u16::from_le_bytes(*format);
        if found != FORMAT {
            return Err(ManifestError::UnknownFormat { found, known: FORMAT });
        }
        let (signature, message) = rest.split_first_chunk::<64>().ok_or(ManifestError::Damaged)?;
        Ok(Self { message, signature })
    }

    /// Returns what was signed. It is to be trusted only where the signature holds.
    ///
    /// # Errors
    /// [`ManifestError::Damaged`] for anything but the canonical encoding of a manifest.
    pub fn manifest(&self) -> Result<Manifest, ManifestError> {
        encoding::read(self.message).map_err(|_| ManifestError::Damaged)
    }
}

/// Returns when a signed manifest was issued, 0 where the bytes are none: what a client knows of the one that it
/// accepted last.
pub fn issued_ms(bytes: &[u8]) -> u64 {
    Signed::read(bytes).and_then(|signed| signed.manifest()).map_or(0, |manifest| manifest.issued_ms)
}

/// Returns the check of a signature by an ed25519 public key.
pub fn signed_by(public_key: &[u8; 32]) -> impl FnOnce(&[u8], &[u8; 64]) -> Result<(), ManifestError> {
    move |message, signature| {
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| ManifestError::BadKey)?;
        key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| ManifestError::BadSignature)
    }
}
