//! Counters, gauges and times, in Prometheus text. They belong to one [`crate::Edge`], not to the
//! process, so that two edges in one test do not count for one another.

use crate::service::fallback::Rung;
use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use nearfield_engine::sync::delta::RANK_BINS;
use nearfield_engine::{ModelVersion, RankBins};
use nearfield_process::{Metric, Process};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Upper bounds of the time buckets, in seconds (choice: from a tenth of a call to a slow disk).
const SECONDS: [f64; 9] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 1.0];

/// Newest versions whose lists and choices are counted one by one (choice: each is six series).
const VERSIONS_MAX: usize = 8;

// Written by hand, since their versions come and go.
const LISTS_BY_VERSION: Metric = Metric::counter(
    "nearfield_edge_lists_by_version_total",
    "live lists, by the version that ranked them, for the newest versions",
);
const CHOSEN_RANK: Metric = Metric::counter(
    "nearfield_edge_chosen_rank_total",
    "choices, by the version that made the list shown just before and the item's rank in it",
);

/// What an edge tells of itself, beside [`nearfield_process::METRICS`].
pub const METRICS: [Metric; 32] = [
    LISTS_BY_VERSION,
    CHOSEN_RANK,
    Metric::counter(
        "nearfield_edge_choices_total",
        "choices by the rank of the item in the list shown just before, of all versions",
    ),
    Metric::counter("nearfield_edge_events_total", "events, by what became of them"),
    Metric::counter(
        "nearfield_edge_refused_total",
        "requests that were not served, by the code of their error",
    ),
    Metric::counter("nearfield_edge_deltas_total", "deltas, by what central answered"),
    Metric::counter("nearfield_edge_sync_failures_total", "failures of sync, by reason"),
    Metric::counter("nearfield_edge_model_updates_total", "models put into service, by how they came"),
    Metric::counter("nearfield_edge_lists_total", "lists, by rung, and by the reason of a lower one"),
    Metric::counter(
        "nearfield_edge_conflicts_total",
        "writes of a user that met another host's and were done again",
    ),
    Metric::counter("nearfield_edge_guests_replaced_total", "guest instances given up after a trap"),
    Metric::counter("nearfield_edge_dead_letters_total", "records of streams that were put aside, by reason"),
    Metric::counter(
        "nearfield_edge_stream_waits_total",
        "waits of streams before a new try, by what did not answer",
    ),
    Metric::counter(
        "nearfield_edge_stream_rebalances_total",
        "changes of the partitions that this host owns",
    ),
    Metric::counter("nearfield_edge_feature_rows_total", "rows of features that were published"),
    Metric::counter(
        "nearfield_edge_feature_failures_total",
        "features that are not as in training: values out of its range, windows with too many missing or drifted",
    ),
    Metric::gauge(
        "nearfield_edge_central_up",
        "1 while the last round with central reached it, by what it was for",
    ),
    Metric::gauge("nearfield_edge_sync_lag_seconds", "how long the delta that is due longest has been due"),
    Metric::gauge("nearfield_edge_model_version", "version of the model in service"),
    Metric::gauge(
        "nearfield_edge_model_age_seconds",
        "age of the manifest that brought the model in service",
    ),
    Metric::gauge("nearfield_edge_manifest_age_seconds", "age of the manifest that was accepted last"),
    Metric::gauge(
        "nearfield_edge_manifest_expires_timestamp_seconds",
        "until when the manifest that was accepted last holds, in Unix time",
    ),
    Metric::gauge(
        "nearfield_edge_certificate_expires_timestamp_seconds",
        "until when the certificate that is served with holds, in Unix time",
    ),
    Metric::gauge(
        "nearfield_edge_stream_lag_events",
        "records of a partition that this host owns and has not committed yet",
    ),
    Metric::gauge(
        "nearfield_edge_stream_lag_seconds",
        "time since the oldest record of a partition that is under way was produced",
    ),
    Metric::gauge(
        "nearfield_edge_feature_psi",
        "population stability index of a feature beside training, of the last window",
    ),
    Metric::gauge(
        "nearfield_edge_feature_missing_share",
        "share of the events of the last window without a feature",
    ),
    Metric::gauge("nearfield_edge_users_quarantined", "users whose states made the guest trap twice"),
    Metric::histogram("nearfield_edge_call_seconds", "time of a served call, by verb"),
    Metric::histogram(
        "nearfield_edge_event_to_list_seconds",
        "time from an event's arrival to the list after it, by way",
    ),
    Metric::histogram(
        "nearfield_edge_produced_to_list_seconds",
        "time from an event's production to the list that follows from it",
    ),
    Metric::histogram("nearfield_edge_queue_seconds", "time that a call waited for its worker"),
];

/// The edge's metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    by_version: Mutex<BTreeMap<ModelVersion, Shown>>,
    process: OnceLock<Process>,
}

