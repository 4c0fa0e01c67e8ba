//! Real servers for tests and for `cargo xtask services`: Redis and Memcached from the packages of the distribution,
//! Kafka and Apicurio from Maven's jars. Each listens on loopback, on a free port, and keeps what it keeps in a folder of its own.
//!
//! A [`Server`] ends with the value that started it. [`Server::leave`] lets it live on.

mod alertmanager;
mod apicurio;
mod etcd;
mod java;
mod kafka;
mod memcached;
mod prometheus;
mod redis;

pub use apicurio::CONFLUENT_PATH;
pub use java::{STREAMS_OFF, jars_folder, streams_are_off};

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a server to answer (choice: most take some ten milliseconds, Kafka five seconds).
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The programs that tests need, each with the Debian package that brings it.
pub const PROGRAMS: [(&str, &str); 3] =
    [("redis-server", "redis-server"), ("redis-sentinel", "redis-sentinel"), ("memcached", "memcached")];

/// The programs that only some servers need: Java for Kafka and Apicurio, Prometheus, and what a kube-apiserver
/// keeps its objects in.
pub const MORE_PROGRAMS: [(&str, &str); 4] = [
    ("java", "openjdk-17-jre-headless"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("etcd", "etcd-server"),
];

/// The variable that leaves out the tests of operations, where Prometheus or Alertmanager cannot be had.
pub const OPERATIONS_OFF: &str = "NEARFIELD_NO_OPERATIONS";

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// Its program is not here.
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// The jars of a server in Java are not here.
    NoJars {
        /// The server.
        server: &'static str,
    },
    /// The system refused a file, a port or a process.
    Io(std::io::Error),
    /// It ended, or did not answer in time.
    Silent {
        /// The program.
        program: &'static str,
        /// The last lines of its log.
        log: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, package } => {
                write!(f, "{program} is missing: apt-get install {package}")
            }
            Self::NoJars { server } => {
                write!(f, "the jars of {server} are missing: run `cargo xtask services up --with {server}`")
            }
            Self::Io(error) => error.fmt(f),
            Self::Silent { program, log } => write!(f, "{program} does not answer; its log ends with\n{log}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn of_program(program: &'static str, error: std::io::Error) -> Self {
        let package = PROGRAMS
            .iter()
            .chain(&MORE_PROGRAMS)
            .find(|(known, _)| *known == program)
            .map(|(_, package)| *package);
        match package {
            Some(package) if error.kind() == ErrorKind::NotFound => Self::Missing { program, package },
            _ => Self::Io(error),
        }
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a server is asked, and how its answer begins, once it serves.
struct Probe {
    ask: &'static [u8],
    answer: &'static [u8],
}

/// Returns a port that nobody listens at.
///
/// # Errors
/// The system's, where it has none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A server that is running.
pub struct Server {
    program: &'static str,
    arguments: Vec<String>,
    folder: PathBuf,
    probe: Probe,
    port: u16,
    child: Option<Child>,
    /// Kept as long as the server, where the folder was made for it.
    _temporary: Option<TempDir>,
}

impl Server {
    fn start(
        program: &'static str,
        arguments: Vec<String>,
        folder: &Path,
        probe: Probe,
        port: u16,
        temporary: Option<TempDir>,
    ) -> Result<Self, StartError> {
        let folder = folder.to_owned();
        let mut server = Self { program, arguments, folder, probe, port, child: None, _temporary: temporary };
        server.up()?;
        Ok(server)
    }

    /// Starts the server again where it was, with what it has kept. One that is up stays up.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn up(&mut self) -> Result<(), StartError> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let child = Command::new(self.program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        self.child = Some(child.map_err(|error| StartError::of_program(self.program, error))?);
        let until = Instant::now() + READY_WITHIN;
        while self.ask(self.probe.ask, self.probe.answer).is_err() {
            let ended =
                self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            if ended || Instant::now() > until {
                self.kill();
                return Err(self.silent());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends the server at once, as a crash would; what it had acknowledged is in its folder.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is what was wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Returns where it listens, as `host:port`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the process's number, if it is up.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Lets the server live on after this process.
    pub fn leave(mut self) {
        drop(self.child.take());
    }

    /// Sends a line, and waits for an answer that contains `wanted`.
    fn ask(&self, line: &[u8], wanted: &[u8]) -> std::io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(line)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let bytes = stream.read(&mut piece)?;
            answer.extend_from_slice(&piece[..bytes]);
            if answer.windows(wanted.len()).any(|window| window == wanted) {
                return Ok(());
            }
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.program))
    }

    fn silent(&self) -> StartError {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(10)..].join("\n");
        StartError::Silent { program: self.program, log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
