//! Changing the members, and handing leadership over (paper, section 6; thesis, 3.10 and chapter 4).
//!
//! ```text
//!  stable, committed ── Change ──▶ joint, in the log ── committed ──▶ settled, in the log ── committed ──▶ stable
//!         │                                                                                  a leader without a seat steps down
//!         └─ Change of learners only ──▶ settled, in the log ── committed ──▶ stable
//! ```
//! Every member uses the last configuration of its log. The leader begins a change only when the one before is committed, and an entry of
//! its own term is: before that it does not know what its predecessors began.

use bytes::Bytes;
use keypact_log::Kind;
use keypact_protocol::{Context, Draft, NodeId, Plant, Sink, planted};

use super::membership::Active;
use super::replication::Progress;
use super::{Body, Change, ChangeRefusal, Membership, OPERATOR, Raft, Seat, State, StepDown};

/// Leadership that is being handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    /// Then it is given up.
    until_ns: u64,
    /// It was told, since the last heartbeat.
    told: bool,
}

impl Raft {
    pub(super) fn on_operator(&mut self, body: Body, context: Context, out: &mut impl Sink<Raft>) {
        let outcome = match body {
            Body::Change(change) => self.on_change(&change, context, out),
            Body::Transfer { to } => self.on_transfer(to, context.now_ns),
            _ => {
                self.counters.refused_contradictions += 1;
                return;
            }
        };
        self.counters.changes_refused += u64::from(outcome.is_err());
        let answer = self.message(Body::Answer(outcome));
        // Early: it says that a change has begun, not that it will come about.
        out.send_early(OPERATOR, answer);
    }

    fn on_change(
        &mut self,
        change: &Change,
        context: Context,
        out: &mut impl Sink<Raft>,
    ) -> Result<(), ChangeRefusal> {
        self.may_begin()?;
        let next = self.active.membership.changed(change)?;
        self.may_follow(change, &next, context.now_ns)?;
        self.append_membership(next, context, out);
        Ok(())
    }

    fn may_begin(&self) -> Result<(), ChangeRefusal> {
        let State::Leader(leader) = &self.state else {
            let leader = self.leader.map_or(0, |leader| leader.0);
            return Err(ChangeRefusal::NotLeader { leader });
        };
        if leader.transfer.is_some() || self.active.joint {
            return Err(ChangeRefusal::UnderWay);
        }
        if planted(Plant::ChangeBeforeOwnCommit) {
            return Ok(());
        }
        if self.commit < leader.term_start {
            return Err(ChangeRefusal::NotReady);
        }
        if self.active.index > self.commit { Err(ChangeRefusal::UnderWay) } else { Ok(()) }
    }

    /// Whether the nodes are in a state to follow: who shall vote has the entries, and enough of the new voters are there to decide.
    fn may_follow(&self, change: &Change, next: &Membership, now_ns: u64) -> Result<(), ChangeRefusal> {
        let State::Leader(leader) = &self.state else { unreachable!("looked at before") };
        let peer = |node: NodeId| leader.peers.iter().find(|peer| peer.id() == node);
        let patience_ns = self.config.election_timeout_ns() * 2;
        let alive = |peer: &Progress| peer.heard_ns() + patience_ns > now_ns;
        for node in change.promoted() {
            let peer = peer(node).expect("a learner is a peer");
            if peer.missing() > 0 || peer.matched() == 0 || !alive(peer) {
                return Err(ChangeRefusal::NotCaughtUp { node: node.0, missing: peer.missing() });
            }
        }
        if next.is_joint() {
            let settled = next.settled();
            // Whoever has acknowledged nothing to this leader was not heard yet: it only counts as heard at the election, so that it gets time.
            let follows = |peer: &Progress| alive(peer) && peer.matched() > 0;
            let lives = |node| node == self.config.id || peer(node).is_some_and(follows);
            let voters = settled.members().iter().filter(|member| member.seat == Seat::Voter);
            let alive = voters.filter(|member| lives(member.id)).count();
            let quorum = settled.quorum();
            if alive < quorum {
                return Err(ChangeRefusal::WouldLoseQuorum { alive: alive as u64, quorum: quorum as u64 });
            }
        }
        Ok(())
    }

