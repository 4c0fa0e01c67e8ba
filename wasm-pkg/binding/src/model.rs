//! The shared model.

use crate::error::{IntoJs, coded};
use crate::memory::with_core;
use crate::packed;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use nearfield_engine::model::pack::Arriving;
use nearfield_engine::{ItemKey, Model, Row};
use wasm_bindgen::prelude::*;

/// Gives what `work` gives of a model.
fn with<T>(model: u32, work: impl FnOnce(&mut Model) -> Result<T, JsValue>) -> Result<T, JsValue> {
    with_core(|core| work(core.models.get(model)?))
}

/// Begins a pack of so many bytes, and returns the number of what arrives.
#[wasm_bindgen(js_name = packBegin)]
pub fn pack_begin(bytes: f64) -> u32 {
    with_core(|core| core.arriving.keep(Arriving::new(bytes as u64)))
}

/// Takes the next bytes of a pack.
///
/// # Errors
/// `pack.*` as soon as it is plain that this is none; the rest need not come then.
#[wasm_bindgen(js_name = packPush)]
pub fn pack_push(pack: u32, bytes: &[u8]) -> Result<(), JsValue> {
    with_core(|core| core.arriving.get(pack)?.push(bytes).map_err(IntoJs::into_js))
}

/// Drops a pack that does not arrive.
#[wasm_bindgen(js_name = packFree)]
pub fn pack_free(pack: u32) {
    with_core(|core| core.arriving.free(pack));
}

/// Makes a pack that has arrived a model, and returns its number.
///
/// # Errors
/// `pack.*` where the bytes are not a whole pack.
#[wasm_bindgen(js_name = packFinish)]
pub fn pack_finish(pack: u32) -> Result<u32, JsValue> {
    with_core(|core| {
        let model = core.arriving.take(pack)?.finish().map_err(IntoJs::into_js)?;
        Ok(core.models.keep(model))
    })
}

/// Drops a model.
#[wasm_bindgen(js_name = modelFree)]
pub fn model_free(model: u32) {
    with_core(|core| core.models.free(model));
}

/// Returns the model as a pack.
///
/// # Errors
/// `core.freed` where there is no such model; so for all that follow.
#[wasm_bindgen(js_name = modelToPack)]
pub fn model_to_pack(model: u32) -> Result<Vec<u8>, JsValue> {
    with(model, |model| Ok(model.to_pack()))
}

/// Brings the model to the patch's version.
///
/// # Errors
/// `patch.*` where it does not fit; the model is unchanged.
#[wasm_bindgen(js_name = modelApply)]
pub fn model_apply(model: u32, patch: &[u8]) -> Result<(), JsValue> {
    with(model, |model| model.apply(patch).map_err(IntoJs::into_js))
}

/// Returns the lineage.
#[wasm_bindgen(js_name = modelLineage)]
pub fn model_lineage(model: u32) -> Result<u64, JsValue> {
    with(model, |model| Ok(model.lineage().0))
}

/// Returns the version.
#[wasm_bindgen(js_name = modelVersion)]
pub fn model_version(model: u32) -> Result<f64, JsValue> {
    with(model, |model| Ok(model.version().0 as f64))
}

/// Returns the number of rows.
#[wasm_bindgen(js_name = modelLength)]
pub fn model_length(model: u32) -> Result<u32, JsValue> {
    with(model, |model| Ok(model.len() as u32))
}

/// Returns the number of factors.
#[wasm_bindgen(js_name = modelDim)]
pub fn model_dim(model: u32) -> Result<u32, JsValue> {
    with(model, |model| Ok(model.dim() as u32))
}

/// Returns the row of an item.
#[wasm_bindgen(js_name = modelRow)]
pub fn model_row(model: u32, item_id: &str) -> Result<Option<u32>, JsValue> {
    with(model, |model| Ok(model.row(ItemKey::of(item_id))))
}

/// Returns the operator's id of a row.
///
/// # Errors
/// `model.unknown_row` where the model has no such row.
#[wasm_bindgen(js_name = modelItemId)]
pub fn model_item_id(model: u32, row: u32) -> Result<String, JsValue> {
    with(model, |model| Ok(model.item_id(known(model, row)?).to_owned()))
}

/// Returns whether the row's item is withdrawn.
///
/// # Errors
/// `model.unknown_row` where the model has no such row.
#[wasm_bindgen(js_name = modelIsWithdrawn)]
pub fn model_is_withdrawn(model: u32, row: u32) -> Result<bool, JsValue> {
    with(model, |model| Ok(model.is_withdrawn(known(model, row)?)))
}

/// Returns the most popular items, packed.
#[wasm_bindgen(js_name = modelPopular)]
pub fn model_popular(model: u32, count: u32) -> Result<Vec<u32>, JsValue> {
    with(model, |model| Ok(packed::list(&model.popular(bounded(model, count)))))
}

/// Returns the items most like that of a row, packed.
///
/// # Errors
/// `model.unknown_row` where the model has no such row.
#[wasm_bindgen(js_name = modelSimilar)]
pub fn model_similar(model: u32, row: u32, count: u32) -> Result<Vec<u32>, JsValue> {
    with(model, |model| Ok(packed::list(&model.similar(known(model, row)?, bounded(model, count)))))
}

fn known(model: &Model, row: u32) -> Result<Row, JsValue> {
    let rows = model.len();
    if (row as usize) < rows { Ok(row) } else { Err(coded("model", "unknown_row", "row", Some(rows as u64))) }
}

// No list is longer than the catalogue, and its memory is set aside first.
fn bounded(model: &Model, count: u32) -> usize {
    (count as usize).min(model.len())
}
