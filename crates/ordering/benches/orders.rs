//! Time per message in the machines alone: three members, every one of which broadcasts; links and disks take no time.
//! `cargo bench -p keypact-ordering`

use std::collections::VecDeque;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keypact_ordering::broadcast::{self, Broadcast, Order};
use keypact_ordering::causal::CausalOrder;
use keypact_ordering::fifo::FifoOrder;
use keypact_ordering::total::sequencer::{self, Body, CATALOG};
use keypact_ordering::total::{self, Message, Sequenced};
use keypact_protocol::{Context, Draft, Input, NodeId, Protocol, Recover, Request, RequestId};
use keypact_simulator::CollectingSink;

const MEMBERS: u64 = 3;
const MESSAGES: u64 = 300;
/// So many are broadcast between two flushes.
const BATCH: u64 = 10;

/// Members and what is on its way between them.
struct Group<P: Protocol> {
    members: Vec<(P, CollectingSink<P>)>,
    on_the_way: VecDeque<(NodeId, NodeId, P::Message)>,
    delivered: u64,
}

impl<P: Protocol> Group<P> {
    fn new(config: impl Fn(NodeId, Vec<NodeId>) -> P::Config) -> Group<P> {
        let ids: Vec<NodeId> = (1..=MEMBERS).map(NodeId).collect();
        let member = |id: &NodeId| {
            let recovery = P::begin(config(*id, ids.clone()), None, id.0).expect("settings that work");
            (recovery.finish(), CollectingSink::default())
        };
        Group { members: ids.iter().map(member).collect(), on_the_way: VecDeque::new(), delivered: 0 }
    }

    /// A batch of inputs at one member, all of it durable at once.
    fn step(&mut self, id: NodeId, inputs: impl Iterator<Item = Input<P>>) {
        let context = Context { now_ns: 1, wall_ms: 1 };
        let (member, effects) = &mut self.members[id.0 as usize - 1];
        inputs.for_each(|input| member.handle(input, context, effects));
        member.flush(context, effects);
        member.handle(Input::Durable(effects.lsn), context, effects);
        member.flush(context, effects);
        let delivered = effects.delivered.drain(..).filter(|delivery| !delivery.command.is_empty());
        self.delivered += delivered.count() as u64;
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
        self.delivered
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
