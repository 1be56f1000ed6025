//! Dots with values.

use core::fmt::Debug;

use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::DecodeError;
use smallvec::SmallVec;

use super::{DotStore, Event, Sides};
use crate::codec::{Codec, Reader};

/// Live dots, each with the value that its event wrote. Sorted by dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DotFunction<V> {
    entries: SmallVec<[(Dot, V); 1]>,
}

impl<V> Default for DotFunction<V> {
    fn default() -> DotFunction<V> {
        DotFunction { entries: SmallVec::new() }
    }
}

impl<V: Clone + PartialEq + Debug + Codec> DotFunction<V> {
    /// Live dots with their values, by dot.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (Dot, &V)> {
        self.entries.iter().map(|(dot, value)| (*dot, value))
    }

    /// The delta that puts the event's dot with `value` in place of all that are seen here.
    #[must_use]
    pub fn replace_all(&self, value: V, event: &mut Event) -> DotFunction<V> {
        assert!(self.place(event.dot()).is_err(), "an event is new");
        event.supersede(self);
        DotFunction { entries: SmallVec::from_buf([(event.dot(), value)]) }
    }

    /// The delta that puts the event's dot with `value` in place of those of the event's own replica.
    #[must_use]
    pub fn replace_own(&self, value: V, event: &mut Event) -> DotFunction<V> {
        assert!(self.place(event.dot()).is_err(), "an event is new");
        let own = event.dot().replica;
        for (dot, _) in self.entries.iter().filter(|(dot, _)| dot.replica == own) {
            event.supersede_dot(*dot);
        }
        DotFunction { entries: SmallVec::from_buf([(event.dot(), value)]) }
    }

    /// The delta that removes all that are seen here.
    #[must_use]
    pub fn clear(&self, event: &mut Event) -> DotFunction<V> {
        event.supersede(self);
        DotFunction::default()
    }

    fn place(&self, dot: Dot) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&dot, |(dot, _)| *dot)
    }
}

impl<V: Clone + PartialEq + Debug + Codec> DotStore for DotFunction<V> {
    #[inline]
    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn for_each_dot(&self, visit: &mut dyn FnMut(Dot)) {
        self.entries.iter().for_each(|(dot, _)| visit(*dot));
    }

    fn join(&mut self, other: DotFunction<V>, sides: &Sides<'_>) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(dot, _)| other.place(*dot).is_ok() || !sides.theirs.contains(*dot));
        let mut changed = self.entries.len() != before;
        for (dot, value) in other.entries {
            if let Err(at) = self.place(dot)
                && !sides.ours.contains(dot)
            {
                self.entries.insert(at, (dot, value));
                changed = true;
            }
        }
        assert!(self.entries.is_sorted_by(|a, b| a.0 < b.0), "sorted, each once");
        changed
    }

    fn drop_seen(&mut self, seen: &DotContext, _hints: bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(dot, _)| !seen.contains(*dot));
        self.entries.len() != before
    }

    fn emptied(&self) -> DotFunction<V> {
        DotFunction::default()
    }

    fn unseen(&self, seen: &DotContext) -> DotFunction<V> {
        let unseen = self.entries.iter().filter(|(dot, _)| !seen.contains(*dot));
        let entries: SmallVec<[(Dot, V); 1]> = unseen.cloned().collect();
        assert!(entries.len() <= self.entries.len(), "a part");
        DotFunction { entries }
    }

    fn split(self, _bytes_max: usize, part: &mut dyn FnMut(DotFunction<V>)) {
        part(self);
    }

    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.entries.is_sorted_by(|a, b| a.0 < b.0), "sorted, each once");
        (self.entries.len() as u64).put(out);
        for (dot, value) in &self.entries {
            dot.put(out);
            value.put(out);
        }
    }

    fn take(input: &mut Reader, _hints: bool) -> Result<DotFunction<V>, DecodeError> {
        let count = input.count(2)?;
        // Values can be far larger than their fewest bytes: room is made as they come.
        let mut entries: SmallVec<[(Dot, V); 1]> = SmallVec::new();
        for _ in 0..count {
            let dot = <Dot as Codec>::take(input)?;
            if entries.last().is_some_and(|before| before.0 >= dot) {
                return Err(DecodeError::new("dots in order"));
            }
            entries.push((dot, V::take(input)?));
        }
        assert!(entries.len() == count, "all were read");
        Ok(DotFunction { entries })
    }

    fn encoded_len(&self) -> usize {
        let entries = self.entries.iter().map(|(dot, value)| dot.encoded_len() + value.encoded_len());
        (self.entries.len() as u64).encoded_len() + entries.sum::<usize>()
    }
}
