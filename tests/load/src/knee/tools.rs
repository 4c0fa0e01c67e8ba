//! The tools of `deploy/load`, each started once a step as a user would start it, with the same servers to ask.

use super::curve::{Curve, Load, Step};
use crate::open_loop::Trial;
use crate::servers::{self, Server};
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The share of a step's calls, its first ones, that do not count: a tool warms up in them.
const WARMING: f64 = 0.2;
/// Longest time of a tool beyond its step: it starts, and waits for the last answers.
const MARGIN: Duration = Duration::from_secs(60);
/// Devices of the fleet.
const DEVICES: usize = 2000;
/// Calls of ghz, which takes them by turns.
const CALLS: usize = 1000;

/// Where the tools are.
#[derive(Args)]
pub(crate) struct Programs {
    /// Folder with the plans: `deploy/load`.
    #[arg(long, value_name = "DIR")]
    plans: PathBuf,
    /// The program of locust.
    #[arg(long, value_name = "FILE")]
    locust: PathBuf,
    /// Where JMeter is: the folder that holds its `bin`.
    #[arg(long, value_name = "DIR")]
    jmeter: PathBuf,
    /// The program of ghz.
    #[arg(long, value_name = "FILE")]
    ghz: PathBuf,
    /// The built npm package.
    #[arg(long, value_name = "DIR")]
    package: PathBuf,
}

/// What a tool is told.
pub(super) struct Told<'a> {
    /// The load of the step.
    pub(super) load: f64,
    pub(super) seconds: f64,
    /// The file that it writes a line for each call into.
    pub(super) calls: &'a Path,
    /// The server that it asks.
    pub(super) server: &'a Server,
}

/// How a tool is started and read.
pub(super) struct Tool<'a> {
    curve: Curve,
    server: &'a Server,
    loads: &'static [f64],
    command: Box<dyn Fn(&Told<'_>) -> Command + 'a>,
    /// The column of the milliseconds, and what a line says of a failure.
    columns: Columns,
}

/// Columns of a file of calls.
struct Columns {
    ms: &'static str,
    /// The column that says how a call went, and what it says of one that went well.
    outcome: (&'static str, &'static str),
}

impl Tool<'_> {
    pub(super) fn steps(&self) -> usize {
        self.loads.len()
    }

    /// Runs the tool at rising loads until server or tool falls behind.
    pub(super) fn run(mut self, seconds: f64, work: &Path, bar: &ProgressBar) -> Result<Curve> {
        let seconds = seconds / self.loads.len() as f64;
        for &load in self.loads {
            bar.inc(1);
            if self.curve.goes_on() {
                bar.set_message(format!("{} by {} at {load}", self.curve.what, self.curve.by));
                let step = self.step(load, seconds, work)?;
                self.curve.steps.push(step);
            }
        }
        Ok(self.curve)
    }

    fn step(&self, load: f64, seconds: f64, work: &Path) -> Result<Step> {
        let by = self.curve.by;
        let (calls, log) = (work.join("calls.csv"), work.join(format!("{by}.log")));
        // A tool that writes none would be taken at the word of the step before.
        let _none = fs::remove_file(&calls);
        let output = File::create(&log)?;
        let mut command = (self.command)(&Told { load, seconds, calls: &calls, server: self.server });
        command.current_dir(work).stdin(Stdio::null());
        command.stdout(Stdio::from(output.try_clone()?)).stderr(Stdio::from(output));
        let before = (self.server.cpu_seconds()?, servers::ended_cpu_seconds()?);
        let mut child = command.spawn().with_context(|| format!("{by} does not start"))?;
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(seconds) + MARGIN;
        // How it ends says little: some end with a code of their own when a call has failed.
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = started.elapsed().as_secs_f64();
        let after = (self.server.cpu_seconds()?, servers::ended_cpu_seconds()?);
        let trial = read(&calls, &self.columns, seconds)
            .with_context(|| format!("{by} says {}", fs::read_to_string(&log).unwrap_or_default()))?;
        let mut step = Step::of(&trial, load, after.0 - before.0, after.1 - before.1);
        // Their time went into the calls that do not count, and into the tool's start, too.
        step.server_us *= 1.0 - WARMING;
        step.tool_cores = (after.1 - before.1) / took;
        Ok(step)
    }
}

