//! Which crates a change touches: those whose files differ, and those that depend on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths;

/// Returns the crates that differ from the last commit, or where nothing does those that the last commit
/// changed, with all crates of the workspace that depend on them.
///
/// # Errors
/// When git or cargo does not answer.
pub(crate) fn crates() -> Result<BTreeSet<String>> {
    let mut files = lines("git", &["status", "--porcelain", "--no-renames", "--untracked-files=all"])?
        .into_iter()
        .filter_map(|line| line.get(3..).map(str::to_owned))
        .collect::<Vec<_>>();
    if files.is_empty() {
        files = lines("git", &["show", "--no-renames", "--name-only", "--format=", "HEAD"])?;
    }
    let metadata = lines("cargo", &["metadata", "--no-deps", "--format-version", "1"])?.concat();
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    Ok(touched(&files, &workspace(&metadata, &paths::root())?))
}

/// A crate of the workspace: its folder from the root, and the names that it depends on.
struct Member {
    folder: PathBuf,
    uses: BTreeSet<String>,
}

fn workspace(metadata: &Value, root: &Path) -> Result<BTreeMap<String, Member>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut members = BTreeMap::new();
    for package in packages {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
        let uses = package["dependencies"].as_array().into_iter().flatten().map(|used| text(&used["name"]));
        members.insert(
            text(&package["name"]),
            Member { folder: folder.unwrap_or(Path::new("")).to_owned(), uses: uses.collect() },
        );
    }
    Ok(members)
}

/// Returns the members that the files, named from the root, belong to, and those that depend on them. The
/// manifest and lock file of the workspace belong to all.
fn touched(files: &[String], members: &BTreeMap<String, Member>) -> BTreeSet<String> {
    if files.iter().any(|file| ["Cargo.toml", "Cargo.lock", "clippy.toml"].contains(&file.as_str())) {
        return members.keys().cloned().collect();
    }
    let owner = |file: &String| {
        let inside = members.iter().filter(|(_, member)| Path::new(file).starts_with(&member.folder));
        inside.max_by_key(|(_, member)| member.folder.components().count()).map(|(name, _)| name.clone())
    };
    let mut touched: BTreeSet<String> = files.iter().filter_map(owner).collect();
    loop {
        let depends = |(name, member): (&String, &Member)| {
            (!touched.contains(name) && !member.uses.is_disjoint(&touched)).then(|| name.clone())
        };
        let more: Vec<String> = members.iter().filter_map(depends).collect();
        if more.is_empty() {
            return touched;
        }
        touched.extend(more);
    }
}

fn lines(program: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(paths::root())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{Member, touched};
    use std::collections::BTreeMap;

    fn names(files: &[&str]) -> Vec<String> {
        let member = |folder: &str, uses: &[&str]| Member {
            folder: folder.into(),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
        };
        let members = BTreeMap::from([
            ("engine".to_owned(), member("engine", &["serde"])),
            ("edge".to_owned(), member("edge-host", &["engine"])),
            ("guest".to_owned(), member("edge-host/guest", &["engine"])),
            ("shop".to_owned(), member("www/shop", &["serde"])),
        ]);
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        touched(&files, &members).into_iter().collect()
    }

    #[test]
    fn a_file_touches_its_innermost_crate_and_all_that_depend_on_it() {
        assert_eq!(names(&["engine/src/ids.rs"]), ["edge", "engine", "guest"]);
        assert_eq!(names(&["edge-host/guest/src/lib.rs"]), ["guest"]);
        assert_eq!(names(&["www/shop/src/main.rs", "README.md"]), ["shop"]);
        assert_eq!(names(&["README.md"]), Vec::<String>::new());
        assert_eq!(names(&["Cargo.lock"]).len(), 4, "every crate is built from it");
    }
}
