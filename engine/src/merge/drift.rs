//! Drift: whether the quality that people see has changed, and whether a version or the world did it.
//!
//! Devices count the ranks that chosen items had in the list before ([`crate::person::RankBins`]). One
//! observation is the mean gain of the choices of one delta, 0 to 1, whatever their number, so that
//! every delta counts the same. ADWIN (Bifet, Gavaldà 2007, doi
//! 10.1137/1.9781611972771.42) keeps a window of observations, and cuts off its older part where
//! the two parts' means differ by more than chance allows:
//!
//! ```text
//! |μ₀ − μ₁| > √(2 σ² L / m) + 2 L / (3 m)       L = ln(2 ln n / δ)     1/m = 1/n₀ + 1/n₁
//! ```
//!
//! with n₀, n₁ the sizes of the parts, n their sum, σ² the variance of the window, and δ the chance
//! of a false alarm. The window is an exponential histogram, five buckets of each size 2ʲ: a few
//! kilobytes for any length.
//!
//! **Cause.** After a cut, the observations of the newer part are split into those made on versions
//! that were in use before the cut and those on later versions, and both are compared by the same
//! bound. Where they differ from each other, the version changed: both saw the same world. Where
//! they do not and the earlier versions fell or rose too, the world changed. Where too few devices
//! still run an earlier version to decide after 512 more observations, the cause is unknown: a fleet
//! that moved to a new version at the very moment of the change leaves nothing to compare.

use crate::ids::ModelVersion;
use crate::sync::delta::RANK_BINS;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use serde::Serialize;

/// δ: chance that an unchanged stream raises an alarm at a test (a choice, as in the paper's experiments).
pub const FALSE_ALARM: f64 = 0.002;

/// Buckets of each size (M in the paper): more of them locate the moment of a change more exactly.
const BUCKETS_OF_SIZE: usize = 5;

/// Observations between two tests; a test walks over all buckets.
const TEST_EVERY: u64 = 32;

/// Fewest observations in either part of a window.
const PART_MIN: u64 = 16;

/// Newest observations kept one by one, with their versions.
const RECENT_MAX: usize = 4096;

/// Observations since a change, on earlier and on later versions each, that are needed to name its
/// cause.
const TELLING: u64 = 64;

/// Observations after a cut at which its cause is named in any case.
const WAIT_MAX: u64 = 512;

/// Mean of 1 / log2(1 + rank) over the ranks 1, 2–5, 6–10, 11–20 and beyond (0): the gain of NDCG.
const GAINS: [f64; RANK_BINS] = [1.0, 0.487, 0.319, 0.251, 0.0];

/// Returns the mean gain of the choices counted in `bins`, `None` where there are none.
pub fn mean_gain(bins: &[u16; RANK_BINS]) -> Option<f64> {
    let count: u32 = bins.iter().map(|bin| u32::from(*bin)).sum();
    let sum: f64 = bins.iter().zip(GAINS).map(|(bin, gain)| f64::from(*bin) * gain).sum();
    (count > 0).then(|| sum / f64::from(count))
}

/// Returns the gain of one choice, by its rank from 1.
pub fn gain(rank: f64) -> f64 {
    match rank {
        r if r < 1.5 => GAINS[0],
        r if r < 5.5 => GAINS[1],
        r if r < 10.5 => GAINS[2],
        r if r < 20.5 => GAINS[3],
        _ => GAINS[4],
    }
}

/// Count, mean and summed squared deviation of some observations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(value: f64) -> Self {
        Self { count: 1, mean: value, squares: 0.0 }
    }

    /// Returns the moments of both together (Chan, Golub, LeVeque 1983, doi 10.1080/00031305.1983.10483115).
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0 {
            return self;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        let mean = self.mean + apart * m / (n + m);
        Self { count, mean, squares: self.squares + other.squares + apart * apart * n * m / (n + m) }
    }

    /// Returns whether the means differ by more than chance allows, with `variance` and δ′ = δ / ln n.
    fn differs(self, other: Self, variance: f64, false_alarm: f64) -> bool {
        if self.count < PART_MIN || other.count < PART_MIN {
            return false;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let harmonic = 1.0 / (1.0 / n + 1.0 / m);
        let chance = libm::log(2.0 * libm::log(n + m) / false_alarm);
        let bound = f64::sqrt(2.0 * variance * chance / harmonic) + 2.0 * chance / (3.0 * harmonic);
        (self.mean - other.mean).abs() > bound
    }
}

/// A cut of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    before: Moments,
    after: Moments,
    variance: f64,
    /// Highest version of the older part.
    newest_before: ModelVersion,
}

/// The window of observations.
#[derive(Clone, Debug)]
struct Adwin {
    /// For each power of two, buckets of that many observations with their highest version, newest first.
    rows: Vec<VecDeque<(Moments, ModelVersion)>>,
    whole: Moments,
    since_test: u64,
    false_alarm: f64,
}

impl Adwin {
    fn new(false_alarm: f64) -> Self {
        Self { rows: Vec::new(), whole: Moments::default(), since_test: 0, false_alarm }
    }

