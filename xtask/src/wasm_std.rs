//! The compiler that can build for wasm32-unknown-unknown, and its standard library.
//!
//! Attempts, in order:
//! 1. the active toolchain, when its wasm32 standard library is installed;
//! 2. Debian's compiler and standard library source: the library is built once into a sysroot of its own,
//!    keyed by the compiler's version. Works where rustup's servers cannot be reached;
//! 3. `rustup target add`.

use std::{
    ffi::OsString,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    paths,
    step::{Step, first_line},
    tools,
};

/// The target of every module that we ship.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// How cargo is called to build for [`TARGET`].
#[derive(Debug)]
pub(crate) struct WasmToolchain {
    /// The compiler, when it is not the active toolchain's.
    pub(crate) rustc: Option<PathBuf>,
    /// The root that holds the standard library, when it is not the compiler's own.
    pub(crate) sysroot: Option<PathBuf>,
    /// The linker, when the compiler does not bring one.
    pub(crate) linker: Option<PathBuf>,
}

/// The stack of a module: the engine keeps what grows with the model elsewhere, and does not recurse. The compiler's
/// megabyte would be a twentieth of what a page with 100,000 items needs.
const STACK_BYTES: usize = 256 << 10;

impl WasmToolchain {
    /// A cargo step that compiles for [`TARGET`] with this toolchain.
    pub(crate) fn cargo(&self, title: &str, more_flags: &[&str]) -> Step {
        // Only the target's flags name the sysroot: build scripts and macros use the host's own.
        let mut flags = OsString::from("-Ctarget-feature=+simd128 -Clink-arg=-zstack-size=");
        flags.push(STACK_BYTES.to_string());
        if let Some(sysroot) = &self.sysroot {
            flags.push(" --sysroot=");
            flags.push(sysroot);
        }
        for flag in more_flags {
            flags.push(" ");
            flags.push(flag);
        }
        let mut step = Step::cargo(title)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", paths::target_wasm());
        if let Some(rustc) = &self.rustc {
            step = step.env("RUSTC", rustc).env_remove("RUSTC_WRAPPER");
        }
        if let Some(linker) = &self.linker {
            step = step.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        step
    }
}

/// What is here now, without installing anything.
pub(crate) fn present() -> Option<&'static str> {
    if has_std(Path::new("rustc")) {
        Some("the active toolchain's wasm32 standard library")
    } else if debian_source().is_some() {
        Some("Debian's compiler and standard library source")
    } else {
        None
    }
}

/// A toolchain for [`TARGET`], installed and built as far as needed.
///
/// # Errors
/// When no attempt succeeds; the message names the command that would help.
pub(crate) fn toolchain() -> Result<WasmToolchain> {
    if has_std(Path::new("rustc")) {
        return Ok(WasmToolchain { rustc: None, sysroot: None, linker: None });
    }
    if debian_source().is_none() && tools::can_apt() {
        eprintln!("the wasm32 standard library is missing; installing {}", DEBIAN_PACKAGES.join(" and "));
        if !tools::apt_offers(&DEBIAN_PACKAGES) {
            Step::new("apt-get update", "apt-get").args(["update", "-q"]).try_run()?;
        }
        if tools::apt_offers(&DEBIAN_PACKAGES) {
            tools::apt_install(&DEBIAN_PACKAGES)?;
        }
    }
    if let Some(source) = debian_source() {
        return from_debian(&source);
    }
    if tools::find("rustup").is_some() {
        Step::new(format!("rustup target add {TARGET}"), "rustup").args(["target", "add", TARGET]).run()?;
        if has_std(Path::new("rustc")) {
            return Ok(WasmToolchain { rustc: None, sysroot: None, linker: None });
        }
    }
    bail!(
        "no standard library for {TARGET}: run `rustup target add {TARGET}`, or as root `apt-get install {}`",
        DEBIAN_PACKAGES.join(" ")
    )
}

