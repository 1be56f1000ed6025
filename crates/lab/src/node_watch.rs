//! Invariants of whole nodes: Raft's of both groups, equal states, and what the log has confirmed is there after every start.

use std::collections::BTreeMap;

use keypact_coordination::raft::Membership;
use keypact_node::GROUPS;
use keypact_protocol::{Incarnation, NodeId};
use keypact_simulator::{Counters, Observer, Violation};

use crate::node_process::{NodeDisk, NodeProcess};
use crate::stamps::StampWatch;
use crate::watch::RaftWatch;

/// States are compared where the applied index is a multiple of this: a hash of the whole state is not cheap.
const COMPARED_EVERY: u64 = 8;

/// Whole nodes, watched.
#[derive(Debug)]
pub struct NodeWatch {
    groups: [RaftWatch; GROUPS.len()],
    stamps: StampWatch,
    /// The first state seen at each compared index.
    states: BTreeMap<u64, u64>,
    /// Index at which each node was last compared.
    compared: Vec<u64>,
    starts: u64,
    recovered: u64,
}

impl NodeWatch {
    /// Nodes `1..=nodes`, none of which has lived yet, whose clocks may be off by `drift_max_ppm` at most. The first `founders` form the
    /// cluster, others may join.
    #[must_use]
    pub fn new(nodes: usize, founders: usize, drift_max_ppm: u32) -> NodeWatch {
        assert!((1..=nodes).contains(&founders), "a cluster has nodes");
        let members: Vec<NodeId> = (1..=nodes as u64).map(NodeId).collect();
        let founding: Vec<_> = members[..founders].iter().map(|id| (*id, Incarnation(1))).collect();
        let founding = Membership::founding(&founding);
        NodeWatch {
            groups: GROUPS.map(|_| RaftWatch::of(&members, &founding)),
            // Two clocks part by twice what one is off.
            stamps: StampWatch::new(nodes, u64::from(drift_max_ppm) * 2 + 100),
            states: BTreeMap::new(),
            compared: vec![0; nodes],
            starts: 0,
            recovered: 0,
        }
    }

    fn compare_states(&mut self, node: NodeId, process: &NodeProcess) -> Result<(), Violation> {
        let partition = process.node().partition();
        let index = partition.applied_index();
        let compared = &mut self.compared[node.0 as usize - 1];
        if !index.is_multiple_of(COMPARED_EVERY) || index == *compared {
            return Ok(());
        }
        *compared = index;
        let state = partition.state_hash();
        let first = *self.states.entry(index).or_insert(state);
        if first != state {
            let detail = format!("{node} has another state than others had at index {index}");
            return Err(Violation::new("equal-states", detail));
        }
        Ok(())
    }
}

impl Observer<NodeProcess> for NodeWatch {
    fn started(
        &mut self,
        now_ns: u64,
        node: NodeId,
        process: &NodeProcess,
        disk: &NodeDisk,
    ) -> Result<(), Violation> {
        self.starts += 1;
        self.recovered += u64::from(disk.durable().0 > 0);
        if process.durable() < disk.durable() {
            let (has, had) = (process.durable(), disk.durable());
            let detail = format!("{node} serves with its log up to {has:?}, of which {had:?} was durable");
            return Err(Violation::new("acknowledged-is-durable", detail));
        }
        for (watch, group) in self.groups.iter_mut().zip(GROUPS) {
            watch.started(node, process.node().raft(group).expect("every node is in every group"))?;
        }
        self.stamps.stepped(now_ns, node, process.wall_ms(), process.node())
    }

    fn stepped(
        &mut self,
        now_ns: u64,
        node: NodeId,
        process: &NodeProcess,
        _disk: &NodeDisk,
    ) -> Result<(), Violation> {
        for (watch, group) in self.groups.iter_mut().zip(GROUPS) {
            watch.stepped(node, process.node().raft(group).expect("every node is in every group"))?;
        }
        self.stamps.stepped(now_ns, node, process.wall_ms(), process.node())?;
        self.compare_states(node, process)
    }

    fn ended(&mut self, _node: NodeId, process: &NodeProcess) {
        for (watch, group) in self.groups.iter_mut().zip(GROUPS) {
            watch.ended(process.node().raft(group).expect("every node is in every group"));
        }
    }

    fn count(&self, counters: &mut Counters) {
        for watch in &self.groups {
            watch.count(counters);
        }
        self.stamps.count(counters);
        counters.add("started", self.starts);
        counters.add("recovered-from-log", self.recovered);
        counters.add("states-compared", self.states.len() as u64);
    }
}
