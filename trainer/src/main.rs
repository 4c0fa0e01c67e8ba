//! `nearfield-trainer`: train a model, evaluate recommendations.

#![expect(unreachable_pub, reason = "the modules of a binary are seen by it alone")]

mod commands;
mod plot;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Trains Nearfield's models and measures the quality of recommendations.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model from a file of events.
    Train(commands::train::Args),
    /// Measure the quality of recommendations.
    Evaluate(commands::evaluate::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfield-trainer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
