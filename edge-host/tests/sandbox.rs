//! Guests that misbehave: each ends, by name, and takes nothing with it.

use nearfield_edge::abi::ABI_VERSION;
use nearfield_edge::host::sandbox::{Export, GuestError, Limits, Sandbox};
use std::time::{Duration, Instant};

/// A guest whose `nf_step` runs `body` and answers with the first `answer_bytes` of its memory of two pages, which
/// are zeros: the status of success.
fn guest(body: &str, answer_bytes: u32) -> Vec<u8> {
    let others = ["similar", "pack_begin", "pack_push", "pack_finish", "patch", "warm", "golden_digest"];
    let other = |name: &str| {
        format!("(func (export \"nf_{name}\") (param i32) (result i64) (i64.const {answer_bytes}))\n")
    };
    let others: String = others.into_iter().map(other).collect();
    let text = format!(
        r#"(module
            (memory (export "memory") 2)
            (table 1 funcref)
            (func (export "nf_abi_version") (result i32) (i32.const {ABI_VERSION}))
            (func (export "nf_input") (param i32) (result i32) (i32.const 16))
            (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
            {others}
            (func (export "nf_step") (param i32) (result i64) {body} (i64.const {answer_bytes})))"#
    );
    wat::parse_str(text).unwrap()
}

fn limits() -> Limits {
    Limits {
        memory_bytes_max: 1 << 20,
        table_elements_max: 100,
        answer_bytes_max: 1 << 16,
        call_deadline: Duration::from_millis(50),
        model_deadline: Duration::from_millis(50),
        fuel_max: None,
        instances_max: 2,
    }
}

fn run(body: &str) -> GuestError {
    answer(body, 1, limits()).unwrap_err()
}

fn answer(body: &str, answer_bytes: u32, limits: Limits) -> Result<Vec<u8>, GuestError> {
    let sandbox = Sandbox::compile(&guest(body, answer_bytes), limits, None).unwrap();
    sandbox.instantiate().unwrap().bytes(Export::Step, &[])
}

#[test]
fn an_endless_call_is_stopped_at_its_deadline() {
    let started = Instant::now();
    let error = run("(loop $again (br $again))");
    assert!(matches!(error, GuestError::Deadline { export: "nf_step", .. }), "{error}");
    assert!(error.is_fatal());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn fuel_stops_a_call_at_the_same_instruction_every_time() {
    let limits = Limits { fuel_max: Some(10_000), call_deadline: Duration::from_secs(60), ..limits() };
    let error = answer("(loop $again (br $again))", 1, limits).unwrap_err();
    assert_eq!(error.to_string(), "guest call nf_step was stopped when its fuel of 10000 was used up");
    // Each round takes the same fuel: so many rounds fit, and no more.
    let rounds = |count: u32| {
        let body = format!(
            "(local $i i32) (loop $again (br_if $again (i32.lt_u
                (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count}))))"
        );
        answer(&body, 1, limits).is_ok()
    };
    let most =
        (0..14).rev().fold(0, |most, bit| if rounds(most | 1 << bit) { most | 1 << bit } else { most });
    assert!((100..10_000).contains(&most), "{most}");
    assert!((0..5).all(|_| rounds(most) && !rounds(most + 1)));
}

#[test]
fn memory_does_not_grow_past_its_limit() {
    // 16 pages are a mebibyte; one more is refused with -1.
    let grow = |pages: u32| {
        run(&format!(
            "(if (i32.ne (memory.grow (i32.const {pages})) (i32.const 2)) (then unreachable)) (loop $again (br $again))"
        ))
    };
    assert!(matches!(grow(14), GuestError::Deadline { .. }), "{}", grow(14));
    assert!(matches!(grow(15), GuestError::Trapped { .. }), "{}", grow(15));
}

#[test]
fn a_table_does_not_grow_past_its_limit() {
    let grow = |elements: u32| {
        let grow = format!("(table.grow (ref.null func) (i32.const {elements}))");
        answer(&format!("(if (i32.ne {grow} (i32.const 1)) (then unreachable))"), 1, limits())
    };
    assert!(grow(99).is_ok());
    assert!(grow(100).unwrap_err().is_fatal());
}

#[test]
fn an_answer_is_not_copied_past_its_limit_nor_past_the_memory() {
    assert_eq!(answer("", 1 << 16, limits()).unwrap().len(), (1 << 16) - 1);
    let error = answer("", (1 << 16) + 1, limits()).unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(
        error.to_string(),
        "guest call nf_step trapped: its answer has 65537 bytes, the limit is 65536"
    );
    let large = Limits { answer_bytes_max: 1 << 20, ..limits() };
    let error = answer("", (2 << 16) + 1, large).unwrap_err();
    assert_eq!(error.to_string(), "guest call nf_step trapped: its answer lies outside the guest's memory");
    let error = answer("", 0, limits()).unwrap_err();
    assert_eq!(error.to_string(), "guest call nf_step trapped: its answer is empty");
}

#[test]
fn a_status_that_there_is_not_is_fatal() {
    let error = run("(i32.store8 (i32.const 0) (i32.const 200))");
    assert_eq!(
        error.to_string(),
        "guest call nf_step trapped: it answered with a status that the ABI does not have"
    );
}

#[test]
fn a_trap_is_fatal_and_named() {
    let error = run("unreachable");
    assert!(error.is_fatal());
    assert!(error.to_string().contains("unreachable"), "{error}");
    let error = run("(drop (call $deep (i32.const 1)))");
    assert!(error.to_string().contains("call stack exhausted"), "{error}");
}

#[test]
fn a_compiled_core_is_kept_and_read_again_and_a_damaged_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let cores = folder.path().join("core");
    let wasm = guest("(i32.store8 (i32.const 1) (i32.const 77))", 2);
    let run = |limits| {
        let sandbox = Sandbox::compile(&wasm, limits, Some(&cores)).unwrap();
        assert_eq!(sandbox.instantiate().unwrap().bytes(Export::Step, &[]).unwrap(), [77]);
    };
    let kept = || -> Vec<_> {
        let entries = std::fs::read_dir(&cores).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (std::fs::metadata(&path).unwrap().modified().unwrap(), path)).collect()
    };
    run(limits());
    let first = kept();
    assert_eq!(first.len(), 1);
    run(limits());
    assert_eq!(kept(), first, "nothing was written");

    let path = &first[0].1;
    let mut damaged = std::fs::read(path).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(path, &damaged).unwrap();
    run(limits());
    assert_ne!(std::fs::read(path).unwrap(), damaged, "it was compiled again");
    run(Limits { fuel_max: Some(1_000_000), ..limits() });
    assert_eq!(kept().len(), 2, "code for other settings is another artefact");
}

#[test]
fn a_guest_that_wants_imports_is_refused() {
    let wasm = wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#).unwrap();
    let error = Sandbox::compile(&wasm, Limits::default(), None).err().unwrap();
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
    let error = Sandbox::compile(&wasm, Limits::default(), None).unwrap().instantiate().err().unwrap();
    let said = format!("guest module cannot be used: its ABI has version 99, this host speaks {ABI_VERSION}");
    assert_eq!(error.to_string(), said);
}
