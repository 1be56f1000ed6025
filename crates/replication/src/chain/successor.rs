//! What a member does with what its predecessor sends.

use alloc::vec::Vec;

use keypact_log::{Entry, Position};
use keypact_protocol::{Plant, Sink, planted};

use super::{Body, Chain, MemberState, Record};

impl Chain {
    pub(super) fn on_forward(
        &mut self,
        prev: Position,
        entries: Vec<Entry>,
        watermark: u64,
        commit: u64,
        out: &mut impl Sink<Self>,
    ) {
        if self.is_installing() || self.state > MemberState::Syncing {
            // The log is about to be replaced; what arrives now would be thrown away.
            return;
        }
        self.ack_due = true;
        if prev.index > self.agreed
            && !(planted(Plant::ChainStaleEpoch) && prev.index <= self.tail.last().index)
        {
            self.gap = true;
            self.counters.gaps += 1;
            if !entries.is_empty() && self.early.len() < self.config.max_early_frames {
                self.early.insert(prev.index, entries);
            }
            return;
        }
        self.take_entries(prev.index, entries, out);
        while self.early.first_key_value().is_some_and(|(prev_index, _)| *prev_index <= self.agreed) {
            let (prev_index, entries) = self.early.pop_first().expect("the first was there");
            self.take_entries(prev_index, entries, out);
        }
        // It speaks of the predecessor's log, which this one may not yet have.
        self.upstream_durable = self.upstream_durable.max(watermark);
        self.commit_to(commit.min(self.agreed), out);
        self.advance_commit(out);
    }

    /// Takes entries that follow `prev_index`, up to which the logs agree.
    fn take_entries(&mut self, prev_index: u64, entries: Vec<Entry>, out: &mut impl Sink<Self>) {
        let mut before = prev_index;
        for entry in entries {
            let index = entry.index();
            assert!(index == before + 1, "decoding and our own code keep entries contiguous");
            before = index;
            if index <= self.agreed {
                continue;
            }
            assert!(index > self.commit, "what is committed agrees");
            if self.tail.term_at(index) == Some(entry.term()) {
                // Equal epochs at equal places: equal entries (see the module's documentation).
                self.agreed = index;
                continue;
            }
            assert!(
                self.state == MemberState::Syncing || index > self.tail.last().index,
                "only who syncs holds what its predecessor does not"
            );
            self.cut_after(index - 1);
            // The rest waits for the next checkpoint; but what may lead to commits must not wait for them.
            let can_shrink = self.delivered > self.tail.base().index;
            if can_shrink && self.tail.has_room(entry.len_bytes()).is_err() {
                self.compact_wanted = true;
                break;
            }
            let lsn = self.append(Record::Entry(entry.clone()), out);
            self.unapplied.add(index, &entry.command());
            self.tail.append(entry, lsn, None);
            self.agreed = index;
        }
        assert!(self.agreed <= self.tail.last().index, "only what is held can agree");
    }

    /// Tells the predecessor what is new.
    pub(super) fn flush_ack(&mut self, out: &mut impl Sink<Self>) {
        let due = core::mem::take(&mut self.ack_due);
        let Some(predecessor) = self.predecessor.filter(|_| due && !self.is_installing()) else { return };
        let gap = core::mem::take(&mut self.gap);
        let body = Body::Ack {
            received: self.agreed,
            durable: self.own_durable(),
            commit: self.commit.min(self.agreed),
            gap,
        };
        // Early: it says what is received and, apart from that, what is durable.
        out.send_early(predecessor, self.message(body));
    }
}
