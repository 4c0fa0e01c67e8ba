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
//! With h_0 the newest event, F, B and R the shares of [`crate::transitions`], δ the decay of recent events, and lg x = ln(1 + 1000 x):
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
use crate::transitions::Neighbour;

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
pub(crate) const FACTOR_RECENT: usize = 0;
/// z of the plain factor of the whole history.
pub(crate) const FACTOR_WHOLE: usize = 1;
/// z of the newest item's own row.
pub(crate) const FACTOR_LAST: usize = 2;
/// First of the four readings ln(1 + pop), shortest half-life first.
pub(crate) const POPULARITY: usize = 3;
/// 1 where the row has no factor yet.
pub(crate) const COLD: usize = 8;
/// 1 where a recent event lists the row.
pub(crate) const LISTED: usize = 9;
pub(crate) const FORWARD: usize = 10;
pub(crate) const FORWARD_ROOT: usize = 11;
pub(crate) const FORWARD_AT: usize = 12;
pub(crate) const FORWARD_SLOW: usize = 15;
pub(crate) const BACKWARD_0: usize = 16;
pub(crate) const BACKWARD: usize = 17;
pub(crate) const BOTH: usize = 18;
pub(crate) const BOTH_ROOT: usize = 19;
pub(crate) const FRESH_0: usize = 20;
pub(crate) const FRESH: usize = 21;
pub(crate) const LISTERS: usize = 22;
pub(crate) const SECOND_HOP: usize = 23;
pub(crate) const LISTED_POPULARITY_1: usize = 24;
pub(crate) const LISTED_POPULARITY_3: usize = 25;
pub(crate) const FORWARD_0_ROOT: usize = 26;
pub(crate) const FORWARD_STAY: usize = 27;
/// First of three: whether the row is the newest event's, the second's, the third's.
pub(crate) const OWN: usize = 28;
/// ln(1 + how often the person touched the row).
pub const OWN_COUNT: usize = 31;
/// ln(1 + the same, decayed by place).
pub(crate) const OWN_RECENT: usize = 32;
/// 1 where the person touched the row.
pub(crate) const OWNED: usize = 33;
/// 1 where that was in the sitting that goes on.
pub(crate) const OWN_SITTING: usize = 34;
/// 1 / √(1 + events since).
pub(crate) const OWN_PLACE: usize = 35;

/// Features that are linear in the row's factors.
pub(crate) const FACTORS: std::ops::Range<usize> = FACTOR_RECENT..POPULARITY;
/// Features that are the same for everyone.
pub(crate) const STATIC: std::ops::Range<usize> = POPULARITY..LISTED;
/// Features of own items only.
pub(crate) const OF_OWN: std::ops::Range<usize> = OWN..FEATURES;

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

/// What one event says of one row.
#[derive(Clone, Copy, Debug)]
struct Mention {
    row: Row,
    /// What kind of mention, with its place: orders the sums.
    source: Source,
    /// What the neighbour's shares say; only `forward` for a hop, nothing for an own item.
    neighbour: Neighbour,
    stay: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Neighbour(u16),
    Hop(u16),
    Own(u16, bool),
}

/// The rows that a history lists, with their features.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    mentions: Vec<Mention>,
    /// Rising rows with the features that a listing gives; dense ones are 0 here.
    pub rows: Vec<(Row, Weights)>,
}

impl Listing {
    /// Reads a history, newest event first. `own` lists the person's own items too.
    pub fn read(&mut self, model: &Model, history: impl Iterator<Item = Seen>, own: bool) {
        self.mentions.clear();
        self.rows.clear();
        let settings = &model.hyper.transitions;
        let recent = usize::from(settings.recent);
        let mut recents = 0;
        for seen in history {
            if seen.place < recent {
                recents += 1;
                let source = Source::Neighbour(seen.place as u16);
                self.mentions.extend(model.neighbours(seen.row).map(|neighbour| Mention {
                    row: neighbour.row,
                    source,
                    neighbour,
                    stay: seen.stay,
                }));
                if seen.place == 0 {
                    self.read_second_hop(model, seen.row);
                }
            } else if !own {
                break;
            }
            if own {
                let source = Source::Own(seen.place as u16, seen.in_sitting);
                self.mentions.push(Mention {
                    row: seen.row,
                    source,
                    neighbour: only_forward(seen.row, 0.0),
                    stay: 0.0,
                });
            }
        }
        // One order for the sums, whatever order the neighbours are stored in.
        self.mentions.sort_unstable_by_key(|mention| (mention.row, mention.source));
        let mut at = 0;
        while let Some(first) = self.mentions.get(at) {
            let of_row = self.mentions[at..].iter().take_while(|mention| mention.row == first.row).count();
            let features = features_of(model, &self.mentions[at..at + of_row], recents);
            self.rows.push((first.row, features));
            at += of_row;
        }
    }

