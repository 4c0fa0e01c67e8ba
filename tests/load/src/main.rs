//! `nearfield-load`: an edge host under open-loop load, beside a peer and beside its own core without a sandbox, and
//! where edge and central bend. `cargo xtask bench --edge` and `cargo xtask load` build what it needs and start it.
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
mod devices;
mod faces;
mod isolation;
mod knee;
mod million;
mod open_loop;
mod picture;
mod report;
mod servers;
mod shop;
mod size;
mod streams;
#[path = "../../../edge-host/guest/src/warm.rs"]
mod warm;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Puts edge hosts and central under open-loop load, beside peers")]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Args)]
struct Args {
    /// Folder of the programs nearfield-central, nearfield-edge, nearfield-trainer and nearfield-limits.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The guest module.
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
    /// Folder for the trained model.
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Shorter rounds, one of each rate.
    #[arg(long)]
    quick: bool,
    /// Write what was measured here, as Markdown.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Draw the picture here.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Latency over rate on each face of an edge.
    Edge {
        /// The program `serving` of the crate serenade, the peer.
        #[arg(long, value_name = "FILE")]
        serenade: Option<PathBuf>,
        /// Only what answers these: words of a line of the table, such as "observe HTTP/1.1 memory".
        #[arg(long, value_name = "WORDS")]
        only: Option<String>,
    },
    /// Fill a store with very many users, and load those.
    Users {
        #[arg(value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        count: u32,
    },
    /// Send events through a Kafka into edges.
    Streams,
    /// What a user, an item, an event and a delta take, and what follows from that for very many devices.
    Size,
    /// Find the knees of edge and central, by our own generator and the tools of deploy/load.
    Knee(knee::Knee),
}

fn main() -> Result<()> {
    let Cli { args, what } = Cli::parse();
    // One thread: the servers need the processors more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        match &what {
            What::Edge { serenade, only } => faces::run(&args, serenade.as_deref(), only.as_deref()).await,
            What::Users { count } => million::run(&args, *count).await,
            What::Streams => streams::run(&args).await,
            What::Size => size::run(&args).await,
            What::Knee(knee) => knee::run(&args, knee).await,
        }
    })?;
    println!("{text}");
    std::fs::write(&args.table, text).with_context(|| format!("cannot write {}", args.table.display()))
}
