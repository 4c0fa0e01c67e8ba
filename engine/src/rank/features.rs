//! The features of the score: what a person's history says of the rows that it leads to, the
//! candidates. The table of features stands in [`crate::model::blend`].
//!
//! With h_0 the newest event, F, B and R the fractions of [`crate::model::transitions`], δ the decay of
//! recent events, and lg x = ln(1 + 1000 x):
//!
//! ```text
//! forward        lg Σ_k δᵏ F[h_k, i]       and its square root        backward, fresh   the same of B and R
//! forward_k      lg F[h_k, i], k = 0, 1, 2                             backward_0, fresh_0
//! forward_slow   lg Σ_k .9ᵏ F[h_k, i]                                  both   lg Σ_k .9ᵏ (F + B)[h_k, i] / 2
//! forward_stay   lg Σ_k stay_k F[h_k, i]   stay: time to the next event over two minutes, at most 1
//! second_hop     lg Σ_j F[h_0, j] F[j, i]  over the first eight of each
//! listers        √ of the fraction of the recent events that have i among their neighbours
//! listed_…       ln(1 + pop_i) less its mean over the catalogue, where i is listed
//! own_…          readings of the own events with i: last, second, third, count, decayed count, age
//! ```

use crate::ids::Row;
use crate::model::Model;
use crate::model::blend::{self, FEATURES, STATIC, Weights};
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use nearfield_kernels::lanes::{LANES, Lanes, each, lg, ln};

/// Decay by age of the slow readings (a choice: the last ten events or so).
const SLOW_DECAY: f32 = 0.9;

/// Neighbours of the newest item whose own neighbours are read.
const HOPS: usize = 8;

/// One event of a history with a row, as the features read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PastEvent {
    /// Row of the item.
    pub(crate) row: Row,
    /// Events after it.
    pub(crate) age: usize,
    /// Whether it belongs to the current session.
    pub(crate) in_session: bool,
    /// How long the person stayed with it, 0 (not, or not known) to 1 (two minutes and more).
    pub(crate) stay: f32,
}

/// What a history says of eight rows.
#[derive(Clone, Debug, Default)]
struct Sums {
    rows: [Row; LANES],
    forward: Lanes,
    slow: Lanes,
    backward: Lanes,
    both: Lanes,
    fresh: Lanes,
    stayed: Lanes,
    hop: Lanes,
    /// Fractions after the newest event, the second, the third.
    forward_at: [Lanes; 3],
    backward_0: Lanes,
    fresh_0: Lanes,
    listers: Lanes,
    own: [Lanes; 3],
    own_count: Lanes,
    own_recent: Lanes,
    own_age: Lanes,
    own_session: Lanes,
}

/// The rows that a history leads to, with what is summed up of each.
///
/// Sums of a row are taken in the order of the events, newest first, and a neighbour list holds a
/// row once: so they are the same in whatever order neighbours are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// The first row stands in lane 0 of the first, the ninth in lane 0 of the second.
    sums: Vec<Sums>,
    len: usize,
    /// For each row one more than its index; 0 is free. Open addressing, the length a power of two.
    slots: Vec<u32>,
    /// Events whose neighbours were read.
    recents: usize,
}

