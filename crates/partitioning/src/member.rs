//! Nodes as a partitioner sees them.

use keypact_protocol::NodeId;

/// Where a node stands. A host is in one zone: two hosts of one number in different zones are different hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Domain {
    /// Site, room or rack: what fails together, beyond a machine.
    pub zone: u32,
    /// The machine.
    pub host: u32,
}

/// A node that may hold replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// Its share, relative to the others'; 0: it holds nothing, and is emptied.
    pub weight: u32,
    /// Where it stands.
    pub domain: Domain,
}

impl Member {
    /// A node of weight 1 on a host of its own, in the one zone.
    #[must_use]
    pub fn alone(node: NodeId) -> Member {
        let host = u32::try_from(node.0).unwrap_or(u32::MAX);
        Member { node, weight: 1, domain: Domain { zone: 0, host } }
    }

    /// The same with another weight.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Member {
        Member { weight, ..self }
    }

    /// The same, elsewhere.
    #[must_use]
    pub fn at(self, zone: u32, host: u32) -> Member {
        Member { domain: Domain { zone, host }, ..self }
    }
}
