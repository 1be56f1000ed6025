//! One group's replica on this node: its protocol, its gate, and the state that its commands make.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_coordination::raft::{Raft, Role};
use keypact_data::{Command, Loader, Partition, Place};
use keypact_protocol::{Delivery, Gate, GroupId, Lsn, RequestId};
use keypact_resp::Value;

use crate::catalog::{Catalog, CatalogCommand};

/// What a replica's commands make.
pub(crate) enum Machine {
    Catalog(Catalog),
    Data(Box<Partition>),
}

/// A peer's snapshot as it comes in.
pub(crate) enum Incoming {
    Catalog(Option<Catalog>),
    Loading(Box<Loader>),
    Loaded(Box<Partition>),
}

/// A snapshot that is being received.
pub(crate) struct Install {
    pub(crate) meta: Bytes,
    pub(crate) incoming: Incoming,
    pub(crate) next_chunk: u32,
    /// The chunk that is being written.
    pub(crate) writing: Option<u32>,
    /// The last chunk, once it came.
    pub(crate) last_chunk: Option<u32>,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub(crate) struct CheckpointUnderWay {
    pub(crate) meta: Bytes,
    /// The catalog's one chunk, until it is taken.
    pub(crate) chunk: Option<Bytes>,
    pub(crate) finished: bool,
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) group: GroupId,
    pub(crate) raft: Raft,
    pub(crate) gate: Gate<Raft>,
    pub(crate) machine: Machine,
    /// Whether an input was handled since the last flush.
    pub(crate) touched: bool,
    /// The oldest record that it needs.
    pub(crate) needs_from: Lsn,
    pub(crate) checkpoint: Option<CheckpointUnderWay>,
    pub(crate) install: Option<Install>,
    /// Answers still to come about first chunks of installs that were given up for another.
    pub(crate) stale_first_chunks: u32,
    /// Reads that wait until this index is applied.
    pub(crate) reads_at: BTreeMap<u64, Vec<RequestId>>,
}

/// What happened, counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counters {
    /// Writes applied.
    pub writes_applied: u64,
    /// Reads answered.
    pub reads_answered: u64,
    /// Commands forwarded to another node.
    pub forwarded: u64,
    /// Forwarded commands taken from other nodes.
    pub forwards_taken: u64,
    /// Forwarded commands refused for another node to take.
    pub redirects: u64,
    /// Commands answered "uncertain".
    pub uncertain: u64,
    /// Commands refused because no leader was found in time.
    pub no_quorum: u64,
    /// Commands refused because too much was under way.
    pub overloaded: u64,
    /// Empty entries proposed so that a read sees a deadline pass.
    pub ticks: u64,
    /// Empty entries proposed so that expired keys leave the memory.
    pub idle_ticks: u64,
    /// Times `KEYS` was answered in slices.
    pub listings: u64,
    /// Reads that waited for a write of their own connection.
    pub reads_after_own_write: u64,
    /// Writes that waited for a read of their own connection.
    pub writes_after_own_read: u64,
    /// Checkpoints begun.
    pub checkpoints: u64,
    /// Snapshots of peers installed.
    pub snapshots_installed: u64,
    /// Steps of a group's members towards what the catalog says, begun by this node as its leader.
    pub member_steps: u64,
    /// Times that this node asked to belong to the cluster.
    pub asked_to_join: u64,
    /// Nodes let in again under a later life of their folder.
    pub readmitted: u64,
}

impl Replica {
    /// Applies one delivery. `None` for entries that carry no command of a client.
    pub(crate) fn apply(&mut self, delivery: &Delivery) -> Option<Value> {
        let Delivery { index, stamp_ms, seed, ref command, .. } = *delivery;
        match &mut self.machine {
            Machine::Catalog(catalog) => {
                // A command that can't be read is passed over alike by every replica.
                catalog.apply(index, CatalogCommand::decode(command).ok());
                None
            }
            Machine::Data(partition) if command.is_empty() => {
                partition.skip(index, stamp_ms);
                None
            }
            Machine::Data(partition) => match Command::decode(command.clone()) {
                Ok(command) if command.spec().place() == Place::Partition => {
                    Some(partition.apply(index, stamp_ms, seed, &command))
                }
                _ => {
                    // Written by a newer version than this one: every replica of this version passes over it alike.
                    partition.skip(index, stamp_ms);
                    Some(Value::error("ERR", "the command is not known to this version; nothing was applied"))
                }
            },
        }
    }

    /// Whether this node leads the group.
    pub(crate) fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Index of the last entry applied.
    pub(crate) fn applied_index(&self) -> u64 {
        match &self.machine {
            Machine::Catalog(catalog) => catalog.applied_index(),
            Machine::Data(partition) => partition.applied_index(),
        }
    }

    /// The data, in groups that hold data.
    pub(crate) fn partition(&self) -> &Partition {
        match &self.machine {
            Machine::Data(partition) => partition,
            Machine::Catalog(_) => unreachable!("clients' commands are routed to groups that hold data"),
        }
    }
}
