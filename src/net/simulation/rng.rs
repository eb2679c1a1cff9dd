//! A deterministic random number generator.

/// Generates the same sequence for the same seed and stream.
pub(super) struct Rng(u64);

impl Rng {
    /// Creates one of several independent streams of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(31).wrapping_add(stream) ^ 0x9E37_79B9_7F4A_7C15);
        rng.next();
        rng
    }

    /// Returns the next number (SplitMix64).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Returns true with probability 1/`count`.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Returns a number from 1 to `max`; each order of magnitude is equally likely.
    pub(super) fn size(&mut self, max: usize) -> usize {
        let bits = self.below(max.max(1).ilog2() as usize + 2);
        (1 + self.below(1 << bits)).min(max.max(1))
    }
}
