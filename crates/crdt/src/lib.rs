//! Conflict-free replicated data types: replicas change them without asking anybody, and once all have heard of all changes, in any order and
//! any number of times, they are equal.
//!
//! | type | reading it | of concurrent changes |
//! |---|---|---|
//! | [`GCounter`] | the sum | all count |
//! | [`PnCounter`] | the sum | all count |
//! | [`LwwRegister`] | a value | the latest by a hybrid clock stays, the others are lost |
//! | [`MvRegister`] | all concurrent values | all stay |
//! | [`EnableWinsFlag`], [`DisableWinsFlag`] | up or down | as the name says |
//! | [`OrSet`] | elements | add wins over remove |
//! | [`OrMap`] | keys, with causal types under them | an update wins over the removal of its key |
//!
//! # How to use them
//!
//! A mutation changes the local state at once and returns a *delta*, to be sent to the other replicas, which apply it. Deltas may be
//! lost, doubled and reordered; [`Lattice`] says what a protocol that carries them may rely on.
//!
//! ```
//! use keypact_crdt::{Lattice, OrSet};
//! use keypact_ordering::clock::ReplicaId;
//!
//! let (here, there) = (ReplicaId(1), ReplicaId(2));
//! let mut ours: OrSet<String> = OrSet::default();
//! let mut theirs = ours.clone();
//!
//! let added = ours.add("milk".into(), here);
//! theirs.apply(added.clone());
//! // Concurrently, one side removes it and the other adds it again.
//! let removed = theirs.remove("milk", there);
//! let again = ours.add("milk".into(), here);
//! ours.apply(removed);
//! theirs.apply(again);
//! theirs.apply(added); // late and twice: no harm
//! assert!(ours.contains("milk") && ours == theirs);
//! ```
//!
//! # Who a replica is
//!
//! A [`ReplicaId`](keypact_ordering::clock::ReplicaId) must never name two different events by one number. A replica that has told others of
//! an event and then lost it must come back under another identity, or what it counts anew will be taken for what was counted before.
//! Persist a delta before it is sent.
//!
//! # Maps in maps
//!
//! What lies in an [`OrMap`] is a [`DotStore`](causal::DotStore): [`Tally`] (a counter), [`Latest`] (a last-writer-wins register),
//! [`DotFunction`](causal::DotFunction) (a multi-value register), [`EnableWins`], [`DisableWins`], and [`DotMap`](causal::DotMap), over
//! [`DotSet`](causal::DotSet) a set and over anything else a map again.
#![no_std]

extern crate alloc;

pub mod causal;
pub mod codec;
mod counter;
mod delegate;
mod flag;
mod lattice;
mod lww_register;
mod mv_register;
mod or_map;
#[cfg(test)]
mod tests;

pub use counter::{CounterFull, GCounter, PnCounter, Tally};
pub use flag::{DisableWins, DisableWinsFlag, EnableWins, EnableWinsFlag};
pub use lattice::{Delta, Lattice};
pub use lww_register::{Latest, LwwRegister};
pub use mv_register::MvRegister;
pub use or_map::{OrMap, OrSet};
