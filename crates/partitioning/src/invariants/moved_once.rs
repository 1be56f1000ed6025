//! A plan changes the owner of a position at most once.

use alloc::format;
use alloc::vec::Vec;

use keypact_protocol::NodeId;

use crate::invariants::InvariantViolation;
use crate::map::Map;
use crate::slice::Position;

/// Watches a catalog's map through its versions.
#[derive(Clone, Debug)]
pub struct MovedOnce<B> {
    probes: Vec<B>,
    plan: u64,
    version: u64,
    owners: Vec<NodeId>,
    changes: Vec<u32>,
}

impl<B: Position> MovedOnce<B> {
    /// Watches these positions, from this map on.
    #[must_use]
    pub fn new(probes: Vec<B>, map: &Map<B>) -> MovedOnce<B> {
        let owners: Vec<NodeId> = probes.iter().map(|probe| map.find(probe).owner()).collect();
        let changes = alloc::vec![0; probes.len()];
        MovedOnce { probes, plan: 0, version: map.version(), owners, changes }
    }

    /// The map as it is while this plan is carried out.
    ///
    /// # Errors
    /// `moved-once`: a position has its third owner within one plan. `versions-rise`: the map went back.
    pub fn check(&mut self, plan: u64, map: &Map<B>) -> Result<(), InvariantViolation> {
        if map.version() < self.version {
            let detail = format!("version {} after {}", map.version(), self.version);
            return Err(InvariantViolation { property: "versions-rise", detail });
        }
        if map.version() == self.version && plan == self.plan {
            return Ok(());
        }
        self.version = map.version();
        if plan != self.plan {
            self.plan = plan;
            self.changes.fill(0);
        }
        for (at, probe) in self.probes.iter().enumerate() {
            let owner = map.find(probe).owner();
            if owner != self.owners[at] {
                self.owners[at] = owner;
                self.changes[at] += 1;
            }
            if self.changes[at] > 1 {
                let detail = format!("plan {plan} moves {probe:?} twice, now to {owner}");
                return Err(InvariantViolation { property: "moved-once", detail });
            }
        }
        Ok(())
    }
}
