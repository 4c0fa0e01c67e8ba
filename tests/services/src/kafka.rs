//! A Kafka of one node in KRaft mode, from the jars that `cargo xtask` copies by Maven.

use crate::java::{self, JVM};
use crate::{Probe, Server, StartError, free_port};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;

/// Id of every cluster: a broker that comes back must find its own.
const CLUSTER: &str = "bmVhcmZpZWxkLXRlc3QtMQ";
/// Asks for the metadata of no topic, in version 1 of the request: length, key 3, version, number, no client's name,
/// no topics. The answer names the broker's host.
const METADATA: Probe =
    Probe { ask: &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0], answer: b"127.0.0.1" };

impl Server {
    /// Starts a Kafka.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn kafka() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_kafka(&path, Some(folder))
    }

    /// Returns the Kafka that those who ask share, as long as one of them has it: a broker takes seconds to start.
    ///
    /// # Errors
    /// As [`Server::kafka`].
    pub fn shared_kafka() -> Result<Arc<Self>, StartError> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        // Where a holder panicked there is none.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::kafka()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// Starts a Kafka that keeps its data in a folder.
    ///
    /// # Errors
    /// As [`Server::kafka`].
    pub fn kafka_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_kafka(folder, None)
    }

    fn start_kafka(folder: &Path, temporary: Option<TempDir>) -> Result<Self, StartError> {
        let jars = java::jars("kafka")?;
        let (port, controller) = (free_port()?, free_port()?);
        std::fs::write(folder.join("server.properties"), properties(port, controller))?;
        let classes = format!("{}/*", jars.display());
        let java = |main: &str| -> Vec<String> {
            JVM.into_iter().chain(["-cp", &classes, main]).map(str::to_owned).collect()
        };
        let format = ["format", "--ignore-formatted", "-t", CLUSTER, "-c", "server.properties"];
        let formatted = Command::new("java")
            .args(java("kafka.tools.StorageTool"))
            .args(format)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| StartError::of_program("java", error))?;
        if !formatted.status.success() {
            let log = [formatted.stdout, formatted.stderr].concat();
            return Err(StartError::Silent {
                program: "kafka",
                log: String::from_utf8_lossy(&log).into_owned(),
            });
        }
        let mut arguments = java("kafka.Kafka");
        arguments.push("server.properties".to_owned());
        Self::start("java", arguments, folder, METADATA, port, temporary)
    }
}

/// Settings of a broker that is its own controller. Every topic has one replica, groups form at once, and a member
/// that is gone is noticed within seconds.
fn properties(port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
controller.quorum.election.timeout.ms=200
controller.quorum.fetch.timeout.ms=500
group.min.session.timeout.ms=1000
"
    )
}