    /// Takes an observation, and returns the cut if it caused one.
    fn observe(&mut self, value: f64, version: ModelVersion) -> Option<Cut> {
        self.insert(Moments::of(value), version);
        self.whole = self.whole.with(Moments::of(value));
        self.since_test += 1;
        if self.since_test < TEST_EVERY {
            return None;
        }
        self.since_test = 0;
        self.cut()
    }

    fn insert(&mut self, mut bucket: Moments, mut version: ModelVersion) {
        for size in 0.. {
            if self.rows.len() == size {
                self.rows.push(VecDeque::new());
            }
            let row = &mut self.rows[size];
            row.push_front((bucket, version));
            if row.len() <= BUCKETS_OF_SIZE {
                return;
            }
            let (Some((oldest, one)), Some((next, other))) = (row.pop_back(), row.pop_back()) else { return };
            bucket = oldest.with(next);
            version = one.max(other);
        }
    }

    /// Looks for the split of the window whose two parts differ most, and drops the older part.
    fn cut(&mut self) -> Option<Cut> {
        let variance = self.whole.squares / self.whole.count.max(1) as f64;
        let buckets: Vec<(Moments, ModelVersion)> =
            self.rows.iter().rev().flat_map(|row| row.iter().rev()).copied().collect();
        let mut after = vec![Moments::default(); buckets.len() + 1];
        for at in (0..buckets.len()).rev() {
            after[at] = buckets[at].0.with(after[at + 1]);
        }
        let mut before = Moments::default();
        let mut newest_before = ModelVersion(0);
        let mut best: Option<(f64, usize, Cut)> = None;
        for (at, (bucket, version)) in buckets.iter().enumerate() {
            before = before.with(*bucket);
            newest_before = newest_before.max(*version);
            let after = after[at + 1];
            if before.differs(after, variance, self.false_alarm) {
                let harmonic = 1.0 / (1.0 / before.count as f64 + 1.0 / after.count as f64);
                let difference = (before.mean - after.mean).abs() * f64::sqrt(harmonic);
                if best.as_ref().is_none_or(|(most, ..)| difference > *most) {
                    best = Some((difference, at + 1, Cut { before, after, variance, newest_before }));
                }
            }
        }
        let (_, dropped, cut) = best?;
        for _ in 0..dropped {
            while self.rows.last().is_some_and(VecDeque::is_empty) {
                self.rows.pop();
            }
            self.rows.last_mut().and_then(VecDeque::pop_back);
        }
        self.whole = cut.after;
        Some(cut)
    }
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Later versions serve a different quality than earlier ones at the same time.
    Version,
    /// Quality changed on the versions that were there before.
    World,
    /// Too few devices still run an earlier version to decide.
    Unknown,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Version, Self::World, Self::Unknown];

    /// Returns the name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::World => "world",
            Self::Unknown => "unknown",
        }
    }
}

/// The names of the directions of a change, in metrics.
pub const DIRECTIONS: [&str; 2] = ["worse", "better"];

/// An alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// What has changed.
    pub cause: Cause,
    /// Mean gain before, 0 to 1.
    pub before: f64,
    /// Mean gain since.
    pub after: f64,
    /// Observations since the change, as far as the window reaches.
    pub since: u64,
    /// Version of the newest observation.
    pub version: ModelVersion,
}

impl Drift {
    /// Returns `worse` or `better`, as metrics name it.
    pub fn direction(&self) -> &'static str {
        DIRECTIONS[usize::from(self.after >= self.before)]
    }
}

/// Watches the quality of a fleet.
#[derive(Clone, Debug)]
pub struct DriftMonitor {
    window: Adwin,
    recent: VecDeque<(ModelVersion, f64)>,
    pending: Option<Pending>,
}

/// A cut whose cause is not named yet.
#[derive(Clone, Debug)]
struct Pending {
    cut: Cut,
    /// Observations since the change.
    since: u64,
    /// Observations since the cut.
    waited: u64,
}

impl Default for DriftMonitor {
    fn default() -> Self {
        Self::new(FALSE_ALARM)
    }
}

impl DriftMonitor {
    /// Returns a monitor with the chance of a false alarm, above 0 and below 1.
    pub fn new(false_alarm: f64) -> Self {
        Self { window: Adwin::new(false_alarm), recent: VecDeque::new(), pending: None }
    }

    /// Returns the mean gain of the window: since the last change.
    pub fn mean(&self) -> f64 {
        self.window.whole.mean
    }

    /// Returns the number of observations in the window.
    pub fn len(&self) -> u64 {
        self.window.whole.count
    }

    /// Returns whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes one observation, a gain of 0 to 1 that was seen on `version`.
    pub fn observe(&mut self, version: ModelVersion, gain: f64) -> Option<Drift> {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let gain = gain.clamp(0.0, 1.0);
        self.recent.push_back((version, gain));
        let cut = self.window.observe(gain, version);
        match (&mut self.pending, cut) {
            (Some(pending), _) => pending.since += 1,
            (pending @ None, Some(cut)) => {
                *pending = Some(Pending { since: cut.after.count, waited: 0, cut })
            }
            (None, None) => return None,
        }
        self.decide(version)
    }

