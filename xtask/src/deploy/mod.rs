//! `cargo xtask deploy --check`: what stands in `deploy/`, tried by the tools that would take it.

mod apiserver;
mod chart;
mod compose;
mod dashboards;
mod docs;
mod images;
mod metrics;
mod rules;
pub(crate) mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::step::Step;

/// What is checked.
#[derive(Args)]
pub(crate) struct Options {
    /// Check the chart on every file of values, and run the images' build steps
    #[arg(long)]
    check: bool,
    /// Write the dashboards of deploy/grafana/ anew
    #[arg(long, conflicts_with = "check")]
    dashboards: bool,
    /// Let a real kube-apiserver take every rendering too
    #[arg(long, requires = "check")]
    apiserver: bool,
    /// Leave out the images, whose release build takes long
    #[arg(long, requires = "check")]
    no_images: bool,
}

/// Runs the checks.
///
/// # Errors
/// The first that finds something.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.dashboards {
        programs()?;
        dashboards::write()?;
        return Ok(ExitCode::SUCCESS);
    }
    if !options.check {
        bail!("nothing to do: `cargo xtask deploy --check` checks what stands in deploy/");
    }
    for check in checks() {
        check()?;
    }
    if options.apiserver {
        apiserver::check()?;
    }
    if !options.no_images {
        images::check()?;
    }
    println!("deploy/ is as it should be");
    Ok(ExitCode::SUCCESS)
}

/// Whether the tools can be had here.
///
/// # Errors
/// The message names what to install.
pub(crate) fn need() -> Result<()> {
    tools::need_go().map(|_| ())
}

/// What is checked wherever the tools are; each is a test of its own.
pub(crate) fn checks() -> [fn() -> Result<()>; 7] {
    [programs, dashboards::check, rules::check, chart::check, compose::check, docs::book, docs::start_page]
}

/// Builds the programs, which say what their options and their metrics are.
fn programs() -> Result<()> {
    Step::cargo("programs").args(["build", "--bins", "--workspace", "--exclude", "xtask"]).run()?;
    Ok(())
}
