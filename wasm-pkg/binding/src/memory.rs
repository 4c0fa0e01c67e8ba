//! What lives in this module's memory. JavaScript names each value by a number.

use crate::error::coded;
use alloc::vec::Vec;
use nearfield_engine::model::pack::Arriving;
use nearfield_engine::{Model, Update, UserState, Workspace};
use wasm_bindgen::JsValue;

/// All values of this module.
#[derive(Default)]
pub(crate) struct Core {
    pub(crate) models: Table<Model>,
    pub(crate) users: Table<UserState>,
    pub(crate) updates: Table<Update>,
    /// Packs that are on their way.
    pub(crate) arriving: Table<Arriving>,
    /// Shared by all users: calls come one after another.
    pub(crate) workspace: Workspace,
}

/// Gives what `work` gives of the module's values.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn with_core<T>(work: impl FnOnce(&mut Core) -> T) -> T {
    use std::cell::RefCell;

    thread_local! {
        static CORE: RefCell<Core> = RefCell::default();
    }
    CORE.with_borrow_mut(work)
}

/// Gives what `work` gives of the module's values.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "a static that holds a cell must be `Sync`")]
pub(crate) fn with_core<T>(work: impl FnOnce(&mut Core) -> T) -> T {
    use core::cell::RefCell;

    struct OneThread(RefCell<Option<Core>>);
    // SAFETY: the module is built without threads, so nothing is ever shared between two of them.
    unsafe impl Sync for OneThread {}
    static CORE: OneThread = OneThread(RefCell::new(None));
    work(CORE.0.borrow_mut().get_or_insert_default())
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

    /// Returns the value of a number, which is free then.
    ///
    /// # Errors
    /// `core.freed` where there is none.
    pub(crate) fn take(&mut self, number: u32) -> Result<T, JsValue> {
        self.0.get_mut(number as usize).and_then(Option::take).ok_or_else(|| coded("core", "freed", "", None))
    }

    /// Drops the value of a number, if there is one.
    pub(crate) fn free(&mut self, number: u32) {
        if let Some(value) = self.0.get_mut(number as usize) {
            *value = None;
        }
    }
}
