//! A member, and on one node the catalog beside it, as one protocol: both share the node's log, as they will in a whole node.

use std::collections::VecDeque;

use bytes::Bytes;
use keypact_protocol::{
    Context, DecodeError, Delivery, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Reply, Sink,
    SnapshotChunk, SnapshotRead, Wire,
};
use keypact_replication::chain::{Body, CATALOG, Chain, Config, Layout, Message, Record, Recovering, Timer};

use super::catalog::{Catalog, CatalogConfig, CatalogRecord, Wishes};

/// What a seat is told, in every life.
#[derive(Clone, Debug)]
pub struct ChainSeatConfig {
    /// The member.
    pub member: Config,
    /// Where the catalog is.
    pub catalog_at: NodeId,
    /// The catalog, if it is here.
    pub catalog: Option<CatalogConfig>,
}

/// A record of either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChainSeatRecord {
    /// Of the member.
    Member(Record),
    /// Of the catalog.
    Catalog(CatalogRecord),
}

impl Wire for ChainSeatRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ChainSeatRecord::Member(record) => {
                out.push(0);
                record.encode(out);
            }
            ChainSeatRecord::Catalog(record) => {
                out.push(1);
                record.encode(out);
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<ChainSeatRecord, DecodeError> {
        match bytes.first() {
            Some(0) => Ok(ChainSeatRecord::Member(Record::decode(bytes.slice(1..))?)),
            Some(1) => Ok(ChainSeatRecord::Catalog(CatalogRecord::decode(bytes.slice(1..))?)),
            _ => Err(DecodeError::new("whose record it is")),
        }
    }
}

/// A timer of either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChainSeatTimer {
    /// Of the member.
    Member(Timer),
    /// Of the catalog.
    Tick,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ChainSeat {
    member: Chain,
    catalog: Option<Catalog>,
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
    catalog_record: Option<Lsn>,
}

impl ChainSeat {
    /// The member.
    #[must_use]
    pub fn member(&self) -> &Chain {
        &self.member
    }

    pub(super) fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    /// The layout, if the catalog is here and its disk knows it.
    pub(super) fn settled_layout(&self) -> Option<&Layout> {
        let settled = self.wiring.catalog_record.is_none_or(|record| record <= self.wiring.durable);
        self.catalog.as_ref().filter(|_| settled).map(Catalog::layout)
    }

    fn give_member(&mut self, input: Input<Chain>, context: Context, out: &mut impl Sink<ChainSeat>) {
        self.member.handle(input, context, &mut MemberSink { wiring: &mut self.wiring, out });
    }

    /// Carries out what the catalog wants.
    fn grant(&mut self, wishes: Wishes, out: &mut impl Sink<ChainSeat>) {
        if let Some(record) = wishes.record {
            let lsn = out.append(ChainSeatRecord::Catalog(record));
            self.wiring.last_append = lsn;
            self.wiring.catalog_record = Some(lsn);
        }
        for (to, message) in wishes.messages {
            if to == self.wiring.id {
                self.wiring.local.push_back((self.wiring.last_append, message));
            } else {
                out.send(to, message);
            }
        }
    }

    fn hear(&mut self, from: NodeId, message: Message, context: Context, out: &mut impl Sink<ChainSeat>) {
        match message.body {
            Body::Synced { .. } | Body::Renew { .. } => {
                let Some(catalog) = &mut self.catalog else { return };
                let wishes = catalog.hear(from, &message, context.now_ns);
                self.grant(wishes, out);
            }
            Body::Assign { .. } | Body::Grant { .. } => {
                assert!(from == self.wiring.catalog_at, "only the catalog says so");
                self.give_member(Input::Message { from: CATALOG, message }, context, out);
            }
            _ => self.give_member(Input::Message { from, message }, context, out),
        }
    }

    fn hear_local(&mut self, context: Context, out: &mut impl Sink<ChainSeat>) {
        while self.wiring.local.front().is_some_and(|(lsn, _)| *lsn <= self.wiring.durable) {
            let (_, message) = self.wiring.local.pop_front().expect("front was there");
            self.hear(self.wiring.id, message, context, out);
        }
    }
}

