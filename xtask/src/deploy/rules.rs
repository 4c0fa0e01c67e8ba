//! Prometheus' rules: read and tested by promtool, each alert with a test that fires it, one that does not, and a page
//! that says what to do.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::metrics::{Meanings, series};
use crate::{paths, step::Step, tools};

/// Checks them.
///
/// # Errors
/// The first that promtool refuses, that a test does not find as it should be, or that lacks a page.
pub(super) fn check() -> Result<()> {
    let folder = paths::root().join("deploy/prometheus");
    let promtool = promtool()?;
    let rules = folder.join("rules.yaml");
    Step::new("promtool check rules", &promtool).args(["check", "rules"]).args([&rules]).run()?;
    Step::new("promtool test rules", &promtool)
        .args(["test", "rules"])
        .args([&folder.join("rules.test.yaml")])
        .run()?;
    let text = std::fs::read_to_string(&rules)?;
    let tests = std::fs::read_to_string(folder.join("rules.test.yaml"))?;
    for alert in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let page = paths::root().join(format!("docs/operations/{alert}.md"));
        ensure!(page.is_file(), "{} is missing: it says what to do at the alert", paths::short(&page));
        for test in ["fires", "is quiet"] {
            ensure!(tests.contains(&format!("- name: {alert} {test}\n")), "no test says that {alert} {test}");
        }
    }
    let meanings = Meanings::of_programs()?;
    for name in series(&text) {
        meanings.get(name).with_context(|| paths::short(&rules))?;
    }
    Ok(())
}

/// Prometheus' own tool for rules.
pub(super) fn promtool() -> Result<PathBuf> {
    tools::find_or_install(|| tools::find("promtool"), &["prometheus"])?
        .context("promtool is missing: run `apt-get install prometheus` as root")
}
