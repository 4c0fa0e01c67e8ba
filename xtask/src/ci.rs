//! `cargo xtask ci`: formatting, floors, lints, schemas, dependency rules, then every test.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    floors,
    step::{Step, first_line},
    test,
};

/// Runs the checks in the order in which they fail soonest.
pub(crate) fn run() -> Result<ExitCode> {
    Step::cargo("formatting").args(["fmt", "--all", "--check"]).run()?;
    floors::check()?;
    Step::cargo("lints")
        .args(["clippy", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"])
        .run()?;
    Step::cargo("schemas against their released versions")
        .args(["test", "--workspace", "--exclude", "xtask", "--test", "released"])
        .run()?;
    if first_line("cargo", &["deny", "--version"]).is_some() {
        Step::cargo("dependency rules").args(["deny", "check", "bans", "licenses", "sources"]).run()?;
    } else {
        eprintln!(
            "- dependency rules left out: run `cargo install cargo-deny --locked` to check deny.toml too"
        );
    }
    test::run(&test::Options::default())
}
