//! Elections: pre-votes and votes, asked and given (paper, 5.2 and 5.4.1; thesis, 4.2.3 and 9.6).

use keypact_log::Position;
use keypact_protocol::{Context, NodeId, Plant, Sink, planted};
use rand::RngExt;

use super::config::ns;
use super::{Body, Config, Raft, State, Timer};

/// After a hint that the leader is gone, members wait this much longer at random than the election time-out, milliseconds. Far shorter than
/// the usual jitter: a split vote costs less than waiting, since pre-votes raise no term.
const HINT_JITTER_MS: u64 = 30;

/// Who said yes, one bit a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    granted: u8,
    /// When the asking began.
    since_ns: u64,
}

impl Ballot {
    fn new(since_ns: u64) -> Ballot {
        Ballot { granted: 0, since_ns }
    }

    fn grant(&mut self, member: usize) {
        assert!(member < 8, "a group has at most seven members");
        self.granted |= 1 << member;
    }

    fn count(self) -> usize {
        self.granted.count_ones() as usize
    }

    pub(super) fn assert_invariants(self, config: &Config) {
        assert!(u32::from(self.granted) < 1 << config.members.len(), "only members vote");
    }
}

impl Raft {
    pub(super) fn start(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(matches!(self.state, State::Follower), "every life begins as a follower");
        // A start counts as having just heard a leader: the life before may have heard one up to now, and that leader's lease relies on
        // this member's silence for a whole election time-out.
        self.last_contact_ns = now_ns;
        self.timeout_ns = self.draw_timeout_ns();
        self.election_due_ns = now_ns + self.timeout_ns;
        out.set_timer(Timer::Election, self.election_due_ns);
        if self.config.members.len() == 1 {
            self.campaign(now_ns, out);
        }
    }

    pub(super) fn draw_timeout_ns(&mut self) -> u64 {
        let jitter_ns = self.rng.random_range(0..=ns(self.config.election_jitter_ms));
        self.config.election_timeout_ns() + jitter_ns
    }

    /// Whether a leader was heard so lately that its lease may still hold. Then this member neither campaigns nor votes.
    pub(super) fn hears_leader(&self, now_ns: u64) -> bool {
        match &self.state {
            State::Leader(leader) => {
                leader.heard_quorum_ns(now_ns, self.quorum) + self.config.election_timeout_ns() > now_ns
            }
            _ => now_ns < self.last_contact_ns + self.config.election_timeout_ns(),
        }
    }

    pub(super) fn on_election_timer(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.is_leader() {
            return;
        }
        // The timer is looked after only when it fires; a message from the leader just notes the time.
        let mut due_ns = self.election_due_ns;
        if self.config.members.len() > 1 {
            due_ns = due_ns.max(self.last_contact_ns + self.config.election_timeout_ns());
        }
        if self.leader.is_some() && now_ns < self.last_contact_ns + self.timeout_ns {
            self.timeout_ns = self.draw_timeout_ns();
            due_ns = due_ns.max(self.last_contact_ns + self.timeout_ns);
        }
        if now_ns < due_ns {
            out.set_timer(Timer::Election, due_ns);
            return;
        }
        self.campaign(now_ns, out);
    }

    /// Asks who would vote. Nothing changes until a majority would.
    fn campaign(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.disk_hangs(now_ns) || self.is_installing() {
            return self.hold_campaign_back(now_ns, out);
        }
        assert!(!self.is_leader(), "a leader does not campaign");
        assert!(
            self.config.members.len() == 1
                || now_ns >= self.last_contact_ns + self.config.election_timeout_ns(),
            "nobody campaigns while a lease may hold"
        );
        self.counters.pre_votes += 1;
        self.incoming = None;
        self.leader = None;
        let mut ballot = match self.state {
            // A yes does not count for ever: who gave it may have found a leader since.
            State::PreCandidate(ballot) if now_ns < ballot.since_ns + self.config.election_timeout_ns() => {
                ballot
            }
            _ => Ballot::new(now_ns),
        };
        ballot.grant(self.own_index());
        self.state = State::PreCandidate(ballot);
        // Tries again soon: the others may have heard the leader a little later than this member.
        let heartbeat_ns = self.config.heartbeat_ns();
        let retry_ns = heartbeat_ns / 2 + self.rng.random_range(0..=heartbeat_ns);
        self.election_due_ns = now_ns + retry_ns;
        out.set_timer(Timer::Election, self.election_due_ns);
        if ballot.count() >= self.quorum {
            return self.become_candidate(now_ns, out);
        }
        let body = Body::PreVote { next_term: self.hard.term + 1, last: self.tail.last() };
        let message = self.message(body);
        // Early: a pre-vote binds nobody, whatever this member forgets.
        self.broadcast(&message, |peer, message| out.send_early(peer, message));
    }

    /// Its vote could not become durable, or its state is being replaced: others shall lead.
    fn hold_campaign_back(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(!self.is_leader(), "a leader has nothing to hold back");
        self.counters.campaigns_held_back += 1;
        self.state = State::Follower;
        self.leader = None;
        self.rearm_election(now_ns, out);
    }

