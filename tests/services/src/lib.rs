//! Real servers for tests and for `cargo xtask services`: Redis (a server, a cluster of one node, a sentinel) and
//! Memcached, from the packages of the distribution. Each listens on loopback, on a free port, and keeps what it
//! keeps in a folder of its own.
//!
//! A [`Server`] ends with the value that started it. [`Server::leave`] lets it live on.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a server to answer (choice: it takes some ten milliseconds).
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The programs, each with the Debian package that brings it.
pub const PROGRAMS: [(&str, &str); 3] =
    [("redis-server", "redis-server"), ("redis-sentinel", "redis-sentinel"), ("memcached", "memcached")];

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
            Self::Io(error) => error.fmt(f),
            Self::Silent { program, log } => write!(f, "{program} does not answer; its log ends with\n{log}"),
        }
    }
}

impl std::error::Error for StartError {}

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

const REDIS: Probe = Probe { ask: b"PING\r\n", answer: b"+PONG" };
const MEMCACHED: Probe = Probe { ask: b"version\r\n", answer: b"VERSION" };

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
    /// Starts a Redis whose acknowledgements survive a kill: every write is in its append-only file first.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub fn redis() -> Result<Self, StartError> {
        Self::redis_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a Redis with these settings.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_with(settings: &[&str]) -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_redis(&path, settings, Some(folder))
    }

    /// Starts a Redis that keeps its data in a folder.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_redis(folder, &["--appendonly", "yes", "--appendfsync", "always"], None)
    }

    fn start_redis(folder: &Path, settings: &[&str], temporary: Option<TempDir>) -> Result<Self, StartError> {
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--dir", "."];
        let arguments = fixed.iter().chain(settings).map(ToString::to_string).collect();
        Self::start("redis-server", arguments, folder, REDIS, temporary)
    }

    /// Starts a Redis cluster of one node.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_cluster() -> Result<Self, StartError> {
        let server = Self::redis_with(&["--cluster-enabled", "yes", "--appendonly", "yes"])?;
        server.ask(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n", b"+OK")?;
        let until = Instant::now() + READY_WITHIN;
        while server.ask(b"CLUSTER INFO\r\n", b"cluster_state:ok").is_err() {
            if Instant::now() > until {
                return Err(server.silent());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Starts a sentinel that watches a Redis under the name `main`.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn redis_sentinel(primary: &Self) -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        let watch = format!("sentinel monitor main 127.0.0.1 {} 1\nbind 127.0.0.1\n", primary.port);
        std::fs::write(path.join("sentinel.conf"), watch)?;
        Self::start("redis-sentinel", vec!["sentinel.conf".to_owned()], &path, REDIS, Some(folder))
    }

    /// Starts a Memcached.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn memcached() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        Self::start_memcached(&path, Some(folder))
    }

    /// Starts a Memcached whose log lies in a folder.
    ///
    /// # Errors
    /// As [`Server::redis`].
    pub fn memcached_in(folder: &Path) -> Result<Self, StartError> {
        std::fs::create_dir_all(folder)?;
        Self::start_memcached(folder, None)
    }

    fn start_memcached(folder: &Path, temporary: Option<TempDir>) -> Result<Self, StartError> {
        let mut arguments = vec!["-l".to_owned(), "127.0.0.1".to_owned(), "-U".to_owned(), "0".to_owned()];
        // As root it wants to be told whom to be.
        if std::env::var_os("USER").is_none_or(|user| user == "root") {
            arguments.extend(["-u".to_owned(), "root".to_owned()]);
        }
        Self::start("memcached", arguments, folder, MEMCACHED, temporary)
    }

    fn start(
        program: &'static str,
        arguments: Vec<String>,
        folder: &Path,
        probe: Probe,
        temporary: Option<TempDir>,
    ) -> Result<Self, StartError> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
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
        let port = if self.program == "memcached" { "-p" } else { "--port" };
        let child = Command::new(self.program)
            .args(&self.arguments)
            .args([port, &self.port.to_string()])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let package =
            PROGRAMS.iter().find(|(program, _)| *program == self.program).map_or("", |(_, package)| package);
        self.child = Some(child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => StartError::Missing { program: self.program, package },
            _ => StartError::Io(error),
        })?);
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
