//! `seed`: fills a data directory before its first start.

use nearfield_central::seed;
use std::path::PathBuf;

/// Where a data directory is filled from. What it has already stays.
#[derive(clap::Args)]
pub struct Arguments {
    /// Data directory.
    #[arg(long, value_name = "DIR", env = "NEARFIELD_DATA")]
    data: PathBuf,
    /// A folder with model.pack and statistics.bin, as `nearfield-trainer train --out` writes them.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A folder with online.key, device.key and admin-token, such as a mounted secret.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

/// Runs the command.
pub fn run(Arguments { data, model, keys }: Arguments) -> anyhow::Result<()> {
    let say =
        |what: &str, copied: bool| println!("{what} {}", if copied { "copied" } else { "there already" });
    let copied = seed::keys(keys.as_deref(), &data)?;
    if keys.is_some() {
        say("keys", copied);
    }
    if let Some(from) = model {
        say("model", seed::model(&from, &data)?);
    }
    Ok(())
}
