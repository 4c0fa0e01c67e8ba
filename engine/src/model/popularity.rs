//! Decayed popularity at several half-lives, each as one `u16` an item on a logarithmic scale.
//!
//! ```text
//! pop_i(W) = Σ_events w·t · 2^−((W − W_event) / H)        W: weight merged so far, H: half-life
//! level_i  = round(32 · (log2 pop_i(W) + W/H − base))     0: never seen
//! x_i      = ln(1 + pop_i(W))                             what the score weighs
//! ```
//!
//! Ageing multiplies every pop_i by the same factor, which adds the same constant to every level:
//! untouched items keep their level (W/H makes up for it) and a patch carries only the touched
//! ones. `base` shifts all levels when they outgrow 16 bits; a patch carries the shift.

use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use serde::{Deserialize, Serialize};

/// Counts of popularity that are kept: all events at four half-lives (what is in demand now, and
/// what always is), and the events that start a session at one.
pub const HALF_LIVES: usize = 5;

/// The count at the half-life that ranks best by itself.
pub const BEST: usize = 1;

/// The count of events that start a session.
pub const ENTRIES: usize = 4;

/// Steps of a level to one doubling: 2.2 % a step, and 2,048 doublings in 16 bits.
pub const STEPS_PER_OCTAVE: f64 = 32.0;

/// Most octaves above the base; beyond them the base moves up by half that number.
pub(crate) const OCTAVES_MAX: f64 = 1600.0;

/// Where the levels of one half-life stand at a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Octaves subtracted from all levels.
    pub base: f64,
    /// Level of an item whose decayed count is 1 at this version.
    pub one: i32,
}

impl Scale {
    /// Returns the scale at merged weight `merged`.
    pub fn at(merged: f64, half_life: f64, base: f64) -> Self {
        Self { base, one: f64::round((merged / half_life - base) * STEPS_PER_OCTAVE) as i32 }
    }

    /// Returns how many steps to subtract from levels of the scale `before` to express them on this one.
    pub(crate) fn shift_from(&self, before: &Self) -> u32 {
        f64::round((self.base - before.base) * STEPS_PER_OCTAVE).clamp(0.0, f64::from(u32::MAX)) as u32
    }
}

/// Returns the level of a popularity `count` that was last aged at merged weight `merged`.
pub fn level(count: f64, merged: f64, half_life: f64, base: f64) -> u16 {
    if count <= 0.0 {
        return 0;
    }
    let octaves = libm::log2(count) + merged / half_life - base;
    f64::round(octaves * STEPS_PER_OCTAVE).clamp(1.0, f64::from(u16::MAX)) as u16
}

/// Returns a level expressed on a base `steps` higher; the level of a seen item stays above 0.
pub(crate) fn shifted(level: u16, steps: u32) -> u16 {
    if level == 0 { 0 } else { u32::from(level).saturating_sub(steps).max(1) as u16 }
}

/// Returns what remains of a sum after `weight` more was merged.
pub fn decay(weight: f64, half_life: f64) -> f64 {
    if half_life.is_infinite() { 1.0 } else { libm::exp2(-weight / half_life) }
}

/// Table of ln(1 + count) by the distance of a level from the level of count 1, so that no row needs a
/// logarithm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogTable {
    /// Entries for distances −REACH to REACH.
    values: Vec<f32>,
}

/// Steps on either side of one that the table holds: below, ln(1 + x) is under 10⁻⁶; above, it is
/// linear in the level.
const REACH: i32 = 20 * STEPS_PER_OCTAVE as i32;

impl LogTable {
    pub(crate) fn new() -> Self {
        // 2^(1/32), and from it the counts one after the other: their errors stay below 10⁻¹².
        const STEP: f64 = 1.021_897_148_654_116_6;
        let lowest = libm::ldexp(1.0, -REACH / STEPS_PER_OCTAVE as i32);
        let counts = core::iter::successors(Some(lowest), |count| Some(count * STEP));
        Self { values: counts.take(2 * REACH as usize + 1).map(|count| libm::log1p(count) as f32).collect() }
    }

    /// Returns ln(1 + pop) of a level.
    pub(crate) fn value(&self, level: u16, one: i32) -> f32 {
        let distance = i32::from(level) - one;
        if level == 0 || distance < -REACH {
            0.0
        } else if distance > REACH {
            const NATS_PER_STEP: f32 = (core::f64::consts::LN_2 / STEPS_PER_OCTAVE) as f32;
            distance as f32 * NATS_PER_STEP
        } else {
            self.values[(distance + REACH) as usize]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_item_keeps_its_level_and_a_doubled_one_rises_by_an_octave() {
        let before = level(8.0, 100.0, 50.0, -4.0);
        let aged = 8.0 * decay(30.0, 50.0);
        assert_eq!(level(aged, 130.0, 50.0, -4.0), before);
        assert_eq!(level(16.0, 100.0, 50.0, -4.0), before + 32);
        assert_eq!(level(0.0, 100.0, 50.0, -4.0), 0);
    }

    #[test]
    fn a_level_reads_as_the_logarithm_of_its_count() {
        let table = LogTable::new();
        let (half_life, base) = (50.0, -16.0);
        for merged in [0.0, 333.0] {
            let scale = Scale::at(merged, half_life, base);
            for count in [0.001, 0.5, 1.0, 7.0, 900.0, 3e7] {
                let read = f64::from(table.value(level(count, merged, half_life, base), scale.one));
                assert!((read - (1.0 + count).ln()).abs() < 0.03, "{count} reads as {read}");
            }
        }
        assert_eq!(table.value(0, 100), 0.0);
    }

    #[test]
    fn a_moved_base_changes_no_reading() {
        let table = LogTable::new();
        let before = Scale::at(1000.0, 50.0, -16.0);
        let after = Scale::at(1000.0, 50.0, -6.0);
        let steps = after.shift_from(&before);
        let held = level(5.0, 1000.0, 50.0, -16.0);
        assert_eq!(table.value(shifted(held, steps), after.one), table.value(held, before.one));
        assert_eq!(shifted(0, steps), 0);
        assert_eq!(shifted(3, steps), 1);
    }
}
