//! `import`: a model from item factors that were trained elsewhere, with their held-out figures beside our own.

use super::train::{self, Output};
use anyhow::{Context, bail};
use nearfield_trainer::train::{Given, Options, Trial};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, ListAccessor, Row};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Makes a model from item factors that Spark's ALS, implicit or another trainer has trained; everything else is
/// chosen from the events, as by `train`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Item factors: Parquet (a file, or Spark's folder of them) with a column item, item_id or id and a column
    /// features, factors or factor; or .csv with the item first and its numbers after it.
    #[arg(long)]
    factors: PathBuf,
    /// Events: .csv or .csv.gz with user,item,timestamp[,event].
    #[arg(long)]
    events: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Leave out the training of our own factors on the same events.
    #[arg(long)]
    alone: bool,
}

/// Names that a column of items may have, and one of factors.
const ITEM_COLUMNS: [&str; 3] = ["item", "item_id", "id"];
const FACTOR_COLUMNS: [&str; 3] = ["features", "factors", "factor"];
/// Stages of the search in which factors are judged.
const FACTOR_STAGES: [&str; 3] = ["alpha and lambda", "recency", "dim"];

/// Runs the command.
///
/// # Errors
/// What is wrong with a file, or with a factor.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let given = read(&args.factors).with_context(|| format!("cannot use {}", args.factors.display()))?;
    let log = train::read_events(&args.events)?;
    let until = args.output.until(&log);
    let (dim, items) = (given.dim(), given.len());
    let options = Options { given: Some(given), ..args.output.options()? };
    let trained = train::train_log(&log, until, options, true)?;
    args.output.write(&trained)?;

    let best = |trials: &[Trial], stages: &[&str]| {
        let figures = trials.iter().filter(|trial| stages.contains(&trial.stage)).map(|trial| trial.ndcg10);
        figures.fold(0.0, f64::max)
    };
    eprintln!(
        "{items} factors of {dim} numbers. Held-out NDCG@10 by fold-in alone, the last fifth of the events in time;"
    );
    eprintln!("fair where that fifth was kept from the other training, too:");
    eprintln!("  as given                          {:.4}", best(&trained.report.trials, &FACTOR_STAGES));
    eprintln!("  as published, half a sweep later  {:.4}", best(&trained.report.trials, &["given"]));
    if !args.alone {
        let own = train::train_log(&log, until, Options { dim: Some(dim), ..Options::default() }, true)?;
        eprintln!("  our own, d = {dim:<3}                  {:.4}", best(&own.report.trials, &FACTOR_STAGES));
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Given> {
    let items = if path.extension().is_some_and(|extension| extension == "csv") {
        read_csv(path)?
    } else {
        let mut items = Vec::new();
        for file in parts(path)? {
            read_parquet(&file, &mut items).with_context(|| file.display().to_string())?;
        }
        items
    };
    if items.is_empty() {
        bail!("there is no factor in it");
    }
    Ok(Given::new(items)?)
}

fn read_csv(path: &Path) -> anyhow::Result<Vec<(String, Vec<f32>)>> {
    let mut reader = csv::Reader::from_path(path)?;
    let rows = reader.records().enumerate().map(|(index, row)| {
        let row = row?;
        let item = row.get(0).unwrap_or_default().to_owned();
        let numbers = row.iter().skip(1).map(|number| number.trim().parse::<f32>());
        let factor: Result<Vec<f32>, _> = numbers.collect();
        Ok((item, factor.with_context(|| format!("line {}", index + 2))?))
    });
    rows.collect()
}

/// Returns the files of Parquet: the file itself, or those of a folder.
fn parts(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "parquet") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_parquet(file: &Path, items: &mut Vec<(String, Vec<f32>)>) -> anyhow::Result<()> {
    let reader = SerializedFileReader::new(File::open(file)?)?;
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let item = match column(&row, &ITEM_COLUMNS)? {
            Field::Str(text) => text.clone(),
            Field::Int(number) => number.to_string(),
            Field::Long(number) => number.to_string(),
            other => bail!("an item is {other}, neither a text nor a whole number"),
        };
        let Field::ListInternal(numbers) = column(&row, &FACTOR_COLUMNS)? else {
            bail!("the factor of {item:?} is no list of numbers");
        };
        let factor = (0..numbers.len()).map(|index| {
            Ok(match numbers.get_float(index) {
                Ok(number) => number,
                Err(_) => numbers.get_double(index)? as f32,
            })
        });
        let factor: anyhow::Result<Vec<f32>> = factor.collect();
        items.push((item.clone(), factor.with_context(|| format!("the factor of {item:?}"))?));
    }
    Ok(())
}

fn column<'a>(row: &'a Row, names: &[&str]) -> anyhow::Result<&'a Field> {
    let found = row.get_column_iter().find(|(name, _)| names.contains(&name.as_str()));
    let there = || row.get_column_iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let (_, field) =
        found.with_context(|| format!("no column {}; there are {}", names.join(" or "), there()))?;
    Ok(field)
}
