//! The hybrid logical clock.
//!
//! S. Kulkarni, M. Demirbas, D. Madappa, B. Avva, M. Leone, "Logical Physical Clocks", 2014, figure 5. `wall_ms` is the paper's `l`,
//! `count` its `c`. Where we differ: a stamp too far ahead of one's own wall is refused instead of believed (the paper's section 3.4
//! names the attack), and a full count carries into the milliseconds instead of overflowing.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Plant, Wire, planted};

use super::{decode_whole, varint};

/// A point of hybrid time. Ordered by the wall, then the count. Two replicas may give the same one: who needs a total order adds the replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HybridStamp {
    /// The largest wall clock known when it was given, Unix milliseconds.
    pub wall_ms: u64,
    /// Events within that millisecond.
    pub count: u32,
}

/// The last millisecond a clock may reach: far beyond any calendar, and a carry still fits.
const WALL_MS_MAX: u64 = 1 << 62;

impl HybridStamp {
    /// Before all others.
    pub const ZERO: HybridStamp = HybridStamp { wall_ms: 0, count: 0 };

    /// The next stamp: the count goes on, and carries into the milliseconds when it is full.
    #[must_use]
    pub fn next(self) -> HybridStamp {
        assert!(self.wall_ms <= WALL_MS_MAX, "walls are bounded when they enter");
        let next = match self.count.checked_add(1) {
            Some(count) => HybridStamp { wall_ms: self.wall_ms, count },
            None => HybridStamp { wall_ms: self.wall_ms + 1, count: 0 },
        };
        assert!(next > self, "the next stamp is later");
        next
    }

    /// Appends the encoding, 2 to 14 bytes.
    pub fn put(self, out: &mut Vec<u8>) {
        varint::put(self.wall_ms, out);
        varint::put(u64::from(self.count), out);
    }

    /// Reads a stamp from the front of `bytes`.
    ///
    /// # Errors
    /// Bytes that [`HybridStamp::put`] does not write, or a wall above 2^62 ms.
    pub fn take(bytes: &mut Bytes) -> Result<HybridStamp, DecodeError> {
        let wall_ms = varint::take(bytes)?;
        let count = varint::take(bytes)?;
        match u32::try_from(count) {
            Ok(count) if wall_ms < WALL_MS_MAX => Ok(HybridStamp { wall_ms, count }),
            _ => Err(DecodeError::new("a hybrid stamp within its bounds")),
        }
    }
}

impl fmt::Debug for HybridStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.wall_ms, self.count)
    }
}

impl fmt::Display for HybridStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Wire for HybridStamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    fn decode(bytes: Bytes) -> Result<HybridStamp, DecodeError> {
        decode_whole(bytes, HybridStamp::take)
    }
}

/// A stamp further ahead of one's own wall than the bound allows. The clock has not changed; whatever bears the stamp should be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriftError {
    /// The stamp.
    pub stamp: HybridStamp,
    /// One's own wall clock then.
    pub wall_ms: u64,
    /// The bound, milliseconds.
    pub drift_max_ms: u64,
}

impl fmt::Display for DriftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead_ms = self.stamp.wall_ms.saturating_sub(self.wall_ms);
        write!(f, "stamp {} is {ahead_ms} ms ahead, {} allowed", self.stamp, self.drift_max_ms)
    }
}

impl core::error::Error for DriftError {}

/// Gives stamps that never fall, whatever the wall clock does, and stay within the drift bound of the largest wall clock in the cluster.
///
/// Keep [`HybridClock::last`] over a restart, in the same write as what was stamped: a clock that begins anew under a wall that went back
/// gives stamps below older ones, and last-writer-wins then drops what was written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HybridClock {
    last: HybridStamp,
    drift_max_ms: u64,
}

impl HybridClock {
    /// A clock that has seen nothing, and believes stamps up to `drift_max_ms` ahead of its own wall.
    #[must_use]
    pub const fn new(drift_max_ms: u64) -> HybridClock {
        HybridClock { last: HybridStamp::ZERO, drift_max_ms }
    }

    /// Goes on after `last`, kept over a restart.
    #[must_use]
    pub const fn resume(last: HybridStamp, drift_max_ms: u64) -> HybridClock {
        HybridClock { last, drift_max_ms }
    }

    /// The last stamp given or seen.
    #[must_use]
    pub const fn last(&self) -> HybridStamp {
        self.last
    }

    /// The bound, milliseconds.
    #[must_use]
    pub const fn drift_max_ms(&self) -> u64 {
        self.drift_max_ms
    }

    /// How far the clock has run ahead of the wall: up to the drift bound by the stamps of others, more only if this wall went back.
    #[must_use]
    pub const fn ahead_ms(&self, wall_ms: u64) -> u64 {
        self.last.wall_ms.saturating_sub(wall_ms)
    }

    /// The stamp of an event here and now, above all given and seen so far. A wall beyond 2^62 ms counts as 2^62 - 1.
    pub fn now(&mut self, wall_ms: u64) -> HybridStamp {
        let before = self.last;
        let wall = HybridStamp { wall_ms: wall_ms.min(WALL_MS_MAX - 1), count: 0 };
        if planted(Plant::ClockGoesBackwards) {
            self.last = wall;
            return wall;
        }
        self.last = wall.max(self.last.next());
        assert!(self.last > before, "stamps of one clock only grow");
        self.last
    }

    /// Takes note of another's stamp, so that all stamps given from now on are above it.
    ///
    /// # Errors
    /// [`DriftError`] if it is more than the bound ahead of `wall_ms`; the clock is unchanged.
    pub fn observe(&mut self, stamp: HybridStamp, wall_ms: u64) -> Result<(), DriftError> {
        let latest_ms = wall_ms.saturating_add(self.drift_max_ms).min(WALL_MS_MAX - 1);
        // Below what is known already there is nothing to believe.
        if stamp > self.last && stamp.wall_ms > latest_ms {
            return Err(DriftError { stamp, wall_ms, drift_max_ms: self.drift_max_ms });
        }
        self.last = self.last.max(stamp);
        assert!(self.last >= stamp, "later stamps are above what was seen");
        assert!(self.last.wall_ms <= WALL_MS_MAX, "no stamp leaves the calendar");
        Ok(())
    }
}
