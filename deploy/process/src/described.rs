//! Metrics with what they mean: for those who scrape, and for what is generated from it.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use std::fmt::Write;

/// What Prometheus makes of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It stands where it stands.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    /// Returns Prometheus' name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What it is.
    pub kind: Kind,
    /// Its name; a histogram's without `_bucket`.
    pub name: &'static str,
    /// What it means, and its labels.
    pub help: &'static str,
}

impl Metric {
    /// Returns a counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Counter, name, help }
    }

    /// Returns a gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Gauge, name, help }
    }

    /// Returns a histogram.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Histogram, name, help }
    }

    /// Returns its lines HELP and TYPE, for metrics that are written by hand.
    pub fn head(&self) -> String {
        format!("# HELP {0} {1}\n# TYPE {0} {2}\n", self.name, self.help, self.kind.as_str())
    }
}

/// Describes metrics to the recorder in scope.
pub fn describe(metrics: &[Metric]) {
    for &Metric { kind, name, help } in metrics {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
    }
}

/// Returns metrics as lines of name, kind and meaning, with tabs between them.
pub fn table(metrics: &[Metric]) -> String {
    metrics.iter().fold(String::new(), |mut text, Metric { kind, name, help }| {
        // A string takes what is written to it.
        let _ = writeln!(text, "{name}\t{}\t{help}", kind.as_str());
        text
    })
}
