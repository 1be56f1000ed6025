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
    /// Proposals refused because the tail is full.
    pub refused_overload: u64,
    /// Linearizable reads answered.
    pub lease_reads: u64,
    /// Places at which a follower's log did not continue the leader's.
    pub conflicts: u64,
    /// Entries cut off here because the leader does not have them.
    pub truncated_entries: u64,
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
        self.leading.as_ref().is_some_and(|leader| leader.epoch_start().is_some())
    }

    /// Until when it serves, by its own clock; 0 if it does not lead or never had a lease.
    #[must_use]
    pub fn lease_until_ns(&self) -> u64 {
        self.leading.as_ref().map_or(0, |leader| leader.lease_until_ns())
    }

    /// Whether it has applied what the leader does not have, and serves nothing.
    #[must_use]
    pub fn is_diverged(&self) -> bool {
        self.diverged
    }

    /// The highest index known to be visible.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        self.commit
    }

    /// The highest index given to the parent.
    #[must_use]
    pub fn delivered_index(&self) -> u64 {
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
        (self.disk.hard <= self.disk.durable).then_some(self.hard)
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
