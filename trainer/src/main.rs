//! `nearfield-trainer`: train a model, evaluate recommendations, make features, replay events, take factors in.

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
    /// Make a model from item factors that were trained elsewhere.
    Import(commands::import::Args),
    /// Write the features of events as Parquet, and how they are distributed.
    Features(commands::features::Args),
    /// Send recorded events to a stream.
    Replay(commands::replay::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Features(args) => commands::features::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfield-trainer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
