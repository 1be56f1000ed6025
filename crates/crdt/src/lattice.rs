//! What every type here is, and what a protocol that spreads it may rely on.

use core::fmt::Debug;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::Wire;

/// A state that only grows: any two have a least common one above both, their *join*. Replicas that have joined the same states are
/// equal, in whatever order, however often.
///
/// # Laws
///
/// For all states `a`, `b`, `c`, where `a + b` is `a` after `a.merge(b)`; the tests hold every type to them:
///
/// 1. `a + b = b + a`, `(a + b) + c = a + (b + c)`, `a + a = a`.
/// 2. A mutation only grows its state: `a + m(a) = m(a)`.
/// 3. A mutation's delta does what the mutation did: `b` that applies all deltas of `a`, in any order, is `b + a`.
/// 4. Joined deltas do what they do one by one.
///
/// # What an anti-entropy protocol may rely on
///
/// - A delta carries its own causal context: all it needs to be applied anywhere, before or after any other. There is no order to keep.
/// - [`Lattice::apply`] takes time in the size of the delta, not of the state, for the deltas that mutations return.
/// - Every mutation that changes something is an *event*, one dot or more, removals included. It is in [`Delta::events`] of the mutation's
///   delta, and from then on in [`Lattice::version`] of whoever applied that. Replicas with equal versions are equal, and what one has
///   applied more than the other is the difference of the versions. So versions are what digests are made of. Types without events (a
///   lone last-writer-wins register) have empty versions and are always sent whole.
/// - [`Lattice::delta_since`] makes one delta of all that somebody with a given version misses. It is the way to one who misses more than a
///   protocol still keeps deltas for. It costs time in the size of the state, and bytes in what is missing plus a few for each entry
///   that is not. Apply it only to a state that has applied `seen`: it says that something was removed, and not by which event if that is
///   in `seen`. A replica that asked, lost its disk, and is answered then, must not take the answer.
/// - [`Delta::split`] cuts a delta to size. All parts but the last may be applied in any order, and none of them raises a version; *the last
///   must be applied after all others*, as it is what claims the events. In the given order no entry seems to be missing on the way.
/// - A version is worth what the replica's disk is worth. Who applied a delta and lost it in a crash must not claim it; who counted an event
///   and lost it must not count under the same [`ReplicaId`](keypact_ordering::clock::ReplicaId) again.
pub trait Lattice: Clone + Default + PartialEq + Debug + Wire {
    /// What a mutation returns, and what travels.
    type Delta: Delta;

    /// Joins `other` to this. Whether it taught anything.
    fn merge(&mut self, other: Self) -> bool;

    /// Joins what a delta stands for. Whether it taught anything.
    fn apply(&mut self, delta: Self::Delta) -> bool;

    /// The events that this state has applied.
    fn version(&self) -> DotContext;

    /// All that a state of version `seen` lacks; empty if it lacks nothing.
    fn delta_since(&self, seen: &DotContext) -> Self::Delta;

    /// Replicas of whose events something lives here. Of all others nothing is left but their events' names. O(state). Types that never
    /// remove anything name all.
    fn living(&self) -> BTreeSet<ReplicaId> {
        self.version().spans().map(|span| span.replica).collect()
    }

    /// Drops the names of a replica's events, as far as nothing of them lives: they are then neither in the version nor in any delta. Only
    /// once nobody can bring one of these events any more: who does makes it live again. Types that never remove anything keep all.
    fn forget(&mut self, replica: ReplicaId) {
        let _ = replica;
    }

    /// Whether `other` could teach nothing: whether this is above it. Copies the state.
    fn covers(&self, other: &Self) -> bool {
        !self.clone().merge(other.clone())
    }
}

/// A piece of a state, that travels alone. The default value is the empty one.
pub trait Delta: Clone + Default + PartialEq + Debug + Wire {
    /// Joins another, so that applying this one does what applying both did. O(size of both).
    fn join(&mut self, other: Self);

    /// Whether it says nothing.
    fn is_empty(&self) -> bool;

    /// The events that whoever applies it adds to its version: the mutation's own, not those that it superseded.
    fn events(&self) -> DotContext;

    /// Bytes of the encoding.
    fn encoded_len(&self) -> usize;

    /// Cuts it into parts of at most `bytes_max` bytes, each a delta, that together say the same; the last must
    /// be applied last. A single value, or a list of events, that is larger makes a larger part.
    /// An empty delta has no parts.
    fn split(self, bytes_max: usize) -> Vec<Self> {
        let _ = bytes_max;
        if self.is_empty() { Vec::new() } else { Vec::from([self]) }
    }
}
