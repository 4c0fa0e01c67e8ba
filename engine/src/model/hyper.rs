//! Everything that the trainer chooses for a catalogue; nothing that depends on data is a constant
//! in code.

use crate::error::in_words;
use crate::event::Kind;
use crate::model::blend::{self, BUCKETS, Blend, FEATURES};
use crate::model::popularity::HALF_LIVES;
use serde::{Deserialize, Serialize};

/// Confidence and target of one kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindWeight {
    /// Confidence w ≥ 0: how much one event of this kind counts.
    pub weight: f32,
    /// Target t: 1 for "wants it", 0 for "does not".
    pub target: f32,
}

/// How directed transitions are learned and read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionSettings {
    /// L: events a follower may lie behind its leader, 1 to 20. Larger sees more pairs, less sharply.
    pub reach: u8,
    /// Weight of a pair at distance δ+1 relative to the weight at distance δ, (0, 1].
    pub distance_decay: f32,
    /// Recent events whose followers are read, 1 to 20.
    pub recent: u8,
    /// δ: weight of the k-th newest event relative to the one after it, (0, 1].
    pub recent_decay: f32,
    /// Pseudo-count added to a leader's total, ≥ 0: shrinks fractions that rest on few observations.
    pub shrinkage: f32,
    /// Half-life of the counts, in merged weight (events of the fleet).
    pub half_life: f32,
    /// Half-life of the fresh counts, in merged weight: what has followed recently.
    pub fresh_half_life: f32,
}

/// What a delta may hold at most; central refuses anything beyond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Largest norm of a user factor: twice the largest seen in training.
    pub factor_norm_max: f32,
    /// Most items in one delta.
    pub items_max: u16,
    /// Most mentions of one item in one delta.
    pub repeats_max: u16,
    /// Largest step of an item's row in one publish, in units of the root mean square row norm.
    pub step_max: f32,
}

/// All that a model carries besides its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    /// α0: weight of every unobserved pair (1.0 on dense ratings down to 0.0001 on sparse clicks).
    pub alpha: f32,
    /// λ: ridge, multiplied by the weight of a row or person (frequency-scaled, ν = 1).
    pub lambda: f32,
    /// ρ: what remains of the recent system after one more event, [0, 1).
    /// Smaller follows the last clicks; larger remembers the month.
    pub recent_decay: f32,
    /// κ ≥ 0: weight of the recent system beside the whole history.
    pub recent_weight: f32,
    /// Half-life of the factor statistics, in merged weight; infinite keeps everything.
    pub factor_half_life: f32,
    /// Half-lives of popularity, in merged weight: four of all events, one of those
    /// that start a session.
    pub popularity_half_lives: [f32; HALF_LIVES],
    /// Part of an own count left after one more event, [0, 1].
    pub own_decay: f32,
    /// Transitions.
    pub transitions: TransitionSettings,
    /// Confidence and target by kind, at the index of [`Kind::ALL`].
    pub kinds: [KindWeight; 8],
    /// Blend by bucket of history length.
    pub blend: Blend,
    /// Clip bounds of deltas.
    pub bounds: Bounds,
}

/// The name of each number that may be out of its range.
static NAMES: [&str; 20] = [
    "alpha",
    "lambda",
    "recent_decay",
    "recent_weight",
    "factor_half_life",
    "popularity_half_lives",
    "own_decay",
    "transitions.reach",
    "transitions.distance_decay",
    "transitions.recent",
    "transitions.recent_decay",
    "transitions.shrinkage",
    "transitions.half_life",
    "transitions.fresh_half_life",
    "kinds",
    "blend",
    "bounds.factor_norm_max",
    "bounds.items_max",
    "bounds.repeats_max",
    "bounds.step_max",
];

/// The range of each.
static RANGES: [&str; 20] = [
    "above 0, at most 10",
    "above 0 and finite",
    "0 to below 1",
    "0 or more",
    "above 0",
    "above 0",
    "0 to 1",
    "1 to 20",
    "above 0, at most 1",
    "1 to 20",
    "above 0, at most 1",
    "0 or more",
    "above 0",
    "above 0",
    "weight 0 to 100, target 0 to 1",
    "finite",
    "above 0, at most 64",
    "1 to 256",
    "1 or more",
    "above 0",
];

impl Hyperparameters {
    /// Returns confidence and target of a kind.
    pub fn kind(&self, kind: Kind) -> KindWeight {
        self.kinds[kind as usize]
    }

    /// Returns whether an event of this kind says that the person wants the item. Only such events are what
    /// a list should foresee.
    pub fn is_target(&self, kind: Kind) -> bool {
        let KindWeight { weight, target } = self.kind(kind);
        kind.is_history() && weight > 0.0 && target > 0.0
    }

