//! What an operator watches about any process of Nearfield: its memory and processor, its open files, the disk under
//! its data, and which version it is.
//!
//! [`Metric`] is how each part says what its own metrics mean.
//!
//! Names and units follow Prometheus' own (`process_…`); what those lack begins with `nearfield_process_`.

mod described;

pub use described::{Kind, Metric, describe, table};

use metrics::gauge;
use metrics_process::Collector;
use std::path::{Path, PathBuf};

/// Where Linux says how much memory a container may take, by the version of its control groups.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What is told of a process.
pub const METRICS: [Metric; 12] = [
    Metric::gauge("nearfield_process_info", "1, with the part of Nearfield and its version"),
    Metric::gauge(
        "nearfield_process_memory_limit_bytes",
        "memory that the process may take: its container's, else the machine's",
    ),
    Metric::gauge("nearfield_process_data_bytes", "bytes of the files in the data folder"),
    Metric::gauge("nearfield_process_disk_free_bytes", "bytes that are free on the disk of the data folder"),
    Metric::gauge("nearfield_process_disk_size_bytes", "bytes of the disk of the data folder"),
    Metric::counter("process_cpu_seconds_total", "processor time, in user and in system mode"),
    Metric::gauge("process_open_fds", "open file descriptors"),
    Metric::gauge("process_max_fds", "file descriptors that may be open"),
    Metric::gauge("process_virtual_memory_bytes", "virtual memory"),
    Metric::gauge("process_resident_memory_bytes", "resident memory"),
    Metric::gauge("process_start_time_seconds", "when the process was started, in Unix time"),
    Metric::gauge("process_threads", "threads"),
];

/// What is watched of this process.
pub struct Process {
    collector: Collector,
    /// The folder of its data.
    data: PathBuf,
    /// Most memory that it may take, in bytes.
    memory_limit: Option<u64>,
}

impl Process {
    /// Begins to watch this process, whose data lie in `data`, and describes its metrics to the recorder in scope.
    pub fn watch(part: &'static str, version: &'static str, data: &Path) -> Self {
        describe(&METRICS);
        gauge!("nearfield_process_info", "part" => part, "version" => version).set(1.0);
        Self { collector: Collector::default(), data: data.to_owned(), memory_limit: memory_limit() }
    }

    /// Brings the metrics up to now, in the recorder in scope. What the system does not tell is left out.
    pub fn collect(&self) {
        self.collector.collect();
        if let Some(bytes) = self.memory_limit {
            gauge!("nearfield_process_memory_limit_bytes").set(bytes as f64);
        }
        gauge!("nearfield_process_data_bytes").set(bytes_below(&self.data) as f64);
        if let Ok(disk) = rustix::fs::statvfs(&self.data) {
            let bytes = |blocks: u64| (blocks * disk.f_frsize) as f64;
            // What is kept back for root is not free to anyone else.
            gauge!("nearfield_process_disk_free_bytes").set(bytes(disk.f_bavail));
            gauge!("nearfield_process_disk_size_bytes").set(bytes(disk.f_blocks));
        }
    }
}

/// Returns the container's limit where it has one, else the machine's memory.
fn memory_limit() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_memory(&text));
    let container =
        MEMORY_LIMITS.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    // Without a limit the older control groups name a number beyond any machine.
    [container, machine].into_iter().flatten().min()
}

/// Reads the first line of `/proc/meminfo`, which is in KiB.
fn machine_memory(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes_below(&entry.path()),
        Ok(of) => of.len(),
        // It was removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_process_tells_of_its_memory_and_disk() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("models")).unwrap();
        std::fs::write(data.path().join("models/1.pack"), [0; 1000]).unwrap();
        std::fs::write(data.path().join("store"), [0; 24]).unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let text = metrics::with_local_recorder(&recorder, || {
            Process::watch("edge", "0.1.0", data.path()).collect();
            recorder.handle().render()
        });
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
                .split(' ')
                .next_back()
                .unwrap()
                .parse()
                .unwrap()
        };
        assert_eq!(value("nearfield_process_data_bytes "), 1024.0);
        assert_eq!(value("nearfield_process_info{part=\"edge\",version=\"0.1.0\"}"), 1.0);
        let (free, size) =
            (value("nearfield_process_disk_free_bytes"), value("nearfield_process_disk_size_bytes"));
        assert!(0.0 < free && free < size, "{free} of {size}");
        let (memory, limit) =
            (value("process_resident_memory_bytes"), value("nearfield_process_memory_limit_bytes"));
        assert!(0.0 < memory && memory < limit, "{memory} of {limit}");
        assert!(value("process_open_fds") > 2.0);
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(machine_memory("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
        assert_eq!(machine_memory(""), None);
    }
}
