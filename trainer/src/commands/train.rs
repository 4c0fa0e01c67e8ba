//! `train`: from a file of events to the public pack and the private statistics.

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use nearfield_engine::Lineage;
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::progress::{Bar, Silent};
use nearfield_trainer::train::{Options, Trained, train};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Trains a model from scratch and starts a new lineage.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Events: .csv or .csv.gz with user,item,timestamp[,event].
    #[arg(long)]
    events: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    training: Training,
}

/// What is trained on, and where the result goes.
#[derive(clap::Args, Debug)]
pub struct Output {
    /// Folder for model.pack (public), statistics.bin (private) and train-report.json.
    #[arg(long)]
    out: PathBuf,
    /// Train on this first fraction of the events only, (0, 1].
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    until_fraction: f64,
    /// Name of the new lineage, 16 hex digits [default: random]. Versions of one lineage only rise,
    /// so a training that replaces another needs a name of its own.
    #[arg(long, value_parser = lineage)]
    lineage: Option<Lineage>,
}

impl Output {
    /// Returns how many events are trained on.
    pub fn until(&self, log: &EventLog) -> usize {
        ((log.events.len() as f64) * self.until_fraction).round() as usize
    }

    /// Returns options with the name of the lineage.
    ///
    /// # Errors
    /// Where it is to be random, and the system gives no random numbers.
    pub fn options(&self) -> anyhow::Result<Options> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("the system gives no random numbers")?;
        let lineage = self.lineage.unwrap_or(Lineage(u64::from_le_bytes(random)));
        Ok(Options { lineage: Some(lineage), ..Options::default() })
    }

    /// Writes the files of a training.
    ///
    /// # Errors
    /// The folder's or file's name.
    pub fn write(&self, trained: &Trained) -> anyhow::Result<()> {
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let files = [
            ("model.pack", trained.model.to_pack()),
            ("statistics.bin", trained.statistics.to_bytes()),
            ("train-report.json", serde_json::to_vec_pretty(&trained.report)?),
        ];
        for (name, bytes) in files {
            let path = self.out.join(name);
            fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("{:>12} bytes  {}", bytes.len(), path.display());
        }
        Ok(())
    }
}

/// What a caller may decide of a training.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Training {
    /// Number of factors, 1 to 512; more follow finer tastes and cost bytes and time [default: chosen
    /// on held-out events, up to what the pack's budget of bytes allows].
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// Sweeps of the final training; more come nearer to the optimum [default: chosen on held-out
    /// events].
    #[arg(long, value_name = "N")]
    sweeps: Option<usize>,
}

impl Training {
    /// Returns the engine's options.
    pub fn options(self) -> Options {
        Options { dim: self.dim, sweeps: self.sweeps, ..Options::default() }
    }
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the file or the folder.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let log = read_events(&args.events)?;
    let until = args.output.until(&log);
    let Options { lineage, .. } = args.output.options()?;
    let trained = train_log(&log, until, Options { lineage, ..args.training.options() }, true)?;
    args.output.write(&trained)?;
    let chosen = &trained.report.chosen;
    eprintln!(
        "trained on {until} events, {} people, {} items: {} factors, {} sweeps, alpha {}, lambda {}, recency {} × {}",
        trained.report.users,
        trained.report.items,
        trained.report.dim,
        trained.report.sweeps,
        chosen.alpha,
        chosen.lambda,
        chosen.recent_decay,
        chosen.recent_weight
    );
    Ok(())
}

/// Trains with a progress bar on standard error, or silently.
///
/// # Errors
/// The engine's.
pub fn train_log(log: &EventLog, until: usize, options: Options, show: bool) -> anyhow::Result<Trained> {
    let trained = if show {
        let bar = Bar::new();
        let trained = train(log, until, &options, &bar);
        bar.finish();
        trained
    } else {
        train(log, until, &options, &Silent)
    };
    Ok(trained?)
}

/// Reads .csv or .csv.gz.
///
/// # Errors
/// The file's name, and the line or column.
pub fn read_events(path: &Path) -> anyhow::Result<EventLog> {
    EventLog::read_csv(open(path)?).with_context(|| format!("cannot read {}", path.display()))
}

/// Opens a file, unpacked where its name ends in .gz.
///
/// # Errors
/// The file's name.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?);
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Reads a fraction in (0, 1].
fn fraction(text: &str) -> Result<f64, String> {
    let fraction: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if fraction > 0.0 && fraction <= 1.0 {
        Ok(fraction)
    } else {
        Err(format!("{fraction} is not above 0 and at most 1"))
    }
}

/// Reads a lineage as it is printed.
fn lineage(text: &str) -> Result<Lineage, String> {
    let digits = text.len();
    if digits != 16 {
        return Err(format!("a lineage has 16 hex digits, this has {digits} characters"));
    }
    u64::from_str_radix(text, 16).map(Lineage).map_err(|error| error.to_string())
}