    /// Returns the starting point of a search: the middle of every range, with no blend fitted yet.
    pub fn starting_point() -> Self {
        let kind = |weight, target| KindWeight { weight, target };
        let mut even = [0.0; FEATURES];
        even[blend::FACTOR_RECENT] = 1.0;
        even[blend::FORWARD] = 0.5;
        even[blend::POPULARITY_2] = 0.5;
        let mut popular = [0.0; FEATURES];
        popular[blend::POPULARITY_2] = 1.0;
        let mut weights = [even; BUCKETS];
        weights[0] = popular;
        let blend = Blend { by_scenario: [weights; 2] };
        Self {
            alpha: 0.01,
            lambda: 0.01,
            recent_decay: 0.7,
            recent_weight: 1.0,
            factor_half_life: f32::INFINITY,
            popularity_half_lives: [500.0, 3_000.0, 20_000.0, 200_000.0, 20_000.0],
            own_decay: 0.8,
            transitions: TransitionSettings {
                reach: 5,
                distance_decay: 0.6,
                recent: 8,
                recent_decay: 0.6,
                shrinkage: 2.0,
                half_life: 100_000.0,
                fresh_half_life: 10_000.0,
            },
            // A choice: stated wishes count more than looks; a dismissal is a look at an item that is not wanted.
            kinds: [
                kind(1.0, 1.0),
                kind(1.0, 1.0),
                kind(1.5, 1.0),
                kind(1.0, 0.0),
                kind(2.0, 1.0),
                kind(0.0, 0.0),
                kind(1.0, 0.0),
                kind(0.0, 0.0),
            ],
            blend,
            bounds: Bounds { factor_norm_max: 8.0, items_max: 32, repeats_max: 16, step_max: 4.0 },
        }
    }

    /// Names the first number that is out of its range, if any, and its range.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let t = &self.transitions;
        let blend = self.blend.by_scenario.as_flattened().as_flattened();
        let sound_kind =
            |k: &KindWeight| (0.0..=100.0).contains(&k.weight) && (0.0..=1.0).contains(&k.target);
        // In the order of `NAMES`.
        let good = [
            self.alpha > 0.0 && self.alpha <= 10.0,
            self.lambda > 0.0 && self.lambda.is_finite(),
            (0.0..1.0).contains(&self.recent_decay),
            self.recent_weight >= 0.0 && self.recent_weight.is_finite(),
            self.factor_half_life > 0.0,
            self.popularity_half_lives.iter().all(|half_life| *half_life > 0.0),
            (0.0..=1.0).contains(&self.own_decay),
            (1..=20).contains(&t.reach),
            t.distance_decay > 0.0 && t.distance_decay <= 1.0,
            (1..=20).contains(&t.recent),
            t.recent_decay > 0.0 && t.recent_decay <= 1.0,
            t.shrinkage >= 0.0 && t.shrinkage.is_finite(),
            t.half_life > 0.0,
            t.fresh_half_life > 0.0,
            self.kinds.iter().all(sound_kind),
            blend.iter().all(|weight| weight.is_finite()),
            self.bounds.factor_norm_max > 0.0 && self.bounds.factor_norm_max <= 64.0,
            (1..=256).contains(&self.bounds.items_max),
            self.bounds.repeats_max >= 1,
            self.bounds.step_max > 0.0,
        ];
        good.iter().position(|good| !good).map(|at| (NAMES[at], in_words(|| RANGES[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_out_of_its_range_is_named() {
        let spoil: [fn(&mut Hyperparameters); 20] = [
            |h| h.alpha = 0.0,
            |h| h.lambda = f32::INFINITY,
            |h| h.recent_decay = 1.0,
            |h| h.recent_weight = -1.0,
            |h| h.factor_half_life = 0.0,
            |h| h.popularity_half_lives[4] = 0.0,
            |h| h.own_decay = 1.5,
            |h| h.transitions.reach = 0,
            |h| h.transitions.distance_decay = 0.0,
            |h| h.transitions.recent = 21,
            |h| h.transitions.recent_decay = f32::NAN,
            |h| h.transitions.shrinkage = -1.0,
            |h| h.transitions.half_life = 0.0,
            |h| h.transitions.fresh_half_life = 0.0,
            |h| h.kinds[7].target = 2.0,
            |h| h.blend.by_scenario[1][0][0] = f32::NAN,
            |h| h.bounds.factor_norm_max = 65.0,
            |h| h.bounds.items_max = 0,
            |h| h.bounds.repeats_max = 0,
            |h| h.bounds.step_max = 0.0,
        ];
        assert_eq!(Hyperparameters::starting_point().fault(), None);
        for ((spoil, name), range) in spoil.into_iter().zip(NAMES).zip(RANGES) {
            let mut hyper = Hyperparameters::starting_point();
            spoil(&mut hyper);
            assert_eq!(hyper.fault(), Some((name, range)));
        }
    }
}
