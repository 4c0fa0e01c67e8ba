//! Medians, ratios, the page and its picture.

use crate::cases::Case;
use crate::deltas::{Figures, Publish};
use crate::ials::Swept;
use anyhow::{Context, Result};
use plotters::prelude::*;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// What one method took on one host.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Short name of the case.
    pub(crate) case: &'static str,
    /// What the case is.
    pub(crate) title: String,
    /// Where it ran.
    pub(crate) host: &'static str,
    /// What ran.
    pub(crate) method: &'static str,
    /// Median, microseconds a call.
    pub(crate) median_us: f64,
    /// 99th percentile of the samples, microseconds.
    pub(crate) p99_us: f64,
    /// Samples.
    pub(crate) samples: usize,
    /// What its lists were found to be.
    #[serde(flatten)]
    pub(crate) checked: Checked,
}

/// What checking a method's lists found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Checked {
    /// Share of the exact best 20 that a peer finds.
    pub(crate) recall: Option<f64>,
    /// Share of the factors' bytes that a list reads.
    pub(crate) read: Option<f64>,
}

impl Row {
    /// Takes the samples of all rounds.
    pub(crate) fn new(
        case: &Case,
        host: &'static str,
        method: &'static str,
        checked: Checked,
        mut samples: Vec<f64>,
    ) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| {
            samples
                .get(((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1)))
                .copied()
                .unwrap_or(f64::NAN)
        };
        let (median_us, p99_us) = (at(0.5), at(0.99));
        Self {
            case: case.name,
            title: case.title.clone(),
            host,
            method,
            median_us,
            p99_us,
            samples: samples.len(),
            checked,
        }
    }
}

/// Lists of one host that were compared with every row scored and sorted; none of them differs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    /// What the case is.
    pub(crate) case: String,
    /// Where they were made.
    pub(crate) host: &'static str,
    /// How many.
    pub(crate) lists: usize,
}

/// All that a run measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Every method on every host.
    pub(crate) rows: Vec<Row>,
    /// Lists that were compared with every row scored, none of which differed.
    pub(crate) compared: Vec<Compared>,
    /// Figures of deltas.
    pub(crate) deltas: Option<Figures>,
    /// Figures of a publish.
    pub(crate) publish: Option<Publish>,
    /// What a page's load took, in Markdown.
    pub(crate) load: Option<String>,
    /// Sweeps of implicit ALS.
    pub(crate) swept: Vec<Swept>,
}

