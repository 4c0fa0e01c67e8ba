//! The module of the npm package: what `nearfield-binding` exports, with what a module without `std` brings itself.
//!
//! It is a crate of its own, since the crate that is linked last decides how whole the loops of all are optimised:
//! this one says "for speed", and holds nothing; the binding says "for size" (`[profile.wasm]`).

#![cfg_attr(target_arch = "wasm32", no_std)]

pub use nearfield_binding::*;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Traps, which JavaScript sees. The words of a panic are not shipped.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
