//! A core that misbehaves on demand, as text: it speaks the ABI, answers every step with the same, and does what a
//! mark in the message says.

use nearfield_edge::abi::{ABI_VERSION, Learnt, List, ModelInfo, Stepped};
use std::fmt::Write;

/// What a mark in a state, an item id or a user's message makes the core do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misdeed {
    Trap = 1,
    Loop = 2,
    GrowMemory = 3,
    GrowTable = 4,
    Recurse = 5,
    HugeAnswer = 6,
}

impl Misdeed {
    pub(crate) const ALL: [Self; 6] =
        [Self::Trap, Self::Loop, Self::GrowMemory, Self::GrowTable, Self::Recurse, Self::HugeAnswer];

    /// Returns the mark.
    pub(crate) fn mark(self) -> String {
        format!("!#!#{}", self as u8)
    }
}

/// Returns the core, which takes whatever pack comes for this model.
pub(crate) fn core(model: ModelInfo) -> Vec<u8> {
    let stepped = Stepped {
        state: Some(vec![7]),
        learnt: Learnt { applied: 1, ..Learnt::default() },
        choices: vec![],
        features: vec![],
        profile: None,
        factor: None,
        outcomes: vec![],
        outbox: 0,
        unsent: 0,
        delta_due: false,
        body: None,
        shown: None,
        list: Some(List { model, items: vec![] }),
        inspection: None,
    };
    let (mut data, mut answers) = (String::new(), Vec::new());
    for (number, answer) in
        [vec![], postcard::to_allocvec(&model).unwrap(), postcard::to_allocvec(&stepped).unwrap()]
            .iter()
            .enumerate()
    {
        let at = 1024 + 256 * number;
        let bytes: String = answer.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(data, r#"(data (i32.const {at}) "\00{bytes}")"#).unwrap();
        answers.push(format!("(i64.const {})", (at << 32) | (answer.len() + 1)));
    }
    let [nothing, model, stepped] = <[String; 3]>::try_from(answers).unwrap();
    let same = |names: &[&str], answer: &str| -> String {
        let function =
            |name: &&str| format!("(func (export \"{name}\") (param i32) (result i64) {answer})\n");
        names.iter().map(function).collect()
    };
    let quiet =
        same(&["nf_pack_begin", "nf_pack_push", "nf_warm", "nf_similar", "nf_golden_digest"], &nothing);
    let models = same(&["nf_pack_finish", "nf_patch"], &model);
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (table $table 1 funcref)
            {data}
            (func (export "nf_abi_version") (result i32) (i32.const {ABI_VERSION}))
            (func (export "nf_input") (param $bytes i32) (result i32)
                ;; The input begins at the second page.
                (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $bytes) (i32.const 16)))))
                (i32.const 65536))
            {quiet}{models}
            (func $recurse (param i32) (result i32)
                (i32.add (i32.const 1) (call $recurse (i32.add (local.get 0) (i32.const 1)))))
            ;; Returns the digit after the mark "!#!#", 0 where there is none.
            (func $misdeed (param $bytes i32) (result i32) (local $at i32) (local $end i32)
                (local.set $at (i32.const 65536))
                (local.set $end (i32.sub (i32.add (local.get $at) (local.get $bytes)) (i32.const 4)))
                (block $out
                    (loop $next
                        (br_if $out (i32.ge_s (local.get $at) (local.get $end)))
                        (if (i32.eq (i32.load align=1 (local.get $at)) (i32.const 0x23212321))
                            (then (return (i32.sub (i32.load8_u offset=4 (local.get $at)) (i32.const 48)))))
                        (local.set $at (i32.add (local.get $at) (i32.const 1)))
                        (br $next)))
                (i32.const 0))
            (func (export "nf_step") (param $bytes i32) (result i64)
                (block $huge (block $recurse (block $table (block $memory (block $loop (block $trap (block $good
                    (br_table $good $trap $loop $memory $table $recurse $huge $good
                        (call $misdeed (local.get $bytes))))
                    (return {stepped}))
                    (unreachable))
                    (loop $again (br $again)))
                    (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
                    (unreachable))
                    (loop $again
                        (br_if $again (i32.ne (i32.const -1) (table.grow $table (ref.null func) (i32.const 64)))))
                    (unreachable))
                    (return (i64.extend_i32_u (call $recurse (i32.const 0)))))
                (i64.const 0xffffffff)))"#,
    );
    wat::parse_str(text).unwrap()
}
