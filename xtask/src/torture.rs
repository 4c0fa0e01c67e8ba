//! `cargo xtask torture NAME`: brute tests that run on demand and print figures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::{browser, jars, paths, step::Step, tools};

/// A brute test, and how long it goes on.
#[derive(Clone, Subcommand)]
pub(crate) enum Torture {
    /// Kill central again and again at k = 10 while clients send deltas: none may be lost or counted twice
    Central {
        /// How often it is killed
        #[arg(long, value_name = "N", default_value_t = KILLS, value_parser = clap::value_parser!(u32).range(1..))]
        kills: u32,
    },
    /// Kill central after many deltas, and time its start
    Start {
        /// How many deltas it takes before
        #[arg(long, value_name = "N", default_value_t = DELTAS, value_parser = clap::value_parser!(u32).range(1..))]
        deltas: u32,
    },
    /// Kill central and Redis again and again while two edges serve, then take both away for a simulated day
    Edge {
        /// How often they are killed
        #[arg(long, value_name = "N", default_value_t = EDGE_KILLS, value_parser = clap::value_parser!(u32).range(1..))]
        kills: u32,
    },
    /// Send events through Kafka at full speed into two edges, kill one and let another one join: every state must be,
    /// to the byte, what one process makes of the events
    Streams {
        /// A CSV of user, item and timestamp in seconds, perhaps with gzip; without it 5,000 events are generated
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
    },
    /// Kill the browser in mid-write, let 8 tabs write and forget, take its disk, database and consent away
    Browser {
        /// How often it is killed; the other scenarios run in proportion
        #[arg(long, value_name = "N", default_value_t = BROWSER_KILLS, value_parser = clap::value_parser!(u32).range(1..))]
        kills: u32,
        /// Run one scenario alone
        #[arg(long, value_name = "SCENARIO")]
        only: Option<Scenario>,
    },
}

/// What a browser goes through.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// Killed in mid-write
    Kills,
    /// Eight tabs and one that forgets
    Tabs,
    /// No room on the disk
    Full,
    /// No database, channel or locks
    Refused,
    /// An older package, and the newer one again
    Versions,
    /// Consent given and taken back
    Consent,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::Tabs => "tabs",
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Versions => "versions",
            Self::Consent => "consent",
        }
    }
}

/// Kills of one run where no other number is asked for: about a minute.
const KILLS: u32 = 100;

/// Kills of central and Redis where no other number is asked for: about two minutes.
const EDGE_KILLS: u32 = 100;

/// Calls of a hostile core where no other number is asked for.
const HOSTILE_CALLS: u32 = 1000;

/// Steps of the simulated day: a minute each.
const DAY_STEPS: u32 = 24 * 60;

/// Kills of a browser where no other number is asked for: about ten minutes. The tests run a tenth.
pub(crate) const BROWSER_KILLS: u32 = 500;

/// Deltas before a start is timed where no other number is asked for: a few minutes.
const DELTAS: u32 = 1_000_000;

impl Torture {
    /// All of them, at their default length.
    pub(crate) const ALL: [Self; 5] = [
        Self::Central { kills: KILLS },
        Self::Start { deltas: DELTAS },
        Self::Edge { kills: EDGE_KILLS },
        Self::Streams { events: None },
        Self::Browser { kills: BROWSER_KILLS, only: None },
    ];
}

/// Which brute test runs.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    torture: Torture,
}

/// Runs one brute test.
///
/// # Errors
/// When it fails.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    torture(options.torture.clone())?;
    Ok(ExitCode::SUCCESS)
}

/// Runs one brute test.
///
/// # Errors
/// When it fails.
pub(crate) fn torture(torture: Torture) -> Result<()> {
    let step = match torture {
        Torture::Central { kills } => crash(format!("central, killed {kills} times"))
            .args(["killed"])
            .env("NEARFIELD_KILLS", kills.to_string()),
        Torture::Start { deltas } => crash(format!("starts of central after {deltas} deltas"))
            .args(["--ignored", "after_many_deltas"])
            .env("NEARFIELD_DELTAS", deltas.to_string()),
        Torture::Edge { kills } => return edge(kills),
        Torture::Streams { events } => return streams(events.as_deref()),
        Torture::Browser { kills, only } => return browser::torture(kills, only.map(Scenario::name)),
    };
    step.passed_through().run()?;
    Ok(())
}

/// Builds the programs, then runs what the edge goes through: kills, a day alone, a hostile core.
fn edge(kills: u32) -> Result<()> {
    tools::need_servers()?;
    Step::cargo("programs and tests")
        .args(["build", "--workspace", "--exclude", "xtask", "--bins", "--tests"])
        .run()?;
    let test = |name: String, file: &str, what: &str| {
        Step::cargo(name)
            .args(["test", "--workspace", "--exclude", "xtask", "--test", file, "--", "--nocapture", what])
            .env("NEARFIELD_GUEST", paths::guest())
            .env("RUST_LOG", "off")
            .passed_through()
    };
    test(format!("central and Redis, killed {kills} times"), "kills", "kills_of_central_and_redis")
        .env("NEARFIELD_EDGE_KILLS", kills.to_string())
        .run()?;
    test("a day without both".to_owned(), "hosts", "away_for_a_day")
        .env("NEARFIELD_DAY_STEPS", DAY_STEPS.to_string())
        .run()?;
    test(format!("{HOSTILE_CALLS} calls of a hostile core"), "failures", "a_hostile_core")
        .env("NEARFIELD_HOSTILE_CALLS", HOSTILE_CALLS.to_string())
        .run()?;
    Ok(())
}

/// Builds the programs, then sends events through a broker into edges that are killed and join.
fn streams(events: Option<&Path>) -> Result<()> {
    tools::need_servers()?;
    jars::KAFKA.need()?;
    Step::cargo("programs and tests")
        .args(["build", "--workspace", "--exclude", "xtask", "--bins", "--tests"])
        .run()?;
    let mut test = Step::cargo("events through Kafka, an edge killed and another one joining")
        .args([
            "test",
            "--workspace",
            "--exclude",
            "xtask",
            "--test",
            "streams",
            "--",
            "--nocapture",
            "killed_edge",
        ])
        .env("NEARFIELD_GUEST", paths::guest())
        .env("RUST_LOG", "off");
    if let Some(events) = events {
        test = test.env("NEARFIELD_EVENTS", std::path::absolute(events)?);
    }
    test.passed_through().run()?;
    Ok(())
}

fn crash(name: String) -> Step {
    Step::cargo(name).args(["test", "--workspace", "--exclude", "xtask", "--test", "crash"]).args([
        "--",
        "--nocapture",
        "--test-threads",
        "1",
    ])
}
