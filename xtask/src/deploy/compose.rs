//! The compose file: held against the specification's schema, and its commands against the programs' own options.

use anyhow::{Context, Result, ensure};

use super::{chart, rules, tools::CHECKS};
use crate::{paths, step::Step};

/// Checks it.
///
/// # Errors
/// When the schema refuses it, a file that it mounts is missing, or a program does not have an option.
pub(super) fn check() -> Result<()> {
    let folder = paths::root().join("deploy/compose");
    let file = folder.join("compose.yaml");
    Step::new("compose file against its specification", CHECKS.need("check-jsonschema")?)
        .args(["--builtin-schema", "vendor.compose-spec"])
        .args([&file])
        .run()?;
    Step::new("promtool check config", rules::promtool()?)
        .args(["check", "config", "--syntax-only"])
        .args([&folder.join("prometheus.yml")])
        .run()?;
    let text = std::fs::read_to_string(&file).with_context(|| paths::short(&file))?;
    chart::check_options(&file, &text)?;
    for mounted in text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(":/")) {
        let path = mounted.0;
        // `./site/` is the operator's own.
        if path.starts_with('.') && !path.starts_with("./site/") {
            ensure!(folder.join(path).exists(), "{}: there is no {path}", paths::short(&file));
        }
    }
    Ok(())
}
