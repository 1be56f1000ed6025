//! The tail: commits, and says so when a syncing member can take its place.

use keypact_protocol::{Plant, Sink, planted};

use super::{Body, CATALOG, Chain, MemberState};

impl Chain {
    /// Commits what is durable on every serving member, and on the syncing one if that is waited for.
    pub(super) fn advance_commit(&mut self, out: &mut impl Sink<Self>) {
        if !self.is_tail() {
            return;
        }
        let mut index = self.watermark();
        if planted(Plant::ChainTailAcknowledgesEarly) {
            let upstream = if self.predecessor.is_some() { self.upstream_durable } else { u64::MAX };
            index = upstream.min(self.agreed);
        }
        let settled = self.settled_commit();
        if let Some(syncing) = &mut self.successor {
            assert!(syncing.state == MemberState::Syncing, "behind the tail nobody serves");
            // From here to the end of the epoch: the catalog may make it the tail at any moment, and then it must have all.
            let near = syncing.durable + self.config.sync_lag_entries >= settled;
            if !syncing.counted && syncing.was_heard() && near {
                syncing.counted = true;
                self.counters.counted += 1;
                self.counters.counted_under_way += u64::from(self.commit < self.tail.last().index);
            }
            if syncing.counted {
                index = index.min(syncing.durable);
            }
        }
        self.commit_to(index, out);
        self.report_synced(out);
    }

    /// The syncing member, if it has everything that was committed, and nothing is committed without it.
    fn synced(&self) -> Option<Body> {
        let syncing = self.successor.as_ref().filter(|syncing| self.is_tail() && syncing.counted)?;
        // Not this member's commit index alone: the tail of the epoch before may have been ahead of it (seed 142 of scenario `chain`: the new
        // tail, which knew of no commit yet, reported a member with an empty log).
        assert!(syncing.state == MemberState::Syncing, "only who syncs is counted");
        let whole = syncing.durable >= self.settled_commit() && syncing.outgoing.is_none();
        whole.then_some(Body::Synced { node: syncing.id, life: syncing.life })
    }

    pub(super) fn report_synced(&mut self, out: &mut impl Sink<Self>) {
        if let Some(body) = self.synced() {
            assert!(self.epoch > 0, "who is in a row is in an epoch");
            self.counters.synced_reports += 1;
            // Early: it speaks of the other's disk; and should this member crash, what it committed is on that disk all the same.
            out.send_early(CATALOG, self.message(body));
        }
    }
}
