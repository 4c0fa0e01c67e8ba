//! What is ranked: factors, people, and the files that every host reads.

use crate::browsing;
use crate::work::{Person, Visitors};
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use nearfield_engine::golden::Random;
use nearfield_engine::{DeltaId, Event, Hyperparameters, Kind, Lineage, Model, UserState, Workspace};
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::progress::Silent;
use nearfield_trainer::train::{Options, train};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// People of a case.
pub(crate) const PEOPLE: usize = 64;

/// Events that a person brings along at most, and events that follow.
const EVENTS: usize = 20;

/// One set of factors with its people, as files in a folder.
pub(crate) struct Case {
    /// Short name.
    pub(crate) name: &'static str,
    /// What it is, for the reader.
    pub(crate) title: String,
    /// Where the files lie.
    pub(crate) folder: PathBuf,
    /// Factors.
    pub(crate) dim: usize,
    /// Whether the peers rank it too.
    pub(crate) peers: bool,
    /// Patches that follow the pack.
    pub(crate) patches: usize,
}

impl Case {
    /// Reads one of the files.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.folder.join(name)).with_context(|| format!("cannot read {name} of {}", self.name))
    }

    /// Reads numbers of four bytes.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.read(name)?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn write(
        root: &Path,
        name: &'static str,
        title: String,
        model: &Model,
        people: &[Person],
        patches: Vec<Vec<u8>>,
        peers: bool,
    ) -> Result<Self> {
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("model.pack"), model.to_pack())?;
        let (people, patch_count) = (people.to_vec(), patches.len());
        let visitors = Visitors { people, patches };
        fs::write(folder.join("visitors.bin"), postcard::to_allocvec(&visitors)?)?;
        if peers {
            let floats =
                |numbers: Vec<f32>| numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
            let factors = (0..model.len() as u32).flat_map(|row| {
                let (factors, scale) = model.factors(row);
                factors.into_iter().map(move |factor| f32::from(factor) * scale)
            });
            fs::write(folder.join("factors.f32"), floats(factors.collect()))?;
            let mut queries = Vec::new();
            for person in &visitors.people {
                queries.extend(factor(model, person)?);
            }
            fs::write(folder.join("queries.f32"), floats(queries))?;
        }
        Ok(Self { name, title, folder, dim: model.dim(), peers, patches: patch_count })
    }

    /// Factors trained on a file of events; 64 people of it with 10 events or more.
    pub(crate) fn trained(root: &Path, events: &Path, dim: usize) -> Result<Self> {
        let log = EventLog::read_csv(open(events)?)?;
        let name = events.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = format!("{name}-{}-{dim}", fs::metadata(events)?.len());
        let model = trained_once(root, &kept, &log, dim)?;
        let title = format!("{} items of {name}, d = {dim}", model.len());
        Self::write(root, "real", title, &model, &people_of(&log), Vec::new(), true)
    }

    /// The first rows of a case by themselves.
    pub(crate) fn first_rows(root: &Path, of: &Self, name: &'static str, items: usize) -> Result<Self> {
        let factors = of.numbers("factors.f32")?;
        let factors = &factors[..factors.len().min(items * of.dim)];
        let model = Model::from_factors(Lineage(1), of.dim, factors, Hyperparameters::starting_point());
        let title = format!("{} rows of {}", model.len(), of.title);
        Self::write(root, name, title, &model, &people(&mut Random(3), model.len()), Vec::new(), false)
    }

    /// Gaussian factors, the worst case of pruning: all rows are of about one norm.
    pub(crate) fn gaussian(
        root: &Path,
        name: &'static str,
        items: usize,
        dim: usize,
        peers: bool,
    ) -> Result<Self> {
        let mut random = Random(items as u64);
        let rows: Vec<f32> = (0..items * dim).map(|_| normal(&mut random)).collect();
        let model = Model::from_factors(Lineage(1), dim, &rows, Hyperparameters::starting_point());
        let title = format!("{items} Gaussian rows, d = {dim}");
        Self::write(root, name, title, &model, &people(&mut random, items), Vec::new(), peers)
    }

    /// A shop whose people browse, trained as any catalogue is: its blend weighs all features, and its rows lie as a
    /// training leaves them.
    pub(crate) fn shop(root: &Path, items: usize, dim: usize) -> Result<Self> {
        let text = browsing::events(items, items / 2);
        let log = EventLog::read_csv(text.as_bytes()).expect("the log is written as it is read");
        let model = trained_once(root, &format!("shop-{items}-{dim}"), &log, dim)?;
        let (count, neighbours) = (model.len(), model.neighbours_max());
        let title = format!("a trained shop of {count} items with {neighbours} neighbours each, d = {dim}");
        Self::write(root, "shop", title, &model, &people_of(&log), Vec::new(), false)
    }

    /// A shop taught by deltas, with the patches that follow.
    pub(crate) fn patched(root: &Path, items: usize, dim: usize) -> Result<Self> {
        let (model, patches) = crate::deltas::shop(items, dim).patches(4);
        let title = format!("a shop of {items} items, d = {dim}, and {} patches", patches.len());
        Self::write(root, "patched", title, &model, &people(&mut Random(7), items), patches, false)
    }
}

