//! What is worked out once, when it is first asked for.

#[cfg(target_arch = "wasm32")]
pub(crate) use core::cell::OnceCell as Once;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use std::sync::OnceLock as Once;
