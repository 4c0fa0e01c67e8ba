//! The Nearfield core as a plain WebAssembly module: no WASI, no imports, so that it runs in any
//! host that can call a function and copy bytes.
//!
//! # The ABI
//! The guest owns all its memory. The host writes to one buffer and reads from another:
//!
//! ```text
//! nf_abi_version() → u32          must equal abi::ABI_VERSION
//! nf_input(len: u32) → ptr        makes the input buffer len bytes long; the host fills it
//! nf_output() → u64               (ptr << 32) | len of what the last call answered
//! ```
//!
//! Every other export takes its message from the input buffer, empties it, leaves its answer in the
//! output buffer and returns an [`abi::Status`] as `i32`. Both pointers hold until the next call.
//! Messages are postcard; their types stand in `abi.rs`, which the host includes too. After a status
//! other than 0 the output is an [`abi::Failure`].
//!
//! | export | input | output |
//! |---|---|---|
//! | `nf_model_load()` | pack | `ModelInfo` |
//! | `nf_model_apply()` | patch | `ModelInfo` |
//! | `nf_model_version()` | none | `ModelInfo` |
//! | `nf_user_open()` | saved state, or nothing for a new user | handle, `u32` |
//! | `nf_user_close(handle)` | none | none |
//! | `nf_user_save(handle)` | none | saved state |
//! | `nf_user_learn(handle)` | `Learn` | `Learnt` |
//! | `nf_user_recommend(handle)` | `Recommend` | `List` |
//! | `nf_user_inspect(handle)` | none | `Inspection` |
//! | `nf_user_take_delta(handle)` | `TakeDelta` | `Taken` |
//! | `nf_user_encode_sync(handle)` | `EncodeSync` | body for `POST /v1/sync`, empty for an empty outbox |
//! | `nf_user_settle(handle)` | body of the reply | `Settled` |
//! | `nf_golden_digest()` | none | the engine's golden digest, 64 hex digits |
//!
//! A trap (a broken invariant, memory at its limit, the host's deadline) leaves the instance unfit
//! for use; the host makes another one. One thread calls an instance.

#![expect(unsafe_code, reason = "an export needs the attribute unsafe(no_mangle); there is no unsafe block")]

pub mod abi;
mod users;

use crate::users::{Core, Refused};
use abi::{ABI_VERSION, Failure, Status};
use std::cell::RefCell;

/// The instance: the core, and the two buffers that the host sees.
#[derive(Default)]
struct Instance {
    core: Core,
    input: Vec<u8>,
    output: Vec<u8>,
}

thread_local! {
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

/// Runs one call on the input and keeps its answer as the output.
fn call(run: impl FnOnce(&mut Core, Vec<u8>) -> Result<Vec<u8>, Refused>) -> i32 {
    INSTANCE.with_borrow_mut(|instance| {
        let input = std::mem::take(&mut instance.input);
        let (status, output) = match run(&mut instance.core, input) {
            Ok(output) => (Status::Ok, output),
            Err(refused) => {
                let failure = Failure { reason: refused.reason.to_owned(), message: refused.message };
                (refused.status, users::encode(&failure))
            }
        };
        instance.output = output;
        status as i32
    })
}

/// Returns the version of the ABI.
#[unsafe(no_mangle)]
pub extern "C" fn nf_abi_version() -> u32 {
    ABI_VERSION
}

/// Makes the input buffer `len` bytes long and returns where it lies.
#[unsafe(no_mangle)]
pub extern "C" fn nf_input(len: u32) -> *mut u8 {
    INSTANCE.with_borrow_mut(|instance| {
        instance.input.clear();
        instance.input.resize(len as usize, 0);
        instance.input.as_mut_ptr()
    })
}

/// Returns where the last call's answer lies (upper 32 bits) and its length (lower 32 bits).
#[unsafe(no_mangle)]
pub extern "C" fn nf_output() -> u64 {
    INSTANCE.with_borrow(|instance| {
        let pointer = instance.output.as_ptr() as usize as u64;
        (pointer << 32) | instance.output.len() as u64
    })
}

/// Loads a model pack, which replaces the model held.
#[unsafe(no_mangle)]
pub extern "C" fn nf_model_load() -> i32 {
    call(|core, input| core.model_load(&input))
}

/// Applies a patch to the model held.
#[unsafe(no_mangle)]
pub extern "C" fn nf_model_apply() -> i32 {
    call(|core, input| core.model_apply(&input))
}

/// Answers which model is held.
#[unsafe(no_mangle)]
pub extern "C" fn nf_model_version() -> i32 {
    call(|core, _| core.model_version())
}

/// Opens a user from a saved state, or a new one from an empty input.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_open() -> i32 {
    call(|core, input| core.user_open(&input))
}

/// Closes a user without saving.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_close(handle: u32) -> i32 {
    call(|core, _| core.user_close(handle))
}

/// Answers the user's state as bytes to keep.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_save(handle: u32) -> i32 {
    call(|core, _| core.user_save(handle))
}

/// Learns a batch of events, in order.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_learn(handle: u32) -> i32 {
    call(|core, input| core.user_learn(handle, &input))
}

/// Ranks the catalogue for the user.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_recommend(handle: u32) -> i32 {
    call(|core, input| core.user_recommend(handle, &input))
}

/// Answers what is kept of the user.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_inspect(handle: u32) -> i32 {
    call(|core, _| core.user_inspect(handle))
}

/// Moves what was learnt into the outbox, if a delta is due.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_take_delta(handle: u32) -> i32 {
    call(|core, input| core.user_take_delta(handle, &input))
}

/// Answers the outbox as a sync body.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_encode_sync(handle: u32) -> i32 {
    call(|core, input| core.user_encode_sync(handle, &input))
}

/// Takes central's reply: what it settles leaves the outbox.
#[unsafe(no_mangle)]
pub extern "C" fn nf_user_settle(handle: u32) -> i32 {
    call(|core, input| core.user_settle(handle, &input))
}

/// Answers the golden digest of the engine's recorded trace.
#[unsafe(no_mangle)]
pub extern "C" fn nf_golden_digest() -> i32 {
    call(|_, _| Ok(nearfield_engine::golden::digest().into_bytes()))
}
