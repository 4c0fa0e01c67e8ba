//! The blend: the table of the score's features, and one set of weights a scenario and bucket of
//! history length.
//!
//! The score is linear in the features (their equations stand in `rank/features.rs`), so it keeps the
//! form that exact pruning needs:
//!
//! ```text
//! dense    FACTORS        one dot product: the person's vectors are added first
//!          STATIC         one static prior of the row
//! listed   all others     boosts for a few candidate rows
//! ```

use crate::ids::Row;
use alloc::vec::Vec;
use core::ops::Range;
use serde::{Deserialize, Serialize};

/// Numbers the features in the order of the table and names them.
macro_rules! features {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        /// Names of the features, in order.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Number of features.
        pub const FEATURES: usize = NAMES.len();

        features!(@number 0usize; $($(#[$doc])* $constant,)*);
    };
    (@number $index:expr; $(#[$doc:meta])* $constant:ident, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $constant: usize = $index;
        features!(@number $constant + 1; $($rest)*);
    };
    (@number $index:expr;) => {};
}

features! {
    /// z of the recency-weighted factor.
    FACTOR_RECENT = "factor_recent";
    /// z of the plain factor of the whole history.
    FACTOR_WHOLE = "factor_whole";
    /// z of the newest item's own row.
    FACTOR_LAST = "factor_last";
    /// ln(1 + pop) at the shortest half-life; the next three follow at longer ones.
    POPULARITY = "popularity_0";
    /// ln(1 + pop) at the half-life that ranks best by itself.
    POPULARITY_1 = "popularity_1";
    /// ln(1 + pop) at four times that half-life.
    POPULARITY_2 = "popularity_2";
    /// ln(1 + pop) at 32 times that half-life.
    POPULARITY_3 = "popularity_3";
    /// ln(1 + pop) of the events that start a session.
    ENTRIES = "entries";
    /// 1 where the row has no factor yet.
    COLD = "cold";
    /// 1 where a recent event has the row among its neighbours.
    LISTED = "listed";
    /// Forward transitions from the recent events.
    FORWARD = "forward";
    /// Square root of the same sum.
    FORWARD_ROOT = "forward_root";
    /// Forward transitions from the newest event.
    FORWARD_AT = "forward_0";
    /// Forward transitions from the event before it.
    FORWARD_1 = "forward_1";
    /// Forward transitions from the third newest event.
    FORWARD_2 = "forward_2";
    /// Forward transitions from the last ten events or so.
    FORWARD_SLOW = "forward_slow";
    /// Backward transitions from the newest event.
    BACKWARD_0 = "backward_0";
    /// Backward transitions from the recent events.
    BACKWARD = "backward";
    /// Mean of forward and backward transitions from the last ten events or so.
    BOTH = "both";
    /// Square root of the same sum.
    BOTH_ROOT = "both_root";
    /// Fresh transitions from the newest event.
    FRESH_0 = "fresh_0";
    /// Fresh transitions from the recent events.
    FRESH = "fresh";
    /// Square root of the fraction of recent events that have the row among their neighbours.
    LISTERS = "listers";
    /// Forward transitions by way of one item in between.
    SECOND_HOP = "second_hop";
    /// Popularity at the best half-life less its mean, where the row is listed.
    LISTED_POPULARITY_1 = "listed_popularity_1";
    /// Popularity at the longest half-life less its mean, where the row is listed.
    LISTED_POPULARITY_3 = "listed_popularity_3";
    /// Square root of the forward transition from the newest event.
    FORWARD_0_ROOT = "forward_0_root";
    /// Forward transitions, each event weighed by how long the person stayed.
    FORWARD_STAY = "forward_stay";
    /// 1 where the row is the newest event's; the next two are the second's and the third's.
    OWN = "own_0";
    /// 1 where the row is the second newest event's.
    OWN_1 = "own_1";
    /// 1 where the row is the third newest event's.
    OWN_2 = "own_2";
    /// ln(1 + how often the person touched the row).
    OWN_COUNT = "own_count";
    /// ln(1 + the same, decayed by the number of events since).
    OWN_RECENT = "own_recent";
    /// 1 where the person touched the row.
    OWNED = "owned";
    /// 1 where that was in the current session.
    OWN_SESSION = "own_session";
    /// 1 / √(1 + events since).
    OWN_AGE = "own_age";
}

/// Features that are linear in the row's factors.
pub const FACTORS: Range<usize> = FACTOR_RECENT..POPULARITY;

/// Features that are the same for everyone.
pub const STATIC: Range<usize> = POPULARITY..LISTED;

/// Features of own items only.
pub const OF_OWN: Range<usize> = OWN..FEATURES;

/// A weight or a value for each feature.
pub type Weights = [f32; FEATURES];

/// A candidate row with its features.
pub type Candidate = (Row, Weights);

/// History-length buckets of the blend, by number of events: 0, 1, 2–4, 5–9, 10–19, 20 and more.
pub const BUCKETS: usize = 6;

/// Returns the bucket of a history of `events` events.
pub fn bucket(events: usize) -> usize {
    match events {
        0 => 0,
        1 => 1,
        2..=4 => 2,
        5..=9 => 3,
        10..=19 => 4,
        _ => 5,
    }
}

/// What list a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Items that are new to the person: the own history is left out.
    #[default]
    Discover,
    /// Whatever the person wants next, own items included: to continue where one was, or to buy again.
    Continue,
}

impl Scenario {
    /// All scenarios, in the order in which a blend keeps them.
    pub const ALL: [Self; 2] = [Self::Discover, Self::Continue];
}

/// One set of weights a scenario and bucket of history length, fitted on held-out time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct Blend {
    /// Weights by scenario, in the order of [`Scenario::ALL`], and bucket.
    pub by_scenario: [[Weights; BUCKETS]; 2],
}

impl Blend {
    /// Returns the weights of one list.
    pub fn weights(&self, scenario: Scenario, bucket: usize) -> &Weights {
        &self.by_scenario[scenario as usize][bucket]
    }
}

impl From<Blend> for Vec<f32> {
    fn from(blend: Blend) -> Self {
        blend.by_scenario.as_flattened().as_flattened().to_vec()
    }
}

impl TryFrom<Vec<f32>> for Blend {
    type Error = &'static str;

    fn try_from(numbers: Vec<f32>) -> Result<Self, Self::Error> {
        if numbers.len() != Scenario::ALL.len() * BUCKETS * FEATURES {
            return Err("a blend has one weight a scenario, bucket and feature");
        }
        let mut blend = Self { by_scenario: [[[0.0; FEATURES]; BUCKETS]; 2] };
        blend.by_scenario.as_flattened_mut().as_flattened_mut().copy_from_slice(&numbers);
        Ok(blend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_numbers_the_features_in_its_order() {
        assert_eq!((FEATURES, NAMES[FORWARD], NAMES[OWN_AGE]), (36, "forward", "own_age"));
        assert_eq!((NAMES[FORWARD_AT + 2], NAMES[OWN + 2]), ("forward_2", "own_2"));
        assert_eq!((FACTORS, STATIC, OF_OWN), (0..3, 3..9, 28..36));
    }

    #[test]
    fn a_blend_comes_back_from_its_numbers() {
        let numbers: Vec<f32> = (0..2 * BUCKETS * FEATURES).map(|at| at as f32).collect();
        let blend = Blend::try_from(numbers.clone()).unwrap();
        assert_eq!(blend.weights(Scenario::Continue, 0)[1], (BUCKETS * FEATURES + 1) as f32);
        assert_eq!(Vec::from(blend), numbers);
        assert!(Blend::try_from(numbers[1..].to_vec()).is_err());
    }
}
