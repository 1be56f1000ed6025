//! The catalog: what exists. A small state machine behind a Raft group of its own.
//!
//! For now it is written once, by the first leader of its group, and says who the nodes are and that there is a keyspace `default`. Keyspaces of
//! one's own, epochs and moves will be further commands.

use bytes::Bytes;
use keypact_protocol::DecodeError;
use serde::{Deserialize, Serialize};

use crate::Member;

/// One keyspace and its policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// How it is replicated; `raft` for now.
    pub replication: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How it answers reads: `lease`, `read-index`, `stale`.
    pub reads: String,
}

/// What can be asked of the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CatalogCommand {
    /// The first entry: what the cluster is made of. Ignored if the catalog has been founded before.
    Found {
        /// The cluster's name for itself.
        cluster: String,
        /// Its nodes.
        nodes: Vec<Member>,
        /// Its keyspaces.
        keyspaces: Vec<Keyspace>,
    },
}

impl CatalogCommand {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a vector takes any length")
    }

    /// Reads back what [`CatalogCommand::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<CatalogCommand, DecodeError> {
        postcard::from_bytes(bytes).map_err(|_| DecodeError::new("a catalog command"))
    }
}

/// What exists.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    applied_index: u64,
    cluster: String,
    nodes: Vec<Member>,
    keyspaces: Vec<Keyspace>,
}

impl Catalog {
    /// Applies one entry; empty commands only count.
    pub fn apply(&mut self, index: u64, command: Option<CatalogCommand>) {
        assert!(index > self.applied_index, "each entry is applied once");
        self.applied_index = index;
        if let Some(CatalogCommand::Found { cluster, nodes, keyspaces }) = command {
            // Two leaders in a row may both have proposed it.
            if !self.is_founded() {
                *self = Catalog { applied_index: index, cluster, nodes, keyspaces };
            }
        }
    }

    /// Whether the first entry was applied.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Index of the last entry applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Member] {
        &self.nodes
    }

    /// The keyspaces.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// The whole, as one chunk of a checkpoint.
    #[must_use]
    pub fn to_chunk(&self) -> Bytes {
        Bytes::from(postcard::to_allocvec(self).expect("a vector takes any length"))
    }

    /// Reads back what [`Catalog::to_chunk`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn from_chunk(bytes: &[u8]) -> Result<Catalog, DecodeError> {
        postcard::from_bytes(bytes).map_err(|_| DecodeError::new("a catalog"))
    }
}