    /// Names the cause of the pending cut, once there are enough observations or it has waited long enough.
    fn decide(&mut self, version: ModelVersion) -> Option<Drift> {
        let Pending { cut, since, waited } = self.pending.as_mut()?;
        let (mut earlier, mut later) = (Moments::default(), Moments::default());
        for (version, gain) in self.recent.iter().rev().take(usize::try_from(*since).unwrap_or(RECENT_MAX)) {
            let part = if *version <= cut.newest_before { &mut earlier } else { &mut later };
            *part = part.with(Moments::of(*gain));
        }
        *waited += 1;
        let last_chance = *waited >= WAIT_MAX;
        if !last_chance && earlier.count.min(later.count) < TELLING {
            return None;
        }
        let differ = |a: Moments, b: Moments| a.differs(b, cut.variance, self.window.false_alarm);
        let cause = if differ(earlier, later) {
            Cause::Version
        } else if differ(earlier, cut.before) {
            Cause::World
        } else if last_chance {
            Cause::Unknown
        } else {
            return None;
        };
        let after = earlier.with(later).mean;
        let drift = Drift { cause, before: cut.before.mean, after, since: *since, version };
        self.pending = None;
        Some(drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn chance(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f64 / f64::from(1 << 24)
        }

        /// A gain that is 1 with the given chance, else 0: the widest spread there is.
        fn gain(&mut self, mean: f64) -> f64 {
            if self.chance() < mean { 1.0 } else { 0.0 }
        }
    }

    #[test]
    fn an_unchanged_stream_raises_few_alarms_and_keeps_few_buckets() {
        let mut alarms = 0;
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut monitor = DriftMonitor::default();
            for step in 0..20_000 {
                let version = ModelVersion(1 + step / 100);
                alarms += u32::from(monitor.observe(version, random.gain(0.3)).is_some());
            }
            let buckets: usize = monitor.window.rows.iter().map(VecDeque::len).sum();
            assert!(buckets <= BUCKETS_OF_SIZE * 16, "{buckets} buckets");
            assert!(monitor.recent.len() <= RECENT_MAX);
        }
        assert!(alarms <= 1, "{alarms} alarms in 400,000 observations of an unchanged stream");
    }

    #[test]
    fn a_change_of_the_world_is_found_on_the_version_that_stays() {
        for (mean, direction) in [(0.1, "worse"), (0.5, "better")] {
            let mut random = Random(5);
            let mut monitor = DriftMonitor::default();
            for _ in 0..5_000 {
                assert_eq!(monitor.observe(ModelVersion(1), random.gain(0.3)), None);
            }
            let found = (0..1_000u64).find_map(|step| {
                monitor.observe(ModelVersion(1), random.gain(mean)).map(|drift| (step, drift))
            });
            let (step, drift) = found.expect("an alarm within a thousand observations");
            assert!(step < 400 + WAIT_MAX, "found after {step}");
            assert_eq!((drift.cause, drift.direction()), (Cause::World, direction));
            assert!((drift.before - 0.3).abs() < 0.05 && (drift.after - mean).abs() < 0.12, "{drift:?}");
        }
    }

    #[test]
    fn a_bad_version_is_told_from_a_changed_world_by_the_devices_that_stayed_behind() {
        for (stayed, cause) in [(0.4, Cause::Version), (0.05, Cause::World)] {
            let mut random = Random(11);
            let mut monitor = DriftMonitor::default();
            for _ in 0..4_000 {
                assert_eq!(monitor.observe(ModelVersion(7), random.gain(0.4)), None);
            }
            let found = (0..4_000u32).find_map(|_| {
                let (version, mean) = if random.chance() < 0.3 { (7, stayed) } else { (8, 0.05) };
                monitor.observe(ModelVersion(version), random.gain(mean))
            });
            let drift = found.expect("an alarm");
            assert_eq!((drift.cause, drift.direction()), (cause, "worse"), "{drift:?}");
        }
    }

    #[test]
    fn a_fleet_that_moved_at_once_leaves_the_cause_unknown() {
        let mut random = Random(3);
        let mut monitor = DriftMonitor::default();
        for _ in 0..4_000 {
            assert_eq!(monitor.observe(ModelVersion(1), random.gain(0.4)), None);
        }
        let drift = (0..1_000).find_map(|_| monitor.observe(ModelVersion(2), random.gain(0.05)));
        assert_eq!(drift.expect("an alarm").cause, Cause::Unknown);
    }

    #[test]
    fn gains_follow_the_bins() {
        assert_eq!(mean_gain(&[0; RANK_BINS]), None);
        assert_eq!(mean_gain(&[1, 0, 0, 0, 3]), Some(0.25));
        assert_eq!([1.0, 2.0, 10.0, 20.0, 21.0].map(gain), GAINS);
    }
}
