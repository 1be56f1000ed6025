//! A member, and on one node the catalog beside it, as one protocol: both share the node's log, as they will in a whole node.

use std::collections::VecDeque;

use bytes::Bytes;
use keypact_protocol::{
    Context, DecodeError, Delivery, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Reply, Sink,
    SnapshotChunk, SnapshotRead, Wire,
};

type Message<C> = <<C as Catalog>::Member as Protocol>::Message;
type Record<C> = <<C as Catalog>::Member as Protocol>::Record;
type Timer<C> = <<C as Catalog>::Member as Protocol>::Timer;
type Config<C> = <<C as Catalog>::Member as Protocol>::Config;
type Recovering<C> = <<C as Catalog>::Member as Protocol>::Recovery;

/// A catalog in small: decides who does what in one group. A pure value, as the members are.
pub trait Catalog: Sized {
    /// The protocol of the members.
    type Member: Protocol<Config: Clone>;
    /// What it is told, in every life.
    type Config: Clone;
    /// What it must not forget.
    type Kept: Clone + std::fmt::Debug + Wire;

    /// Under this number the members know it.
    const NODE: NodeId;

    /// The catalog at its beginning.
    fn new(config: Self::Config) -> Self;

    /// How often it acts, nanoseconds.
    fn tick_ns(config: &Self::Config) -> u64;

    /// The member's own number.
    fn member_id(config: &Config<Self>) -> NodeId;

    /// Who speaks to whom.
    fn way(message: &Message<Self>) -> Way;

    /// Takes back what it kept.
    fn replay(&mut self, kept: Self::Kept);

    /// A life begins.
    fn start(&mut self, now_ns: u64);

    /// Time to act.
    fn tick(&mut self, now_ns: u64) -> Wishes<Self>;

    /// A member speaks to it.
    fn hear(&mut self, from: NodeId, message: &Message<Self>, now_ns: u64) -> Wishes<Self>;
}

/// Who speaks to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// A member to the catalog.
    ToCatalog,
    /// The catalog to a member.
    FromCatalog,
    /// A member to a member.
    Between,
}

/// What a catalog wants done: the record is durable before a message leaves.
pub struct Wishes<C: Catalog> {
    pub(super) record: Option<C::Kept>,
    pub(super) messages: Vec<(NodeId, Message<C>)>,
}

impl<C: Catalog> Default for Wishes<C> {
    fn default() -> Self {
        Wishes { record: None, messages: Vec::new() }
    }
}

/// What a seat is told, in every life.
#[derive(Clone, Debug)]
pub struct SeatConfig<M, K> {
    /// The member.
    pub member: M,
    /// Where the catalog is.
    pub catalog_at: NodeId,
    /// The catalog, if it is here.
    pub catalog: Option<K>,
}

/// A record of either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeatRecord<M, K> {
    /// Of the member.
    Member(M),
    /// Of the catalog.
    Catalog(K),
}

impl<M: Wire, K: Wire> Wire for SeatRecord<M, K> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SeatRecord::Member(record) => {
                out.push(0);
                record.encode(out);
            }
            SeatRecord::Catalog(record) => {
                out.push(1);
                record.encode(out);
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(0) => Ok(SeatRecord::Member(M::decode(bytes.slice(1..))?)),
            Some(1) => Ok(SeatRecord::Catalog(K::decode(bytes.slice(1..))?)),
            _ => Err(DecodeError::new("whose record it is")),
        }
    }
}

/// A timer of either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeatTimer<T> {
    /// Of the member.
    Member(T),
    /// Of the catalog.
    Tick,
}

/// See the module's documentation.
pub struct Seat<C: Catalog> {
    member: C::Member,
    catalog: Option<C>,
    wiring: Wiring<Message<C>>,
}

/// What both share.
struct Wiring<M> {
    id: NodeId,
    catalog_at: NodeId,
    tick_ns: u64,
    /// Between the two of one node nothing goes over the network; but it waits for the disk all the same.
    local: VecDeque<(Lsn, M)>,
    durable: Lsn,
    last_append: Lsn,
    /// The catalog's newest record: the log is kept from here on.
    catalog_record: Option<Lsn>,
}

impl<C: Catalog> Seat<C> {
    /// The member.
    #[must_use]
    pub fn member(&self) -> &C::Member {
        &self.member
    }

    pub(super) fn catalog(&self) -> Option<&C> {
        self.catalog.as_ref()
    }

    /// The catalog, if it is here and its disk knows what it knows.
    pub(super) fn settled_catalog(&self) -> Option<&C> {
        let settled = self.wiring.catalog_record.is_none_or(|record| record <= self.wiring.durable);
        self.catalog.as_ref().filter(|_| settled)
    }

    fn give_member(&mut self, input: Input<C::Member>, context: Context, out: &mut impl Sink<Self>) {
        self.member.handle(input, context, &mut MemberSink::<C, _> { wiring: &mut self.wiring, out });
    }

