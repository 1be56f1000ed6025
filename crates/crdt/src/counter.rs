//! Counters: alone, and as a store for maps.

use core::fmt;

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{Dot, DotContext, ReplicaId, VectorClock, varint};
use keypact_protocol::{DecodeError, Plant, Wire, planted};

use crate::causal::{DotFunction, Event};
use crate::delegate::delegate_store;
use crate::lattice::{Delta, Lattice};

/// A replica's part of a counter is at its limit. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterFull;

impl fmt::Display for CounterFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this replica's part of the counter is at its limit")
    }
}

impl core::error::Error for CounterFull {}

/// A counter that only goes up: how much each replica has added. Its own delta.
///
/// An increment by `n` is `n` events: the version says how far each replica has counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GCounter {
    counts: VectorClock,
}

impl GCounter {
    /// The sum over all replicas.
    #[must_use]
    pub fn value(&self) -> u128 {
        self.counts.iter().map(|(_, count)| u128::from(count)).sum()
    }

    /// What one replica has added.
    #[must_use]
    pub fn of(&self, replica: ReplicaId) -> u64 {
        self.counts.get(replica)
    }

    /// Adds `by`; the delta is the replica's new count, or empty for 0.
    ///
    /// # Errors
    /// [`CounterFull`] if the replica has added 2^64 - 1; nothing changed.
    pub fn increment(&mut self, by: u64, replica: ReplicaId) -> Result<GCounter, CounterFull> {
        if by == 0 {
            return Ok(GCounter::default());
        }
        let counter = self.counts.get(replica).checked_add(by).ok_or(CounterFull)?;
        self.counts.observe(Dot::new(replica, counter));
        assert!(self.of(replica) == counter, "a replica counts for itself alone");
        Ok(GCounter { counts: [(replica, counter)].into_iter().collect() })
    }

    /// The entries that are above those of `seen`.
    fn above(&self, seen: impl Fn(ReplicaId) -> u64) -> GCounter {
        let counts: VectorClock =
            self.counts.iter().filter(|&(replica, count)| count > seen(replica)).collect();
        assert!(self.counts.contains_all(&counts), "a delta is a part");
        GCounter { counts }
    }
}

impl Lattice for GCounter {
    type Delta = GCounter;

    fn merge(&mut self, other: GCounter) -> bool {
        if planted(Plant::CounterMergeAdds) && !other.counts.is_empty() {
            // Not for ever: a count that left 64 bits would be refused by decoders, and so be found at once.
            let added = |count: u64, more: u64| {
                if count < 1 << 40 { count + more.min(1 << 40) } else { count.max(more) }
            };
            let sum = |(replica, count): (ReplicaId, u64)| (replica, added(count, other.of(replica)));
            self.counts = self
                .counts
                .iter()
                .map(sum)
                .chain(other.counts.iter().filter(|&(r, _)| self.of(r) == 0))
                .collect();
            return true;
        }
        if self.counts.contains_all(&other.counts) {
            return false;
        }
        self.counts.merge(&other.counts);
        assert!(self.counts.contains_all(&other.counts), "nothing that the other has counted is lost");
        true
    }

    fn apply(&mut self, delta: GCounter) -> bool {
        self.merge(delta)
    }

    fn version(&self) -> DotContext {
        DotContext::from(&self.counts)
    }

    fn delta_since(&self, seen: &DotContext) -> GCounter {
        self.above(|replica| seen.max(replica))
    }
}

impl Delta for GCounter {
    fn join(&mut self, other: GCounter) {
        self.merge(other);
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn events(&self) -> DotContext {
        self.version()
    }

    fn encoded_len(&self) -> usize {
        self.counts.encoded_len()
    }

    fn split(self, bytes_max: usize) -> Vec<GCounter> {
        let entries: Vec<(ReplicaId, u64)> = self.counts.iter().collect();
        let cut = |entries: &[(ReplicaId, u64)]| GCounter { counts: entries.iter().copied().collect() };
        entries.chunks(entries_within(bytes_max)).map(cut).collect()
    }
}

/// How many entries of a counter surely fit into `bytes_max`, at least one.
fn entries_within(bytes_max: usize) -> usize {
    (bytes_max.saturating_sub(varint::BYTES_MAX) / (2 * varint::BYTES_MAX)).max(1)
}

impl Wire for GCounter {
    fn encode(&self, out: &mut Vec<u8>) {
        self.counts.encode(out);
    }

    fn decode(bytes: Bytes) -> Result<GCounter, DecodeError> {
        VectorClock::decode(bytes).map(|counts| GCounter { counts })
    }
}

/// A counter that goes up and down: one [`GCounter`] each. Its own delta.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PnCounter {
    up: GCounter,
    down: GCounter,
}

impl PnCounter {
    /// What was added less what was taken.
    ///
    /// # Panics
    /// Beyond 2^127 in all, which needs 2^63 replicas.
    #[must_use]
    pub fn value(&self) -> i128 {
        let signed = |count: u128| i128::try_from(count).expect("2^64 a replica");
        signed(self.up.value()) - signed(self.down.value())
    }

    /// Adds `by`, or takes if it is negative; the delta is the replica's new count, or empty for 0.
    ///
    /// # Errors
    /// [`CounterFull`] if the replica has added and taken 2^64 - 1 together; nothing changed.
    pub fn add(&mut self, by: i64, replica: ReplicaId) -> Result<PnCounter, CounterFull> {
        let before = self.events_of(replica);
        before.checked_add(by.unsigned_abs()).ok_or(CounterFull)?;
        let (side, amount) = if by < 0 { (&mut self.down, by) } else { (&mut self.up, by) };
        side.increment(amount.unsigned_abs(), replica)?;
        assert!(self.events_of(replica) - before == by.unsigned_abs(), "each unit is an event");
        Ok(if by == 0 { PnCounter::default() } else { self.of(replica) })
    }

