//! The docs as a book: built by mdBook, no link of it broken, and every command of its start page run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{paths, step::Step};

/// The version that builds the book.
const MDBOOK: &str = "0.5.2";

/// Builds the book and checks its links.
///
/// # Errors
/// When it does not build, or a link leads nowhere.
pub(super) fn book() -> Result<()> {
    let root = paths::target().join("tools");
    let program = root.join("bin/mdbook");
    let mark = root.join("mdbook.version");
    if !(program.is_file() && std::fs::read_to_string(&mark).is_ok_and(|built| built == MDBOOK)) {
        Step::cargo("mdBook from source")
            .args(["install", "mdbook", "--version", MDBOOK, "--locked", "--force"])
            .args(["--no-default-features", "--features", "search", "--root"])
            .args([&root])
            .args([Path::new("--target-dir"), &root.join("build")])
            .run()?;
        std::fs::remove_dir_all(root.join("build"))?;
        std::fs::write(&mark, MDBOOK)?;
    }
    let book = paths::target().join("book");
    Step::new("the book", program)
        .args(["build", "--dest-dir"])
        .args([&book, &paths::root().join("docs")])
        .run()?;
    let broken = broken_links(&book)?;
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// Runs the commands of the start page, one after the other, in one shell.
///
/// # Errors
/// When one fails.
pub(super) fn start_page() -> Result<()> {
    let page = std::fs::read_to_string(paths::root().join("docs/start.md"))?;
    let folder = paths::root().join(".demo/start");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    // The servers end with the shell, also where a command before their end fails.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}", commands(&page));
    let done =
        Step::new("the commands of docs/start.md", "bash").args(["-euo", "pipefail", "-c", &script]).run()?;
    let text = done.stdout.join("\n");
    for answer in
        ["\"rung\":\"live\"", "\"applied\":1", "nearfield_edge_lists_total{", "nearfield_model_version "]
    {
        ensure!(text.contains(answer), "the commands of docs/start.md do not print {answer}:\n{text}");
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Returns what stands in a page's blocks of shell commands.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default()).collect()
}

/// Returns the links of built pages that lead to no page, or to no place in it.
fn broken_links(book: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    collect(book, &mut pages)?;
    let places: BTreeMap<&PathBuf, BTreeSet<&str>> =
        pages.iter().map(|(path, text)| (path, attributes(text, "id").collect())).collect();
    let mut broken = Vec::new();
    for (path, text) in &pages {
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            if link.contains(':') || link.starts_with("//") || link.is_empty() {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                normal(&path.parent().unwrap_or(book).join(file.split('?').next().unwrap_or(file)))
            };
            let is_there = to.exists() && to.starts_with(book);
            let has_place = place.is_empty() || places.get(&to).is_none_or(|places| places.contains(place));
            if !(is_there && has_place) {
                let page = path.strip_prefix(book).unwrap_or(path);
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    broken.sort();
    broken.dedup();
    Ok(broken)
}

fn collect(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // The page for addresses that are none, and the one to print, hold all links from elsewhere.
        let is_page = path.extension().is_some_and(|extension| extension == "html")
            && !["404.html", "print.html"].iter().any(|name| path.ends_with(name));
        if path.is_dir() {
            collect(&path, pages)?;
        } else if is_page {
            let text = std::fs::read_to_string(&path).with_context(|| paths::short(&path))?;
            pages.insert(path, text);
        }
    }
    Ok(())
}

/// Returns the values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!(" {name}=\"");
    let mut rest = html;
    std::iter::from_fn(move || {
        let at = rest.find(&start)? + start.len();
        let value = rest[at..].split('"').next()?;
        rest = &rest[at + value.len()..];
        Some(value)
    })
}

/// Returns a path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_page_are_its_blocks_of_shell() {
        let page = "a\n```sh\none\n```\n```text\nno\n```\n```sh\ntwo\n```\n";
        assert_eq!(commands(page), "one\ntwo\n");
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let book = std::env::temp_dir().join(format!("nearfield-links-{}", std::process::id()));
        std::fs::create_dir_all(book.join("in")).unwrap();
        std::fs::write(
            book.join("a.html"),
            "<a href=\"in/b.html#x\"> <a href=\"in/b.html#none\"> <a href=\"https://c\">",
        )
        .unwrap();
        std::fs::write(
            book.join("in/b.html"),
            "<h1 id=\"x\"> <a href=\"../a.html\"> <img src=\"c.svg\"> <a href=\"../../etc\">",
        )
        .unwrap();
        let broken = broken_links(&book).unwrap();
        std::fs::remove_dir_all(&book).unwrap();
        assert_eq!(broken, ["a.html: in/b.html#none", "in/b.html: ../../etc", "in/b.html: c.svg"]);
    }
}