impl Candidates {
    /// Reads a history, newest event first; with `own` the person's own items are candidates too.
    pub(crate) fn read(&mut self, model: &Model, history: impl Iterator<Item = PastEvent>, own: bool) {
        self.sums.clear();
        self.len = 0;
        self.slots.fill(0);
        self.recents = 0;
        let settings = &model.hyper.transitions;
        let recent = usize::from(settings.recent);
        let (mut recency, mut slow_recency, mut own_recency) = (1.0, 1.0, 1.0);
        let mut age_reached = 0;
        for event in history {
            for _ in age_reached..event.age {
                recency *= settings.recent_decay;
                slow_recency *= SLOW_DECAY;
                own_recency *= model.hyper.own_decay;
            }
            age_reached = event.age;
            if event.age < recent {
                self.recents += 1;
                for neighbour in model.neighbours(event.row) {
                    let (sums, lane) = self.sums_of(neighbour.row);
                    sums.forward[lane] += recency * neighbour.forward;
                    sums.backward[lane] += recency * neighbour.backward;
                    sums.fresh[lane] += recency * neighbour.fresh;
                    sums.slow[lane] += slow_recency * neighbour.forward;
                    sums.both[lane] += slow_recency * 0.5 * (neighbour.forward + neighbour.backward);
                    sums.stayed[lane] += event.stay * neighbour.forward;
                    sums.listers[lane] += 1.0;
                    if let Some(forward_at) = sums.forward_at.get_mut(event.age) {
                        forward_at[lane] = neighbour.forward;
                    }
                    if event.age == 0 {
                        sums.backward_0[lane] = neighbour.backward;
                        sums.fresh_0[lane] = neighbour.fresh;
                    }
                }
                if event.age == 0 {
                    self.read_second_hop(model, event.row);
                }
            } else if !own {
                break;
            }
            if own {
                let (sums, lane) = self.sums_of(event.row);
                if let Some(own) = sums.own.get_mut(event.age) {
                    own[lane] = 1.0;
                }
                if sums.own_count[lane] == 0.0 {
                    sums.own_age[lane] = 1.0 / f32::sqrt(1.0 + event.age as f32);
                }
                sums.own_count[lane] += 1.0;
                sums.own_recent[lane] += own_recency;
                if event.in_session {
                    sums.own_session[lane] = 1.0;
                }
            }
        }
    }

    /// Returns the candidates with all their features, in no order of rows; dense features are 0.
    pub(crate) fn rows<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (Row, Weights)> + 'a {
        let eights = self.sums.iter().flat_map(|sums| {
            let mut features = [[0.0; FEATURES]; LANES];
            for at in STATIC.end..FEATURES {
                let values = sums.feature(at, model, self.recents);
                features.iter_mut().zip(values).for_each(|(features, value)| features[at] = value);
            }
            sums.rows.into_iter().zip(features)
        });
        eights.take(self.len)
    }

    /// Returns the listed features of one row, if it is a candidate.
    pub(crate) fn features_of(&self, model: &Model, row: Row) -> Option<Weights> {
        if self.slots.is_empty() {
            return None;
        }
        let index = self.find(row).ok()?;
        let sums = &self.sums[index / LANES];
        Some(core::array::from_fn(|at| match at {
            at if at < STATIC.end => 0.0,
            at => sums.feature(at, model, self.recents)[index % LANES],
        }))
    }

    /// Returns the index of a row or, where it has none, the free slot that would be its own. There must be
    /// slots.
    #[inline]
    fn find(&self, row: Row) -> Result<usize, usize> {
        let mut at = self.slot(row);
        loop {
            match self.slots[at] as usize {
                0 => return Err(at),
                number if self.row(number - 1) == row => return Ok(number - 1),
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// Returns the candidates with Σ weight · feature, in the same order. What has no weight is not asked for.
    pub(crate) fn boosts<'a>(
        &'a self,
        model: &'a Model,
        weights: &'a Weights,
    ) -> impl Iterator<Item = (Row, f32)> + 'a {
        let eights = self.sums.iter().flat_map(|sums| {
            let mut boosts = [0.0; LANES];
            for at in (STATIC.end..FEATURES).filter(|at| weights[*at] != 0.0) {
                let values = sums.feature(at, model, self.recents);
                boosts.iter_mut().zip(values).for_each(|(boost, value)| *boost += weights[at] * value);
            }
            sums.rows.into_iter().zip(boosts)
        });
        eights.take(self.len)
    }

    fn read_second_hop(&mut self, model: &Model, from: Row) {
        for first in model.neighbours(from).filter(|neighbour| neighbour.forward > 0.0).take(HOPS) {
            for second in model.neighbours(first.row).filter(|second| second.forward > 0.0).take(HOPS) {
                if second.row != from {
                    let (sums, lane) = self.sums_of(second.row);
                    sums.hop[lane] += first.forward * second.forward;
                }
            }
        }
    }

    /// Returns where the sums of a row are, new ones where it has none.
    #[inline]
    fn sums_of(&mut self, row: Row) -> (&mut Sums, usize) {
        if self.slots.len() < 4 * (self.len + 1) {
            self.make_room();
        }
        let index = self.find(row).unwrap_or_else(|free| {
            self.slots[free] = self.len as u32 + 1;
            self.push(row)
        });
        (&mut self.sums[index / LANES], index % LANES)
    }

    /// Adds a row of which nothing is known and returns its index.
    fn push(&mut self, row: Row) -> usize {
        let index = self.len;
        if index.is_multiple_of(LANES) {
            self.sums.push(Sums::default());
        }
        self.sums[index / LANES].rows[index % LANES] = row;
        self.len += 1;
        index
    }

    fn row(&self, index: usize) -> Row {
        self.sums[index / LANES].rows[index % LANES]
    }

    /// Returns where the search for a row starts (multiplicative hashing by 2³²/φ, Knuth 6.4).
    fn slot(&self, row: Row) -> usize {
        let hash = row.wrapping_mul(0x9e37_79b1);
        (hash >> (32 - self.slots.len().trailing_zeros())) as usize
    }

    fn make_room(&mut self) {
        let room = (2 * self.slots.len()).max(2048);
        self.slots.clear();
        self.slots.resize(room, 0);
        for index in 0..self.len {
            let mut at = self.slot(self.row(index));
            while self.slots[at] != 0 {
                at = (at + 1) & (room - 1);
            }
            self.slots[at] = index as u32 + 1;
        }
    }
}

