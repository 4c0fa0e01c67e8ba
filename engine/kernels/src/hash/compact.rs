//! BLAKE3 in little code: one compression function, on four blocks at once.
//!
//! The input is cut into chunks of 1,024 bytes, each a chain of blocks of 64; the chunks are the leaves of a binary
//! tree. Four chunks are hashed side by side, a lane each. A block that comes alone takes all four lanes, of which
//! one counts.

use super::Hash;
use super::lanes::{LANES, Lanes};
use alloc::vec::Vec;

const BLOCK: usize = 64;
const CHUNK: usize = 1024;
/// What is hashed at once.
const GROUP: usize = LANES * CHUNK;

const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 1 << 1;
const PARENT: u32 = 1 << 2;
const ROOT: u32 = 1 << 3;

const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The order in which a round takes the words of the round before.
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// Eight words of a chain: the chaining value of a node of the tree.
type Chain = [u32; 8];

/// The words of a block.
type Words = [u32; BLOCK / 4];

/// Hashes bytes as they come.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    /// Roots of whole subtrees, the largest first.
    stack: Vec<Chain>,
    /// Chunks that are in them.
    chunks: u64,
    /// Bytes that are in no subtree yet, a group at most. The last chunk of all is hashed otherwise than the others,
    /// so a group waits here until a byte follows it.
    waiting: Vec<u8>,
}

impl Hasher {
    /// Begins without bytes.
    pub fn new() -> Self {
        Self { stack: Vec::new(), chunks: 0, waiting: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Some(group) = self.waiting.first_chunk::<GROUP>() {
                for chain in chains_of_group(group, self.chunks) {
                    self.chunks += 1;
                    push(&mut self.stack, chain, self.chunks);
                }
                self.waiting.clear();
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(GROUP - self.waiting.len()));
            self.waiting.extend_from_slice(taken);
            bytes = rest;
        }
    }

    /// Returns the hash of all bytes so far.
    pub fn finalize(&self) -> Hash {
        let (mut stack, mut chunks) = (self.stack.clone(), self.chunks);
        let whole = self.waiting.len().saturating_sub(1) / CHUNK * CHUNK;
        let (before, last) = self.waiting.split_at(whole);
        for chunk in before.chunks_exact(CHUNK) {
            let chain = Node::chunk(chunk, chunks).chain(0);
            chunks += 1;
            push(&mut stack, chain, chunks);
        }
        let mut node = Node::chunk(last, chunks);
        while let Some(left) = stack.pop() {
            node = Node::parent(left, node.chain(0));
        }
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(node.chain(ROOT)) {
            *bytes = word.to_le_bytes();
        }
        hash
    }
}

/// Adds the root of the last chunk, of `chunks` in all: two subtrees of one size become one.
#[inline(never)]
fn push(stack: &mut Vec<Chain>, mut chain: Chain, chunks: u64) {
    for _ in 0..chunks.trailing_zeros() {
        if let Some(left) = stack.pop() {
            chain = Node::parent(left, chain).chain(0);
        }
    }
    stack.push(chain);
}

/// The last block of a chunk, or a parent: what is left to be compressed, since it may be the root.
struct Node {
    chain: Chain,
    words: Words,
    counter: u64,
    length: u32,
    flags: u32,
}

impl Node {
    /// Returns the node of a chunk of at most 1,024 bytes.
    #[inline(never)]
    fn chunk(bytes: &[u8], counter: u64) -> Self {
        let (mut chain, mut flags) = (IV, CHUNK_START);
        let (before, last) = bytes.split_at(bytes.len().saturating_sub(1) / BLOCK * BLOCK);
        for block in before.chunks_exact(BLOCK) {
            let node = Self { chain, words: words(block), counter, length: BLOCK as u32, flags };
            (chain, flags) = (node.chain(0), 0);
        }
        Self { chain, words: words(last), counter, length: last.len() as u32, flags: flags | CHUNK_END }
    }

    #[inline(never)]
    fn parent(left: Chain, right: Chain) -> Self {
        let mut words = [0; 16];
        words[..8].copy_from_slice(&left);
        words[8..].copy_from_slice(&right);
        Self { chain: IV, words, counter: 0, length: BLOCK as u32, flags: PARENT }
    }

    /// Returns the chaining value.
    #[inline(never)]
    fn chain(&self, flags: u32) -> Chain {
        let counter = [self.counter as u32, (self.counter >> 32) as u32].map(Lanes::all);
        let chain = self.chain.map(Lanes::all);
        let found = compress(chain, self.words.map(Lanes::all), counter, self.length, self.flags | flags);
        found.map(|word| word.get()[0])
    }
}

