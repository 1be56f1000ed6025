//! Elections: pre-votes and votes, asked and given (paper, 5.2 and 5.4.1; thesis, 4.2.3 and 9.6).

use keypact_log::Position;
use keypact_protocol::{Context, Incarnation, NodeId, Plant, Sink, planted};
use rand::RngExt;

use super::config::ns;
use super::membership::{Active, Votes};
use super::{Body, Raft, State, Timer};

/// After a hint that the leader is gone, members wait this much longer at random than the election time-out, milliseconds. Far shorter than
/// the usual jitter: a split vote costs less than waiting, since pre-votes raise no term.
const HINT_JITTER_MS: u64 = 30;

/// Who said yes, and since when they are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    granted: Votes,
    /// When the asking began.
    since_ns: u64,
}

impl Ballot {
    fn new(since_ns: u64) -> Ballot {
        Ballot { granted: Votes::default(), since_ns }
    }

    fn grant(&mut self, place: usize) {
        self.granted.add(place);
    }

    fn decides(self, active: &Active) -> bool {
        self.granted.decide(active)
    }

    pub(super) fn assert_invariants(self, active: &Active) {
        self.granted.assert_invariants(active);
    }
}

impl Raft {
    pub(super) fn start(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(matches!(self.state, State::Follower), "every life begins as a follower");
        if core::mem::take(&mut self.reset_owed) {
            self.append_reset(now_ns, out);
        }
        // A start counts as having just heard a leader: the life before may have heard one up to now, and that leader's lease relies on
        // this member's silence for a whole election time-out.
        self.last_contact_ns = now_ns;
        self.timeout_ns = self.draw_timeout_ns();
        self.election_due_ns = now_ns + self.timeout_ns;
        out.set_timer(Timer::Election, self.election_due_ns);
        if self.waits_for_nobody() {
            self.campaign(now_ns, out);
        }
    }

    /// Whether this member decides alone and is known to: no leader of before can still hold a lease then. A configuration that makes it the
    /// sole voter and is not known to be committed may come from a leader that it takes out, which goes on until it learns of the commit,
    /// and answers reads by a lease that relies on this member's silence.
    fn waits_for_nobody(&self) -> bool {
        self.active.is_alone() && self.active.index <= self.commit
    }

    pub(super) fn draw_timeout_ns(&mut self) -> u64 {
        let jitter_ns = self.rng.random_range(0..=ns(self.config.election_jitter_ms));
        self.config.election_timeout_ns() + jitter_ns
    }

    /// Whether a leader was heard so lately that its lease may still hold. Then this member neither campaigns nor votes.
    pub(super) fn hears_leader(&self, now_ns: u64) -> bool {
        match &self.state {
            State::Leader(leader) => {
                leader.heard_quorum_ns(now_ns, &self.active) + self.config.election_timeout_ns() > now_ns
            }
            _ => now_ns < self.last_contact_ns + self.config.election_timeout_ns(),
        }
    }