    /// Carries out what the catalog wants.
    fn grant(&mut self, wishes: Wishes<C>, out: &mut impl Sink<Self>) {
        if let Some(record) = wishes.record {
            let lsn = out.append(SeatRecord::Catalog(record));
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

    fn hear(&mut self, from: NodeId, message: Message<C>, context: Context, out: &mut impl Sink<Self>) {
        match C::way(&message) {
            Way::ToCatalog => {
                let Some(catalog) = &mut self.catalog else { return };
                let wishes = catalog.hear(from, &message, context.now_ns);
                self.grant(wishes, out);
            }
            Way::FromCatalog => {
                assert!(from == self.wiring.catalog_at, "only the catalog says so");
                self.give_member(Input::Message { from: C::NODE, message }, context, out);
            }
            Way::Between => self.give_member(Input::Message { from, message }, context, out),
        }
    }

    fn hear_local(&mut self, context: Context, out: &mut impl Sink<Self>) {
        while self.wiring.local.front().is_some_and(|(lsn, _)| *lsn <= self.wiring.durable) {
            let (_, message) = self.wiring.local.pop_front().expect("front was there");
            self.hear(self.wiring.id, message, context, out);
        }
    }
}

impl<C: Catalog> Protocol for Seat<C> {
    type Config = SeatConfig<Config<C>, C::Config>;
    type Message = Message<C>;
    type Record = SeatRecord<Record<C>, C::Kept>;
    type Timer = SeatTimer<Timer<C>>;
    type Recovery = SeatRecovering<C>;

    fn begin(
        config: Self::Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<SeatRecovering<C>, RecoveryError> {
        let wiring = Wiring {
            id: C::member_id(&config.member),
            catalog_at: config.catalog_at,
            tick_ns: config.catalog.as_ref().map_or(0, C::tick_ns),
            local: VecDeque::new(),
            durable: Lsn::ZERO,
            last_append: Lsn::ZERO,
            catalog_record: None,
        };
        let member = C::Member::begin(config.member, checkpoint, seed)?;
        Ok(SeatRecovering { member, catalog: config.catalog.map(C::new), wiring })
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Start => {
                self.give_member(Input::Start, context, out);
                if let Some(catalog) = &mut self.catalog {
                    catalog.start(context.now_ns);
                    out.set_timer(SeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                }
            }
            Input::Timer(SeatTimer::Tick) => {
                if let Some(catalog) = &mut self.catalog {
                    out.set_timer(SeatTimer::Tick, context.now_ns + self.wiring.tick_ns);
                    let wishes = catalog.tick(context.now_ns);
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

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.member.flush(context, &mut MemberSink::<C, _> { wiring: &mut self.wiring, out });
    }

    fn assert_invariants(&self) {
        self.member.assert_invariants();
        assert!(self.wiring.local.len() < 10_000, "what waits for the disk is bounded by time");
    }
}

/// A seat on its way back.
pub struct SeatRecovering<C: Catalog> {
    member: Recovering<C>,
    catalog: Option<C>,
    wiring: Wiring<Message<C>>,
}

impl<C: Catalog> Recover<Seat<C>> for SeatRecovering<C> {
    fn replay(&mut self, lsn: Lsn, record: SeatRecord<Record<C>, C::Kept>) -> Result<(), RecoveryError> {
        (self.wiring.durable, self.wiring.last_append) = (lsn, lsn);
        match (record, &mut self.catalog) {
            (SeatRecord::Member(record), _) => self.member.replay(lsn, record),
            (SeatRecord::Catalog(record), Some(catalog)) => {
                self.wiring.catalog_record = Some(lsn);
                catalog.replay(record);
                Ok(())
            }
            (SeatRecord::Catalog(_), None) => {
                Err(RecoveryError { what: "a catalog's record elsewhere", lsn })
            }
        }
    }

    fn finish(self) -> Seat<C> {
        Seat { member: self.member.finish(), catalog: self.catalog, wiring: self.wiring }
    }
}

/// The member's sink: tags and forwards.
struct MemberSink<'a, C: Catalog, S> {
    wiring: &'a mut Wiring<Message<C>>,
    out: &'a mut S,
}

impl<C: Catalog, S: Sink<Seat<C>>> MemberSink<'_, C, S> {
    /// Who is meant by a node's number; `None`: the catalog on this node.
    fn target(&self, to: NodeId) -> Option<NodeId> {
        let to = if to == C::NODE { self.wiring.catalog_at } else { to };
        (to != self.wiring.id).then_some(to)
    }
}

impl<C: Catalog, S: Sink<Seat<C>>> Sink<C::Member> for MemberSink<'_, C, S> {
    fn append(&mut self, record: Record<C>) -> Lsn {
        self.wiring.last_append = self.out.append(SeatRecord::Member(record));
        self.wiring.last_append
    }

    fn send(&mut self, to: NodeId, message: Message<C>) {
        match self.target(to) {
            Some(to) => self.out.send(to, message),
            None => self.wiring.local.push_back((self.wiring.last_append, message)),
        }
    }

    fn send_early(&mut self, to: NodeId, message: Message<C>) {
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

    fn set_timer(&mut self, timer: Timer<C>, at_ns: u64) {
        self.out.set_timer(SeatTimer::Member(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer<C>) {
        self.out.cancel_timer(SeatTimer::Member(timer));
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
