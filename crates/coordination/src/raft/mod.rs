//! Raft: one leader at a time orders a group's commands; a command is committed once it is durable on a majority.
//!
//! *What it guarantees.* All members deliver the same commands in the same order, without gaps. A delivered command is never lost while a
//! majority of the members' disks lives. A linearizable read sees every command that was delivered anywhere before it began.
//!
//! *From.* Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), and Ongaro's thesis, "Consensus: Bridging
//! Theory and Practice" (2014), whose sections are named where they are followed. `docs/protocols/raft.md` says where we differ.
//!
//! ```text
//!              time out, nobody leads           majority would vote             majority voted, durably
//!  ┌──────────┐ ─────────────────▶ ┌──────────────┐ ──────────────▶ ┌───────────┐ ──────────────▶ ┌────────┐
//!  │ follower │                    │ pre-candidate │                 │ candidate │                 │ leader │
//!  └──────────┘ ◀───────────────── └──────────────┘ ◀────────────── └───────────┘                 └────────┘
//!        ▲         leader heard,                        time out            │                           │
//!        │         newer term                                               │ leader heard, newer term  │
//!        └──────────────────────────────────────────────────────────────────┴───────────────────────────┘
//!                                                        newer term, no majority heard, disk hangs
//! ```
//!
//! *Reading order.* `config`, `message`, `record`; here the dispatch; then `candidate`, `follower`, `leader`; `replication` (what a leader
//! knows of each peer), `read` and `lease`, `snapshot`, `disk`, `recovery`; `membership` (who votes) and `change` (how that changes, and how
//! leadership is handed over); `status` is what others may see.

mod candidate;
mod change;
mod config;
mod disk;
mod follower;
pub mod invariants;
mod leader;
mod lease;
mod membership;
mod message;
mod read;
mod record;
mod recovery;
mod replication;
mod snapshot;
mod status;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Kind, Position, Tail};
use keypact_protocol::{
    Context, Input, Lsn, NodeId, Plant, Protocol, RecoveryError, Refusal, Reply, Request, Sink, planted,
};
use rand_chacha::ChaCha8Rng;

use candidate::Ballot;
use disk::Disk;
use leader::Leader;
use membership::Active;
use snapshot::Incoming;

pub use config::{Config, ConfigError, MEMBERS_MAX};
pub use invariants::{RaftInvariants, Violation};
pub use membership::{Change, ChangeRefusal, LEARNERS_MAX, Member, Membership, Seat};
pub use message::{AppendOutcome, Body, CHUNK_BYTES_MAX, META_BYTES_MAX, Message, SnapshotOutcome};
pub use record::{HardState, Record};
pub use recovery::Recovering;
pub use replication::ProgressState;
pub use status::{Counters, PeerStatus, Role};

/// Whose word a [`Body::Change`] or [`Body::Transfer`] is: an operator's, whom the parent speaks for. The answer is sent to this id.
pub const OPERATOR: NodeId = NodeId(0);

/// The timers of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time to see whether a leader is there, and to campaign if not.
    Election,
    /// Time for a leader to speak to its peers, and to see whether it still has a majority and a disk.
    Heartbeat,
}

/// One member of a group.
///
/// Invariants: `tail.base <= delivered <= commit <= tail.last`; the term is never below the last entry's; a leader voted for itself, and
/// its vote is durable; requests stand in the tail only while this member leads.
#[derive(Debug)]
pub struct Raft {
    config: Config,
    /// Configurations by the index of their entry, oldest first: the one that was in use at the tail's base, and all in the tail. Rule of
    /// both papers: the last one is in use, committed or not.
    memberships: Vec<(u64, Membership)>,
    /// The one in use.
    active: Active,
    rng: ChaCha8Rng,
    hard: HardState,
    tail: Tail,
    disk: Disk,
    /// The highest index known to be durable on a majority.
    commit: u64,
    /// The highest index given to the parent.
    delivered: u64,
    state: State,
    leader: Option<NodeId>,
    /// When a live leader was last heard, or this member started.
    last_contact_ns: u64,
    /// How long this member now waits for its leader before it campaigns.
    timeout_ns: u64,
    /// Before this it does not campaign in any case.
    election_due_ns: u64,
    /// The snapshot that is being received.
    incoming: Option<Incoming>,
    /// A checkpoint is being written.
    checkpoint_pending: bool,
    /// The node asked for a shorter log.
    compact_wanted: bool,
    /// The log found at the start does not lead up to the checkpoint: a record must say that it is void.
    reset_owed: bool,
    counters: Counters,
}

