//! What a leader knows of each peer, and what it sends it (paper, 5.3; thesis, 10.2.1).
//!
//! ```text
//!             answer matches                          next entry is gone
//!  ┌───────┐ ────────────────▶ ┌───────────┐      ┌──────────┐
//!  │ probe │                   │ replicate │ ───▶ │ snapshot │ ◀── (from probe, too)
//!  └───────┘ ◀──────────────── └───────────┘      └──────────┘
//!      ▲       conflict, loss                          │ installed
//!      └───────────────────────────────────────────────┘
//! ```
//! Probing, one append is out at a time, to find where the logs agree; replicating, appends are sent without waiting for answers.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use keypact_log::{Outgoing, Position, Tail};
use keypact_protocol::{NodeId, Sink, SnapshotRead};

use super::{AppendOutcome, Body, Member, Raft, Seat, State};

/// How many appends one flush sends to one peer; the rest follows when it is heard of.
const FRAMES_PER_FLUSH: usize = 4;

/// How a leader speaks to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressState {
    /// It looks for the place where the logs agree.
    Probe,
    /// It sends what is new at once.
    Replicate,
    /// It sends a snapshot.
    Snapshot,
}

#[derive(Clone, Copy, Debug)]
struct Inflight {
    last_index: u64,
    bytes: usize,
    sent_ns: u64,
}

/// One peer.
///
/// Invariants: `matched < next`; nothing is in flight but in `Replicate`.
#[derive(Debug)]
pub(super) struct Progress {
    id: NodeId,
    seat: Seat,
    /// What it must have to count as caught up: all that was in the log one heartbeat ago; and the same of the next heartbeat.
    goal: u64,
    next_goal: u64,
    /// The peer's log is durable, and equal to ours, up to here.
    matched: u64,
    /// The first entry to send next.
    next: u64,
    state: ProgressState,
    inflight: VecDeque<Inflight>,
    inflight_bytes: usize,
    /// When the unanswered probe was sent.
    probe_sent_ns: Option<u64>,
    heard_ns: u64,
    /// The newest round that it answered.
    round: u64,
    pub(super) outgoing: Option<Outgoing>,
}

