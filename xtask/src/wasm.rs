//! `cargo xtask wasm`: the npm package and the guest module.
//!
//! nearfield-wasm → wasm-bindgen → wasm-opt → `wasm-pkg/pkg` → TypeScript → `wasm-pkg/dist`, and
//! nearfield-guest → wasm-opt → `target/nearfield/nearfield_guest.wasm`.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use flate2::{Compression, write::GzEncoder};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    paths,
    step::{Spinner, Step},
    tools,
    wasm_std::{self, TARGET},
};

/// How hard binaryen tries: speed before size.
const LEVEL: &str = "-O3";

/// The features that our modules may use; all are in every current browser and in wasmtime.
const FEATURES: [&str; 7] = [
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// The artefacts of one build.
pub(crate) struct Built {
    /// The module that the npm package carries.
    pub(crate) package: PathBuf,
    /// The module that the edge host carries.
    pub(crate) guest: PathBuf,
}

impl Built {
    /// Prints each module's size, as it is and compressed as a server would send it.
    pub(crate) fn print(&self) {
        for file in [&self.package, &self.guest] {
            match sizes(file) {
                Ok((raw, gzip)) => println!("{}: {raw} bytes, {gzip} with gzip", paths::short(file)),
                Err(error) => println!("{}: {error:#}", paths::short(file)),
            }
        }
    }
}

/// Builds both modules and the package around the first.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build() -> Result<Built> {
    tools::need_node()?;
    let toolchain = wasm_std::toolchain()?;
    toolchain
        .cargo("nearfield-wasm and nearfield-guest for wasm32")
        .args([
            "build",
            "--profile",
            "wasm",
            "--target",
            TARGET,
            "-p",
            "nearfield-wasm",
            "-p",
            "nearfield-guest",
        ])
        .run()?;
    let modules = paths::target_wasm().join(TARGET).join("wasm");

    let bound = bind(&modules.join("nearfield_wasm.wasm"))?;
    tools::npm_ci(&paths::browser())?;
    optimise(&bound, &bound)?;
    let guest = paths::guest();
    std::fs::create_dir_all(guest.parent().context("the guest has no folder")?)?;
    optimise(&modules.join("nearfield_guest.wasm"), &guest)?;

    let package = paths::package();
    tools::npm_ci(&package)?;
    Step::new("npm package nearfield", "npm").args(["run", "build"]).directory(&package).run()?;
    let shipped = paths::package_dist().join("nearfield_bg.wasm");
    if !shipped.is_file() {
        return Err(anyhow!("the build of the npm package left no {}", paths::short(&shipped)));
    }
    Ok(Built { package: shipped, guest })
}

/// Builds the module whose work `cargo xtask bench` times.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build_bench_module() -> Result<PathBuf> {
    tools::need_node()?;
    wasm_std::toolchain()?
        .cargo("nearfield-bench-module for wasm32")
        .args(["build", "--profile", "wasm", "--target", TARGET, "-p", "nearfield-bench-module"])
        .run()?;
    tools::npm_ci(&paths::browser())?;
    let module = paths::target().join("bench/nearfield_bench.wasm");
    optimise(&paths::target_wasm().join(TARGET).join("wasm/nearfield_bench_module.wasm"), &module)?;
    Ok(module)
}

/// Writes the JavaScript binding of a module, and the module that goes with it, into `wasm-pkg/pkg`.
fn bind(module: &Path) -> Result<PathBuf> {
    let spinner = Spinner::start("wasm-bindgen");
    let directory = paths::package().join("pkg");
    let generated = generate(module, &directory);
    spinner.end(generated.is_ok());
    generated.with_context(|| format!("wasm-bindgen cannot bind {}", paths::short(module)))?;
    Ok(directory.join("nearfield_bg.wasm"))
}

fn generate(module: &Path, directory: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(module)
        .out_name("nearfield")
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        // After a trap the package begins again with a fresh instance.
        .reset_state_function(true)
        .generate(directory)
}

/// Runs binaryen's `wasm-opt` for speed, unless it did so for this very module before.
fn optimise(input: &Path, output: &Path) -> Result<()> {
    let name = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let module = std::fs::read(input).with_context(|| format!("cannot read {}", paths::short(input)))?;
    let mut hasher = DefaultHasher::new();
    (&module, LEVEL, FEATURES).hash(&mut hasher);
    let kept = paths::target_wasm().join("optimised").join(format!("{name}-{:016x}", hasher.finish()));
    if !kept.is_file() {
        run_wasm_opt(&name, input, &kept)?;
    }
    std::fs::copy(&kept, output).with_context(|| format!("cannot write {}", paths::short(output)))?;
    Ok(())
}

/// Writes the optimised module to `output`, and forgets what earlier builds of it left there.
fn run_wasm_opt(name: &str, input: &Path, output: &Path) -> Result<()> {
    let folder = output.parent().context("the module has no folder")?;
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            std::fs::remove_file(entry.path())?;
        }
    }
    // Written aside first, so that an interrupted run leaves nothing that looks finished.
    let partial = folder.join("partial.wasm");
    Step::new(format!("wasm-opt {name}"), "node")
        .args([paths::browser().join("node_modules/binaryen/bin/wasm-opt")])
        .args([LEVEL, "--strip-producers"])
        .args(FEATURES)
        .args([input.as_os_str(), "-o".as_ref(), partial.as_os_str()])
        .run()?;
    std::fs::rename(&partial, output)?;
    Ok(())
}

fn sizes(file: &Path) -> Result<(usize, usize)> {
    let bytes = std::fs::read(file)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes)?;
    Ok((bytes.len(), encoder.finish()?.len()))
}