    /// What one replica has added, and what it has taken.
    #[must_use]
    pub fn of_replica(&self, replica: ReplicaId) -> (u64, u64) {
        (self.up.of(replica), self.down.of(replica))
    }

    /// Units that a replica has added or taken: its events. They only grow, and a replica's part of the counter is decided by them.
    fn events_of(&self, replica: ReplicaId) -> u64 {
        self.up.of(replica).saturating_add(self.down.of(replica))
    }

    fn of(&self, replica: ReplicaId) -> PnCounter {
        let one = |side: &GCounter| GCounter { counts: [(replica, side.of(replica))].into_iter().collect() };
        let part = PnCounter { up: one(&self.up), down: one(&self.down) };
        assert!(part.of_replica(replica) == self.of_replica(replica), "both sides travel together");
        part
    }

    fn replicas(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        let down = self.down.counts.iter().filter(|&(replica, _)| self.up.of(replica) == 0);
        self.up.counts.iter().chain(down).map(|(replica, _)| replica)
    }
}

impl Lattice for PnCounter {
    type Delta = PnCounter;

    fn merge(&mut self, other: PnCounter) -> bool {
        let before = self.up.counts.len() + self.down.counts.len();
        let up = self.up.merge(other.up);
        let grew = self.down.merge(other.down) || up;
        assert!(self.up.counts.len() + self.down.counts.len() >= before, "no replica's part is lost");
        grew
    }

    fn apply(&mut self, delta: PnCounter) -> bool {
        self.merge(delta)
    }

    fn version(&self) -> DotContext {
        let counts: VectorClock = self.replicas().map(|replica| (replica, self.events_of(replica))).collect();
        DotContext::from(&counts)
    }

    fn delta_since(&self, seen: &DotContext) -> PnCounter {
        let mut delta = PnCounter::default();
        for replica in self.replicas().filter(|&replica| self.events_of(replica) > seen.max(replica)) {
            delta.merge(self.of(replica));
        }
        assert!(self.up.counts.contains_all(&delta.up.counts), "a delta is a part");
        assert!(self.down.counts.contains_all(&delta.down.counts), "a delta is a part");
        delta
    }
}

impl Delta for PnCounter {
    fn join(&mut self, other: PnCounter) {
        self.merge(other);
    }

    fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    fn events(&self) -> DotContext {
        self.version()
    }

    fn encoded_len(&self) -> usize {
        self.up.encoded_len() + self.down.encoded_len()
    }

    fn split(self, bytes_max: usize) -> Vec<PnCounter> {
        let replicas: Vec<ReplicaId> = self.replicas().collect();
        let cut = |replicas: &[ReplicaId]| {
            let mut part = PnCounter::default();
            for &replica in replicas {
                part.merge(self.of(replica));
            }
            part
        };
        replicas.chunks(entries_within(bytes_max / 2)).map(cut).collect()
    }
}

impl Wire for PnCounter {
    fn encode(&self, out: &mut Vec<u8>) {
        self.up.encode(out);
        self.down.encode(out);
    }

    fn decode(mut bytes: Bytes) -> Result<PnCounter, DecodeError> {
        let up = GCounter { counts: VectorClock::take(&mut bytes)? };
        let down = GCounter::decode(bytes)?;
        let counter = PnCounter { up, down };
        if counter.replicas().any(|r| counter.up.of(r).checked_add(counter.down.of(r)).is_none()) {
            return Err(DecodeError::new("a counter's events below 2^64"));
        }
        Ok(counter)
    }
}

/// A counter for maps, that goes up and down. Each replica's part is one live dot with what it has added in all.
///
/// Removing the key takes back the parts that were seen. A replica that adds meanwhile, without having seen the removal, brings its whole
/// part back, what was seen of it included: to take back half of a part it would have to be kept in pieces for ever (C. Baquero, P.
/// Almeida, C. Lerche, "The problem with embedded CRDT counters and a solution", 2016).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(DotFunction<i64>);

delegate_store!(Tally);

impl Tally {
    /// The sum of all parts.
    #[must_use]
    pub fn value(&self) -> i128 {
        self.0.entries().map(|(_, part)| i128::from(*part)).sum()
    }

    /// What one replica has added since its part was last removed.
    #[must_use]
    pub fn of(&self, replica: ReplicaId) -> i64 {
        let own = self.0.entries().filter(|(dot, _)| dot.replica == replica);
        own.map(|(_, part)| *part).fold(0, i64::saturating_add)
    }

    /// Whether `replica` can add `by`.
    ///
    /// # Errors
    /// [`CounterFull`] if the replica's part would leave 64 bits; nothing changed.
    pub fn check(&self, by: i64, replica: ReplicaId) -> Result<(), CounterFull> {
        self.of(replica).checked_add(by).map(drop).ok_or(CounterFull)
    }

    /// The delta that adds `by`. A part beyond 64 bits stays at the limit: ask [`Tally::check`] before.
    #[must_use]
    pub fn add(&self, by: i64, event: &mut Event) -> Tally {
        let part = self.of(event.dot().replica).saturating_add(by);
        let delta = Tally(self.0.replace_own(part, event));
        assert!(delta.0.entries().len() == 1, "a replica's part is one live dot");
        delta
    }

    /// The delta that removes all parts that are seen.
    #[must_use]
    pub fn clear(&self, event: &mut Event) -> Tally {
        Tally(self.0.clear(event))
    }
}
