//! Four numbers of 32 bits that are worked on at once.

/// Numbers in one register.
pub(super) const LANES: usize = 4;

#[cfg(target_arch = "wasm32")]
pub(super) use simd128::Lanes;

#[cfg(target_arch = "wasm32")]
mod simd128 {
    use core::arch::wasm32::*;

    #[derive(Clone, Copy)]
    pub struct Lanes(v128);

    impl Lanes {
        pub fn new([a, b, c, d]: [u32; super::LANES]) -> Self {
            Self(u32x4(a, b, c, d))
        }

        pub fn all(number: u32) -> Self {
            Self(u32x4_splat(number))
        }

        pub fn get(self) -> [u32; super::LANES] {
            [
                u32x4_extract_lane::<0>(self.0),
                u32x4_extract_lane::<1>(self.0),
                u32x4_extract_lane::<2>(self.0),
                u32x4_extract_lane::<3>(self.0),
            ]
        }

        #[inline(always)]
        pub fn add(self, other: Self) -> Self {
            Self(u32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub fn xor(self, other: Self) -> Self {
            Self(v128_xor(self.0, other.0))
        }

        #[inline(always)]
        pub fn rotate_right<const BITS: u32>(self) -> Self {
            Self(v128_or(u32x4_shr(self.0, BITS), u32x4_shl(self.0, 32 - BITS)))
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy)]
pub(super) struct Lanes([u32; LANES]);

#[cfg(not(target_arch = "wasm32"))]
impl Lanes {
    pub(super) fn new(numbers: [u32; LANES]) -> Self {
        Self(numbers)
    }

    pub(super) fn all(number: u32) -> Self {
        Self([number; LANES])
    }

    pub(super) fn get(self) -> [u32; LANES] {
        self.0
    }

    fn with(self, other: Self, work: impl Fn(u32, u32) -> u32) -> Self {
        Self(core::array::from_fn(|lane| work(self.0[lane], other.0[lane])))
    }

    pub(super) fn add(self, other: Self) -> Self {
        self.with(other, u32::wrapping_add)
    }

    pub(super) fn xor(self, other: Self) -> Self {
        self.with(other, |one, other| one ^ other)
    }

    pub(super) fn rotate_right<const BITS: u32>(self) -> Self {
        Self(self.0.map(|number| number.rotate_right(BITS)))
    }
}