    /// Puts a configuration into the log, and uses it from now on.
    fn append_membership(&mut self, next: Membership, context: Context, out: &mut impl Sink<Raft>) {
        assert!(self.is_leader(), "only a leader begins a change");
        if next.is_joint() {
            self.counters.joint_configurations += 1;
        } else {
            self.counters.settled_configurations += 1;
        }
        assert!(
            self.active.joint != next.is_joint() || !self.active.joint,
            "a joint configuration is followed by its end"
        );
        self.append_own(Draft::copy_of(&next.encode()), Kind::Membership, None, context, out);
        self.memberships.push((self.tail.last().index, next));
        self.use_last_membership();
        self.seat_peers(context.now_ns);
    }

    /// Uses the last configuration of the log.
    pub(super) fn use_last_membership(&mut self) {
        let (index, membership) = self.memberships.last().expect("there is always one");
        if self.active.index == *index && self.active.membership == *membership {
            return;
        }
        if *index < self.active.index {
            self.counters.configurations_undone += 1;
        }
        let plant = planted(Plant::ConfigurationBeforeLogged);
        let membership = if plant { membership.settled() } else { membership.clone() };
        assert!(*index <= self.tail.last().index, "a configuration in use is in the log");
        self.active = Active::new(membership, *index, self.config.id, self.config.incarnation);
    }

    /// Gives every member of the configuration in use a progress, and keeps those of who stays.
    fn seat_peers(&mut self, now_ns: u64) {
        // The entry that brings a member is the first to be sent to it: what it lacks is found by its answer.
        let next = self.tail.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let membership = &self.active.membership;
        leader.peers.retain(|peer| membership.member(peer.id()).is_some());
        assert!(next >= 1, "an entry brought the configuration");
        for member in membership.members() {
            if member.id == self.config.id {
                continue;
            }
            match leader.peer_mut(member.id) {
                Some(peer) => peer.sit(member.seat),
                None => leader.peers.push(Progress::new(member, next, now_ns)),
            }
        }
    }

    /// The configuration that was in use up to `index`.
    pub(super) fn membership_at(&self, index: u64) -> &Membership {
        let before = self.memberships.iter().rev().find(|(at, _)| *at <= index);
        &before.expect("the base's is kept").1
    }

    /// A checkpoint holds all up to `base`.
    pub(super) fn forget_memberships_before(&mut self, base: u64) {
        let kept = self.memberships.iter().rposition(|(at, _)| *at <= base);
        self.memberships.drain(..kept.expect("the base's is kept"));
        assert!(!self.memberships.is_empty(), "one configuration is always in use");
    }

