//! The permutation that numpy's `default_rng(seed).permutation(n)` gives, so that a protocol
//! defined with numpy picks the same people here.
//!
//! `SeedSequence` (O'Neill's seed_seq_fe128), PCG64 (O'Neill 2014, "PCG: A Family of Simple Fast
//! Space-Efficient Statistically Good Algorithms"), Fisher–Yates with masked rejection.

/// PCG XSL-RR 128/64.
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The upper half of a draw whose lower half was used for 32 bits.
    half: Option<u32>,
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

impl Pcg64 {
    fn seeded(seed: u64) -> Self {
        let words = seed_words(seed);
        let pair = |at: usize| (u128::from(words[at]) << 64) | u128::from(words[at + 1]);
        let increment = (pair(2) << 1) | 1;
        let mut random = Self { state: 0, increment, half: None };
        random.step();
        random.state = random.state.wrapping_add(pair(0));
        random.step();
        random
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let draw = self.next64();
        self.half = Some((draw >> 32) as u32);
        draw as u32
    }

    /// Returns a number from 0 to `largest`, by masking and rejection.
    fn up_to(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX.checked_shr(largest.leading_zeros()).unwrap_or(0);
        loop {
            let draw = self.next32() & mask;
            if draw <= largest {
                return draw;
            }
        }
    }
}

/// Returns four 64-bit words as `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    const INIT_A: u32 = 0x43b0_d7e5;
    const MULT_A: u32 = 0x931e_8875;
    const INIT_B: u32 = 0x8b51_f9dd;
    const MULT_B: u32 = 0x58f3_8ded;
    const MIX_L: u32 = 0xca01_f9dd;
    const MIX_R: u32 = 0x4973_f715;
    let mut hash = INIT_A;
    let mut hashmix = |value: u32| {
        let value = value ^ hash;
        hash = hash.wrapping_mul(MULT_A);
        let value = value.wrapping_mul(hash);
        value ^ (value >> 16)
    };
    let mix = |x: u32, y: u32| {
        let value = MIX_L.wrapping_mul(x).wrapping_sub(MIX_R.wrapping_mul(y));
        value ^ (value >> 16)
    };
    let entropy = [seed as u32, (seed >> 32) as u32];
    let used = if entropy[1] == 0 { 1 } else { 2 };
    let mut pool = [0u32; 4];
    for (index, word) in pool.iter_mut().enumerate() {
        *word = hashmix(if index < used { entropy[index] } else { 0 });
    }
    for source in 0..4 {
        for target in 0..4 {
            if source != target {
                pool[target] = mix(pool[target], hashmix(pool[source]));
            }
        }
    }
    let mut hash = INIT_B;
    let mut words = [0u32; 8];
    for (index, word) in words.iter_mut().enumerate() {
        let value = pool[index % 4] ^ hash;
        hash = hash.wrapping_mul(MULT_B);
        let value = value.wrapping_mul(hash);
        *word = value ^ (value >> 16);
    }
    std::array::from_fn(|at| u64::from(words[2 * at]) | (u64::from(words[2 * at + 1]) << 32))
}

/// Returns `numpy.random.default_rng(seed).permutation(n)`.
pub(crate) fn permutation(seed: u64, n: usize) -> Vec<u32> {
    let mut random = Pcg64::seeded(seed);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for last in (1..n).rev() {
        order.swap(last, random.up_to(last as u32) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::permutation;

    #[test]
    fn the_order_is_numpys() {
        // numpy 2.4.6: numpy.random.default_rng(seed).permutation(n), whole or its last six.
        assert_eq!(permutation(98765, 10), [8, 0, 6, 5, 4, 9, 3, 1, 2, 7]);
        let cases: [(u64, usize, [u32; 6]); 2] = [
            (98765, 6040, [2033, 2995, 4257, 5282, 841, 4663]),
            ((1 << 40) + 5, 100, [1, 78, 27, 24, 4, 22]),
        ];
        for (seed, n, last) in cases {
            assert_eq!(permutation(seed, n)[n - 6..], last, "seed {seed}, n {n}");
        }
    }
}
