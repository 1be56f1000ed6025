//! Partitioners, placement and rebalancing plans.
//!
//! A partitioner turns a key into a [`Position`] in an ordered space: the key itself ([`range`]), a slot ([`hash`]), a point of a circle
//! ([`ring`]). A [`Map`] then says, for every [`Slice`] of that space, which nodes hold it; so all three share maps, plans and fences.
//!
//! ```text
//!   key ──▶ position ──▶ Map (version v) ──▶ replicas of one slice
//!             range: RangeKey    │
//!             hash:  Slot        │ Plan::between(map, wanted): the least that must move, as data
//!             ring:  Point       ▼
//!                              Executor: throttled, step by step, resumable from its records
//!                                │ each switch: map version + 1
//!                                ▼
//!                              Holdings of each node: serve, give, take; re-checked for every request
//! ```
//!
//! # What is guaranteed
//!
//! 1. A map covers its whole space, without gap or overlap: at each version a key has one set of replicas ([`Map::assert_invariants`]).
//! 2. A plan moves no position twice, and copies nothing to a node that has it.
//! 3. A node serves a slice only between having taken it and having begun to give it away ([`Holdings`]); both are written down first.
//! 4. Replicas of a slice stand on distinct hosts, and in distinct zones where there are enough.
//!
//! Nothing here has a clock, a file or randomness of its own: times and seeds are arguments.
//!
//! Features: `range`, `hash`, `ring`, `placement`, each usable alone.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod codec;
#[cfg(feature = "hash")]
pub mod hash;
mod holding;
pub mod invariants;
mod map;
mod member;
#[cfg(feature = "placement")]
pub mod placement;
#[cfg(feature = "range")]
pub mod range;
#[cfg(feature = "ring")]
pub mod ring;
mod slice;

pub use holding::{Holding, HoldingError, HoldingState, Holdings, MoveId};
pub use map::{Assigned, Map, MapError};
pub use member::{Domain, Member};
pub use slice::{Position, Slice};
