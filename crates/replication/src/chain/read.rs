//! Reads at every serving member (CRAQ, section 2.3): of what is clean from here, of what is not by asking the tail how far it has committed.
//!
//! Why a clean read is right: whatever was acknowledged is in the log of every serving member, so a member that holds no unapplied entry of
//! a key has applied all that was acknowledged of it. That it still serves is what its lease says; every later epoch has it in the row until then.

use alloc::vec::Vec;

use keypact_protocol::{NodeId, Plant, ReadLevel, Refusal, Reply, RequestId, Sink, planted};

use super::{Body, Chain, MemberState};

/// Reads that wait for the tail's word. One question is out at a time; who comes later waits for the next.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Numbers the questions of this life.
    round: u64,
    /// These wait for the present question.
    asked: Vec<RequestId>,
    asked_since_ns: u64,
    /// These came after it.
    next: Vec<RequestId>,
    /// When the first of them came.
    next_since_ns: u64,
}

impl Reads {
    fn len(&self) -> usize {
        self.asked.len() + self.next.len()
    }

    /// The tail may be another now: all are asked for anew.
    pub(super) fn begin_again(&mut self) {
        if !self.asked.is_empty() {
            self.next_since_ns = self.asked_since_ns;
            self.asked.append(&mut self.next);
            self.next = core::mem::take(&mut self.asked);
        }
    }

    fn take_all(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        let (asked, next) = (core::mem::take(&mut self.asked), core::mem::take(&mut self.next));
        asked.into_iter().chain(next)
    }

    pub(super) fn assert_invariants(&self, limit: usize) {
        assert!(self.len() <= limit, "reads that wait are bounded");
        assert!(self.asked.is_empty() || self.round > 0, "who waits for an answer has asked");
    }
}

impl Chain {
    pub(super) fn on_read(
        &mut self,
        id: RequestId,
        level: ReadLevel,
        key: Option<u64>,
        now_ns: u64,
        out: &mut impl Sink<Self>,
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
        if self.state != MemberState::Serving {
            return self.refuse(id, Refusal::NotLeader { leader: self.head_node() }, out);
        }
        if self.is_tail() {
            if !self.has_lease(now_ns) {
                self.counters.refused_past_lease += 1;
                return self.refuse(id, Refusal::NotLeader { leader: None }, out);
            }
            self.counters.tail_reads += 1;
            // Early: all of that is on disks already.
            return out.reply_early(Reply::ReadFrom { id, index: self.settled_commit() });
        }
        let clean = !self.unapplied.may_write(key) || planted(Plant::ChainDirtyRead);
        if clean && self.has_lease(now_ns) {
            self.counters.clean_reads += 1;
            // Early: what is applied is committed.
            return out.reply_early(Reply::ReadFrom { id, index: self.delivered });
        }
        if self.reads.len() >= self.config.max_pending_reads {
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        if self.reads.next.is_empty() {
            self.reads.next_since_ns = now_ns;
        }
        self.counters.asked_reads += 1;
        self.reads.next.push(id);
    }

    /// Everything that any tail has acknowledged is at or before this. An earlier epoch's tail may have been ahead of this member's commit
    /// index, but not of its log.
    pub(super) fn settled_commit(&self) -> u64 {
        assert!(self.is_tail(), "only the tail knows");
        self.commit.max(self.epoch_start)
    }

    /// Asks the tail, once for all reads that gathered.
    pub(super) fn flush_query(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if self.reads.next.is_empty() || !self.reads.asked.is_empty() || self.state != MemberState::Serving {
            return;
        }
        if self.is_tail() {
            // It has become the tail itself.
            return self.answer_own_reads(now_ns, out);
        }
        self.reads.round += 1;
        self.reads.asked = core::mem::take(&mut self.reads.next);
        assert!(self.reads.asked.len() <= self.config.max_pending_reads, "reads that wait are bounded");
        self.reads.asked_since_ns = self.reads.next_since_ns;
        self.send_query(out);
    }

    fn send_query(&mut self, out: &mut impl Sink<Self>) {
        let tail = self.tail_node().expect("somebody serves: this member");
        assert!(tail != self.config.id, "nobody asks itself");
        // Early: a question.
        out.send_early(tail, self.message(Body::Query { round: self.reads.round }));
    }

    fn answer_own_reads(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if !self.has_lease(now_ns) {
            return;
        }
        let index = self.settled_commit();
        assert!(index >= self.commit, "what is committed is settled");
        for id in self.reads.take_all() {
            // Early: all of that is on disks already.
            out.reply_early(Reply::ReadFrom { id, index });
        }
    }

    pub(super) fn on_query(&mut self, from: NodeId, round: u64, now_ns: u64, out: &mut impl Sink<Self>) {
        if self.is_tail() && self.has_lease(now_ns) {
            let body = Body::Answer { round, commit: self.settled_commit() };
            // Early: all of that is on disks already.
            out.send_early(from, self.message(body));
        }
    }

    pub(super) fn on_answer(&mut self, from: NodeId, round: u64, commit: u64, out: &mut impl Sink<Self>) {
        // The question's number ties the answer to reads that came before it was sent.
        if round != self.reads.round || self.tail_node() != Some(from) || self.reads.asked.is_empty() {
            return;
        }
        for id in core::mem::take(&mut self.reads.asked) {
            // Early: all of that is on disks already.
            out.reply_early(Reply::ReadFrom { id, index: commit });
        }
    }

    /// Asks again; gives up what has waited for long.
    pub(super) fn retry_reads(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if self.reads.len() == 0 || self.state != MemberState::Serving {
            return;
        }
        let since_ns =
            if self.reads.asked.is_empty() { self.reads.next_since_ns } else { self.reads.asked_since_ns };
        if now_ns.saturating_sub(since_ns) > self.config.read_timeout_ns() {
            self.counters.reads_given_up += 1;
            for id in self.reads.take_all() {
                // Early: a refused read has changed nothing.
                out.reply_early(Reply::Refused { id, why: Refusal::NoQuorum });
            }
        } else if !self.reads.asked.is_empty() && !self.is_tail() {
            self.send_query(out);
        }
    }

    /// This member serves no more.
    pub(super) fn refuse_reads(&mut self, out: &mut impl Sink<Self>) {
        assert!(self.state != MemberState::Serving, "who serves answers");
        let leader = self.head_node();
        for id in self.reads.take_all() {
            // Early: a refused read has changed nothing.
            out.reply_early(Reply::Refused { id, why: Refusal::NotLeader { leader } });
        }
    }
}
