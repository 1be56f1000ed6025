//! All timers of a node: one slot per group and kind, and one of its own.

use std::collections::{BTreeMap, BTreeSet};

use keypact_coordination::raft;

/// Whose timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TimerKey {
    /// A replica's, by its place in the node.
    Replica(usize, raft::Timer),
    /// The node's own look at what waits too long.
    Sweep,
    /// The node's own look at other nodes' streams.
    SweepRemotes,
    /// A key's deadline.
    Expiry,
    /// There is memory to be freed.
    Free,
    /// Keys are being listed.
    List,
    /// The look at who belongs to the cluster.
    Members,
}

/// Timers that are set. Setting one replaces its earlier setting. O(log n) each.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at_ns: BTreeMap<TimerKey, u64>,
    order: BTreeSet<(u64, TimerKey)>,
    /// The wake-up that the driver was asked for.
    asked_ns: Option<u64>,
}

impl Timers {
    pub(crate) fn set(&mut self, key: TimerKey, at_ns: u64) {
        if let Some(earlier_ns) = self.at_ns.insert(key, at_ns) {
            self.order.remove(&(earlier_ns, key));
        }
        self.order.insert((at_ns, key));
        assert!(self.order.len() == self.at_ns.len(), "each timer has one place");
    }

    pub(crate) fn is_set(&self, key: TimerKey) -> bool {
        self.at_ns.contains_key(&key)
    }

    pub(crate) fn cancel(&mut self, key: TimerKey) {
        if let Some(at_ns) = self.at_ns.remove(&key) {
            self.order.remove(&(at_ns, key));
        }
    }

    /// How many are set.
    pub(crate) fn len(&self) -> usize {
        self.at_ns.len()
    }

    /// Takes off the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<TimerKey> {
        let &(at_ns, key) = self.order.first()?;
        if at_ns > now_ns {
            return None;
        }
        self.order.pop_first();
        self.at_ns.remove(&key);
        Some(key)
    }

    /// A wake-up came, so the next wish must be spoken anew.
    pub(crate) fn woken(&mut self) {
        self.asked_ns = None;
    }

    /// The wake-up to ask for, if it differs from what was asked before.
    pub(crate) fn next_wish(&mut self) -> Option<u64> {
        let &(at_ns, _) = self.order.first()?;
        // A wake-up that comes too early does no harm, and most timers only ever move later: asking each time would cost more.
        if self.asked_ns.is_some_and(|asked_ns| asked_ns <= at_ns) {
            return None;
        }
        self.asked_ns = Some(at_ns);
        Some(at_ns)
    }
}