#[derive(Debug)]
enum State {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Box<Leader>),
}

/// Why a leader stops leading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StepDown {
    NewerTerm,
    NoQuorum,
    DiskHangs,
    Removed,
}

impl Protocol for Raft {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering;

    fn begin(config: Config, checkpoint: Option<Bytes>, seed: u64) -> Result<Recovering, RecoveryError> {
        Recovering::begin(config, checkpoint, seed)
    }

    fn handle(&mut self, input: Input<Raft>, context: Context, out: &mut impl Sink<Raft>) {
        match input {
            Input::Start => self.start(context.now_ns, out),
            Input::Message { from: OPERATOR, message } => self.on_operator(message.body, context, out),
            Input::Message { from, message } => self.on_message(from, message, context, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, command, context, out),
            Input::Request(Request::Read { id, level } | Request::ReadKey { id, level, .. }) => {
                self.on_read(id, level, context.now_ns, out)
            }
            Input::Timer(Timer::Election) => self.on_election_timer(context.now_ns, out),
            Input::Timer(Timer::Heartbeat) => self.on_heartbeat_timer(context.now_ns, out),
            Input::Durable(lsn) => self.on_durable(lsn, context, out),
            Input::Unreachable(peer) => self.on_unreachable(peer, context.now_ns, out),
            Input::Snapshot(input) => self.on_snapshot_input(input, context.now_ns, out),
            Input::Compact => self.compact_wanted = true,
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Raft>) {
        self.flush_change(context, out);
        self.flush_leader(context.now_ns, out);
        self.flush_checkpoint(context.now_ns, out);
    }

    fn assert_invariants(&self) {
        self.tail.assert_invariants();
        let last = self.tail.last();
        assert!(self.tail.base().index <= self.delivered, "a checkpoint holds only what was delivered");
        assert!(self.delivered <= self.commit, "only committed entries are delivered");
        assert!(self.commit <= last.index, "what is committed is in the log");
        assert!(last.term <= self.hard.term, "no entry is of a term not yet known");
        self.disk.assert_invariants();
        self.assert_membership();
        match &self.state {
            State::Follower => {
                assert!(self.leader != Some(self.config.id), "a follower follows somebody else");
            }
            State::PreCandidate(ballot) => {
                assert!(self.leader.is_none(), "who has a leader does not campaign");
                ballot.assert_invariants(&self.active);
            }
            State::Candidate(ballot) => {
                assert!(self.leader.is_none(), "who has a leader does not campaign");
                assert!(self.hard.voted_for == Some(self.config.id), "a candidate votes for itself");
                ballot.assert_invariants(&self.active);
            }
            State::Leader(leader) => {
                assert!(self.leader == Some(self.config.id), "a leader knows that it leads");
                assert!(self.hard.voted_for == Some(self.config.id), "a leader voted for itself");
                assert!(self.incoming.is_none(), "a leader receives no snapshot");
                leader.assert_invariants(last.index);
                assert!(
                    leader.peers.len() + usize::from(self.active.own.is_some())
                        == self.active.membership.members().len(),
                    "a leader follows each member's progress"
                );
            }
        }
    }
}

impl Raft {
    fn on_message(&mut self, from: NodeId, message: Message, context: Context, out: &mut impl Sink<Raft>) {
        if !self.hears(from, &message) {
            self.counters.refused_strangers += 1;
            return;
        }
        let now_ns = context.now_ns;
        let Message { term, incarnation, body } = message;
        // Requests for votes are judged before their term is believed: a member that hears a leader must not let a stranger to that
        // leader raise the term (thesis, 4.2.3).
        match body {
            Body::PreVote { next_term, last } => return self.on_pre_vote(from, next_term, last, now_ns, out),
            Body::Vote { last, transfer } => {
                let candidate = (from, incarnation);
                return self.on_vote(candidate, term, last, transfer, now_ns, out);
            }
            // Who would vote may well be behind in terms; the term that it answers about is in the answer.
            Body::PreVoteReply { next_term, granted } if term <= self.hard.term => {
                return self.on_pre_vote_reply(from, next_term, granted, now_ns, out);
            }
            _ => {}
        }
        if term < self.hard.term {
            return self.on_stale(from, &body, out);
        }
        if term > self.hard.term {
            self.adopt_term(term, now_ns, out);
        }
        assert!(term == self.hard.term, "from here on both are in one term");
        match body {
            Body::PreVote { .. } | Body::Vote { .. } => unreachable!("answered above"),
            // It brought a newer term, and with that has done its work.
            Body::PreVoteReply { .. } => {}
            Body::VoteReply { granted, candidate } => {
                self.on_vote_reply(from, granted, candidate, context, out);
            }
            Body::Append { prev, entries, commit, round } => {
                if self.follow(from, now_ns, out) {
                    self.on_append(from, prev, entries, commit, round, now_ns, out);
                }
            }
            Body::Heartbeat { commit, round } => {
                if self.follow(from, now_ns, out) {
                    self.on_heartbeat(from, commit, round, out);
                }
            }
            Body::Snapshot { chunk } => {
                if self.follow(from, now_ns, out) {
                    self.on_snapshot_chunk(from, chunk, out);
                }
            }
            Body::AppendReply { round, outcome } => self.on_append_reply(from, round, outcome, now_ns, out),
            Body::HeartbeatReply { round } => self.on_heartbeat_reply(from, round, now_ns, out),
            Body::SnapshotReply { index, outcome } => {
                self.on_snapshot_reply(from, index, outcome, now_ns, out);
            }
            Body::TimeoutNow => self.on_timeout_now(from, now_ns, out),
            Body::Change(_) | Body::Transfer { .. } | Body::Answer(_) => {
                self.counters.refused_contradictions += 1;
            }
        }
    }

