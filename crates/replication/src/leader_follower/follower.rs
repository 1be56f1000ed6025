//! Following: a leader's entries, and what becomes of entries that the leader does not have.

use alloc::vec::Vec;

use keypact_log::{Entry, Position};
use keypact_protocol::{NodeId, Sink};

use super::{AppendOutcome, Body, LeaderFollower, Record};

impl LeaderFollower {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        commit: u64,
        out: &mut impl Sink<Self>,
    ) {
        if self.is_installing() {
            // The log is about to be replaced; what arrives now would be thrown away.
            return;
        }
        let outcome = match self.conflict_with(prev) {
            Some(conflict) => conflict,
            None => self.take_entries(prev, entries, out),
        };
        match outcome {
            AppendOutcome::Match { index } => {
                assert!(index <= self.tail.last().index, "only what is held can match");
                self.agreed = self.agreed.max(index);
                self.commit_to(commit.min(index), out);
            }
            AppendOutcome::Conflict { .. } => {}
            AppendOutcome::Diverged { .. } => {
                if !self.diverged {
                    self.diverged = true;
                    self.counters.diverged += 1;
                }
            }
        }
        out.send(from, self.message(Body::AppendReply(outcome)));
    }

    /// Whether the log contradicts the leader's at the place before an append's entries, or can't tell.
    fn conflict_with(&self, prev: Position) -> Option<AppendOutcome> {
        let (base, last) = (self.tail.base(), self.tail.last());
        if prev.index <= self.agreed {
            return None;
        }
        let conflict = |next| Some(AppendOutcome::Conflict { prev_index: prev.index, next });
        if prev.index > last.index {
            return conflict(last.index + 1);
        }
        if prev.index < base.index {
            // What stood there is in the checkpoint: the checkpoint's last entry is the first that can be compared.
            return conflict(base.index + 1);
        }
        let term = self.tail.term_at(prev.index).expect("between the base and the end");
        if term == prev.term {
            return None;
        }
        if prev.index == base.index {
            return Some(AppendOutcome::Diverged { agreed: self.agreed });
        }
        // Back over the whole epoch at once: the leader has at most its beginning.
        let first = (base.index + 1..prev.index).rev().find(|index| self.tail.term_at(*index) != Some(term));
        conflict(first.map_or(base.index + 1, |before| before + 1))
    }

    /// Takes entries that follow `prev`, which agrees.
    fn take_entries(
        &mut self,
        prev: Position,
        entries: Vec<Entry>,
        out: &mut impl Sink<Self>,
    ) -> AppendOutcome {
        let mut matched = prev.index;
        for entry in entries {
            let index = entry.index();
            assert!(index == matched + 1, "decoding and our own code keep entries contiguous");
            // Entries that are there already stay: what follows them may be newer than this message, and acknowledged.
            if index <= self.agreed || self.tail.term_at(index) == Some(entry.term()) {
                matched = index;
                continue;
            }
            if index <= self.commit {
                // What was applied here never reached the leader. Only a new state can take it back.
                return AppendOutcome::Diverged { agreed: self.agreed };
            }
            assert!(index > self.tail.base().index, "what is in the checkpoint was applied");
            let last_index = self.tail.last().index;
            if index <= last_index {
                self.counters.truncated_entries += last_index + 1 - index;
                self.tail.truncate_from(index);
            }
            // The rest waits for the next checkpoint; but what may make entries visible must not wait for them.
            let can_shrink = self.delivered > self.tail.base().index;
            if can_shrink && self.tail.has_room(entry.len_bytes()).is_err() {
                self.compact_wanted = true;
                break;
            }
            let lsn = self.append(Record::Entry(entry.clone()), out);
            self.tail.append(entry, lsn, None);
            matched = index;
        }
        AppendOutcome::Match { index: matched }
    }

    pub(super) fn commit_to(&mut self, index: u64, out: &mut impl Sink<Self>) {
        if index > self.commit {
            assert!(index <= self.tail.last().index, "what is visible is in the log");
            self.commit = index;
            self.deliver(out);
        }
    }
}