    fn read_second_hop(&mut self, model: &Model, from: Row) {
        let through = model.neighbours(from).filter(|neighbour| neighbour.forward > 0.0).take(HOPS);
        for (order, first) in through.enumerate() {
            let second = model.neighbours(first.row).filter(|neighbour| neighbour.forward > 0.0).take(HOPS);
            self.mentions.extend(second.filter(|second| second.row != from).map(|second| Mention {
                row: second.row,
                source: Source::Hop(order as u16),
                neighbour: only_forward(second.row, first.forward * second.forward),
                stay: 0.0,
            }));
        }
    }
}

fn only_forward(row: Row, forward: f32) -> Neighbour {
    Neighbour { row, forward, backward: 0.0, fresh: 0.0 }
}

/// lg x = ln(1 + 1000 x): tells shares of a thousandth from none, and stops growing beyond.
fn lg(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { libm::log1pf(1000.0 * x) }
}

/// Returns the features of one row from all that is said of it.
fn features_of(model: &Model, mentions: &[Mention], recents: usize) -> Weights {
    let mut features = [0.0; FEATURES];
    let settings = &model.hyper.transitions;
    let (mut forward, mut slow, mut backward, mut both) = (0.0, 0.0, 0.0, 0.0);
    let (mut fresh, mut stayed, mut hop) = (0.0, 0.0, 0.0);
    let (mut listers, mut own_count, mut own_recent) = (0usize, 0.0, 0.0);
    for Mention { source, neighbour, stay, .. } in mentions {
        match *source {
            Source::Neighbour(place) => {
                let share = libm::powf(settings.recent_decay, f32::from(place));
                let slow_share = libm::powf(SLOW_DECAY, f32::from(place));
                forward += share * neighbour.forward;
                backward += share * neighbour.backward;
                fresh += share * neighbour.fresh;
                slow += slow_share * neighbour.forward;
                both += slow_share * 0.5 * (neighbour.forward + neighbour.backward);
                stayed += stay * neighbour.forward;
                listers += 1;
                if place < 3 {
                    features[FORWARD_AT + usize::from(place)] = lg(neighbour.forward);
                }
                if place == 0 {
                    features[FORWARD_0_ROOT] = libm::sqrtf(neighbour.forward);
                    features[BACKWARD_0] = lg(neighbour.backward);
                    features[FRESH_0] = lg(neighbour.fresh);
                }
            }
            Source::Hop(_) => hop += neighbour.forward,
            Source::Own(place, in_sitting) => {
                if place < 3 {
                    features[OWN + usize::from(place)] = 1.0;
                }
                if own_count == 0.0 {
                    features[OWN_PLACE] = 1.0 / libm::sqrtf(1.0 + f32::from(place));
                }
                own_count += 1.0;
                own_recent += libm::powf(model.hyper.own_decay, f32::from(place));
                if in_sitting {
                    features[OWN_SITTING] = 1.0;
                }
            }
        }
    }
    if listers > 0 {
        features[LISTED] = 1.0;
        features[FORWARD] = lg(forward);
        features[FORWARD_ROOT] = libm::sqrtf(forward);
        features[FORWARD_SLOW] = lg(slow);
        features[FORWARD_STAY] = lg(stayed);
        features[BACKWARD] = lg(backward);
        features[BOTH] = lg(both);
        features[BOTH_ROOT] = libm::sqrtf(both);
        features[FRESH] = lg(fresh);
        features[LISTERS] = libm::sqrtf(listers as f32 / recents.max(1) as f32);
        let popularity = model.popularity_features(mentions[0].row);
        let mean = model.popularity_mean();
        features[LISTED_POPULARITY_1] = popularity[1] - mean[1];
        features[LISTED_POPULARITY_3] = popularity[3] - mean[3];
    }
    features[SECOND_HOP] = lg(hop);
    if own_count > 0.0 {
        features[OWNED] = 1.0;
        features[OWN_COUNT] = libm::log1pf(own_count);
        features[OWN_RECENT] = libm::log1pf(own_recent);
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
        listing.rows
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
        assert_eq!(own[OWN_COUNT], libm::log1pf(2.0));
    }
}
