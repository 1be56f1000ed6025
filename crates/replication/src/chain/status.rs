//! What others may see of a member: the node for its status, the simulator for its checks.

use keypact_log::{Position, Tail};

use super::{Chain, Config, Life, Member, MemberState};

/// What happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Epochs adopted.
    pub epochs: u64,
    /// Times that this member began to serve.
    pub promoted: u64,
    /// Times that it began to sync.
    pub syncs: u64,
    /// Times that, being the tail, it began to wait for a syncing member.
    pub counted: u64,
    /// Of these, with entries under way.
    pub counted_under_way: u64,
    /// Reports that a syncing member has everything.
    pub synced_reports: u64,
    /// Messages of an older epoch that were passed over.
    pub refused_stale: u64,
    /// Messages of an epoch that the catalog has not yet told this member of.
    pub refused_ahead: u64,
    /// Assignments that name an earlier life.
    pub refused_other_life: u64,
    /// Messages from nodes that are no members, or of another group.
    pub refused_strangers: u64,
    /// Messages that can't be true.
    pub refused_contradictions: u64,
    /// Requests refused because the lease had ended.
    pub refused_past_lease: u64,
    /// Requests refused because the tail, or the table of reads, is full.
    pub refused_overload: u64,
    /// Renewals not asked for because the disk does not answer.
    pub disk_hangs: u64,
    /// Linearizable reads answered by the tail.
    pub tail_reads: u64,
    /// Linearizable reads answered elsewhere, of what is clean.
    pub clean_reads: u64,
    /// Linearizable reads for which the tail was asked.
    pub asked_reads: u64,
    /// Times that the tail did not answer, and reads were refused.
    pub reads_given_up: u64,
    /// Messages after which entries were missing.
    pub gaps: u64,
    /// Times that entries were sent again.
    pub resent: u64,
    /// Entries cut off here because the predecessor does not have them.
    pub truncated_entries: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
    /// Snapshots begun for a syncing member.
    pub snapshots_begun: u64,
    /// Snapshot chunks sent.
    pub snapshot_chunks_sent: u64,
    /// Snapshots that a syncing member installed.
    pub snapshots_sent: u64,
    /// Snapshots installed here.
    pub snapshots_installed: u64,
}

impl Chain {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which life it is.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life
    }

    /// The newest epoch in which it has a part; 0 if none yet.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everybody's places in that epoch.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Its own place.
    #[must_use]
    pub fn state(&self) -> MemberState {
        self.state
    }

    /// Whether it orders commands.
    #[must_use]
    pub fn orders(&self) -> bool {
        self.is_head()
    }

    /// Whether it commits.
    #[must_use]
    pub fn commits(&self) -> bool {
        self.is_tail()
    }

    /// Until when it serves, by its own clock; 0 if it has no lease.
    #[must_use]
    pub fn lease_until_ns(&self) -> u64 {
        assert!(self.lease_until_ns == 0 || self.state == MemberState::Serving, "a lease is for serving");
        self.lease_until_ns
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        assert!(self.commit <= self.tail.last().index, "what is committed is in the log");
        self.commit
    }

    /// The highest index given to the parent.
    #[must_use]
    pub fn delivered_index(&self) -> u64 {
        assert!(self.delivered <= self.commit, "only what is committed is delivered");
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

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