    /// Whether to listen. What answers or counts must come from a member under its incarnation. What asks is heard of anybody but a life
    /// that is known to be over: a member that is behind may not know its leader, or that a candidate has become one, and answering
    /// leaves the counting to who asked (thesis, 4.1).
    fn hears(&self, from: NodeId, message: &Message) -> bool {
        match self.active.membership.member(from) {
            _ if from == self.config.id => false,
            Some(member) if member.incarnation == message.incarnation => true,
            Some(_) if planted(Plant::LostDiskVotes) => true,
            Some(member) => message.incarnation > member.incarnation && message.body.asks(),
            None => message.body.asks(),
        }
    }

    /// Refuses a message of an old term. A leader of an old term is told the new one, or else a member that once raised its term could
    /// stay deaf to a leader that everybody else follows.
    fn on_stale(&mut self, from: NodeId, body: &Body, out: &mut impl Sink<Raft>) {
        self.counters.refused_stale += 1;
        if matches!(body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. }) {
            let reply = self.message(Body::HeartbeatReply { round: 0 });
            out.send(from, reply);
        }
    }

    fn on_durable(&mut self, lsn: Lsn, context: Context, out: &mut impl Sink<Raft>) {
        self.disk.durable(lsn, context.now_ns);
        self.tail.durable(lsn);
        self.drop_log_if_safe(out);
        match &self.state {
            State::Leader(_) => self.advance_commit(out),
            State::Candidate(_) => self.count_own_vote(context, out),
            State::Follower | State::PreCandidate(_) => {}
        }
    }

    /// Gives the parent what is committed and not yet delivered. Not while a snapshot is taking the place of the parent's state: what is
    /// delivered then would be lost in it.
    fn deliver(&mut self, out: &mut impl Sink<Raft>) {
        if self.is_installing() {
            return;
        }
        while self.delivered < self.commit {
            self.delivered += 1;
            let request = self.tail.take_request(self.delivered);
            let slot = self.tail.slot(self.delivered).expect("what is committed is in the tail");
            let header = slot.entry.header();
            // Early: the entry is durable on a majority. Should this member lose power now, it loses the parent's state with it, and
            // delivers the entry again once it hears again that it is committed.
            out.deliver_early(keypact_protocol::Delivery {
                index: header.index,
                stamp_ms: header.stamp_ms,
                seed: header.seed,
                command: if header.kind == Kind::Command { slot.entry.command() } else { Bytes::new() },
                request,
            });
        }
    }

    fn message(&self, body: Body) -> Message {
        Message { term: self.hard.term, incarnation: self.config.incarnation, body }
    }

    fn refuse(&self, id: keypact_protocol::RequestId, why: Refusal, out: &mut impl Sink<Raft>) {
        // Early: a refusal says that nothing was written, which no crash can make untrue.
        out.reply_early(Reply::Refused { id, why });
    }

    fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    fn is_installing(&self) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| incoming.is_installing())
    }

    /// Whether a log that ends at `last` holds at least what this one does (paper, 5.4.1).
    fn is_up_to_date(&self, last: Position) -> bool {
        let own = self.tail.last();
        (last.term, last.index) >= (own.term, own.index)
    }
}
