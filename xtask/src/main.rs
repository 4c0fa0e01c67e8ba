//! The commands of the README: `cargo xtask wasm` and the rest.

mod paths;
mod step;
mod tools;
mod wasm;
mod wasm_std;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, tests and shows Nearfield", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the npm package and the guest module of the edge host
    Wasm,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Wasm => wasm::build().map(|built| {
            built.print();
            ExitCode::SUCCESS
        }),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
