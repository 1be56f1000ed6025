//! The catalog: what exists. A small state machine behind a Raft group of its own.
//!
//! The first leader of its group writes down who the nodes are and that there is a keyspace `default`. After that nodes come and go
//! (`members.rs`). Keyspaces of one's own, epochs and moves will be further commands.

use bytes::Bytes;
use keypact_protocol::{DecodeError, Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use crate::Member;
use crate::roster::{NODES_MAX, Roster};

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
    /// A node belongs to the cluster from now on, under this life. Ignored if that life or a later one is there or over, or all seats are taken.
    Admit {
        /// The node.
        member: Member,
    },
    /// A node belongs to it no more, in this life and all before. Ignored if it is there under a later one, or alone.
    Dismiss {
        /// Its id.
        node: u64,
        /// The last of its lives that is over.
        incarnation: u64,
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
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    applied_index: u64,
    cluster: String,
    roster: Roster,
    keyspaces: Vec<Keyspace>,
}

/// A catalog in a checkpoint, as it was before nodes could go; after it those that are gone.
type Chunk = (u64, String, Vec<Member>, Vec<Keyspace>);

impl Catalog {
    /// Applies one entry; empty commands only count.
    pub fn apply(&mut self, index: u64, command: Option<CatalogCommand>) {
        assert!(index > self.applied_index, "each entry is applied once");
        self.applied_index = index;
        match command {
            // Two leaders in a row may both have proposed it.
            Some(CatalogCommand::Found { cluster, nodes, keyspaces }) if !self.is_founded() => {
                *self = Catalog { applied_index: index, cluster, roster: Roster::of(nodes), keyspaces };
            }
            Some(CatalogCommand::Admit { member }) => self.admit(&member),
            Some(CatalogCommand::Dismiss { node, incarnation }) => {
                self.dismiss(NodeId(node), Incarnation(incarnation));
            }
            Some(CatalogCommand::Found { .. }) | None => {}
        }
    }

    fn admit(&mut self, member: &Member) {
        let is_known = self.roster.node(member.node_id()).is_some();
        if self.is_founded() && (is_known || self.roster.nodes().len() < NODES_MAX) {
            self.roster.admit(member);
        }
        assert!(self.roster.nodes().len() <= NODES_MAX, "all nodes can vote");
    }

    fn dismiss(&mut self, node: NodeId, incarnation: Incarnation) {
        let known = self.roster.node(node).is_some_and(|member| member.incarnation <= incarnation.0);
        if known && self.roster.nodes().len() > 1 {
            self.roster.dismiss(node, incarnation);
        }
    }

    /// Whether the first entry was applied.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        !self.roster.nodes().is_empty()
    }

    /// Index of the last entry applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Who belongs to the cluster, and who does no more.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Member] {
        self.roster.nodes()
    }

    /// The keyspaces.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// The whole, as one chunk of a checkpoint.
    #[must_use]
    pub fn to_chunk(&self) -> Bytes {
        let base = (self.applied_index, &self.cluster, self.roster.nodes(), &self.keyspaces);
        let bytes = postcard::to_allocvec(&base).expect("a vector takes any length");
        Bytes::from(postcard::to_extend(self.roster.gone(), bytes).expect("a vector takes any length"))
    }

    /// Reads back what [`Catalog::to_chunk`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn from_chunk(bytes: &[u8]) -> Result<Catalog, DecodeError> {
        let error = |_| DecodeError::new("a catalog");
        let (base, rest) = postcard::take_from_bytes::<Chunk>(bytes).map_err(error)?;
        let (applied_index, cluster, nodes, keyspaces) = base;
        let gone: Vec<(u64, u64)> =
            if rest.is_empty() { Vec::new() } else { postcard::from_bytes(rest).map_err(error)? };
        let roster = Roster::restored(nodes, gone).ok_or(DecodeError::new("a catalog's nodes"))?;
        Ok(Catalog { applied_index, cluster, roster, keyspaces })
    }
}
