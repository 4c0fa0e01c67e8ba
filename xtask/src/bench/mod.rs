//! `cargo xtask bench`: the engine on every host beside its peers; `--edge`: see [`edge`].
//!
//! Module for wasm32 → wasm-opt → packages of the peers (npm, PyPI) → `nearfield-bench`, which times,
//! checks and writes the page.

pub(crate) mod edge;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{page, paths, step::Step, tools, wasm};

/// What is ranked, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Train on these events (.csv or .csv.gz) and rank their catalogue beside the generated ones
    #[arg(long)]
    events: Option<PathBuf>,
    /// Sweep over these pairs of people and items beside implicit (.csv or .csv.gz)
    #[arg(long, requires = "left_out")]
    pairs: Option<PathBuf>,
    /// The item left out of each person's pairs, and those that it is ranked among
    #[arg(long, requires = "pairs")]
    left_out: Option<PathBuf>,
    /// Put an edge host under load instead, beside serenade
    #[arg(long, conflicts_with_all = ["events", "pairs", "before", "json"])]
    edge: bool,
    /// Send events through a Kafka into edges instead, beside a reader that only decodes
    #[arg(long, conflicts_with_all = ["edge", "events", "pairs", "before", "json", "only"])]
    streams: bool,
    /// Fill a store of the edge with so many users, and load those
    #[arg(long, value_name = "N", requires = "edge", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    users: Option<u32>,
    /// Only the case of this name: real, gaussian, shop, million, or load: a page that comes to its first list. With
    /// --edge, words of a line of the table, such as "observe gRPC"
    #[arg(long)]
    only: Option<String>,
    /// Fewer rounds and smaller cases; the page is left as it is
    #[arg(long)]
    quick: bool,
    /// Load a page with another build of the package too: a folder, named after its revision, with its `dist` and
    /// with `model`, which that revision's own `fixture large` made
    #[arg(long, value_name = "DIR")]
    before: Option<PathBuf>,
    /// Write every median as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Items of the catalogue that a page loads.
const LOADED_ITEMS: u32 = 100_000;

/// A page loads; then builds module, peers and driver, and starts the driver.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.edge || options.streams {
        let what = match options.users {
            _ if options.streams => edge::What::Streams,
            Some(users) => edge::What::Users(users),
            None => edge::What::Edge,
        };
        edge::run(what, options.only.as_deref(), options.quick)?;
        return Ok(ExitCode::SUCCESS);
    }
    let peers = paths::root().join("tests/bench/peers");
    let work = paths::target().join("bench");
    std::fs::create_dir_all(&work).context("cannot make the folder of the benches")?;
    let only = options.only.as_deref();
    let loaded = match only {
        None | Some("load") => Some(page_load(options, &peers, &work)?),
        Some(_) => None,
    };
    if only != Some("load") {
        rank(options, &peers, &work, loaded.as_deref())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Times how a page comes to its first list with a large catalogue; returns the file that says it in Markdown.
fn page_load(options: &Options, peers: &Path, work: &Path) -> Result<PathBuf> {
    wasm::build()?;
    tools::npm_ci(peers)?;
    let model = work.join("load");
    Step::cargo("the fixture")
        .args(["build", "--package", "nearfield-wasm", "--example", "fixture"])
        .run()?;
    Step::new(format!("a model of {LOADED_ITEMS} items"), paths::binary("examples/fixture"))
        .args(["large".as_ref(), model.as_os_str(), LOADED_ITEMS.to_string().as_ref()])
        .run()?;
    let mut step = Step::new("a page that comes to its first list", "node")
        .args([peers.join("load.mjs")])
        .args([if options.quick { "3" } else { "11" }, &LOADED_ITEMS.to_string()])
        .args([paths::package_dist(), model])
        .env("NEARFIELD_CHROMIUM", tools::CHROMIUM.need()?);
    if let Some(before) = &options.before {
        let before = std::path::absolute(before)?;
        let name = before.file_name().context("--before names no folder")?;
        step = step.args([name, before.join("dist").as_os_str(), before.join("model").as_os_str()]);
    }
    let done = step.passed_through().run()?;
    let page = work.join("load.md");
    std::fs::write(&page, done.stdout.join("\n") + "\n").context("cannot write the figures of the load")?;
    Ok(page)
}

/// Ranks on every host beside its peers.
fn rank(options: &Options, peers: &Path, work: &Path, loaded: Option<&Path>) -> Result<()> {
    let [page_module, edge_module] = wasm::build_bench_modules()?;
    tools::npm_ci(peers)?;
    let environment = work.join("python");
    let python = environment.join("bin/python");
    if !python.is_file() {
        Step::new("a Python environment", "python3").args(["-m", "venv"]).args([&environment]).run()?;
    }
    Step::new("faiss, implicit and onnx", &python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .args([peers.join("requirements.txt")])
        .run()?;
    Step::cargo("nearfield-bench").args(["build", "--release", "--package", "nearfield-bench"]).run()?;
    let driver =
        paths::target().join("release").join(format!("nearfield-bench{}", std::env::consts::EXE_SUFFIX));
    let mut step = Step::new("every host and its peers, interleaved", driver)
        .args(["--module".as_ref(), page_module.as_os_str(), "--peers".as_ref(), peers.as_os_str()])
        .args(["--edge-module".as_ref(), edge_module.as_os_str()])
        .args(["--python".as_ref(), python.as_os_str(), "--work".as_ref(), work.as_os_str()])
        .env("NEARFIELD_CHROMIUM", tools::CHROMIUM.need()?);
    let files = [
        ("--events", &options.events),
        ("--pairs", &options.pairs),
        ("--left-out", &options.left_out),
        ("--json", &options.json),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            let file = std::path::absolute(file)?;
            step = step.args([name.as_ref(), file.as_os_str()]);
        }
    }
    if let Some(loaded) = loaded {
        step = step.args(["--load".as_ref(), loaded.as_os_str()]);
    }
    if let Some(only) = &options.only {
        step = step.args(["--only", only]);
    }
    let written = work.join("benchmarks.md");
    let writes = !options.quick && options.only.is_none();
    if options.quick {
        step = step.args(["--quick"]);
    } else if writes {
        step = step.args(["--page".as_ref(), written.as_os_str()]);
    }
    step.passed_through().run()?;
    if writes {
        page::put("engine", &std::fs::read_to_string(&written)?)?;
        let picture = paths::root().join("docs/benchmarks.svg");
        std::fs::copy(written.with_extension("svg"), picture)?;
    }
    Ok(())
}
