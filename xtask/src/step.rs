//! One step of a command: a child process under a spinner, its output kept for the case that it fails.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, IsTerminal, Read},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::paths;

/// What becomes of the child's standard output while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Its last line is shown beside the spinner; all of it only when the step fails.
    Summarised,
    /// Every line is passed through, for runners whose closing lines are read.
    PassedThrough,
}

/// A step that ended well.
pub(crate) struct Done {
    /// Standard output, line by line.
    pub(crate) stdout: Vec<String>,
    /// Whether the child exited with 0. Always true but for [`Step::try_run`].
    pub(crate) success: bool,
}

/// A named child process.
pub(crate) struct Step {
    title: String,
    command: Command,
    output: Output,
}

impl Step {
    /// A step that runs `program` in the repository's root.
    pub(crate) fn new(title: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(paths::root());
        // Cargo describes xtask itself in these; passed on, they would make build scripts run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        Self { title: title.into(), command, output: Output::Summarised }
    }

    /// `cargo` of the active toolchain.
    pub(crate) fn cargo(title: impl Into<String>) -> Self {
        Self::new(title, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable for the child.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Unsets a variable for the child.
    pub(crate) fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs the child elsewhere than in the root.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Passes standard output through while the child runs.
    pub(crate) fn passed_through(mut self) -> Self {
        self.output = Output::PassedThrough;
        self
    }

    /// Runs the child and fails when it does, with its whole output.
    pub(crate) fn run(self) -> Result<Done> {
        let title = self.title.clone();
        let done = self.try_run()?;
        if !done.success {
            bail!("step \"{title}\" failed; its output is above");
        }
        Ok(done)
    }

    /// Runs the child; a failure is shown whole and reported in [`Done::success`].
    pub(crate) fn try_run(mut self) -> Result<Done> {
        let spinner = Spinner::start(&self.title);
        let program = self.command.get_program().to_string_lossy().into_owned();
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("step \"{}\": cannot run {program}", self.title))?;

        let (sender, lines) = mpsc::channel();
        let readers = [
            child.stdout.take().map(|pipe| read_lines(pipe, Stream::Stdout, sender.clone())),
            child.stderr.take().map(|pipe| read_lines(pipe, Stream::Stderr, sender)),
        ];
        let mut transcript = Vec::new();
        let mut stdout = Vec::new();
        for (stream, line) in lines {
            spinner.tell(&line);
            if stream == Stream::Stdout {
                if self.output == Output::PassedThrough {
                    spinner.print(&line);
                }
                stdout.push(line.clone());
            }
            // What was passed through is on the screen already.
            if self.output == Output::Summarised || stream == Stream::Stderr {
                transcript.push(line);
            }
        }
        for reader in readers.into_iter().flatten() {
            // A reader can only end by its pipe's end; its thread has nothing to report.
            drop(reader.join());
        }
        let status =
            child.wait().with_context(|| format!("step \"{}\": cannot wait for {program}", self.title))?;
        spinner.end(status.success());
        if !status.success() {
            for line in &transcript {
                eprintln!("    {line}");
            }
            eprintln!("    {program}: {status}");
        }
        Ok(Done { stdout, success: status.success() })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    sender: mpsc::Sender<(Stream, String)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            // A progress bar redraws one line with carriage returns: only its last state counts.
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
            if sender.send((stream, text)).is_err() {
                return;
            }
        }
    })
}

/// The spinner of one step: a moving line on a terminal, a plain line at the end elsewhere.
pub(crate) struct Spinner {
    title: String,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Spinner {
    /// Starts a spinner with the step's title.
    pub(crate) fn start(title: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner:.cyan} {prefix} {elapsed:.dim} {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("· {title}");
        }
        Self { title: title.to_owned(), bar, started: Instant::now() }
    }

    /// Shows what the step is at.
    pub(crate) fn tell(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// Prints a line above the spinner, on standard output.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// Replaces the spinner by the step's result and its time.
    pub(crate) fn end(self, success: bool) {
        let mark = if success { "✓" } else { "✗" };
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{mark} {} ({:.1} s)", self.title, self.started.elapsed().as_secs_f64());
    }
}

/// First line of a program's output, or nothing when it cannot be run.
pub(crate) fn first_line(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}
