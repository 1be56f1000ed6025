//! Log entries, and the in-memory tail that log-based protocols share.
//!
//! An [`Entry`] is encoded once, by the node that accepts it: the write-ahead log, the wire and memory share those bytes and their one
//! checksum. A [`Tail`] holds a group's entries since its last checkpoint, bounded in bytes; nothing reads the write-ahead log at run time. A peer whose
//! next entry is gone gets a snapshot ([`Outgoing`]).
#![no_std]

extern crate alloc;

mod entry;
mod snapshot;
mod tail;

pub use entry::{Entry, EntryHeader, Kind};
pub use snapshot::{CheckpointMeta, ChunkRead, Outgoing};
pub use tail::{Position, Slot, Tail, TailFull};
