//! The generator of the demo's chances: SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).

/// A deterministic stream of chances; the same seed gives the same stream on every machine.
#[derive(Debug, Clone)]
pub struct Chances(u64);

impl Chances {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Chances(seed)
    }

    /// A stream of its own, so that drawing more in one place does not change another.
    pub fn branch(&mut self) -> Self {
        Chances(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in [`low`, `high`).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An index below `count`, which must be above 0.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "an index below 0 cannot be drawn");
        (((self.next() >> 32) * count as u64) >> 32) as usize
    }

    /// True with probability `p`.
    pub fn yes(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// The number of failures before a success of probability `p`, at most `most`.
    pub fn geometric(&mut self, p: f64, most: usize) -> usize {
        let mut count = 0;
        while count < most && !self.yes(p) {
            count += 1;
        }
        count
    }

    /// An index drawn in proportion to `weights`; none if they sum to 0.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let mut left = self.unit() * total;
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return Some(index);
            }
        }
        weights.iter().rposition(|weight| *weight > 0.0)
    }

    /// Puts `things` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            things.swap(end, self.below(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chances;

    #[test]
    fn a_weight_of_nought_is_never_drawn() {
        let mut chances = Chances::new(1);
        let drawn: Vec<_> = (0..1000).filter_map(|_| chances.weighted(&[0.0, 1.0, 0.0, 3.0])).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|index| matches!(index, 1 | 3)));
        let threes = drawn.iter().filter(|index| **index == 3).count();
        assert!((680..820).contains(&threes), "{threes} of 1000 drawn with weight 3 of 4");
        assert_eq!(chances.weighted(&[0.0]), None);
    }

    #[test]
    fn the_stream_is_the_published_one() {
        // The first outputs of SplitMix64 for seed 1234567, as its authors list them.
        let mut chances = Chances::new(1_234_567);
        assert_eq!(chances.next(), 6_457_827_717_110_365_317);
        assert_eq!(chances.next(), 3_203_168_211_198_807_973);
    }
}
