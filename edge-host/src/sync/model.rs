//! The model: brought up to the signed manifest by the engine's procedure, [`Update`].

use super::error::SyncError;
use crate::edge::{Edge, MANIFEST_FILE, MODEL_FILE, installed};
use crate::error::EdgeError;
use crate::host::in_service::InstalledModel;
use nearfield_engine::model::manifest::{FileRef, signed_by};
use nearfield_engine::{Held, Model, ModelVersion, Step, Update, UpdateError};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Edge {
    /// Brings the model up to the signed manifest; returns the version if it is a newer one.
    ///
    /// # Errors
    /// [`SyncError`]; the model in service stays there and on disk.
    pub(crate) async fn update_model(&self) -> Result<Option<ModelVersion>, SyncError> {
        let bytes = self.central.manifest().await?;
        let installed = self.pool.model();
        let held = installed.as_ref().map(|model| Held {
            lineage: model.info.lineage,
            version: model.info.version,
            issued_ms: self.issued_ms.load(Ordering::Relaxed),
        });
        let signature_holds = signed_by(&self.options.public_key);
        let update = Update::read(&bytes, &self.options.site, held, self.now_ms(), signature_holds)?;
        self.accepted(bytes, update.manifest().issued_ms).await?;
        self.metrics.manifest_expires(update.manifest().not_after_ms);
        let update = Arc::new(update);
        let step = held.map_or(Step::Pack, |held| update.step(held.lineage, held.version));
        let by_patch = match (step, &installed) {
            (Step::Done, _) => return Ok(None),
            (Step::Patch { from, file }, Some(installed)) => {
                self.patched(&update, installed, from, file).await
            }
            (Step::Patch { .. } | Step::Pack, _) => None,
        };
        let (next, patch) = match by_patch {
            Some((next, patch)) => (next, Some(patch)),
            None => (self.whole(&update).await?, None),
        };
        // Disk first: an edge that serves a version must come up with it again, or the next
        // manifest's version would look to it like any other.
        let (path, pack) = (self.options.data.join(MODEL_FILE), Arc::clone(&next.pack));
        off_the_runtime(move || keep(&path, &pack)).await?;
        let by = if patch.is_some() { "patch" } else { "pack" };
        self.pool.install(next.clone(), patch).await?;
        self.model_since_ms.store(update.manifest().issued_ms, Ordering::Relaxed);
        self.metrics.model(next.info.version, by);
        self.followers.tell_all();
        tracing::info!(version = %next.info.version, lineage = %next.info.lineage, by, "model");
        Ok(Some(next.info.version))
    }

    /// Keeps an accepted manifest: one that was issued earlier is never accepted after it, also not after a
    /// restart.
    async fn accepted(&self, manifest: Vec<u8>, issued_ms: u64) -> Result<(), SyncError> {
        if self.issued_ms.load(Ordering::Relaxed) != issued_ms {
            self.central.share_manifest(&manifest).await;
            let path = self.options.data.join(MANIFEST_FILE);
            off_the_runtime(move || keep(&path, &manifest)).await?;
            self.issued_ms.store(issued_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns the manifest's model made from the one in service and a patch. Whatever goes wrong is
    /// counted and answered by fetching the whole pack.
    async fn patched(
        &self,
        update: &Arc<Update>,
        held: &InstalledModel,
        from: ModelVersion,
        file: FileRef,
    ) -> Option<(InstalledModel, Arc<Vec<u8>>)> {
        let patch = async {
            let patch = self.central.patch(from, update.manifest().stable.version, &file).await?;
            let (update, before) = (Arc::clone(update), Arc::clone(&held.pack));
            off_the_runtime(move || {
                let model = Model::load(&before).map_err(UpdateError::Pack)?;
                let model = update.patched(model, &file, &patch)?;
                Ok((installed(&model, model.to_pack()), Arc::new(patch)))
            })
            .await
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
    async fn whole(&self, update: &Arc<Update>) -> Result<InstalledModel, SyncError> {
        let slot = &update.manifest().stable;
        let pack = self.central.pack(slot.version, &slot.pack).await?;
        let update = Arc::clone(update);
        off_the_runtime(move || {
            let model = update.loaded(&pack)?;
            Ok(installed(&model, pack))
        })
        .await
    }
}

/// Runs work that computes for long or waits for the disk, on a thread that serves no calls.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SyncError> + Send + 'static,
) -> Result<T, SyncError> {
    // Work ends without a result only when the runtime stops, or by a panic, which has been reported.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SyncError::Edge(EdgeError::Stopping)))
}

/// Puts a file in place whole: a crash leaves the old one or the new one.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), SyncError> {
    let next = path.with_added_extension("next");
    let write = || {
        let mut file = std::fs::File::create(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    };
    write().map_err(|error| SyncError::Disk { message: format!("{}: {error}", path.display()) })
}