impl Report {
    fn median(&self, case: &str, host: &str, method: &str) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.case == case && row.host == host && row.method == method)
            .map(|row| row.median_us)
    }

    /// The peer of a method: what it is compared with in the last column.
    fn peers(row: &Row) -> Vec<(&'static str, &'static str)> {
        match (row.method, row.host) {
            ("cold" | "warm", _) if row.case == "million" => vec![(row.host, "stream")],
            ("cold" | "warm", "native" | "wasmtime") => {
                vec![("python", "faiss"), ("python", "panorama"), ("python", "implicit")]
            }
            ("cold" | "warm", host) => vec![(host, "onnx"), (host, "js_loop")],
            ("fold_in", host @ ("node" | "chromium")) => vec![(host, "js_fold_in")],
            _ => Vec::new(),
        }
    }

    /// The table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut title = "";
        for row in &self.rows {
            if row.title != title {
                title = &row.title;
                let _ = write!(
                    text,
                    "\n### {title}\n\n| host | method | median µs | p99 µs | bytes read | × faster than |\n|---|---|--:|--:|--:|---|\n"
                );
            }
            let ratios: Vec<String> = Self::peers(row)
                .into_iter()
                .filter_map(|(host, method)| {
                    let peer = self.median(row.case, host, method)?;
                    Some(format!("{method} {:.2}", peer / row.median_us))
                })
                .collect();
            let Checked { recall, read } = row.checked;
            let recall = recall.map_or(String::new(), |recall| format!("recall {recall:.3}"));
            let read = read.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share));
            let _ = writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {read} | {}{recall} |",
                row.host,
                row.method,
                row.median_us,
                row.p99_us,
                ratios.join(", ")
            );
        }
        if let Some(deltas) = &self.deltas {
            let _ = write!(
                text,
                "\n### Deltas of 20 events, d = 64\n\n{} bytes; the events and their rows as JSON take {} bytes ({:.0} ×). One core decodes, checks and sums {:.0} a second.\n",
                deltas.bytes,
                deltas.json_bytes,
                deltas.json_bytes as f64 / deltas.bytes as f64,
                deltas.a_second
            );
        }
        if let Some(publish) = &self.publish {
            let _ = write!(
                text,
                "\n### A publish, d = 64\n\n{} rows touched by {} deltas take {:.2} s on {} threads; the window holds {:.1} MB.\n",
                publish.rows,
                publish.deltas,
                publish.seconds,
                publish.threads,
                publish.window_bytes as f64 / 1e6
            );
        }
        if let Some(load) = &self.load {
            let _ = write!(text, "\n{load}");
        }
        if let Some(own) = self.swept.first() {
            text.push_str(
                "\n### Sweeps of implicit ALS, MovieLens 1M, d = 64\n\nThe same pairs, α0 = .3 and λ = .007 (implicit: the same mean ridge), as many threads; NDCG@10 of the item left out among 99, after 12 sweeps.\n\n| method | seconds a sweep | × | NDCG@10 |\n|---|--:|--:|--:|\n",
            );
            for swept in &self.swept {
                let Swept { method, seconds, ndcg10 } = swept;
                let _ = writeln!(
                    text,
                    "| {method} | {seconds:.3} | {:.2} | {ndcg10:.4} |",
                    seconds / own.seconds
                );
            }
        }
        if !self.compared.is_empty() {
            text.push_str("\n### Lists compared with every row scored and sorted: none differs\n\n| case | host | lists |\n|---|---|--:|\n");
            for Compared { case, host, lists } in &self.compared {
                let _ = writeln!(text, "| {case} | {host} | {lists} |");
            }
        }
        text
    }

    /// Writes the page and, beside it, its picture.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write_page(&self, page: &Path) -> Result<()> {
        let picture = page.with_extension("svg");
        std::fs::create_dir_all(page.parent().context("the page has no folder")?)?;
        std::fs::write(page, format!("{HEAD}\n{}{CHANGES}", self.table()))?;
        self.draw(&picture)
    }

    /// Bars of the lists' medians, on a logarithmic axis.
    fn draw(&self, picture: &Path) -> Result<()> {
        let shown: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| {
                matches!(row.case, "real" | "gaussian") && row.host != "wasmtime" && row.host != "chromium"
            })
            .collect();
        let longest = shown.iter().map(|row| row.median_us).fold(10.0, f64::max);
        let height = 60 + 24 * shown.len() as u32;
        let root = SVGBackend::new(picture, (860, height)).into_drawing_area();
        let fault =
            |error: &dyn std::fmt::Display| anyhow::anyhow!("cannot draw {}: {error}", picture.display());
        root.fill(&WHITE).map_err(|error| fault(&error))?;
        let style = ("sans-serif", 14).into_font();
        let title = "Microseconds a list of 20, whole catalogue (logarithmic; shorter is faster)";
        root.draw(&Text::new(title, (12, 12), ("sans-serif", 16).into_font()))
            .map_err(|error| fault(&error))?;
        for (at, row) in shown.iter().enumerate() {
            let y = 44 + 24 * at as i32;
            let width = (420.0 * row.median_us.max(1.0).ln() / longest.ln()) as i32;
            let own = matches!(row.method, "cold" | "warm");
            let colour = if own { RGBColor(20, 110, 180) } else { RGBColor(170, 170, 170) };
            root.draw(&Text::new(
                format!("{}: {} ({})", row.case, row.method, row.host),
                (12, y),
                style.clone(),
            ))
            .map_err(|error| fault(&error))?;
            root.draw(&Rectangle::new([(270, y), (270 + width.max(1), y + 16)], colour.filled()))
                .map_err(|error| fault(&error))?;
            root.draw(&Text::new(format!("{:.0}", row.median_us), (278 + width, y), style.clone()))
                .map_err(|error| fault(&error))?;
        }
        root.present().map_err(|error| fault(&error))
    }
}

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`. All methods run on one machine in interleaved rounds; the ratios count,
the absolute times are that machine's. Each call of a list is timed by itself; a host's first call of a round
finds its caches filled with the others' data, and is counted. `cold` is a list without a list before it, `warm` the
list after one more event; both with blend and without what the person has seen, the solve of the equations before
the clock starts. `observe` is all of it: one event, both solves, a list. The peers (onnxruntime-web: MatMul and
TopK; a tuned JavaScript loop; faiss IndexFlatIP and IndexFlatIPPanorama, implicit; one thread) rank the same rows in
f32 with a given user vector: no blend, no filter. `stream` reads the factors' bytes once; `bytes read` is how much
of them a list of the engine reads, in the mean. Before the rounds the engine's lists are compared to the bit, on
every host, with a scan of every row, and the peers' with a scan in f64 (recall).

![Microseconds a list](benchmarks.svg)
";

/// What single changes brought, from paired runs at the time of each.
const CHANGES: &str = "
## What single changes brought

As measured at the time of each change. Times of lists, publish and sweeps are paired runs of the builds before and
after; the scan was measured before against a slower `stream`, and the deltas in another run. The ratios to the peers
above depend on the machine's memory: where it is slow or shared, a peer that reads all rows in f32 loses most.

| change | natively | in V8 |
|---|---|---|
| blocks of 32 rows in pairs of dimensions, a lane a row, integer thresholds | a million rows: .37 → .88 of a stream | .27 → .67 |
| eigenbasis, rows ordered by norm and direction, tests after 8, 16, 32 dimensions | 43 % → 20 % of the bytes | the same |
| candidates in lanes of eight and only what has a weight, their blocks read once, one call of the kernel a block | 1.00 with warm caches, .85 of the time with cold ones | .88 of the time |
| ids in one text, keys as their own hash, packs read without copies | two thirds of a load are hashing now | |
| the window keeps deltas as they come | 134 µs → 1 µs a delta | |
| a publish folds and solves rows on all processors | .65 of the time on two | |
| sweeps add up four observations at once, in AVX2 without fused operations | about half of the time | |
| sweeps by conjugate gradients in the eigenbasis, from the last sweep's rows, until .003 | about a third of the time, the same loss | |

Without gain: AVX-512 VNNI; batches of 8 or 16 blocks at a stop; leading dimensions apart in memory; other stops (4 to 12
dimensions apart); fetching 1, 2, 8 or 16 blocks ahead; two steps at once or loads ahead of time in simd128 (1.05 to
1.08 × slower); boxes or balls around the leading 4 to 24 dimensions of a block (19 % of the bytes instead of 20 %); scaling
dimensions apart for the bounds (20 %). Norms of tails by row instead of by block would read 16 %.
";
