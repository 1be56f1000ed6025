//! The dotted causal context.
//!
//! N. Preguiça, C. Baquero, P. Almeida, V. Fonte, R. Gonçalves, "Dotted Version Vectors", 2010; P. Almeida, A. Shoker, C. Baquero,
//! "Delta State Replicated Data Types", 2018, section 7.2 for its use. The papers keep a vector and a cloud of single dots beside it. Here
//! a replica's dots are a list of spans, of which the vector is the one that begins at 1: a delta of a thousand neighbouring dots is one
//! span, and compaction is not a step that someone could forget.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Wire};

use super::{COUNTER_MAX, Dot, ReplicaId, VectorClock, decode_whole, varint};

/// Events `first` to `last` of one replica, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    /// Whose events.
    pub replica: ReplicaId,
    /// The first, at least 1.
    pub first: u64,
    /// The last, at least `first`.
    pub last: u64,
}

impl Span {
    /// The span of one event.
    #[must_use]
    pub const fn of(dot: Dot) -> Span {
        Span { replica: dot.replica, first: dot.counter, last: dot.counter }
    }

    /// How many events.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether this event is one of them.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.replica == dot.replica && self.first <= dot.counter && dot.counter <= self.last
    }

    fn is_sound(&self) -> bool {
        self.first > 0 && self.first <= self.last
    }

    /// Whether `next`, which begins no earlier, overlaps or touches this one, so that both are one span.
    fn reaches(&self, next: &Span) -> bool {
        self.replica == next.replica && next.first - 1 <= self.last
    }

    fn start(&self) -> (ReplicaId, u64) {
        (self.replica, self.first)
    }
}

/// A set of [`Dot`]s: which events were seen, in whatever order they came.
///
/// Spans sorted by replica and first event, that neither overlap nor touch, so equal sets are equal values. With `s` spans: a look-up
/// takes O(log s), one more dot O(log s) if it extends a span and O(s) if it opens one, operations on two contexts O(s1 + s2). A replica
/// whose events came without gaps has one span, so `s` is mostly the number of replicas.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct DotContext {
    spans: Vec<Span>,
}

impl DotContext {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> DotContext {
        DotContext { spans: Vec::new() }
    }

    /// Whether this event was seen.
    #[must_use]
    #[inline]
    pub fn contains(&self, dot: Dot) -> bool {
        match self.before_or_at(dot.replica, dot.counter) {
            Some(at) => self.spans[at].contains(dot),
            None => false,
        }
    }

