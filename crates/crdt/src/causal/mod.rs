//! Types that know which events they have seen: a store of live dots, and one context for all of it.
//!
//! An event's dot is in the context for good. As long as it is in the store too, it lives; once it is not, it was removed. So a removal
//! leaves nothing behind but a number in a span, and an add that nobody has seen can't be removed by accident: *add wins*.
//!
//! ```text
//!             context {1:1..3 2:1}            an event of replica 2 removes "a", having seen 1.1
//!  store  "a" ─▶ {1.1}                        delta: context {1:1 2:2}, store "a" ─▶ {}
//!         "b" ─▶ {1.3 2:1}                    after: context {1:1..3 2:1..2}, store "b" ─▶ {1.3 2.1}
//! ```
//!
//! Paper: P. Almeida, A. Shoker, C. Baquero, "Delta State Replicated Data Types", 2018, section 7. Where we differ:
//!
//! - Each mutation is an event with a dot of its own, removals too. A state knows which events it has applied (its version, a part of the
//!   context): equal versions mean equal states.
//! - A mutation's delta lists the keys that it touched, also those that it emptied. So it is applied in the time that its own size takes,
//!   where the paper's join walks the whole map to find what a context removes.
//! - The context is kept as spans, compact at all times.

mod dot_function;
mod dot_map;
mod dot_set;
mod event;
mod product;
mod store;

pub use dot_function::DotFunction;
pub use dot_map::DotMap;
pub use dot_set::DotSet;
pub use event::Event;
pub use store::{DotStore, Sides};

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{Dot, DotContext, ReplicaId, Span, varint};
use keypact_protocol::{DecodeError, Plant, Wire, planted};

use crate::codec::Reader;
use crate::lattice::{Delta, Lattice};

/// A store with the context of all that it has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Causal<S> {
    store: S,
    context: DotContext,
    /// The events that were applied. A part of the context, which also has events that were only heard of: an event may be known to be
    /// superseded before it comes itself, and then what *it* superseded is not known yet.
    version: DotContext,
}

impl<S: DotStore> Causal<S> {
    /// What lives.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Which events were seen, live or not.
    #[must_use]
    pub fn context(&self) -> &DotContext {
        &self.context
    }

    /// Carries out one event of `replica`: `mutate` makes the store's delta and tells the event what it supersedes. Returns the delta for
    /// the others, empty if nothing changed (then no event was counted).
    ///
    /// # Panics
    /// After 2^64 - 1 events of one replica.
    pub fn mutate(&mut self, replica: ReplicaId, mutate: impl FnOnce(&S, &mut Event) -> S) -> CausalDelta<S> {
        let mut event = Event::new(Dot::new(replica, self.context.max(replica) + 1));
        let store = mutate(&self.store, &mut event);
        let dot = event.dot();
        let Some(context) = event.into_context(&store) else { return CausalDelta::default() };
        assert!(context.contains(dot) && !self.context.contains(dot), "an event is new, and knows itself");
        let mut delta = CausalDelta { store, context, events: DotContext::from_iter([dot]), whole: false };
        let changed = self.apply(delta.clone());
        assert!(changed, "an event is news to the replica that makes it");
        if planted(Plant::RemoveWithoutContext) && live(&delta.store).is_empty() {
            delta.context = DotContext::from_iter([dot]);
        }
        delta
    }

    fn join(&mut self, store: S, context: &DotContext, events: &DotContext, whole: bool) -> bool {
        let sides = Sides { ours: &self.context, theirs: context, whole, hints: false };
        let mut changed = self.store.join(store, &sides);
        changed |= widen(&mut self.context, context);
        assert!(self.context.contains_all(context), "what the other has heard of is heard of here");
        if self.context.contains_all(events) {
            changed |= widen(&mut self.version, events);
        } else {
            // A seal that came before its parts: what is not known can't be claimed.
            changed |= widen(&mut self.version, &events.intersection(&self.context));
        }
        assert!(self.context.contains_all(&self.version), "what was applied was heard of");
        changed
    }
}

impl<S: DotStore> Lattice for Causal<S> {
    type Delta = CausalDelta<S>;

    fn merge(&mut self, other: Causal<S>) -> bool {
        if self.context.is_empty() {
            *self = other;
            return !self.context.is_empty();
        }
        self.join(other.store, &other.context, &other.version, true)
    }

    fn apply(&mut self, delta: CausalDelta<S>) -> bool {
        self.join(delta.store, &delta.context, &delta.events, delta.whole)
    }

    fn version(&self) -> DotContext {
        assert!(self.version.span_count() <= self.context.dot_count() as usize, "events applied were seen");
        self.version.clone()
    }

