//! Leading: proposals, commitment, and giving up (paper, 5.3 and 5.4.2; thesis, 6.2 and 10.2.1).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use keypact_log::{Entry, EntryHeader, Kind};
use keypact_protocol::{Context, Draft, NodeId, Plant, Refusal, Reply, RequestId, Sink, planted};
use rand::Rng;

use super::change::Transfer;
use super::lease::Rounds;
use super::membership::{Active, SEATS_MAX};
use super::read::PendingRead;
use super::replication::Progress;
use super::{Raft, Record, State, StepDown, Timer};

/// What only a leader knows.
#[derive(Debug)]
pub(super) struct Leader {
    /// The index of the entry with which the term began. Once it is committed, the commit index is at least every earlier leader's.
    pub(super) term_start: u64,
    /// One for each other member.
    pub(super) peers: Vec<Progress>,
    pub(super) rounds: Rounds,
    /// In order of arrival, so the rounds that they wait for never fall.
    pub(super) reads: VecDeque<PendingRead>,
    /// Leadership that is being handed over.
    pub(super) transfer: Option<Transfer>,
    /// Somebody was told to campaign without waiting for the lease to end. It may be told late, so the lease stays void for this term.
    pub(super) lease_void: bool,
}

impl Leader {
    pub(super) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.id() == node)
    }

    pub(super) fn lost_connection(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.lost_connection();
        }
    }

    /// When a majority was last heard: the latest time at or after which enough voters, the leader one of them, have spoken.
    pub(super) fn heard_quorum_ns(&self, now_ns: u64, active: &Active) -> u64 {
        active.reached(now_ns, self.peers.iter().map(|peer| (peer.seat(), peer.heard_ns())))
    }

    pub(super) fn assert_invariants(&self, last_index: u64) {
        assert!(self.term_start <= last_index, "a leader never cuts its log");
        assert!(self.peers.len() <= SEATS_MAX, "one progress for each other member");
        self.rounds.assert_invariants();
        for peer in &self.peers {
            peer.assert_invariants(last_index);
        }
    }
}