/// What became of the lists of one version.
#[derive(Default)]
struct Shown {
    lists: u64,
    /// Choices by the rank that the item had in the list shown just before.
    choices: [u64; RANK_BINS],
}

impl Default for Metrics {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("there is a bucket")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            nearfield_process::describe(&METRICS);
            // At zero first: what begins with its first case has not risen.
            for name in ["nearfield_edge_conflicts_total", "nearfield_edge_guests_replaced_total"] {
                counter!(name).increment(0);
            }
            for rank in RankBins::NAMES {
                counter!("nearfield_edge_choices_total", "rank" => rank).increment(0);
            }
            gauge!("nearfield_edge_users_quarantined").set(0.0);
        });
        Self { recorder, handle, by_version: Mutex::default(), process: OnceLock::new() }
    }
}

impl Metrics {
    /// Returns everything in Prometheus text.
    pub fn render(&self) -> String {
        if let Some(process) = self.process.get() {
            self.record(|| process.collect());
        }
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        let versions = self.by_version.lock().expect("no holder panics");
        text.push_str(&LISTS_BY_VERSION.head());
        for (version, Shown { lists, .. }) in versions.iter() {
            let _ = writeln!(text, "nearfield_edge_lists_by_version_total{{version=\"{version}\"}} {lists}");
        }
        text.push_str(&CHOSEN_RANK.head());
        for (version, Shown { choices, .. }) in versions.iter() {
            for (rank, count) in RankBins::NAMES.into_iter().zip(choices) {
                let _ = writeln!(
                    text,
                    "nearfield_edge_chosen_rank_total{{version=\"{version}\",rank=\"{rank}\"}} {count}"
                );
            }
        }
        text
    }

    fn of_version(&self, version: ModelVersion, count: impl FnOnce(&mut Shown)) {
        let mut versions = self.by_version.lock().expect("no holder panics");
        count(versions.entry(version).or_default());
        while versions.len() > VERSIONS_MAX {
            versions.pop_first();
        }
    }