    /// Sees one event. Whether it was new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        self.insert_span(Span::of(dot))
    }

    /// Sees all events of a span. Whether any was new.
    ///
    /// # Panics
    /// If the span is empty or begins at 0.
    pub fn insert_span(&mut self, mut span: Span) -> bool {
        assert!(span.is_sound(), "spans hold at least one event, counted from 1");
        let mut begin = match self.before_or_at(span.replica, span.first) {
            Some(at) if self.spans[at].reaches(&span) => at,
            Some(at) => at + 1,
            None => 0,
        };
        let mut end = begin;
        while let Some(held) = self.spans.get(end) {
            let joins = if held.start() <= span.start() { held.reaches(&span) } else { span.reaches(held) };
            if !joins {
                break;
            }
            if held.first <= span.first && span.last <= held.last {
                return false;
            }
            span.first = span.first.min(held.first);
            span.last = span.last.max(held.last);
            end += 1;
        }
        if begin == end {
            self.spans.insert(begin, span);
        } else {
            self.spans[begin] = span;
            begin += 1;
            self.spans.drain(begin..end);
        }
        let Span { replica, first, last } = span;
        assert!(self.contains(Dot { replica, counter: first }), "all of the span is seen");
        assert!(self.contains(Dot { replica, counter: last }), "all of the span is seen");
        true
    }

    /// Counts one more event of `replica`, after the largest seen, and names it. Only the replica itself may do so.
    ///
    /// # Panics
    /// After 2^64 - 1 events.
    pub fn next(&mut self, replica: ReplicaId) -> Dot {
        let counter = self.max(replica).checked_add(1).expect("2^64 events outlast any cluster");
        let dot = Dot::new(replica, counter);
        let new = self.insert(dot);
        assert!(new, "no event above the largest was seen");
        dot
    }

    /// The largest event seen of `replica`, 0 if none; there may be gaps below it.
    #[must_use]
    pub fn max(&self, replica: ReplicaId) -> u64 {
        self.before_or_at(replica, u64::MAX).map_or(0, |at| match self.spans[at] {
            span if span.replica == replica => span.last,
            _ => 0,
        })
    }

    /// Sees all that `other` has seen (set union).
    pub fn merge(&mut self, other: &DotContext) {
        if other.spans.len() <= 2 {
            for &span in &other.spans {
                self.insert_span(span);
            }
            return;
        }
        let mut united: Vec<Span> = Vec::with_capacity(self.spans.len() + other.spans.len());
        let (mut left, mut right) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        loop {
            let from_left = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.start() <= b.start(),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let span = if from_left { left.next() } else { right.next() }.expect("it was peeked at");
            match united.last_mut() {
                Some(before) if before.reaches(span) => before.last = before.last.max(span.last),
                _ => united.push(*span),
            }
        }
        assert!(united.len() <= self.spans.len() + other.spans.len(), "spans only join");
        self.spans = united;
        assert!(self.is_canonical(), "what touches is one span");
    }

    /// The union of two.
    #[must_use]
    pub fn union(&self, other: &DotContext) -> DotContext {
        let mut union = self.clone();
        union.merge(other);
        union
    }

    /// Whether all that `other` has seen was seen here.
    #[must_use]
    pub fn contains_all(&self, other: &DotContext) -> bool {
        other.spans.iter().all(|span| {
            let held = self.before_or_at(span.replica, span.first).map(|at| &self.spans[at]);
            held.is_some_and(|held| held.replica == span.replica && held.last >= span.last)
        })
    }

    /// What was seen here and not by `other`.
    #[must_use]
    pub fn difference(&self, other: &DotContext) -> DotContext {
        let mut rest: Vec<Span> = Vec::new();
        let mut theirs = other.spans.iter().peekable();
        for span in &self.spans {
            let mut first = span.first;
            // Spans that end before this one begins can't meet the next one either.
            while theirs.next_if(|cut| (cut.replica, cut.last) < (span.replica, first)).is_some() {}
            while let Some(cut) = theirs.peek().filter(|cut| cut.start() <= (span.replica, span.last)) {
                if cut.first > first {
                    rest.push(Span { replica: span.replica, first, last: cut.first - 1 });
                }
                if cut.last >= span.last {
                    first = 0;
                    break;
                }
                first = cut.last + 1;
                theirs.next();
            }
            if first > 0 {
                rest.push(Span { replica: span.replica, first, last: span.last });
            }
        }
        let rest = DotContext { spans: rest };
        assert!(self.contains_all(&rest), "a difference is a part");
        rest
    }

    /// What both have seen.
    #[must_use]
    pub fn intersection(&self, other: &DotContext) -> DotContext {
        let both = self.difference(&self.difference(other));
        assert!(other.contains_all(&both), "an intersection is a part of both");
        both
    }

    /// Whether both have seen some event.
    #[must_use]
    pub fn meets(&self, other: &DotContext) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether it is a mere vector clock: no gaps, no events whose forerunners are missing.
    #[must_use]
    pub fn is_compact(&self) -> bool {
        self.spans.iter().all(|span| span.first == 1)
    }

    /// The events without gaps, from each replica's first on.
    #[must_use]
    pub fn vector(&self) -> VectorClock {
        let compact = self.spans.iter().filter(|span| span.first == 1);
        let vector: VectorClock = compact.map(|span| (span.replica, span.last)).collect();
        assert!(vector.len() <= self.spans.len(), "a replica has at most one span from its first event on");
        vector
    }

    /// The events beyond a gap: all that [`DotContext::vector`] leaves out.
    pub fn beyond_gaps(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied().filter(|span| span.first > 1)
    }

    /// All spans, by replica and first event.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.spans.iter().copied()
    }

    /// All dots, in order. There can be very many: a span of a million is a million dots.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.spans
            .iter()
            .flat_map(|span| (span.first..=span.last).map(|counter| Dot { replica: span.replica, counter }))
    }

    /// How many events were seen; 2^64 - 1 stands for all larger numbers.
    #[must_use]
    pub fn dot_count(&self) -> u64 {
        self.spans.iter().fold(0, |sum, span| span.count().saturating_add(sum))
    }

    /// How many spans: the measure of its size.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of the encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut bytes = varint::len(self.spans.len() as u64);
        let mut before = None;
        for span in &self.spans {
            let (step, gap) = steps(before, span);
            bytes += varint::len(step) + varint::len(gap) + varint::len(span.last - span.first);
            before = Some(span);
        }
        assert!(bytes > 2 * self.spans.len(), "a span takes three bytes at least");
        bytes
    }

    /// Reads a context from the front of `bytes`.
    ///
    /// # Errors
    /// Bytes that [`Wire::encode`] does not write, and counters above [`COUNTER_MAX`].
    pub fn take(bytes: &mut Bytes) -> Result<DotContext, DecodeError> {
        let beyond = DecodeError::new("dots below 2^63");
        let count = varint::take_count(bytes, 3)?;
        assert!(count <= bytes.len(), "what is allocated is bounded by what was sent");
        let mut spans: Vec<Span> = Vec::with_capacity(count);
        for _ in 0..count {
            let (step, gap, length) = (varint::take(bytes)?, varint::take(bytes)?, varint::take(bytes)?);
            let (replica, reached) = match spans.last() {
                None => (step, 0),
                // Behind a span of the same replica at least one event is missing.
                Some(before) if step == 0 => (before.replica.0, before.last.checked_add(1).ok_or(beyond)?),
                Some(before) => (before.replica.0.checked_add(step).ok_or(beyond)?, 0),
            };
            let first = reached.checked_add(1).and_then(|next| next.checked_add(gap)).ok_or(beyond)?;
            let last = first.checked_add(length).filter(|last| *last <= COUNTER_MAX).ok_or(beyond)?;
            spans.push(Span { replica: ReplicaId(replica), first, last });
        }
        let context = DotContext { spans };
        assert!(context.is_canonical(), "steps and gaps give sorted spans that do not touch");
        Ok(context)
    }

    /// The last span that begins at or before this event.
    fn before_or_at(&self, replica: ReplicaId, counter: u64) -> Option<usize> {
        self.spans.partition_point(|span| span.start() <= (replica, counter)).checked_sub(1)
    }

    fn is_canonical(&self) -> bool {
        self.spans.iter().all(Span::is_sound)
            && self.spans.is_sorted_by(|a, b| a.start() < b.start() && !a.reaches(b))
    }
}