impl Progress {
    pub(super) fn new(member: &Member, next: u64, now_ns: u64) -> Progress {
        assert!(next >= 1, "indices count from 1");
        Progress {
            id: member.id,
            seat: member.seat,
            goal: next - 1,
            next_goal: next - 1,
            matched: 0,
            next,
            state: ProgressState::Probe,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            probe_sent_ns: None,
            heard_ns: now_ns,
            round: 0,
            outgoing: None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    #[inline]
    pub(super) fn seat(&self) -> Seat {
        self.seat
    }

    pub(super) fn sit(&mut self, seat: Seat) {
        self.seat = seat;
    }

    /// A heartbeat has passed.
    pub(super) fn aim(&mut self, last_index: u64) {
        assert!(last_index >= self.next_goal, "a leader's log only grows");
        self.goal = self.next_goal;
        self.next_goal = last_index;
    }

    /// How many of the entries that were there one heartbeat ago it lacks.
    pub(super) fn missing(&self) -> u64 {
        self.goal.saturating_sub(self.matched)
    }

    #[inline]
    pub(super) fn matched(&self) -> u64 {
        self.matched
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn state(&self) -> ProgressState {
        self.state
    }

    pub(super) fn inflight_len(&self) -> usize {
        self.inflight.len()
    }

    pub(super) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// It spoke, and answered `round`, if that is one that began.
    pub(super) fn heard(&mut self, round: u64, newest: u64, now_ns: u64) {
        self.heard_ns = self.heard_ns.max(now_ns);
        if round <= newest {
            self.round = self.round.max(round);
        }
    }

    fn probe_from(&mut self, next: u64) {
        assert!(next > self.matched, "what matches is not sent again");
        self.state = ProgressState::Probe;
        self.next = next;
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.probe_sent_ns = None;
        self.outgoing = None;
    }

    /// A probe that is on its way is not sent again for this: to a peer that is down each one brings the next such hint, without end.
    pub(super) fn lost_connection(&mut self) {
        if self.state == ProgressState::Replicate {
            self.probe_from(self.matched + 1);
        }
    }

    /// The peer is alive; what it has not answered for long was lost. Waiting for a heartbeat's reply keeps a dead peer from being fed.
    pub(super) fn retry_if_lost(&mut self, now_ns: u64, resend_ns: u64) {
        let sent_ns = match self.state {
            ProgressState::Probe => self.probe_sent_ns,
            ProgressState::Replicate => self.inflight.front().map(|inflight| inflight.sent_ns),
            ProgressState::Snapshot => None,
        };
        if sent_ns.is_some_and(|sent_ns| now_ns.saturating_sub(sent_ns) > resend_ns) {
            self.probe_from(self.matched + 1);
        }
    }

    /// The peer's log matches up to `index`. Whether that is news.
    fn matches(&mut self, index: u64) -> bool {
        let news = index > self.matched;
        let taken = index >= self.next;
        self.matched = self.matched.max(index);
        self.next = self.next.max(index + 1);
        match self.state {
            // A probe of which nothing was taken met a log without room, and is sent again after a while.
            ProgressState::Probe if taken => {
                self.probe_sent_ns = None;
                self.state = ProgressState::Replicate;
            }
            ProgressState::Probe => {}
            ProgressState::Replicate => {
                while let Some(first) = self.inflight.front().copied() {
                    if first.last_index > index {
                        break;
                    }
                    self.inflight.pop_front();
                    self.inflight_bytes -= first.bytes;
                }
            }
            ProgressState::Snapshot => {}
        }
        news
    }

    pub(super) fn snapshot_installed(&mut self, index: u64) {
        self.matched = self.matched.max(index);
        self.probe_from(self.matched + 1);
    }

    fn begin_snapshot(&mut self) {
        self.probe_from(self.next);
        self.state = ProgressState::Snapshot;
        self.outgoing = Some(Outgoing::new());
    }

    fn may_send(&self, max_inflight: usize, max_inflight_bytes: usize) -> bool {
        match self.state {
            ProgressState::Probe => self.probe_sent_ns.is_none(),
            ProgressState::Replicate => {
                self.inflight.len() < max_inflight && self.inflight_bytes < max_inflight_bytes
            }
            ProgressState::Snapshot => false,
        }
    }

    fn sent(&mut self, last_index: u64, bytes: usize, now_ns: u64) {
        assert!(last_index >= self.next, "an append carries entries");
        match self.state {
            ProgressState::Probe => self.probe_sent_ns = Some(now_ns),
            ProgressState::Replicate => {
                self.inflight.push_back(Inflight { last_index, bytes, sent_ns: now_ns });
                self.inflight_bytes += bytes;
                self.next = last_index + 1;
            }
            ProgressState::Snapshot => unreachable!("no appends beside a snapshot"),
        }
    }

    /// The peer refused an append after `prev_index`. `resume` says from where to try instead, at most `prev_index`.
    fn conflicts(&mut self, prev_index: u64, resume: u64) {
        let stale = match self.state {
            ProgressState::Probe => prev_index + 1 != self.next,
            ProgressState::Replicate => prev_index <= self.matched,
            ProgressState::Snapshot => true,
        };
        if stale {
            return;
        }
        assert!(resume <= prev_index, "each conflict moves back");
        self.probe_from(resume.max(self.matched + 1));
    }

    pub(super) fn assert_invariants(&self, last_index: u64) {
        assert!(self.matched < self.next, "what matches is not sent again");
        assert!(self.matched <= last_index && self.next <= last_index + 1, "only what is held is sent");
        assert!(self.inflight.is_empty() == (self.inflight_bytes == 0), "bytes in flight are counted right");
        assert!(
            self.inflight.is_empty() || self.state == ProgressState::Replicate,
            "else nothing is in flight"
        );
        assert!(self.outgoing.is_some() == (self.state == ProgressState::Snapshot), "a snapshot has a state");
    }
}

/// From where to try again after a conflict at `prev_index`: past the last entry of ours whose term is at most the peer's term there, since
/// none of the peer's before has a greater one. So each try passes over a whole term (paper, end of 5.3). O(log n).
fn resume_after(tail: &Tail, prev_index: u64, hint_term: u64, hint_index: u64) -> u64 {
    let floor = hint_index.min(prev_index).max(1);
    if hint_term == 0 {
        return floor;
    }
    let (mut low, mut high) = (floor, prev_index);
    while low < high {
        let middle = low + (high - low) / 2;
        // What is no longer held is older than all that is.
        if tail.term_at(middle).is_none_or(|term| term <= hint_term) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl Raft {
    pub(super) fn on_append_reply(
        &mut self,
        from: NodeId,
        round: u64,
        outcome: AppendOutcome,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        let last_index = self.tail.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let newest = leader.rounds.newest();
        let Some(peer) = leader.peer_mut(from) else { return };
        peer.heard(round, newest, now_ns);
        match outcome {
            AppendOutcome::Match { index } if index > last_index => self.counters.refused_contradictions += 1,
            AppendOutcome::Match { index } => {
                if peer.matches(index) {
                    self.advance_commit(out);
                }
            }
            AppendOutcome::Conflict { prev_index, .. } if prev_index == 0 || prev_index > last_index => {
                self.counters.refused_contradictions += 1;
            }
            AppendOutcome::Conflict { prev_index, hint_term, hint_index } => {
                self.counters.conflicts_answered += 1;
                let resume = resume_after(&self.tail, prev_index, hint_term, hint_index);
                peer.conflicts(prev_index, resume);
            }
        }
        self.confirm_rounds(out);
    }

    /// Sends each peer what is new to it, in few frames.
    pub(super) fn flush_appends(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &mut self.state else { return };
        let round = leader.rounds.newest();
        let (base, last) = (self.tail.base(), self.tail.last());
        for peer in &mut leader.peers {
            for _ in 0..FRAMES_PER_FLUSH {
                let config = &self.config;
                if peer.next > last.index || !peer.may_send(config.max_inflight, config.max_inflight_bytes) {
                    break;
                }
                if peer.next <= base.index {
                    peer.begin_snapshot();
                    self.counters.snapshots_begun += 1;
                    out.snapshot_out(SnapshotRead { to: peer.id, chunk: 0 });
                    break;
                }
                let prev_term = self.tail.term_at(peer.next - 1).expect("the next entry is in the tail");
                let prev = Position { index: peer.next - 1, term: prev_term };
                let (entries, bytes) = frame(&self.tail, peer.next, config.max_append_bytes);
                let last_index = prev.index + entries.len() as u64;
                assert!(last_index <= last.index, "only what is in the log is sent");
                assert!(prev.index >= peer.matched, "what matches is not sent again");
                let body = Body::Append { prev, entries, commit: self.commit, round };
                let message = super::Message { term: self.hard.term, incarnation: config.incarnation, body };
                // Early: the followers' disks may be faster than ours. A leader that loses these entries in a crash returns as a
                // follower; its own copy was not counted, and theirs are as good as anybody's (thesis, 10.2.1).
                out.send_early(peer.id, message);
                peer.sent(last_index, bytes, now_ns);
            }
        }
    }
}

/// The entries from `next` on, up to `max_bytes`, at least one; and their bytes.
fn frame(tail: &Tail, next: u64, max_bytes: usize) -> (Vec<keypact_log::Entry>, usize) {
    let slots = tail.slots_from(next).expect("the next entry is in the tail");
    let mut entries = Vec::with_capacity(slots.size_hint().0.min(1024));
    let mut bytes = 0;
    for slot in slots {
        let len_bytes = slot.entry.len_bytes();
        if !entries.is_empty() && bytes + len_bytes > max_bytes {
            break;
        }
        bytes += len_bytes;
        entries.push(slot.entry.clone());
    }
    assert!(!entries.is_empty(), "there is something to send");
    (entries, bytes)
}
