//! Exploration: a sample of the person's factor in place of its best guess, so that items of which the
//! person's taste says little get their turn (Thompson sampling; Russo et al., "A Tutorial on Thompson
//! Sampling", arXiv 1707.02038).
//!
//! The fold-in is a ridge regression, whose posterior is normal with the solution as its mean and the
//! inverse of its matrix as its covariance, up to the variance of the targets:
//!
//! ```text
//! p̃ = p + ε L⁻¹ z        A = LᵀL        z ~ N(0, I)
//! ```
//!
//! with ε from 0 (the best guess) to 1 (the posterior of targets that vary by 1). The same seed gives the
//! same sample on every host: the generator works in integers, and the functions are software's own.

use crate::model::Model;
use crate::person::equations::Equations;
use alloc::vec;
use nearfield_kernels::algebra::{Solver, add_scaled};
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// How much a list explores, and with which seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exploration {
    pub(super) epsilon: f32,
    pub(super) seed: u64,
}

impl Equations {
    /// Moves a factor, with recency or without, by a deviation that its posterior allows.
    pub(super) fn deviate(
        &self,
        model: &Model,
        recency: bool,
        Exploration { epsilon, seed }: Exploration,
        solver: &mut Solver,
        p: &mut [f32],
    ) {
        // Both factors move along the same z: they are two views of one taste.
        let mut z = vec![0.0; p.len()];
        Normals::new(seed).fill(&mut z);
        if let Some(deviation) = self.factorise(model, recency, solver).and_then(|()| solver.deviate(&z)) {
            add_scaled(p, deviation, epsilon);
        }
    }
}

/// Standard normal numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) and Marsaglia's
/// polar method (Marsaglia and Bray 1964, doi 10.1137/1006063).
#[derive(Clone, Debug)]
struct Normals {
    state: u64,
}

impl Normals {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Fills `out` with standard normal numbers.
    fn fill(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let (x, y, square) = loop {
                let [x, y] = [(); 2].map(|()| 2.0 * self.uniform() - 1.0);
                let square = x * x + y * y;
                if 0.0 < square && square < 1.0 {
                    break (x, y, square);
                }
            };
            let stretched = f64::sqrt(-2.0 * libm::log(square) / square);
            pair.iter_mut().zip([x, y]).for_each(|(value, part)| *value = (part * stretched) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_moments_of_the_normal_distribution() {
        let mut values = vec![0.0; 200_000];
        Normals::new(7).fill(&mut values);
        let moment = |power: i32| {
            values.iter().map(|value| f64::from(*value).powi(power)).sum::<f64>() / values.len() as f64
        };
        for (power, expected, within) in [(1, 0.0, 0.01), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.1)] {
            assert!((moment(power) - expected).abs() < within, "moment {power} is {}", moment(power));
        }
    }

    #[test]
    fn a_seed_gives_the_recorded_numbers() {
        let mut values = [0.0; 3];
        Normals::new(1).fill(&mut values);
        assert_eq!(values.map(f32::to_bits), RECORDED, "{values:?}");
        assert_eq!(Normals::new(0).next_u64(), 0xe220_a839_7b1d_cdaf, "SplitMix64 of seed 0");
    }

    /// 0.4295, 1.5858 and 0.4565, as an independent program computes them.
    const RECORDED: [u32; 3] = [1_054_597_417, 1_070_267_032, 1_055_503_487];
}
