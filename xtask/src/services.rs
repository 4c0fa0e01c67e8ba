//! `cargo xtask services up | down | status`: real servers to try an edge with: Kafka and Redis, and more by `--with`.
//!
//! `target/services/services.json` says where each listens, and which process it is: its number, and when it started,
//! so that `down` ends no other process that has the number by then.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use nearfield_services::{CONFLUENT_PATH, Server, StartError};
use serde_json::{Value, json};

use crate::{jars, paths, tools};

/// Longest wait for a server to end (choice: Redis flushes its file first).
const DOWN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(crate) enum What {
    /// Start those that are not up; they live until `down`
    Up {
        /// Further servers, separated by commas
        #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
        with: Vec<Service>,
    },
    /// Stop those that `up` started
    Down,
    /// Say which are up, and where
    Status,
}

/// A server that can be started.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// A broker of one node
    Kafka,
    /// Users, and models
    Redis,
    /// A cache of users
    Memcached,
    /// Metrics; what it scrapes stands in target/services/prometheus/targets.json
    Prometheus,
    /// A schema registry
    Apicurio,
}

impl Service {
    /// Those that are always started.
    const ALWAYS: [Self; 2] = [Self::Kafka, Self::Redis];

    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
            Self::Prometheus => "prometheus",
            Self::Apicurio => "apicurio",
        }
    }

    /// Gets what it needs here.
    fn need(self) -> Result<()> {
        match self {
            Self::Kafka => jars::KAFKA.need(),
            Self::Apicurio => jars::APICURIO.need(),
            Self::Redis | Self::Memcached => tools::need_servers(),
            Self::Prometheus => tools::find_or_install(|| tools::find("prometheus"), &["prometheus"])?
                .map(|_| ())
                .context("prometheus is missing: run `apt-get install prometheus` as root"),
        }
    }

    fn start(self) -> Result<Server, StartError> {
        let folder = folder().join(self.name());
        match self {
            Self::Kafka => Server::kafka_in(&folder),
            Self::Redis => Server::redis_in(&folder),
            Self::Memcached => Server::memcached_in(&folder),
            Self::Prometheus => Server::prometheus_in(&folder),
            Self::Apicurio => Server::apicurio_in(&folder),
        }
    }

    /// What an option of the edge takes.
    fn address(self, endpoint: &str) -> String {
        match self {
            Self::Kafka | Self::Memcached => endpoint.to_owned(),
            Self::Redis => format!("redis://{endpoint}"),
            Self::Prometheus => format!("http://{endpoint}"),
            Self::Apicurio => format!("http://{endpoint}{CONFLUENT_PATH}"),
        }
    }
}

/// A server that `up` started.
struct Running {
    name: String,
    endpoint: String,
    pid: u32,
    started: String,
}

impl Running {
    /// Whether the process is still the one that was started.
    fn is_up(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }
}

pub(crate) fn run(what: &What) -> Result<ExitCode> {
    let up: Vec<Running> = read()?.into_iter().filter(Running::is_up).collect();
    let up = match what {
        What::Up { with } => start_missing(up, with)?,
        What::Down => stop(up)?,
        What::Status => up,
    };
    write(&up)?;
    for server in &up {
        println!("{} {} pid {}", server.name, server.endpoint, server.pid);
    }
    if up.is_empty() {
        println!("no server is up");
    }
    Ok(ExitCode::SUCCESS)
}

fn start_missing(mut up: Vec<Running>, with: &[Service]) -> Result<Vec<Running>> {
    for service in Service::ALWAYS.iter().chain(with) {
        let name = service.name();
        if up.iter().any(|server| server.name == name) {
            continue;
        }
        service.need()?;
        let server = service.start().with_context(|| format!("{name} did not start"))?;
        let pid = server.pid().context("a server that answered is a process")?;
        let started = started(pid).with_context(|| format!("{name} ended at once"))?;
        let endpoint = service.address(&server.endpoint());
        server.leave();
        up.push(Running { name: name.to_owned(), endpoint, pid, started });
        // What is up is written down before the next one may fail.
        write(&up)?;
    }
    Ok(up)
}

/// Asks each to end, and waits for it.
fn stop(up: Vec<Running>) -> Result<Vec<Running>> {
    for server in &up {
        Command::new("kill").arg(server.pid.to_string()).status().context("cannot run kill")?;
    }
    let until = Instant::now() + DOWN_WITHIN;
    while up.iter().any(Running::is_up) {
        if Instant::now() > until {
            let names: Vec<&str> =
                up.iter().filter(|server| server.is_up()).map(|server| server.name.as_str()).collect();
            bail!("{} did not end within {} s", names.join(", "), DOWN_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    up.iter().for_each(|server| println!("stopped {}", server.name));
    Ok(Vec::new())
}

fn folder() -> PathBuf {
    paths::root().join("target/services")
}

fn read() -> Result<Vec<Running>> {
    let file = folder().join("services.json");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(Vec::new()) };
    let listed: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
    let servers = listed["services"].as_array().cloned().unwrap_or_default();
    Ok(servers
        .iter()
        .filter_map(|server| {
            let text = |field: &str| server[field].as_str().map(str::to_owned);
            let pid = u32::try_from(server["pid"].as_u64()?).ok()?;
            Some(Running { name: text("name")?, endpoint: text("endpoint")?, pid, started: text("started")? })
        })
        .collect())
}

fn write(up: &[Running]) -> Result<()> {
    let servers: Vec<Value> = up
        .iter()
        .map(|server| {
            let Running { name, endpoint, pid, started } = server;
            json!({ "name": name, "endpoint": endpoint, "pid": pid, "started": started })
        })
        .collect();
    fs::create_dir_all(folder())?;
    let text = serde_json::to_string_pretty(&json!({ "services": servers }))?;
    fs::write(folder().join("services.json"), text + "\n")?;
    Ok(())
}

/// When a process started, as `ps` says it; nothing where there is none.
fn started(pid: u32) -> Option<String> {
    let asked = Command::new("ps").args(["-o", "lstart=,stat=", "-p", &pid.to_string()]).output().ok()?;
    let line = String::from_utf8(asked.stdout).ok()?;
    let (started, state) = line.trim().rsplit_once(char::is_whitespace)?;
    // One that has ended and was not yet waited for is none.
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}
