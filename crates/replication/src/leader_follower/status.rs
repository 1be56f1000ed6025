//! What others may see of a member: the node for its status, the simulator for its checks.

use keypact_log::{Position, Tail};
use keypact_protocol::NodeId;

use super::{Config, HardState, LeaderFollower};

/// What happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Epochs that this member began to lead.
    pub leaderships: u64,
    /// Leaderships that ended because of a newer epoch.
    pub stepped_down: u64,
    /// Messages of an older epoch that were passed over.
    pub refused_stale: u64,
    /// Messages from nodes that are no members.
    pub refused_strangers: u64,
    /// Messages that can't be true.
    pub refused_contradictions: u64,
    /// Assignments of an epoch that this member led in an earlier life.
    pub refused_to_lead_again: u64,
    /// Requests refused because the lease had ended.
    pub refused_past_lease: u64,
    /// Proposals refused because the catalog has not yet allowed so many entries.
    pub refused_past_allowance: u64,
    /// Proposals refused because the tail is full.
    pub refused_overload: u64,
    /// Linearizable reads answered.
    pub lease_reads: u64,
    /// Reads answered that named a write which they must see.
    pub session_reads: u64,
    /// Such reads refused because that write is not yet applied here.
    pub session_reads_behind: u64,
    /// Such reads refused because that write was lost.
    pub session_reads_lost: u64,
    /// Stale reads refused because this member has applied what is lost.
    pub refused_diverged: u64,
    /// Times that a tail was reported to the catalog before it was given up.
    pub tails_reported: u64,
    /// Assignments that could not be taken on, because what is lost was applied here.
    pub refused_to_lead_diverged: u64,
    /// Followers that had fallen behind the leader's checkpoint.
    pub left_behind: u64,
    /// Places at which a follower's log did not continue the leader's.
    pub conflicts: u64,
    /// Entries cut off here because the leader does not have them.
    pub truncated_entries: u64,
    /// Times that a leader showed what only members that have diverged had shown before.
    pub shown_again: u64,
    /// Times that this member had applied what the leader does not have.
    pub diverged: u64,
    /// Entries that had been applied here and were taken back by a snapshot.
    pub taken_back: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
    /// Snapshots begun for a follower.
    pub snapshots_begun: u64,
    /// Snapshot chunks sent.
    pub snapshot_chunks_sent: u64,
    /// Snapshots that a follower installed.
    pub snapshots_sent: u64,
    /// Snapshots installed here.
    pub snapshots_installed: u64,
}

impl LeaderFollower {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The newest epoch that it knows.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.hard.epoch
    }

    /// The leader of that epoch, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Whether it leads: it was appointed, and that is durable.
    #[must_use]
    pub fn leads(&self) -> bool {
        assert!(self.leading.is_none() || self.hard.led, "a leader has written that it leads");
        self.leading.as_ref().is_some_and(|leader| leader.epoch_start().is_some())
    }

    /// Until when it serves, by its own clock; 0 if it does not lead or never had a lease.
    #[must_use]
    pub fn lease_until_ns(&self) -> u64 {
        self.leading.as_ref().map_or(0, |leader| leader.lease_until_ns())
    }

    /// How old its state may be: it has applied all that was acknowledged so long ago. 0 for a leader within its lease; `None` while nothing
    /// is known, before a leader of the epoch was heard. Nanoseconds of its own clock; another's may run faster by the drift bound.
    #[must_use]
    pub fn staleness_ns(&self, now_ns: u64) -> Option<u64> {
        if self.diverged || self.is_installing() {
            return None;
        }
        match &self.leading {
            Some(leader) if now_ns < leader.lease_until_ns() => {
                let start = leader.epoch_start().expect("a lease is granted to who began to lead");
                (self.delivered >= start).then_some(0)
            }
            Some(_) => None,
            None => (self.fresh_ns > 0).then(|| now_ns.saturating_sub(self.fresh_ns)),
        }
    }

    /// A follower has applied all that was acknowledged before this time, by its own clock.
    #[must_use]
    pub fn fresh_as_of_ns(&self) -> Option<u64> {
        (self.fresh_ns > 0).then_some(self.fresh_ns)
    }

    /// What names a delivered write: (epoch, index), for [`ReadLevel::Session`]. The entry's epoch, which may be an earlier one than the member's:
    /// one batch can bring a delivery and a new epoch. `None` if it is in the checkpoint, and older than that remembers.
    ///
    /// [`ReadLevel::Session`]: keypact_protocol::ReadLevel::Session
    #[must_use]
    pub fn token(&self, index: u64) -> Option<(u64, u64)> {
        assert!(index <= self.delivered, "only what was delivered is named");
        self.epoch_at(index).map(|epoch| (epoch, index))
    }

    /// The index with which its leadership began, if it leads.
    #[must_use]
    pub fn epoch_start(&self) -> Option<u64> {
        self.leading.as_ref().and_then(|leader| leader.epoch_start())
    }

    /// Whether it has applied what the leader does not have, and serves nothing.
    #[must_use]
    pub fn is_diverged(&self) -> bool {
        self.diverged
    }

    /// The highest index known to be visible.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        assert!(self.commit <= self.tail.last().index, "what is visible is in the log");
        self.commit
    }

    /// The highest index given to the parent.
    #[must_use]
    pub fn delivered_index(&self) -> u64 {
        assert!(self.delivered <= self.commit, "only what is visible is delivered");
        self.delivered
    }

    /// The place of the last entry, durable or not.
    #[must_use]
    pub fn last(&self) -> Position {
        self.tail.last()
    }

    /// The log since the last checkpoint.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The epoch that would survive a crash now; `None` while it is on its way to the disk.
    #[must_use]
    pub fn durable_hard_state(&self) -> Option<HardState> {
        assert!(self.disk.hard <= self.disk.last_append, "it was written with all the rest");
        (self.disk.hard <= self.disk.durable).then_some(self.hard)
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
