//! A member, and on one node the catalog beside it, as one protocol: both share the node's log, as they will in a whole node.

use std::collections::VecDeque;

use bytes::Bytes;
use keypact_protocol::{
    Context, DecodeError, Delivery, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Reply, Sink,
    SnapshotChunk, SnapshotRead, Wire,
};
use keypact_replication::leader_follower::{
    Body, CATALOG, Config, LeaderFollower, Message, Record, Recovering, Timer,
};

use super::assigner::{Assigner, AssignerConfig, AssignerRecord, Wishes};

/// What a seat is told, in every life.
#[derive(Clone, Debug)]
pub struct SeatConfig {
    /// The member.
    pub member: Config,
    /// Where the catalog is.
    pub catalog_at: NodeId,
    /// The catalog, if it is here.
    pub assigner: Option<AssignerConfig>,
}

/// A record of either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeatRecord {
    /// Of the member.
    Member(Record),
    /// Of the catalog.
    Assigner(AssignerRecord),
}

impl Wire for SeatRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SeatRecord::Member(record) => {
                out.push(0);
                record.encode(out);
            }
            SeatRecord::Assigner(record) => {
                out.push(1);
                record.encode(out);
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<SeatRecord, DecodeError> {
        match bytes.first() {
            Some(0) => Ok(SeatRecord::Member(Record::decode(bytes.slice(1..))?)),
            Some(1) => Ok(SeatRecord::Assigner(AssignerRecord::decode(bytes.slice(1..))?)),
            _ => Err(DecodeError::new("whose record it is")),
        }
    }
}

/// A timer of either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeatTimer {
    /// Of the member.
    Member(Timer),
    /// Of the catalog.
    Tick,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Seat {
    member: LeaderFollower,
    assigner: Option<Assigner>,
    wiring: Wiring,
}

/// What both share.
#[derive(Debug)]
struct Wiring {
    id: NodeId,
    catalog_at: NodeId,
    tick_ns: u64,
    /// Between the two of one node nothing goes over the network; but it waits for the disk all the same.
    local: VecDeque<(Lsn, Message)>,
    durable: Lsn,
    last_append: Lsn,
    /// The catalog's newest record: the log is kept from here on.
    assigner_record: Option<Lsn>,
}

impl Seat {
    /// The member.
    #[must_use]
    pub fn member(&self) -> &LeaderFollower {
        &self.member
    }

    pub(super) fn assigner(&self) -> Option<&Assigner> {
        self.assigner.as_ref()
    }

    fn give_member(&mut self, input: Input<LeaderFollower>, context: Context, out: &mut impl Sink<Seat>) {
        self.member.handle(input, context, &mut MemberSink { wiring: &mut self.wiring, out });
    }

    /// Carries out what the catalog wants.
    fn grant(&mut self, wishes: Wishes, out: &mut impl Sink<Seat>) {
        if let Some(record) = wishes.record {
            let lsn = out.append(SeatRecord::Assigner(record));
            self.wiring.last_append = lsn;
            self.wiring.assigner_record = Some(lsn);
        }
        for (to, message) in wishes.messages {
            if to == self.wiring.id {
                self.wiring.local.push_back((self.wiring.last_append, message));
            } else {
                out.send(to, message);
            }
        }
    }

    fn hear(&mut self, from: NodeId, message: Message, context: Context, out: &mut impl Sink<Seat>) {
        match message.body {
            Body::Sealed { .. } | Body::Renew { .. } => {
                let Some(assigner) = &mut self.assigner else { return };
                let wishes = assigner.hear(from, &message, context.now_ns);
                self.grant(wishes, out);
            }
            Body::Seal | Body::Assign { .. } | Body::Grant { .. } => {
                assert!(from == self.wiring.catalog_at, "only the catalog says so");
                self.give_member(Input::Message { from: CATALOG, message }, context, out);
            }
            _ => self.give_member(Input::Message { from, message }, context, out),
        }
    }

    fn hear_local(&mut self, context: Context, out: &mut impl Sink<Seat>) {
        while self.wiring.local.front().is_some_and(|(lsn, _)| *lsn <= self.wiring.durable) {
            let (_, message) = self.wiring.local.pop_front().expect("front was there");
            self.hear(self.wiring.id, message, context, out);
        }
    }
}

impl Protocol for Seat {
    type Config = SeatConfig;
    type Message = Message;
    type Record = SeatRecord;
    type Timer = SeatTimer;
    type Recovery = SeatRecovering;

