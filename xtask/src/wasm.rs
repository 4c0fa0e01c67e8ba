//! `cargo xtask wasm`: the npm package and the guest module.
//!
//! nearfield-wasm → wasm-bindgen → wasm-opt → `wasm-pkg/pkg` → TypeScript → `wasm-pkg/dist`, and
//! nearfield-guest → wasm-opt → `target/nearfield/nearfield_guest.wasm`. The golden digest is in a test build
//! of the package's module alone.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    module_size, paths,
    step::{Spinner, Step},
    tools,
    wasm_std::{self, TARGET, WasmToolchain},
};

/// The profile of a module that a page downloads.
const PAGE: &str = "wasm";
/// The profile of a module that an edge host runs.
const EDGE: &str = "guest";
/// How a module for an edge host is compiled beyond that: loops are unrolled, since wasmtime looks at its clock once in
/// each turn of one. A page's module would grow by it.
const EDGE_FLAGS: [&str; 1] = ["-Cllvm-args=-unroll-partial-threshold=150"];

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
    /// Where the bytes of the package's module go.
    parts: Vec<module_size::Part>,
}

impl Built {
    /// Prints where the bytes of the package's module go, and what module, script and guest weigh.
    ///
    /// # Errors
    /// When the module or the script is heavier than it may be.
    pub(crate) fn check_size(&self) -> Result<()> {
        module_size::print(&self.parts);
        module_size::print_size(&self.guest)?;
        module_size::check(&self.package, &paths::package_dist().join("index.js"))
    }
}

/// Builds both modules and the package around the first.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build() -> Result<Built> {
    tools::need_node()?;
    let toolchain = wasm_std::toolchain()?;
    let package_module = compile(&toolchain, "nearfield-wasm", PAGE, &[])?;
    let guest = build_guest()?;
    let parts = bind(&package_module, &paths::package().join("pkg"))?;

    let package = paths::package();
    tools::npm_ci(&package)?;
    Step::new("npm package nearfield", "npm").args(["run", "build"]).directory(&package).run()?;
    let shipped = paths::package_dist().join("nearfield_bg.wasm");
    if !shipped.is_file() {
        return Err(anyhow!("the build of the npm package left no {}", paths::short(&shipped)));
    }
    Ok(Built { package: shipped, guest, parts })
}

/// Builds the guest module alone.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build_guest() -> Result<PathBuf> {
    tools::need_node()?;
    let compiled = compile(&wasm_std::toolchain()?, "nearfield-guest", EDGE, &[])?;
    tools::npm_ci(&paths::browser())?;
    let guest = paths::guest();
    std::fs::create_dir_all(guest.parent().context("the guest has no folder")?)?;
    optimise(&compiled, &guest)?;
    Ok(guest)
}

/// Builds the package's module with the golden digest in it, and returns the folder of it and its binding.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build_golden() -> Result<PathBuf> {
    tools::need_node()?;
    let module = compile(&wasm_std::toolchain()?, "nearfield-wasm", PAGE, &["--features", "golden"])?;
    tools::npm_ci(&paths::browser())?;
    let folder = paths::target().join("nearfield/golden");
    bind(&module, &folder)?;
    Ok(folder)
}

/// Builds the module whose work `cargo xtask bench` times, as a page has it and as an edge host has it.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn build_bench_modules() -> Result<[PathBuf; 2]> {
    tools::need_node()?;
    let toolchain = wasm_std::toolchain()?;
    tools::npm_ci(&paths::browser())?;
    let build = |profile: &str| -> Result<PathBuf> {
        let compiled = compile(&toolchain, "nearfield-bench-module", profile, &[])?;
        let module = paths::target().join(format!("bench/nearfield_bench_{profile}.wasm"));
        optimise(&compiled, &module)?;
        Ok(module)
    };
    Ok([build(PAGE)?, build(EDGE)?])
}

/// Compiles a crate for wasm32, and returns its module.
fn compile(toolchain: &WasmToolchain, name: &str, profile: &str, more: &[&str]) -> Result<PathBuf> {
    let flags: &[&str] = if profile == EDGE { &EDGE_FLAGS } else { &[] };
    toolchain
        .cargo(&format!("{name} for wasm32, profile {profile}"), flags)
        .args(["build", "--profile", profile, "--target", TARGET, "-p", name])
        .args(more)
        .run()?;
    Ok(paths::target_wasm().join(TARGET).join(profile).join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Writes the JavaScript binding of a module, and the optimised module that goes with it, into a folder;
/// returns where the module's bytes go.
fn bind(module: &Path, folder: &Path) -> Result<Vec<module_size::Part>> {
    let spinner = Spinner::start("wasm-bindgen");
    let generated = generate(module, folder);
    spinner.end(generated.is_ok());
    generated.with_context(|| format!("wasm-bindgen cannot bind {}", paths::short(module)))?;
    let bound = folder.join("nearfield_bg.wasm");
    optimise(&bound, &bound)
}

fn generate(module: &Path, directory: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(module)
        .out_name("nearfield")
        .web(true)?
        .typescript(true)
        .remove_producers_section(true)
        // After a trap the package begins again with a fresh instance.
        .reset_state_function(true)
        .generate(directory)
}

/// Runs binaryen's `wasm-opt`, unless it did so for this very module before; returns where the bytes go.
fn optimise(input: &Path, output: &Path) -> Result<Vec<module_size::Part>> {
    // By its place, since the builds of one crate have one name.
    let name = paths::short(output).replace(std::path::MAIN_SEPARATOR, "-");
    let module = std::fs::read(input).with_context(|| format!("cannot read {}", paths::short(input)))?;
    let mut hasher = DefaultHasher::new();
    (&module, LEVEL, FEATURES).hash(&mut hasher);
    let kept = paths::target_wasm().join("optimised").join(format!("{name}-{:016x}", hasher.finish()));
    if !kept.is_file() {
        run_wasm_opt(&name, input, &kept)?;
    }
    let named = std::fs::read(&kept).with_context(|| format!("cannot read {}", paths::short(&kept)))?;
    let bare = module_size::stripped(&named).context("wasm-opt left no module")?;
    std::fs::write(output, bare).with_context(|| format!("cannot write {}", paths::short(output)))?;
    module_size::parts(&named)
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
        // With names, which the table of sizes needs and the shipped module does not have.
        .args([LEVEL, "--debuginfo"])
        .args(FEATURES)
        .args([input.as_os_str(), "-o".as_ref(), partial.as_os_str()])
        .run()?;
    std::fs::rename(&partial, output)?;
    Ok(())
}
