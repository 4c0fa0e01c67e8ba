//! The Nearfield core as a plain WebAssembly module: no WASI, no imports, so that it runs in any
//! host that can call a function and copy bytes.
//!
//! It is a function: [`abi::Step`] brings a user's state and what is to be done with it, and the answer brings the
//! state back. What stays inside is one model, and what was derived from states of late ([`warm`]): losing that
//! changes nothing but time.
//!
//! # The ABI
//! The guest owns all its memory. The host writes to one buffer and reads from another:
//!
//! ```text
//! nf_abi_version() → u32          must equal abi::ABI_VERSION
//! nf_input(len: u32) → ptr        makes the input buffer hold len bytes at least, for the calls that follow
//! nf_…(len: u32) → u64            takes a message of len bytes from the input buffer; answers with
//!                                 (ptr << 32) | length of its answer, which holds until the next call
//! ```
//!
//! An answer begins with a byte, its [`abi::Status`]. What follows is the output, or an [`abi::Failure`] where the
//! status is not 0. Messages are postcard; their types stand in `abi.rs`, which the host includes too.
//!
//! | export | input | output |
//! |---|---|---|
//! | `nf_step` | `Step` | `Stepped` |
//! | `nf_similar` | `Similar` | `List` |
//! | `nf_features` | `Featuring` | `Featured` |
//! | `nf_pack_begin` | length of a pack, `u64` | none |
//! | `nf_pack_push` | the next bytes of the pack | none |
//! | `nf_pack_finish` | none | `ModelInfo`; the model replaces the one before |
//! | `nf_patch` | patch | `ModelInfo` |
//! | `nf_warm` | most bytes of what stays derived, `u64` | none |
//! | `nf_golden_digest` | none | the engine's golden digest, 64 hex digits |
//!
//! A trap (a broken invariant, memory at its limit, the host's deadline) leaves the instance unfit
//! for use; the host makes another one. One thread calls an instance.

#![expect(unsafe_code, reason = "an export needs the attribute unsafe(no_mangle); there is no unsafe block")]

pub mod abi;
mod core;
mod warm;

use crate::core::{Core, Refused};
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

/// Runs one call on the first `len` bytes of the input and returns where its answer lies.
fn call(len: u32, run: impl FnOnce(&mut Core, &[u8], &mut Vec<u8>) -> Result<(), Refused>) -> u64 {
    INSTANCE.with_borrow_mut(|Instance { core, input, output }| {
        output.clear();
        output.push(Status::Ok as u8);
        let input = input.get(..len as usize).ok_or_else(|| {
            Refused::new(Status::BadMessage, "bad_message", "the message is longer than the input buffer")
        });
        if let Err(refused) = input.and_then(|input| run(core, input, output)) {
            output.clear();
            output.push(refused.status as u8);
            let failure = Failure { reason: refused.reason.to_owned(), message: refused.message };
            crate::core::write(&failure, output);
        }
        let pointer = output.as_ptr() as usize as u64;
        (pointer << 32) | output.len() as u64
    })
}

/// Returns the version of the ABI.
#[unsafe(no_mangle)]
pub extern "C" fn nf_abi_version() -> u32 {
    ABI_VERSION
}

/// Makes the input buffer hold `len` bytes at least and returns where it lies.
#[unsafe(no_mangle)]
pub extern "C" fn nf_input(len: u32) -> *mut u8 {
    INSTANCE.with_borrow_mut(|instance| {
        if instance.input.len() < len as usize {
            instance.input = vec![0; len as usize];
        }
        instance.input.as_mut_ptr()
    })
}

/// Does what a step asks for with a user's state.
#[unsafe(no_mangle)]
pub extern "C" fn nf_step(len: u32) -> u64 {
    call(len, Core::step)
}

/// Answers the items that are like another one.
#[unsafe(no_mangle)]
pub extern "C" fn nf_similar(len: u32) -> u64 {
    call(len, Core::similar)
}

/// Answers the features of events, without a model.
#[unsafe(no_mangle)]
pub extern "C" fn nf_features(len: u32) -> u64 {
    call(len, Core::features)
}

/// Starts to take a pack.
#[unsafe(no_mangle)]
pub extern "C" fn nf_pack_begin(len: u32) -> u64 {
    call(len, |core, input, _| core.pack_begin(input))
}

/// Takes the next bytes of a pack.
#[unsafe(no_mangle)]
pub extern "C" fn nf_pack_push(len: u32) -> u64 {
    call(len, |core, input, _| core.pack_push(input))
}

/// Puts the pack that was taken in the place of the model held.
#[unsafe(no_mangle)]
pub extern "C" fn nf_pack_finish(len: u32) -> u64 {
    call(len, |core, _, output| core.pack_finish(output))
}

/// Applies a patch to the model held.
#[unsafe(no_mangle)]
pub extern "C" fn nf_patch(len: u32) -> u64 {
    call(len, Core::patch)
}

/// Sets how many bytes may stay derived from states.
#[unsafe(no_mangle)]
pub extern "C" fn nf_warm(len: u32) -> u64 {
    call(len, |core, input, _| core.warm(input))
}

/// Answers the golden digest of the engine's recorded trace.
#[unsafe(no_mangle)]
pub extern "C" fn nf_golden_digest(len: u32) -> u64 {
    call(len, |_, _, output| {
        output.extend(nearfield_engine::golden::digest().bytes());
        Ok(())
    })
}
