//! Stores of dots: the parts that causal types are built of.
//!
//! P. Almeida, A. Shoker, C. Baquero, "Delta State Replicated Data Types", 2018, section 7.2 and figure 7: dot set, dot function, dot map.

use core::fmt::Debug;

use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::DecodeError;

use crate::codec::Reader;

/// What holds live dots, alone or with values. A dot that a context has and its store has not is removed: that is all there is of it.
pub trait DotStore: Clone + Default + PartialEq + Debug {
    /// Whether it holds no dot and no hint.
    fn is_bottom(&self) -> bool;

    /// Shows each live dot.
    fn for_each_dot(&self, visit: &mut dyn FnMut(Dot));

    /// Joins `other`. A dot stays that both hold, or that one holds and the other has not seen. Whether a live dot came or went.
    fn join(&mut self, other: Self, sides: &Sides<'_>) -> bool;

    /// Drops the dots that `seen` has; whether there were any. As a join with an empty store of that context.
    fn drop_seen(&mut self, seen: &DotContext, hints: bool) -> bool;

    /// Its keys without its dots: what a delta says of a store that it empties.
    fn emptied(&self) -> Self;

    /// The part whose dots `seen` has not.
    fn unseen(&self, seen: &DotContext) -> Self;

    /// Gives parts of at most `bytes_max` bytes where it can be cut; what can't be cut comes whole.
    fn split(self, bytes_max: usize, part: &mut dyn FnMut(Self));

    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads what [`DotStore::put`] wrote. `hints`: whether keys without dots are allowed, as in deltas.
    ///
    /// # Errors
    /// Bytes that [`DotStore::put`] does not write.
    fn take(input: &mut Reader, hints: bool) -> Result<Self, DecodeError>;

    /// Bytes that [`DotStore::put`] writes.
    fn encoded_len(&self) -> usize;
}

/// The two sides of a join.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What this side has seen.
    pub ours: &'a DotContext,
    /// What the other side has seen.
    pub theirs: &'a DotContext,
    /// Whether the other side speaks of all keys, also of those it does not list. A mutation's delta lists all keys that it touched.
    pub whole: bool,
    /// Whether keys without dots stay: in a delta they say where the removed dots were.
    pub hints: bool,
}
