//! What the score weighs: the features of a row for one person, and the rows that a person's
//! history lists.
//!
//! The score is linear in the features, so it keeps the form that exact pruning needs:
//!
//! ```text
//! dense    z(p·q_i) for three user vectors           one dot product: the vectors are added first
//!          ln(1 + pop_i) at four half-lives, cold    one static prior of the row
//! listed   readings of neighbours and own history    boosts for a few rows
//! ```
//!
//! With h_0 the newest event, F, B and R the shares of [`crate::model::transitions`], δ the decay of recent events, and lg x = ln(1 + 1000 x):
//!
//! ```text
//! forward        lg Σ_k δᵏ F[h_k, i]       and its square root        backward, fresh   the same of B and R
//! forward_k      lg F[h_k, i], k = 0, 1, 2                             backward_0, fresh_0
//! forward_slow   lg Σ_k .9ᵏ F[h_k, i]                                  both   lg Σ_k .9ᵏ (F + B)[h_k, i] / 2
//! forward_stay   lg Σ_k stay_k F[h_k, i]   stay: time to the next event, up to two minutes, as a share
//! second_hop     lg Σ_j F[h_0, j] F[j, i]  over the first eight of each
//! listers        √ of the share of the recent events that list i
//! listed_…       ln(1 + pop_i) less its mean over the catalogue, where i is listed
//! own_…          readings of the own events with i: last, second, third, count, decayed count, place
//! ```

use crate::ids::Row;
use crate::model::Model;

/// Number of features.
pub const FEATURES: usize = 36;

/// A weight or a value for each feature.
pub type Weights = [f32; FEATURES];

/// Names of the features, in order.
pub const NAMES: [&str; FEATURES] = [
    "factor_recent",
    "factor_whole",
    "factor_last",
    "popularity_0",
    "popularity_1",
    "popularity_2",
    "popularity_3",
    "entries",
    "cold",
    "listed",
    "forward",
    "forward_root",
    "forward_0",
    "forward_1",
    "forward_2",
    "forward_slow",
    "backward_0",
    "backward",
    "both",
    "both_root",
    "fresh_0",
    "fresh",
    "listers",
    "second_hop",
    "listed_popularity_1",
    "listed_popularity_3",
    "forward_0_root",
    "forward_stay",
    "own_0",
    "own_1",
    "own_2",
    "own_count",
    "own_recent",
    "owned",
    "own_sitting",
    "own_place",
];

/// z of the recency-weighted factor.
pub const FACTOR_RECENT: usize = 0;
/// z of the plain factor of the whole history.
pub const FACTOR_WHOLE: usize = 1;
/// z of the newest item's own row.
pub const FACTOR_LAST: usize = 2;
/// First of the four readings ln(1 + pop), shortest half-life first.
pub const POPULARITY: usize = 3;
/// 1 where the row has no factor yet.
pub const COLD: usize = 8;
/// 1 where a recent event lists the row.
pub const LISTED: usize = 9;
pub const FORWARD: usize = 10;
pub const FORWARD_ROOT: usize = 11;
pub const FORWARD_AT: usize = 12;
pub const FORWARD_SLOW: usize = 15;
pub const BACKWARD_0: usize = 16;
pub const BACKWARD: usize = 17;
pub const BOTH: usize = 18;
pub const BOTH_ROOT: usize = 19;
pub const FRESH_0: usize = 20;
pub const FRESH: usize = 21;
pub const LISTERS: usize = 22;
pub const SECOND_HOP: usize = 23;
pub const LISTED_POPULARITY_1: usize = 24;
pub const LISTED_POPULARITY_3: usize = 25;
pub const FORWARD_0_ROOT: usize = 26;
pub const FORWARD_STAY: usize = 27;
/// First of three: whether the row is the newest event's, the second's, the third's.
pub const OWN: usize = 28;
/// ln(1 + how often the person touched the row).
pub const OWN_COUNT: usize = 31;
/// ln(1 + the same, decayed by place).
pub const OWN_RECENT: usize = 32;
/// 1 where the person touched the row.
pub const OWNED: usize = 33;
/// 1 where that was in the sitting that goes on.
pub const OWN_SITTING: usize = 34;
/// 1 / √(1 + events since).
pub const OWN_PLACE: usize = 35;

/// Features that are linear in the row's factors.
pub const FACTORS: std::ops::Range<usize> = FACTOR_RECENT..POPULARITY;
/// Features that are the same for everyone.
pub const STATIC: std::ops::Range<usize> = POPULARITY..LISTED;
/// Features of own items only.
pub const OF_OWN: std::ops::Range<usize> = OWN..FEATURES;

/// Decay by place of the slow readings (a choice: the last ten events or so).
const SLOW_DECAY: f32 = 0.9;

/// Neighbours of the newest item whose own neighbours are read.
const HOPS: usize = 8;

