//! The model: brought up to the signed manifest, by a patch or by the whole pack.

use super::error::SyncError;
use crate::edge::{Edge, MODEL_FILE, model_info};
use crate::host::model_slot::InstalledModel;
use nearfield_engine::model::manifest::{self, Manifest};
use nearfield_engine::{Model, ModelVersion};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

impl Edge {
    /// Brings the model up to the signed manifest; returns the version if it is a newer one.
    ///
    /// # Errors
    /// [`SyncError`]; the model in service stays there and on disk.
    pub(crate) async fn update_model(&self) -> Result<Option<ModelVersion>, SyncError> {
        let bytes = self.central.manifest().await?;
        let installed = self.pool.model();
        let current = installed.as_ref().map(|model| (model.info.lineage, model.info.version));
        let manifest =
            manifest::verify(&bytes, &self.options.public_key, &self.options.site, current, self.now_ms())?;
        if current == Some((manifest.lineage, manifest.stable.version)) {
            return Ok(None);
        }
        let (next, patch) = match self.patched(&manifest, installed).await {
            Some((next, patch)) => (next, Some(patch)),
            None => (self.whole(&manifest).await?, None),
        };
        // Disk first: an edge that serves a version must come up with it again, or the next
        // manifest's version would look to it like any other.
        keep(&self.options.data.join(MODEL_FILE), &next.pack)
            .map_err(|error| SyncError::Disk { message: error.to_string() })?;
        let by = if patch.is_some() { "patch" } else { "pack" };
        self.pool.install(next.clone(), patch).await?;
        self.metrics.model(next.info.version, by);
        tracing::info!(version = %next.info.version, lineage = %next.info.lineage, by, "model");
        Ok(Some(next.info.version))
    }

    /// Returns the manifest's model made from the one in service and a patch. Whatever goes wrong is
    /// counted and answered by fetching the whole pack.
    async fn patched(
        &self,
        manifest: &Manifest,
        installed: Option<InstalledModel>,
    ) -> Option<(InstalledModel, Arc<Vec<u8>>)> {
        let installed = installed.filter(|model| model.info.lineage == manifest.lineage)?;
        let slot = &manifest.stable;
        let (from, file) = slot.patches.iter().find(|(from, _)| *from == installed.info.version)?;
        let patch = async {
            let patch = self.central.patch(*from, slot.version, file).await?;
            let mut model = Model::load(&installed.pack).map_err(SyncError::Pack)?;
            model.apply(&patch).map_err(SyncError::Patch)?;
            let pack = model.to_pack();
            // The patched model must be the very bytes that were signed.
            slot.pack.check(&pack)?;
            Ok::<_, SyncError>((
                InstalledModel { info: model_info(&model), pack: Arc::new(pack) },
                Arc::new(patch),
            ))
        };
        match patch.await {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!(%error, "patch not used, fetching the pack");
                self.metrics.sync_failed(error.reason());
                None
            }
        }
    }

    /// Returns the manifest's model from its whole pack.
    async fn whole(&self, manifest: &Manifest) -> Result<InstalledModel, SyncError> {
        let slot = &manifest.stable;
        let pack = self.central.pack(slot.version, &slot.pack).await?;
        let model = Model::load(&pack).map_err(SyncError::Pack)?;
        let info = model_info(&model);
        if (info.lineage, info.version) != (manifest.lineage, slot.version) {
            let message = format!("it holds version {} of lineage {}", info.version, info.lineage);
            return Err(SyncError::Answer { what: "pack", message });
        }
        Ok(InstalledModel { info, pack: Arc::new(pack) })
    }
}

/// Puts a file in place whole: a crash leaves the old one or the new one.
fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("pack.next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}