    pub(super) fn on_election_timer(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.is_leader() {
            return;
        }
        if !self.may_campaign() {
            return self.wait_for_leader(now_ns, out);
        }
        // The timer is looked after only when it fires; a message from the leader just notes the time.
        let mut due_ns = self.election_due_ns;
        if !self.waits_for_nobody() {
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

    /// Who has a vote; and who had one before the last configuration of its log, while that is not known to be committed. It may be the only
    /// one that has it, and then the others, who go by the one before, can't decide without it. Its own vote does not count (thesis, 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let before = self.memberships.len().checked_sub(2).map(|at| &self.memberships[at].1);
        let own = before.and_then(|before| before.member(self.config.id));
        let own = own.filter(|own| own.incarnation == self.config.incarnation);
        let voted = own.is_some_and(|own| own.seat.votes() || own.seat.voted());
        self.active.has_vote() || self.active.index > self.commit && voted
    }

    /// Who may not campaign only notes that the leader is silent.
    fn wait_for_leader(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(!self.may_campaign(), "who may campaign does");
        if now_ns >= self.last_contact_ns + self.timeout_ns {
            self.leader = None;
            self.state = State::Follower;
        }
        self.rearm_election(now_ns, out);
    }

    /// Asks who would vote. Nothing changes until a majority would.
    fn campaign(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.disk_hangs(now_ns) || self.is_installing() {
            return self.hold_campaign_back(now_ns, out);
        }
        assert!(!self.is_leader(), "a leader does not campaign");
        assert!(
            self.waits_for_nobody() || now_ns >= self.last_contact_ns + self.config.election_timeout_ns(),
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
        if let Some(place) = self.own_place() {
            ballot.grant(place);
        }
        self.state = State::PreCandidate(ballot);
        // Tries again soon: the others may have heard the leader a little later than this member.
        let heartbeat_ns = self.config.heartbeat_ns();
        let retry_ns = heartbeat_ns / 2 + self.rng.random_range(0..=heartbeat_ns);
        self.election_due_ns = now_ns + retry_ns;
        out.set_timer(Timer::Election, self.election_due_ns);
        if ballot.decides(&self.active) {
            return self.become_candidate(false, now_ns, out);
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

    /// Asks for votes. `transfer` says that the leader wants it so.
    pub(super) fn become_candidate(&mut self, transfer: bool, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(self.may_campaign(), "only who may decide campaigns");
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
        let message = self.message(Body::Vote { last: self.tail.last(), transfer });
        // Held until the vote for itself is durable; it counts from then on, too.
        self.broadcast(&message, |peer, message| out.send(peer, message));
    }

    pub(super) fn count_own_vote(&mut self, context: Context, out: &mut impl Sink<Raft>) {
        if !self.disk.hard_is_durable() {
            return;
        }
        self.count_vote(self.own_place(), context, out);
    }

    fn count_vote(&mut self, place: Option<usize>, context: Context, out: &mut impl Sink<Raft>) {
        let State::Candidate(ballot) = &mut self.state else { return };
        if let Some(place) = place {
            ballot.grant(place);
        }
        // The own vote is among them only once it is durable.
        if ballot.decides(&self.active) && self.disk.hard_is_durable() {
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
        let free = self.may_vote() && next_term > self.hard.term;
        let granted = free && self.is_up_to_date(last) && !self.hears_leader(now_ns);
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
        let place = self.place_of(from);
        let State::PreCandidate(ballot) = &mut self.state else { return };
        if !granted || next_term != self.hard.term + 1 {
            return;
        }
        ballot.grant(place);
        if ballot.decides(&self.active) {
            self.become_candidate(false, now_ns, out);
        }
    }

    pub(super) fn on_vote(
        &mut self,
        (from, candidate): (NodeId, Incarnation),
        term: u64,
        last: Position,
        transfer: bool,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        if term < self.hard.term {
            self.counters.refused_stale += 1;
            let reply = self.message(Body::VoteReply { granted: false, candidate });
            out.send(from, reply);
            return;
        }
        if !transfer && self.hears_leader(now_ns) {
            self.counters.votes_withheld += 1;
            return;
        }
        let newer = term > self.hard.term;
        let free = newer || self.hard.voted_for.is_none_or(|voted| voted == from);
        let granted = free && self.may_vote() && self.is_up_to_date(last);
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
        let reply = self.message(Body::VoteReply { granted, candidate });
        out.send(from, reply);
    }

    pub(super) fn on_vote_reply(
        &mut self,
        from: NodeId,
        granted: bool,
        candidate: Incarnation,
        context: Context,
        out: &mut impl Sink<Raft>,
    ) {
        // A life before this one may have asked; its log was another.
        if granted && candidate == self.config.incarnation {
            self.count_vote(Some(self.place_of(from)), context, out);
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

    /// A node that lost its log has forgotten what it acknowledged and for whom it voted. Who founded the group may vote with an empty log;
    /// who came later was made a voter only once its log was not empty.
    fn may_vote(&self) -> bool {
        !self.config.members.is_empty() || self.tail.last().index > 0 || planted(Plant::LostDiskVotes)
    }

    /// Its own place in the configuration, if it has one.
    fn own_place(&self) -> Option<usize> {
        self.active.own?;
        self.active.membership.position(self.config.id)
    }

    fn place_of(&self, member: NodeId) -> usize {
        assert!(member != super::OPERATOR, "an operator has no vote");
        self.active.membership.position(member).expect("it was looked up")
    }

    fn broadcast(&self, message: &super::Message, mut send: impl FnMut(NodeId, super::Message)) {
        for member in self.active.membership.members() {
            let votes = member.seat.votes() || member.seat.voted();
            if votes && member.id != self.config.id {
                send(member.id, message.clone());
            }
        }
    }
}
