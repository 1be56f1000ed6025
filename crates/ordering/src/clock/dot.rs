//! One event's name.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Incarnation, NodeId, Plant, planted};

use super::varint;

/// Who counts events: one replica in one life. Never count two different events under one number of the same identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(pub u64);

/// Bits of an incarnation in [`ReplicaId::of_life`].
const INCARNATION_BITS: u32 = 16;

impl ReplicaId {
    /// The identity of a node in one incarnation: `node * 2^16 + incarnation`. `None` if the node's number needs more than 48 bits, or the
    /// incarnation more than 16.
    #[must_use]
    pub fn of_life(node: NodeId, incarnation: Incarnation) -> Option<ReplicaId> {
        let fits = node.0 >> (64 - INCARNATION_BITS) == 0 && incarnation.0 >> INCARNATION_BITS == 0;
        if planted(Plant::ReplicaIdReused) {
            return fits.then_some(ReplicaId(node.0 << INCARNATION_BITS));
        }
        let replica = ReplicaId(node.0 << INCARNATION_BITS | incarnation.0);
        assert!(!fits || replica.life() == (node, incarnation), "two lives share no identity");
        fits.then_some(replica)
    }

    /// Reads back [`ReplicaId::of_life`].
    #[must_use]
    pub fn life(self) -> (NodeId, Incarnation) {
        (NodeId(self.0 >> INCARNATION_BITS), Incarnation(self.0 & ((1 << INCARNATION_BITS) - 1)))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.life() {
            (NodeId(0), Incarnation(number)) => write!(f, "{number}"),
            (NodeId(node), Incarnation(life)) => write!(f, "{node}/{life}"),
        }
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The largest counter that decoders let in. Nobody counts so far; and whoever is told so large a number of its own events, by mistake or
/// from malice, can still count on for as long as anything lives.
pub const COUNTER_MAX: u64 = u64::MAX >> 1;

/// One event: the `counter`th of `replica`, counted from 1.
///
/// Ordered by replica, then counter; that order means nothing beyond being total.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Whose event.
    pub replica: ReplicaId,
    /// Which of its events, from 1.
    pub counter: u64,
}

impl Dot {
    /// The `counter`th event of `replica`.
    ///
    /// # Panics
    /// If `counter` is 0: events are counted from 1.
    #[must_use]
    pub const fn new(replica: ReplicaId, counter: u64) -> Dot {
        assert!(counter > 0, "events are counted from 1");
        Dot { replica, counter }
    }

    /// Appends the encoding, 2 to 20 bytes.
    pub fn put(self, out: &mut Vec<u8>) {
        assert!(self.counter > 0, "events are counted from 1");
        varint::put(self.replica.0, out);
        varint::put(self.counter, out);
    }

    /// Reads a dot from the front of `bytes`.
    ///
    /// # Errors
    /// Bytes that [`Dot::put`] does not write, and counters above [`COUNTER_MAX`].
    pub fn take(bytes: &mut Bytes) -> Result<Dot, DecodeError> {
        let replica = ReplicaId(varint::take(bytes)?);
        match varint::take(bytes)? {
            0 => Err(DecodeError::new("a dot's counter above 0")),
            counter if counter > COUNTER_MAX => Err(DecodeError::new("a dot's counter below 2^63")),
            counter => Ok(Dot { replica, counter }),
        }
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.replica, self.counter)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