    /// A snapshot took the place of all up to `base`; `members` is its configuration. If that is empty no entry up to `base` holds one, so the
    /// first that this member knows still stands; what its own log held since then is not the group's.
    pub(super) fn take_memberships(&mut self, base: u64, members: &Bytes) {
        assert!(self.tail.base().index == base, "the tail begins with the snapshot");
        let last = self.tail.last().index;
        let membership = match Membership::decode(members) {
            Ok(membership) => membership,
            Err(_) => self.memberships[0].1.clone(),
        };
        self.counters.configurations_by_snapshot += u64::from(membership != *self.membership_at(base));
        self.memberships.retain(|(at, _)| *at > base && *at <= last);
        self.memberships.insert(0, (base, membership));
        assert!(self.memberships.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of the log");
        self.use_last_membership();
    }

    /// What a commit lets happen: a joint configuration comes to its end; a leader without a seat goes. And a transfer goes on.
    pub(super) fn flush_change(&mut self, context: Context, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &self.state else { return };
        let stays = self.active.own == Some(Seat::Voter) && !self.active.joint;
        if stays && leader.transfer.is_none() {
            return;
        }
        let committed = self.active.index <= self.commit && self.commit >= leader.term_start;
        let joint = self.active.joint;
        if joint && (committed || planted(Plant::ChangeBeforeOwnCommit)) {
            self.counters.changes_inherited += u64::from(self.active.index < leader.term_start);
            self.append_membership(self.active.membership.settled(), context, out);
        } else if !stays && !joint && committed {
            return self.leave(context.now_ns, out);
        }
        self.hand_over(context.now_ns, out);
    }

    /// The configuration without this leader is committed: it stops, and the voter that has the most campaigns at once.
    fn leave(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &self.state else { unreachable!("looked at before") };
        assert!(!self.active.has_vote(), "who has a vote stays");
        assert!(self.active.index <= self.commit, "only a committed configuration takes a leader out");
        let voters = leader.peers.iter().filter(|peer| peer.seat() == Seat::Voter);
        let heir = voters.max_by_key(|peer| (peer.matched(), peer.heard_ns())).map(Progress::id);
        if let Some(heir) = heir {
            self.tell(heir, out);
        }
        self.step_down(StepDown::Removed, now_ns, out);
    }

    fn on_transfer(&mut self, to: NodeId, now_ns: u64) -> Result<(), ChangeRefusal> {
        let patience_ns = self.config.election_timeout_ns();
        let own = self.config.id;
        let follows = self.leader.map_or(0, |leader| leader.0);
        let seat = self.active.membership.member(to).map(|member| member.seat);
        let State::Leader(leader) = &mut self.state else {
            return Err(ChangeRefusal::NotLeader { leader: follows });
        };
        if leader.transfer.is_some() {
            return Err(ChangeRefusal::UnderWay);
        }
        if to == own {
            return Err(ChangeRefusal::AlreadyMember { node: to.0 });
        }
        match seat {
            None => return Err(ChangeRefusal::NotMember { node: to.0 }),
            Some(seat) if !seat.votes() => return Err(ChangeRefusal::WrongSeat { node: to.0 }),
            Some(_) => {}
        }
        let peer = leader.peer_mut(to).expect("a voter is a peer");
        if peer.missing() > 0 || peer.heard_ns() + patience_ns <= now_ns {
            return Err(ChangeRefusal::NotCaughtUp { node: to.0, missing: peer.missing() });
        }
        assert!(to != OPERATOR && to != own, "another voter takes over");
        leader.transfer = Some(Transfer { to, until_ns: now_ns + patience_ns, told: false });
        Ok(())
    }

    /// Tells the heir to campaign, once it has all entries.
    fn hand_over(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let last = self.tail.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(Transfer { to, until_ns, told }) = leader.transfer else { return };
        let has_all = leader.peer_mut(to).is_some_and(|peer| peer.matched() == last);
        if has_all && !told && now_ns < until_ns {
            leader.transfer = Some(Transfer { to, until_ns, told: true });
            self.tell(to, out);
        }
    }

    fn tell(&mut self, to: NodeId, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &mut self.state else { unreachable!("only a leader hands over") };
        leader.lease_void = true;
        self.counters.transfers_told += 1;
        let message = self.message(Body::TimeoutNow);
        // Early: it asks for a campaign, which needs votes like any other.
        out.send_early(to, message);
    }

    pub(super) fn is_handing_over(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if leader.transfer.is_some())
    }

    /// A heartbeat has passed.
    pub(super) fn look_at_transfer(&mut self, now_ns: u64) {
        let State::Leader(leader) = &mut self.state else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        // What was said may be lost.
        transfer.told = false;
        if now_ns >= transfer.until_ns {
            leader.transfer = None;
            self.counters.transfers_given_up += 1;
        }
    }

    /// A heartbeat has passed: who has all that was in the log at the one before has caught up.
    pub(super) fn look_at_learners(&mut self) {
        let last = self.tail.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        leader.peers.iter_mut().for_each(|peer| peer.aim(last));
    }

    /// The leader wants this member to lead.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, now_ns: u64, out: &mut impl Sink<Raft>) {
        if self.is_leader() || self.leader != Some(from) {
            return;
        }
        if !self.may_campaign() || self.is_installing() || self.disk_hangs(now_ns) {
            self.counters.campaigns_held_back += 1;
            return;
        }
        self.counters.campaigns_by_transfer += 1;
        self.leader = None;
        self.incoming = None;
        self.become_candidate(true, now_ns, out);
    }

    pub(super) fn assert_membership(&self) {
        let (index, _) = self.memberships.last().expect("one configuration is always in use");
        assert!(self.active.index == *index, "the last configuration of the log is in use");
        assert!(self.memberships[0].0 <= self.tail.base().index, "the base's configuration is kept");
        assert!(*index <= self.tail.last().index, "a configuration in use is in the log");
        assert!(self.memberships.len() <= self.tail.len() + 1, "one configuration an entry, and the base's");
    }
}
