//! `cargo xtask test`: every test, on every runtime, or the part that is asked for.
//!
//! A suite is a part that can run alone. The modules are built first, because the edge host's tests load
//! the guest and the package's tests load the package. Native and wasmtime compare the golden digest
//! within the suite `rust`, Node and Chromium in `golden`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    browser::{self, Runtime},
    changed, demo, deploy, floors, jars, package, paths, site, spark,
    step::Step,
    tools,
    torture::{self, Torture},
    wasm,
};

/// Which tests run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Formatting, lints of what changed, unit and property tests; no wasm, no browser
    #[arg(long, conflicts_with_all = ["only", "all", "no_browser"])]
    quick: bool,
    /// Run one suite alone
    #[arg(long, value_name = "SUITE")]
    only: Option<Suite>,
    /// Add what is too heavy for every run: the package in every host, and the brute tests of `cargo xtask torture`
    #[arg(long)]
    all: bool,
    /// Leave out what needs a browser: the digest in Chromium, the visit of the demo, the browser's torture
    #[arg(long)]
    no_browser: bool,
}

/// A part of the tests that can run alone; each takes five minutes at most.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// `cargo test` of the whole workspace
    Rust,
    /// The edge host alone, on memory, redb, Redis, and Redis behind Memcached: a part of `rust`
    Edge,
    /// Events through Kafka, and their contract: a part of `rust`
    Streams,
    /// Spark on a real Kafka, beside an edge: in a whole run with `--all` only
    Spark,
    /// `npm test` of the package
    Npm,
    /// The packed npm package against a real central: in Node and Chromium, with `--all` in every host
    Package,
    /// The golden digest in Node and Chromium
    Golden,
    /// What stands in deploy/, but for the images and without a kube-apiserver
    Deploy,
    /// A headless browser's visit of the demo, and a tenth of the browser's torture
    Browser,
}

impl Suite {
    /// All that a whole run is of, those first that fail soonest.
    const ALL: [Self; 6] = [Self::Rust, Self::Deploy, Self::Npm, Self::Package, Self::Golden, Self::Browser];

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Edge => "edge",
            Self::Streams => "streams",
            Self::Spark => "spark",
            Self::Npm => "npm",
            Self::Package => "package",
            Self::Golden => "golden",
            Self::Deploy => "deploy",
            Self::Browser => "browser",
        }
    }
}

/// What cargo builds for the tests. xtask is left out, since its own dependencies have fewer features:
/// everything else gets the same ones, so that nothing is compiled twice.
const SELECTION: [&str; 3] = ["--workspace", "--exclude", "xtask"];

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

/// What a part took.
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    /// Runs a part and notes its time.
    fn note<T>(&mut self, name: &'static str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let done = part();
        self.0.push((name, started.elapsed()));
        done
    }

    fn print(&self) {
        for (name, time) in &self.0 {
            println!("{name:>10} {:7.1} s", time.as_secs_f64());
        }
    }
}

/// Runs the tests, prints what each part took, and closes with `N passed, N failed`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut tally = Tally::default();
    let mut times = Times(Vec::new());
    if options.quick {
        quick(&mut tally, &mut times)?;
    } else {
        times.note("wasm", || {
            let built = wasm::build()?;
            tally.check(built.check_size());
            Ok(())
        })?;
        for suite in options.only.map_or(Suite::ALL.to_vec(), |only| vec![only]) {
            times.note(suite.name(), || run_suite(suite, options, &mut tally))?;
        }
        if options.all && options.only.is_none() {
            times.note("spark", || run_suite(Suite::Spark, options, &mut tally))?;
            for name in Torture::ALL {
                times.note("torture", || {
                    tally.check(torture::torture(name));
                    Ok(())
                })?;
            }
        }
    }
    times.print();
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_suite(suite: Suite, options: &Options, tally: &mut Tally) -> Result<()> {
    let no_browser = options.no_browser;
    match suite {
        Suite::Edge => {
            let tests = Step::cargo("cargo test of the edge host");
            tally.runner(
                with_servers(tests.args(["test", "--no-fail-fast", "--package", "nearfield-edge"]))?,
                cargo_line,
            )
        }
        Suite::Streams => {
            Step::cargo("programs").args(["build", "--bins"]).args(SELECTION).run()?;
            let files = ["decoder", "features", "registry", "released", "streams"];
            let tests = Step::cargo("cargo test of streams").args(["test", "--no-fail-fast"]).args(SELECTION);
            let tests = tests.args(files.iter().flat_map(|file| ["--test", file]));
            tally.runner(with_servers(tests)?, cargo_line)
        }
        Suite::Spark => {
            Step::cargo("programs").args(["build", "--bins"]).args(SELECTION).run()?;
            let tests = Step::cargo("cargo test of Spark").args(["test"]).args(SELECTION);
            let tests = tests.args(["--test", "spark", "--", "--include-ignored", "--nocapture"]);
            let tests = spark::with_spark(with_servers(tests)?)?;
            tally.runner(spark::tests()?, pytest_line)?;
            tally.runner(tests, cargo_line)
        }
        Suite::Rust => {
            // Binaries and tests in one go: the fleet's tests start the binaries.
            Step::cargo("programs and tests").args(["build", "--bins", "--tests"]).args(SELECTION).run()?;
            let tests = Step::cargo("cargo test").args(["test", "--no-fail-fast"]).args(SELECTION);
            tally.runner(with_servers(tests)?, cargo_line)?;
            tally.runner(Step::cargo("cargo test of xtask").args(["test", "--package", "xtask"]), cargo_line)
        }
        Suite::Deploy => {
            if let Err(missing) = deploy::need() {
                eprintln!("SKIPPED: the checks of deploy/. {missing}");
                return Ok(());
            }
            for check in deploy::checks() {
                tally.check(check());
            }
            Ok(())
        }
        Suite::Npm => tally.runner(
            Step::new("npm test in wasm-pkg", "npm").args(["test"]).directory(&paths::package()),
            node_line,
        ),
        Suite::Package => {
            let prepared = package::prepare(options.all, no_browser)?;
            tally.runner(prepared.step, node_line)
        }
        Suite::Golden => {
            let package = wasm::build_golden()?;
            for runtime in Runtime::ALL.into_iter().filter(|runtime| !runtime.needs_browser() || !no_browser)
            {
                tally.check(browser::golden_in(runtime, &package));
            }
            Ok(())
        }
        Suite::Browser if no_browser => Ok(()),
        Suite::Browser => {
            site::build_programs()?;
            tally.check(demo::check());
            // A tenth of what `cargo xtask torture browser` does.
            tally.check(browser::torture(torture::BROWSER_KILLS / 10, None));
            Ok(())
        }
    }
}

