//! `evaluate --gate`: an earlier report, and whether the figures of a new one have fallen below it.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// What must be the same in both reports for their figures to be of the same thing.
const SAME: [&str; 8] =
    ["protocol", "method", "events", "k", "idle_ms", "publish_ms", "publish_events", "shuffled"];

/// Standard errors of the earlier figure by which a figure may fall: one that has not changed falls further by
/// chance in about one of forty measurements.
const ERRORS_MAX: f64 = 2.0;

/// Reads an earlier report of `evaluate --json`.
///
/// # Errors
/// The file's name and what is wrong with it.
pub fn read(path: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))?;
    ensure!(
        report["all"].is_object(),
        "{} is no report of nearfield-trainer evaluate: it has no \"all\"",
        path.display()
    );
    Ok(report)
}

/// Prints each figure beside the earlier one, on standard error.
///
/// # Errors
/// Names what makes the two reports unlike, or the figures that have fallen.
pub fn check(baseline: &Value, report: &Value) -> anyhow::Result<()> {
    for field in SAME {
        ensure!(
            baseline[field] == report[field],
            "the baseline is of another measurement: {field} is {} there and {} here",
            baseline[field],
            report[field]
        );
    }
    let mut fallen = Vec::new();
    for targets in ["novel", "all"] {
        let Some(figures) = baseline[targets].as_object() else { continue };
        let now = &report[targets];
        ensure!(
            figures.get("n") == now.get("n"),
            "the baseline is of other targets: {targets} has {} there and {} here",
            baseline[targets]["n"],
            now["n"]
        );
        for (name, before) in figures {
            let Some(error) = figures.get(&format!("{name}_se")).and_then(Value::as_f64) else { continue };
            let (Some(before), Some(now)) = (before.as_f64(), now[name].as_f64()) else {
                bail!("{targets} {name} is missing in one of the two reports");
            };
            let fell = now < before - ERRORS_MAX * error;
            let verdict = if fell { "has fallen" } else { "holds" };
            eprintln!(
                "{targets:>5} {name:<8} {before:.4} -> {now:.4} ({:+.4}, {ERRORS_MAX} standard errors are {:.4}): {verdict}",
                now - before,
                ERRORS_MAX * error
            );
            if fell {
                fallen.push(format!("{targets} {name}"));
            }
        }
    }
    ensure!(fallen.is_empty(), "fallen by more than {ERRORS_MAX} standard errors: {}", fallen.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(hr10: f64) -> Value {
        json!({
            "protocol": "stream", "method": "nearfield", "events": 100, "k": 1,
            "all": { "n": 50, "hr10": hr10, "hr10_se": 0.01, "ndcg10": 0.3, "ndcg10_se": 0.01 },
        })
    }

    #[test]
    fn a_figure_may_fall_by_twice_its_standard_error_and_no_further() {
        check(&report(0.5), &report(0.4801)).unwrap();
        check(&report(0.5), &report(0.9)).unwrap();
        let error = check(&report(0.5), &report(0.4799)).unwrap_err();
        assert_eq!(error.to_string(), "fallen by more than 2 standard errors: all hr10");
    }

    #[test]
    fn a_report_of_something_else_is_no_baseline() {
        let changed = |field: &str, value: Value| {
            let mut report = report(0.5);
            report[field] = value;
            check(&report, &self::report(0.5)).unwrap_err().to_string()
        };
        assert_eq!(
            changed("k", json!(10)),
            "the baseline is of another measurement: k is 10 there and 1 here"
        );
        assert_eq!(
            changed("all", json!({ "n": 49 })),
            "the baseline is of other targets: all has 49 there and 50 here"
        );
    }
}
