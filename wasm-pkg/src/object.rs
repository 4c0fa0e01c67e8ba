//! Small JavaScript objects for values that are inspected, and packed arrays for values that cross often.

use crate::error::bad_number;
use js_sys::{Array, Object, Reflect};
use nearfield_engine::Scored;
use wasm_bindgen::JsValue;

/// Largest whole number that a JavaScript number holds exactly, 2⁵³ − 1.
pub(crate) const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// Returns an object with these properties.
pub(crate) fn object<const N: usize>(properties: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in properties {
        // Setting a property of an object that was just made cannot fail.
        let _ = Reflect::set(&object, &name.into(), &value);
    }
    object.into()
}

/// Returns an array of the values.
pub(crate) fn array(values: impl Iterator<Item = JsValue>) -> JsValue {
    values.collect::<Array>().into()
}

/// Returns a list as one array: all rows, then the bits of all scores. One array crosses the
/// boundary and JavaScript takes two views of it.
pub(crate) fn packed(list: &[Scored]) -> Vec<u32> {
    let rows = list.iter().map(|item| item.row);
    rows.chain(list.iter().map(|item| item.score.to_bits())).collect()
}

/// Returns a JavaScript number as a whole number.
pub(crate) fn whole(value: f64, boundary: &str, field: &str) -> Result<u64, JsValue> {
    // NaN is in no range.
    if (0.0..=SAFE_INTEGER_MAX).contains(&value) {
        Ok(value as u64)
    } else {
        Err(bad_number(boundary, field, SAFE_INTEGER_MAX))
    }
}