    /// Folds the samples of the histograms into their buckets: where nobody asks for the metrics they would
    /// pile up.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn record(&self, record: impl FnOnce()) {
        with_local_recorder(&self.recorder, record);
    }

    /// Counts events by what became of them.
    pub(crate) fn events(&self, outcome: &'static str, count: u32) {
        self.record(|| counter!("nearfield_edge_events_total", "outcome" => outcome).increment(count.into()));
    }

    /// Counts a request that was not served.
    pub(crate) fn refused(&self, code: &'static str) {
        self.record(|| counter!("nearfield_edge_refused_total", "code" => code).increment(1));
    }

    /// Times a served request.
    pub(crate) fn served(&self, call: &'static str, time: Duration) {
        self.record(|| histogram!("nearfield_edge_call_seconds", "call" => call).record(time.as_secs_f64()));
    }

    /// Counts deltas by what central answered.
    pub(crate) fn delta(&self, outcome: &'static str) {
        self.record(|| counter!("nearfield_edge_deltas_total", "outcome" => outcome).increment(1));
    }

    /// Counts a failure of sync by its reason.
    pub(crate) fn sync_failed(&self, reason: &'static str) {
        self.record(|| counter!("nearfield_edge_sync_failures_total", "reason" => reason).increment(1));
    }

    /// Notes whether the last round with central reached it, for the model or for deltas.
    pub(crate) fn central_up(&self, what: &'static str, up: bool) {
        self.record(|| gauge!("nearfield_edge_central_up", "for" => what).set(if up { 1.0 } else { 0.0 }));
    }

    /// Notes how long the delta that is due longest has been due.
    pub(crate) fn sync_lag(&self, lag_ms: u64) {
        self.record(|| gauge!("nearfield_edge_sync_lag_seconds").set(lag_ms as f64 / 1000.0));
    }

    /// Notes the model that is served, and how it came.
    pub(crate) fn model(&self, version: ModelVersion, by: &'static str) {
        self.record(|| {
            gauge!("nearfield_edge_model_version").set(version.0 as f64);
            counter!("nearfield_edge_model_updates_total", "by" => by).increment(1);
        });
    }

    /// Counts a live list by the version that ranked it.
    pub(crate) fn shown(&self, version: ModelVersion) {
        self.of_version(version, |shown| shown.lists += 1);
    }

    /// Counts a choice by the version that had made the list, and the bin of the item's rank in it.
    pub(crate) fn chosen(&self, version: ModelVersion, bin: u8) {
        self.of_version(version, |shown| {
            if let Some(count) = shown.choices.get_mut(usize::from(bin)) {
                *count += 1;
            }
        });
        if let Some(&rank) = RankBins::NAMES.get(usize::from(bin)) {
            self.record(|| counter!("nearfield_edge_choices_total", "rank" => rank).increment(1));
        }
    }

    /// Watches this process, whose data lie in `data`, from now on.
    pub(crate) fn watch_process(&self, data: &Path) {
        let watch = || Process::watch("edge", env!("CARGO_PKG_VERSION"), data);
        self.process.get_or_init(|| with_local_recorder(&self.recorder, watch));
    }

    /// Notes until when the manifest that was accepted last holds, in Unix milliseconds.
    pub(crate) fn manifest_expires(&self, at_ms: u64) {
        self.record(|| {
            gauge!("nearfield_edge_manifest_expires_timestamp_seconds").set(at_ms as f64 / 1000.0);
        });
    }

    /// Notes until when the certificate that is served with holds, in Unix seconds.
    pub(crate) fn certificate_expires(&self, at: i64) {
        self.record(|| gauge!("nearfield_edge_certificate_expires_timestamp_seconds").set(at as f64));
    }

    /// Notes how old the model in service and central's last word on it are.
    pub(crate) fn ages(&self, model: Duration, manifest: Duration) {
        self.record(|| {
            gauge!("nearfield_edge_model_age_seconds").set(model.as_secs_f64());
            gauge!("nearfield_edge_manifest_age_seconds").set(manifest.as_secs_f64());
        });
    }

    /// Times how long events took from their arrival to the list after them, in one call or to a stream.
    pub(crate) fn event_to_list(&self, by: &'static str, time: Duration) {
        self.record(|| {
            histogram!("nearfield_edge_event_to_list_seconds", "by" => by).record(time.as_secs_f64());
        });
    }

    /// Times how long a call waited for its worker.
    pub(crate) fn queued(&self, time: Duration) {
        self.record(|| histogram!("nearfield_edge_queue_seconds").record(time.as_secs_f64()));
    }

    /// Counts a list by its rung, and by the reason where it is a lower one.
    pub(crate) fn list(&self, rung: Rung, reason: &'static str) {
        self.record(|| {
            counter!("nearfield_edge_lists_total", "rung" => rung.as_str(), "reason" => reason).increment(1);
        });
    }

    /// Counts a write that met another host's.
    pub(crate) fn conflict(&self) {
        self.record(|| counter!("nearfield_edge_conflicts_total").increment(1));
    }

    /// Moves the number of users who are quarantined.
    pub(crate) fn users_quarantined(&self, change: f64) {
        self.record(|| gauge!("nearfield_edge_users_quarantined").increment(change));
    }

    /// Counts a record that was put aside, by its reason.
    pub(crate) fn dead_letter(&self, reason: &'static str) {
        self.record(|| counter!("nearfield_edge_dead_letters_total", "reason" => reason).increment(1));
    }

    /// Counts a wait of the streams, by what did not answer.
    pub(crate) fn stream_waits(&self, what: &'static str) {
        self.record(|| counter!("nearfield_edge_stream_waits_total", "for" => what).increment(1));
    }

    /// Counts a change of the partitions that this host owns.
    pub(crate) fn rebalanced(&self, how: &'static str) {
        self.record(|| counter!("nearfield_edge_stream_rebalances_total", "partitions" => how).increment(1));
    }

    /// Notes how many records of a partition are not done and committed, and how long ago the oldest one under way was
    /// produced.
    pub(crate) fn stream_lag(&self, topic: &str, partition: i32, records: u64, age: Duration) {
        let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
        self.record(|| {
            gauge!("nearfield_edge_stream_lag_events", &labels).set(records as f64);
            gauge!("nearfield_edge_stream_lag_seconds", &labels).set(age.as_secs_f64());
        });
    }

    /// Times how long an event took from when it was produced to when the user's list follows from it.
    pub(crate) fn produced_to_list(&self, time: Duration) {
        self.record(|| histogram!("nearfield_edge_produced_to_list_seconds").record(time.as_secs_f64()));
    }

    /// Counts a row of features that was published.
    pub(crate) fn feature_row(&self) {
        self.record(|| counter!("nearfield_edge_feature_rows_total").increment(1));
    }

    /// Counts a failure of a feature beside what it was in training, by its reason: `range`, `missing`, `drift`.
    pub(crate) fn feature_failed(&self, feature: &'static str, reason: &'static str) {
        let labels = [("feature", feature), ("reason", reason)];
        self.record(|| counter!("nearfield_edge_feature_failures_total", &labels).increment(1));
    }

    /// Notes how a feature stood in the window that ended last.
    pub(crate) fn feature_window(&self, feature: &'static str, psi: f64, missing: f64) {
        self.record(|| {
            gauge!("nearfield_edge_feature_psi", "feature" => feature).set(psi);
            gauge!("nearfield_edge_feature_missing_share", "feature" => feature).set(missing);
        });
    }

    /// Counts an instance that was given up.
    pub(crate) fn guest_replaced(&self) {
        self.record(|| counter!("nearfield_edge_guests_replaced_total").increment(1));
    }
}
