//! Random choices that are the same everywhere, and the numbers that programs stumble over.

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
pub struct Random(u64);

impl Random {
    /// The choices of mutant `number` of `seed`.
    pub fn of(seed: &str, number: u64) -> Self {
        // FNV-1a: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(seed.bytes().chain(number.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, hash))
    }

    /// Any 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// True once in `often` times.
    pub fn once_in(&mut self, often: usize) -> bool {
        self.below(often) == 0
    }

    /// One of these.
    pub fn of_these<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// An integer: most often small, else where ranges end.
    pub fn integer(&mut self) -> i64 {
        if self.once_in(2) { self.below(9) as i64 - 2 } else { self.of_these(&EDGES) }
    }

    /// A float: most often ordinary, else where ranges end.
    pub fn float(&mut self) -> f32 {
        if self.once_in(2) { self.below(9) as f32 / 2.0 - 1.0 } else { self.of_these(&FLOAT_EDGES) }
    }
}

const EDGES: [i64; 36] = [
    0,
    1,
    -1,
    -2,
    7,
    8,
    16,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    1000,
    65_535,
    65_536,
    1 << 20,
    1 << 24,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 31,
    u32::MAX as i64,
    1 << 32,
    1 << 34,
    1 << 40,
    -(1 << 40),
    1 << 62,
    -(1 << 62),
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
    i64::MIN + 1,
];

const FLOAT_EDGES: [f32; 15] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    1e-12,
    -1e-12,
    f32::MIN_POSITIVE,
    1e-45,
    1e30,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];
