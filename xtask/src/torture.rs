//! `cargo xtask torture NAME`: brute tests that run on demand and print figures.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::step::Step;

/// A brute test.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Torture {
    /// Kill central again and again while clients send deltas: none may be lost or counted twice
    Kills,
}

impl Torture {
    /// All of them.
    pub(crate) const ALL: [Self; 1] = [Self::Kills];
}

/// Which brute test runs, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The test
    name: Torture,
    /// How often the fault strikes
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Faults of one run where no other number is asked for: about a minute.
const ROUNDS: u32 = 100;

/// Runs one brute test.
///
/// # Errors
/// When it fails.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    torture(options.name, options.rounds)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs one brute test at its default length.
///
/// # Errors
/// When it fails.
pub(crate) fn run_default(name: Torture) -> Result<()> {
    torture(name, ROUNDS)
}

fn torture(name: Torture, rounds: u32) -> Result<()> {
    match name {
        Torture::Kills => Step::cargo(format!("central, killed {rounds} times in each of two tests"))
            .args(["test", "--workspace", "--exclude", "xtask", "--test", "crash"])
            .args(["--", "--nocapture", "--test-threads", "1"])
            .env("NEARFIELD_KILLS", rounds.to_string())
            .passed_through()
            .run()?,
    };
    Ok(())
}
