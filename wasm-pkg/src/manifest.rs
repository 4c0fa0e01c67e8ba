//! An accepted manifest: JavaScript holds it only after the engine has checked all of it.

use crate::error::{IntoJs, coded};
use crate::model::Model;
use crate::object::whole;
use nearfield_engine::model::manifest::{FileRef, issued_ms, signed_by};
use nearfield_engine::{Held, Lineage, ModelVersion, Step, Update};
use wasm_bindgen::prelude::*;

/// What central offers, as signed.
#[wasm_bindgen]
pub struct Manifest {
    update: Update,
}

#[wasm_bindgen]
impl Manifest {
    /// Reads a signed manifest and accepts it only if all of it holds. `held_manifest` is the one accepted
    /// before, if it is known.
    ///
    /// # Errors
    /// `manifest.*`: signature, site, times, or a version lower than the one held.
    pub fn verify(
        bytes: &[u8],
        public_key: &str,
        site: &str,
        held_lineage: Option<String>,
        held_version: Option<f64>,
        held_manifest: Option<Vec<u8>>,
        now_ms: f64,
    ) -> Result<Manifest, JsValue> {
        let key = hex_key(public_key)
            .ok_or_else(|| coded("manifest", "bad_key", "the public key must be 64 hexadecimal digits"))?;
        let held = match (held_lineage, held_version) {
            (Some(lineage), Some(version)) => {
                let lineage = u64::from_str_radix(&lineage, 16)
                    .map_err(|_| coded("manifest", "bad_lineage", "the lineage held must be hexadecimal"))?;
                let version = ModelVersion(whole(version, "manifest", "version")?);
                let issued_ms = issued_ms(&held_manifest.unwrap_or_default());
                Some(Held { lineage: Lineage(lineage), version, issued_ms })
            }
            _ => None,
        };
        let now_ms = whole(now_ms, "manifest", "now_ms")?;
        let update = Update::read(bytes, site, held, now_ms, signed_by(&key)).map_err(IntoJs::into_js)?;
        Ok(Self { update })
    }

    /// Returns the lineage in hexadecimal.
    #[wasm_bindgen(getter)]
    pub fn lineage(&self) -> String {
        self.update.manifest().lineage.to_string()
    }

    /// Returns the stable version.
    #[wasm_bindgen(getter)]
    pub fn version(&self) -> f64 {
        self.update.manifest().stable.version.0 as f64
    }

    /// Returns the bytes of the pack.
    #[wasm_bindgen(getter, js_name = packBytes)]
    pub fn pack_bytes(&self) -> f64 {
        self.update.manifest().stable.pack.bytes as f64
    }

    /// Returns whether this is the model that was signed.
    #[wasm_bindgen(js_name = isOf)]
    pub fn is_of(&self, model: &Model) -> bool {
        self.step(model) == Step::Done
    }

    /// Returns the version at which the patch for a model starts, if there is one.
    #[wasm_bindgen(js_name = patchFrom)]
    pub fn patch_from(&self, model: &Model) -> Option<f64> {
        self.patch(model).map(|(from, _)| from.0 as f64)
    }

    /// Returns the bytes of the patch for a model, if there is one.
    #[wasm_bindgen(js_name = patchBytes)]
    pub fn patch_bytes(&self, model: &Model) -> Option<f64> {
        self.patch(model).map(|(_, file)| file.bytes as f64)
    }

    /// Brings a model to the signed one by the patch that fits it; after an error it is as before.
    ///
    /// # Errors
    /// `manifest.*` or `patch.*`, and `manifest.no_patch` where none fits.
    pub fn apply(&self, model: &mut Model, patch: &[u8]) -> Result<(), JsValue> {
        let (_, file) = self
            .patch(model)
            .ok_or_else(|| coded("manifest", "no_patch", "manifest lists no patch for this model"))?;
        // The model stays in use until the patched one has turned out to be the one that was signed.
        let (updated, _) = self.update.patched(model.inner.clone(), &file, patch).map_err(IntoJs::into_js)?;
        model.inner = updated;
        Ok(())
    }

    /// Reads the signed pack.
    ///
    /// # Errors
    /// `manifest.*` or `pack.*`.
    pub fn load(&self, pack: &[u8]) -> Result<Model, JsValue> {
        self.update.loaded(pack).map(|inner| Model { inner }).map_err(IntoJs::into_js)
    }

    fn step(&self, model: &Model) -> Step {
        self.update.step(model.inner.lineage(), model.inner.version())
    }

    fn patch(&self, model: &Model) -> Option<(ModelVersion, FileRef)> {
        match self.step(model) {
            Step::Patch { from, file } => Some((from, file)),
            Step::Done | Step::Pack => None,
        }
    }
}

fn hex_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(key)
}