    /// The context of the delta is all that was seen but for what lives and is in `seen`: of that the delta says nothing, and all else
    /// that it does not bring was removed.
    fn delta_since(&self, seen: &DotContext) -> CausalDelta<S> {
        let events = self.version.difference(seen);
        if events.is_empty() {
            return CausalDelta::default();
        }
        let mut known: Vec<Dot> = Vec::new();
        self.store.for_each_dot(&mut |dot| {
            if seen.contains(dot) {
                known.push(dot);
            }
        });
        let mut context = self.context.difference(&known.into_iter().collect());
        if planted(Plant::GossipDeltaWithoutContext) {
            context = live(&self.store).difference(seen).union(&events);
        }
        assert!(context.contains_all(&events), "what was not applied there is in the delta's context");
        CausalDelta { store: self.store.unseen(seen), context, events, whole: true }
    }

    fn living(&self) -> BTreeSet<ReplicaId> {
        let mut living = BTreeSet::new();
        self.store.for_each_dot(&mut |dot| {
            living.insert(dot.replica);
        });
        living
    }

    fn forget(&mut self, replica: ReplicaId) {
        let names: DotContext = self.context.spans().filter(|span| span.replica == replica).collect();
        let dead = names.difference(&live(&self.store));
        self.context = self.context.difference(&dead);
        self.version = self.version.difference(&dead);
        assert!(self.context.contains_all(&self.version), "what was applied was seen");
    }
}

/// A piece of a [`Causal`]: what some events made live, and the dots that they have seen, their own included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CausalDelta<S> {
    store: S,
    context: DotContext,
    /// The events that whoever applies it has applied. A seal has these only.
    events: DotContext,
    /// Whether dots of the context can have been removed under keys that the store does not list.
    whole: bool,
}

impl<S: DotStore> CausalDelta<S> {
    /// What it makes live, and under which keys it removed something.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Which events it knows.
    #[must_use]
    pub fn context(&self) -> &DotContext {
        &self.context
    }

    fn known(&self) -> Known {
        let heard = self.context.difference(&self.events);
        let sealed = self.events.difference(&self.context);
        let applied = self.events.difference(&sealed);
        assert!(self.context.contains_all(&applied), "events are in the context, but for those of a seal");
        assert!(!heard.meets(&applied), "each dot travels once");
        Known { applied, heard, sealed }
    }
}

/// What a delta knows, as it travels: three sets that share no dot.
struct Known {
    /// Events of its own.
    applied: DotContext,
    /// Events that it knows to be superseded, and no more of them. Parts know all their dots like this.
    heard: DotContext,
    /// Events of its own that are no part of its context: those of a seal.
    sealed: DotContext,
}

impl<S: DotStore> Delta for CausalDelta<S> {
    fn join(&mut self, other: CausalDelta<S>) {
        let sides = Sides { ours: &self.context, theirs: &other.context, whole: other.whole, hints: true };
        self.store.join(other.store, &sides);
        self.context.merge(&other.context);
        self.events.merge(&other.events);
        assert!(self.events.contains_all(&other.events), "a joined delta brings the events of both");
        self.whole |= other.whole;
    }

    fn is_empty(&self) -> bool {
        self.context.is_empty() && self.events.is_empty()
    }

    fn events(&self) -> DotContext {
        self.events.clone()
    }

    fn encoded_len(&self) -> usize {
        let Known { applied, heard, sealed } = self.known();
        let optional = |dots: DotContext| if dots.is_empty() { 0 } else { dots.encoded_len() };
        1 + applied.encoded_len() + optional(heard) + optional(sealed) + self.store.encoded_len()
    }

    /// First parts of the store, each with its live dots, then the dots that are not live, then the seal with the events.
    fn split(self, bytes_max: usize) -> Vec<CausalDelta<S>> {
        if self.is_empty() {
            return Vec::new();
        }
        if self.encoded_len() <= bytes_max {
            return Vec::from([self]);
        }
        let dead = self.context.difference(&live(&self.store));
        let mut parts = Vec::new();
        let part = |store, context, whole| CausalDelta { store, context, events: DotContext::new(), whole };
        // A dot takes at most half as much again in the context as in the store.
        self.store.split(bytes_max * 3 / 8, &mut |store| {
            let context = live(&store);
            if !context.is_empty() {
                parts.push(part(store, context, false));
            }
        });
        parts.extend(chunks(&dead, bytes_max).map(|context| part(S::default(), context, true)));
        parts.push(CausalDelta { events: self.events, ..CausalDelta::default() });
        let (_, others) = parts.split_last().expect("the seal is there");
        assert!(others.iter().all(|part| part.events.is_empty()), "only the last claims events");
        parts
    }
}

