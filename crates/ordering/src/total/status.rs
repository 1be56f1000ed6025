//! What others may see of a member.

use keypact_protocol::NodeId;

use super::{ReplicatedLog, Total};

/// What a member has done since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages delivered.
    pub delivered: u64,
    /// Sessions that became open here.
    pub sessions_opened: u64,
    /// Requests to open one that came too late.
    pub sessions_refused: u64,
    /// Own items given to the leader, again ones too.
    pub submitted: u64,
    /// Items put before the log.
    pub proposed: u64,
    /// Messages that were submitted though they were on their way, or in the log.
    pub again: u64,
    /// Messages that were submitted before an earlier one of their sender.
    pub early: u64,
    /// Submissions that came while this member did not lead.
    pub misdirected: u64,
    /// Own messages that were refused at once.
    pub refused: u64,
    /// Items in the log that were there before.
    pub duplicates: u64,
    /// Items in the log that came before an earlier one of their sender.
    pub gaps: u64,
    /// Items in the log of a life that was over.
    pub closed: u64,
    /// Entries of the log that are no items.
    pub malformed: u64,
    /// Submissions of who is no member.
    pub refused_strangers: u64,
    /// Own messages passed over by a snapshot.
    pub passed_over: u64,
}

impl<L: ReplicatedLog> Total<L> {
    /// The log.
    #[must_use]
    pub fn log(&self) -> &L::Core {
        &self.core
    }

    /// How many messages of a node were delivered, over all its lives; as far as this member knows.
    #[must_use]
    pub fn delivered_of(&self, node: NodeId) -> u64 {
        self.ordering.sessions.get(node).map_or(0, |session| session.count)
    }

    /// How many own messages wait for their delivery.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ordering.sender.waiting()
    }

    /// What it has done since it started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.ordering.counters
    }
}
