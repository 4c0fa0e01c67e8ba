//! Grafana's dashboards, made from the panels below and from what each metric says of itself.
//!
//! `cargo xtask deploy --dashboards` writes `deploy/grafana/`; the check compares.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::metrics::{Meanings, series};
use crate::paths;

/// A row of panels has this many columns.
const COLUMNS: u64 = 24;
const PANEL_WIDTH: u64 = 8;
const PANEL_HEIGHT: u64 = 8;

struct Dashboard {
    name: &'static str,
    title: &'static str,
    panels: &'static [Panel],
}

/// One picture.
struct Panel {
    title: &'static str,
    /// Grafana's name of the unit.
    unit: &'static str,
    /// What a line is called, and its query. `S` stands for the chosen sites, `I` for the time that rates are over.
    queries: &'static [(&'static str, &'static str)],
}

const fn panel(
    title: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, unit, queries }
}

const DASHBOARDS: [Dashboard; 5] = [
    Dashboard {
        name: "overview",
        title: "Nearfield: overview",
        panels: &[
            panel(
                "Processes",
                "short",
                &[("{{part}} {{version}}", "sum by (part, version) (nearfield_process_info{S})")],
            ),
            panel(
                "Lists by rung",
                "reqps",
                &[("{{rung}}", "sum by (rung) (rate(nearfield_edge_lists_total{S}[I]))")],
            ),
            panel(
                "Events by outcome",
                "cps",
                &[("{{outcome}}", "sum by (outcome) (rate(nearfield_edge_events_total{S}[I]))")],
            ),
            panel(
                "From event to list",
                "s",
                &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(nearfield_edge_event_to_list_seconds_bucket{S}[I])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(nearfield_edge_event_to_list_seconds_bucket{S}[I])))",
                    ),
                ],
            ),
            panel(
                "Lists that are not live",
                "percentunit",
                &[(
                    "share",
                    "1 - sum(rate(nearfield_edge_lists_total{S,rung=\"live\"}[I])) / sum(rate(nearfield_edge_lists_total{S}[I]))",
                )],
            ),
            panel(
                "Model version",
                "short",
                &[
                    ("central", "max(nearfield_model_version{S})"),
                    ("oldest at an edge", "min(nearfield_edge_model_version{S})"),
                    ("newest at an edge", "max(nearfield_edge_model_version{S})"),
                ],
            ),
            panel(
                "Deltas acknowledged",
                "cps",
                &[("deltas", "sum(rate(nearfield_deltas_acknowledged_total{S}[I]))")],
            ),
            panel(
                "Hit rate at 10, by version",
                "percentunit",
                &[(
                    "{{version}}",
                    "sum by (version) (nearfield_chosen_rank_total{S,rank=~\"1|2-5|6-10\"}) / (sum by (version) (nearfield_chosen_rank_total{S}) > 0)",
                )],
            ),
            panel(
                "Click-through, by version",
                "percentunit",
                &[(
                    "{{version}}",
                    "sum by (version) (nearfield_edge_chosen_rank_total{S,rank!=\"beyond\"}) / (sum by (version) (nearfield_edge_lists_by_version_total{S}) > 0)",
                )],
            ),
            panel("Processor", "short", &[("{{instance}}", "rate(process_cpu_seconds_total{S}[I])")]),
            panel(
                "Memory of what a process may take",
                "percentunit",
                &[(
                    "{{instance}}",
                    "process_resident_memory_bytes{S} / nearfield_process_memory_limit_bytes{S}",
                )],
            ),
            panel(
                "Disk that is free",
                "percentunit",
                &[(
                    "{{instance}}",
                    "nearfield_process_disk_free_bytes{S} / nearfield_process_disk_size_bytes{S}",
                )],
            ),
        ],
    },
    Dashboard {
        name: "serving",
        title: "Nearfield: serving",
        panels: &[
            panel(
                "Calls",
                "reqps",
                &[("{{call}}", "sum by (call) (rate(nearfield_edge_call_seconds_count{S}[I]))")],
            ),
            panel(
                "Time of a call, p99",
                "s",
                &[(
                    "{{call}}",
                    "histogram_quantile(0.99, sum by (call, le) (rate(nearfield_edge_call_seconds_bucket{S}[I])))",
                )],
            ),
            panel(
                "From event to list, p99",
                "s",
                &[(
                    "{{by}}",
                    "histogram_quantile(0.99, sum by (by, le) (rate(nearfield_edge_event_to_list_seconds_bucket{S}[I])))",
                )],
            ),
            panel(
                "Wait for a worker",
                "s",
                &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(nearfield_edge_queue_seconds_bucket{S}[I])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(nearfield_edge_queue_seconds_bucket{S}[I])))",
                    ),
                ],
            ),
            panel(
                "Lists by rung and reason",
                "reqps",
                &[("{{rung}} {{reason}}", "sum by (rung, reason) (rate(nearfield_edge_lists_total{S}[I]))")],
            ),
            panel(
                "Requests not served",
                "reqps",
                &[("{{code}}", "sum by (code) (rate(nearfield_edge_refused_total{S}[I]))")],
            ),
            panel(
                "Guest instances given up",
                "short",
                &[(
                    "{{instance}}",
                    "sum by (instance) (increase(nearfield_edge_guests_replaced_total{S}[1h]))",
                )],
            ),
            panel("Users in quarantine", "short", &[("users", "sum(nearfield_edge_users_quarantined{S})")]),
            panel(
                "Writes that met another host's",
                "cps",
                &[("{{instance}}", "sum by (instance) (rate(nearfield_edge_conflicts_total{S}[I]))")],
            ),
            panel(
                "Lists by model version",
                "reqps",
                &[("{{version}}", "sum by (version) (rate(nearfield_edge_lists_by_version_total{S}[I]))")],
            ),
            panel(
                "Choices by rank",
                "cps",
                &[("{{rank}}", "sum by (rank) (rate(nearfield_edge_choices_total{S}[I]))")],
            ),
            panel("Resident memory", "bytes", &[("{{instance}}", "process_resident_memory_bytes{S}")]),
            panel("Data on disk", "bytes", &[("{{instance}}", "nearfield_process_data_bytes{S}")]),
            panel("Open files", "short", &[("{{instance}}", "process_open_fds{S}")]),
            panel(
                "Certificates end in",
                "s",
                &[("{{instance}}", "nearfield_edge_certificate_expires_timestamp_seconds{S} - time()")],
            ),
        ],
    },
    Dashboard {
        name: "learning",
        title: "Nearfield: learning",
        panels: &[
            panel(
                "Deltas at central",
                "cps",
                &[
                    ("acknowledged", "sum(rate(nearfield_deltas_acknowledged_total{S}[I]))"),
                    ("known already", "sum(rate(nearfield_deltas_duplicate_total{S}[I]))"),
                ],
            ),
            panel(
                "Deltas refused",
                "cps",
                &[("{{reason}}", "sum by (reason) (rate(nearfield_deltas_refused_total{S}[I]))")],
            ),
            panel(
                "Deltas of edges, by central's answer",
                "cps",
                &[("{{outcome}}", "sum by (outcome) (rate(nearfield_edge_deltas_total{S}[I]))")],
            ),
            panel("Oldest delta in no version", "s", &[("age", "max(nearfield_merge_lag_seconds{S})")]),
            panel("Deltas in no version", "short", &[("deltas", "sum(nearfield_waiting_deltas{S})")]),
            panel(
                "Oldest delta due at an edge",
                "s",
                &[("{{instance}}", "nearfield_edge_sync_lag_seconds{S}")],
            ),
            panel(
                "Versions an hour",
                "short",
                &[
                    ("published", "sum(rate(nearfield_publishes_total{S}[I])) * 3600"),
                    ("held", "sum(rate(nearfield_publish_holds_total{S}[I])) * 3600"),
                    ("not written", "sum(rate(nearfield_publish_errors_total{S}[I])) * 3600"),
                ],
            ),
            panel(
                "Time of a publish",
                "s",
                &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(nearfield_publish_seconds_bucket{S}[I])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(nearfield_publish_seconds_bucket{S}[I])))",
                    ),
                ],
            ),
            panel("A version is held", "short", &[("held", "max(nearfield_publish_held{S})")]),
            panel(
                "Age of the published version",
                "s",
                &[("age", "time() - max(nearfield_published_timestamp_seconds{S})")],
            ),
            panel(
                "Manifest holds for",
                "s",
                &[
                    ("central", "min(nearfield_manifest_expires_timestamp_seconds{S}) - time()"),
                    ("edges", "min(nearfield_edge_manifest_expires_timestamp_seconds{S}) - time()"),
                ],
            ),
            panel(
                "Age of an edge's model and manifest",
                "s",
                &[
                    ("model, {{instance}}", "nearfield_edge_model_age_seconds{S}"),
                    ("manifest, {{instance}}", "nearfield_edge_manifest_age_seconds{S}"),
                ],
            ),
            panel(
                "Edges reach central",
                "short",
                &[("{{for}}", "min by (for) (nearfield_edge_central_up{S})")],
            ),
            panel(
                "Failures of sync",
                "cps",
                &[("{{reason}}", "sum by (reason) (rate(nearfield_edge_sync_failures_total{S}[I]))")],
            ),
            panel(
                "Models put into service",
                "cps",
                &[("{{by}}", "sum by (by) (rate(nearfield_edge_model_updates_total{S}[I]))")],
            ),
            panel(
                "Group commit",
                "s",
                &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(nearfield_commit_seconds_bucket{S}[I])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(nearfield_commit_seconds_bucket{S}[I])))",
                    ),
                ],
            ),
            panel(
                "Deltas in a group commit",
                "short",
                &[(
                    "mean",
                    "sum(rate(nearfield_commit_deltas_sum{S}[I])) / sum(rate(nearfield_commit_deltas_count{S}[I]))",
                )],
            ),
            panel("Log entries since the snapshot", "short", &[("entries", "max(nearfield_log_length{S})")]),
            panel(
                "Requests to central",
                "reqps",
                &[(
                    "{{route}} {{status}}",
                    "sum by (route, status) (rate(nearfield_request_seconds_count{S}[I]))",
                )],
            ),
            panel(
                "Time of a request to central, p99",
                "s",
                &[(
                    "{{route}}",
                    "histogram_quantile(0.99, sum by (route, le) (rate(nearfield_request_seconds_bucket{S}[I])))",
                )],
            ),
            panel("Rows of the model", "short", &[("rows", "max(nearfield_model_rows{S})")]),
            panel("Mean gain of the choices", "percentunit", &[("gain", "max(nearfield_quality_gain{S})")]),
            panel(
                "Deltas that the detector looks at",
                "short",
                &[("window", "max(nearfield_quality_window{S})")],
            ),
            panel(
                "Changes of quality",
                "short",
                &[(
                    "{{cause}} {{direction}}",
                    "sum by (cause, direction) (increase(nearfield_drift_total{S}[1h]))",
                )],
            ),
        ],
    },
    Dashboard {
        name: "streams",
        title: "Nearfield: streams",
        panels: &[
            panel(
                "Records behind",
                "short",
                &[(
                    "{{topic}} {{partition}}",
                    "sum by (topic, partition) (nearfield_edge_stream_lag_events{S})",
                )],
            ),
            panel(
                "Age of the oldest record under way",
                "s",
                &[(
                    "{{topic}} {{partition}}",
                    "max by (topic, partition) (nearfield_edge_stream_lag_seconds{S})",
                )],
            ),
            panel(
                "Events by outcome",
                "cps",
                &[("{{outcome}}", "sum by (outcome) (rate(nearfield_edge_events_total{S}[I]))")],
            ),
            panel(
                "From production to list",
                "s",
                &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(nearfield_edge_produced_to_list_seconds_bucket{S}[I])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(nearfield_edge_produced_to_list_seconds_bucket{S}[I])))",
                    ),
                ],
            ),
            panel(
                "Dead letters",
                "short",
                &[("{{reason}}", "sum by (reason) (nearfield_edge_dead_letters_total{S})")],
            ),
            panel(
                "Waits",
                "cps",
                &[("{{for}}", "sum by (for) (rate(nearfield_edge_stream_waits_total{S}[I]))")],
            ),
            panel(
                "Partitions that change hands",
                "short",
                &[("{{partitions}}", "sum by (partitions) (nearfield_edge_stream_rebalances_total{S})")],
            ),
            panel(
                "Rows of features",
                "cps",
                &[("rows", "sum(rate(nearfield_edge_feature_rows_total{S}[I]))")],
            ),
            panel(
                "Features that are not as in training",
                "cps",
                &[(
                    "{{feature}} {{reason}}",
                    "sum by (feature, reason) (rate(nearfield_edge_feature_failures_total{S}[I]))",
                )],
            ),
            panel(
                "Population stability index",
                "short",
                &[("{{feature}}", "max by (feature) (nearfield_edge_feature_psi{S})")],
            ),
            panel(
                "Events without a feature",
                "percentunit",
                &[("{{feature}}", "max by (feature) (nearfield_edge_feature_missing_share{S})")],
            ),
        ],
    },
    Dashboard {
        name: "privacy",
        title: "Nearfield: privacy",
        panels: &[
            panel("Rows that wait for more devices", "short", &[("rows", "max(nearfield_waiting_rows{S})")]),
            panel(
                "Rows dropped before k devices",
                "short",
                &[("{{cause}}", "sum by (cause) (increase(nearfield_dropped_rows_total{S}[1h]))")],
            ),
            panel(
                "Deltas taken",
                "cps",
                &[("deltas", "sum(rate(nearfield_deltas_acknowledged_total{S}[I]))")],
            ),
            panel(
                "Device tokens asked for",
                "reqps",
                &[(
                    "{{status}}",
                    "sum by (status) (rate(nearfield_request_seconds_count{S,route=\"/v1/device\"}[I]))",
                )],
            ),
            panel(
                "Requests that central did not take",
                "reqps",
                &[("{{code}}", "sum by (code) (rate(nearfield_requests_rejected_total{S}[I]))")],
            ),
            panel("Log entries that hold deltas", "short", &[("entries", "max(nearfield_log_length{S})")]),
            panel(
                "People who saw, or deleted, what is known of them",
                "reqps",
                &[(
                    "{{call}}",
                    "sum by (call) (rate(nearfield_edge_call_seconds_count{S,call=~\"export|erase\"}[I]))",
                )],
            ),
            panel(
                "Callers without the right",
                "reqps",
                &[(
                    "{{code}}",
                    "sum by (code) (rate(nearfield_edge_refused_total{S,code=~\"unauthorized|forbidden|foreign_user\"}[I]))",
                )],
            ),
            panel("Data on disk", "bytes", &[("{{instance}}", "nearfield_process_data_bytes{S}")]),
        ],
    },
];

