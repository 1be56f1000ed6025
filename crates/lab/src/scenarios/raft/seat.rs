//! A member, and beside it an operator who changes the members, as one protocol.
//!
//! An operator acts where his member leads: he admits who asks, makes voters of learners, removes voters, hands leadership over. Who is no
//! member asks to be one: a node that lost its disk, under its new incarnation; a node that was removed, or was never one.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_coordination::raft::{
    Body, Change, Config, Message, OPERATOR, Raft, Record, Recovering, Role, Seat as RaftSeat, Timer,
};
use keypact_protocol::{
    Context, DecodeError, Delivery, Incarnation, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Reply,
    Sink, SnapshotChunk, SnapshotRead, Wire,
};
use keypact_simulator::{MILLISECOND_NS, Random, Standing};

/// What a seat is told, in every life.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// The member.
    pub raft: Config,
    /// All nodes, members or not.
    pub nodes: Vec<NodeId>,
    /// How often operators act, milliseconds; 0: never.
    pub operator_ms: u64,
}

/// What nodes say to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberMessage {
    /// The members.
    Raft(Message),
    /// Who is no member, to all: under this incarnation I want to be one.
    Asks {
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// Leader to who is no member: you are none.
    Outside,
}

impl Wire for MemberMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MemberMessage::Raft(message) => {
                out.push(0);
                message.encode(out);
            }
            MemberMessage::Asks { incarnation } => {
                out.push(1);
                out.extend_from_slice(&incarnation.0.to_le_bytes());
            }
            MemberMessage::Outside => out.push(2),
        }
    }

    fn decode(bytes: Bytes) -> Result<MemberMessage, DecodeError> {
        match (bytes.first(), bytes.get(1..9)) {
            (Some(0), _) => Ok(MemberMessage::Raft(Message::decode(bytes.slice(1..))?)),
            (Some(1), Some(life)) => {
                let incarnation = Incarnation(u64::from_le_bytes(life.try_into().expect("eight bytes")));
                Ok(MemberMessage::Asks { incarnation })
            }
            (Some(2), _) => Ok(MemberMessage::Outside),
            _ => Err(DecodeError::new("what a node says")),
        }
    }
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberRecord {
    /// Of the member.
    Raft(Record),
    /// What an empty folder begins with: who this node is from now on.
    Born(Incarnation),
}

impl Wire for MemberRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MemberRecord::Raft(record) => {
                out.push(0);
                record.encode(out);
            }
            MemberRecord::Born(incarnation) => {
                out.push(1);
                out.extend_from_slice(&incarnation.0.to_le_bytes());
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<MemberRecord, DecodeError> {
        match (bytes.first(), bytes.get(1..9)) {
            (Some(0), _) => Ok(MemberRecord::Raft(Record::decode(bytes.slice(1..))?)),
            (Some(1), Some(life)) => {
                let life = u64::from_le_bytes(life.try_into().expect("eight bytes"));
                Ok(MemberRecord::Born(Incarnation(life)))
            }
            _ => Err(DecodeError::new("whose record it is")),
        }
    }
}

/// A timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberTimer {
    /// Of the member.
    Raft(Timer),
    /// Of the operator.
    Tick,
}

/// What operators did, and how it went.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct OperatorCounts {
    pub(super) begun: u64,
    pub(super) refused: u64,
    pub(super) readmitted: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Member {
    raft: Raft,
    operator: Operator,
}

#[derive(Debug)]
struct Operator {
    nodes: Vec<NodeId>,
    tick_ns: u64,
    random: Random,
    /// Who asked to be a member since this one began to lead.
    asked: BTreeMap<NodeId, Incarnation>,
    /// A leader said that this one is no member, and none has spoken since as to one.
    outside: bool,
    counts: OperatorCounts,
}

