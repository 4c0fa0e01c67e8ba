//! `keys`: makes and shows the keys of a data directory.

use nearfield_central::keys::Keys;
use std::path::PathBuf;

/// What to do with the keys.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make the keys that are not there yet, and print the public one.
    Init {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// Runs a command on keys.
pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Init { data } = command;
    println!("{}", Keys::open(&data)?.public_hex());
    Ok(())
}