/// Writes the dashboards.
///
/// # Errors
/// When a panel's metric is no program's, or a file cannot be written.
pub(super) fn write() -> Result<()> {
    for (path, text) in made()? {
        std::fs::write(&path, text)?;
        println!("{}", paths::short(&path));
    }
    Ok(())
}

/// Compares what is checked in with what would be written.
///
/// # Errors
/// Names the file that differs.
pub(super) fn check() -> Result<()> {
    for (path, text) in made()? {
        ensure!(
            std::fs::read_to_string(&path).is_ok_and(|held| held == text),
            "{} is not as it would be written: run `cargo xtask deploy --dashboards`",
            paths::short(&path)
        );
    }
    Ok(())
}

fn made() -> Result<Vec<(PathBuf, String)>> {
    let meanings = Meanings::of_programs()?;
    let folder = paths::root().join("deploy/grafana");
    let file = |dashboard: &Dashboard| {
        let json = dashboard.json(&meanings).with_context(|| format!("dashboard {}", dashboard.name))?;
        let text = serde_json::to_string_pretty(&json)? + "\n";
        Ok((folder.join(format!("{}.json", dashboard.name)), text))
    };
    DASHBOARDS.iter().map(file).collect()
}

impl Dashboard {
    fn json(&self, meanings: &Meanings) -> Result<Value> {
        let mut panels = Vec::new();
        for (panel, index) in self.panels.iter().zip(0..) {
            panels.push(panel.json(index, meanings)?);
        }
        let variable = |name: &str, label: &str, more: Value| {
            let mut variable = json!({ "name": name, "label": label, "hide": 0 });
            if let (Some(variable), Some(more)) = (variable.as_object_mut(), more.as_object()) {
                variable.extend(more.clone());
            }
            variable
        };
        Ok(json!({
            "uid": format!("nearfield-{}", self.name),
            "title": self.title,
            "tags": ["nearfield"],
            "schemaVersion": 39,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": { "from": "now-1h", "to": "now" },
            "links": [{ "type": "dashboards", "tags": ["nearfield"], "asDropdown": false, "title": "" }],
            "templating": { "list": [
                variable("datasource", "Prometheus", json!({ "type": "datasource", "query": "prometheus" })),
                variable("site", "Site", json!({
                    "type": "query",
                    "datasource": { "type": "prometheus", "uid": "${datasource}" },
                    "query": { "query": "label_values(nearfield_process_info, site)", "refId": "site" },
                    "refresh": 2,
                    "multi": true,
                    "includeAll": true,
                    // Where no scrape sets the label, too.
                    "allValue": ".*",
                    "current": { "text": "All", "value": "$__all" },
                })),
            ] },
            "panels": panels,
        }))
    }
}

