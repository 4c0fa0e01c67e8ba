//! The demo's child processes: started, watched, started again, and ended by their own ids.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Time between a service's death and its next start: long enough to see page and edge go on alone.
const RESTART_AFTER: Duration = Duration::from_secs(3);

/// Restarts of one service before the demo gives up.
const RESTARTS_MAX: u32 = 20;

/// Longest time from start to the line that says the service listens.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Longest time from the request to end until a service is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// One server of the demo.
pub(crate) struct Service {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    pid_file: PathBuf,
    state: State,
    restarts: u32,
    /// Length of the log when the running process was started.
    log_start: u64,
}

enum State {
    Running(Child),
    /// Ended without being asked; to be started again at this moment.
    Down(Instant),
}

/// Something that a person at the terminal should read.
pub(crate) enum Change {
    /// The process ended without being asked.
    Died(String),
    /// It was started again.
    Restarted(String),
}

impl Service {
    /// Starts a server and waits for its line `listening http://…`.
    pub(crate) fn start(
        name: &'static str,
        program: PathBuf,
        arguments: Vec<OsString>,
        logs: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let log = logs.join(format!("{name}.log"));
        drop(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?);
        let pid_file = logs.join(format!("{name}.pid"));
        let child = spawn(&program, &arguments, &log, &pid_file)?;
        let mut service = Self {
            name,
            program,
            arguments,
            log,
            pid_file,
            state: State::Running(child),
            restarts: 0,
            log_start: 0,
        };
        service.wait_until_ready()?;
        Ok(service)
    }

    /// The file that always holds the running process's id.
    pub(crate) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if self.says_ready() {
                return Ok(());
            }
            if let State::Running(child) = &mut self.state
                && let Some(status) = child.try_wait()?
            {
                bail!(
                    "{} did not start ({status}); its log {}:\n{}",
                    self.name,
                    self.log.display(),
                    self.log_text()
                );
            }
            if started.elapsed() > READY_WITHIN {
                bail!(
                    "{} did not listen within {} s; its log {}:\n{}",
                    self.name,
                    READY_WITHIN.as_secs(),
                    self.log.display(),
                    self.log_text()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log_text(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    fn says_ready(&self) -> bool {
        self.log_text().lines().any(|line| line.starts_with("listening http://"))
    }

    /// Looks after the process once; called in a loop.
    ///
    /// # Errors
    /// When the service keeps dying.
    pub(crate) fn look_after(&mut self) -> Result<Option<Change>> {
        match &mut self.state {
            State::Running(child) => {
                let Some(status) = child.try_wait()? else { return Ok(None) };
                self.state = State::Down(Instant::now() + RESTART_AFTER);
                if self.restarts == RESTARTS_MAX {
                    bail!("{} ended {RESTARTS_MAX} times; its log is {}", self.name, self.log.display());
                }
                self.restarts += 1;
                Ok(Some(Change::Died(format!(
                    "{} ended ({}); starting it again in {} s",
                    self.name,
                    describe(status),
                    RESTART_AFTER.as_secs()
                ))))
            }
            State::Down(at) if Instant::now() >= *at => {
                self.log_start = fs::metadata(&self.log).map_or(0, |file| file.len());
                let child = spawn(&self.program, &self.arguments, &self.log, &self.pid_file)?;
                let pid = child.id();
                self.state = State::Running(child);
                Ok(Some(Change::Restarted(format!("{} was started again as process {pid}", self.name))))
            }
            State::Down(_) => Ok(None),
        }
    }

    /// Asks the process to end, and kills it when it does not.
    fn end(&mut self) {
        if let State::Running(child) = &mut self.state {
            if ask_to_end(child) {
                let asked = Instant::now();
                while asked.elapsed() < END_WITHIN {
                    if !matches!(child.try_wait(), Ok(None)) {
                        drop(fs::remove_file(&self.pid_file));
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            // Errors here mean that it has ended already.
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_file(&self.pid_file));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends the signal to end to this one process.
fn ask_to_end(child: &Child) -> bool {
    cfg!(unix)
        && Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn spawn(program: &Path, arguments: &[OsString], log: &Path, pid_file: &Path) -> Result<Child> {
    let output = OpenOptions::new().append(true).open(log)?;
    let errors = output.try_clone()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
    // A group of its own: Ctrl-C reaches xtask alone, which then ends each child in order.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    fs::write(pid_file, child.id().to_string())?;
    Ok(child)
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal {
            9 => "killed by SIGKILL".to_owned(),
            other => format!("ended by signal {other}"),
        };
    }
    status.to_string()
}
