//! How features are distributed when a ranker is trained, and whether they still are.
//!
//! Two distributions over the same bins, of shares p in training and q now, are compared by the population stability
//! index, Σ (q − p) ln(q / p) (Siddiqi, Credit Risk Scorecards, 2006): 0 for the same ones; by custom, below 0.1 is
//! no change, and above 0.25 one that calls for a look.

use super::{Device, Features, NUMBER_NAMES, Referrer};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Index above which a feature has drifted.
pub const PSI_MAX: f64 = 0.25;
/// How much larger the share of events without a feature may be than it was in training (choice).
pub const MISSING_MORE_MAX: f64 = 0.1;
/// Most bins of a number: tenths of what training saw.
const BINS: usize = 10;
/// What each bin is counted to have had beforehand, so that no share is 0.
const BEFOREHAND: f64 = 0.5;

/// How the features of training were distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// How many events it was made of.
    pub events: u64,
    /// The features that are numbers.
    pub numbers: Vec<Numbers>,
    /// Events by device, in the order of [`Device::ALL`].
    pub device: Vec<u64>,
    /// Events by referrer, in the order of [`Referrer::ALL`].
    pub referrer: Vec<u64>,
}

/// How one feature was distributed that is a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Its name.
    pub name: alloc::string::String,
    /// Events without it.
    pub missing: u64,
    /// The smallest and the largest value; none where all events were without it.
    pub range: Option<(f64, f64)>,
    /// Its bins.
    pub bins: Bins,
}

/// Counts of values between edges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Ascending edges; a value belongs to the bin after the last edge that is not above it.
    pub edges: Vec<f64>,
    /// Counts, one more than there are edges.
    pub counts: Vec<u64>,
}

impl Bins {
    /// Returns bins that hold about as many of the values each.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mut edges: Vec<f64> = Vec::new();
        for tenth in 1..BINS {
            let Some(edge) = values.get(values.len() * tenth / BINS) else { break };
            // A value that many events share makes one bin, however many tenths it fills; what is above the least one
            // is told from it, however little that is.
            let above = values.partition_point(|value| *value <= values[0]);
            let Some(edge) = (if *edge > values[0] { Some(edge) } else { values.get(above) }) else { break };
            if edges.last().is_none_or(|last| edge > last) {
                edges.push(*edge);
            }
        }
        let mut bins = Self { counts: vec![0; edges.len() + 1], edges };
        for value in values {
            let place = bins.place(value);
            bins.counts[place] += 1;
        }
        bins
    }

    fn place(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }
}

impl Baseline {
    /// Returns the baseline of the features of a training.
    pub fn of<'a>(features: impl IntoIterator<Item = &'a Features>) -> Self {
        let mut values = vec![Vec::new(); NUMBER_NAMES.len()];
        let mut missing = vec![0; NUMBER_NAMES.len()];
        let (mut device, mut referrer) = (vec![0; Device::ALL.len()], vec![0; Referrer::ALL.len()]);
        let mut events = 0;
        for features in features {
            events += 1;
            for (index, number) in features.numbers().into_iter().enumerate() {
                match number {
                    Some(number) => values[index].push(number),
                    None => missing[index] += 1,
                }
            }
            device[features.device as usize] += 1;
            referrer[features.referrer as usize] += 1;
        }
        let numbers = NUMBER_NAMES.iter().zip(values).zip(missing).map(|((name, values), missing)| {
            let least = values.iter().copied().min_by(f64::total_cmp);
            let most = values.iter().copied().max_by(f64::total_cmp);
            Numbers { name: (*name).into(), missing, range: least.zip(most), bins: Bins::of(values) }
        });
        Self { events, numbers: numbers.collect(), device, referrer }
    }

    /// Checks that this baseline is one of these features: names, counts and edges.
    ///
    /// # Errors
    /// What does not fit, with the feature.
    pub fn check(&self) -> Result<(), &'static str> {
        let names = self.numbers.iter().map(|numbers| numbers.name.as_str());
        if !names.eq(NUMBER_NAMES) {
            return Err("numbers are not the features that this version has, in their order");
        }
        let classes = (self.device.len(), self.referrer.len());
        if classes != (Device::ALL.len(), Referrer::ALL.len()) {
            return Err("device or referrer has not a count for each of its words");
        }
        let sound = |Numbers { bins: Bins { edges, counts }, .. }: &Numbers| {
            counts.len() == edges.len() + 1 && edges.is_sorted() && edges.iter().all(|edge| edge.is_finite())
        };
        if !self.numbers.iter().all(sound) {
            return Err("bins have ascending edges, and a count more than there are edges");
        }
        if self.events == 0 {
            return Err("events is 0");
        }
        Ok(())
    }
}

