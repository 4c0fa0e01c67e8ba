//! Guests that misbehave: each ends, by name, and takes nothing with it.

use nearfield_edge::host::sandbox::{GuestError, Limits, Sandbox};
use std::time::{Duration, Instant};

/// A guest whose `nf_model_version` runs `body`, and that says its answer is the first `answer_bytes` of its
/// memory of two pages.
fn guest(body: &str, answer_bytes: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 2)
            (table 1 funcref)
            (func (export "nf_abi_version") (result i32) (i32.const 1))
            (func (export "nf_input") (param i32) (result i32) (i32.const 16))
            (func (export "nf_output") (result i64) (i64.const {answer_bytes}))
            (func (export "nf_model_version") (result i32) {body}))"#
    );
    wat::parse_str(text).unwrap()
}

fn run(body: &str) -> GuestError {
    answer(body, 0).unwrap_err()
}

fn answer(body: &str, answer_bytes: u32) -> Result<Vec<u8>, GuestError> {
    let limits = Limits {
        memory_bytes_max: 1 << 20,
        table_elements_max: 100,
        answer_bytes_max: 1 << 16,
        call_deadline: Duration::from_millis(50),
        model_deadline: Duration::from_millis(50),
    };
    let mut guest = Sandbox::compile(&guest(body, answer_bytes), limits).unwrap().instantiate().unwrap();
    guest.bytes("nf_model_version", None, &[])
}

#[test]
fn an_endless_call_is_stopped_at_its_deadline() {
    let started = Instant::now();
    let error = run("(loop $again (br $again)) (i32.const 0)");
    assert!(matches!(error, GuestError::Deadline { export: "nf_model_version", .. }), "{error}");
    assert!(error.is_fatal());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn memory_does_not_grow_past_its_limit() {
    // 16 pages are a mebibyte; one more is refused with -1, which is no status.
    let error = run("(drop (memory.grow (i32.const 14))) (memory.grow (i32.const 1))");
    assert_eq!(
        error.to_string(),
        "guest call nf_model_version trapped: it returned a status that the ABI does not have"
    );
}

#[test]
fn a_table_does_not_grow_past_its_limit() {
    let grow = |elements: u32| run(&format!("(table.grow (ref.null func) (i32.const {elements}))"));
    // The size before is 1, which is a status without its answer; -1 is no status.
    assert!(grow(99).to_string().contains("its answer does not decode"), "{}", grow(99));
    let refused = "guest call nf_model_version trapped: it returned a status that the ABI does not have";
    assert_eq!(grow(100).to_string(), refused);
}

#[test]
fn an_answer_is_not_copied_past_its_limit() {
    assert_eq!(answer("(i32.const 0)", 1 << 16).unwrap().len(), 1 << 16);
    let error = answer("(i32.const 0)", (1 << 16) + 1).unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(
        error.to_string(),
        "guest call nf_model_version trapped: its answer has 65537 bytes, the limit is 65536"
    );
}

#[test]
fn a_trap_is_fatal_and_named() {
    let error = run("unreachable");
    assert!(error.is_fatal());
    assert!(error.to_string().contains("unreachable"), "{error}");
}

#[test]
fn a_guest_that_wants_imports_is_refused() {
    let wasm = wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#).unwrap();
    let error = Sandbox::compile(&wasm, Limits::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "guest module cannot be used: it imports wasi_snapshot_preview1.fd_write, a guest has no imports"
    );
}

#[test]
fn a_guest_of_another_abi_is_refused() {
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1)
            (func (export "nf_abi_version") (result i32) (i32.const 99)))"#,
    )
    .unwrap();
    let error = Sandbox::compile(&wasm, Limits::default()).unwrap().instantiate().err().unwrap();
    assert_eq!(error.to_string(), "guest module cannot be used: its ABI has version 99, this host speaks 1");
}
