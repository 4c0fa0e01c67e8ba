//! The table and the picture.

use super::curve::{Curve, Load};
use crate::faces::PEOPLE;
use crate::picture::{self, Axis, Line, Panel};
use anyhow::Result;
use plotters::style::RGBColor;
use std::fmt::Write;
use std::path::Path;

/// The table in Markdown, and what else was seen.
pub(super) fn write(curves: &[Curve], items: usize, memory: &[(&str, f64)]) -> String {
    let mut text = format!(
        "{items} items, d = 64, {PEOPLE} warm users on redb.\n\n\
         | asked | by | calm: p50, p99 | knee | p99 there | server's CPU a call | tool's processors | of the limit's knee |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n"
    );
    let knee_of = |what: &str| curves.iter().find(|curve| curve.what == what).and_then(Curve::knee);
    for curve in curves {
        let Curve { what, by, limit, load, .. } = curve;
        let Some((calm, step)) = curve.steps.first().zip(curve.knee()) else {
            let _ = writeln!(text, "| {what} | {by} | | none | | | | |");
            continue;
        };
        let answered = format!("{:.0}/s", step.answered);
        let knee = match load {
            Load::Open("calls") => answered,
            Load::Open(unit) if *by == "locust" => format!("{} {unit}/s: {answered}", step.offered),
            Load::Open(unit) => format!("{:.0} {unit}/s", step.answered),
            Load::Closed => format!("{} callers: {answered}", step.offered),
        };
        let share = limit
            .and_then(knee_of)
            .map_or_else(String::new, |limit| format!("{:.2}", step.answered / limit.answered));
        let _ = writeln!(
            text,
            "| {what} | {by} | {:.2}, {:.2} ms | {knee} | {:.2} ms | {:.0} µs | {:.2} | {share} |",
            calm.p50_ms,
            curve.calm_ms(),
            step.p99_ms,
            step.server_us,
            step.tool_cores,
        );
    }
    let _ = writeln!(text, "\nThe step after the knee, which shows what gave way:\n");
    for curve in curves {
        let Some(knee) = curve.knee() else { continue };
        let beyond = curve.steps.iter().find(|step| step.offered > knee.offered);
        let _ = match beyond {
            Some(step) => {
                let failure = step.failure.as_ref().map_or_else(String::new, |failure| {
                    let line = failure.lines().next().unwrap_or_default();
                    format!(", {} failed: {line:.80}", step.failed)
                });
                let unit = match curve.load {
                    Load::Open(unit) => format!("{unit}/s"),
                    Load::Closed => "callers".to_owned(),
                };
                writeln!(
                    text,
                    "- {}, {}, at {} {unit}: {:.0} answered a second, p50 {:.1} ms, p99 {:.1} ms, tool {:.2} processors{failure}",
                    curve.what,
                    curve.by,
                    step.offered,
                    step.answered,
                    step.p50_ms,
                    step.p99_ms,
                    step.tool_cores
                )
            }
            None => writeln!(text, "- {}, {}: no higher load was tried", curve.what, curve.by),
        };
    }
    let memory: Vec<String> = memory.iter().map(|(name, mb)| format!("{name} {mb:.0} MB")).collect();
    let _ = writeln!(text, "\nMemory at the end: {}.", memory.join(", "));
    text
}

/// Draws the 99th percentile over what was answered, a panel for the edge and one for central; a ring is a knee.
pub(super) fn draw(file: &Path, curves: &[Curve]) -> Result<()> {
    const COLOURS: [RGBColor; 6] = [
        RGBColor(20, 110, 180),
        RGBColor(210, 110, 0),
        RGBColor(0, 130, 90),
        RGBColor(150, 60, 150),
        RGBColor(190, 40, 60),
        RGBColor(110, 80, 40),
    ];
    const LIMITS: [RGBColor; 2] = [RGBColor(110, 110, 110), RGBColor(175, 175, 175)];
    let panel = |server: &str| {
        let title = format!(
            "{server}: 99th percentile in milliseconds, over what was answered a second; a ring is the knee"
        );
        let rates = [10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0];
        let times = Axis::new(0.1, 1000.0, &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]);
        let mut panel = Panel::new(&title, Axis::new(10.0, 30_000.0, &rates), times);
        let mut colours = COLOURS.iter().cycle();
        let mut limits = LIMITS.iter().cycle();
        let is_limit_of = |server: &str, what: &str| {
            curves.iter().any(|curve| curve.what.starts_with(server) && curve.limit == Some(what))
        };
        for curve in curves {
            let is_limit = is_limit_of("", curve.what);
            // A limit has its colour in both panels.
            let colour = if is_limit { limits.next() } else { None };
            if !curve.what.starts_with(server) && !is_limit_of(server, curve.what) {
                continue;
            }
            let colour = if is_limit { colour } else { colours.next() };
            let name = curve.what.trim_start_matches(server).trim_start_matches(": ");
            let by = if curve.by == "our own" { String::new() } else { format!(" ({})", curve.by) };
            let points = curve.steps.iter().map(|step| (step.answered, step.p99_ms)).collect();
            let ring = curve.knee().map(|step| (step.answered, step.p99_ms));
            let colour = *colour.unwrap_or(&COLOURS[0]);
            panel.lines.push(Line { name: format!("{name}{by}"), colour, points, ring });
        }
        panel
    };
    picture::draw(file, &[panel("edge"), panel("central")])
}
