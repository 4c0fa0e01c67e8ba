//! Decayed popularity, as one `u16` an item on a logarithmic scale.
//!
//! ```text
//! pop_i(W) = Σ_events w·t · 2^−((W − W_event) / H)        W: weight merged so far, H: half-life
//! level_i  = round(256 · (log2 pop_i(W) + W/H − base))    0: never seen
//! ```
//!
//! Ageing multiplies every pop_i by the same factor, which adds the same constant to every level:
//! it changes no ranking, so untouched items keep their level (W/H makes up for it) and a patch
//! carries only the touched ones. `base` shifts all levels when they outgrow 16 bits.

/// Steps of a level to one doubling.
pub const STEPS_PER_OCTAVE: f64 = 256.0;

/// Natural logarithm of one step: the unit in which the blend weighs levels.
pub const NATS_PER_STEP: f32 = (std::f64::consts::LN_2 / STEPS_PER_OCTAVE) as f32;

/// Returns the level of a popularity `count` that was last aged at merged weight `merged`.
pub fn level(count: f64, merged: f64, half_life: f64, base: f64) -> u16 {
    if count <= 0.0 {
        return 0;
    }
    let octaves = libm::log2(count) + merged / half_life - base;
    libm::round(octaves * STEPS_PER_OCTAVE).clamp(1.0, f64::from(u16::MAX)) as u16
}

/// Returns what remains of a sum after `weight` more was merged.
pub fn decay(weight: f64, half_life: f64) -> f64 {
    if half_life.is_infinite() { 1.0 } else { libm::exp2(-weight / half_life) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_item_keeps_its_level_and_a_doubled_one_rises_by_an_octave() {
        let before = level(8.0, 100.0, 50.0, -4.0);
        let aged = 8.0 * decay(30.0, 50.0);
        assert_eq!(level(aged, 130.0, 50.0, -4.0), before);
        assert_eq!(level(16.0, 100.0, 50.0, -4.0), before + 256);
        assert_eq!(level(0.0, 100.0, 50.0, -4.0), 0);
    }
}
