//! The contract between a pure protocol and whatever drives it.
#![no_std]

mod ids;
mod plant;

pub use ids::{GroupId, Incarnation, Lsn, NodeId, RequestId};
#[cfg(feature = "plant")]
pub use plant::switch_on;
pub use plant::{Plant, planted};
