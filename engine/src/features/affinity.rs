//! What a person tends to choose, as sums over the events of choice in which each weighs less than the one after it.

use crate::ids::short_hash;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Weight of an event beside the one after it: half after 20 (choice: a person's taste of the last few visits).
/// 2^(−1/20).
const KEEP: f64 = 0.965_936_328_924_846;
/// Variance of a logarithm of prices that is taken for granted (choice: 0.4², so that a price half as high again is
/// near).
const PRICE_VARIANCE: f64 = 0.16;
/// Most categories that are kept of a person; the one of least weight leaves first.
const CATEGORIES_MAX: usize = 16;

/// The prices that a person chose: sums of weight, ln(1 + price) and its square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Prices {
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Prices {
    /// Returns exp(−z²/2), where z is how many deviations the price's logarithm is from the mean of those chosen;
    /// `None` before anything with a price was chosen.
    pub(super) fn affinity(&self, price: f64) -> Option<f64> {
        if self.weight == 0.0 {
            return None;
        }
        let mean = self.sum / self.weight;
        let variance = (self.squares / self.weight - mean * mean).max(0.0) + PRICE_VARIANCE;
        let distance = libm::log1p(price) - mean;
        Some(libm::exp(-0.5 * distance * distance / variance))
    }

    pub(super) fn choose(&mut self, price: f64) {
        let log = libm::log1p(price);
        self.weight = self.weight * KEEP + 1.0;
        self.sum = self.sum * KEEP + log;
        self.squares = self.squares * KEEP + log * log;
    }
}

/// The categories that a person chose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Categories {
    /// Weight of all, those included that have left.
    total: f64,
    /// Hash and weight of each, in the order in which they were chosen first.
    held: Vec<(u64, f64)>,
}

impl Categories {
    /// Returns a category's share of the weight, `None` before anything with a category was chosen.
    pub(super) fn affinity(&self, category: &str) -> Option<f64> {
        if self.total == 0.0 {
            return None;
        }
        let key = short_hash(category.as_bytes());
        let held = self.held.iter().find(|(held, _)| *held == key);
        Some(held.map_or(0.0, |(_, weight)| weight / self.total))
    }

    pub(super) fn choose(&mut self, category: &str) {
        let key = short_hash(category.as_bytes());
        self.total = self.total * KEEP + 1.0;
        self.held.iter_mut().for_each(|(_, weight)| *weight *= KEEP);
        if let Some((_, weight)) = self.held.iter_mut().find(|(held, _)| *held == key) {
            *weight += 1.0;
            return;
        }
        if self.held.len() == CATEGORIES_MAX {
            let lightest = (0..self.held.len()).min_by(|a, b| self.held[*a].1.total_cmp(&self.held[*b].1));
            self.held.remove(lightest.expect("there are some"));
        }
        self.held.push((key, 1.0));
    }

    pub(super) fn is_sound(&self) -> bool {
        self.held.len() <= CATEGORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_like_those_chosen_is_near_and_the_latest_weigh_most() {
        let mut prices = Prices::default();
        assert_eq!(prices.affinity(100.0), None);
        (0..5).for_each(|_| prices.choose(100.0));
        let near = |prices: &Prices, price| prices.affinity(price).unwrap();
        assert!((near(&prices, 100.0) - 1.0).abs() < 1e-12);
        assert!(near(&prices, 150.0) > 0.5 && near(&prices, 1000.0) < 1e-3);
        (0..60).for_each(|_| prices.choose(1000.0));
        assert!(near(&prices, 1000.0) > near(&prices, 100.0));
        assert!((0.0..=1.0).contains(&near(&prices, 0.0)));
    }

    #[test]
    fn shares_are_of_everything_and_few_categories_are_kept() {
        let mut categories = Categories::default();
        assert_eq!(categories.affinity("tents"), None);
        categories.choose("tents");
        categories.choose("boots");
        let shares = ["tents", "boots"].map(|category| categories.affinity(category).unwrap());
        assert!(shares[0] < shares[1]);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(categories.affinity("stoves"), Some(0.0));
        (0..100).for_each(|index| categories.choose(&alloc::format!("c{index}")));
        assert!(categories.is_sound());
        assert_eq!(categories.affinity("tents"), Some(0.0));
    }
}
