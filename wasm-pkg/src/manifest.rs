//! A verified manifest: JavaScript holds it only after the engine has checked the signature.

use crate::error::{IntoJs, coded};
use crate::object::whole;
use nearfield_engine::model::manifest::{self, FileRef};
use nearfield_engine::{Lineage, ModelVersion};
use wasm_bindgen::prelude::*;

/// What central offers, as signed.
#[wasm_bindgen]
pub struct Manifest {
    inner: manifest::Manifest,
}

#[wasm_bindgen]
impl Manifest {
    /// Verifies and reads a signed manifest.
    ///
    /// # Errors
    /// `manifest.*`: signature, site, end, or a version lower than the one held.
    pub fn verify(
        bytes: &[u8],
        public_key: &str,
        site: &str,
        held_lineage: Option<String>,
        held_version: Option<f64>,
        now_ms: f64,
    ) -> Result<Manifest, JsValue> {
        let key = hex_key(public_key)
            .ok_or_else(|| coded("manifest", "bad_key", "the public key must be 64 hexadecimal digits"))?;
        let held = match (held_lineage, held_version) {
            (Some(lineage), Some(version)) => {
                let lineage = u64::from_str_radix(&lineage, 16)
                    .map_err(|_| coded("manifest", "bad_lineage", "the lineage held must be hexadecimal"))?;
                Some((Lineage(lineage), ModelVersion(whole(version, "manifest", "version")?)))
            }
            _ => None,
        };
        let now_ms = whole(now_ms, "manifest", "now_ms")?;
        manifest::verify(bytes, &key, site, held, now_ms).map(|inner| Self { inner }).map_err(IntoJs::into_js)
    }

    /// Returns the lineage in hexadecimal.
    #[wasm_bindgen(getter)]
    pub fn lineage(&self) -> String {
        self.inner.lineage.to_string()
    }

    /// Returns the stable version.
    #[wasm_bindgen(getter)]
    pub fn version(&self) -> f64 {
        self.inner.stable.version.0 as f64
    }

    /// Returns the bytes of the pack.
    #[wasm_bindgen(getter, js_name = packBytes)]
    pub fn pack_bytes(&self) -> f64 {
        self.inner.stable.pack.bytes as f64
    }

    /// Returns the bytes of the patch from a version, if there is one.
    #[wasm_bindgen(js_name = patchBytes)]
    pub fn patch_bytes(&self, from: f64) -> Option<f64> {
        self.patch(from).map(|file| file.bytes as f64)
    }

    /// Checks that the bytes are the pack that was signed.
    ///
    /// # Errors
    /// `manifest.length` or `manifest.hash`.
    #[wasm_bindgen(js_name = checkPack)]
    pub fn check_pack(&self, pack: &[u8]) -> Result<(), JsValue> {
        self.inner.stable.pack.check(pack).map_err(IntoJs::into_js)
    }

    /// Checks that the bytes are the patch that was signed.
    ///
    /// # Errors
    /// `manifest.length`, `manifest.hash`, or `manifest.no_patch` where none is listed.
    #[wasm_bindgen(js_name = checkPatch)]
    pub fn check_patch(&self, from: f64, patch: &[u8]) -> Result<(), JsValue> {
        let file = self.patch(from).ok_or_else(|| {
            coded("manifest", "no_patch", &format!("manifest lists no patch from version {from}"))
        })?;
        file.check(patch).map_err(IntoJs::into_js)
    }

    fn patch(&self, from: f64) -> Option<&FileRef> {
        let patches = self.inner.stable.patches.iter();
        patches.into_iter().find(|(version, _)| version.0 as f64 == from).map(|(_, file)| file)
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