/// One event of a history, as the features read it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Row of the item.
    pub row: Row,
    /// Events after it.
    pub place: usize,
    /// Whether it belongs to the sitting that is going on.
    pub in_sitting: bool,
    /// How long the person stayed with it, 0 (not, or not known) to 1 (two minutes and more).
    pub stay: f32,
}

/// What a history says of one row.
#[derive(Clone, Debug, Default)]
struct Sums {
    row: Row,
    forward: f32,
    slow: f32,
    backward: f32,
    both: f32,
    fresh: f32,
    stayed: f32,
    hop: f32,
    /// Shares after the newest event, the second, the third.
    forward_at: [f32; 3],
    backward_0: f32,
    fresh_0: f32,
    listers: u32,
    own: [f32; 3],
    own_count: f32,
    own_recent: f32,
    own_place: f32,
    own_sitting: f32,
}

/// The rows that a history lists, with their features.
///
/// Sums of a row are taken in the order of the events, newest first, and a neighbour list holds a
/// row once: so they are the same in whatever order neighbours are stored.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    sums: Vec<Sums>,
    /// For each row of `sums` its place there and one; 0 is free. Open addressing, a power of two long.
    places: Vec<u32>,
    /// Events whose neighbours were read.
    recents: usize,
}

impl Listing {
    /// Reads a history, newest event first. `own` lists the person's own items too.
    pub fn read(&mut self, model: &Model, history: impl Iterator<Item = Seen>, own: bool) {
        self.sums.clear();
        self.places.fill(0);
        self.recents = 0;
        let settings = &model.hyper.transitions;
        let recent = usize::from(settings.recent);
        let (mut share, mut slow_share, mut own_share) = (1.0, 1.0, 1.0);
        let mut place_reached = 0;
        for seen in history {
            for _ in place_reached..seen.place {
                share *= settings.recent_decay;
                slow_share *= SLOW_DECAY;
                own_share *= model.hyper.own_decay;
            }
            place_reached = seen.place;
            if seen.place < recent {
                self.recents += 1;
                for neighbour in model.neighbours(seen.row) {
                    let sums = self.sums_of(neighbour.row);
                    sums.forward += share * neighbour.forward;
                    sums.backward += share * neighbour.backward;
                    sums.fresh += share * neighbour.fresh;
                    sums.slow += slow_share * neighbour.forward;
                    sums.both += slow_share * 0.5 * (neighbour.forward + neighbour.backward);
                    sums.stayed += seen.stay * neighbour.forward;
                    sums.listers += 1;
                    if let Some(forward_at) = sums.forward_at.get_mut(seen.place) {
                        *forward_at = neighbour.forward;
                    }
                    if seen.place == 0 {
                        sums.backward_0 = neighbour.backward;
                        sums.fresh_0 = neighbour.fresh;
                    }
                }
                if seen.place == 0 {
                    self.read_second_hop(model, seen.row);
                }
            } else if !own {
                break;
            }
            if own {
                let sums = self.sums_of(seen.row);
                if let Some(own) = sums.own.get_mut(seen.place) {
                    *own = 1.0;
                }
                if sums.own_count == 0.0 {
                    sums.own_place = 1.0 / libm::sqrtf(1.0 + seen.place as f32);
                }
                sums.own_count += 1.0;
                sums.own_recent += own_share;
                if seen.in_sitting {
                    sums.own_sitting = 1.0;
                }
            }
        }
    }

    /// Returns the listed rows with their features, in no order of rows; dense features are 0.
    pub fn rows<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (Row, Weights)> + 'a {
        self.sums.iter().map(|sums| (sums.row, features_of(model, sums, self.recents)))
    }

    fn read_second_hop(&mut self, model: &Model, from: Row) {
        for first in model.neighbours(from).filter(|neighbour| neighbour.forward > 0.0).take(HOPS) {
            for second in model.neighbours(first.row).filter(|second| second.forward > 0.0).take(HOPS) {
                if second.row != from {
                    self.sums_of(second.row).hop += first.forward * second.forward;
                }
            }
        }
    }

    /// Returns the sums of a row, new ones where it has none.
    fn sums_of(&mut self, row: Row) -> &mut Sums {
        if self.places.len() < 4 * (self.sums.len() + 1) {
            self.make_room();
        }
        let mut at = self.slot(row);
        loop {
            match self.places[at] {
                0 => {
                    self.sums.push(Sums { row, ..Sums::default() });
                    self.places[at] = self.sums.len() as u32;
                    break;
                }
                place if self.sums[place as usize - 1].row == row => break,
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
        let place = self.places[at] as usize - 1;
        &mut self.sums[place]
    }

    /// Returns where the search for a row starts (multiplicative hashing by 2³²/φ, Knuth 6.4).
    fn slot(&self, row: Row) -> usize {
        let hash = row.wrapping_mul(0x9e37_79b1);
        (hash >> (32 - self.places.len().trailing_zeros())) as usize
    }

    fn make_room(&mut self) {
        let room = (2 * self.places.len()).max(2048);
        self.places.clear();
        self.places.resize(room, 0);
        for place in 0..self.sums.len() {
            let mut at = self.slot(self.sums[place].row);
            while self.places[at] != 0 {
                at = (at + 1) & (room - 1);
            }
            self.places[at] = place as u32 + 1;
        }
    }
}

/// lg x = ln(1 + 1000 x): tells shares of a thousandth from none, and stops growing beyond.
fn lg(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { ln(1.0 + 1000.0 * x) }
}

/// ln x for finite x ≥ 1, to 2·10⁻⁷ of itself or of 1: with x = 2ᵉm, m in [√½, √2), and s = (m − 1)/(m + 1),
///
/// ```text
/// ln x = e ln 2 + 2 (s + s³/3 + s⁵/5 + s⁷/7 + s⁹/9 + …)
/// ```
fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let exponent = x.to_bits().wrapping_sub(ROOT_HALF) as i32 >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * s * series
}

