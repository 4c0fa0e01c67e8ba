//! `cargo xtask bench`: the engine's benches, in the release profile.

use std::process::ExitCode;

use anyhow::Result;

use crate::step::Step;

/// Runs the benches; `arguments` go to their runner.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    Step::cargo("benches of nearfield-engine")
        .args(["bench", "--package", "nearfield-engine", "--features", "train", "--benches", "--"])
        .args(arguments)
        .passed_through()
        .run()?;
    Ok(ExitCode::SUCCESS)
}
