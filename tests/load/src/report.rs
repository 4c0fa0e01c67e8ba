//! The table and the picture.

use crate::callers::{Face, Verb};
use crate::curve::{KEPT_UP_MS, PEOPLE, Step, Target};
use crate::isolation::Isolation;
use anyhow::Result;
use plotters::prelude::*;
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

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Of the axes: calls a second, milliseconds.
const RATES: (f64, f64) = (250.0, 16_000.0);
const TIMES: (f64, f64) = (0.1, 200.0);

/// Draws the 90th percentile over the rate, both axes logarithmic: what makes lists after events, and serenade.
pub(crate) fn draw(picture: &Path, targets: &[Target]) -> Result<()> {
    let fault = |error: &dyn std::fmt::Display| anyhow::anyhow!("cannot draw {}: {error}", picture.display());
    let root = SVGBackend::new(picture, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| fault(&error))?;
    let x =
        |rate: f64| (LEFT + (WIDTH - LEFT - RIGHT) * (rate / RATES.0).ln() / (RATES.1 / RATES.0).ln()) as i32;
    let y = |ms: f64| {
        let ms = ms.clamp(TIMES.0, TIMES.1);
        (HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (ms / TIMES.0).ln() / (TIMES.1 / TIMES.0).ln()) as i32
    };
    let put = |text: String, at: (i32, i32), size: i32| {
        root.draw(&Text::new(text, at, ("sans-serif", size).into_font())).map_err(|error| fault(&error))
    };
    let line = |points: Vec<(i32, i32)>, style: ShapeStyle| {
        root.draw(&PathElement::new(points, style)).map_err(|error| fault(&error))
    };
    put("Milliseconds within which 90 % are answered, over calls a second".into(), (12, 14), 16)?;
    let grid = RGBColor(225, 225, 225).stroke_width(1);
    for ms in [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0] {
        line(vec![(x(RATES.0), y(ms)), (x(RATES.1), y(ms))], grid)?;
        put(format!("{ms}"), (LEFT as i32 - 40, y(ms) - 7), 13)?;
    }
    for rate in [250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0] {
        line(vec![(x(rate), y(TIMES.0)), (x(rate), y(TIMES.1))], grid)?;
        put(format!("{rate}"), (x(rate) - 14, (HEIGHT - BOTTOM) as i32 + 8), 13)?;
    }
    let shown = targets.iter().filter(|target| matches!(target.verb, Verb::Observe | Verb::Serenade));
    for (at, target) in shown.enumerate() {
        let colour = match (target.server, target.store, target.face) {
            ("serenade", _, _) => RGBColor(120, 120, 120),
            (_, "memory", _) => RGBColor(0, 130, 90),
            (_, _, Face::Http1) => RGBColor(20, 110, 180),
            (_, _, Face::Http2) => RGBColor(210, 110, 0),
            (_, _, Face::Grpc) => RGBColor(150, 60, 150),
        };
        let points: Vec<(i32, i32)> =
            target.steps.iter().map(|step| (x(step.rate), y(step.trial.percentile(0.9)))).collect();
        for point in &points {
            root.draw(&Circle::new(*point, 3, colour.filled())).map_err(|error| fault(&error))?;
        }
        line(points, colour.stroke_width(2))?;
        let row = TOP as i32 + 22 * at as i32;
        let key = (WIDTH - RIGHT) as i32 + 14;
        line(vec![(key, row + 7), (key + 22, row + 7)], colour.stroke_width(3))?;
        let Target { server, face, verb, store, .. } = target;
        put(format!("{server} {}, {} ({store})", verb.name(), face.name()), (key + 28, row), 13)?;
    }
    root.present().map_err(|error| fault(&error))
}
