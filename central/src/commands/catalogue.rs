//! `catalog import`: items from a file into the log of a server that is not running.

use anyhow::{Context, bail};
use nearfield_central::catalogue::{Form, read};
use nearfield_central::durable;
use nearfield_central::keys::Keys;
use nearfield_central::log::Log;
use nearfield_central::merge::replay::open;
use std::path::{Path, PathBuf};

/// What to do with the catalogue.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Give every item of a file a row. The server must be stopped; a running one takes the same
    /// file by POST /v1/catalog on its admin listener.
    Import {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// CSV with a column item_id, or JSON {"items":[{"id":"…"}]}.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Name of the site, for the first start of a data directory.
        #[arg(long, default_value = "demo", env = "NEARFIELD_SITE")]
        site: String,
    },
}

/// Runs a catalogue command.
pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Import { data, file, site } = command;
    let form = form(&file)?;
    let changes = read(form, &durable::read(&file)?).with_context(|| file.display().to_string())?;
    // At the first start the keys come before the store: one that has lost its keys is not served.
    Keys::open(&data)?;
    let (mut merger, log) = open(&data, &site)?;
    merger.check_changes(&changes)?;
    log.append_changes(changes.clone())?;
    let added = merger.change(&changes)?;
    println!("{} items named, {added} new; the next version contains them", changes.len());
    Ok(())
}

fn form(file: &Path) -> anyhow::Result<Form> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Form::Csv),
        Some("json") => Ok(Form::Json),
        _ => bail!("{}: the name must end in .csv or .json", file.display()),
    }
}
