//! The last-writer-wins register: alone, and as a store for maps.

use core::fmt::Debug;

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{DotContext, DriftError, HybridClock, HybridStamp, ReplicaId};
use keypact_protocol::{DecodeError, Wire};

use crate::causal::{DotFunction, Event};
use crate::codec::{Codec, Reader};
use crate::delegate::delegate_store;
use crate::lattice::{Delta, Lattice};

/// A value with the time of its writing. The later time wins; between equal times the larger replica.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Written<V> {
    stamp: HybridStamp,
    replica: ReplicaId,
    value: V,
}

/// A register of which the last write counts, by a hybrid clock. Of concurrent writes all but one are lost: that is its contract.
///
/// Its writer must take stamps from a [`HybridClock`] that has observed all stamps that the replica has seen, and that never goes back, not
/// over a restart either. Then a write wins over all that its writer had seen.
///
/// It has no events: its version is empty and it is always sent whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LwwRegister<V> {
    written: Option<Written<V>>,
}

impl<V> Default for LwwRegister<V> {
    fn default() -> LwwRegister<V> {
        LwwRegister { written: None }
    }
}

impl<V: Clone + PartialEq + Debug + Codec> LwwRegister<V> {
    /// The value; `None` before the first write.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        self.written.as_ref().map(|written| &written.value)
    }

    /// When the value was written.
    #[must_use]
    pub fn stamp(&self) -> Option<HybridStamp> {
        self.written.as_ref().map(|written| written.stamp)
    }

    /// Who wrote it.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        self.written.as_ref().map(|written| written.replica)
    }

    /// Writes a value at `stamp`, and returns the delta. A stamp below that of the value that is there loses against it, here as
    /// everywhere, and the delta is empty: a clock that has observed it does not give such a stamp.
    pub fn assign(&mut self, value: V, stamp: HybridStamp, replica: ReplicaId) -> LwwRegister<V> {
        let delta = LwwRegister { written: Some(Written { stamp, replica, value }) };
        let wins = self.merge(delta.clone());
        assert!(self.rank() >= delta.rank(), "whatever is there was not written before");
        if wins { delta } else { LwwRegister::default() }
    }

    /// The same with a stamp of `clock`, which first takes note of the value that is there.
    ///
    /// # Errors
    /// [`DriftError`]: the value that is there is further ahead of this wall than the clock believes. Nothing changed; what is written
    /// now would be lost.
    pub fn assign_now(
        &mut self,
        value: V,
        clock: &mut HybridClock,
        wall_ms: u64,
        replica: ReplicaId,
    ) -> Result<LwwRegister<V>, DriftError> {
        if let Some(stamp) = self.stamp() {
            clock.observe(stamp, wall_ms)?;
        }
        let stamp = clock.now(wall_ms);
        Ok(self.assign(value, stamp, replica))
    }

    fn rank(&self) -> Option<(HybridStamp, ReplicaId)> {
        self.written.as_ref().map(|written| (written.stamp, written.replica))
    }
}

impl<V: Clone + PartialEq + Debug + Codec> Lattice for LwwRegister<V> {
    type Delta = LwwRegister<V>;

    fn merge(&mut self, other: LwwRegister<V>) -> bool {
        let wins = other.rank() > self.rank();
        if wins {
            *self = other;
        }
        assert!(!wins || self.written.is_some(), "nothing wins over a write but a write");
        wins
    }

    fn apply(&mut self, delta: LwwRegister<V>) -> bool {
        self.merge(delta)
    }

    fn version(&self) -> DotContext {
        DotContext::new()
    }

    fn delta_since(&self, _seen: &DotContext) -> LwwRegister<V> {
        self.clone()
    }
}

impl<V: Clone + PartialEq + Debug + Codec> Delta for LwwRegister<V> {
    fn join(&mut self, other: LwwRegister<V>) {
        self.merge(other);
    }

    fn is_empty(&self) -> bool {
        self.written.is_none()
    }

    fn events(&self) -> DotContext {
        DotContext::new()
    }

    fn encoded_len(&self) -> usize {
        let written = self.written.as_ref();
        1 + written.map_or(0, |w| w.stamp.encoded_len() + w.replica.encoded_len() + w.value.encoded_len())
    }
}

impl<V: Clone + PartialEq + Debug + Codec> Wire for LwwRegister<V> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.written.is_some()));
        if let Some(Written { stamp, replica, value }) = &self.written {
            Codec::put(stamp, out);
            replica.put(out);
            value.put(out);
        }
    }

    fn decode(bytes: Bytes) -> Result<LwwRegister<V>, DecodeError> {
        let mut input = Reader::new(bytes);
        let written = match input.byte()? {
            0 => None,
            1 => {
                let stamp = <HybridStamp as Codec>::take(&mut input)?;
                let replica = ReplicaId::take(&mut input)?;
                Some(Written { stamp, replica, value: V::take(&mut input)? })
            }
            _ => return Err(DecodeError::new("a register with or without a value")),
        };
        input.finish()?;
        Ok(LwwRegister { written })
    }
}

/// A last-writer-wins register for maps. Concurrent values stay side by side until someone who has seen them writes again; the latest
/// stamp is the value. So a write wins over all that its writer had seen even if a clock went back, and removing a key removes no write
/// that was not seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Latest<V>(DotFunction<(HybridStamp, V)>);

impl<V> Default for Latest<V> {
    fn default() -> Latest<V> {
        Latest(DotFunction::default())
    }
}

delegate_store!(Latest<V>);

impl<V: Clone + PartialEq + Debug + Codec> Latest<V> {
    /// The value with the latest stamp; between equal stamps the larger dot.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        let latest = self.0.entries().max_by_key(|(dot, (stamp, _))| (*stamp, *dot));
        assert!(latest.is_some() || self.0.entries().len() == 0, "one of several is the latest");
        latest.map(|(_, (_, value))| value)
    }

    /// The latest stamp.
    #[must_use]
    pub fn stamp(&self) -> Option<HybridStamp> {
        self.0.entries().map(|(_, (stamp, _))| *stamp).max()
    }

    /// The delta that writes `value` in place of all that are seen.
    #[must_use]
    pub fn assign(&self, value: V, stamp: HybridStamp, event: &mut Event) -> Latest<V> {
        let delta = Latest(self.0.replace_all((stamp, value), event));
        assert!(delta.stamp() == Some(stamp), "a write is one value");
        delta
    }

    /// The delta that removes all that are seen.
    #[must_use]
    pub fn clear(&self, event: &mut Event) -> Latest<V> {
        Latest(self.0.clear(event))
    }
}
