//! Lamport's clock.
//!
//! L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978: rules IR1 and IR2, and the total order at the
//! end of its section "Ordering the Events Totally".

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Wire};

use super::{ReplicaId, decode_whole, varint};

/// Counts so that a cause has a smaller time than its effect. The reverse does not hold: a smaller time may also be concurrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LamportClock {
    time: u64,
}

impl LamportClock {
    /// A clock that has seen nothing.
    #[must_use]
    pub const fn new() -> LamportClock {
        LamportClock { time: 0 }
    }

    /// Goes on from a time that was kept over a restart.
    #[must_use]
    pub const fn resume(time: u64) -> LamportClock {
        LamportClock { time }
    }

    /// The time of the last event, 0 before the first.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// An event of one's own, or a message about to be sent: its time (IR1).
    ///
    /// # Panics
    /// After 2^64 - 1 events.
    pub fn tick(&mut self) -> u64 {
        self.time = self.time.checked_add(1).expect("2^64 events outlast any cluster");
        self.time
    }

    /// A message of time `sent` arrives: the time of its arrival, above both (IR2).
    ///
    /// # Errors
    /// A time of 2^64 - 1, which would be the clock's last; nothing changed. Only a broken or hostile sender says it.
    pub fn observe(&mut self, sent: u64) -> Result<u64, DecodeError> {
        if sent == u64::MAX {
            return Err(DecodeError::new("a Lamport time below 2^64 - 1"));
        }
        let before = self.time;
        self.time = self.time.max(sent);
        let arrived = self.tick();
        assert!(arrived > sent && arrived > before, "an arrival is after the sending and after all here");
        Ok(arrived)
    }

    /// [`LamportClock::tick`], with the replica that breaks ties.
    pub fn stamp(&mut self, replica: ReplicaId) -> LamportStamp {
        let stamp = LamportStamp { time: self.tick(), replica };
        assert!(stamp.time > 0, "0 is before the first event");
        stamp
    }
}

/// A Lamport time that two replicas never share: a total order that agrees with "happened before".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LamportStamp {
    /// Lamport time.
    pub time: u64,
    /// Who decides between equal times.
    pub replica: ReplicaId,
}

impl LamportStamp {
    /// Reads a stamp from the front of `bytes`.
    ///
    /// # Errors
    /// Bytes that [`Wire::encode`] does not write.
    pub fn take(bytes: &mut Bytes) -> Result<LamportStamp, DecodeError> {
        Ok(LamportStamp { time: varint::take(bytes)?, replica: ReplicaId(varint::take(bytes)?) })
    }
}

impl Wire for LamportStamp {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.time, out);
        varint::put(self.replica.0, out);
    }

    fn decode(bytes: Bytes) -> Result<LamportStamp, DecodeError> {
        decode_whole(bytes, LamportStamp::take)
    }
}
