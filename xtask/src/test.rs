//! `cargo xtask test`: every test, on every runtime.
//!
//! The modules are built first, because the edge host's tests load the guest and the package's tests load
//! the package. Native and wasmtime compare the golden digest within `cargo test`; Node and Chromium here.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    browser::{self, Runtime},
    demo, paths,
    step::Step,
    wasm,
};

/// Which tests run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Leave out what needs a browser: the digest in Chromium and the visit of the demo
    #[arg(long)]
    no_browser: bool,
}

/// Tests counted over all runners.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds a check that is one test of its own.
    fn check(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Adds what a runner printed in its closing lines.
    fn runner(&mut self, step: Step, read: fn(&str) -> Option<(u64, u64)>) -> Result<()> {
        let done = step.passed_through().try_run()?;
        let before = self.failed;
        for (passed, failed) in done.stdout.iter().filter_map(|line| read(line)) {
            self.passed += passed;
            self.failed += failed;
        }
        // A runner that fails without a failed test did not compile, or crashed.
        if !done.success && self.failed == before {
            self.failed += 1;
        }
        Ok(())
    }
}

/// Runs the tests and prints `N passed, N failed`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    wasm::build()?.print();

    // Binaries and tests in one go: the fleet's tests start the binaries, and both get the same features, so
    // that nothing is compiled twice. xtask is left out, since its own dependencies have fewer features.
    let selection = ["--workspace", "--exclude", "xtask"];
    Step::cargo("programs and tests").args(["build", "--bins", "--tests"]).args(selection).run()?;

    let mut tally = Tally::default();
    tally.runner(
        Step::cargo("cargo test")
            .args(["test", "--no-fail-fast"])
            .args(selection)
            .env("NEARFIELD_GUEST", paths::guest()),
        cargo_line,
    )?;
    tally.runner(Step::cargo("cargo test of xtask").args(["test", "--package", "xtask"]), cargo_line)?;
    tally.runner(
        Step::new("npm test in wasm-pkg", "npm").args(["test"]).directory(&paths::package()),
        node_line,
    )?;
    for runtime in Runtime::ALL {
        if runtime != Runtime::Chromium || !options.no_browser {
            tally.check(browser::golden_in(runtime));
        }
    }
    if !options.no_browser {
        tally.check(demo::check());
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads `test result: ok. 12 passed; 0 failed; …`.
fn cargo_line(line: &str) -> Option<(u64, u64)> {
    let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        counts.split("; ").find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
    };
    Some((count("passed")?, count("failed")?))
}

/// Reads `# pass 12` or `ℹ fail 1` of Node's test runner, the two on lines of their own.
fn node_line(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    if !matches!(words.next(), Some("#" | "ℹ")) {
        return None;
    }
    let word = words.next()?;
    let count = words.next()?.parse().ok()?;
    match word {
        "pass" => Some((count, 0)),
        "fail" | "cancelled" => Some((0, count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{cargo_line, node_line};

    #[test]
    fn closing_lines_of_cargo_test_are_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(cargo_line(line), Some((12, 2)));
        assert_eq!(cargo_line("test engine::works ... ok"), None);
    }

    #[test]
    fn closing_lines_of_the_node_runner_are_counted() {
        assert_eq!(node_line("# pass 9"), Some((9, 0)));
        assert_eq!(node_line("ℹ fail 3"), Some((0, 3)));
        assert_eq!(node_line("# tests 12"), None);
        assert_eq!(node_line("pass 9"), None);
    }
}
