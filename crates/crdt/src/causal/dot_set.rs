//! A set of dots.

use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::DecodeError;
use smallvec::SmallVec;

use super::{DotStore, Event, Sides};
use crate::codec::{Codec, Reader};

/// Live dots without values, sorted. One or two of them mostly, more after concurrent adds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DotSet {
    dots: SmallVec<[Dot; 1]>,
}

impl DotSet {
    /// The live dots, in order.
    pub fn dots(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.dots.iter().copied()
    }

    /// The delta that puts the event's dot in place of all that are seen here.
    #[must_use]
    pub fn renew(&self, event: &mut Event) -> DotSet {
        assert!(!self.holds(event.dot()), "an event is new");
        event.supersede(self);
        DotSet { dots: SmallVec::from_buf([event.dot()]) }
    }

    /// The delta that removes all that are seen here.
    #[must_use]
    pub fn clear(&self, event: &mut Event) -> DotSet {
        event.supersede(self);
        DotSet::default()
    }

    fn holds(&self, dot: Dot) -> bool {
        self.dots.binary_search(&dot).is_ok()
    }
}

impl DotStore for DotSet {
    #[inline]
    fn is_bottom(&self) -> bool {
        self.dots.is_empty()
    }

    fn for_each_dot(&self, visit: &mut dyn FnMut(Dot)) {
        self.dots.iter().copied().for_each(visit);
    }

    #[inline]
    fn join(&mut self, other: DotSet, sides: &Sides<'_>) -> bool {
        if self.dots == other.dots {
            return false;
        }
        let before = self.dots.len();
        self.dots.retain(|dot| other.holds(*dot) || !sides.theirs.contains(*dot));
        let mut changed = self.dots.len() != before;
        for dot in other.dots {
            if let Err(at) = self.dots.binary_search(&dot)
                && !sides.ours.contains(dot)
            {
                self.dots.insert(at, dot);
                changed = true;
            }
        }
        assert!(self.dots.is_sorted_by(|a, b| a < b), "sorted, each once");
        changed
    }

    #[inline]
    fn drop_seen(&mut self, seen: &DotContext, _hints: bool) -> bool {
        // Nearly all sets have one dot, and nearly all of those that one side lacks are news to it.
        if let [dot] = self.dots[..]
            && !seen.contains(dot)
        {
            return false;
        }
        let before = self.dots.len();
        self.dots.retain(|dot| !seen.contains(*dot));
        self.dots.len() != before
    }

    fn emptied(&self) -> DotSet {
        DotSet::default()
    }

    fn unseen(&self, seen: &DotContext) -> DotSet {
        let dots: SmallVec<[Dot; 1]> = self.dots.iter().copied().filter(|dot| !seen.contains(*dot)).collect();
        assert!(dots.len() <= self.dots.len(), "a part");
        DotSet { dots }
    }

    fn split(self, _bytes_max: usize, part: &mut dyn FnMut(DotSet)) {
        part(self);
    }

    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.dots.is_sorted_by(|a, b| a < b), "sorted, each once");
        (self.dots.len() as u64).put(out);
        for dot in &self.dots {
            dot.put(out);
        }
    }

    fn take(input: &mut Reader, _hints: bool) -> Result<DotSet, DecodeError> {
        let count = input.count(2)?;
        let mut dots: SmallVec<[Dot; 1]> = SmallVec::with_capacity(count);
        for _ in 0..count {
            let dot = <Dot as Codec>::take(input)?;
            if dots.last().is_some_and(|before| *before >= dot) {
                return Err(DecodeError::new("dots in order"));
            }
            dots.push(dot);
        }
        assert!(dots.len() == count, "all were read");
        Ok(DotSet { dots })
    }

    fn encoded_len(&self) -> usize {
        (self.dots.len() as u64).encoded_len() + self.dots.iter().map(Codec::encoded_len).sum::<usize>()
    }
}
