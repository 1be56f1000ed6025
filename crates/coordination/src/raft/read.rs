//! Reads without writing to the log: read-index and leases (thesis, 6.4).

use keypact_protocol::{NodeId, Plant, ReadLevel, Refusal, Reply, RequestId, Sink, planted};

use super::{Raft, State};

/// A read that waits for a majority.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRead {
    pub(super) id: RequestId,
    /// The commit index when it arrived.
    index: u64,
    /// The round that must be confirmed. It began after the read arrived.
    round: u64,
}

impl Raft {
    pub(super) fn on_read(
        &mut self,
        id: RequestId,
        level: ReadLevel,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        if level == ReadLevel::Stale {
            // Early: any state will do.
            return out.reply_early(Reply::ReadFrom { id, index: 0 });
        }
        if let ReadLevel::Session { index, .. } = level {
            if index > self.commit {
                return self.refuse(id, Refusal::NotYet, out);
            }
            // Early: what is committed stays so, whoever has it.
            return out.reply_early(Reply::ReadFrom { id, index });
        }
        let leader: Option<NodeId> = self.leader;
        let State::Leader(state) = &self.state else {
            return self.refuse(id, Refusal::NotLeader { leader }, out);
        };
        let index = self.commit;
        // Before an entry of its own term is committed, a leader may not know of all that its predecessors committed.
        let knows_commits = index >= state.term_start || planted(Plant::ReadIndexBeforeOwnCommit);
        if planted(Plant::StaleLeaderServesReads) && knows_commits {
            return out.reply_early(Reply::ReadFrom { id, index });
        }
        if level == ReadLevel::Lease && self.config.lease {
            if knows_commits && self.holds_lease(now_ns) {
                self.counters.lease_reads += 1;
                // Early: a read needs nothing of what is not yet on this disk; up to the commit index all is durable on a majority.
                return out.reply_early(Reply::ReadFrom { id, index });
            }
            self.counters.lease_fallbacks += 1;
        }
        let State::Leader(state) = &mut self.state else { unreachable!("looked at above") };
        if state.reads.len() >= self.config.max_pending_reads {
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        let round = state.rounds.for_new_read();
        assert!(round > state.rounds.confirmed(), "a read waits for a round that begins after it");
        state.reads.push_back(PendingRead { id, index, round });
    }

    /// Answers the reads whose round a majority has answered, once an entry of the present term is committed.
    pub(super) fn answer_confirmed_reads(&mut self, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &mut self.state else { return };
        let plant = planted(Plant::ReadIndexBeforeOwnCommit);
        if self.commit < leader.term_start && !plant {
            return;
        }
        let confirmed = leader.rounds.confirmed();
        while let Some(read) = leader.reads.front().copied() {
            if read.round > confirmed {
                break;
            }
            leader.reads.pop_front();
            // What earlier leaders committed stands before the term's first entry.
            let index = if plant { read.index } else { read.index.max(leader.term_start) };
            assert!(index <= self.commit, "only committed entries are read");
            self.counters.index_reads += 1;
            // Early: as for a lease read.
            out.reply_early(Reply::ReadFrom { id: read.id, index });
        }
    }
}
