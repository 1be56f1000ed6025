//! Following: a leader's entries, and what becomes of entries that the leader does not have.

use alloc::vec::Vec;

use keypact_log::{Entry, Position};
use keypact_protocol::{NodeId, Plant, Sink, planted};

use super::{AppendOutcome, Body, CATALOG, LeaderFollower, Record};

/// What an append says.
pub(super) struct Append {
    pub(super) prev: Position,
    pub(super) entries: Vec<Entry>,
    pub(super) commit: u64,
    pub(super) echo_ns: u64,
}

impl LeaderFollower {
    pub(super) fn on_append(&mut self, from: NodeId, append: Append, now_ns: u64, out: &mut impl Sink<Self>) {
        let Append { prev, entries, commit, echo_ns } = append;
        if self.is_installing() {
            // The log is about to be replaced; what arrives now would be thrown away.
            return;
        }
        let outcome = match self.conflict_with(prev) {
            Some(conflict) => Some(conflict),
            None => self.take_entries(prev, entries, out),
        };
        // Not answered while the catalog does not know what is to be cut off; the leader tries again with its next heartbeat.
        let Some(outcome) = outcome else { return };
        match outcome {
            AppendOutcome::Match { index } => {
                assert!(index <= self.tail.last().index, "only what is held can match");
                self.agreed = self.agreed.max(index);
                self.commit_to(commit.min(index), out);
                self.freshened(commit, echo_ns, now_ns);
            }
            AppendOutcome::Conflict { .. } => {}
            AppendOutcome::Diverged { .. } => self.has_diverged(),
        }
        out.send(from, self.message(Body::AppendReply { outcome, sent_ns: now_ns }));
    }

    /// What was acknowledged before `echo_ns` is visible up to `commit`. A time of an earlier life says nothing: the clock may have begun anew.
    fn freshened(&mut self, commit: u64, echo_ns: u64, now_ns: u64) {
        let of_this_life = echo_ns > 0 && echo_ns >= self.born_ns && echo_ns <= now_ns;
        if of_this_life && self.delivered >= commit && !self.diverged {
            self.fresh_ns = self.fresh_ns.max(echo_ns);
        }
    }

    /// It has applied what the leader does not have. Until its state is another it serves nothing.
    pub(super) fn has_diverged(&mut self) {
        assert!(self.leading.is_none(), "a leader's log is the right one");
        if !self.diverged {
            self.diverged = true;
            self.fresh_ns = 0;
            self.counters.diverged += 1;
        }
    }

    /// Says again that it has diverged, and from where on, once the catalog knows what is given up and has said how much is kept: the leader's
    /// snapshot must have all of that.
    pub(super) fn tell_divergence(&mut self, out: &mut impl Sink<Self>) {
        let Some(leader) = self.leader.filter(|_| self.diverged && !self.is_installing()) else { return };
        if self.may_give_up_tail(self.agreed, out) {
            let outcome = AppendOutcome::Diverged { agreed: self.agreed };
            // No time: who has diverged is not fresh.
            out.send(leader, self.message(Body::AppendReply { outcome, sent_ns: 0 }));
        }
    }

    /// Whether what stands behind the part that agrees may be given up: there is nothing, or the catalog has written down what is lost with it.
    /// If not, it is told. Up to `kept` the log is known to be the leader's.
    ///
    /// The tail stays until then, so a crash at any moment leaves either the tail or the report.
    pub(super) fn may_give_up_tail(&mut self, kept: u64, out: &mut impl Sink<Self>) -> bool {
        let last = self.tail.last();
        if last.index == self.agreed || self.noted == Some(last) || planted(Plant::TailCutUnreported) {
            return true;
        }
        assert!(last.index > self.agreed, "only what is held can agree");
        let from = kept.max(self.tail.base().index);
        let before = Position { index: from, term: self.tail.term_at(from).expect("the base, or held") };
        let mut entries = Vec::new();
        let mut room = self.config.loss_list_bytes;
        for slot in self.tail.slots_from(from + 1).expect("past the base") {
            let Some(left) = room.checked_sub(slot.entry.len_bytes()) else { break };
            room = left;
            entries.push(slot.entry.clone());
        }
        self.counters.tails_reported += 1;
        // Held until all of the tail is durable: what may yet be lost by itself need not be reported.
        out.send(CATALOG, self.message(Body::Tail { last, before, entries }));
        false
    }

    /// The catalog has written down what is lost with a log that ends so, and knows how much of it is kept.
    pub(super) fn on_noted(&mut self, last: Position, kept: u64, out: &mut impl Sink<Self>) {
        if kept > last.index {
            self.counters.refused_contradictions += 1;
            return;
        }
        self.noted = Some(last);
        if last == self.tail.last() && !self.is_installing() {
            self.agreed = self.agreed.max(kept);
            if self.agreed < self.commit {
                self.has_diverged();
            }
            self.tell_divergence(out);
        }
    }

    /// Whether the log contradicts the leader's at the place before an append's entries, or can't tell.
    fn conflict_with(&self, prev: Position) -> Option<AppendOutcome> {
        let (base, last) = (self.tail.base(), self.tail.last());
        // Nothing stands before the first entry, but what comes next may stand in the checkpoint, and not be comparable (seed 7700834).
        let comparable = self.agreed >= base.index || prev.index >= base.index;
        if prev.index <= self.agreed && comparable {
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
        if term == prev.term || planted(Plant::DivergentTailKept) {
            return None;
        }
        if prev.index == base.index {
            return Some(AppendOutcome::Diverged { agreed: self.agreed });
        }
        // Back over the whole epoch at once: the leader has at most its beginning.
        let first = (base.index + 1..prev.index).rev().find(|index| self.tail.term_at(*index) != Some(term));
        conflict(first.map_or(base.index + 1, |before| before + 1))
    }

    /// Takes entries that follow `prev`, which agrees. `None`: own entries would have to go, and the catalog does not yet know of them.
    fn take_entries(
        &mut self,
        prev: Position,
        entries: Vec<Entry>,
        out: &mut impl Sink<Self>,
    ) -> Option<AppendOutcome> {
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
                return Some(AppendOutcome::Diverged { agreed: self.agreed });
            }
            assert!(index > self.tail.base().index, "what is in the checkpoint was applied");
            let last_index = self.tail.last().index;
            if index <= last_index {
                if planted(Plant::DivergentTailKept) {
                    matched = index;
                    continue;
                }
                if !self.may_give_up_tail(index - 1, out) {
                    return None;
                }
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
        assert!(matched <= self.tail.last().index, "only what is held can match");
        Some(AppendOutcome::Match { index: matched })
    }

    pub(super) fn commit_to(&mut self, index: u64, out: &mut impl Sink<Self>) {
        if index > self.commit {
            assert!(index <= self.tail.last().index, "what is visible is in the log");
            assert!(index <= self.agreed, "only what agrees with the leader's log becomes visible here");
            self.commit = index;
            self.deliver(out);
        }
    }
}
