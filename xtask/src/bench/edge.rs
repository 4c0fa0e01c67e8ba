//! `cargo xtask bench --edge`: an edge host under load beside serenade, and, with `--users N`, very many users in redb.
//! `--streams`: events through Kafka into edges.
//!
//! Guest → servers and generator in the release profile → serenade from crates.io, against Debian's RocksDB →
//! `nearfield-load`, which starts them all and measures → a section of `docs/benchmarks.md`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{jars, page, paths, step::Step, tools, wasm};

/// The peer. Its version is what the figures are beside.
const SERENADE: &str = "serenade@=0.3.1";
/// What the peer is built against, from Debian: RocksDB, and the library that reads its headers.
const SERENADE_PACKAGES: [&str; 2] = ["librocksdb-dev", "libclang-dev"];

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Latency over rate, beside a peer
    Edge,
    /// So many users
    Users(u32),
    /// Events through Kafka
    Streams,
}

/// Measures; writes the page unless the run is a quick one or of a part.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn run(what: What, only: Option<&str>, quick: bool) -> Result<()> {
    let built = build()?;
    let (section, title) = match what {
        What::Edge => ("edge", "an edge under load, beside serenade"),
        What::Users(_) => ("users", "many users in redb"),
        What::Streams => ("streams", "events through Kafka"),
    };
    if matches!(what, What::Streams) {
        tools::need_servers()?;
        jars::KAFKA.need()?;
    }
    let (table, picture) = (built.work.join(format!("{section}.md")), built.work.join("benchmarks-edge.svg"));
    let mut step = generator(title, &built, &table).args(["--picture".as_ref(), picture.as_os_str()]);
    if quick {
        step = step.args(["--quick"]);
    }
    step = match what {
        What::Edge => step.args(["edge", "--serenade"]).args([serenade()?]),
        What::Users(users) => step.args(["users", &users.to_string()]),
        What::Streams => step.args(["streams"]),
    };
    if let Some(only) = only {
        step = step.args(["--only", only]);
    }
    step.passed_through().run()?;
    if !quick && only.is_none() {
        page::put(section, &std::fs::read_to_string(&table)?)?;
        if matches!(what, What::Edge) {
            std::fs::copy(&picture, paths::root().join("docs/benchmarks-edge.svg"))?;
        }
    }
    Ok(())
}

/// What the generator needs.
pub(crate) struct Built {
    /// Folder of the programs in the release profile.
    pub(crate) programs: PathBuf,
    /// Folder for what is kept between runs.
    pub(crate) work: PathBuf,
}

/// Builds the guest, and servers and generator in the release profile.
///
/// # Errors
/// When a step fails.
pub(crate) fn build() -> Result<Built> {
    let work = paths::target().join("bench/edge");
    std::fs::create_dir_all(&work).context("cannot make the folder of the benches")?;
    wasm::build()?;
    let packages = ["nearfield-edge", "nearfield-central", "nearfield-trainer", "nearfield-load"];
    Step::cargo("servers and generator")
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .run()?;
    Ok(Built { programs: paths::target().join("release"), work })
}

/// The generator, with what comes before the thing to measure.
pub(crate) fn generator(title: &str, built: &Built, table: &Path) -> Step {
    let Built { programs, work } = built;
    Step::new(title, programs.join(format!("nearfield-load{}", std::env::consts::EXE_SUFFIX)))
        .args(["--programs".as_ref(), programs.as_os_str(), "--guest".as_ref(), paths::guest().as_os_str()])
        .args(["--work".as_ref(), work.as_os_str(), "--table".as_ref(), table.as_os_str()])
}

/// Builds the peer, unless it is there.
fn serenade() -> Result<PathBuf> {
    let root = paths::target().join("bench/serenade");
    let program = root.join(format!("bin/serving{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        Step::cargo("serenade")
            .args(["install", SERENADE, "--locked", "--bin", "serving", "--root"])
            .args([root.as_os_str(), "--target-dir".as_ref(), root.join("build").as_os_str()])
            .env("ROCKSDB_LIB_DIR", rocksdb()?)
            .run()?;
    }
    Ok(program)
}

/// The folder of RocksDB's library, installed by apt where it is missing.
fn rocksdb() -> Result<PathBuf> {
    let find = || -> Option<PathBuf> {
        let mut folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        folders.find(|folder| folder.join("librocksdb.so").is_file())
    };
    tools::find_or_install(find, &SERENADE_PACKAGES)?.with_context(|| {
        format!("serenade needs RocksDB: run `apt-get install {}` as root", SERENADE_PACKAGES.join(" "))
    })
}
