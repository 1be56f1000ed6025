//! Cluster-wide checks: what must be true of all replicas of a group together.
//!
//! A simulator keeps one [`GossipInvariants`] a group, and gives it each replica right after a batch that the replica handled. The checks
//! remember what replicas showed, so they hold across crashes.

mod equal_versions;
mod granted_identities;
mod versions_grow;

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use keypact_protocol::NodeId;

use super::Gossip;
use super::change::Replicated;
use equal_versions::EqualVersions;
use granted_identities::GrantedIdentities;
use versions_grow::VersionsGrow;

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// Who and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

impl core::error::Error for Violation {}

/// All checks of one group.
#[derive(Debug, Default)]
pub struct GossipInvariants {
    /// The last index and view that each showed.
    seen: BTreeMap<NodeId, (u64, u64, bool)>,
    granted: GrantedIdentities,
    grow: VersionsGrow,
    equal: EqualVersions,
}

impl GossipInvariants {
    /// The replica begins a new life, after `durable` was all that its disk had of it. Call it before the first
    /// [`GossipInvariants::check`] of that life.
    pub fn restarted(&mut self, node: NodeId) {
        self.seen.remove(&node);
        self.grow.restarted(node);
    }

    /// Looks at a replica that just handled a batch; `settled`: all that it wrote is durable. O(state) if anything changed.
    ///
    /// # Errors
    /// [`Violation`] names the first property found broken.
    pub fn check<L: Replicated>(
        &mut self,
        node: NodeId,
        replica: &Gossip<L>,
        settled: bool,
    ) -> Result<(), Violation> {
        let now = (replica.index(), replica.view().number, settled);
        if self.seen.get(&node) == Some(&now) {
            return Ok(());
        }
        self.seen.insert(node, now);
        self.granted.check(node, replica)?;
        self.grow.check(node, replica, settled)?;
        // What is not durable may be lost, and its events' names given to others.
        if settled { self.equal.check(node, replica) } else { Ok(()) }
    }
}