impl Member {
    /// The member.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn counts(&self) -> OperatorCounts {
        self.operator.counts
    }

    /// What the simulator must know of members that come and go.
    #[must_use]
    pub fn standing() -> Standing<Member> {
        Standing {
            first_record: |losses| MemberRecord::Born(Incarnation(losses + 1)),
            caught_up: |member| {
                let raft = &member.raft;
                raft.seat() == Some(RaftSeat::Voter) && raft.commit_index() >= raft.membership_index()
            },
            // Who took itself out may have delivered what the others do not yet know to be committed, until one who does leads them.
            takes_part: |member| !member.raft.membership().members().is_empty() && !member.operator.outside,
        }
    }

    fn give(&mut self, input: Input<Raft>, context: Context, out: &mut impl Sink<Member>) {
        self.raft.handle(input, context, &mut MemberSink { out });
    }

    fn hear(&mut self, from: NodeId, message: MemberMessage, context: Context, out: &mut impl Sink<Member>) {
        match message {
            MemberMessage::Raft(message) => {
                let leads = matches!(message.body, Body::Append { .. } | Body::Snapshot { .. });
                self.operator.outside &= !leads;
                self.give(Input::Message { from, message }, context, out);
            }
            MemberMessage::Asks { incarnation } => {
                if self.raft.role() == Role::Leader {
                    self.operator.asked.insert(from, incarnation);
                }
            }
            MemberMessage::Outside => self.operator.outside = true,
        }
    }

    fn tick(&mut self, context: Context, out: &mut impl Sink<Member>) {
        let gap_ns = self.operator.tick_ns;
        let next_ns = context.now_ns + gap_ns / 2 + self.operator.random.below(gap_ns);
        out.set_timer(MemberTimer::Tick, next_ns);
        let incarnation = self.raft.config().incarnation;
        if self.raft.role() != Role::Leader {
            self.operator.asked.clear();
            if self.raft.seat().is_none() || self.operator.outside {
                let own = self.raft.config().id;
                for node in self.operator.nodes.iter().filter(|node| **node != own) {
                    out.send(*node, MemberMessage::Asks { incarnation });
                }
            }
            return;
        }
        let membership = self.raft.membership();
        // Once it knows all that was ever committed.
        let knows_all = self.raft.term_start().is_some_and(|start| self.raft.commit_index() >= start);
        for node in self.operator.nodes.iter().filter(|node| membership.member(**node).is_none()) {
            if *node != self.raft.config().id && knows_all {
                out.send(*node, MemberMessage::Outside);
            }
        }
        let Some(body) = self.operator.wish(&self.raft) else { return };
        let begins = matches!(body, Body::Change(_));
        let before = *self.raft.counters();
        let message = Message { term: 0, incarnation: Incarnation(0), body };
        self.give(Input::Message { from: OPERATOR, message }, context, out);
        if self.raft.counters().changes_refused > before.changes_refused {
            self.operator.counts.refused += 1;
        } else {
            self.operator.counts.begun += u64::from(begins);
        }
    }
}

impl Operator {
    /// What the operator wants now, if anything. Three voters stay, unless one of them lost its disk and must go to come back.
    fn wish(&mut self, raft: &Raft) -> Option<Body> {
        let membership = raft.membership();
        if self.random.chance(500_000) {
            for (node, incarnation) in &self.asked {
                if let Some(change) = membership.step_towards(*node, *incarnation) {
                    self.counts.readmitted += u64::from(incarnation.0 > 1);
                    return Some(Body::Change(change));
                }
            }
        }
        let voters = || membership.members().iter().filter(|m| m.seat == RaftSeat::Voter).map(|m| m.id);
        let learners: Vec<NodeId> =
            membership.members().iter().filter(|m| m.seat == RaftSeat::Learner).map(|m| m.id).collect();
        let mut voters: Vec<NodeId> = voters().collect();
        if self.random.chance(200_000) {
            return Some(Body::Transfer { to: self.random.pick(&voters) });
        }
        // All learners at once; and as many voters go as may.
        let mut change = Change::default();
        let mut count = voters.len();
        let promotes = !learners.is_empty() && self.random.chance(700_000);
        if promotes {
            change = learners.iter().fold(change, |change, node| change.promote(*node));
            count += learners.len();
        }
        let removes = self.random.chance(400_000);
        while removes && count > 3 && !voters.is_empty() {
            let at = self.random.index(voters.len());
            change = change.remove(voters.swap_remove(at));
            count -= 1;
            if self.random.chance(300_000) {
                break;
            }
        }
        (change != Change::default()).then_some(Body::Change(change))
    }
}

impl Protocol for Member {
    type Config = MemberConfig;
    type Message = MemberMessage;
    type Record = MemberRecord;
    type Timer = MemberTimer;
    type Recovery = MemberRecovering;

