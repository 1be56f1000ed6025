//! Where each event is on a disk, and which events may be missing in the end.

use std::collections::BTreeMap;

use keypact_ordering::clock::{Dot, DotContext, ReplicaId};
use keypact_protocol::NodeId;

/// What one node's disk has.
#[derive(Clone, Debug, Default)]
struct Copy {
    losses: u64,
    replica: Option<ReplicaId>,
    version: DotContext,
}

/// All disks.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    disks: BTreeMap<NodeId, Copy>,
    /// What each node has ever had on a disk.
    ever: BTreeMap<NodeId, DotContext>,
    /// Every copy was lost, or dropped by who came back too late.
    lost: DotContext,
    /// Names that members dropped, by the view that ordered it.
    forgotten: BTreeMap<u64, DotContext>,
}

impl Copies {
    /// The node's disk was lost so often. If that is news, all that was on it is gone.
    pub(crate) fn losses(&mut self, node: NodeId, losses: u64) {
        let before = self.disks.entry(node).or_default().losses;
        if losses > before {
            self.drop_copy(node);
            self.disks.insert(node, Copy { losses, ..Copy::default() });
        }
    }

    /// The node counts under this identity. Under a new one it has begun with nothing.
    pub(crate) fn replica(&mut self, node: NodeId, replica: Option<ReplicaId>) {
        let before = self.disks.entry(node).or_default().replica;
        if let Some(replica) = replica
            && before != Some(replica)
        {
            self.drop_copy(node);
            let copy = self.disks.entry(node).or_default();
            (copy.replica, copy.version) = (Some(replica), DotContext::new());
        }
    }

    fn drop_copy(&mut self, node: NodeId) {
        let gone = self.disks.get(&node).map(|copy| copy.version.clone()).unwrap_or_default();
        let others = self.disks.iter().filter(|(other, _)| **other != node);
        let left = others.fold(DotContext::new(), |left, (_, copy)| left.union(&copy.version));
        self.lost.merge(&gone.difference(&left));
    }

    /// All of this is on the node's disk.
    pub(crate) fn durable(&mut self, node: NodeId, version: &DotContext) {
        self.disks.entry(node).or_default().version.merge(version);
        self.ever.entry(node).or_default().merge(version);
    }

    /// The node acknowledges an event that it made. One sync may bring that to its disk and, behind it, the identity that begins with nothing:
    /// then the event is gone again by the time it is acknowledged (seed 125799706).
    pub(crate) fn acknowledged(&mut self, node: NodeId, dot: Dot) {
        let event: DotContext = [dot].into_iter().collect();
        if self.disks.get(&node).is_none_or(|copy| copy.replica == Some(dot.replica)) {
            return self.durable(node, &event);
        }
        self.ever.entry(node).or_default().merge(&event);
        if !self.disks.values().any(|copy| copy.version.contains(dot)) {
            self.lost.merge(&event);
        }
    }

    /// The node says that all of this is on its disk; `present`: it is still who it was.
    pub(crate) fn said(&mut self, node: NodeId, version: &DotContext, present: bool) {
        self.ever.entry(node).or_default().merge(version);
        if present {
            self.durable(node, version);
        }
    }

    /// A member dropped these names, as this view orders.
    pub(crate) fn forgotten(&mut self, view: u64, names: &DotContext) {
        self.forgotten.entry(view).or_default().merge(names);
    }

    /// What a member of this view has dropped.
    pub(crate) fn forgotten_by(&self, view: u64) -> DotContext {
        self.forgotten.range(..=view).fold(DotContext::new(), |all, (_, names)| all.union(names))
    }

    /// On how many nodes' disks an event has been.
    pub(crate) fn count(&self, dot: Dot) -> usize {
        self.ever.values().filter(|version| version.contains(dot)).count()
    }

    /// What this node made under an identity and has on its disk, and no other ever had.
    pub(crate) fn only_at(&self, node: NodeId, replica: ReplicaId) -> DotContext {
        let own = self.disks.get(&node).map(|copy| copy.version.clone()).unwrap_or_default();
        let own: DotContext = own.spans().filter(|span| span.replica == replica).collect();
        let others = self.ever.iter().filter(|(other, _)| **other != node);
        own.difference(&others.fold(DotContext::new(), |all, (_, ever)| all.union(ever)))
    }

    /// Whether every copy of an event was lost.
    pub(crate) fn is_lost(&self, dot: Dot) -> bool {
        self.lost.contains(dot)
    }

    /// How many events' names were dropped.
    pub(crate) fn forgotten_count(&self) -> u64 {
        self.forgotten.values().map(DotContext::dot_count).sum()
    }

    /// Whether an event may be missing in a state of this version.
    pub(crate) fn may_lack(&self, dot: Dot) -> bool {
        self.lost.contains(dot) || self.forgotten.values().any(|names| names.contains(dot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_behind_a_new_identity_is_of_a_lost_event_unless_another_has_it() {
        let node = NodeId(2);
        let [old, new] = [0, 1].map(|life| ReplicaId(node.0 << 16 | life));
        let [alone, shared, later] = [Dot::new(old, 3), Dot::new(old, 4), Dot::new(new, 1)];
        let mut copies = Copies::default();
        copies.replica(node, Some(old));
        copies.replica(node, Some(new));
        copies.durable(NodeId(1), &[shared].into_iter().collect());
        [alone, shared, later].into_iter().for_each(|dot| copies.acknowledged(node, dot));
        assert!(copies.may_lack(alone));
        assert!(!copies.may_lack(shared) && !copies.may_lack(later));
        assert_eq!([alone, shared, later].map(|dot| copies.count(dot)), [1, 2, 1]);
    }
}