/// A value outside of what training saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutOfRange {
    /// Name of the feature.
    pub feature: &'static str,
    /// The value.
    pub value: f64,
}

/// How one feature of a window stands beside that of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Name of the feature.
    pub feature: &'static str,
    /// The population stability index of the values that are there.
    pub psi: f64,
    /// Share of events without it, 0 to 1.
    pub missing: f64,
    /// The same in training.
    pub missing_in_training: f64,
}

/// Counts the features of a window beside a baseline.
#[derive(Clone, Debug)]
pub struct Monitor {
    baseline: Baseline,
    events: u64,
    missing: Vec<u64>,
    numbers: Vec<Vec<u64>>,
    device: Vec<u64>,
    referrer: Vec<u64>,
}

impl Monitor {
    /// Returns a monitor with an empty window. The baseline is a checked one.
    pub fn new(baseline: Baseline) -> Self {
        let numbers = baseline.numbers.iter().map(|numbers| vec![0; numbers.bins.counts.len()]).collect();
        Self {
            events: 0,
            missing: vec![0; NUMBER_NAMES.len()],
            numbers,
            device: vec![0; Device::ALL.len()],
            referrer: vec![0; Referrer::ALL.len()],
            baseline,
        }
    }

    /// Counts an event, and returns what of it is outside of what training saw. Features that training never had are
    /// not: there is nothing to be outside of.
    pub fn observe(&mut self, features: &Features) -> Vec<OutOfRange> {
        self.events += 1;
        self.device[features.device as usize] += 1;
        self.referrer[features.referrer as usize] += 1;
        let mut outside = Vec::new();
        for (index, number) in features.numbers().into_iter().enumerate() {
            let Some(value) = number else {
                self.missing[index] += 1;
                continue;
            };
            let Numbers { range, bins, .. } = &self.baseline.numbers[index];
            self.numbers[index][bins.place(value)] += 1;
            if range.is_some_and(|(least, most)| !(least..=most).contains(&value)) {
                outside.push(OutOfRange { feature: NUMBER_NAMES[index], value });
            }
        }
        outside
    }

    /// Returns how many events the window has.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Ends the window: returns how each feature stands, and begins the next one.
    pub fn close(&mut self) -> Vec<Drift> {
        let of = |missing: u64, events: u64| if events == 0 { 0.0 } else { missing as f64 / events as f64 };
        let trained = &self.baseline;
        let numbers = trained.numbers.iter().enumerate().map(|(index, numbers)| Drift {
            feature: NUMBER_NAMES[index],
            psi: population_stability_index(&numbers.bins.counts, &self.numbers[index]),
            missing: of(self.missing[index], self.events),
            missing_in_training: of(numbers.missing, trained.events),
        });
        let word = |feature, then: &[u64], now: &[u64]| Drift {
            feature,
            psi: population_stability_index(then, now),
            missing: 0.0,
            missing_in_training: 0.0,
        };
        let words = [
            word("device", &trained.device, &self.device),
            word("referrer", &trained.referrer, &self.referrer),
        ];
        let drifts = numbers.chain(words).collect();
        *self = Self::new(self.baseline.clone());
        drifts
    }
}