impl Panel {
    fn json(&self, index: u64, meanings: &Meanings) -> Result<Value> {
        let mut targets = Vec::new();
        let mut description = Vec::new();
        for ((legend, query), letter) in self.queries.iter().zip('A'..) {
            let expression = query
                .replace("{S}", "{site=~\"$site\"}")
                .replace("{S,", "{site=~\"$site\",")
                .replace("[I]", "[$__rate_interval]");
            targets.push(json!({
                "refId": letter.to_string(),
                "datasource": { "type": "prometheus", "uid": "${datasource}" },
                "expr": expression,
                "legendFormat": legend,
            }));
            for name in series(query) {
                let (name, meaning) = meanings.get(name)?;
                let line = format!("`{name}`: {meaning}.");
                if !description.contains(&line) {
                    description.push(line);
                }
            }
        }
        let columns = COLUMNS / PANEL_WIDTH;
        Ok(json!({
            "id": index + 1,
            "type": "timeseries",
            "title": self.title,
            "description": description.join("\n\n"),
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "gridPos": {
                "x": index % columns * PANEL_WIDTH,
                "y": index / columns * PANEL_HEIGHT,
                "w": PANEL_WIDTH,
                "h": PANEL_HEIGHT,
            },
            "fieldConfig": {
                "defaults": { "unit": self.unit, "min": 0, "custom": { "lineWidth": 2, "fillOpacity": 8, "showPoints": "never" } },
                "overrides": [],
            },
            "options": { "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } },
            "targets": targets,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_says_what_its_metrics_mean() {
        let meanings = Meanings::of("nearfield_x_seconds", "time of x");
        let x = panel(
            "X",
            "s",
            &[("p99", "histogram_quantile(0.99, rate(nearfield_x_seconds_bucket{S,a=\"b\"}[I]))")],
        );
        let json = x.json(4, &meanings).unwrap();
        assert_eq!(json["description"], "`nearfield_x_seconds`: time of x.");
        let expected = "histogram_quantile(0.99, rate(nearfield_x_seconds_bucket{site=~\"$site\",a=\"b\"}[$__rate_interval]))";
        assert_eq!(json["targets"][0]["expr"], expected);
        assert_eq!((&json["gridPos"]["x"], &json["gridPos"]["y"]), (&json!(8), &json!(8)));
        let refused = panel("Y", "s", &[("y", "nearfield_y{S}")]).json(0, &meanings).unwrap_err();
        assert_eq!(refused.to_string(), "no program tells nearfield_y");
    }
}