/// Cuts a context into pieces that surely take no more than `bytes_max` bytes each in a delta, or one span.
fn chunks(context: &DotContext, bytes_max: usize) -> impl Iterator<Item = DotContext> {
    let spans: Vec<Span> = context.spans().collect();
    // The delta's kind, an empty context, an empty store, and the count of spans.
    let spans_max = (bytes_max.saturating_sub(1 + 1 + 1 + varint::BYTES_MAX) / SPAN_BYTES_MAX).max(1);
    let pieces: Vec<DotContext> =
        spans.chunks(spans_max).map(|piece| piece.iter().copied().collect()).collect();
    assert!(
        pieces.iter().map(DotContext::span_count).sum::<usize>() == spans.len(),
        "each span is in one piece"
    );
    pieces.into_iter()
}

/// Adds what `more` has; whether anything.
fn widen(context: &mut DotContext, more: &DotContext) -> bool {
    if context.contains_all(more) {
        return false;
    }
    let before = context.dot_count();
    context.merge(more);
    assert!(context.dot_count() > before || before == u64::MAX, "there was something new");
    true
}

/// Bytes that one more span can add to a context.
const SPAN_BYTES_MAX: usize = 30;

/// The dots that live in a store.
fn live<S: DotStore>(store: &S) -> DotContext {
    let mut dots: Vec<Dot> = Vec::new();
    store.for_each_dot(&mut |dot| dots.push(dot));
    dots.into_iter().collect()
}

/// A dot that lives was seen: what comes from outside must say so.
fn check_seen<S: DotStore>(store: &S, context: &DotContext) -> Result<(), DecodeError> {
    let mut seen = true;
    store.for_each_dot(&mut |dot| seen &= context.contains(dot));
    if seen { Ok(()) } else { Err(DecodeError::new("a context with all live dots")) }
}

impl<S: DotStore> Wire for Causal<S> {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.context.contains_all(&self.version), "what was applied was seen");
        self.context.encode(out);
        self.context.difference(&self.version).encode(out);
        self.store.put(out);
    }

    fn decode(bytes: Bytes) -> Result<Causal<S>, DecodeError> {
        let mut input = Reader::new(bytes);
        let context = DotContext::take(&mut input.bytes)?;
        let heard = DotContext::take(&mut input.bytes)?;
        if !context.contains_all(&heard) {
            return Err(DecodeError::new("a context with all that was heard of"));
        }
        let store = S::take(&mut input, false)?;
        input.finish()?;
        check_seen(&store, &context)?;
        let version = context.difference(&heard);
        assert!(!version.meets(&heard), "applied or only heard of");
        Ok(Causal { store, version, context })
    }
}

/// Bits of a delta's first byte.
const WHOLE: u8 = 1;
const HEARD: u8 = 2;
const SEALED: u8 = 4;

impl<S: DotStore> Wire for CausalDelta<S> {
    fn encode(&self, out: &mut Vec<u8>) {
        let before = out.len();
        let Known { applied, heard, sealed } = self.known();
        let kind = |bit: u8, is: bool| if is { bit } else { 0 };
        out.push(kind(WHOLE, self.whole) | kind(HEARD, !heard.is_empty()) | kind(SEALED, !sealed.is_empty()));
        applied.encode(out);
        [&heard, &sealed].into_iter().filter(|dots| !dots.is_empty()).for_each(|dots| dots.encode(out));
        self.store.put(out);
        assert!(out.len() - before == self.encoded_len(), "the length is told before");
    }

    fn decode(bytes: Bytes) -> Result<CausalDelta<S>, DecodeError> {
        let mut input = Reader::new(bytes);
        let kind = input.byte()?;
        if kind & !(WHOLE | HEARD | SEALED) != 0 {
            return Err(DecodeError::new("a delta's kind"));
        }
        let mut context = DotContext::take(&mut input.bytes)?;
        let mut events = context.clone();
        let mut all = context.clone();
        for (bit, known) in [(HEARD, &mut context), (SEALED, &mut events)] {
            if kind & bit == 0 {
                continue;
            }
            let more = DotContext::take(&mut input.bytes)?;
            if more.is_empty() || all.meets(&more) {
                return Err(DecodeError::new("each dot of a delta once"));
            }
            known.merge(&more);
            all.merge(&more);
        }
        let store = S::take(&mut input, true)?;
        input.finish()?;
        check_seen(&store, &context)?;
        assert!(all.contains_all(&context) && all.contains_all(&events), "three sets make both");
        let delta = CausalDelta { store, context, events, whole: kind & WHOLE != 0 };
        Ok(delta)
    }
}
