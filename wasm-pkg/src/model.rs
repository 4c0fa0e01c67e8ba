//! The shared model.

use crate::error::{IntoJs, coded};
use crate::object::packed;
use nearfield_engine::{ItemKey, Row};
use wasm_bindgen::prelude::*;

/// A model in the memory of this module.
#[wasm_bindgen]
pub struct Model {
    pub(crate) inner: nearfield_engine::Model,
}

#[wasm_bindgen]
impl Model {
    /// Reads a pack.
    ///
    /// # Errors
    /// `pack.*` where the bytes are not a whole pack.
    pub fn load(pack: &[u8]) -> Result<Model, JsValue> {
        nearfield_engine::Model::load(pack).map(|inner| Self { inner }).map_err(IntoJs::into_js)
    }

    /// Returns the model as a pack.
    #[wasm_bindgen(js_name = toPack)]
    pub fn to_pack(&self) -> Vec<u8> {
        self.inner.to_pack()
    }

    /// Brings the model to the patch's version.
    ///
    /// # Errors
    /// `patch.*` where it does not fit; the model is unchanged.
    pub fn apply(&mut self, patch: &[u8]) -> Result<(), JsValue> {
        self.inner.apply(patch).map_err(IntoJs::into_js)
    }

    /// Returns the lineage in hexadecimal.
    #[wasm_bindgen(getter)]
    pub fn lineage(&self) -> String {
        self.inner.lineage().to_string()
    }

    /// Returns the version.
    #[wasm_bindgen(getter)]
    pub fn version(&self) -> f64 {
        self.inner.version().0 as f64
    }

    /// Returns the number of rows.
    #[wasm_bindgen(getter, js_name = length)]
    pub fn rows(&self) -> u32 {
        self.inner.len() as u32
    }

    /// Returns the number of factors.
    #[wasm_bindgen(getter)]
    pub fn dim(&self) -> u32 {
        self.inner.dim() as u32
    }

    /// Returns the row of an item.
    pub fn row(&self, item_id: &str) -> Option<u32> {
        self.inner.row(ItemKey::of(item_id))
    }

    /// Returns the operator's id of a row.
    ///
    /// # Errors
    /// `model.unknown_row` where the model has no such row.
    #[wasm_bindgen(js_name = itemId)]
    pub fn item_id(&self, row: u32) -> Result<String, JsValue> {
        Ok(self.inner.item_id(self.known(row)?).to_owned())
    }

    /// Returns whether the row's item is withdrawn.
    ///
    /// # Errors
    /// `model.unknown_row` where the model has no such row.
    #[wasm_bindgen(js_name = isWithdrawn)]
    pub fn is_withdrawn(&self, row: u32) -> Result<bool, JsValue> {
        Ok(self.inner.is_withdrawn(self.known(row)?))
    }

    /// Returns the most popular items, packed.
    pub fn popular(&self, count: u32) -> Vec<u32> {
        packed(&self.inner.popular(self.bounded(count)))
    }

    /// Returns the items most like that of a row, packed.
    ///
    /// # Errors
    /// `model.unknown_row` where the model has no such row.
    pub fn similar(&self, row: u32, count: u32) -> Result<Vec<u32>, JsValue> {
        Ok(packed(&self.inner.similar(self.known(row)?, self.bounded(count))))
    }

    fn known(&self, row: u32) -> Result<Row, JsValue> {
        if (row as usize) < self.inner.len() {
            return Ok(row);
        }
        let text = format!("row {row} is unknown, the model has {}", self.inner.len());
        Err(coded("model", "unknown_row", &text))
    }

    // No list is longer than the catalogue, and its memory is set aside first.
    fn bounded(&self, count: u32) -> usize {
        (count as usize).min(self.inner.len())
    }
}
