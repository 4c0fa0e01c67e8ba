//! What is ranked: factors, people, and the files that every host reads.

use crate::work::Person;
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
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
        peers: bool,
    ) -> Result<Self> {
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("model.pack"), model.to_pack())?;
        fs::write(folder.join("people.bin"), postcard::to_allocvec(people)?)?;
        if peers {
            let floats =
                |numbers: Vec<f32>| numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
            let factors = (0..model.len() as u32).flat_map(|row| {
                let (factors, scale) = model.factors(row);
                factors.into_iter().map(move |factor| f32::from(factor) * scale)
            });
            fs::write(folder.join("factors.f32"), floats(factors.collect()))?;
            let mut queries = Vec::new();
            for person in people {
                queries.extend(factor(model, person)?);
            }
            fs::write(folder.join("queries.f32"), floats(queries))?;
        }
        Ok(Self { name, title, folder, dim: model.dim(), peers })
    }

    /// Factors trained on a file of events; 64 people of it with 10 events or more.
    pub(crate) fn trained(root: &Path, events: &Path, dim: usize) -> Result<Self> {
        let file = File::open(events).with_context(|| format!("cannot open {}", events.display()))?;
        let reader: Box<dyn Read> = if events.extension().is_some_and(|end| end == "gz") {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let log = EventLog::read_csv(reader)?;
        let name = events.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A training takes minutes; its pack is kept as long as file and length stay the same.
        let kept = root.join(format!("{name}-{}-{dim}.pack", fs::metadata(events)?.len()));
        let model = match fs::read(&kept).ok().and_then(|bytes| Model::load(&bytes).ok()) {
            Some(model) => model,
            None => {
                let options = Options { dim: Some(dim), ..Options::default() };
                let trained = train(&log, log.events.len(), &options, &Silent)?;
                fs::create_dir_all(root)?;
                fs::write(&kept, trained.model.to_pack())?;
                trained.model
            }
        };
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
        let people: Vec<Person> = people.collect();
        let title = format!("{} items of {name}, d = {dim}", model.len());
        Self::write(root, "real", title, &model, &people, true)
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
        let rows: Vec<f32> = (0..items * dim).map(|_| random.normal()).collect();
        let model = Model::from_factors(Lineage(1), dim, &rows, Hyperparameters::starting_point());
        let title = format!("{items} Gaussian rows, d = {dim}");
        Self::write(root, name, title, &model, &people(&mut random, items), peers)
    }

    /// A shop of given size with neighbours for each item, taught by deltas.
    pub(crate) fn shop(root: &Path, items: usize, dim: usize) -> Result<Self> {
        let model = crate::deltas::shop(items, dim).model;
        let title = format!("a shop of {items} items with 24 neighbours each, d = {dim}");
        Self::write(root, "shop", title, &model, &people(&mut Random(7), items), false)
    }
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

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// Returns a number of mean 0 and variance 1: twelve uniform ones less six.
    fn normal(&mut self) -> f32 {
        let sum: u64 = (0..3)
            .map(|_| {
                let b = self.bits();
                (b & 0xffff) + (b >> 16 & 0xffff) + (b >> 32 & 0xffff) + (b >> 48)
            })
            .sum();
        sum as f32 / 65536.0 - 6.0
    }
}
