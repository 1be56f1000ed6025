//! Clocks that order events without trusting anybody's watch.
//!
//! | clock | what it tells | size | source |
//! |---|---|---|---|
//! | [`LamportClock`] | a total order that agrees with "happened before"; nothing about concurrency | 8 bytes | Lamport 1978 |
//! | [`VectorClock`] | exactly "happened before" and "concurrent" | one counter per replica | Fidge 1988, Mattern 1989 |
//! | [`DotContext`] | exactly which events were seen, with gaps | one span per replica and gap | Preguiça et al. 2010, Almeida et al. 2014 |
//! | [`HybridClock`] | Lamport's order, close to physical time | 16 bytes | Kulkarni et al. 2014 |
//!
//! # Which one
//!
//! - Events of one replica arrive in order, and each message means "all before it": a [`VectorClock`].
//! - Events arrive in any order and single ones can be missing: a [`DotContext`]. One event is a [`Dot`].
//! - Someone must win, and it should be who came last by the watch: a [`HybridClock`].
//! - Someone must win, no matter who: a [`LamportClock`].
//!
//! # Who is counted
//!
//! A [`ReplicaId`] must never count the same number twice. A replica that lost what it counted (its disk, or the end of its log) has to
//! come back under another identity, for which [`ReplicaId::of_life`] joins a node with its incarnation. Otherwise two different
//! events bear one dot, and whoever has seen one of them takes the other for seen.
//!
//! # Bytes
//!
//! All of them implement [`Wire`](keypact_protocol::Wire); `take` reads one from the front of a longer message. Integers travel as
//! [`varint`]s. Decoders refuse what no encoder writes: unsorted or overlapping entries, zeros, trailing bytes, counts that can't fit. Of
//! events they refuse counters above [`COUNTER_MAX`], too; a [`VectorClock`] may count other things, so
//! [`VectorClock::take_of_events`] is told.

mod context;
mod dot;
mod hybrid;
mod lamport;
#[cfg(test)]
mod tests;
pub mod varint;
mod vector;

pub use context::{DotContext, Span};
pub use dot::{COUNTER_MAX, Dot, ReplicaId};
pub use hybrid::{DriftError, HybridClock, HybridStamp};
pub use lamport::{LamportClock, LamportStamp};
pub use vector::{Causality, VectorClock};

use bytes::Bytes;
use keypact_protocol::DecodeError;

/// Reads a whole value with `take`; refuses bytes behind it.
fn decode_whole<T>(
    mut bytes: Bytes,
    take: impl FnOnce(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let value = take(&mut bytes)?;
    if !bytes.is_empty() {
        return Err(DecodeError::new("nothing behind a clock"));
    }
    Ok(value)
}
