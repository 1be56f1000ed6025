//! Messages that were delivered here, kept for those who may lack them.

use alloc::collections::{BTreeMap, BTreeSet};

use keypact_protocol::Lsn;

use crate::clock::{Dot, ReplicaId};
use crate::envelope::Envelope;

/// Kept messages by name, each with its place in the log.
#[derive(Debug, Default)]
pub(super) struct Store {
    kept: BTreeMap<Dot, (Lsn, Envelope)>,
    places: BTreeSet<Lsn>,
    /// How many are kept of each stream.
    counts: BTreeMap<ReplicaId, u64>,
}

impl Store {
    pub(super) fn insert(&mut self, lsn: Lsn, envelope: Envelope) {
        assert!(lsn > Lsn::ZERO, "what is kept stands in the log");
        self.places.insert(lsn);
        let dot = envelope.dot;
        match self.kept.insert(dot, (lsn, envelope)) {
            Some((before, _)) => {
                self.places.remove(&before);
            }
            None => *self.counts.entry(dot.replica).or_default() += 1,
        }
    }

    pub(super) fn get(&self, dot: Dot) -> Option<&Envelope> {
        self.kept.get(&dot).map(|(_, envelope)| envelope)
    }

    /// Messages of one stream from `first` to `last`, as long as none is missing between them.
    pub(super) fn run(&self, replica: ReplicaId, first: u64, last: u64) -> impl Iterator<Item = &Envelope> {
        assert!((1..=last).contains(&first), "a range has a first and a last");
        let dots = Dot::new(replica, first)..=Dot::new(replica, last);
        let run = self.kept.range(dots).zip(first..);
        run.take_while(|((dot, _), counter)| dot.counter == *counter).map(|((_, (_, envelope)), _)| envelope)
    }

    /// Forgets a stream's messages up to `last`. O(n log n) in how many these are.
    pub(super) fn forget(&mut self, replica: ReplicaId, last: u64) {
        while let Some((&dot, _)) = self.kept.range(Dot::new(replica, 1)..).next()
            && dot.replica == replica
            && dot.counter <= last
        {
            let (lsn, _) = self.kept.remove(&dot).expect("it was just seen");
            assert!(self.places.remove(&lsn), "every kept message has its place");
            let count = self.counts.get_mut(&replica).expect("what is kept is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&replica);
            }
        }
    }

    /// Streams of which something is kept.
    pub(super) fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        self.counts.keys().copied()
    }

    /// How many of one stream are kept.
    pub(super) fn count(&self, replica: ReplicaId) -> u64 {
        self.counts.get(&replica).copied().unwrap_or(0)
    }

    /// The oldest record that is needed for a kept message.
    pub(super) fn first_place(&self) -> Option<Lsn> {
        self.places.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}
