//! An operator beside each simulated node, who acts where that node leads: lets nodes in that ask, removes some, hands leadership over.

use keypact_coordination::raft::Role;
use keypact_node::{CATALOG, GROUPS, Node, Order, Outside};
use keypact_protocol::{Context, NodeId};
use keypact_simulator::{Counters, MILLISECOND_NS, Random};

use crate::node_process::NodeSetup;

/// Fewer voters than this nobody leaves behind.
const VOTERS_MIN: usize = 3;

/// One node's operator.
#[derive(Debug)]
pub(crate) struct Operator {
    gap_ns: u64,
    next_ns: u64,
    random: Random,
    begun: u64,
    refused: u64,
    added: u64,
    removed: u64,
}

impl Operator {
    pub(crate) fn new(setup: &NodeSetup, seed: u64, now_ns: u64) -> Operator {
        let gap_ns = setup.operator_ms * MILLISECOND_NS;
        Operator {
            gap_ns,
            next_ns: now_ns + gap_ns,
            random: Random::new(seed ^ 0x6f70_6572),
            begun: 0,
            refused: 0,
            added: 0,
            removed: 0,
        }
    }

    /// Acts if it is time.
    pub(crate) fn act(&mut self, node: &mut Node, context: Context, out: &mut impl Outside) {
        if self.gap_ns == 0 || context.now_ns < self.next_ns {
            return;
        }
        self.next_ns = context.now_ns + self.gap_ns / 2 + self.random.below(self.gap_ns);
        let Some(order) = self.wish(node) else { return };
        match node.operate(&order, context, out) {
            Ok(()) => {
                self.begun += 1;
                self.added += u64::from(matches!(order, Order::Add(_)));
                self.removed += u64::from(matches!(order, Order::Remove(_)));
            }
            Err(_) => self.refused += 1,
        }
    }

    fn wish(&mut self, node: &Node) -> Option<Order> {
        let leads = |group| node.raft(group).is_some_and(|raft| raft.role() == Role::Leader);
        let group = self.random.pick(&GROUPS);
        if leads(group) && self.random.chance(150_000) {
            let to = NodeId(self.random.between(1, 5));
            return Some(Order::Transfer { group, to });
        }
        if !leads(CATALOG) {
            return None;
        }
        if !node.asking().is_empty() && self.random.chance(500_000) {
            let member = &node.asking()[self.random.index(node.asking().len())];
            return Some(Order::Add(member.clone()));
        }
        let nodes = node.catalog().nodes();
        if nodes.is_empty() {
            return None;
        }
        if nodes.len() > VOTERS_MIN && self.random.chance(200_000) {
            return Some(Order::Remove(nodes[self.random.index(nodes.len())].node_id()));
        }
        // Refused, whoever asks.
        self.random.chance(20_000).then(|| Order::Add(nodes[0].clone()))
    }

    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.add("order-begun", self.begun);
        counters.add("order-refused", self.refused);
        counters.add("node-added", self.added);
        counters.add("node-removed", self.removed);
    }
}
