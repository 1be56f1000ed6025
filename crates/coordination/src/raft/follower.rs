//! Following a leader: its entries, its heartbeats, and the terms that others have (paper, 5.3).

use alloc::vec::Vec;

use keypact_log::{Entry, Kind, Position};
use keypact_protocol::{NodeId, Plant, Sink, planted};

use super::{AppendOutcome, Body, Membership, Raft, Record, State, StepDown};

impl Raft {
    /// A newer term is about: whatever this member was, it now follows, and does not yet know whom.
    pub(super) fn adopt_term(&mut self, term: u64, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(term > self.hard.term, "only a newer term is adopted");
        self.follow_nobody(now_ns, out);
        self.set_hard(term, None, now_ns, out);
    }

    /// Becomes a follower without a leader. The caller takes the new term.
    pub(super) fn follow_nobody(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.is_leader() {
            return self.step_down(StepDown::NewerTerm, now_ns, out);
        }
        self.state = State::Follower;
        self.leader = None;
        self.forget_incoming();
    }

    /// Takes `from` for the leader of the present term. `false` if this member leads itself, which two leaders in one term would need.
    pub(super) fn follow(&mut self, from: NodeId, now_ns: u64, out: &mut impl Sink<Raft>) -> bool {
        if self.is_leader() {
            self.counters.refused_contradictions += 1;
            return false;
        }
        if self.leader != Some(from) {
            self.counters.leader_changes += 1;
            self.state = State::Follower;
            self.leader = Some(from);
            self.forget_incoming();
            self.last_contact_ns = now_ns;
            self.rearm_election(now_ns, out);
        }
        assert!(matches!(self.state, State::Follower), "who has a leader follows it");
        self.last_contact_ns = now_ns;
        true
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, commit: u64, round: u64, out: &mut impl Sink<Raft>) {
        // The leader names no commit index beyond what it knows this log to match; still, only what is held can be committed.
        self.commit_to(commit.min(self.tail.last().index), out);
        let reply = self.message(Body::HeartbeatReply { round });
        self.reply_to_heartbeat(from, reply, out);
    }

    fn reply_to_heartbeat(&self, to: NodeId, reply: super::Message, out: &mut impl Sink<Raft>) {
        if self.disk.hard_is_durable() {
            // Early: the reply says that this member was in this term and heard the leader. The term survives a crash, and a restarted
            // member keeps silent for an election time-out as if it had just heard the leader. It says nothing about entries.
            out.send_early(to, reply);
        } else {
            out.send(to, reply);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the message's parts, taken apart by the one caller")]
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        commit: u64,
        round: u64,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        if self.is_installing() {
            // The log is about to be replaced; what arrives now would be thrown away. The leader goes on once the snapshot is in.
            let reply = self.message(Body::HeartbeatReply { round });
            return self.reply_to_heartbeat(from, reply, out);
        }
        let outcome = match self.conflict_with(prev) {
            Some(conflict) => {
                self.counters.conflicts_reported += 1;
                conflict
            }
            None => {
                let index = self.take_entries(prev, entries, now_ns, out);
                assert!(index <= self.tail.last().index, "only what is held can match");
                self.commit_to(commit.min(index), out);
                AppendOutcome::Match { index }
            }
        };
        let reply = self.message(Body::AppendReply { round, outcome });
        out.send(from, reply);
    }

    /// Whether the log contradicts, or does not reach, the place before an append's entries. What is committed never contradicts a leader
    /// (leader completeness), so it is not compared.
    fn conflict_with(&self, prev: Position) -> Option<AppendOutcome> {
        let last = self.tail.last();
        if prev.index > last.index {
            return Some(AppendOutcome::Conflict {
                prev_index: prev.index,
                hint_term: 0,
                hint_index: last.index + 1,
            });
        }
        if prev.index <= self.commit {
            return None;
        }
        let term = self.tail.term_at(prev.index).expect("past the commit index and not past the end");
        if term == prev.term {
            return None;
        }
        let hint_index = self.first_index_of_term(term, prev.index);
        assert!(hint_index > self.commit, "what is committed is not given up");
        Some(AppendOutcome::Conflict { prev_index: prev.index, hint_term: term, hint_index })
    }

    /// The first index after the commit index whose entry has `term`, given that the one at `index` has. O(log n): terms never fall.
    fn first_index_of_term(&self, term: u64, index: u64) -> u64 {
        let (mut low, mut high) = (self.commit + 1, index);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.tail.term_at(middle).is_some_and(|other| other < term) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        assert!(self.tail.term_at(low) == Some(term), "the search ends on the term");
        low
    }

    /// Takes entries that follow `prev`, which matches. Returns the index up to which the log now is as the leader's.
    fn take_entries(
        &mut self,
        prev: Position,
        entries: Vec<Entry>,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) -> u64 {
        let mut matched = prev.index;
        let mut appending = false;
        for entry in entries {
            let index = entry.index();
            assert!(index == matched + 1, "decoding and our own code keep entries contiguous");
            if !appending {
                if index <= self.commit {
                    matched = index;
                    continue;
                }
                // Entries that are there already stay: what follows them may be newer than this message, and acknowledged.
                let held = self.tail.term_at(index);
                if held == Some(entry.term()) && !planted(Plant::TruncatesMatchingEntries) {
                    matched = index;
                    continue;
                }
                if held.is_some() {
                    self.counters.truncations += 1;
                    self.tail.truncate_from(index);
                    self.memberships.retain(|(at, _)| *at < index);
                    self.use_last_membership();
                }
                appending = true;
            }
            // A tail is kept full either by entries that a checkpoint will free: then the rest waits for that. Or by entries that are not
            // yet committed: then a leader's first entry, which would commit them, must not wait for room.
            let can_shrink = self.delivered > self.tail.base().index;
            if can_shrink && self.tail.has_room(entry.len_bytes()).is_err() {
                self.counters.appends_without_room += 1;
                break;
            }
            let lsn = self.append(Record::Entry(entry.clone()), now_ns, out);
            if entry.header().kind == Kind::Membership {
                self.memberships.push((index, Membership::known(&entry.command())));
                self.tail.append(entry, lsn, None);
                self.use_last_membership();
            } else {
                self.tail.append(entry, lsn, None);
            }
            matched = index;
        }
        matched
    }

    pub(super) fn commit_to(&mut self, index: u64, out: &mut impl Sink<Raft>) {
        if index <= self.commit {
            return;
        }
        assert!(index <= self.tail.last().index, "what is committed is in the log");
        self.commit = index;
        self.drop_incoming_if_passed();
        self.deliver(out);
    }
}
