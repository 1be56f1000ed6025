//! A member, and on one node the catalog beside it, which changes the view again and again, as one protocol.

use bytes::Bytes;
use keypact_ordering::broadcast::{Body, Broadcast, CATALOG, Config, Order, Record, Recovering, Timer, View};
use keypact_protocol::{
    Context, Delivery, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Reply, Sink, SnapshotChunk,
    SnapshotRead,
};

/// Which views come one after the other. The same numbers give the same views, whenever they are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Views {
    /// All nodes; every last view has them all.
    pub members: Vec<NodeId>,
    /// Who is never taken out: the catalog's own node.
    pub stays: NodeId,
    /// The last view's number.
    pub last: u64,
    /// Between two views, milliseconds.
    pub period_ms: u64,
    /// Makes one seed's views different from another's.
    pub salt: u64,
}

impl Views {
    /// The view of this number.
    #[must_use]
    pub fn view(&self, number: u64) -> View {
        if number >= self.last || number.is_multiple_of(3) {
            return View::new(number, self.members.clone());
        }
        let draw = (number ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let others: Vec<NodeId> = self.members.iter().copied().filter(|node| *node != self.stays).collect();
        let out = others[(draw % others.len() as u64) as usize];
        View::new(number, self.members.iter().copied().filter(|node| *node != out).collect())
    }

    /// Whether any view up to this number took anybody out.
    #[must_use]
    pub fn take_out_any(&self, upto: u64) -> bool {
        (1..=upto.min(self.last)).any(|number| self.view(number).members.len() < self.members.len())
    }
}

/// What a node is told, in every life.
#[derive(Clone, Debug)]
pub struct DirectedConfig {
    /// The member.
    pub member: Config,
    /// The catalog, if it is here.
    pub views: Option<Views>,
}

/// A timer of either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DirectedTimer {
    /// The member's.
    Member(Timer),
    /// Time for the next view.
    Change,
}

/// One node.
#[derive(Debug)]
pub struct Directed<O: Order> {
    member: Broadcast<O>,
    views: Option<Views>,
}

impl<O: Order> Directed<O> {
    /// The member.
    #[must_use]
    pub fn member(&self) -> &Broadcast<O> {
        &self.member
    }

    fn plan_change(&self, context: Context, out: &mut impl Sink<Self>) {
        if let Some(views) = &self.views
            && self.member.view().number < views.last
        {
            out.set_timer(DirectedTimer::Change, context.now_ns + views.period_ms * 1_000_000);
        }
    }
}

impl<O: Order> Protocol for Directed<O> {
    type Config = DirectedConfig;
    type Message = Body;
    type Record = Record;
    type Timer = DirectedTimer;
    type Recovery = DirectedRecovering<O>;

    fn begin(
        config: DirectedConfig,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<DirectedRecovering<O>, RecoveryError> {
        let member = Broadcast::<O>::begin(config.member, checkpoint, seed)?;
        Ok(DirectedRecovering { member, views: config.views })
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        let input = match input {
            Input::Start => {
                self.plan_change(context, out);
                Input::Start
            }
            Input::Timer(DirectedTimer::Change) => {
                let next = self.member.view().number + 1;
                let Some(views) = &self.views else { return };
                let view = views.view(next);
                let message = Input::Message { from: CATALOG, message: Body::View(view) };
                self.member.handle(message, context, &mut Tagged(out));
                return self.plan_change(context, out);
            }
            Input::Timer(DirectedTimer::Member(timer)) => Input::Timer(timer),
            Input::Message { from, message } => Input::Message { from, message },
            Input::Request(request) => Input::Request(request),
            Input::Durable(lsn) => Input::Durable(lsn),
            Input::Unreachable(peer) => Input::Unreachable(peer),
            Input::Snapshot(input) => Input::Snapshot(input),
            Input::Compact => Input::Compact,
        };
        self.member.handle(input, context, &mut Tagged(out));
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.member.flush(context, &mut Tagged(out));
    }

    fn assert_invariants(&self) {
        self.member.assert_invariants();
    }
}

/// A node on its way back.
#[derive(Debug)]
pub struct DirectedRecovering<O: Order> {
    member: Recovering<O>,
    views: Option<Views>,
}

impl<O: Order> Recover<Directed<O>> for DirectedRecovering<O> {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        self.member.replay(lsn, record)
    }

    fn finish(self) -> Directed<O> {
        Directed { member: self.member.finish(), views: self.views }
    }
}

/// The member's sink: tags its timer and forwards.
struct Tagged<'a, S>(&'a mut S);

impl<O: Order, S: Sink<Directed<O>>> Sink<Broadcast<O>> for Tagged<'_, S> {
    fn append(&mut self, record: Record) -> Lsn {
        self.0.append(record)
    }

    fn send(&mut self, to: NodeId, message: Body) {
        self.0.send(to, message);
    }

    fn send_early(&mut self, to: NodeId, message: Body) {
        self.0.send_early(to, message);
    }

    fn reply(&mut self, reply: Reply) {
        self.0.reply(reply);
    }

    fn reply_early(&mut self, reply: Reply) {
        self.0.reply_early(reply);
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.0.deliver(delivery);
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        self.0.deliver_early(delivery);
    }

    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.0.set_timer(DirectedTimer::Member(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: Timer) {
        self.0.cancel_timer(DirectedTimer::Member(timer));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.0.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.0.drop_log_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.0.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.0.snapshot_in(chunk);
    }
}