/// Reads a file of calls, which are in the order of their ends.
fn read(calls: &Path, columns: &Columns, seconds: f64) -> Result<Trial> {
    let mut lines = csv::Reader::from_path(calls).context("it wrote no calls")?;
    let header = lines.headers()?.clone();
    let place = |name| header.iter().position(|column| column == name);
    let (ms, outcome) = place(columns.ms).zip(place(columns.outcome.0)).context("it wrote other columns")?;
    let all = lines.records().collect::<Result<Vec<_>, _>>().context("a line of its calls is damaged")?;
    let warming = (all.len() as f64 * WARMING) as usize;
    let mut trial = Trial { seconds: seconds * (1.0 - WARMING), ..Trial::default() };
    for line in &all[warming..] {
        trial.calls += 1;
        let said = line.get(outcome).unwrap_or_default();
        if said == columns.outcome.1 {
            let ms: f64 = line.get(ms).unwrap_or_default().parse().context("milliseconds are no number")?;
            trial.latencies_us.push((ms * 1e3) as u32);
        } else {
            trial.failure.get_or_insert_with(|| said.to_owned());
        }
    }
    ensure!(trial.calls > 0, "it made no call");
    Ok(trial)
}

/// The tools, in the order of the page.
pub(super) fn all<'a>(
    programs: &'a Programs,
    edge: &'a Server,
    central: &'a Server,
    key: &'a str,
    work: &Path,
    call: impl Fn(usize) -> (String, String),
) -> Result<Vec<Tool<'a>>> {
    let messages = work.join("observe.json");
    let message = |at| {
        let (user, item_id) = call(at);
        json!({ "user": user, "events": [{ "kind": "view_item", "item_id": item_id }], "list": { "count": 20 } })
    };
    fs::write(&messages, serde_json::to_vec(&(0..CALLS).map(message).collect::<Vec<_>>())?)?;
    let curve = |what, by, load| Curve { what, by, limit: None, load, steps: Vec::new() };
    Ok(vec![
        Tool {
            curve: curve("edge: a shop's visitors", "locust", Load::Open("people")),
            server: edge,
            loads: &[5.0, 10.0, 20.0, 28.0, 40.0, 57.0, 80.0, 113.0, 160.0],
            command: Box::new(|told| {
                let mut command = Command::new(&programs.locust);
                command.arg("-f").arg(programs.plans.join("locustfile.py"));
                command.args([
                    "--headless",
                    "--users",
                    "1",
                    "--host",
                    &format!("http://{}", told.server.address),
                ]);
                command.args(["--run-time", &format!("{:.0}s", told.seconds)]);
                command.env("NEARFIELD_RATE", told.load.to_string()).env("NEARFIELD_CALLS", told.calls);
                command
            }),
            columns: Columns { ms: "ms", outcome: ("failure", "") },
        },
        Tool {
            curve: curve("edge: list, look, buy", "JMeter", Load::Closed),
            server: edge,
            loads: &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
            command: Box::new(|told| {
                let mut command = Command::new("java");
                command.arg("-jar").arg(programs.jmeter.join("bin/ApacheJMeter.jar"));
                command.arg("-n").arg("-t").arg(programs.plans.join("shop.jmx")).arg("-l").arg(told.calls);
                command.arg(format!("-Jport={}", told.server.address.port()));
                command.arg(format!("-Jthreads={}", told.load)).arg("-Jloops=1000000");
                command.arg(format!("-Jseconds={:.0}", told.seconds));
                command
            }),
            columns: Columns { ms: "elapsed", outcome: ("success", "true") },
        },
        Tool {
            curve: curve("edge: an event and its list, gRPC", "ghz", Load::Open("calls")),
            server: edge,
            loads: &[125.0, 250.0, 354.0, 500.0, 707.0, 1000.0, 1414.0, 2000.0, 2828.0, 4000.0],
            command: Box::new(move |told| {
                let mut command = Command::new(&programs.ghz);
                command.arg("--config").arg(programs.plans.join("ghz.json"));
                command.arg("--data-file").arg(&messages);
                command.args([
                    "--rps",
                    &told.load.to_string(),
                    "--duration",
                    &format!("{:.1}s", told.seconds),
                ]);
                command.args(["--format", "csv", "--output"]).arg(told.calls);
                command.arg(told.server.address.to_string());
                command
            }),
            columns: Columns { ms: "duration (ms)", outcome: ("status", "OK") },
        },
        Tool {
            curve: curve("central: a device's visit", "devices", Load::Open("visits")),
            server: central,
            loads: &[25.0, 50.0, 71.0, 100.0, 141.0, 200.0, 283.0, 400.0, 566.0, 800.0],
            command: Box::new(move |told| {
                let mut command = Command::new("node");
                command.arg(programs.plans.join("devices.mjs")).arg("--package").arg(&programs.package);
                command.args(["--central", &format!("http://{}", told.server.address), "--key", key]);
                command.args(["--site", "shop", "--devices", &DEVICES.to_string()]);
                command.args(["--rate", &told.load.to_string(), "--seconds", &told.seconds.to_string()]);
                command.arg("--calls").arg(told.calls);
                command
            }),
            columns: Columns { ms: "ms", outcome: ("failure", "") },
        },
    ])
}
