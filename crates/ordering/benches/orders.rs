//! Time per message in the machines alone: three members, every one of which broadcasts; links and disks take no time.
//! `cargo bench -p keypact-ordering`

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keypact_ordering::broadcast::{self, Broadcast, Order};
use keypact_ordering::causal::CausalOrder;
use keypact_ordering::fifo::FifoOrder;
use keypact_ordering::total::sequencer::{self, Body, CATALOG};
use keypact_ordering::total::{self, Message, Sequenced};
use keypact_protocol::{
    Context, Delivery, Draft, Input, Lsn, NodeId, Protocol, Recover, Reply, Request, RequestId, Sink,
    SnapshotChunk, SnapshotRead,
};

const MEMBERS: u64 = 3;
const MESSAGES: u64 = 300;
/// So many are broadcast between two flushes.
const BATCH: u64 = 10;

/// What one member does.
struct Effects<P: Protocol> {
    lsn: u64,
    sent: Vec<(NodeId, P::Message)>,
    delivered: u64,
}

impl<P: Protocol> Sink<P> for Effects<P> {
    fn append(&mut self, record: P::Record) -> Lsn {
        black_box(record);
        self.lsn += 1;
        Lsn(self.lsn)
    }

    fn send(&mut self, to: NodeId, message: P::Message) {
        self.sent.push((to, message));
    }

    fn send_early(&mut self, to: NodeId, message: P::Message) {
        self.sent.push((to, message));
    }

    fn reply(&mut self, _reply: Reply) {}

    fn reply_early(&mut self, _reply: Reply) {}

    fn deliver(&mut self, delivery: Delivery) {
        self.delivered += u64::from(!delivery.command.is_empty());
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        self.delivered += u64::from(!delivery.command.is_empty());
    }

    fn set_timer(&mut self, _timer: P::Timer, _at_ns: u64) {}

    fn cancel_timer(&mut self, _timer: P::Timer) {}

    fn checkpoint(&mut self, _meta: Bytes) {}

    fn drop_log_before(&mut self, _lsn: Lsn) {}

    fn snapshot_out(&mut self, _read: SnapshotRead) {}

    fn snapshot_in(&mut self, _chunk: SnapshotChunk) {}
}

/// Members and what is on its way between them.
struct Group<P: Protocol> {
    members: Vec<(P, Effects<P>)>,
    on_the_way: VecDeque<(NodeId, NodeId, P::Message)>,
}

impl<P: Protocol> Group<P> {
    fn new(config: impl Fn(NodeId, Vec<NodeId>) -> P::Config) -> Group<P> {
        let ids: Vec<NodeId> = (1..=MEMBERS).map(NodeId).collect();
        let member = |id: &NodeId| {
            let recovery = P::begin(config(*id, ids.clone()), None, id.0).expect("settings that work");
            (recovery.finish(), Effects { lsn: 0, sent: Vec::new(), delivered: 0 })
        };
        Group { members: ids.iter().map(member).collect(), on_the_way: VecDeque::new() }
    }

    /// A batch of inputs at one member, all of it durable at once.
    fn step(&mut self, id: NodeId, inputs: impl Iterator<Item = Input<P>>) {
        let context = Context { now_ns: 1, wall_ms: 1 };
        let (member, effects) = &mut self.members[id.0 as usize - 1];
        inputs.for_each(|input| member.handle(input, context, effects));
        member.flush(context, effects);
        member.handle(Input::Durable(Lsn(effects.lsn)), context, effects);
        member.flush(context, effects);
        let others = effects.sent.drain(..).filter(|(to, _)| *to != NodeId(0));
        self.on_the_way.extend(others.map(|(to, message)| (id, to, message)));
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.on_the_way.pop_front() {
            self.step(to, [Input::Message { from, message }].into_iter());
        }
    }

    /// Every member broadcasts; how many deliveries that made.
    fn broadcast_all(&mut self) -> u64 {
        for batch in 0..MESSAGES / BATCH {
            for id in (1..=MEMBERS).map(NodeId) {
                let propose = |number| {
                    let id = RequestId(batch * BATCH + number);
                    Input::Request(Request::Propose { id, command: Draft::copy_of(&[7; 64]) })
                };
                self.step(id, (0..BATCH).map(propose));
            }
            self.settle();
        }
        self.members.iter().map(|(_, effects)| effects.delivered).sum()
    }
}

fn broadcast_group<O: Order>() -> Group<Broadcast<O>> {
    Group::new(broadcast::Config::new)
}

fn sequenced_group() -> Group<Sequenced> {
    let mut group = Group::new(|id, members: Vec<NodeId>| {
        total::Config::new(id, members.clone(), sequencer::Config::new(id, members))
    });
    let message = Message::Log(sequencer::Message { epoch: 1, body: Body::Assign });
    group.step(NodeId(1), [Input::Message { from: CATALOG, message }].into_iter());
    group.settle();
    group
}

fn orders(c: &mut Criterion) {
    let mut all = c.benchmark_group("orders");
    all.throughput(Throughput::Elements(MESSAGES * MEMBERS));
    let expected = MESSAGES * MEMBERS * MEMBERS;
    macro_rules! order {
        ($name:literal, $new:expr) => {
            all.bench_function($name, |b| {
                b.iter_batched(
                    || $new,
                    |mut group| assert_eq!(group.broadcast_all(), expected, "everything is delivered"),
                    criterion::BatchSize::SmallInput,
                );
            });
        };
    }
    order!("fifo", broadcast_group::<FifoOrder>());
    order!("causal", broadcast_group::<CausalOrder>());
    order!("total, by sequencer", sequenced_group());
    all.finish();
}

criterion_group!(benches, orders);
criterion_main!(benches);