/// Opens a file, unpacked where its name ends in .gz.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let packed = path.extension().is_some_and(|end| end == "gz");
    Ok(if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Trains, or reads what was trained before: a training takes minutes, so its pack is kept by name.
fn trained_once(root: &Path, name: &str, log: &EventLog, dim: usize) -> Result<Model> {
    let kept = root.join(format!("{name}.pack"));
    if let Some(model) = fs::read(&kept).ok().and_then(|bytes| Model::load(&bytes).ok()) {
        return Ok(model);
    }
    eprintln!("  training {name}, once");
    let options = Options { dim: Some(dim), ..Options::default() };
    let trained = train(log, log.events.len(), &options, &Silent)?;
    fs::create_dir_all(root)?;
    fs::write(&kept, trained.model.to_pack())?;
    Ok(trained.model)
}

/// 64 people of a log with 10 events or more: half of the events are learned before, the others follow.
fn people_of(log: &EventLog) -> Vec<Person> {
    let mut by_user = vec![Vec::new(); log.users.len()];
    for event in &log.events {
        by_user[event.user as usize].push(log.items[event.item as usize].clone());
    }
    by_user.retain(|items: &Vec<String>| items.len() >= 10);
    let step = (by_user.len() / PEOPLE).max(1);
    let people = by_user.into_iter().step_by(step).take(PEOPLE).map(|items| {
        let half = (items.len() / 2).min(EVENTS);
        let next = items[half..].iter().take(EVENTS).cloned().collect();
        Person { history: items[..half].to_vec(), next }
    });
    people.collect()
}

fn people(random: &mut Random, items: usize) -> Vec<Person> {
    let mut ids = || (0..EVENTS).map(|_| format!("item-{}", random.below(items))).collect();
    (0..PEOPLE).map(|_| Person { history: ids(), next: ids() }).collect()
}

/// The plain factor of a person, as a delta would carry it: d numbers.
fn factor(model: &Model, person: &Person) -> Result<Vec<f32>> {
    let mut state = UserState::new();
    for (at, id) in person.history.iter().enumerate() {
        state.learn(model, &Event::new(Kind::Click, id.as_str(), at as u64 + 1), at as u64 + 1)?;
    }
    let delta = state
        .take_delta(model, DeltaId([0; 16]), &mut Workspace::new())
        .context("a person without events")?;
    Ok(delta.factor.iter().map(|value| f32::from(*value) * delta.factor_scale).collect())
}

/// Returns a number of mean 0 and variance 1: twelve uniform ones less six.
fn normal(random: &mut Random) -> f32 {
    let sum: u64 = (0..3)
        .map(|_| {
            let b = random.draw();
            (b & 0xffff) + (b >> 16 & 0xffff) + (b >> 32 & 0xffff) + (b >> 48)
        })
        .sum();
    sum as f32 / 65536.0 - 6.0
}
