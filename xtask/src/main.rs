//! The commands of the README: `cargo xtask demo | test | torture | services | deploy | wasm | spark | bench | load | ci | doctor`.
//!
//! Each command is a list of named steps. A step installs or builds what it needs and says so; one that
//! cannot do its work ends in a line that names the command that would.

mod bench;
mod browser;
mod changed;
mod ci;
mod demo;
mod deploy;
mod doctor;
mod floors;
mod jars;
mod load;
mod module_size;
mod package;
mod page;
mod paths;
mod services;
mod site;
mod spark;
mod step;
mod supervise;
mod test;
mod tools;
mod torture;
mod wasm;
mod wasm_std;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, tests and shows Nearfield",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and serve the demo shop with central and an edge beside it
    Demo(demo::Options),
    /// Run every test: Rust, npm package, the golden digest on each runtime, a browser visit
    Test(test::Options),
    /// Run a brute test that takes long, and print its figures
    Torture(torture::Options),
    /// Start the real servers that an edge can use, stop them, or say which are up
    Services {
        /// What to do.
        #[command(subcommand)]
        what: services::What,
    },
    /// Check what is deployed: chart, rules, images
    Deploy(deploy::Options),
    /// Build the npm package and the guest module of the edge host
    Wasm {
        /// Only the guest module
        #[arg(long)]
        guest: bool,
    },
    /// Build the wheel of the Python package nearfield-spark
    Spark,
    /// Time the engine on every host, or with --edge an edge host under load, beside peers; write docs/benchmarks.md
    Bench(bench::Options),
    /// Load-test edge and central in the release profile with the tools of deploy/load; write docs/load.md
    Load(load::Options),
    /// Formatting, floors of the engine, lints, then every test
    Ci,
    /// Say what is here, what is missing, and the command that would install it
    Doctor,
    /// Compare the golden digest of the built npm package with the engine's own
    Golden {
        /// Only this runtime
        runtime: Option<browser::Runtime>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Torture(options) => torture::run(&options),
        Command::Services { what } => services::run(&what),
        Command::Deploy(options) => deploy::run(&options),
        Command::Wasm { guest: true } => wasm::build_guest().map(|_| ExitCode::SUCCESS),
        Command::Wasm { guest: false } => {
            wasm::build().and_then(|built| built.check_size()).map(|()| ExitCode::SUCCESS)
        }
        Command::Spark => spark::wheel().map(|()| ExitCode::SUCCESS),
        Command::Bench(options) => bench::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Ci => ci::run(),
        Command::Doctor => Ok(doctor::run()),
        Command::Golden { runtime } => browser::golden(runtime).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
