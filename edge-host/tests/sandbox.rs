//! Guests that misbehave: each ends, by name, and takes nothing with it.

use nearfield_edge::host::sandbox::{GuestError, Limits, Sandbox};
use std::time::{Duration, Instant};

/// A guest whose `nf_model_version` runs `body`.
fn guest(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func (export "nf_abi_version") (result i32) (i32.const 1))
            (func (export "nf_input") (param i32) (result i32) (i32.const 16))
            (func (export "nf_output") (result i64) (i64.const 0))
            (func (export "nf_model_version") (result i32) {body}))"#
    );
    wat::parse_str(text).unwrap()
}

fn run(body: &str) -> GuestError {
    let limits = Limits {
        memory_bytes_max: 1 << 20,
        call_deadline: Duration::from_millis(50),
        model_deadline: Duration::from_millis(50),
    };
    let mut guest = Sandbox::compile(&guest(body), limits).unwrap().instantiate().unwrap();
    guest.bytes("nf_model_version", None, &[]).unwrap_err()
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
    let error = run("(drop (memory.grow (i32.const 15))) (memory.grow (i32.const 1))");
    assert_eq!(
        error.to_string(),
        "guest call nf_model_version trapped: it returned a status that the ABI does not have"
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
