//! `nearfield-shop`: makes the demo's data and serves its page.

use clap::{Parser, Subcommand};
use nearfield_shop::catalogue::{Made, describe, generate};
use nearfield_shop::serve::{ServeOptions, app};
use nearfield_shop::shoppers::Plan;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;

/// The demo shop of Nearfield.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a shop and two weeks of shoppers from a seed.
    Generate {
        /// Folder for events.csv.gz, catalogue.json, items.csv and shoppers.json.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The same seed gives the same files.
        #[arg(long, default_value_t = 7)]
        seed: u64,
        /// Number of people who browse.
        #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(10..=200_000))]
        shoppers: u32,
        /// Part of the events that the model is trained on; the rest is replayed.
        #[arg(long, default_value_t = 0.5)]
        until_fraction: f64,
    },
    /// Makes the page's files for a real event file, whose items have ids but no names.
    Catalogue {
        /// .csv or .csv.gz with user,item,timestamp[,event].
        #[arg(long, value_name = "FILE")]
        events: PathBuf,
        /// Folder for catalogue.json, items.csv and shoppers.json.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Part of the events that the model is trained on; the rest is replayed.
        #[arg(long, default_value_t = 0.5)]
        until_fraction: f64,
    },
    /// Serves the page.
    Serve {
        #[command(flatten)]
        options: ServeOptions,
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:7800")]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The messages hold their causes, so that the chain would say them twice.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Generate { out, seed, shoppers, until_fraction } => {
            let plan = Plan { seed, shoppers: shoppers as usize, until_fraction };
            tell(&generate(&plan, &out)?);
        }
        Command::Catalogue { events, out, until_fraction } => {
            tell(&describe(&events, until_fraction, &out)?);
        }
        Command::Serve { options, listen } => {
            let app = app(&options)?;
            let listener = TcpListener::bind(listen)
                .await
                .map_err(|error| anyhow::anyhow!("cannot listen on {listen}: {error}"))?;
            println!("listening http://{}", listener.local_addr()?);
            axum::serve(listener, app)
                .with_graceful_shutdown(async {
                    // Without the handler the process would end at the signal all the same.
                    let _ = tokio::signal::ctrl_c().await;
                })
                .await?;
        }
    }
    Ok(())
}

fn tell(made: &Made) {
    eprintln!(
        "{} items ({} of them new after the split), {} events, {} visits to replay",
        made.items, made.arrivals, made.events, made.sessions
    );
    if made.left_out > 0 {
        eprintln!("{} later visits left out to keep shoppers.json small", made.left_out);
    }
}