    fn begin(
        config: SeatConfig,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<SeatRecovering, RecoveryError> {
        let wiring = Wiring {
            id: config.member.id,
            catalog_at: config.catalog_at,
            tick_ns: config.assigner.as_ref().map_or(0, AssignerConfig::tick_ns),
            local: VecDeque::new(),
            durable: Lsn::ZERO,
            last_append: Lsn::ZERO,
            assigner_record: None,
        };
        let member = LeaderFollower::begin(config.member, checkpoint, seed)?;
        Ok(SeatRecovering { member, assigner: config.assigner.map(Assigner::new), wiring })
    }

    fn handle(&mut self, input: Input<Seat>, context: Context, out: &mut impl Sink<Seat>) {
        match input {
            Input::Start => {
                self.give_member(Input::Start, context, out);
                if let Some(assigner) = &mut self.assigner {
                    assigner.start(context.now_ns);
                    out.set_timer(SeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                }
            }
            Input::Timer(SeatTimer::Tick) => {
                if let Some(assigner) = &mut self.assigner {
                    out.set_timer(SeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                    let wishes = assigner.tick(context.now_ns);
                    self.grant(wishes, out);
                }
            }
            Input::Timer(SeatTimer::Member(timer)) => self.give_member(Input::Timer(timer), context, out),
            Input::Message { from, message } => self.hear(from, message, context, out),
            Input::Durable(lsn) => {
                self.wiring.durable = lsn;
                self.give_member(Input::Durable(lsn), context, out);
            }
            Input::Request(request) => self.give_member(Input::Request(request), context, out),
            Input::Unreachable(peer) => self.give_member(Input::Unreachable(peer), context, out),
            Input::Snapshot(input) => self.give_member(Input::Snapshot(input), context, out),
            Input::Compact => self.give_member(Input::Compact, context, out),
        }
        self.hear_local(context, out);
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Seat>) {
        self.member.flush(context, &mut MemberSink { wiring: &mut self.wiring, out });
    }

    fn assert_invariants(&self) {
        self.member.assert_invariants();
        assert!(self.wiring.local.len() < 10_000, "what waits for the disk is bounded by time");
    }
}

/// A seat on its way back.
#[derive(Debug)]
pub struct SeatRecovering {
    member: Recovering,
    assigner: Option<Assigner>,
    wiring: Wiring,
}

impl Recover<Seat> for SeatRecovering {
    fn replay(&mut self, lsn: Lsn, record: SeatRecord) -> Result<(), RecoveryError> {
        (self.wiring.durable, self.wiring.last_append) = (lsn, lsn);
        match (record, &mut self.assigner) {
            (SeatRecord::Member(record), _) => self.member.replay(lsn, record),
            (SeatRecord::Assigner(record), Some(assigner)) => {
                self.wiring.assigner_record = Some(lsn);
                assigner.replay(record);
                Ok(())
            }
            (SeatRecord::Assigner(_), None) => {
                Err(RecoveryError { what: "a catalog's record elsewhere", lsn })
            }
        }
    }

    fn finish(self) -> Seat {
        Seat { member: self.member.finish(), assigner: self.assigner, wiring: self.wiring }
    }
}

/// The member's sink: tags and forwards.
struct MemberSink<'a, S> {
    wiring: &'a mut Wiring,
    out: &'a mut S,
}

impl<S: Sink<Seat>> MemberSink<'_, S> {
    /// Who is meant by a node's number; `None`: the catalog on this node.
    fn target(&self, to: NodeId) -> Option<NodeId> {
        let to = if to == CATALOG { self.wiring.catalog_at } else { to };
        (to != self.wiring.id).then_some(to)
    }
}

impl<S: Sink<Seat>> Sink<LeaderFollower> for MemberSink<'_, S> {
    fn append(&mut self, record: Record) -> Lsn {
        self.wiring.last_append = self.out.append(SeatRecord::Member(record));
        self.wiring.last_append
    }

    fn send(&mut self, to: NodeId, message: Message) {
        match self.target(to) {
            Some(to) => self.out.send(to, message),
            None => self.wiring.local.push_back((self.wiring.last_append, message)),
        }
    }

    fn send_early(&mut self, to: NodeId, message: Message) {
        match self.target(to) {
            Some(to) => self.out.send_early(to, message),
            None => self.wiring.local.push_back((Lsn::ZERO, message)),
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
        self.out.set_timer(SeatTimer::Member(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer) {
        self.out.cancel_timer(SeatTimer::Member(timer));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.out.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.out.drop_log_before(self.wiring.assigner_record.map_or(lsn, |kept| kept.min(lsn)));
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.out.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.out.snapshot_in(chunk);
    }
}