/// Returns the features of one row from all that is said of it.
fn features_of(model: &Model, sums: &Sums, recents: usize) -> Weights {
    let mut features = [0.0; FEATURES];
    if sums.listers > 0 {
        features[LISTED] = 1.0;
        features[FORWARD] = lg(sums.forward);
        features[FORWARD_ROOT] = libm::sqrtf(sums.forward);
        for (feature, share) in features[FORWARD_AT..].iter_mut().zip(sums.forward_at) {
            *feature = lg(share);
        }
        features[FORWARD_0_ROOT] = libm::sqrtf(sums.forward_at[0]);
        features[FORWARD_SLOW] = lg(sums.slow);
        features[FORWARD_STAY] = lg(sums.stayed);
        features[BACKWARD_0] = lg(sums.backward_0);
        features[BACKWARD] = lg(sums.backward);
        features[BOTH] = lg(sums.both);
        features[BOTH_ROOT] = libm::sqrtf(sums.both);
        features[FRESH_0] = lg(sums.fresh_0);
        features[FRESH] = lg(sums.fresh);
        features[LISTERS] = libm::sqrtf(sums.listers as f32 / recents.max(1) as f32);
        let popularity = model.popularity_features(sums.row);
        let mean = model.popularity_mean();
        features[LISTED_POPULARITY_1] = popularity[1] - mean[1];
        features[LISTED_POPULARITY_3] = popularity[3] - mean[3];
    }
    features[SECOND_HOP] = lg(sums.hop);
    if sums.own_count > 0.0 {
        features[OWN..OWN + 3].copy_from_slice(&sums.own);
        features[OWN_COUNT] = ln(1.0 + sums.own_count);
        features[OWN_RECENT] = ln(1.0 + sums.own_recent);
        features[OWNED] = 1.0;
        features[OWN_SITTING] = sums.own_sitting;
        features[OWN_PLACE] = sums.own_place;
    }
    features
}

/// Returns Σ weight · value over the listed features.
pub fn boost(weights: &Weights, features: &Weights) -> f32 {
    (STATIC.end..FEATURES).fold(0.0, |sum, at| sum + weights[at] * features[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delta, DeltaId, Hyperparameters, Lineage, Statistics, Touch, Window};

    /// Items 0 to 4; the people go from 0 to 1 (three of four) or to 2, and from 1 to 3.
    fn model() -> Model {
        let mut hyper = Hyperparameters::starting_point();
        hyper.transitions.shrinkage = 0.0;
        let mut statistics = Statistics::new(Lineage(1), 2, 4, hyper);
        for item in 0..5 {
            statistics.register(&format!("i{item}")).unwrap();
        }
        let mut model = statistics.empty_model();
        let mut window = Window::new(&statistics);
        model.apply(&statistics.publish(&mut window, 1).patch).unwrap();
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
            window.admit(&statistics, &delta, number as u64);
        }
        model.apply(&statistics.publish(&mut window, 1).patch).unwrap();
        model
    }

    fn read(model: &Model, rows: &[Row], own: bool) -> Vec<(Row, Weights)> {
        let mut listing = Listing::default();
        let history = rows.iter().enumerate().map(|(place, row)| Seen {
            row: *row,
            place,
            in_sitting: true,
            stay: 1.0,
        });
        listing.read(model, history, own);
        let mut rows: Vec<_> = listing.rows(model).collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        rows
    }

    #[test]
    fn what_follows_is_listed_with_its_share_and_what_comes_before_with_its_own() {
        let model = model();
        let listed = read(&model, &[0], false);
        let of = |row: Row| listed.iter().find(|(listed, _)| *listed == row).map(|(_, features)| *features);
        let close = |found: f32, share: f32| assert!((found - lg(share)).abs() < 0.05, "{found} for {share}");
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
    fn own_items_are_listed_only_where_they_are_wanted() {
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