/// Returns the words of a block of at most 64 bytes, filled up with zeros.
fn words(bytes: &[u8]) -> Words {
    let mut block = [0; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    let mut words = [0; BLOCK / 4];
    words
        .iter_mut()
        .zip(block.as_chunks::<4>().0)
        .for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
    words
}

/// Returns the chaining values of four chunks, of which the first has the number `counter`.
fn chains_of_group(group: &[u8; GROUP], counter: u64) -> [Chain; LANES] {
    let counters: [u64; LANES] = core::array::from_fn(|lane| counter + lane as u64);
    let counter = [counters.map(|counter| counter as u32), counters.map(|counter| (counter >> 32) as u32)]
        .map(Lanes::new);
    let chunks = group.as_chunks::<CHUNK>().0;
    let mut chain = IV.map(Lanes::all);
    for block in 0..CHUNK / BLOCK {
        let words = core::array::from_fn(|word| {
            let at = block * BLOCK + 4 * word;
            Lanes::new(core::array::from_fn(|lane| {
                let bytes = &chunks[lane];
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            }))
        });
        let start = if block == 0 { CHUNK_START } else { 0 };
        let end = if block == CHUNK / BLOCK - 1 { CHUNK_END } else { 0 };
        chain = compress(chain, words, counter, BLOCK as u32, start | end);
    }
    let chains = chain.map(Lanes::get);
    core::array::from_fn(|lane| chains.map(|word| word[lane]))
}

/// Compresses a block in each lane: seven rounds, then the halves of the state are mixed.
#[inline(never)]
fn compress(
    chain: [Lanes; 8],
    mut words: [Lanes; 16],
    counter: [Lanes; 2],
    length: u32,
    flags: u32,
) -> [Lanes; 8] {
    let [mut s0, mut s1, mut s2, mut s3, mut s4, mut s5, mut s6, mut s7] = chain;
    let [mut s8, mut s9, mut s10, mut s11] = [IV[0], IV[1], IV[2], IV[3]].map(Lanes::all);
    let [mut s12, mut s13] = counter;
    let [mut s14, mut s15] = [length, flags].map(Lanes::all);
    for round in 0..7 {
        if round > 0 {
            words = PERMUTATION.map(|word| words[word]);
        }
        // Columns, then diagonals.
        mix(&mut s0, &mut s4, &mut s8, &mut s12, words[0], words[1]);
        mix(&mut s1, &mut s5, &mut s9, &mut s13, words[2], words[3]);
        mix(&mut s2, &mut s6, &mut s10, &mut s14, words[4], words[5]);
        mix(&mut s3, &mut s7, &mut s11, &mut s15, words[6], words[7]);
        mix(&mut s0, &mut s5, &mut s10, &mut s15, words[8], words[9]);
        mix(&mut s1, &mut s6, &mut s11, &mut s12, words[10], words[11]);
        mix(&mut s2, &mut s7, &mut s8, &mut s13, words[12], words[13]);
        mix(&mut s3, &mut s4, &mut s9, &mut s14, words[14], words[15]);
    }
    [s0.xor(s8), s1.xor(s9), s2.xor(s10), s3.xor(s11), s4.xor(s12), s5.xor(s13), s6.xor(s14), s7.xor(s15)]
}

#[inline(always)]
fn mix(a: &mut Lanes, b: &mut Lanes, c: &mut Lanes, d: &mut Lanes, x: Lanes, y: Lanes) {
    *a = a.add(*b).add(x);
    *d = d.xor(*a).rotate_right::<16>();
    *c = c.add(*d);
    *b = b.xor(*c).rotate_right::<12>();
    *a = a.add(*b).add(y);
    *d = d.xor(*a).rotate_right::<8>();
    *c = c.add(*d);
    *b = b.xor(*c).rotate_right::<7>();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(bytes: &[u8]) -> Hash {
        *blake3::hash(bytes).as_bytes()
    }

    #[test]
    fn every_shape_of_the_tree_hashes_as_the_crate_does() {
        let bytes: Vec<u8> = (0..40_000u32).map(|at| (at % 251) as u8).collect();
        let edges = (0..39).flat_map(|chunks| [chunks * CHUNK, chunks * CHUNK + 1, chunks * CHUNK + 1023]);
        for length in (0..130).chain(edges) {
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..length]);
            assert_eq!(hasher.finalize(), expected(&bytes[..length]), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_hash_as_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8),
        ) {
            let mut hasher = Hasher::new();
            let mut so_far = Vec::new();
            for piece in &pieces {
                hasher.update(piece);
                so_far.extend_from_slice(piece);
                prop_assert_eq!(hasher.finalize(), expected(&so_far));
            }
        }
    }
}