    fn become_candidate(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(!self.is_installing(), "a member whose state is being replaced does not campaign");
        if self.disk_hangs(now_ns) {
            // The disk stopped answering while the others were asked.
            return self.hold_campaign_back(now_ns, out);
        }
        self.counters.elections += 1;
        let id = self.config.id;
        self.set_hard(self.hard.term + 1, Some(id), now_ns, out);
        self.state = State::Candidate(Ballot::new(now_ns));
        self.election_due_ns = now_ns + self.draw_timeout_ns();
        out.set_timer(Timer::Election, self.election_due_ns);
        let message = self.message(Body::Vote { last: self.tail.last() });
        // Held until the vote for itself is durable; it counts from then on, too.
        self.broadcast(&message, |peer, message| out.send(peer, message));
    }

    pub(super) fn count_own_vote(&mut self, context: Context, out: &mut impl Sink<Raft>) {
        if !self.disk.hard_is_durable() {
            return;
        }
        let own = self.own_index();
        self.count_vote(own, context, out);
    }

    fn count_vote(&mut self, member: usize, context: Context, out: &mut impl Sink<Raft>) {
        let State::Candidate(ballot) = &mut self.state else { return };
        ballot.grant(member);
        // The own vote is among them only once it is durable.
        if ballot.count() >= self.quorum && self.disk.hard_is_durable() {
            self.become_leader(context, out);
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        from: NodeId,
        next_term: u64,
        last: Position,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        let granted = next_term > self.hard.term && self.is_up_to_date(last) && !self.hears_leader(now_ns);
        let reply = self.message(Body::PreVoteReply { next_term, granted });
        // Early: as the question, the answer binds nobody. The term in it may be forgotten, which makes it only too high.
        out.send_early(from, reply);
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        from: NodeId,
        next_term: u64,
        granted: bool,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        let member = self.config.member_index(from).expect("the sender was looked up");
        let State::PreCandidate(ballot) = &mut self.state else { return };
        if !granted || next_term != self.hard.term + 1 {
            return;
        }
        ballot.grant(member);
        if ballot.count() >= self.quorum {
            self.become_candidate(now_ns, out);
        }
    }

    pub(super) fn on_vote(
        &mut self,
        from: NodeId,
        term: u64,
        last: Position,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        if term < self.hard.term {
            self.counters.refused_stale += 1;
            let reply = self.message(Body::VoteReply { granted: false });
            out.send(from, reply);
            return;
        }
        if self.hears_leader(now_ns) {
            self.counters.votes_withheld += 1;
            return;
        }
        let newer = term > self.hard.term;
        let free = newer || self.hard.voted_for.is_none_or(|voted| voted == from);
        let granted = free && self.is_up_to_date(last);
        if newer {
            self.follow_nobody(now_ns, out);
        }
        let voted_for = if granted {
            Some(from)
        } else if newer {
            None
        } else {
            self.hard.voted_for
        };
        if newer || voted_for != self.hard.voted_for {
            if planted(Plant::VoteNotPersisted) && granted {
                if newer {
                    self.set_hard(term, None, now_ns, out);
                }
                self.hard.voted_for = voted_for;
            } else {
                self.set_hard(term, voted_for, now_ns, out);
            }
        }
        if granted {
            assert!(self.hard.term == term && self.hard.voted_for == Some(from), "the vote is noted");
            self.rearm_election(now_ns, out);
        }
        let reply = self.message(Body::VoteReply { granted });
        out.send(from, reply);
    }

    pub(super) fn on_vote_reply(
        &mut self,
        from: NodeId,
        granted: bool,
        context: Context,
        out: &mut impl Sink<Raft>,
    ) {
        let member = self.config.member_index(from).expect("the sender was looked up");
        if granted {
            self.count_vote(member, context, out);
        }
    }

    pub(super) fn on_unreachable(&mut self, peer: NodeId, now_ns: u64, out: &mut impl Sink<Raft>) {
        if let State::Leader(leader) = &mut self.state {
            leader.lost_connection(peer);
            return;
        }
        if self.leader != Some(peer) {
            return;
        }
        // Only a hint: never before a whole election time-out since the leader was heard, or its lease might still hold.
        let jitter_ns = self.rng.random_range(0..=ns(HINT_JITTER_MS));
        self.timeout_ns = self.config.election_timeout_ns() + jitter_ns;
        self.election_due_ns = now_ns.max(self.last_contact_ns + self.timeout_ns);
        out.set_timer(Timer::Election, self.election_due_ns);
    }

    /// Gives others a whole time-out before this member campaigns.
    pub(super) fn rearm_election(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        self.timeout_ns = self.draw_timeout_ns();
        self.election_due_ns = now_ns + self.timeout_ns;
        out.set_timer(Timer::Election, self.election_due_ns);
    }

    pub(super) fn own_index(&self) -> usize {
        self.config.member_index(self.config.id).expect("this node is a member")
    }

    fn broadcast(&self, message: &super::Message, mut send: impl FnMut(NodeId, super::Message)) {
        for (peer, _) in &self.config.members {
            if *peer != self.config.id {
                send(*peer, message.clone());
            }
        }
    }
}
