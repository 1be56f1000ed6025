//! Hash partitioning: a key's slot among 16,384, by CRC16 of the key or of its `{tag}`, as Redis Cluster defines it; and plain `hash % n`.
//!
//! What it gives: an even spread, whatever the keys; a lookup that costs the same for any number of nodes; keys with one tag stay
//! together. What it costs: neighbours are scattered, so a range query asks every node.
//!
//! Slots are moved in ranges, by plans ([`crate::placement`]). [`Modulo`] is here to be compared with: when n changes, nearly all keys move.
//!
//! Source: the Redis Cluster specification, sections "Key distribution model" and "Hash tags". Where we differ: slots are owned in ranges
//! under one map version, not each by itself with its own epoch.

mod crc16;
mod modulo;
mod tag;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId};

use crate::codec;
use crate::map::{Assigned, Map, MapError};
use crate::slice::Position;

pub use crc16::crc16;
pub use modulo::Modulo;
pub use tag::tag;

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// A slot, below [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The slot of this number; `None` if there is no such slot.
    #[must_use]
    pub const fn new(number: u16) -> Option<Slot> {
        if number < SLOTS { Some(Slot(number)) } else { None }
    }

    /// A key's slot. O(key), nothing allocated.
    #[must_use]
    #[inline]
    pub fn of(key: &[u8]) -> Slot {
        let slot = Slot(crc16(tag(key)) % SLOTS);
        debug_assert!(slot.0 < SLOTS, "a remainder is below the divisor");
        slot
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Position for Slot {
    fn first() -> Slot {
        Slot(0)
    }

    fn next(&self) -> Option<Slot> {
        Slot::new(self.0 + 1)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &mut Bytes) -> Result<Slot, DecodeError> {
        Slot::new(codec::u16(bytes)?).ok_or(DecodeError::new("a slot below 16384"))
    }
}

/// A map of slots with each slot's owner at hand: one load per lookup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotTable {
    /// By slot: which of the map's slices.
    parts: Box<[u16]>,
    map: Map<Slot>,
}

impl SlotTable {
    /// The table of this map. O(slots).
    #[must_use]
    pub fn new(map: Map<Slot>) -> SlotTable {
        let mut parts = alloc::vec![0; usize::from(SLOTS)].into_boxed_slice();
        for (index, part) in map.parts().iter().enumerate() {
            let high = part.slice.high().map_or(SLOTS, |high| high.0);
            let range = usize::from(part.slice.low().0)..usize::from(high);
            // Slices are not empty, so there are no more of them than slots.
            parts[range].fill(u16::try_from(index).expect("at most 16384 slices"));
        }
        assert!(usize::from(parts[parts.len() - 1]) + 1 == map.parts().len(), "every slice has its slots");
        SlotTable { parts, map }
    }

    /// Consecutive slots in equal numbers to each of these nodes, the first ones one more where it does not come out even.
    ///
    /// # Errors
    /// [`MapError::Replicas`] for no node, or more nodes than slots.
    pub fn even(nodes: &[NodeId]) -> Result<SlotTable, MapError> {
        let count = nodes.len();
        if count == 0 || count > usize::from(SLOTS) {
            return Err(MapError::Replicas);
        }
        let lows = nodes.iter().enumerate().map(|(at, node)| {
            let low = (at * usize::from(SLOTS)).div_ceil(count);
            (Slot(low as u16), alloc::vec![*node])
        });
        Ok(SlotTable::new(Map::from_lows(1, lows.collect())?))
    }

    /// The slices of slots.
    #[must_use]
    pub fn map(&self) -> &Map<Slot> {
        &self.map
    }

    /// The slice that has the key's slot. O(key).
    #[must_use]
    #[inline]
    pub fn find(&self, key: &[u8]) -> &Assigned<Slot> {
        &self.map.parts()[usize::from(self.parts[usize::from(Slot::of(key).0)])]
    }

    /// How many slots each node owns, in the order in which nodes first appear.
    #[must_use]
    pub fn owned(&self) -> Vec<(NodeId, u32)> {
        let mut owned: Vec<(NodeId, u32)> = Vec::new();
        for part in self.map.parts() {
            let high = part.slice.high().map_or(SLOTS, |high| high.0);
            let slots = u32::from(high - part.slice.low().0);
            match owned.iter_mut().find(|(node, _)| *node == part.owner()) {
                Some((_, sum)) => *sum += slots,
                None => owned.push((part.owner(), slots)),
            }
        }
        let sum: u32 = owned.iter().map(|(_, slots)| slots).sum();
        assert!(sum == u32::from(SLOTS), "every slot has one owner");
        owned
    }
}
