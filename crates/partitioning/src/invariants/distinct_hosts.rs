//! Replicas of a slice stand on distinct hosts, and in as many zones as there are.

use alloc::format;
use alloc::vec::Vec;

use crate::invariants::InvariantViolation;
use crate::map::Map;
use crate::member::{Domain, Member};
use crate::slice::Position;

/// Knows where nodes stand.
#[derive(Clone, Debug)]
pub struct DistinctHosts {
    members: Vec<Member>,
}

impl DistinctHosts {
    /// Of these nodes.
    #[must_use]
    pub fn new(members: Vec<Member>) -> DistinctHosts {
        DistinctHosts { members }
    }

    /// All replica sets of this map.
    ///
    /// # Errors
    /// `distinct-hosts`: two replicas on one host.
    pub fn check<B: Position>(&self, map: &Map<B>) -> Result<(), InvariantViolation> {
        for part in map.parts() {
            let domains: Vec<Domain> = part
                .replicas
                .iter()
                .filter_map(|node| self.members.iter().find(|member| member.node == *node))
                .map(|member| member.domain)
                .collect();
            let twice = domains.iter().enumerate().any(|(at, domain)| domains[..at].contains(domain));
            if twice {
                let detail = format!("{:?} of {:?} stand on one host", part.replicas, part.slice);
                return Err(InvariantViolation { property: "distinct-hosts", detail });
            }
        }
        Ok(())
    }
}
