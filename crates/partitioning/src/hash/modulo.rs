//! Plain `hash % n`, to be compared with.

use core::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64;

/// `hash(key) % n`: as simple as can be, and nearly all keys move when n changes: n / (n + 1) of them from n to n + 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modulo {
    nodes: NonZeroU32,
}

impl Modulo {
    /// Over so many nodes.
    #[must_use]
    pub fn new(nodes: NonZeroU32) -> Modulo {
        Modulo { nodes }
    }

    /// Which of the nodes, counted from 0. O(key).
    #[must_use]
    #[inline]
    pub fn index(&self, key: &[u8]) -> u32 {
        let index = xxh3_64(key) % u64::from(self.nodes.get());
        debug_assert!(index < u64::from(self.nodes.get()), "a remainder is below the divisor");
        index as u32
    }
}
