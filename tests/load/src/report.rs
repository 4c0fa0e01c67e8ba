//! The table and the picture.

use crate::callers::{Face, Verb};
use crate::faces::{KEPT_UP_MS, PEOPLE, Step, Target};
use crate::isolation::Isolation;
use crate::picture::{self, Axis, Line, Panel};
use anyhow::Result;
use plotters::style::RGBColor;
use std::fmt::Write;
use std::path::Path;

/// The rate at which all are compared, calls a second.
const COMMON: f64 = 1000.0;

/// A row of latencies in milliseconds, and processors' time a call.
pub(crate) fn latencies(step: &Step) -> String {
    let at = |share| step.trial.percentile(share);
    format!("{:.2} | {:.2} | {:.2} | {:.2} | {:.0}", at(0.5), at(0.9), at(0.99), at(0.999), step.cpu_us())
}

/// The table in Markdown.
pub(crate) fn table(items: usize, targets: &[Target], isolation: &[Isolation], memory_mb: f64) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "## The edge host under load\n\nWritten by `cargo xtask bench --edge`: {items} items, d = 64, {PEOPLE} warm users with 40 events and more, lists of 20.\n\
         An open loop: calls are due at times drawn beforehand (exponential gaps), whether or not those before were\n\
         answered, and a call's time counts from when it was due. Servers and caller share one machine's processors;\n\
         central takes the edges' deltas meanwhile, and publishes no version. All ways to ask take turns within each\n\
         round. `redb`: an event is on disk, fsync included, when it is answered; `memory`: it is not. serenade 0.3.1\n\
         learned the same log (each visit a session), keeps its sessions in RocksDB without an fsync, and answers\n\
         `recommend`, which is its `observe`. Highest rate: the last step of calls a second at which no call failed\n\
         and 99 % were answered within {KEPT_UP_MS} ms. CPU: of the server, a call.\n\n\
         ![Latency over rate](benchmarks-edge.svg)\n\n"
    );
    let head = "| server | call | over | users in | p50 ms | p90 ms | p99 ms | p99.9 ms | CPU µs |";
    let rule = "|---|---|---|---|--:|--:|--:|--:|--:|";
    let name = |target: &Target| {
        format!("| {} | {} | {} | {} |", target.server, target.verb.name(), target.face.name(), target.store)
    };
    let _ = write!(text, "### At {COMMON} calls a second\n\n{head}\n{rule}\n");
    for target in targets {
        if let Some(step) = target.steps.iter().find(|step| (step.rate - COMMON).abs() < 1.0) {
            let _ = writeln!(text, "{} {} |", name(target), latencies(step));
        }
    }
    let _ = write!(
        text,
        "\n### At its highest rate\n\n| server | call | over | users in | calls/s | p50 ms | p90 ms | p99 ms | p99.9 ms | CPU µs | then |\n|---|---|---|---|--:|--:|--:|--:|--:|--:|---|\n"
    );
    for target in targets {
        let behind = target.steps.iter().find(|step| !step.kept_up());
        let then = behind.map_or_else(String::new, |step| {
            let failed = step.trial.failed();
            let failure = step.trial.failure.as_deref();
            let failed =
                failure.map_or_else(String::new, |failure| format!(", {failed} failed: {failure:.60}"));
            format!(
                "{}/s: {:.0}/s, p99 {:.0} ms{failed}",
                step.rate,
                step.trial.rate(),
                step.trial.percentile(0.99)
            )
        });
        if let Some(step) = target.highest() {
            let _ =
                writeln!(text, "{} {:.0} | {} | {then} |", name(target), step.trial.rate(), latencies(step));
        } else {
            let _ = writeln!(text, "{} | | | | | | {then} |", name(target));
        }
    }
    let _ = writeln!(text, "\nThe edge with its users in redb takes {memory_mb:.0} MB at the end.");
    text.push_str(
        "\n### What the sandbox costs\n\nThe same steps of 200 warm users, bytes in and bytes out, in wasmtime and natively by turns; the answers are the same to the byte.\n\n| step | native µs | in the sandbox µs | × |\n|---|--:|--:|--:|\n",
    );
    for Isolation { what, native_us, sandbox_us } in isolation {
        let _ =
            writeln!(text, "| {what} | {native_us:.1} | {sandbox_us:.1} | {:.2} |", sandbox_us / native_us);
    }
    text
}

/// Draws the 90th percentile over the rate: what makes lists after events, and serenade.
pub(crate) fn draw(picture: &Path, targets: &[Target]) -> Result<()> {
    let title = "Milliseconds within which 90 % are answered, over calls a second";
    let rates = Axis::new(250.0, 16_000.0, &[250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0]);
    let times = Axis::new(0.1, 200.0, &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]);
    let mut panel = Panel::new(title, rates, times);
    for target in targets.iter().filter(|target| matches!(target.verb, Verb::Observe | Verb::Serenade)) {
        let colour = match (target.server, target.store, target.face) {
            ("serenade", _, _) => RGBColor(120, 120, 120),
            (_, "memory", _) => RGBColor(0, 130, 90),
            (_, _, Face::Http1) => RGBColor(20, 110, 180),
            (_, _, Face::Http2) => RGBColor(210, 110, 0),
            (_, _, Face::Grpc) => RGBColor(150, 60, 150),
        };
        let points = target.steps.iter().map(|step| (step.rate, step.trial.percentile(0.9))).collect();
        let Target { server, face, verb, store, .. } = target;
        let name = format!("{server} {}, {} ({store})", verb.name(), face.name());
        panel.lines.push(Line { name, colour, points, ring: None });
    }
    picture::draw(picture, &[panel])
}
