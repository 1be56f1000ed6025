//! Who watches all nodes at once.

use std::collections::BTreeMap;

use keypact_partitioning::invariants::{DistinctHosts, InvariantViolation, MovedOnce, OneOwner};
use keypact_partitioning::{Map, Position};
use keypact_protocol::NodeId;
use keypact_simulator::{Counters, Observer, Violation};

use super::Scheme;
use super::disk::PlainDisk;
use super::message::{Key, Record};
use super::process::Shard;

/// What should be reached over many seeds, in all three scenarios.
pub(crate) const SOMETIMES: [&str; 13] = [
    "slice-given",
    "slice-taken",
    "content-came-again",
    "slice-activated",
    "slice-released",
    "request-refused",
    "plan-begun",
    "plan-resumed",
    "step-switched",
    "stale-word-refused",
    "plan-cancelled",
    "throttle-waited",
    "owner-changed-twice",
];

/// The invariants of maps, plans and fences.
#[derive(Debug)]
pub(crate) struct PartitionWatch<S: Scheme> {
    scheme: S,
    catalog_at: NodeId,
    one_owner: OneOwner<S::At>,
    moved_once: MovedOnce<S::At>,
    distinct_hosts: DistinctHosts,
    /// By node: which of its changes were looked at.
    seen: BTreeMap<NodeId, u64>,
    version: u64,
    round: u64,
    /// The map when the round began.
    before: Map<S::At>,
    round_checked: bool,
}

fn violated(violation: InvariantViolation) -> Violation {
    Violation { property: violation.property, detail: violation.detail }
}

impl<S: Scheme> PartitionWatch<S> {
    pub(crate) fn new(scheme: &S, keys: &[Key], catalog_at: NodeId) -> PartitionWatch<S> {
        let map = scheme.first_map();
        let mut probes: Vec<S::At> = keys.iter().map(|key| scheme.position(key)).collect();
        probes.push(S::At::first());
        probes.sort_unstable();
        probes.dedup();
        let mut one_owner = OneOwner::new(probes.clone());
        for part in map.parts() {
            one_owner.watch(part.slice.low().clone());
        }
        PartitionWatch {
            catalog_at,
            one_owner,
            moved_once: MovedOnce::new(probes, &map),
            distinct_hosts: DistinctHosts::new(scheme.members().to_vec()),
            seen: BTreeMap::new(),
            version: map.version(),
            round: 0,
            before: map,
            round_checked: true,
            scheme: scheme.clone(),
        }
    }

    fn look(&mut self, node: NodeId, process: &Shard<S>) -> Result<(), Violation> {
        let owner = process.owner();
        if self.seen.insert(node, owner.changes) != Some(owner.changes) {
            self.one_owner.check(node, &owner.holdings).map_err(violated)?;
        }
        let Some(catalog) = process.catalog() else { return Ok(()) };
        let plan = catalog.executor.plan_id();
        // What the catalog has told itself is on its disk, and is what it tells others.
        let map = process.map();
        if plan != self.round {
            // Splits and merges of this round are in it already; they change no owner.
            (self.round, self.before, self.round_checked) = (plan, map.clone(), false);
        }
        if map.version() != self.version {
            self.version = map.version();
            self.distinct_hosts.check(map).map_err(violated)?;
            for part in map.parts() {
                self.one_owner.watch(part.slice.low().clone());
            }
        }
        self.moved_once.check(plan, map).map_err(violated)?;
        if !self.round_checked && catalog.is_round_over(plan) {
            self.round_checked = true;
            self.scheme
                .check(plan, &self.before, catalog.map())
                .map_err(|detail| Violation::new("plan-leads-where-it-should", detail))?;
        }
        Ok(())
    }
}

impl<S: Scheme> Observer<Shard<S>> for PartitionWatch<S> {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Shard<S>,
        _disk: &PlainDisk<Record<S::At>>,
    ) -> Result<(), Violation> {
        self.seen.remove(&node);
        self.look(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Shard<S>,
        _disk: &PlainDisk<Record<S::At>>,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }

    fn crashed(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        _disk: &PlainDisk<Record<S::At>>,
    ) -> Result<(), Violation> {
        self.one_owner.stopped(node);
        if node == self.catalog_at {
            // What it had not written down, it did not say; it begins again from what it had.
            self.round_checked = true;
        }
        Ok(())
    }

    fn count(&self, counters: &mut Counters) {
        counters.add("owner-changed-twice", u64::from(self.one_owner.owners_most() > 2));
    }
}
