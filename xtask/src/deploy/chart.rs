//! The chart on every file of values: linted, rendered, held against Kubernetes' schemas and against the programs'
//! own options, judged by kube-score. Renderings that are wrong on purpose must be refused.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::tools::{CHECKS, HELM, KUBE_SCORE};
use crate::{
    paths,
    step::{Spinner, Step},
};

/// The version of Kubernetes that renderings are for.
pub(super) const KUBERNETES: &str = "1.34";

/// What kube-score judges otherwise: a limit of CPU makes a host wait in the middle of a list, and the tags of
/// releases are never moved, so that an image that is there need not be asked for again.
const NOT_JUDGED: [&str; 3] =
    ["--ignore-container-cpu-limit", "--ignore-test", "container-image-pull-policy"];

/// The chart.
pub(super) fn folder() -> PathBuf {
    paths::root().join("deploy/helm/nearfield")
}

/// Checks it.
///
/// # Errors
/// The first rendering in which something is wrong, or in which nothing is, though there should be.
pub(super) fn check() -> Result<()> {
    let helm = HELM.need()?;
    for values in value_files()? {
        Step::new(format!("helm lint, {}", name(&values)), &helm)
            .args(["lint", "--strict", "--kube-version", KUBERNETES])
            .args([&folder()])
            .args([Path::new("--values"), &values])
            .run()?;
        let rendering = render(&values)?;
        validate(&rendering)?;
        judge(&rendering)?;
        check_options(&rendering, &std::fs::read_to_string(&rendering)?)?;
    }
    controls()
}

/// Renders the chart with every file of values, and returns where.
pub(super) fn renderings() -> Result<Vec<PathBuf>> {
    value_files()?.iter().map(|values| render(values)).collect()
}

fn value_files() -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(paths::root().join("deploy/helm/values"))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn render(values: &Path) -> Result<PathBuf> {
    let done = Step::new(format!("helm template, {}", name(values)), HELM.need()?)
        .args(["template", "site", "--namespace", "shop", "--kube-version", KUBERNETES])
        .args([&folder()])
        .args([Path::new("--values"), values])
        .run()?;
    let file = paths::target().join("deploy").join(format!("{}.yaml", name(values)));
    std::fs::create_dir_all(paths::target().join("deploy"))?;
    std::fs::write(&file, done.stdout.join("\n") + "\n")?;
    Ok(file)
}

/// Kubernetes' own schemas, which refuse a field that they do not know.
fn validate(rendering: &Path) -> Result<()> {
    let title = format!("kubernetes-validate, {}", name(rendering));
    Step::new(title, CHECKS.need("kubernetes-validate")?)
        .args(["--strict", "--kubernetes-version", KUBERNETES])
        .args([rendering])
        .run()?;
    Ok(())
}

fn judge(rendering: &Path) -> Result<()> {
    Step::new(format!("kube-score, {}", name(rendering)), KUBE_SCORE.need()?)
        .args(["score", "--output-format", "ci"])
        .args(NOT_JUDGED)
        .args([rendering])
        .run()?;
    Ok(())
}

/// Every option that a file passes in a list of arguments is one of the programs' own.
///
/// # Errors
/// Names the option.
pub(super) fn check_options(file: &Path, text: &str) -> Result<()> {
    let mut known = BTreeSet::new();
    for (program, command) in
        [("nearfield-central", Some("serve")), ("nearfield-central", Some("seed")), ("nearfield-edge", None)]
    {
        let help = Command::new(paths::binary(program)).args(command).arg("--help").output()?;
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        let words = text.split(|character: char| !(character.is_alphanumeric() || character == '-'));
        known.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
    }
    let passed = text.lines().filter_map(|line| {
        let argument = line.trim().strip_prefix("- ")?.trim_matches('"');
        argument.starts_with("--").then(|| argument.split('=').next().unwrap_or(argument))
    });
    for option in passed {
        ensure!(known.contains(option), "{}: no program has the option {option}", paths::short(file));
    }
    Ok(())
}

/// What must be refused, and in which words.
fn controls() -> Result<()> {
    let small = paths::root().join("deploy/helm/values/small.yaml");
    let redis = paths::root().join("deploy/helm/values/redis.yaml");
    let template = |values: &Path, set: &str| -> Result<Command> {
        let mut command = Command::new(HELM.need()?);
        command.args(["template", "site", "--kube-version", KUBERNETES]).arg(folder());
        command.arg("--values").arg(values).args(["--set", set]);
        Ok(command)
    };
    refused("a misspelt value", template(&small, "edge.replcias=1")?, "replcias")?;
    refused("replicas on redb", template(&small, "edge.replicas=2")?, "edge.users.where=redis")?;
    refused(
        "an HPA with min above max",
        template(&redis, "edge.autoscaling.minReplicas=30")?,
        "maxReplicas",
    )?;
    refused("a key that is none", template(&small, "publicKey=abc")?, "publicKey")?;
    refused("streams without a topic", template(&redis, "edge.kafka.consume=true")?, "edge.kafka.topics")?;
    refused("a key that is missing", template(&small, "publicKey=")?, "publicKey is needed")?;

    // As somebody would leave it out who edits the template.
    let rendering = std::fs::read_to_string(render(&redis)?)?;
    let without = paths::target().join("deploy/control.yaml");
    std::fs::write(&without, without_key(&rendering, "readinessProbe:")?)?;
    let mut score = Command::new(KUBE_SCORE.need()?);
    score.args(["score", "--output-format", "ci"]).args(NOT_JUDGED).arg(&without);
    refused("a missing probe", score, "readinessProbe")?;
    std::fs::write(&without, rendering.replace("failureThreshold:", "failureTreshold:"))?;
    let mut validate = Command::new(CHECKS.need("kubernetes-validate")?);
    validate.args(["--strict", "--kubernetes-version", KUBERNETES]).arg(&without);
    refused("a misspelt field", validate, "failureTreshold")?;
    std::fs::remove_file(without)?;
    Ok(())
}

/// Runs what must fail with these words.
fn refused(what: &str, mut command: Command, words: &str) -> Result<()> {
    let spinner = Spinner::start(&format!("refused: {what}"));
    let output = command.stdin(Stdio::null()).output().context("a control cannot be run")?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_refused = !output.status.success() && text.contains(words);
    spinner.end(is_refused);
    if !is_refused {
        bail!("{what} was not refused with {words:?}:\n{text}");
    }
    Ok(())
}

/// Returns a text in YAML without a key and what is indented below it.
fn without_key(text: &str, key: &str) -> Result<String> {
    let mut kept = Vec::new();
    let mut cut = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if cut.is_some_and(|cut| indent > cut) {
            continue;
        }
        cut = (line.trim() == key).then_some(indent);
        if cut.is_none() {
            kept.push(line);
        }
    }
    ensure!(kept.len() < text.lines().count(), "there is no {key} to leave out");
    Ok(kept.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_what_is_below_it() {
        let text = "a:\n  probe:\n    x: 1\n    y:\n      z: 2\n  b: 3\n";
        assert_eq!(without_key(text, "probe:").unwrap(), "a:\n  b: 3\n");
        assert!(without_key(text, "none:").is_err());
    }
}