/// What a span adds to the one before it: the step to its replica, and the events missing before it.
fn steps(before: Option<&Span>, span: &Span) -> (u64, u64) {
    match before {
        None => (span.replica.0, span.first - 1),
        Some(before) if before.replica == span.replica => (0, span.first - before.last - 2),
        Some(before) => (span.replica.0 - before.replica.0, span.first - 1),
    }
}

impl From<&VectorClock> for DotContext {
    fn from(clock: &VectorClock) -> DotContext {
        let spans = clock.iter().map(|(replica, last)| Span { replica, first: 1, last });
        let context = DotContext { spans: spans.collect() };
        assert!(context.is_canonical() && context.is_compact(), "a vector has no gaps");
        context
    }
}

impl FromIterator<Dot> for DotContext {
    /// O(n log n), whatever order the dots come in.
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> DotContext {
        dots.into_iter().map(Span::of).collect()
    }
}

impl FromIterator<Span> for DotContext {
    /// The same for spans, which may overlap.
    ///
    /// # Panics
    /// If a span is empty or begins at 0.
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> DotContext {
        let mut sorted: Vec<Span> = spans.into_iter().collect();
        sorted.sort_unstable_by_key(Span::start);
        let mut spans: Vec<Span> = Vec::new();
        for span in sorted {
            assert!(span.is_sound(), "spans hold at least one event, counted from 1");
            match spans.last_mut() {
                Some(before) if before.reaches(&span) => before.last = before.last.max(span.last),
                _ => spans.push(span),
            }
        }
        assert!(spans.is_sorted_by(|a, b| a.start() < b.start()), "sorted spans stay so");
        DotContext { spans }
    }
}

impl Wire for DotContext {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.is_canonical(), "sorted spans that do not touch");
        varint::put(self.spans.len() as u64, out);
        let mut before = None;
        for span in &self.spans {
            let (step, gap) = steps(before, span);
            varint::put(step, out);
            varint::put(gap, out);
            varint::put(span.last - span.first, out);
            before = Some(span);
        }
    }

    fn decode(bytes: Bytes) -> Result<DotContext, DecodeError> {
        decode_whole(bytes, DotContext::take)
    }
}

impl fmt::Debug for DotContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, span) in self.spans.iter().enumerate() {
            write!(f, "{}{}:{}", if at == 0 { "" } else { " " }, span.replica, span.first)?;
            if span.last > span.first {
                write!(f, "..{}", span.last)?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Display for DotContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
