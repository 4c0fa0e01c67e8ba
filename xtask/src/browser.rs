//! The Node scripts of `xtask/browser`: the golden digest in Node and Chromium, and the torture of the npm
//! package. The visit of the demo is the demo's own.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{paths, step::Step, tools, wasm};

/// A JavaScript host of the npm package.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Node.js
    Node,
    /// Chromium, headless
    Chromium,
}

impl Runtime {
    /// All of them, in the order in which they are asked.
    pub(crate) const ALL: [Self; 2] = [Self::Node, Self::Chromium];

    /// Whether it is a browser.
    pub(crate) fn needs_browser(self) -> bool {
        self == Self::Chromium
    }

    /// Its name, as the script takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Chromium => "chromium",
        }
    }
}

/// Compares the golden digest of a test build of the package's module with the engine's own, in one runtime or in
/// all.
///
/// # Errors
/// When a digest differs, or a runtime is missing.
pub(crate) fn golden(only: Option<Runtime>) -> Result<()> {
    let package = wasm::build_golden()?;
    for runtime in Runtime::ALL.into_iter().filter(|runtime| only.is_none_or(|only| only == *runtime)) {
        golden_in(runtime, &package)?;
    }
    Ok(())
}

/// Compares the golden digest in one runtime; `package` is what `wasm::build_golden` gave.
pub(crate) fn golden_in(runtime: Runtime, package: &Path) -> Result<()> {
    let file = paths::golden_digest();
    let expected =
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", paths::short(&file)))?;
    let mut step = Step::new(format!("golden digest in {}", runtime.name()), "node")
        .args([paths::browser().join("golden.mjs")])
        .args([runtime.name(), expected.trim()])
        .env("NEARFIELD_PACKAGE", package);
    if runtime.needs_browser() {
        tools::npm_ci(&paths::browser())?;
        step = step.env("NEARFIELD_CHROMIUM", tools::CHROMIUM.need()?);
    }
    step.passed_through().run()?;
    Ok(())
}

/// Tortures the built npm package in Chromium: the browser is killed `kills` times, and the other scenarios
/// run in proportion, or `only` one of them.
///
/// # Errors
/// When something was lost, counted twice or came back, or the browser is missing.
pub(crate) fn torture(kills: u32, only: Option<&str>) -> Result<()> {
    need_package()?;
    tools::npm_ci(&paths::browser())?;
    tools::npm_ci(&paths::package())?;
    Step::new("torture of the npm package in Chromium", "node")
        .args([paths::browser().join("torture.mjs")])
        .args([kills.to_string()])
        .args(only)
        .env("NEARFIELD_PACKAGE", paths::package_dist())
        .env("NEARFIELD_CHROMIUM", tools::CHROMIUM.need()?)
        .passed_through()
        .run()?;
    Ok(())
}

fn need_package() -> Result<()> {
    if !paths::package_dist().join("index.js").is_file() {
        bail!("the npm package is not built: run `cargo xtask wasm`");
    }
    Ok(())
}
