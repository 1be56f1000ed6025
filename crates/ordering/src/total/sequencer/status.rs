//! What others may see of a member.

use keypact_protocol::NodeId;

use super::log::Log;
use super::{Config, Entry, HardState, Sequencer, State, Viewstamp};

/// What a member is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It follows, or waits to be told whom.
    Member,
    /// It asks a majority what they hold.
    Collecting,
    /// It numbers what the group delivers.
    Sequencing,
}

/// What a member has done since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Collections begun.
    pub collections: u64,
    /// Logs that had to be brought from another member.
    pub fetches: u64,
    /// Answers that it is too far behind to sequence.
    pub too_far_behind: u64,
    /// Epochs opened.
    pub epochs_opened: u64,
    /// Roles given up for a newer epoch.
    pub stepped_down: u64,
    /// Positions given.
    pub sequenced: u64,
    /// Entries given to the parent.
    pub delivered: u64,
    /// Proposals refused.
    pub refused: u64,
    /// Messages of older epochs.
    pub refused_stale: u64,
    /// Messages that no member should have said.
    pub refused_contradictions: u64,
    /// Assignments of an epoch in which this member sequenced before a restart.
    pub refused_to_resume: u64,
    /// Messages from who is no member.
    pub refused_strangers: u64,
    /// Members that did not have what should come before.
    pub gaps: u64,
    /// Members to which entries were sent again.
    pub resent: u64,
    /// Logs of which an end was replaced.
    pub conflicts: u64,
    /// Entries that were.
    pub truncated: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
    /// Pieces of snapshots sent.
    pub chunks_sent: u64,
    /// Snapshots taken over.
    pub snapshots_installed: u64,
}

impl Sequencer {
    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Member => Role::Member,
            State::Collecting(_) => Role::Collecting,
            State::Sequencing(_) => Role::Sequencing,
        }
    }

    /// The newest epoch that it knows, and whom it obeys in that.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard
    }

    /// Who sequences, as far as it knows.
    #[must_use]
    pub fn sequencer(&self) -> Option<NodeId> {
        let own = matches!(self.state, State::Sequencing(_));
        self.hard.sequencer.filter(|node| own || *node != self.config.id)
    }

    /// Up to here a majority is known to hold everything.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Its last entry.
    #[must_use]
    pub fn last(&self) -> Viewstamp {
        self.log.last()
    }

    /// The last entry that its checkpoint covers.
    #[must_use]
    pub fn base(&self) -> Viewstamp {
        self.log.base()
    }

    /// The entry at a position, if it is in the log.
    #[must_use]
    pub fn entry(&self, position: u64) -> Option<&Entry> {
        Log::slot(&self.log, position).map(|slot| &slot.entry)
    }

    /// What it has done since it started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
