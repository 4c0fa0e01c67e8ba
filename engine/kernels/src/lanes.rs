//! Readings of eight numbers at once.

/// Numbers that are worked on at once.
pub const LANES: usize = 8;

/// A number of each of eight rows.
pub type Lanes = [f32; LANES];

/// Returns a reading of each number. (A loop, which compilers turn into vectors where they call `map` on each.)
#[inline(always)]
pub fn each(lanes: &Lanes, read: impl Fn(f32) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for (out, lane) in out.iter_mut().zip(lanes) {
        *out = read(*lane);
    }
    out
}

/// lg x = ln(1 + 1000 x) of each number: separates a thousandth from zero, and grows slowly above. lg 0 is exactly 0.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline)]
pub fn lg(lanes: &Lanes) -> Lanes {
    if *lanes == [0.0; LANES] {
        return *lanes;
    }
    each(lanes, |x| ln(1.0 + 1000.0 * x))
}

/// ln x for finite x ≥ 1, to 2·10⁻⁷ of itself or of 1: with x = 2ᵉm, m in [√½, √2), and s = (m − 1)/(m + 1),
///
/// ```text
/// ln x = e ln 2 + 2 (s + s³/3 + s⁵/5 + s⁷/7 + s⁹/9 + …)
/// ```
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = core::f32::consts::FRAC_1_SQRT_2.to_bits();
    let exponent = x.to_bits().wrapping_sub(ROOT_HALF) as i32 >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * core::f32::consts::LN_2 + 2.0 * s * series
}
