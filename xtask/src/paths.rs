//! Where things lie in the repository.

use std::path::{Path, PathBuf};

/// The repository's root, from the place of this crate when it was compiled.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Cargo's target directory, `CARGO_TARGET_DIR` included.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// A binary of the workspace in the profile that tests and demo share.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Target directory of the wasm builds, apart because another compiler may fill it.
pub(crate) fn target_wasm() -> PathBuf {
    target().join("wasm")
}

/// The guest module that the edge host loads by default.
pub(crate) fn guest() -> PathBuf {
    root().join("target/nearfield/nearfield_guest.wasm")
}

/// The crate and npm package `nearfield`.
pub(crate) fn package() -> PathBuf {
    root().join("wasm-pkg")
}

/// What the npm package publishes.
pub(crate) fn package_dist() -> PathBuf {
    package().join("dist")
}

/// The Node scripts that xtask runs.
pub(crate) fn browser() -> PathBuf {
    root().join("xtask/browser")
}

/// State of the demo: data, stores, logs, screenshots.
pub(crate) fn demo() -> PathBuf {
    root().join(".demo")
}

/// The digest that the golden run must give everywhere.
pub(crate) fn golden_digest() -> PathBuf {
    root().join("tests/golden/digest.txt")
}

/// The path from the root, for messages.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