/// Returns the population stability index of two counts over the same bins; 0 where either has counted nothing.
///
/// ```
/// use nearfield_engine::features::population_stability_index;
/// assert!(population_stability_index(&[500, 500], &[52, 48]) < 0.01);
/// assert!(population_stability_index(&[500, 500], &[90, 10]) > 0.25);
/// ```
pub fn population_stability_index(then: &[u64], now: &[u64]) -> f64 {
    let total = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (all_then, all_now) = (total(then), total(now));
    if all_then == 0.0 || all_now == 0.0 {
        return 0.0;
    }
    let bins = then.len() as f64 * BEFOREHAND;
    let share = |count: u64, all: f64| (count as f64 + BEFOREHAND) / (all + bins);
    let terms = then.iter().zip(now).map(|(then, now)| {
        let (p, q) = (share(*then, all_then), share(*now, all_now));
        (q - p) * libm::log(q / p)
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Random;

    fn features(random: &mut Random, price: f64) -> Features {
        let hours = random.below(24) as u8;
        Features {
            session_events: random.below(30) as u32,
            hour: (random.below(4) > 0).then_some(hours),
            price: Some(price * (1.0 + random.below(1000) as f64)),
            device: Device::ALL[random.below(3)],
            ..Features::default()
        }
    }

    fn drift(drifts: &[Drift], name: &str) -> Drift {
        *drifts.iter().find(|drift| drift.feature == name).unwrap()
    }

    #[test]
    fn the_same_distribution_does_not_drift_and_another_one_does() {
        let mut random = Random(1);
        let training: Vec<Features> = (0..5000).map(|_| features(&mut random, 1.0)).collect();
        let baseline = Baseline::of(&training);
        assert_eq!(baseline.check(), Ok(()));
        let price = &baseline.numbers[NUMBER_NAMES.iter().position(|name| *name == "price").unwrap()];
        assert_eq!(price.bins.counts.len(), BINS);
        assert!(price.bins.counts.iter().all(|count| (400..600).contains(count)), "{price:?}");

        let mut monitor = Monitor::new(baseline);
        (0..2000).for_each(|_| assert_eq!(monitor.observe(&features(&mut random, 1.0)), []));
        assert_eq!(monitor.events(), 2000);
        let same = monitor.close();
        assert!(same.iter().all(|drift| drift.psi < 0.02), "{same:?}");
        let hour = drift(&same, "hour");
        assert!((hour.missing - 0.25).abs() < 0.05 && (hour.missing_in_training - 0.25).abs() < 0.05);

        let mut outside = 0;
        for _ in 0..2000 {
            let other = Features { device: Device::Tv, hour: None, ..features(&mut random, 3.0) };
            outside += monitor.observe(&other).len();
        }
        let other = monitor.close();
        assert!(drift(&other, "price").psi > PSI_MAX && drift(&other, "device").psi > PSI_MAX);
        assert!(drift(&other, "session_events").psi < 0.02);
        assert_eq!(drift(&other, "hour").missing, 1.0);
        assert!(
            (1200..1450).contains(&outside),
            "two thirds of the prices are above all of training: {outside}"
        );
        assert_eq!(monitor.events(), 0);
    }

    #[test]
    fn a_value_that_most_events_share_is_a_bin_of_its_own() {
        let mut training = vec![Features::default(); 95];
        training.extend((1..=5).map(|seconds| Features { session_seconds: seconds, ..Features::default() }));
        let baseline = Baseline::of(&training);
        let seconds = baseline.numbers.iter().find(|numbers| numbers.name == "session_seconds").unwrap();
        assert_eq!((seconds.bins.counts.as_slice(), seconds.range), (&[95, 5][..], Some((0.0, 5.0))));
        let price = baseline.numbers.iter().find(|numbers| numbers.name == "price").unwrap();
        assert_eq!((price.missing, price.range, price.bins.counts.as_slice()), (100, None, &[0][..]));
    }

    #[test]
    fn a_baseline_of_other_features_is_refused() {
        let good = Baseline::of(&[Features::default()]);
        let mut other = good.clone();
        other.numbers.swap(0, 1);
        assert!(other.check().is_err());
        let mut other = good.clone();
        other.device.pop();
        assert!(other.check().is_err());
        let mut other = good;
        other.numbers[0].bins.counts.clear();
        assert!(other.check().is_err());
    }
}
