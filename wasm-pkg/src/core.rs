//! What lives in this module's memory. JavaScript names each value by a number.

use crate::error::coded;
use nearfield_engine::{Model, Update, UserState, Workspace};
use std::cell::RefCell;
use wasm_bindgen::JsValue;

/// All values of this module.
#[derive(Default)]
pub(crate) struct Core {
    pub(crate) models: Table<Model>,
    pub(crate) users: Table<UserState>,
    pub(crate) updates: Table<Update>,
    /// Shared by all users: calls come one after another.
    pub(crate) workspace: Workspace,
}

thread_local! {
    static CORE: RefCell<Core> = RefCell::default();
}

/// Gives what `work` gives of the module's values.
pub(crate) fn with_core<T>(work: impl FnOnce(&mut Core) -> T) -> T {
    CORE.with_borrow_mut(work)
}

/// Values by number.
pub(crate) struct Table<T>(Vec<Option<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Table<T> {
    /// Keeps a value, and returns its number.
    pub(crate) fn keep(&mut self, value: T) -> u32 {
        let free = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[free] = Some(value);
        free as u32
    }

    /// Returns the value of a number.
    ///
    /// # Errors
    /// `core.freed` where there is none.
    pub(crate) fn get(&mut self, number: u32) -> Result<&mut T, JsValue> {
        self.0
            .get_mut(number as usize)
            .and_then(Option::as_mut)
            .ok_or_else(|| coded("core", "freed", "", None))
    }

    /// Drops the value of a number, if there is one.
    pub(crate) fn free(&mut self, number: u32) {
        if let Some(value) = self.0.get_mut(number as usize) {
            *value = None;
        }
    }
}
