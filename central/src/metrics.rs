//! What central counts, for Prometheus.
//!
//! Each application has a recorder of its own, so that two of them in one process, as in tests, do
//! not count into one another.

use crate::publish::files::Served;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use nearfield_engine::merge::drift::{Cause, DIRECTIONS, Drift, DriftMonitor, mean_gain};
use nearfield_engine::sync::delta::RANK_BINS;
use nearfield_engine::{ModelVersion, RankBins, VersionMetrics};
use nearfield_process::{Metric, Process};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const METADATA: Metadata<'static> = Metadata::new("nearfield_central", Level::INFO, Some(module_path!()));

/// Upper bounds of the histograms, in seconds.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How often samples are folded where nobody asks for the metrics.
const UPKEEP: Duration = Duration::from_secs(5);

/// Written by hand, since its versions come and go.
const CHOSEN_RANK: Metric = Metric::counter(
    "nearfield_chosen_rank_total",
    "choices by the rank that the item had in the list just before, and by the version that made it",
);

/// What central tells of itself, beside [`nearfield_process::METRICS`].
pub const METRICS: [Metric; 27] = [
    CHOSEN_RANK,
    Metric::counter(
        "nearfield_choices_total",
        "choices by the rank that the item had in the list just before, of all versions",
    ),
    Metric::counter("nearfield_deltas_acknowledged_total", "deltas made durable and acknowledged"),
    Metric::counter("nearfield_deltas_duplicate_total", "deltas that were known already"),
    Metric::counter("nearfield_deltas_refused_total", "well-formed deltas refused, by reason"),
    Metric::counter(
        "nearfield_requests_rejected_total",
        "requests not taken, and device tokens refused, by code of the error",
    ),
    Metric::counter(
        "nearfield_dropped_rows_total",
        "rows whose contributions did not reach k devices: they waited too long, or too much waited",
    ),
    Metric::counter("nearfield_publishes_total", "model versions published"),
    Metric::counter(
        "nearfield_publish_holds_total",
        "versions held, since they would have moved too many rows too far",
    ),
    Metric::counter(
        "nearfield_drift_total",
        "changes of the quality that people see, by cause and direction",
    ),
    Metric::counter("nearfield_publish_errors_total", "model files or snapshots that could not be written"),
    Metric::gauge("nearfield_merge_lag_seconds", "age of the oldest delta in no published version"),
    Metric::gauge("nearfield_waiting_deltas", "deltas in no published version"),
    Metric::gauge("nearfield_publish_held", "1 while a version is held until the operator asks for it"),
    Metric::gauge("nearfield_waiting_rows", "rows that wait for more devices"),
    Metric::gauge("nearfield_model_version", "version served"),
    Metric::gauge("nearfield_model_rows", "rows of the model served"),
    Metric::gauge(
        "nearfield_published_timestamp_seconds",
        "when the version served was published, in Unix time",
    ),
    Metric::gauge(
        "nearfield_manifest_expires_timestamp_seconds",
        "until when the manifest holds, in Unix time",
    ),
    Metric::gauge("nearfield_log_length", "log entries since the last snapshot"),
    Metric::gauge("nearfield_quality_gain", "mean gain of the choices since the last change, 0 to 1"),
    Metric::gauge(
        "nearfield_quality_window",
        "deltas with choices since the last change, as far as the detector's window reaches",
    ),
    Metric::gauge("nearfield_store_healthy", "0 once the store has failed and writes have stopped"),
    Metric::histogram("nearfield_publish_seconds", "time that a publish took"),
    Metric::histogram("nearfield_commit_seconds", "time that a group commit took"),
    Metric::histogram("nearfield_commit_deltas", "deltas in one group commit"),
    Metric::histogram("nearfield_request_seconds", "time that a request took, by route and status"),
];

/// The metrics of one application.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    upkept: Mutex<Instant>,
    process: OnceLock<Process>,
    quality: Mutex<BTreeMap<ModelVersion, [u64; RANK_BINS]>>,
    monitor: Mutex<DriftMonitor>,
    quality_gain: Gauge,
    quality_window: Gauge,
    /// Model files or snapshots that could not be written.
    pub publish_errors: Counter,
    /// Deltas acknowledged.
    pub acknowledged: Counter,
    /// Deltas that were known already.
    pub duplicate: Counter,
    /// Versions published.
    pub publishes: Counter,
    /// Times that a version was held, since it would have moved too many rows too far.
    pub publish_holds: Counter,
    /// 1 while a version is held.
    pub publish_held: Gauge,
    /// Time that a publish took, in seconds.
    pub publish_seconds: Histogram,
    /// Time that one group commit took, in seconds.
    pub commit_seconds: Histogram,
    /// Deltas in one group commit.
    pub commit_deltas: Histogram,
    /// Age of the oldest delta that no published version contains, in seconds.
    pub merge_lag_seconds: Gauge,
    /// Deltas that no published version contains.
    pub waiting_deltas: Gauge,
    /// Rows that wait for more devices.
    pub waiting_rows: Gauge,
    /// Rows whose contributions waited too long for k devices.
    pub dropped_by_age: Counter,
    /// Rows whose contributions were dropped because too much waited.
    pub dropped_by_bytes: Counter,
    model_version: Gauge,
    model_rows: Gauge,
    published: Gauge,
    manifest_expires: Gauge,
    /// Log entries since the last snapshot.
    pub log_length: Gauge,
    /// 0 once the store has failed and writes have stopped.
    pub store_healthy: Gauge,
}

