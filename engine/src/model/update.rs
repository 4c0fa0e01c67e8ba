//! The one procedure by which a client brings its model up to what central has signed. Page and edge run it
//! alike; how they fetch files and where a signature is checked is theirs.
//!
//! ```text
//! manifest bytes → Update::read (signature by the host) → Update::step → fetch → Update::patched or loaded
//! ```
//!
//! A client refuses what it cannot trust and keeps its last good model: a bad signature, another site, a
//! manifest that has run out, would hold for too long or was issued in the future; one that was issued before
//! the one held, whatever its lineage; a version below the one held; a file that is not the one that was signed.

use crate::error::{ManifestError, UpdateError};
use crate::ids::{Lineage, ModelVersion};
use crate::limits::{MANIFEST_AHEAD_MS_MAX, MANIFEST_MS_MAX};
use crate::model::Model;
use crate::model::manifest::{FileRef, Manifest, Signed};
use crate::model::pack::Arriving;

/// What a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Lineage of its model.
    pub lineage: Lineage,
    /// Version of its model.
    pub version: ModelVersion,
    /// When the last manifest that it accepted was issued, 0 where that is not known.
    pub issued_ms: u64,
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it has the model.
    Done,
    /// It fetches the patch that starts at `from`, which fits the version that it has. Where that fails, it
    /// fetches the pack.
    Patch {
        /// Version that the patch starts at: that of the model held, or an earlier one.
        from: ModelVersion,
        /// The file.
        file: FileRef,
    },
    /// It fetches the whole pack.
    Pack,
}

/// A manifest that a client has accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    manifest: Manifest,
}

impl Update {
    /// Reads signed bytes and accepts them only if all of it holds for this client. `signature_holds` gets the
    /// bytes that were signed and the signature; a host whose check is asynchronous takes them from [`Signed`]
    /// first and passes its verdict. `held` is what the client has, if anything; `now_ms` its clock.
    ///
    /// # Errors
    /// [`ManifestError`] says which check failed; the caller keeps its last good model.
    pub fn read(
        bytes: &[u8],
        site: &str,
        held: Option<Held>,
        now_ms: u64,
        signature_holds: impl FnOnce(&[u8], &[u8; 64]) -> Result<(), ManifestError>,
    ) -> Result<Self, ManifestError> {
        let signed = Signed::read(bytes)?;
        signature_holds(signed.message, signed.signature)?;
        let manifest = signed.manifest()?;
        if manifest.site != site {
            return Err(ManifestError::WrongSite { found: manifest.site });
        }
        let Manifest { issued_ms, not_after_ms, .. } = manifest;
        if issued_ms > now_ms.saturating_add(MANIFEST_AHEAD_MS_MAX) {
            return Err(ManifestError::InTheFuture { issued_ms, now_ms });
        }
        let holds_ms = not_after_ms.saturating_sub(issued_ms);
        if holds_ms > MANIFEST_MS_MAX {
            return Err(ManifestError::TooLong { holds_ms, limit_ms: MANIFEST_MS_MAX });
        }
        if now_ms > not_after_ms {
            return Err(ManifestError::Expired { not_after_ms, now_ms });
        }
        if let Some(held) = held {
            // One that was accepted under a clock that was wrong by years must not stand in the way for years.
            let believable = held.issued_ms <= now_ms.saturating_add(MANIFEST_AHEAD_MS_MAX);
            if believable && issued_ms < held.issued_ms {
                return Err(ManifestError::Older { issued_ms, held_ms: held.issued_ms });
            }
            if held.lineage == manifest.lineage && manifest.stable.version < held.version {
                return Err(ManifestError::Rollback { offered: manifest.stable.version, held: held.version });
            }
        }
        Ok(Self { manifest })
    }

    /// Returns what was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns what a client does that has a model of this lineage and version.
    pub fn step(&self, lineage: Lineage, version: ModelVersion) -> Step {
        let slot = &self.manifest.stable;
        if lineage != self.manifest.lineage {
            return Step::Pack;
        }
        if version == slot.version {
            return Step::Done;
        }
        // The newest start is the shortest way.
        let fitting = slot.patches.iter().filter(|(from, _)| *from <= version);
        match fitting.max_by_key(|(from, _)| *from) {
            Some((from, file)) => Step::Patch { from: *from, file: *file },
            None => Step::Pack,
        }
    }

    /// Returns a model brought up by the patch of [`Step::Patch`] to the one that was signed.
    ///
    /// # Errors
    /// [`UpdateError`]; the pack is to be fetched then.
    pub fn patched(&self, mut model: Model, file: &FileRef, patch: &[u8]) -> Result<Model, UpdateError> {
        file.check(patch)?;
        model.apply(patch)?;
        if model.pack_ref() != self.manifest.stable.pack {
            return Err(ManifestError::Patched.into());
        }
        Ok(model)
    }

    /// Returns room for the signed pack, a file of so many bytes, which arrives piece by piece and goes to
    /// [`Update::received`].
    ///
    /// # Errors
    /// [`ManifestError::Length`] where the signed pack has another length.
    pub fn arriving(&self, bytes: u64) -> Result<Arriving, ManifestError> {
        self.manifest.stable.pack.check_bytes(bytes)?;
        Ok(Arriving::new(bytes))
    }

    /// Returns the model of a pack whose bytes have all come.
    ///
    /// # Errors
    /// [`UpdateError`]; the caller keeps its last good model.
    pub fn received(&self, pack: Arriving) -> Result<Model, UpdateError> {
        let slot = &self.manifest.stable;
        slot.pack.check_ref(&pack.file())?;
        let model = pack.finish()?;
        if (model.lineage, model.version) != (self.manifest.lineage, slot.version) {
            let (lineage, version) = (model.lineage, model.version);
            return Err(ManifestError::OtherModel { lineage, version }.into());
        }
        Ok(model)
    }

    /// Returns the model of a downloaded pack.
    ///
    /// # Errors
    /// [`UpdateError`]; the caller keeps its last good model.
    pub fn loaded(&self, pack: &[u8]) -> Result<Model, UpdateError> {
        let mut arriving = self.arriving(pack.len() as u64)?;
        arriving.push(pack)?;
        self.received(arriving)
    }
}
