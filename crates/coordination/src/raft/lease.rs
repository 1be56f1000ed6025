//! Confirmation rounds, and the lease that they give (thesis, 6.4 and 6.4.1).
//!
//! A round is a number that the leader raises when it wants to know whether it still leads. It travels in heartbeats and appends and comes
//! back in their replies. A majority that answered round *r* took this leader for the leader at some time after *r* began; so every read
//! that came before *r* began may be answered. And since none of that majority helps another to lead within an election time-out by its own
//! clock, the leader leads alone for that long, less what the clocks may differ, counted from when the round *began*.

use alloc::collections::VecDeque;

use keypact_protocol::{NodeId, Plant, Sink, planted};

use super::{Body, Raft, State};

/// How many unanswered rounds a leader remembers. While this many are out, reads wait for the next heartbeat's.
const ROUNDS_MAX: usize = 64;

/// The rounds of one leadership.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The newest round that began; they count from 1.
    newest: u64,
    /// Rounds not yet confirmed, and when they began.
    open: VecDeque<(u64, u64)>,
    /// The newest round that a majority answered.
    confirmed: u64,
    /// When the newest confirmed round began.
    confirmed_since_ns: Option<u64>,
    /// A round shall begin with the next flush.
    wanted: bool,
    /// And must, even if too many are open: a heartbeat is due.
    due: bool,
}

impl Rounds {
    pub(super) fn new() -> Rounds {
        Rounds {
            newest: 0,
            open: VecDeque::with_capacity(ROUNDS_MAX),
            confirmed: 0,
            confirmed_since_ns: None,
            wanted: false,
            due: false,
        }
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The round that serves a read which arrives now: the next to begin.
    pub(super) fn for_new_read(&mut self) -> u64 {
        self.wanted = true;
        self.newest + 1
    }

    fn begin(&mut self, now_ns: u64) -> bool {
        if !self.due && (!self.wanted || self.open.len() >= ROUNDS_MAX) {
            return false;
        }
        if self.open.len() >= ROUNDS_MAX {
            // Forgetting one only gives away the lease that it might have brought.
            self.open.pop_front();
        }
        self.newest += 1;
        self.open.push_back((self.newest, now_ns));
        self.wanted = false;
        self.due = false;
        true
    }

    /// A majority answered `round`. Whether that is news.
    fn confirm(&mut self, round: u64) -> bool {
        assert!(round <= self.newest, "only rounds that began are answered");
        if round <= self.confirmed {
            return false;
        }
        self.confirmed = round;
        while let Some((open, since_ns)) = self.open.front().copied() {
            if open > round {
                break;
            }
            self.confirmed_since_ns = Some(since_ns);
            self.open.pop_front();
        }
        true
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.confirmed <= self.newest, "only rounds that began are confirmed");
        assert!(self.open.len() <= ROUNDS_MAX, "few rounds are open");
        assert!(self.open.front().is_none_or(|(round, _)| *round > self.confirmed), "open: not confirmed");
    }
}

impl Raft {
    /// Begins a round with the next flush, however many are open.
    pub(super) fn want_round(&mut self) {
        if let State::Leader(leader) = &mut self.state {
            leader.rounds.due = true;
        }
    }

    pub(super) fn flush_round(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let (term, incarnation) = (self.hard.term, self.config.incarnation);
        let State::Leader(leader) = &mut self.state else { return };
        if !leader.rounds.begin(now_ns) {
            return;
        }
        let round = leader.rounds.newest;
        for peer in &leader.peers {
            let commit = self.commit.min(peer.matched());
            let body = Body::Heartbeat { commit, round };
            // Early: the term is durable since before the election, and what is committed is durable on a majority.
            out.send_early(peer.id(), super::Message { term, incarnation, body });
        }
        self.confirm_rounds(out);
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        from: NodeId,
        round: u64,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        let resend_ns = self.config.resend_ns();
        let State::Leader(leader) = &mut self.state else { return };
        let newest = leader.rounds.newest;
        let Some(peer) = leader.peer_mut(from) else { return };
        peer.heard(round, newest, now_ns);
        peer.retry_if_lost(now_ns, resend_ns);
        self.confirm_rounds(out);
    }

    /// Looks how far a majority has answered, and serves the reads that this confirms.
    pub(super) fn confirm_rounds(&mut self, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &mut self.state else { return };
        let answered = leader.peers.iter().map(|peer| (peer.seat(), peer.round()));
        let round = self.active.reached(leader.rounds.newest, answered);
        if leader.rounds.confirm(round) {
            self.answer_confirmed_reads(out);
        }
    }

    /// Until when this member leads alone, if it leads and a majority answered.
    pub(super) fn lease_until_ns(&self) -> Option<u64> {
        let State::Leader(leader) = &self.state else { return None };
        if leader.lease_void {
            return None;
        }
        let since_ns = leader.rounds.confirmed_since_ns?;
        let timeout_ns = self.config.election_timeout_ns();
        let margin_ns = timeout_ns / 1_000_000 * self.config.drift_bound_ppm;
        assert!(margin_ns < timeout_ns, "the drift bound leaves a lease");
        Some(since_ns + (timeout_ns - margin_ns))
    }

    pub(super) fn holds_lease(&self, now_ns: u64) -> bool {
        match self.lease_until_ns() {
            Some(_) if planted(Plant::LeaseIgnoresPause) => true,
            Some(until_ns) => now_ns < until_ns,
            None => false,
        }
    }
}
