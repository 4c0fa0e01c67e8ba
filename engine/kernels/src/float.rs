//! The functions of floating-point numbers that `core` does not have. All of them are exact, so every host has the
//! same bits.

/// On wasm32, where there is no `std`, each is one instruction of the machine.
#[cfg(target_arch = "wasm32")]
pub trait Float: Sized {
    fn sqrt(self) -> Self;
    fn round_ties_even(self) -> Self;
    fn round(self) -> Self;
}

#[cfg(target_arch = "wasm32")]
impl Float for f32 {
    #[inline]
    fn sqrt(self) -> Self {
        use core::arch::wasm32::{f32x4_extract_lane, f32x4_splat, f32x4_sqrt};
        f32x4_extract_lane::<0>(f32x4_sqrt(f32x4_splat(self)))
    }

    #[inline]
    fn round_ties_even(self) -> Self {
        use core::arch::wasm32::{f32x4_extract_lane, f32x4_nearest, f32x4_splat};
        f32x4_extract_lane::<0>(f32x4_nearest(f32x4_splat(self)))
    }

    fn round(self) -> Self {
        libm::roundf(self)
    }
}

#[cfg(target_arch = "wasm32")]
impl Float for f64 {
    #[inline]
    fn sqrt(self) -> Self {
        use core::arch::wasm32::{f64x2_extract_lane, f64x2_splat, f64x2_sqrt};
        f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(self)))
    }

    #[inline]
    fn round_ties_even(self) -> Self {
        use core::arch::wasm32::{f64x2_extract_lane, f64x2_nearest, f64x2_splat};
        f64x2_extract_lane::<0>(f64x2_nearest(f64x2_splat(self)))
    }

    fn round(self) -> Self {
        libm::round(self)
    }
}