impl Metrics {
    /// Returns metrics that all stand at zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .and_then(|builder| {
                let deltas = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
                builder.set_buckets_for_metric(Matcher::Suffix("_commit_deltas".into()), &deltas)
            })
            .expect("the lists of bounds are not empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || nearfield_process::describe(&METRICS));
        let counter = |name: &'static str| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let gauge = |name: &'static str| recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let histogram =
            |name: &'static str| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let dropped = |cause| {
            let labels = vec![Label::from_static_parts("cause", cause)];
            recorder.register_counter(&Key::from_parts("nearfield_dropped_rows_total", labels), &METADATA)
        };
        let metrics = Self {
            acknowledged: counter("nearfield_deltas_acknowledged_total"),
            duplicate: counter("nearfield_deltas_duplicate_total"),
            publishes: counter("nearfield_publishes_total"),
            publish_holds: counter("nearfield_publish_holds_total"),
            publish_held: gauge("nearfield_publish_held"),
            publish_seconds: histogram("nearfield_publish_seconds"),
            commit_seconds: histogram("nearfield_commit_seconds"),
            commit_deltas: histogram("nearfield_commit_deltas"),
            merge_lag_seconds: gauge("nearfield_merge_lag_seconds"),
            waiting_deltas: gauge("nearfield_waiting_deltas"),
            waiting_rows: gauge("nearfield_waiting_rows"),
            dropped_by_age: dropped("age"),
            dropped_by_bytes: dropped("bytes"),
            model_version: gauge("nearfield_model_version"),
            model_rows: gauge("nearfield_model_rows"),
            published: gauge("nearfield_published_timestamp_seconds"),
            manifest_expires: gauge("nearfield_manifest_expires_timestamp_seconds"),
            log_length: gauge("nearfield_log_length"),
            store_healthy: gauge("nearfield_store_healthy"),
            publish_errors: counter("nearfield_publish_errors_total"),
            upkept: Mutex::new(Instant::now()),
            process: OnceLock::new(),
            quality: Mutex::default(),
            monitor: Mutex::default(),
            quality_gain: gauge("nearfield_quality_gain"),
            quality_window: gauge("nearfield_quality_window"),
            handle,
            recorder,
        };
        metrics.store_healthy.set(1.0);
        // At zero first: what begins with its first case has not risen.
        for rank in RankBins::NAMES {
            metrics.choices(rank).increment(0);
        }
        for cause in Cause::ALL {
            for direction in DIRECTIONS {
                metrics.drifted(cause.as_str(), direction).increment(0);
            }
        }
        metrics
    }

    /// Notes what is served from now on.
    pub(crate) fn served(&self, served: &Served) {
        self.model_version.set(served.version.0 as f64);
        self.model_rows.set(served.rows as f64);
        self.published.set(served.published_ms as f64 / 1000.0);
        self.manifest_expires.set(served.not_after_ms as f64 / 1000.0);
    }

    /// Watches this process, whose data lie in `data`, from now on.
    pub(crate) fn watch_process(&self, data: &Path) {
        let watch = || Process::watch("central", env!("CARGO_PKG_VERSION"), data);
        self.process.get_or_init(|| metrics::with_local_recorder(&self.recorder, watch));
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    /// Counts a refused delta by its reason.
    pub fn refused(&self, reason: &'static str) {
        self.counter("nearfield_deltas_refused_total", vec![Label::from_static_parts("reason", reason)])
            .increment(1);
    }

    /// Counts a request that was not taken at all, by the code of its error.
    pub fn rejected(&self, code: &'static str) {
        self.counter("nearfield_requests_rejected_total", vec![Label::from_static_parts("code", code)])
            .increment(1);
    }

    /// Counts the quality that a device saw under a model version. Versions outside of `kept` are
    /// ignored: a device may claim any number, and each would be a series for ever.
    pub fn quality(&self, quality: &VersionMetrics, kept: RangeInclusive<ModelVersion>) {
        if !kept.contains(&quality.version) {
            return;
        }
        let mut versions = self.quality.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = versions.entry(quality.version).or_default();
        for (sum, count) in sums.iter_mut().zip(quality.bins) {
            *sum += u64::from(count);
        }
        *versions = versions.split_off(kept.start());
        drop(versions);
        for (rank, count) in RankBins::NAMES.into_iter().zip(quality.bins) {
            self.choices(rank).increment(count.into());
        }
        self.watch(quality);
    }

    /// Takes one delta's quality under one version into the drift detector.
    fn watch(&self, quality: &VersionMetrics) {
        let Some(gain) = mean_gain(&quality.bins) else { return };
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let drift = monitor.observe(quality.version, gain);
        self.quality_gain.set(monitor.mean());
        self.quality_window.set(monitor.len() as f64);
        let Some(drift) = drift else { return };
        let Drift { cause, before, after, since, version } = drift;
        let (cause, direction) = (cause.as_str(), drift.direction());
        self.drifted(cause, direction).increment(1);
        tracing::warn!(cause, direction, before, after, since, %version, "the quality that people see has changed");
    }

    fn choices(&self, rank: &'static str) -> Counter {
        self.counter("nearfield_choices_total", vec![Label::from_static_parts("rank", rank)])
    }

    fn drifted(&self, cause: &'static str, direction: &'static str) -> Counter {
        let labels =
            vec![Label::from_static_parts("cause", cause), Label::from_static_parts("direction", direction)];
        self.counter("nearfield_drift_total", labels)
    }

    /// Returns the choices counted by rank bin, for each version kept.
    pub fn quality_by_version(&self) -> BTreeMap<ModelVersion, [u64; RANK_BINS]> {
        self.quality.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how long a request took.
    pub fn request(&self, route: &'static str, status: u16, seconds: f64) {
        let labels = vec![Label::from_static_parts("route", route), Label::new("status", status.to_string())];
        let key = Key::from_parts("nearfield_request_seconds", labels);
        self.recorder.register_histogram(&key, &METADATA).record(seconds);
    }

    /// Folds the samples of the histograms into their buckets now and then: where nobody asks for the metrics
    /// they would pile up.
    pub fn upkeep(&self) {
        let mut last = self.upkept.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= UPKEEP {
            self.handle.run_upkeep();
            *last = Instant::now();
        }
    }

    /// Returns everything as Prometheus text.
    pub fn render(&self) -> String {
        if let Some(process) = self.process.get() {
            metrics::with_local_recorder(&self.recorder, || process.collect());
        }
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        text.push_str(&CHOSEN_RANK.head());
        for (version, sums) in self.quality_by_version() {
            for (bin, sum) in RankBins::NAMES.into_iter().zip(sums) {
                text.push_str(&format!(
                    "nearfield_chosen_rank_total{{version=\"{version}\",rank=\"{bin}\"}} {sum}\n"
                ));
            }
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rendered_with_their_labels() {
        let metrics = Metrics::new();
        metrics.refused("stale");
        metrics.refused("stale");
        metrics.request("/v1/sync", 200, 0.01);
        let text = metrics.render();
        assert!(text.contains("nearfield_deltas_refused_total{reason=\"stale\"} 2"), "{text}");
        assert!(
            text.contains(
                "nearfield_request_seconds_bucket{route=\"/v1/sync\",status=\"200\",le=\"0.01\"} 1"
            ),
            "{text}"
        );
        assert!(!Metrics::new().render().contains("stale"));
    }

    #[test]
    fn a_version_that_fewer_choices_follow_raises_an_alarm_and_an_even_fleet_none() {
        for (later, alarms) in [([0, 0, 0, 0, 3], true), ([2, 0, 0, 0, 1], false)] {
            let metrics = Metrics::new();
            let kept = ModelVersion(1)..=ModelVersion(9);
            for _ in 0..600 {
                metrics.quality(
                    &VersionMetrics { version: ModelVersion(4), bins: [2, 0, 0, 0, 1] },
                    kept.clone(),
                );
            }
            for number in 0..600 {
                let seen = if number % 3 == 0 { (4, [2, 0, 0, 0, 1]) } else { (5, later) };
                metrics
                    .quality(&VersionMetrics { version: ModelVersion(seen.0), bins: seen.1 }, kept.clone());
            }
            let text = metrics.render();
            let alarm = text.contains("nearfield_drift_total{cause=\"version\",direction=\"worse\"} 1");
            assert_eq!(alarm, alarms, "{text}");
            let counted = |line: &&str| line.starts_with("nearfield_drift_total{") && !line.ends_with(" 0");
            assert_eq!(text.lines().filter(counted).count(), usize::from(alarms), "{text}");
            assert!(text.contains("nearfield_quality_gain "), "{text}");
        }
    }

    #[test]
    fn quality_is_kept_for_kept_versions_only() {
        let metrics = Metrics::new();
        let seen = |version| VersionMetrics { version: ModelVersion(version), bins: [1, 0, 0, 0, 2] };
        metrics.quality(&seen(3), ModelVersion(2)..=ModelVersion(4));
        metrics.quality(&seen(4), ModelVersion(2)..=ModelVersion(4));
        metrics.quality(&seen(9), ModelVersion(2)..=ModelVersion(4));
        let text = metrics.render();
        assert!(text.contains("nearfield_chosen_rank_total{version=\"3\",rank=\"beyond\"} 2"), "{text}");
        assert!(!text.contains("version=\"9\""), "{text}");
        metrics.quality(&seen(5), ModelVersion(4)..=ModelVersion(5));
        let kept: Vec<u64> = metrics.quality_by_version().keys().map(|version| version.0).collect();
        assert_eq!(kept, [4, 5]);
    }
}