impl Raft {
    pub(super) fn become_leader(&mut self, context: Context, out: &mut impl Sink<Raft>) {
        assert!(self.hard.voted_for == Some(self.config.id), "a leader voted for itself");
        assert!(self.disk.hard_is_durable(), "and that vote is durable");
        assert!(self.incoming.is_none(), "who campaigns receives no snapshot");
        let now_ns = context.now_ns;
        let term_start = self.tail.last().index + 1;
        let peers = self.active.membership.members().iter().filter(|member| member.id != self.config.id);
        let peers = peers.map(|member| Progress::new(member, term_start, now_ns)).collect();
        self.counters.leaderships += 1;
        self.leader = Some(self.config.id);
        self.state = State::Leader(alloc::boxed::Box::new(Leader {
            term_start,
            peers,
            rounds: Rounds::new(),
            reads: VecDeque::new(),
            transfer: None,
            lease_void: false,
        }));
        out.cancel_timer(Timer::Election);
        out.set_timer(Timer::Heartbeat, now_ns + self.config.heartbeat_ns());
        // An entry of its own term lets it commit what came before (5.4.2). It is let past the tail's bound, which only proposals obey.
        self.append_own(Draft::copy_of(&[]), Kind::Noop, None, context, out);
        self.want_round();
    }

    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: Draft,
        context: Context,
        out: &mut impl Sink<Raft>,
    ) {
        if !self.is_leader() {
            let leader = self.leader;
            return self.refuse(id, Refusal::NotLeader { leader }, out);
        }
        let length = command.command_len();
        if self.is_handing_over() {
            // Who takes over must have all entries, so no new one may come (thesis, 3.10).
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        if length > self.config.max_command_bytes {
            return self.refuse(id, Refusal::TooLarge, out);
        }
        if self.tail.has_room(length + keypact_protocol::HEADROOM_BYTES).is_err() {
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        self.append_own(command, Kind::Command, Some(id), context, out);
    }

    pub(super) fn append_own(
        &mut self,
        command: Draft,
        kind: Kind,
        request: Option<RequestId>,
        context: Context,
        out: &mut impl Sink<Raft>,
    ) {
        assert!(self.is_leader(), "only a leader makes entries");
        let header = EntryHeader {
            term: self.hard.term,
            index: self.tail.last().index + 1,
            stamp_ms: self.tail.next_stamp_ms(context.wall_ms),
            seed: self.rng.next_u64(),
            kind,
        };
        let entry = Entry::seal(command, header);
        let lsn = self.append(Record::Entry(entry.clone()), context.now_ns, out);
        self.tail.append(entry, lsn, request);
    }

    /// Commits what a majority has on disk. The leader's own copy counts, like any other, once it is durable (thesis, 10.2.1).
    pub(super) fn advance_commit(&mut self, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &self.state else { return };
        let matches = leader.peers.iter().map(|peer| (peer.seat(), peer.matched()));
        let index = self.active.reached(self.tail.durable_index(), matches);
        if index <= self.commit {
            return;
        }
        let term = self.tail.term_at(index).expect("past the commit index and not past the end");
        // Only an entry of its own term is committed by counting; those before it are committed with it (5.4.2, figure 8).
        if term != self.hard.term && !planted(Plant::OlderTermCommittedByCounting) {
            return;
        }
        assert!(term <= self.hard.term, "no entry is of a later term than its leader");
        let began = self.commit < leader.term_start && index >= leader.term_start;
        self.commit = index;
        self.deliver(out);
        if began {
            self.answer_confirmed_reads(out);
        }
    }

    pub(super) fn on_heartbeat_timer(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = &mut self.state else { return };
        let silent_ns = now_ns.saturating_sub(leader.heard_quorum_ns(now_ns, &self.active));
        if silent_ns > self.config.election_timeout_ns() {
            return self.step_down(StepDown::NoQuorum, now_ns, out);
        }
        if self.disk_hangs(now_ns) {
            return self.step_down(StepDown::DiskHangs, now_ns, out);
        }
        out.set_timer(Timer::Heartbeat, now_ns + self.config.heartbeat_ns());
        self.want_round();
        self.look_at_learners();
        self.look_at_transfer(now_ns);
        self.resend_snapshots(now_ns, out);
    }

    /// Stops leading, in the same term or because of a newer one. What waits is answered now: the proposals are in the log and may yet be
    /// committed by others, the reads were not answered.
    pub(super) fn step_down(&mut self, why: StepDown, now_ns: u64, out: &mut impl Sink<Raft>) {
        let State::Leader(leader) = core::mem::replace(&mut self.state, State::Follower) else {
            unreachable!("only a leader steps down");
        };
        self.leader = None;
        match why {
            StepDown::NewerTerm => self.counters.stepped_down_newer_term += 1,
            StepDown::NoQuorum => self.counters.stepped_down_no_quorum += 1,
            StepDown::DiskHangs => self.counters.stepped_down_disk_hangs += 1,
            StepDown::Removed => self.counters.stepped_down_removed += 1,
        }
        out.cancel_timer(Timer::Heartbeat);
        self.rearm_election(now_ns, out);
        let refusal = match why {
            StepDown::NoQuorum => Refusal::NoQuorum,
            StepDown::NewerTerm | StepDown::DiskHangs | StepDown::Removed => {
                Refusal::NotLeader { leader: None }
            }
        };
        for read in &leader.reads {
            self.refuse(read.id, refusal, out);
        }
        for index in self.delivered + 1..=self.tail.last().index {
            if let Some(id) = self.tail.take_request(index) {
                // Early: "uncertain" is true whatever the disk does.
                out.reply_early(Reply::Uncertain { id });
            }
        }
    }

    pub(super) fn flush_leader(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        if !self.is_leader() {
            return;
        }
        self.flush_round(now_ns, out);
        self.flush_appends(now_ns, out);
    }
}
