//! Keys, values, commands: the deterministic state machine of a partition.
//!
//! ```text
//! Arguments -> Command::parse -> keys() for routing, encode() for the log and the wire
//! entry     -> Command::decode -> Partition::apply(index, stamp, seed) -> reply
//! read      -> Partition::read(time) -> reply
//! ```
//! [`Partition`] is the state: a pure function of the entries applied to it, so that replicas that applied the same
//! entries are equal, down to what has expired. Time comes in as the entries' stamps, chance as their seeds.
//! [`table`] is the one list of commands, for parsing, routing, dispatch and the `COMMAND` family ([`describe`]).
//!
//! Invariant: nothing here reads a clock, draws a random number of its own, or depends on the order in which a hash
//! table happens to keep things.

mod command;
pub mod describe;
mod expire;
mod extended;
mod generic;
pub mod glob;
mod integer;
mod numbers;
mod partition;
mod scan;
mod store;
mod strings;
pub mod table;

pub use command::{Command, DecodeError};
pub use partition::{Limits, Partition, is_listing};
pub use scan::CURSOR_BITS;
pub use store::listing::ListingId;
pub use store::load::{LoadError, Loader};
pub use store::snapshot::{MAX_CHUNK_BYTES, SnapshotMeta};
pub use table::{CommandId, Flags, Group, Place, Spec};
