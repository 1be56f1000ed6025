//! What a node does for its memory when nobody asks for anything: keys that have expired go, and what `FLUSHALL` threw away is freed.
//!
//! Keys go by entries of the log, on all replicas alike, so it is the leader that sees to it: an empty entry (a tick) when a deadline has
//! passed, as long as writes do not take them along. What was thrown away is no part of the state, and each replica frees it by itself.

use keypact_protocol::Context;

use crate::node::{DEFAULT_AT, Node};
use crate::outside::Outside;
use crate::pending::Pending;
use crate::replica::Machine;
use crate::timers::TimerKey;

/// A tick comes so long after the deadline that it is for, nanoseconds, and takes along what has expired meanwhile.
const TICK_AFTER_NS: u64 = 1_000_000_000;
/// While more have expired than one tick removes: so long after the tick before.
const BACKLOG_GAP_NS: u64 = 10_000_000;
/// A deadline further away is looked at again after this, as wall clocks may be set.
const LOOK_AGAIN_MS: u64 = 60_000;
/// What was thrown away is freed in portions, at this distance, nanoseconds.
const FREE_GAP_NS: u64 = 1_000_000;
/// Entries of one portion; about half a millisecond.
const FREE_ENTRIES: usize = 4_096;

/// The leader's plan for the next deadline.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// The deadline for which the timer is set.
    for_deadline_ms: u64,
    /// The tick that is under way.
    tick: Option<keypact_protocol::RequestId>,
}

impl Node {
    /// Sets what timers the state asks for: none if no key has a deadline and nothing was thrown away. O(log n).
    pub(crate) fn arm_idle(&mut self, context: Context) {
        let replica = &self.replicas[DEFAULT_AT];
        let partition = replica.partition();
        if partition.has_discarded() && !self.timers.is_set(TimerKey::Free) {
            self.timers.set(TimerKey::Free, context.now_ns + FREE_GAP_NS);
        }
        let Some(deadline_ms) = partition.next_deadline_ms().filter(|_| replica.leads()) else { return };
        if self.timers.is_set(TimerKey::Expiry) && deadline_ms >= self.expiry.for_deadline_ms {
            return;
        }
        let is_backlog = deadline_ms <= partition.applied_stamp_ms();
        let wait_ms = deadline_ms.saturating_sub(context.wall_ms).min(LOOK_AGAIN_MS);
        let after_ns = if is_backlog { BACKLOG_GAP_NS } else { wait_ms * 1_000_000 + TICK_AFTER_NS };
        self.expiry.for_deadline_ms = deadline_ms;
        self.timers.set(TimerKey::Expiry, context.now_ns + after_ns);
    }

    /// A deadline may have passed: if so, and if this node leads, time moves on by an entry.
    pub(crate) fn expire_idle(&mut self, context: Context, out: &mut impl Outside) {
        let replica = &self.replicas[DEFAULT_AT];
        if !replica.leads() || !replica.partition().has_deadline_at_or_before(context.wall_ms) {
            return;
        }
        // A leader without a majority would fill its log with them.
        if self.expiry.tick.is_some_and(|id| self.pending.at(id).is_some()) {
            return;
        }
        self.counters.idle_ticks += 1;
        let command = self.arena.draft(0, |_| ());
        let id = self.propose(DEFAULT_AT, Pending::Expiry, command, context, out);
        self.expiry.tick = Some(id);
    }

    /// Frees a portion of what was thrown away.
    pub(crate) fn free_idle(&mut self) {
        if let Machine::Data(partition) = &mut self.replicas[DEFAULT_AT].machine {
            partition.reclaim(FREE_ENTRIES);
        }
    }
}
