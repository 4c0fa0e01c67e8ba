//! `nearfield-load`: an edge host under open-loop load, beside a peer and beside its own core without a sandbox.
//! `cargo xtask bench --edge` builds what it needs and starts it.
//!
//! Log of people who browse → trained model → central, edges and peer as processes → warm users → rising rates, each
//! in interleaved rounds → table and picture.

/// The messages of the guest's core, which the host shares.
pub(crate) use nearfield_edge::abi;

#[path = "../../bench/src/browsing.rs"]
mod browsing;
mod callers;
#[path = "../../../edge-host/guest/src/core.rs"]
#[allow(dead_code, reason = "only its steps are timed")]
mod core;
mod curve;
mod isolation;
mod knee;
mod million;
mod open_loop;
mod report;
mod servers;
mod shop;
mod streams;
#[path = "../../../edge-host/guest/src/warm.rs"]
mod warm;

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Puts an edge host under open-loop load, beside a peer")]
struct Args {
    /// Folder of the programs nearfield-central, nearfield-edge and nearfield-trainer.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The guest module.
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
    /// The program `serving` of the crate serenade.
    #[arg(long, value_name = "FILE")]
    serenade: Option<PathBuf>,
    /// Fill a store with so many users and load those, instead of the rest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    users: Option<u32>,
    /// Send events through a Kafka into edges, instead of the rest.
    #[arg(long, conflicts_with = "users")]
    streams: bool,
    /// Find the knees of edge and central, for so many seconds each, instead of the rest.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["users", "streams"], value_parser = clap::value_parser!(u32).range(5..=3600))]
    knee: Option<u32>,
    /// Only what answers these: words of a line of the table, such as "observe HTTP/1.1 memory".
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Folder for the trained model.
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Shorter rounds, one of each rate.
    #[arg(long)]
    quick: bool,
    /// Write the table here, as Markdown.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Draw the picture here.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // One thread: the servers need the processors more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        match (args.users, args.knee) {
            _ if args.streams => streams::run(&args).await,
            (Some(users), _) => million::run(&args, users).await,
            (_, Some(seconds)) => knee::run(&args, seconds).await,
            (None, None) => curve::run(&args).await,
        }
    })?;
    println!("{text}");
    std::fs::write(&args.table, text).with_context(|| format!("cannot write {}", args.table.display()))
}
