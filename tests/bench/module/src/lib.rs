//! The work of `work.rs` behind a small C-like ABI without imports.
//!
//! ```text
//! nb_input(len: u32) → ptr             makes a buffer of len bytes; the host fills it, then calls one of
//! nb_pack()                            takes the buffer as the case's pack
//! nb_open() → i32                      takes the buffer as the visitors and opens the case; 0 is well
//! nb_run(operation, from, calls) → u32 does the operation for `calls` people, from number `from` on
//! nb_list() → ptr                      the last list: a count, then row and bits of the score for each
//! ```

#![cfg(target_arch = "wasm32")]
#![expect(unsafe_code, reason = "an export needs the attribute unsafe(no_mangle); there is no unsafe block")]

mod work;

use std::cell::RefCell;
use work::{Operation, Work};

#[derive(Default)]
struct Instance {
    input: Vec<u8>,
    pack: Vec<u8>,
    list: Vec<u32>,
    work: Work,
}

thread_local! {
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

/// Makes the input buffer `len` bytes long and returns where it is.
#[unsafe(no_mangle)]
pub extern "C" fn nb_input(len: u32) -> *mut u8 {
    INSTANCE.with_borrow_mut(|instance| {
        instance.input = vec![0; len as usize];
        instance.input.as_mut_ptr()
    })
}

/// Takes the input buffer as the pack.
#[unsafe(no_mangle)]
pub extern "C" fn nb_pack() {
    INSTANCE.with_borrow_mut(|instance| instance.pack = std::mem::take(&mut instance.input));
}

/// Takes the input buffer as the visitors and opens the case; 0 is well, 1 is not.
#[unsafe(no_mangle)]
pub extern "C" fn nb_open() -> i32 {
    INSTANCE.with_borrow_mut(|instance| {
        let pack = std::mem::take(&mut instance.pack);
        match Work::open(pack, &std::mem::take(&mut instance.input)) {
            Ok(work) => {
                instance.work = work;
                0
            }
            Err(_) => 1,
        }
    })
}

/// Does one operation for each of `calls` people, from number `from` on.
#[unsafe(no_mangle)]
pub extern "C" fn nb_run(operation: u32, from: u32, calls: u32) -> u32 {
    let Some(operation) = Operation::ALL.get(operation as usize) else { return 0 };
    INSTANCE.with_borrow_mut(|instance| {
        (from..from + calls)
            .fold(0u32, |sum, turn| sum.wrapping_add(instance.work.run(*operation, turn as usize)))
    })
}

/// Returns where the last list is: a count, then row and bits of the score for each.
#[unsafe(no_mangle)]
pub extern "C" fn nb_list() -> *const u32 {
    INSTANCE.with_borrow_mut(|instance| {
        let list = instance.work.list();
        instance.list.clear();
        instance.list.push(list.len() as u32);
        instance.list.extend(list.into_iter().flat_map(|(row, score)| [row, score]));
        instance.list.as_ptr()
    })
}