    fn begin(
        config: MemberConfig,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<MemberRecovering, RecoveryError> {
        config.raft.validate().map_err(|error| RecoveryError { what: error.what(), lsn: Lsn::ZERO })?;
        Ok(MemberRecovering { config, checkpoint, seed, recovering: None })
    }

    fn handle(&mut self, input: Input<Member>, context: Context, out: &mut impl Sink<Member>) {
        match input {
            Input::Start => {
                if self.operator.tick_ns > 0 {
                    out.set_timer(MemberTimer::Tick, context.now_ns + self.operator.tick_ns);
                }
                self.give(Input::Start, context, out);
            }
            Input::Message { from, message } => self.hear(from, message, context, out),
            Input::Timer(MemberTimer::Raft(timer)) => self.give(Input::Timer(timer), context, out),
            Input::Timer(MemberTimer::Tick) => self.tick(context, out),
            Input::Durable(lsn) => self.give(Input::Durable(lsn), context, out),
            Input::Request(request) => self.give(Input::Request(request), context, out),
            Input::Unreachable(peer) => self.give(Input::Unreachable(peer), context, out),
            Input::Snapshot(input) => self.give(Input::Snapshot(input), context, out),
            Input::Compact => self.give(Input::Compact, context, out),
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Member>) {
        self.raft.flush(context, &mut MemberSink { out });
    }

    fn assert_invariants(&self) {
        self.raft.assert_invariants();
        assert!(self.operator.asked.len() <= self.operator.nodes.len(), "only nodes ask");
    }
}

/// A member on its way back. Its first record may say that it is another than its configuration says.
#[derive(Debug)]
pub struct MemberRecovering {
    config: MemberConfig,
    checkpoint: Option<Bytes>,
    seed: u64,
    recovering: Option<Recovering>,
}

impl MemberRecovering {
    fn recovering(&mut self) -> Result<&mut Recovering, RecoveryError> {
        if self.recovering.is_none() {
            let begun = Raft::begin(self.config.raft.clone(), self.checkpoint.take(), self.seed)?;
            self.recovering = Some(begun);
        }
        Ok(self.recovering.as_mut().expect("it has just begun"))
    }
}

impl Recover<Member> for MemberRecovering {
    fn replay(&mut self, lsn: Lsn, record: MemberRecord) -> Result<(), RecoveryError> {
        match record {
            MemberRecord::Born(incarnation) if self.recovering.is_none() => {
                self.config.raft.incarnation = incarnation;
                self.config.raft.members.clear();
                Ok(())
            }
            MemberRecord::Born(_) => Err(RecoveryError { what: "born twice", lsn }),
            MemberRecord::Raft(record) => self.recovering()?.replay(lsn, record),
        }
    }

    fn finish(mut self) -> Member {
        let seed = self.seed;
        self.recovering().expect("the configuration and the checkpoint's meta were understood before");
        let operator = Operator {
            nodes: self.config.nodes,
            tick_ns: self.config.operator_ms * MILLISECOND_NS,
            random: Random::new(seed ^ 0x6f70_6572),
            asked: BTreeMap::new(),
            outside: false,
            counts: OperatorCounts::default(),
        };
        Member { raft: self.recovering.expect("begun above").finish(), operator }
    }
}

/// The member's sink: tags and forwards. What is said to the operator is counted by its parent.
struct MemberSink<'a, S> {
    out: &'a mut S,
}

impl<S: Sink<Member>> Sink<Raft> for MemberSink<'_, S> {
    fn append(&mut self, record: Record) -> Lsn {
        self.out.append(MemberRecord::Raft(record))
    }

    #[inline]
    fn send(&mut self, to: NodeId, message: Message) {
        if to != OPERATOR {
            self.out.send(to, MemberMessage::Raft(message));
        }
    }

    #[inline]
    fn send_early(&mut self, to: NodeId, message: Message) {
        if to != OPERATOR {
            self.out.send_early(to, MemberMessage::Raft(message));
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.out.reply(reply);
    }

    fn reply_early(&mut self, reply: Reply) {
        self.out.reply_early(reply);
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.out.deliver(delivery);
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        self.out.deliver_early(delivery);
    }

    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.out.set_timer(MemberTimer::Raft(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer) {
        self.out.cancel_timer(MemberTimer::Raft(timer));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.out.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.out.drop_log_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.out.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.out.snapshot_in(chunk);
    }
}