impl Sums {
    /// Returns one listed feature of each row. Of a row that is not listed, or not an own one, the sums are 0, and so
    /// are their readings.
    fn feature(&self, feature: usize, model: &Model, recents: usize) -> Lanes {
        let popularity = |half_life: usize| {
            let mean = model.popularity_mean()[half_life];
            core::array::from_fn(|lane| match self.listers[lane] {
                0.0 => 0.0,
                _ => model.popularity_feature(self.rows[lane], half_life) - mean,
            })
        };
        let whether = |counts: &Lanes| each(counts, |count| if count > 0.0 { 1.0 } else { 0.0 });
        match feature {
            blend::LISTED => whether(&self.listers),
            blend::FORWARD => lg(&self.forward),
            blend::FORWARD_ROOT => each(&self.forward, f32::sqrt),
            blend::FORWARD_AT => lg(&self.forward_at[0]),
            blend::FORWARD_1 => lg(&self.forward_at[1]),
            blend::FORWARD_2 => lg(&self.forward_at[2]),
            blend::FORWARD_SLOW => lg(&self.slow),
            blend::BACKWARD_0 => lg(&self.backward_0),
            blend::BACKWARD => lg(&self.backward),
            blend::BOTH => lg(&self.both),
            blend::BOTH_ROOT => each(&self.both, f32::sqrt),
            blend::FRESH_0 => lg(&self.fresh_0),
            blend::FRESH => lg(&self.fresh),
            blend::LISTERS => each(&self.listers, |listers| f32::sqrt(listers / recents.max(1) as f32)),
            blend::SECOND_HOP => lg(&self.hop),
            blend::LISTED_POPULARITY_1 => popularity(1),
            blend::LISTED_POPULARITY_3 => popularity(3),
            blend::FORWARD_0_ROOT => each(&self.forward_at[0], f32::sqrt),
            blend::FORWARD_STAY => lg(&self.stayed),
            blend::OWN => self.own[0],
            blend::OWN_1 => self.own[1],
            blend::OWN_2 => self.own[2],
            blend::OWN_COUNT => each(&self.own_count, |count| ln(1.0 + count)),
            blend::OWN_RECENT => each(&self.own_recent, |count| ln(1.0 + count)),
            blend::OWNED => whether(&self.own_count),
            blend::OWN_SESSION => self.own_session,
            blend::OWN_AGE => self.own_age,
            _ => unreachable!("{} is no listed feature", blend::NAMES[feature]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeltaId, Lineage};
    use crate::merge::{Statistics, Threshold, Window};
    use crate::model::blend::*;
    use crate::model::hyper::Hyperparameters;
    use crate::sync::delta::{Delta, Touch};

    /// Items 0 to 4; the people go from 0 to 1 (three of four) or to 2, and from 1 to 3.
    fn model() -> Model {
        let mut hyper = Hyperparameters::starting_point();
        hyper.transitions.shrinkage = 0.0;
        let mut statistics = Statistics::new(Lineage(1), 2, 4, hyper);
        for item in 0..5 {
            statistics.register(&format!("i{item}")).unwrap();
        }
        let mut model = statistics.empty_model();
        let mut window = Window::new();
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        for (number, steps) in [[0, 1], [0, 1], [0, 1], [0, 2], [1, 3]].into_iter().enumerate() {
            let items = steps.into_iter().enumerate().map(|(at, row)| Touch::new(row, 1, at == 0)).collect();
            let delta = Delta {
                id: DeltaId([number as u8; 16]),
                lineage: model.lineage(),
                base_version: model.version(),
                factor_scale: 0.01,
                factor: vec![1, 2],
                items,
                share: 4096,
                metrics: vec![],
            };
            window.admit(&delta, number as u64, &[]);
        }
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        model
    }

    fn read(model: &Model, rows: &[Row], own: bool) -> Vec<(Row, Weights)> {
        let mut candidates = Candidates::default();
        let history = rows.iter().enumerate().map(|(age, row)| PastEvent {
            row: *row,
            age,
            in_session: true,
            stay: 1.0,
        });
        candidates.read(model, history, own);
        let mut rows: Vec<_> = candidates.rows(model).collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        rows
    }

    #[test]
    fn what_follows_is_listed_forward_and_what_comes_before_backward() {
        let model = model();
        let listed = read(&model, &[0], false);
        let of = |row: Row| listed.iter().find(|(listed, _)| *listed == row).map(|(_, features)| *features);
        let close = |found: f32, part: f32| {
            assert!((found - lg(&[part; LANES])[0]).abs() < 0.05, "{found} for {part}")
        };
        close(of(1).unwrap()[FORWARD], 0.75);
        close(of(2).unwrap()[FORWARD_AT], 0.25);
        // 3 follows 1, which follows 0 three times of four: the second hop only.
        close(of(3).unwrap()[SECOND_HOP], 0.75);
        assert_eq!(of(3).unwrap()[LISTED], 0.0);
        assert!(of(4).is_none() && of(0).is_none());
        let listed = read(&model, &[1], false);
        assert_eq!(listed[0].0, 0);
        assert!(listed[0].1[FORWARD] == 0.0 && listed[0].1[BACKWARD] > 6.0, "all that leads to 1 is 0");
    }

    #[test]
    fn own_items_are_listed_only_where_asked_for() {
        let model = model();
        assert!(read(&model, &[4, 4, 2], false).iter().all(|(row, _)| *row != 4));
        let listed = read(&model, &[4, 4, 2], true);
        let (_, own) = listed.iter().find(|(row, _)| *row == 4).unwrap();
        assert_eq!((own[OWN], own[OWN + 1], own[OWN + 2]), (1.0, 1.0, 0.0));
        assert!((own[OWN_COUNT] - libm::log1pf(2.0)).abs() < 1e-6);
    }

    #[test]
    fn the_logarithm_is_as_exact_as_the_features_need() {
        for step in 0..200_000u32 {
            let x = 1.0 + step as f32 * 0.37;
            let exact = libm::log(f64::from(x));
            assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 * exact.max(1.0), "ln {x}");
        }
    }
}
