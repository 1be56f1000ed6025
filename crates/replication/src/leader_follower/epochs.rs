//! Which epochs the entries of a checkpoint are of: what is left of them once the entries themselves are gone.
//!
//! A token names a write by its epoch and index. A member answers for it only if its own log has that entry; in the tail it looks, below the
//! tail it knows by this. Kafka keeps such a table beside its log for the same reason (KIP-101).

use alloc::vec::Vec;

use keypact_log::Tail;

/// The most epochs that a checkpoint names. Of tokens older than these nothing is known.
pub(super) const EPOCHS_MAX: usize = 32;

/// Epochs and where they begin.
///
/// Invariants: both rise; there are at most [`EPOCHS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Epochs {
    /// (epoch, index of its first entry).
    starts: Vec<(u64, u64)>,
}

impl Epochs {
    /// The epoch of the entry at `index`, if the table reaches so far back. O(log epochs).
    pub(super) fn at(&self, index: u64) -> Option<u64> {
        let after = self.starts.partition_point(|(_, first)| *first <= index);
        let (epoch, first) = self.starts[..after].last()?;
        assert!(*first <= index, "the last that begins at or before it");
        Some(*epoch)
    }

    /// The table that belongs to a checkpoint which ends at `index`: this one, and what the tail has up to there. O(entries).
    pub(super) fn extended(&self, tail: &Tail, index: u64) -> Epochs {
        let mut extended = self.clone();
        for slot in tail.slots_from(tail.base().index + 1).expect("past the base") {
            if slot.entry.index() > index {
                break;
            }
            extended.add(slot.entry.term(), slot.entry.index());
        }
        extended.assert_invariants();
        extended
    }

    fn add(&mut self, epoch: u64, index: u64) {
        if self.starts.last().is_some_and(|(last, _)| *last == epoch) {
            return;
        }
        assert!(
            self.starts.last().is_none_or(|(last, first)| *last < epoch && *first < index),
            "epochs rise"
        );
        if self.starts.len() == EPOCHS_MAX {
            self.starts.remove(0);
        }
        self.starts.push((epoch, index));
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.assert_invariants();
        postcard::to_allocvec(&self.starts).expect("a vector takes any table")
    }

    /// Reads back what [`Epochs::encode`] wrote; nothing at all is an empty table, `None` is for other bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Epochs> {
        if bytes.is_empty() {
            return Some(Epochs::default());
        }
        let starts: Vec<(u64, u64)> = postcard::from_bytes(bytes).ok()?;
        let rises = starts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        (rises && starts.len() <= EPOCHS_MAX).then_some(Epochs { starts })
    }

    fn assert_invariants(&self) {
        assert!(self.starts.len() <= EPOCHS_MAX, "the table is bounded");
        assert!(self.starts.is_sorted(), "later epochs begin later");
    }
}
