//! Reading one's own writes at any member: a token names a write, by the epoch in which it was made and its index.

use keypact_protocol::{Refusal, Reply, RequestId, Sink};

use super::LeaderFollower;

/// What a member can say of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// The write is applied here.
    Applied,
    /// It is not, or it can't be told yet whether it ever will be.
    NotYet,
    /// Another entry stands in its place, in a log that agrees with the leader's.
    Lost,
}

impl LeaderFollower {
    pub(super) fn on_session_read(
        &mut self,
        id: RequestId,
        epoch: u64,
        index: u64,
        out: &mut impl Sink<Self>,
    ) {
        if self.diverged {
            self.counters.refused_diverged += 1;
            return self.refuse(id, Refusal::NotLeader { leader: self.leader }, out);
        }
        match self.known(epoch, index) {
            Known::Applied => {
                assert!(index <= self.delivered, "the parent has it");
                self.counters.session_reads += 1;
                // Early: what is visible here is visible to this reader in any case.
                out.reply_early(Reply::ReadFrom { id, index });
            }
            Known::NotYet => {
                self.counters.session_reads_behind += 1;
                self.refuse(id, Refusal::NotYet, out);
            }
            Known::Lost => {
                self.counters.session_reads_lost += 1;
                self.refuse(id, Refusal::Lost, out);
            }
        }
    }

    /// The epoch of the entry at `index`, as far as it is remembered.
    pub(super) fn epoch_at(&self, index: u64) -> Option<u64> {
        if index > self.tail.base().index { self.tail.term_at(index) } else { self.epochs.at(index) }
    }

    fn known(&self, epoch: u64, index: u64) -> Known {
        if index > self.delivered || self.is_installing() {
            return Known::NotYet;
        }
        // Older than the table reaches: it may be there, or not.
        let Some(here) = self.epoch_at(index) else { return Known::NotYet };
        assert!(here <= self.hard.epoch, "no entry is of an epoch not yet known");
        if here == epoch {
            // Only one leader makes entries of an epoch, so equal epochs at equal places are equal entries.
            return Known::Applied;
        }
        // A later epoch has put its own entry there. Before this log is known to be the leader's, that epoch may itself have been given up.
        let agrees = self.leading.is_some() || index <= self.agreed;
        if here > epoch && agrees { Known::Lost } else { Known::NotYet }
    }
}
