//! `nearfield-central`: serve, feed the catalogue, make keys.

#![expect(unreachable_pub, reason = "the modules of a binary are seen by it alone")]

mod commands;

use clap::{Parser, Subcommand};
use commands::{catalogue, keys, seed, serve};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The central service of Nearfield.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take deltas, merge them, publish model versions.
    Serve(Box<nearfield_central::Config>),
    /// Add items to the catalogue.
    #[command(subcommand)]
    Catalog(catalogue::Command),
    /// Make or show the keys of a data directory.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Print every metric: its name, its kind and what it means.
    Metrics,
    /// Fill a data directory from mounted volumes and secrets, before its first start.
    Seed(seed::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let result = match cli.command {
        Command::Serve(config) => serve::run(*config),
        Command::Catalog(command) => catalogue::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Metrics => {
            print!("{}", nearfield_process::table(&nearfield_central::metrics::METRICS));
            print!("{}", nearfield_process::table(&nearfield_process::METRICS));
            Ok(())
        }
        Command::Seed(arguments) => seed::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfield-central: {error:#}");
            ExitCode::FAILURE
        }
    }
}
