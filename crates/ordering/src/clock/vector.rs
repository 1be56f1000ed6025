//! The vector clock.
//!
//! C. Fidge 1988 and F. Mattern, "Virtual Time and Global States of Distributed Systems", 1989. Where we differ: members need not be
//! known before; a replica without an entry counts as 0.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Wire};

use super::{COUNTER_MAX, Dot, ReplicaId, decode_whole, varint};

/// How two vector clocks stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Causality {
    /// The same events.
    Equal,
    /// The left has seen less.
    Before,
    /// The left has seen more.
    After,
    /// Each has seen something the other has not.
    Concurrent,
}

/// How many events of each replica were seen, without gaps: an entry of 5 means the events 1 to 5.
///
/// A sorted list without zeros, so that equal clocks are equal values. Finding an entry is O(log n). Of what takes two clocks,
/// [`VectorClock::merge`] is O(n), the rest O(n log n): it finds each entry of one in the other.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct VectorClock {
    entries: Vec<(ReplicaId, u64)>,
}

impl VectorClock {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> VectorClock {
        VectorClock { entries: Vec::new() }
    }

    /// Events seen of a replica, 0 for one that is not known.
    #[must_use]
    pub fn get(&self, replica: ReplicaId) -> u64 {
        self.place(replica).map_or(0, |at| self.entries[at].1)
    }

    /// Counts one more event of `replica`, and names it.
    ///
    /// # Panics
    /// After 2^64 - 1 events.
    pub fn increment(&mut self, replica: ReplicaId) -> Dot {
        let counter = self.get(replica).checked_add(1).expect("2^64 events outlast any cluster");
        let dot = Dot::new(replica, counter);
        let new = self.observe(dot);
        assert!(new && self.contains(dot), "an event is seen by who makes it, and was not before");
        dot
    }

    /// Sees all events of `dot.replica` up to and with `dot`. Whether there was a new one.
    pub fn observe(&mut self, dot: Dot) -> bool {
        assert!(dot.counter > 0, "events are counted from 1");
        match self.place(dot.replica) {
            Ok(at) if self.entries[at].1 >= dot.counter => false,
            Ok(at) => {
                self.entries[at].1 = dot.counter;
                true
            }
            Err(at) => {
                self.entries.insert(at, (dot.replica, dot.counter));
                true
            }
        }
    }