impl Protocol for ChainSeat {
    type Config = ChainSeatConfig;
    type Message = Message;
    type Record = ChainSeatRecord;
    type Timer = ChainSeatTimer;
    type Recovery = ChainSeatRecovering;

    fn begin(
        config: ChainSeatConfig,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<ChainSeatRecovering, RecoveryError> {
        let wiring = Wiring {
            id: config.member.id,
            catalog_at: config.catalog_at,
            tick_ns: config.catalog.as_ref().map_or(0, CatalogConfig::tick_ns),
            local: VecDeque::new(),
            durable: Lsn::ZERO,
            last_append: Lsn::ZERO,
            catalog_record: None,
        };
        let member = Chain::begin(config.member, checkpoint, seed)?;
        Ok(ChainSeatRecovering { member, catalog: config.catalog.map(Catalog::new), wiring })
    }

    fn handle(&mut self, input: Input<ChainSeat>, context: Context, out: &mut impl Sink<ChainSeat>) {
        match input {
            Input::Start => {
                self.give_member(Input::Start, context, out);
                if let Some(catalog) = &mut self.catalog {
                    catalog.start(context.now_ns);
                    out.set_timer(ChainSeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                }
            }
            Input::Timer(ChainSeatTimer::Tick) => {
                if let Some(catalog) = &mut self.catalog {
                    out.set_timer(ChainSeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                    let wishes = catalog.tick(context.now_ns);
                    self.grant(wishes, out);
                }
            }
            Input::Timer(ChainSeatTimer::Member(timer)) => {
                self.give_member(Input::Timer(timer), context, out)
            }
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

    fn flush(&mut self, context: Context, out: &mut impl Sink<ChainSeat>) {
        self.member.flush(context, &mut MemberSink { wiring: &mut self.wiring, out });
    }

    fn assert_invariants(&self) {
        self.member.assert_invariants();
        assert!(self.wiring.local.len() < 10_000, "what waits for the disk is bounded by time");
    }
}

/// A seat on its way back.
#[derive(Debug)]
pub struct ChainSeatRecovering {
    member: Recovering,
    catalog: Option<Catalog>,
    wiring: Wiring,
}

impl Recover<ChainSeat> for ChainSeatRecovering {
    fn replay(&mut self, lsn: Lsn, record: ChainSeatRecord) -> Result<(), RecoveryError> {
        (self.wiring.durable, self.wiring.last_append) = (lsn, lsn);
        match (record, &mut self.catalog) {
            (ChainSeatRecord::Member(record), _) => self.member.replay(lsn, record),
            (ChainSeatRecord::Catalog(record), Some(catalog)) => {
                self.wiring.catalog_record = Some(lsn);
                catalog.replay(record);
                Ok(())
            }
            (ChainSeatRecord::Catalog(_), None) => {
                Err(RecoveryError { what: "a catalog's record elsewhere", lsn })
            }
        }
    }

    fn finish(self) -> ChainSeat {
        ChainSeat { member: self.member.finish(), catalog: self.catalog, wiring: self.wiring }
    }
}

/// The member's sink: tags and forwards.
struct MemberSink<'a, S> {
    wiring: &'a mut Wiring,
    out: &'a mut S,
}

impl<S: Sink<ChainSeat>> MemberSink<'_, S> {
    /// Who is meant by a node's number; `None`: the catalog on this node.
    fn target(&self, to: NodeId) -> Option<NodeId> {
        let to = if to == CATALOG { self.wiring.catalog_at } else { to };
        (to != self.wiring.id).then_some(to)
    }
}

impl<S: Sink<ChainSeat>> Sink<Chain> for MemberSink<'_, S> {
    fn append(&mut self, record: Record) -> Lsn {
        self.wiring.last_append = self.out.append(ChainSeatRecord::Member(record));
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
        self.out.set_timer(ChainSeatTimer::Member(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer) {
        self.out.cancel_timer(ChainSeatTimer::Member(timer));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.out.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.out.drop_log_before(self.wiring.catalog_record.map_or(lsn, |kept| kept.min(lsn)));
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.out.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.out.snapshot_in(chunk);
    }
}
