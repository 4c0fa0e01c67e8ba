//! Prometheus' rules: read and tested by promtool, each alert with a test that fires it, one that does not, and a page
//! that says what to do.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{paths, step::Step, tools};

/// Metrics that Prometheus makes itself.
const OF_PROMETHEUS: [&str; 1] = ["up"];

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
    let known = described()?;
    for name in names(&text) {
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
        ensure!(
            known.contains(name) || base.is_some_and(|base| known.contains(base)),
            "{}: no program tells {name}",
            paths::short(&rules)
        );
    }
    Ok(())
}

/// Prometheus' own tool for rules.
pub(super) fn promtool() -> Result<PathBuf> {
    tools::find_or_install(|| tools::find("promtool"), &["prometheus"])?
        .context("promtool is missing: run `apt-get install prometheus` as root")
}

/// Returns the names of all metrics that the programs say they have.
pub(super) fn described() -> Result<BTreeSet<String>> {
    let mut known: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for program in ["nearfield-central", "nearfield-edge"] {
        let output = Command::new(paths::binary(program))
            .arg("metrics")
            .output()
            .with_context(|| format!("{program} is not built"))?;
        let text = String::from_utf8(output.stdout)?;
        known.extend(text.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned));
    }
    Ok(known)
}

/// Returns the metrics that a text names.
fn names(text: &str) -> BTreeSet<&str> {
    let words =
        text.split(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)));
    words
        .filter(|word| {
            (word.starts_with("nearfield_") || word.starts_with("process_")) && !word.contains(':')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_a_text_are_found() {
        let text =
            "expr: 'sum by (site) (rate(nearfield_a_total[5m])) / nearfield:b:rate5m > process_c{x=\"y\"}'";
        assert_eq!(names(text).into_iter().collect::<Vec<_>>(), ["nearfield_a_total", "process_c"]);
    }
}
