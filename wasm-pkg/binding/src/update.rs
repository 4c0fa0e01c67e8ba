//! What central offers: JavaScript holds it only after the engine has checked all of it but the signature, which
//! the host has checked before.

use crate::error::{IntoJs, coded};
use crate::memory::{Core, with_core};
use alloc::vec;
use alloc::vec::Vec;
use nearfield_engine::model::manifest::issued_ms;
use nearfield_engine::{Held, Step, Update};
use wasm_bindgen::prelude::*;

/// Reads a manifest whose signature holds, accepts it only if all else does, and returns its number.
/// `held_model` is the model that the client has, `held_manifest` the one that it accepted last, if it knows.
///
/// # Errors
/// `manifest.*`: site, times, or a version lower than the one held.
#[wasm_bindgen(js_name = updateRead)]
pub fn update_read(
    manifest: &[u8],
    site: &str,
    held_model: Option<u32>,
    held_manifest: &[u8],
    now_ms: f64,
) -> Result<u32, JsValue> {
    with_core(|core| {
        let held = match held_model {
            None => None,
            Some(model) => {
                let model = core.models.get(model)?;
                let (lineage, version) = (model.lineage(), model.version());
                Some(Held { lineage, version, issued_ms: issued_ms(held_manifest) })
            }
        };
        let read = Update::read(manifest, site, held, now_ms as u64, |_, _| Ok(()));
        Ok(core.updates.keep(read.map_err(IntoJs::into_js)?))
    })
}

/// Drops an update.
#[wasm_bindgen(js_name = updateFree)]
pub fn update_free(update: u32) {
    with_core(|core| core.updates.free(update));
}

/// Returns the lineage.
///
/// # Errors
/// `core.freed` where there is no such update or model; so for all that follow.
#[wasm_bindgen(js_name = updateLineage)]
pub fn update_lineage(update: u32) -> Result<u64, JsValue> {
    with_core(|core| Ok(core.updates.get(update)?.manifest().lineage.0))
}

/// Returns the stable version, and the bytes of its pack.
#[wasm_bindgen(js_name = updateStable)]
pub fn update_stable(update: u32) -> Result<Vec<f64>, JsValue> {
    with_core(|core| {
        let stable = &core.updates.get(update)?.manifest().stable;
        Ok(vec![stable.version.0 as f64, stable.pack.bytes as f64])
    })
}

/// Returns the way to the signed model: nothing where the model is that one, `[version, bytes]` of the patch that
/// fits, and an empty array where it takes the pack.
#[wasm_bindgen(js_name = updateStep)]
pub fn update_step(update: u32, model: u32) -> Result<Option<Vec<f64>>, JsValue> {
    with_core(|core| {
        Ok(match step(core, update, model)? {
            Step::Done => None,
            Step::Patch { from, file } => Some(vec![from.0 as f64, file.bytes as f64]),
            Step::Pack => Some(Vec::new()),
        })
    })
}

/// Brings a model to the signed one by the patch that fits it; after an error it is as before.
///
/// # Errors
/// `manifest.*` or `patch.*`, and `manifest.no_patch` where none fits.
#[wasm_bindgen(js_name = updateApply)]
pub fn update_apply(update: u32, model: u32, patch: &[u8]) -> Result<(), JsValue> {
    with_core(|core| {
        let Step::Patch { file, .. } = step(core, update, model)? else {
            return Err(coded("manifest", "no_patch", "", None));
        };
        let model = core.models.get(model)?;
        // The model stays in use until the patched one has turned out to be the one that was signed.
        let patched = core.updates.get(update)?.patched(model.clone(), &file, patch);
        *model = patched.map_err(IntoJs::into_js)?;
        Ok(())
    })
}

/// Begins the signed pack, a file of so many bytes, and returns the number of what arrives.
///
/// # Errors
/// `manifest.length` where the signed pack has another length.
#[wasm_bindgen(js_name = updatePack)]
pub fn update_pack(update: u32, bytes: f64) -> Result<u32, JsValue> {
    with_core(|core| {
        let arriving = core.updates.get(update)?.arriving(bytes as u64).map_err(IntoJs::into_js)?;
        Ok(core.arriving.keep(arriving))
    })
}

/// Makes the signed pack, which has arrived, a model, and returns its number.
///
/// # Errors
/// `manifest.*` or `pack.*`.
#[wasm_bindgen(js_name = updateReceived)]
pub fn update_received(update: u32, pack: u32) -> Result<u32, JsValue> {
    with_core(|core| {
        let pack = core.arriving.take(pack)?;
        let model = core.updates.get(update)?.received(pack).map_err(IntoJs::into_js)?;
        Ok(core.models.keep(model))
    })
}

fn step(core: &mut Core, update: u32, model: u32) -> Result<Step, JsValue> {
    let model = core.models.get(model)?;
    let (lineage, version) = (model.lineage(), model.version());
    Ok(core.updates.get(update)?.step(lineage, version))
}
