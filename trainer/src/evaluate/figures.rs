//! What is measured: ranks, hit rates, gains, and their standard errors.

use nearfield_engine::Row;
use nearfield_engine::model::blend::BUCKETS;
use serde::Serialize;

/// Hit rate and gain of one group of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Targets.
    pub n: u64,
    /// Fraction of targets ranked among the first ten.
    pub hr10: f64,
    /// Standard error of `hr10`, targets taken as independent; a sum of squares until the mean is taken.
    pub hr10_se: f64,
    /// Mean of 1 / log2(1 + rank) over targets, 0 beyond rank ten.
    pub ndcg10: f64,
    /// Standard error of `ndcg10`; a sum of squares until the mean is taken.
    pub ndcg10_se: f64,
}

impl Figures {
    /// Counts one target; sums until [`Figures::mean`].
    pub fn add(&mut self, rank: Option<f64>) {
        let (hit, gain) = hit_and_gain(rank);
        self.n += 1;
        self.hr10 += hit;
        self.hr10_se += hit * hit;
        self.ndcg10 += gain;
        self.ndcg10_se += gain * gain;
    }

    /// Returns the means of what was counted, and their standard errors.
    pub fn mean(self) -> Self {
        let (hr10, hr10_se) = mean_and_error(self.n, self.hr10, self.hr10_se);
        let (ndcg10, ndcg10_se) = mean_and_error(self.n, self.ndcg10, self.ndcg10_se);
        Self { n: self.n, hr10, hr10_se, ndcg10, ndcg10_se }
    }
}

/// Returns whether a rank is among the first ten, as 0 or 1, and 1 / log2(1 + rank) if so.
pub(crate) fn hit_and_gain(rank: Option<f64>) -> (f64, f64) {
    rank.filter(|rank| *rank <= 10.0).map_or((0.0, 0.0), |rank| (1.0, 1.0 / (1.0 + rank).log2()))
}

/// Returns the mean of `n` numbers and its standard error, s / √n, from their sum and sum of squares.
pub(crate) fn mean_and_error(n: u64, sum: f64, squares: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 0.0);
    }
    let mean = sum / n as f64;
    let variance = (squares - sum * mean).max(0.0) / n.saturating_sub(1).max(1) as f64;
    (mean, (variance / n as f64).sqrt())
}

/// Figures of one history bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BucketFigures {
    /// Events of history: 0, 1, 2–4, 5–9, 10–19, 20+.
    pub history: &'static str,
    /// Targets that the person had not touched.
    pub novel: Figures,
    /// All targets.
    pub all: Figures,
}

/// Names of the history buckets.
pub const BUCKET_NAMES: [&str; BUCKETS] = ["0", "1", "2-4", "5-9", "10-19", "20+"];

/// Returns the rank of a target among all rows but `excluded`, ties to the middle.
pub fn rank(scores: &[f32], target: Row, excluded: impl Iterator<Item = Row>) -> f64 {
    let own = scores[target as usize];
    let (mut above, mut equal) = (0i64, -1i64);
    for score in scores {
        above += i64::from(*score > own);
        equal += i64::from(*score == own);
    }
    for row in excluded.filter(|row| *row != target) {
        above -= i64::from(scores[row as usize] > own);
        equal -= i64::from(scores[row as usize] == own);
    }
    1.0 + above as f64 + equal as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_middle_and_excluded_rows_do_not_count() {
        let scores = [3.0, 1.0, 1.0, 1.0, 5.0];
        assert_eq!(rank(&scores, 1, std::iter::empty()), 4.0);
        assert_eq!(rank(&scores, 1, [4, 2].into_iter()), 2.5);
        assert_eq!(rank(&scores, 4, [4].into_iter()), 1.0);
    }

    #[test]
    fn a_mean_of_hits_comes_with_its_standard_error() {
        let mut figures = Figures::default();
        [Some(1.0), Some(11.0), None, Some(2.0)].into_iter().for_each(|rank| figures.add(rank));
        let figures = figures.mean();
        // Hits 1, 0, 0, 1: variance 1/3 over 4.
        assert_eq!((figures.n, figures.hr10), (4, 0.5));
        assert!((figures.hr10_se - (1.0f64 / 12.0).sqrt()).abs() < 1e-12, "{figures:?}");
        assert!((figures.ndcg10 - (1.0 + 1.0 / 3f64.log2()) / 4.0).abs() < 1e-12, "{figures:?}");
    }
}
