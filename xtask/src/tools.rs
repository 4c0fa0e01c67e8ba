//! The programs that the steps need: where they are, and how they are installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nearfield_services::PROGRAMS;

use crate::{
    paths,
    step::{Step, first_line},
};

/// The path of a program on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Whether Debian packages can be installed here: `apt-get` is there and the user is root.
pub(crate) fn can_apt() -> bool {
    find("apt-get").is_some() && first_line("id", &["-u"]).as_deref() == Some("0")
}

/// Installs Debian packages; the caller has asked [`can_apt`].
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    Step::new("apt-get update", "apt-get").args(["update", "-q"]).run()?;
    Step::new(format!("apt-get install {}", packages.join(" ")), "apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    Ok(())
}

/// What `find` finds; where that is nothing, the Debian packages are installed, if they can be here, and it looks again.
pub(crate) fn find_or_install<T>(find: impl Fn() -> Option<T>, packages: &[&str]) -> Result<Option<T>> {
    match find() {
        None if can_apt() => {
            apt_install(packages)?;
            Ok(find())
        }
        found => Ok(found),
    }
}

/// Whether apt offers every one of the packages.
pub(crate) fn apt_offers(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        first_line("apt-cache", &["show", "--no-all-versions", package]).is_some_and(|line| !line.is_empty())
    })
}

/// Node 20 or newer, with npm.
///
/// # Errors
/// When either is missing or Node is older; the message names what to install.
pub(crate) fn need_node() -> Result<()> {
    let Some(version) = first_line("node", &["--version"]) else {
        bail!("node is missing: install Node.js 20 or newer, with npm");
    };
    let major: u32 =
        version.trim_start_matches('v').split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0);
    if major < 20 {
        bail!("node {version} is too old: install Node.js 20 or newer, with npm");
    }
    if find("npm").is_none() {
        bail!("npm is missing: install npm, it comes with Node.js");
    }
    Ok(())
}

/// A browser that the checks can drive.
pub(crate) struct Browser {
    /// What it is, in the message that it is missing.
    what: &'static str,
    /// The variable that names one.
    variable: &'static str,
    /// Its names on `PATH`, Debian's package first.
    programs: &'static [&'static str],
}

/// A Chromium or Chrome.
pub(crate) const CHROMIUM: Browser = Browser {
    what: "a Chromium or Chrome",
    variable: "NEARFIELD_CHROMIUM",
    programs: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
};

/// A Firefox.
pub(crate) const FIREFOX: Browser =
    Browser { what: "a Firefox", variable: "NEARFIELD_FIREFOX", programs: &["firefox-esr", "firefox"] };

impl Browser {
    /// The one that its variable names, or one on `PATH`.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        std::env::var_os(self.variable)
            .map(PathBuf::from)
            .or_else(|| self.programs.iter().copied().find_map(find))
    }

    /// The browser, installed by apt when it is missing.
    ///
    /// # Errors
    /// When there is none and it cannot be installed here; the message names the command that would.
    pub(crate) fn need(&self) -> Result<PathBuf> {
        let Self { what, variable, programs } = self;
        find_or_install(|| self.find(), &programs[..1])?.with_context(|| {
            format!(
                "no browser for the tests: run `apt-get install {}` as root, or set {variable} to {what}",
                programs[0]
            )
        })
    }
}

/// The servers of the tests, installed by apt when one is missing.
///
/// # Errors
/// When one is missing and cannot be installed here; the message names the command that would.
pub(crate) fn need_servers() -> Result<()> {
    let missing = || -> Vec<&str> {
        let absent = PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
        absent.map(|(_, package)| *package).collect()
    };
    if !missing().is_empty() && can_apt() {
        apt_install(&missing())?;
    }
    match missing() {
        missing if missing.is_empty() => Ok(()),
        missing => {
            bail!("servers for the tests are missing: run `apt-get install {}` as root", missing.join(" "))
        }
    }
}

/// Runs `npm ci` in `directory` unless it was run for this very lock file.
pub(crate) fn npm_ci(directory: &Path) -> Result<()> {
    install(directory, ".installed-lock.json", &[])
}

/// Runs `npm ci` without the optional dependencies, unless it was run for this very lock file, with or without them.
pub(crate) fn npm_ci_without_optional(directory: &Path) -> Result<()> {
    if is_installed(directory, ".installed-lock.json") {
        return Ok(());
    }
    install(directory, ".installed-required-lock.json", &["--omit=optional"])
}

/// Whether `npm ci` left this mark for this very lock file.
fn is_installed(directory: &Path, mark: &str) -> bool {
    let lock = std::fs::read(directory.join("package-lock.json")).unwrap_or_default();
    let mark = directory.join("node_modules").join(mark);
    std::fs::read(mark).is_ok_and(|installed| installed == lock) && !lock.is_empty()
}

fn install(directory: &Path, mark: &str, flags: &[&str]) -> Result<()> {
    need_node()?;
    if is_installed(directory, mark) {
        return Ok(());
    }
    let verb = if directory.join("package-lock.json").is_file() { "ci" } else { "install" };
    Step::new(format!("npm {verb} in {}", paths::short(directory)), "npm")
        .args([verb, "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved"])
        .args(flags)
        .directory(directory)
        .run()?;
    std::fs::write(
        directory.join("node_modules").join(mark),
        std::fs::read(directory.join("package-lock.json"))?,
    )?;
    Ok(())
}
