//! Sweeps of implicit ALS beside implicit's: the same pairs, α0 and λ, as many threads.

use crate::cases::open;
use crate::host::Process;
use anyhow::{Context, Result};
use nearfield_trainer::evaluate::figures::Figures;
use nearfield_trainer::evaluate::leave_one_out::{leave_out, read_cases};
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::train::sweeps::Sweeps;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Factors.
const DIM: usize = 64;

/// Sweeps of each round.
const SWEEPS: usize = 12;

/// α0 and λ (choice: near the best that a search found for twelve sweeps over a million pairs of films).
const ALPHA: f32 = 0.3;
const LAMBDA: f32 = 0.007;

/// One way of sweeping.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Swept {
    /// Who sweeps, and how a row is solved.
    pub(crate) method: &'static str,
    /// Seconds a sweep, the median of rounds.
    pub(crate) seconds: f64,
    /// NDCG@10 of the item left out among the sampled ones, after the last sweep.
    pub(crate) ndcg10: f64,
}

/// What a round took, and what it found.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Round {
    seconds: f64,
    ndcg10: f64,
}

/// Numbers of a person, of the item left out, and of the items that it is ranked among.
type Case = (u32, u32, Vec<u32>);

/// Measures on pairs of people and items, less what was left out.
pub(crate) fn measure(
    python: &mut Process,
    work: &Path,
    pairs: &Path,
    left_out: &Path,
    rounds: usize,
) -> Result<Vec<Swept>> {
    let mut log = EventLog::read_csv(open(pairs)?)?;
    let cases = read_cases(open(left_out)?)?;
    leave_out(&mut log, &cases);
    let number = |names: &[String]| -> HashMap<String, u32> { names.iter().cloned().zip(0..).collect() };
    let (users, items) = (number(&log.users), number(&log.items));
    let cases = cases.iter().filter_map(|case| {
        let negatives = case.negatives.iter().filter_map(|id| items.get(id).copied()).collect();
        Some((*users.get(&case.user)?, *items.get(&case.target)?, negatives))
    });
    let cases: Vec<Case> = cases.collect();

    let folder = work.join("ials");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("pairs.u32"), bytes(log.events.iter().flat_map(|event| [event.user, event.item])))?;
    let flat = cases.iter().map(|(user, target, negatives)| json!([user, target, negatives]));
    fs::write(folder.join("cases.json"), serde_json::to_vec(&flat.collect::<Vec<_>>())?)?;
    let peer = |python: &mut Process, conjugate: bool| -> Result<Round> {
        python.ask(&json!({
            "do": "sweeps", "folder": folder, "dim": DIM, "count": SWEEPS, "alpha": ALPHA, "lambda": LAMBDA,
            "conjugate": conjugate, "threads": std::thread::available_parallelism().map_or(1, usize::from),
        }))
    };
    let mut taken: [Vec<Round>; 3] = Default::default();
    for _ in 0..rounds {
        taken[0].push(own(&log, &cases));
        taken[1].push(peer(python, true)?);
        taken[2].push(peer(python, false)?);
    }
    let methods = ["nearfield", "implicit, conjugate gradient", "implicit, Cholesky"];
    let swept = methods.into_iter().zip(taken).map(|(method, mut rounds)| {
        rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let Round { seconds, ndcg10 } = *rounds.get(rounds.len() / 2).context("no round")?;
        Ok(Swept { method, seconds, ndcg10 })
    });
    swept.collect()
}

fn own(log: &EventLog, cases: &[Case]) -> Round {
    let mut sweeps = Sweeps::new(log, DIM, ALPHA, LAMBDA);
    let start = Instant::now();
    (0..SWEEPS).for_each(|_| sweeps.sweep());
    let seconds = start.elapsed().as_secs_f64() / SWEEPS as f64;
    let mut figures = Figures::default();
    for (user, target, negatives) in cases {
        let own = sweeps.score(*user, *target);
        let above = negatives.iter().filter(|item| sweeps.score(*user, **item) > own).count();
        figures.add(own.map(|_| 1.0 + above as f64));
    }
    Round { seconds, ndcg10: figures.mean().ndcg10 }
}

fn bytes(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}
