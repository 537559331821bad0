//! Randomness from counters: the same arguments give the same numbers, so there is nothing to save.
//!
//! ```
//! use fngd_core::random::Stream;
//! let mut shuffle = Stream::new(0, "shuffle", &[3 /* epoch */]);
//! let order = shuffle.permutation(5);
//! assert_eq!(order, Stream::new(0, "shuffle", &[3]).permutation(5));
//! assert_ne!(order, Stream::new(0, "shuffle", &[4]).permutation(5));
//! ```

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Separates these streams from any other use of SHA-256 on the same numbers. A change of the derivation changes it too.
const DOMAIN: &[u8] = b"fngd random stream, version 1";

/// A stream of random numbers for one purpose at one place of the run.
///
/// The key of a ChaCha8 generator is the SHA-256 of seed, purpose and counters, so streams with different arguments are
/// independent. Equal on every platform.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` (`"shuffle"`, `"dropout"`, ...) under `seed` at `counters` (epoch, step, ...).
    pub fn new(seed: u64, purpose: &str, counters: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(seed.to_le_bytes());
        // With both lengths in it, no two lists of arguments give the same bytes.
        hash.update((purpose.len() as u64).to_le_bytes());
        hash.update(purpose.as_bytes());
        hash.update((counters.len() as u64).to_le_bytes());
        for counter in counters {
            hash.update(counter.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// The next 64 bits, to seed another generator with.
    pub fn seed_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// `count` numbers, each uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self, count: usize) -> Vec<f64> {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (0..count).map(|_| (self.0.next_u64() >> 11) as f64 * STEP).collect()
    }

    /// `count` integers, each uniform in 0..`bound`, without bias.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn integers(&mut self, count: usize, bound: u64) -> Vec<u64> {
        assert!(bound > 0, "bound must be > 0");
        (0..count).map(|_| self.below(bound)).collect()
    }

    /// The numbers 0..`count` in random order, every order equally likely (Fisher-Yates).
    pub fn permutation(&mut self, count: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count as i64).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }

    /// Uniform in 0..`bound` by multiplication; what would favour some results is drawn again (Lemire, arXiv 1805.10941).
    fn below(&mut self, bound: u64) -> u64 {
        // 2^64 mod bound: so many low words are one too many.
        let surplus = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= surplus {
                return (product >> 64) as u64;
            }
        }
    }
}