    /// Whether this event was seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.replica) >= dot.counter
    }

    /// Whether `dot` is the next event of its replica: all before it were seen, it was not.
    #[must_use]
    pub fn is_next(&self, dot: Dot) -> bool {
        assert!(dot.counter > 0, "events are counted from 1");
        dot.counter - 1 == self.get(dot.replica)
    }

    /// Whether all events that `other` has seen were seen here.
    #[must_use]
    pub fn contains_all(&self, other: &VectorClock) -> bool {
        other.entries.iter().all(|&(replica, counter)| self.get(replica) >= counter)
    }

    /// How the two stand to each other.
    #[must_use]
    pub fn compare(&self, other: &VectorClock) -> Causality {
        match (self.contains_all(other), other.contains_all(self)) {
            (true, true) => {
                assert!(self.entries == other.entries, "the list is canonical");
                Causality::Equal
            }
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Sees all that `other` has seen: the least clock above both (join).
    pub fn merge(&mut self, other: &VectorClock) {
        let mut at = 0;
        let mut unknown = Vec::new();
        for &(replica, counter) in &other.entries {
            while self.entries.get(at).is_some_and(|entry| entry.0 < replica) {
                at += 1;
            }
            match self.entries.get_mut(at) {
                Some(entry) if entry.0 == replica => entry.1 = entry.1.max(counter),
                _ => unknown.push((replica, counter)),
            }
        }
        if !unknown.is_empty() {
            self.entries.append(&mut unknown);
            // Two ascending runs, which this sort joins in one pass.
            self.entries.sort_by_key(|&(replica, _)| replica);
        }
        assert!(self.entries.len() >= other.entries.len(), "no replica is lost by a merge");
        assert!(self.entries.is_sorted_by(|a, b| a.0 < b.0), "each replica has one entry");
    }

    /// Of how many replicas the merge of both would have events.
    #[must_use]
    pub fn merged_len(&self, other: &VectorClock) -> usize {
        let unknown = other.entries.iter().filter(|(replica, _)| self.place(*replica).is_err());
        let merged = self.entries.len() + unknown.count();
        assert!(merged >= other.entries.len(), "no replica is lost by a merge");
        merged
    }

    /// The greatest clock below both (meet): what both have seen. Over all replicas that is what is stable everywhere.
    #[must_use]
    pub fn meet(&self, other: &VectorClock) -> VectorClock {
        let both = self.entries.iter().map(|&(replica, counter)| (replica, counter.min(other.get(replica))));
        let met = VectorClock { entries: both.filter(|&(_, counter)| counter > 0).collect() };
        assert!(met.entries.len() <= self.entries.len().min(other.entries.len()), "nothing is made up");
        met
    }

    /// Drops a replica that left for good. Only safe once every clock that will be compared has done so.
    pub fn forget(&mut self, replica: ReplicaId) {
        if let Ok(at) = self.place(replica) {
            let (forgotten, _) = self.entries.remove(at);
            assert!(forgotten == replica, "the others stay");
        }
        assert!(self.get(replica) == 0, "a replica that is forgotten counts as unknown");
    }

    /// Replicas with at least one event seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Replicas and their counts, by replica.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ReplicaId, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// Bytes of the encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut before = 0;
        let mut bytes = varint::len(self.entries.len() as u64);
        for &(replica, counter) in &self.entries {
            bytes += varint::len(replica.0 - before) + varint::len(counter);
            before = replica.0;
        }
        bytes
    }

    /// Reads a clock from the front of `bytes`.
    ///
    /// # Errors
    /// Bytes that [`Wire::encode`] does not write.
    pub fn take(bytes: &mut Bytes) -> Result<VectorClock, DecodeError> {
        let count = varint::take_count(bytes, 2)?;
        let mut entries: Vec<(ReplicaId, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let step = varint::take(bytes)?;
            let replica = match entries.last() {
                None => Some(step),
                Some(_) if step == 0 => None,
                Some((before, _)) => before.0.checked_add(step),
            };
            let replica = replica.ok_or(DecodeError::new("a vector clock's replicas in order"))?;
            match varint::take(bytes)? {
                0 => return Err(DecodeError::new("a vector clock without zeros")),
                counter => entries.push((ReplicaId(replica), counter)),
            }
        }
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "steps above 0 give ascending replicas");
        Ok(VectorClock { entries })
    }

    /// Reads a clock of events from the front of `bytes`, of at most `replicas_max` replicas.
    ///
    /// # Errors
    /// As [`VectorClock::take`]; for more replicas, before anything is allocated for them; and for counters above [`COUNTER_MAX`].
    pub fn take_of_events(bytes: &mut Bytes, replicas_max: usize) -> Result<VectorClock, DecodeError> {
        if varint::take(&mut bytes.clone())? > replicas_max as u64 {
            return Err(DecodeError::new("a vector clock of fewer replicas"));
        }
        let clock = VectorClock::take(bytes)?;
        assert!(clock.len() <= replicas_max, "the count was looked at");
        if clock.entries.iter().any(|&(_, counter)| counter > COUNTER_MAX) {
            return Err(DecodeError::new("a vector clock's counters below 2^63"));
        }
        Ok(clock)
    }

    fn place(&self, replica: ReplicaId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&replica, |&(replica, _)| replica)
    }
}

impl PartialOrd for VectorClock {
    /// `None`: concurrent.
    fn partial_cmp(&self, other: &VectorClock) -> Option<Ordering> {
        match self.compare(other) {
            Causality::Equal => Some(Ordering::Equal),
            Causality::Before => Some(Ordering::Less),
            Causality::After => Some(Ordering::Greater),
            Causality::Concurrent => None,
        }
    }
}

impl FromIterator<(ReplicaId, u64)> for VectorClock {
    /// Zeros are passed over; of several counts for one replica the largest counts.
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(entries: I) -> VectorClock {
        let mut clock = VectorClock::new();
        for (replica, counter) in entries.into_iter().filter(|&(_, counter)| counter > 0) {
            clock.observe(Dot { replica, counter });
        }
        clock
    }
}

impl Wire for VectorClock {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut before = 0;
        assert!(self.entries.iter().all(|(_, counter)| *counter > 0), "zeros are not written");
        varint::put(self.entries.len() as u64, out);
        for &(replica, counter) in &self.entries {
            varint::put(replica.0 - before, out);
            varint::put(counter, out);
            before = replica.0;
        }
    }

    fn decode(bytes: Bytes) -> Result<VectorClock, DecodeError> {
        decode_whole(bytes, VectorClock::take)
    }
}

impl fmt::Debug for VectorClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (replica, counter)) in self.entries.iter().enumerate() {
            write!(f, "{}{replica}:{counter}", if at == 0 { "" } else { " " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for VectorClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
