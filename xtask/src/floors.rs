//! The engine's floors: a part may use those below it, never one above. `cargo xtask ci` checks it.
//!
//! The check reads `crate::…` and `super::…` in the code outside comments and test modules.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

/// The floors of `engine/src`, lowest first. `lib.rs` stands outside: it only names them.
const FLOORS: [&str; 14] = [
    "once", "ids", "encoding", "limits", "session", "error", "event", "features", "sync", "model", "rank",
    "person", "merge", "golden",
];

/// Checks every file of the engine.
///
/// # Errors
/// Names file and line of each arrow that runs up, and each name that is not a floor.
pub(crate) fn check() -> Result<()> {
    let source = paths::root().join("engine/src");
    let mut faults = Vec::new();
    for file in rust_files(&source)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", paths::short(&file)))?;
        let inside = file.strip_prefix(&source)?;
        let found = faults_in(inside, &text);
        faults
            .extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", paths::short(&file))));
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("arrows of the engine run up:\n{}", faults.join("\n"))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", paths::short(folder)))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns line and fault of each use in a file, named by its path inside `engine/src`, that is not of
/// its own floor or one below.
fn faults_in(file: &Path, text: &str) -> Vec<(usize, String)> {
    let module = module_path(file);
    let Some(own) = module.first() else { return Vec::new() };
    let Some(height) = floor(own) else {
        return vec![(1, format!("{own} is not a floor yet: add it to FLOORS in xtask/src/floors.rs"))];
    };
    let code = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let mut faults = Vec::new();
    for (number, line) in code.enumerate() {
        for used in names_at_the_root(line, module.len()) {
            match floor(&used) {
                Some(other) if other <= height => {}
                Some(_) => faults.push((number + 1, format!("{own} must not use {used}, a floor above it"))),
                None => faults.push((number + 1, format!("crate::{used} names no floor of the engine"))),
            }
        }
    }
    faults
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

/// Returns the path of a file's module below the crate; `lib.rs` has none.
fn module_path(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Returns the names that a line of a module, `depth` modules below the crate, takes from the crate's
/// root.
fn names_at_the_root(line: &str, depth: usize) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let up = "super::".repeat(depth);
    let roots = ["crate::", up.as_str()];
    let starts = roots.iter().flat_map(|root| code.match_indices(root).map(|(at, _)| at + root.len()));
    starts.map(|start| name(&code[start..])).filter(|name| name != "super").collect()
}

/// Returns the identifier that a text begins with, or its first character.
fn name(text: &str) -> String {
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    let end = if end == 0 { text.chars().next().map_or(0, char::len_utf8) } else { end };
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{check, faults_in};
    use std::path::Path;

    fn faults(file: &str, text: &str) -> Vec<(usize, String)> {
        faults_in(Path::new(file), text)
    }

    #[test]
    fn the_engine_has_no_arrow_that_runs_up() {
        check().unwrap();
    }

    #[test]
    fn an_arrow_up_is_named_with_its_line() {
        let text =
            "//! crate::person is fine in a comment\nuse crate::ids::Row;\nuse crate::rank::query::Query;\n";
        let up = vec![(3, "model must not use rank, a floor above it".to_owned())];
        assert_eq!(faults("model/hyper.rs", text), up);
        assert_eq!(faults("model/mod.rs", text), up);
        assert_eq!(faults("person/mod.rs", text), []);
        assert_eq!(faults("merge/window.rs", "fn f() { crate::golden::digest(); }").len(), 1);
    }

    #[test]
    fn ways_around_the_root_are_seen() {
        assert_eq!(faults("model/hyper.rs", "use super::super::rank::query;").len(), 1);
        assert_eq!(faults("rank/scan/blocks.rs", "use super::super::query;"), []);
        assert_eq!(faults("event.rs", "use super::merge::Window;").len(), 1);
        let named = faults("person/mod.rs", "use crate::Model;\nuse crate::{ids, merge};");
        assert_eq!(named.len(), 2, "the root's own names hide the floor: {named:?}");
    }

    #[test]
    fn test_modules_may_use_every_floor_and_a_new_part_needs_a_place() {
        assert_eq!(
            faults("rank/features.rs", "#[cfg(test)]\nmod tests {\n    use crate::merge::Window;\n}\n"),
            []
        );
        assert_eq!(faults("attic/mod.rs", "").len(), 1);
    }
}