/// Gets the servers that tests of the edge start, and tells the tests where the guest is.
fn with_servers(tests: Step) -> Result<Step> {
    tools::need_servers()?;
    let streams_off = jars::for_tests()?;
    let off = streams_off.into_iter().chain(operations_off()?);
    Ok(off.fold(tests.env("NEARFIELD_GUEST", paths::guest()), |tests, (name, value)| tests.env(name, value)))
}

/// Gets what the tests of operations need; where that cannot be had, says so and returns what leaves them out.
fn operations_off() -> Result<Option<(&'static str, &'static str)>> {
    for (program, package) in
        [("prometheus", "prometheus"), ("prometheus-alertmanager", "prometheus-alertmanager")]
    {
        if tools::find_or_install(|| tools::find(program), &[package])?.is_none() {
            eprintln!("SKIPPED: the tests of operations. {program} is missing: `apt-get install {package}`");
            return Ok(Some((nearfield_services::OPERATIONS_OFF, "1")));
        }
    }
    Ok(None)
}

/// The inner loop: what finds most mistakes within two minutes of a warm build.
fn quick(tally: &mut Tally, times: &mut Times) -> Result<()> {
    times.note("formatting", || {
        Step::cargo("formatting").args(["fmt", "--all", "--check"]).run()?;
        floors::check()
    })?;
    let crates = changed::crates()?;
    times.note("clippy", || {
        if crates.is_empty() {
            return Ok(());
        }
        let packages = crates.iter().flat_map(|name| ["--package", name.as_str()]);
        Step::cargo(format!("lints of {} crates that changed or depend on it", crates.len()))
            .args(["clippy", "--all-targets"])
            .args(packages)
            .args(["--", "-D", "warnings"])
            .run()?;
        Ok(())
    })?;
    times.note("tests", || {
        let targets = ["--lib", "--bins", "--test", "paths"];
        tally.runner(
            Step::cargo("unit and property tests")
                .args(["test", "--no-fail-fast"])
                .args(SELECTION)
                .args(targets),
            cargo_line,
        )
    })
}

/// Reads `test result: ok. 12 passed; 0 failed; …`.
fn cargo_line(line: &str) -> Option<(u64, u64)> {
    let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        counts.split("; ").find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
    };
    Some((count("passed")?, count("failed")?))
}

/// Reads `2 failed, 27 passed in 3.01s` of pytest.
fn pytest_line(line: &str) -> Option<(u64, u64)> {
    let counts = line.trim().trim_matches('=').trim().rsplit_once(" in ")?.0;
    let count =
        |word: &str| counts.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok());
    let (passed, failed) = (count("passed"), count("failed"));
    (passed.is_some() || failed.is_some()).then(|| (passed.unwrap_or(0), failed.unwrap_or(0)))
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
    use super::{cargo_line, node_line, pytest_line};

    #[test]
    fn closing_lines_of_cargo_test_are_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(cargo_line(line), Some((12, 2)));
        assert_eq!(cargo_line("test engine::works ... ok"), None);
    }

    #[test]
    fn closing_lines_of_pytest_are_counted() {
        assert_eq!(pytest_line("2 failed, 27 passed in 3.01s"), Some((27, 2)));
        assert_eq!(pytest_line("===== 29 passed in 2.95s ====="), Some((29, 0)));
        assert_eq!(pytest_line("spark/tests/test_core.py ..."), None);
    }

    #[test]
    fn closing_lines_of_the_node_runner_are_counted() {
        assert_eq!(node_line("# pass 9"), Some((9, 0)));
        assert_eq!(node_line("ℹ fail 3"), Some((0, 3)));
        assert_eq!(node_line("# tests 12"), None);
        assert_eq!(node_line("pass 9"), None);
    }
}
