//! A ring made ready for lookups.

use alloc::boxed::Box;
use alloc::vec::Vec;

use keypact_protocol::NodeId;

use crate::ring::{Point, Ring};

/// A ring as two arrays: tokens in order, and for each of as many equal stretches of the circle the first token at or behind its
/// beginning. A stretch has one token on average, so a lookup reads one entry of each array and seldom more: O(1) expected.
///
/// About 16 bytes a token.
#[derive(Clone, Debug)]
pub struct RingTable {
    /// In order, then the first again, as the one behind all: no lookup asks whether it must wrap.
    entries: Box<[Entry]>,
    /// One more than there are stretches.
    starts: Box<[u32]>,
    /// A point's stretch is its high bits.
    shift: u32,
    nodes: Box<[NodeId]>,
}

/// A token and whose it is. Together, for one miss of the cache instead of two.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    token_low: u32,
    token_high: u32,
    node: u32,
}

impl Entry {
    fn new(token: u64, node: u32) -> Entry {
        Entry { token_low: token as u32, token_high: (token >> 32) as u32, node }
    }

    #[inline]
    fn token(self) -> u64 {
        u64::from(self.token_high) << 32 | u64::from(self.token_low)
    }
}

impl RingTable {
    /// The table of this ring; `None` if it is empty. O(tokens).
    #[must_use]
    pub fn new(ring: &Ring) -> Option<RingTable> {
        let (_, first_node) = ring.tokens.first_key_value()?;
        let bits = usize::BITS - (ring.tokens.len() - 1).leading_zeros();
        let bits = bits.clamp(1, 31);
        let shift = 64 - bits;
        let mut entries: Vec<Entry> = Vec::with_capacity(ring.tokens.len() + 1);
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (token, node) in &ring.tokens {
            while starts.len() as u64 <= token >> shift {
                starts.push(entries.len() as u32);
            }
            entries.push(Entry::new(*token, *node));
        }
        while starts.len() <= 1 << bits {
            starts.push(entries.len() as u32);
        }
        entries.push(Entry::new(u64::MAX, *first_node));
        assert!(starts.len() == (1 << bits) + 1, "each stretch has its start");
        assert!(entries.len() == ring.tokens.len() + 1, "each token has its entry");
        let nodes = ring.members.iter().map(|member| member.node).collect();
        Some(RingTable { entries: entries.into(), starts: starts.into(), shift, nodes })
    }

    /// Which node owns the point.
    #[must_use]
    #[inline]
    pub fn owner(&self, point: Point) -> NodeId {
        self.nodes[self.index(point) as usize]
    }

    /// The same, as an index into [`Ring::members`].
    #[must_use]
    #[inline]
    pub fn index(&self, point: Point) -> u32 {
        let mut at = self.starts[(point.0 >> self.shift) as usize] as usize;
        // The last entry is at or behind every point.
        while self.entries[at].token() < point.0 {
            at += 1;
        }
        self.entries[at].node
    }

    /// What it takes, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.starts) + size_of_val(&*self.nodes)
    }
}