/// Whether the compiler's own sysroot has the standard library of [`TARGET`].
fn has_std(rustc: &Path) -> bool {
    first_line(rustc, &["--print", "target-libdir", "--target", TARGET])
        .is_some_and(|directory| std_in(Path::new(&directory)))
}

/// Whether a folder of rlibs holds a standard library.
fn std_in(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// Debian's compiler with the source of its standard library, both of the version that we need.
fn debian_source() -> Option<PathBuf> {
    let source = PathBuf::from(DEBIAN_SOURCE);
    let version = first_line(DEBIAN_RUSTC, &["--version"])?;
    let minor: u32 = version.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()?;
    let needed: u32 = env!("CARGO_PKG_RUST_VERSION").split('.').nth(1)?.parse().ok()?;
    (minor >= needed && source.join("std/Cargo.toml").is_file()).then_some(source)
}

fn from_debian(source: &Path) -> Result<WasmToolchain> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let linker = find_linker()?;
    if has_std(&rustc) {
        return Ok(WasmToolchain { rustc: Some(rustc), sysroot: None, linker: Some(linker) });
    }
    let sysroot = build_std(&rustc, source, &linker)?;
    Ok(WasmToolchain { rustc: Some(rustc), sysroot: Some(sysroot), linker: Some(linker) })
}

/// A linker for wasm: rustup's `rust-lld`, or LLVM's `wasm-ld`.
fn find_linker() -> Result<PathBuf> {
    let in_toolchain = || {
        let sysroot = PathBuf::from(first_line("rustc", &["--print", "sysroot"])?);
        Some(sysroot.join("lib/rustlib").join(host()?).join("bin/rust-lld")).filter(|file| file.is_file())
    };
    tools::find_or_install(|| in_toolchain().or_else(|| tools::find("wasm-ld")), &["lld"])?
        .context("no linker for wasm: run `apt-get install lld` as root")
}

fn host() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// Builds the standard library from source, once for each compiler.
fn build_std(rustc: &Path, source: &Path, linker: &Path) -> Result<PathBuf> {
    let version = Command::new(rustc).arg("-vV").output().context("cannot run Debian's rustc")?.stdout;
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    source.hash(&mut hasher);
    let sysroot = paths::target().join(format!("wasm-std/{:016x}", hasher.finish()));
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    if std_in(&libraries) {
        return Ok(sysroot);
    }

    // An empty crate whose build drags the standard library through cargo's build-std.
    let scratch = paths::target().join("wasm-std/scratch");
    std::fs::create_dir_all(scratch.join("src"))?;
    std::fs::write(
        scratch.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[profile.release]\npanic = \"abort\"\n[workspace]\n",
    )?;
    std::fs::write(scratch.join("src/lib.rs"), "#![no_std]\n")?;
    let built = scratch.join("target");
    // The files' names carry a hash of the compiler, so an older compiler's would be copied along.
    if built.exists() {
        std::fs::remove_dir_all(&built)?;
    }
    Step::cargo(format!("standard library for {TARGET}, once for this compiler"))
        .args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort"])
        .directory(&scratch)
        .env("RUSTC", rustc)
        .env_remove("RUSTC_WRAPPER")
        // build-std is not stable; nothing else is built with this switch.
        .env("RUSTC_BOOTSTRAP", "1")
        // Without bitcode in the rlibs, link-time optimisation across the library fails.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes -Ctarget-feature=+simd128")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
        .env("CARGO_TARGET_DIR", &built)
        .run()?;

    // Copied aside and renamed, so that an interrupted copy never passes for a sysroot.
    let partial = sysroot.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    let destination = partial.join("lib/rustlib").join(TARGET).join("lib");
    std::fs::create_dir_all(&destination)?;
    for entry in std::fs::read_dir(built.join(TARGET).join("release/deps"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty-") {
            std::fs::copy(&path, destination.join(name))?;
        }
    }
    if sysroot.exists() {
        std::fs::remove_dir_all(&sysroot)?;
    }
    std::fs::rename(&partial, &sysroot)?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(sysroot)
}
