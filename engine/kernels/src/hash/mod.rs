//! BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn: "BLAKE3: one function, fast everywhere", 2020).
//!
//! The crate `blake3` hashes wherever its size does not matter. A page downloads every byte of it, and its loops are
//! written out for speed: in the package's module it took 11 of 130 kB. So on wasm32 `compact` takes its place, a
//! quarter of that size and faster there, since it works on four chunks at once in simd128.

#[cfg(any(test, target_arch = "wasm32"))]
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(unreachable_pub, reason = "it is the one that is used on wasm32")
)]
mod compact;
#[cfg(any(test, target_arch = "wasm32"))]
mod lanes;

#[cfg(not(target_arch = "wasm32"))]
pub use self::blake3_crate::Hasher;
#[cfg(target_arch = "wasm32")]
pub use self::compact::Hasher;

/// A hash.
pub type Hash = [u8; 32];

/// Returns the hash of some bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(not(target_arch = "wasm32"))]
mod blake3_crate {
    use super::Hash;

    /// Hashes bytes as they come.
    #[derive(Clone, Debug, Default)]
    pub struct Hasher(blake3::Hasher);

    impl Hasher {
        /// Begins without bytes.
        pub fn new() -> Self {
            Self(blake3::Hasher::new())
        }

        /// Takes the next bytes.
        pub fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        /// Returns the hash of all bytes so far.
        pub fn finalize(&self) -> Hash {
            *self.0.finalize().as_bytes()
        }
    }
}
