//! Laws of gossip, on random runs over the real replicas: whatever is written where, lost, doubled, overtaken, crashed, and however small the
//! budget is, replicas become equal once messages arrive, to what the writes say; and what a crash took nobody has heard of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use keypact_crdt::{Lattice, OrSet, PnCounter};
use keypact_protocol::{
    Context, Delivery, Draft, Gate, GroupId, Input, Lsn, NodeId, Outlet, Protocol, Recover, Reply, Request,
    RequestId, SnapshotChunk, SnapshotRead, Wire,
};
use keypact_replication::gossip::{Change, Config, Gossip, Message, Record, Replicated, Timer, View};
use proptest::prelude::*;

const GROUP: GroupId = GroupId(3);
const COUNT: usize = 3;

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    /// A command at a replica.
    Write(usize, u8),
    /// A replica's round.
    Round(usize),
    /// A replica's disk has everything.
    Sync(usize),
    /// A message under way arrives; twice.
    Deliver(prop::sample::Index, bool),
    /// It is lost.
    Lose(prop::sample::Index),
    /// A replica loses what was not synced, and comes back.
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..COUNT, any::<u8>()).prop_map(|(at, what)| Step::Write(at, what)),
        2 => (0..COUNT).prop_map(Step::Round),
        3 => (0..COUNT).prop_map(Step::Sync),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, twice)| Step::Deliver(which, twice)),
        1 => any::<prop::sample::Index>().prop_map(Step::Lose),
        1 => (0..COUNT).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..120)
}

/// Limits that matter.
fn limits() -> impl Strategy<Value = (usize, usize, usize)> {
    (prop::sample::select(vec![20, 80, 10_000]), prop::sample::select(vec![0, 200, 10_000]), 0_usize..3)
}

/// Socket, disk and parent of a replica.
struct Machine<L> {
    records: Vec<Record>,
    durable: usize,
    sent: Vec<(NodeId, Message)>,
    copy: L,
    given: u64,
}

impl<L: Replicated> Outlet<Gossip<L>> for Machine<L> {
    fn append(&mut self, record: Record) -> Lsn {
        // Through its encoding: what is read back is what was written.
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.records.push(Record::decode(Bytes::from(bytes)).expect("a record is what was encoded"));
        Lsn(self.records.len() as u64)
    }
    fn send(&mut self, to: NodeId, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.sent.push((to, Message::decode(Bytes::from(bytes)).expect("a message is what was encoded")));
    }
    fn reply(&mut self, reply: Reply) {
        panic!("nothing is refused here: {reply:?}");
    }
    fn deliver(&mut self, it: Delivery) {
        assert_eq!(it.index, self.given + 1, "changes come in order");
        self.given = it.index;
        let change = Change::decode(it.command).expect("it is a change");
        change.apply_to(&mut self.copy).expect("of this type");
    }
    fn set_timer(&mut self, _: Timer, _: u64) {}
    fn cancel_timer(&mut self, _: Timer) {}
    fn checkpoint(&mut self, _: Bytes) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

struct Seat<L: Replicated> {
    replica: Gossip<L>,
    gate: Gate<Gossip<L>>,
    machine: Machine<L>,
    lives: u64,
}

struct Group<L: Replicated> {
    seats: Vec<Seat<L>>,
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    config: Config,
}

fn begin<L: Replicated>(config: Config, records: Vec<Record>, lives: u64) -> Seat<L> {
    let mut recovery = Gossip::<L>::begin(config.clone(), None, config.id.0 * 100 + lives).expect("sound");
    for (at, record) in (1..).zip(&records) {
        recovery.replay(Lsn(at), record.clone()).expect("the log makes sense");
    }
    let lsn = Lsn(records.len() as u64);
    let (durable, sent) = (records.len(), Vec::new());
    let machine = Machine { records, durable, sent, copy: L::default(), given: 0 };
    Seat { replica: recovery.finish(), gate: Gate::new(lsn), machine, lives }
}

impl<L: Replicated> Group<L> {
    fn new((budget, recent, push_to): (usize, usize, usize)) -> Group<L> {
        let nodes: Vec<NodeId> = (1..=COUNT as u64).map(NodeId).collect();
        let mut config = Config::new(NodeId(1), GROUP, View::of_founders(&nodes));
        config.report_ms = 0;
        config.budget_bytes = budget;
        config.recent_bytes_max = recent;
        config.push_to = push_to;
        config.transfer_timeout_ms = 1;
        let seats =
            nodes.iter().map(|id| begin(Config { id: *id, ..config.clone() }, Vec::new(), 1)).collect();
        let mut group = Group { seats, in_flight: VecDeque::new(), config };
        (0..COUNT).for_each(|at| group.give(at, Input::Start, 0));
        group
    }

    fn give(&mut self, at: usize, input: Input<Gossip<L>>, now_ns: u64) {
        let context = Context { now_ns, wall_ms: 1_000 + now_ns / 1_000_000 };
        let Seat { replica, gate, machine, .. } = &mut self.seats[at];
        replica.handle(input, context, &mut gate.sink(machine));
        replica.flush(context, &mut gate.sink(machine));
        replica.assert_invariants();
        self.collect(at);
    }

    fn collect(&mut self, at: usize) {
        let from = NodeId(at as u64 + 1);
        let sent = self.seats[at].machine.sent.drain(..);
        self.in_flight.extend(sent.map(|(to, message)| (from, to, message)));
    }

    fn sync(&mut self, at: usize) {
        let Seat { gate, machine, .. } = &mut self.seats[at];
        machine.durable = machine.records.len();
        gate.release(Lsn(machine.durable as u64), machine);
        self.collect(at);
    }

    fn crash(&mut self, at: usize) {
        let Seat { machine, lives, .. } = &mut self.seats[at];
        let (kept, lives) = (machine.records[..machine.durable].to_vec(), *lives + 1);
        let config = Config { id: NodeId(at as u64 + 1), ..self.config.clone() };
        self.seats[at] = begin(config, kept, lives);
        self.give(at, Input::Start, 0);
    }

    fn run(&mut self, step: &Step, command: impl Fn(u8) -> Vec<u8>, now_ns: u64) {
        let len = self.in_flight.len();
        match step {
            Step::Write(at, what) => {
                let command = Draft::copy_of(&command(*what));
                self.give(*at, Input::Request(Request::Propose { id: RequestId(1), command }), now_ns);
            }
            Step::Round(at) => self.give(*at, Input::Timer(Timer::Round), now_ns),
            Step::Sync(at) => self.sync(*at),
            Step::Deliver(which, twice) if len > 0 => {
                let (from, to, message) = self.in_flight.remove(which.index(len)).expect("it is there");
                for _ in 0..=u8::from(*twice) {
                    let input = Input::Message { from, message: message.clone() };
                    self.give(to.0 as usize - 1, input, now_ns);
                }
            }
            Step::Lose(which) if len > 0 => drop(self.in_flight.remove(which.index(len))),
            Step::Crash(at) => self.crash(*at),
            Step::Deliver(..) | Step::Lose(_) => {}
        }
    }

    /// Everything arrives and everything is synced, round after round, until nothing is new.
    fn settle(&mut self, mut now_ns: u64) {
        for _ in 0..60 {
            now_ns += 2_000_000;
            for at in 0..COUNT {
                self.give(at, Input::Timer(Timer::Round), now_ns);
            }
            for _ in 0..10_000 {
                (0..COUNT).for_each(|at| self.sync(at));
                let Some((from, to, message)) = self.in_flight.pop_front() else { break };
                self.give(to.0 as usize - 1, Input::Message { from, message }, now_ns);
            }
            assert!(self.in_flight.is_empty(), "messages give rise to messages without end");
        }
    }

    fn assert_equal(&self) {
        let first = &self.seats[0];
        for seat in &self.seats {
            assert_eq!(seat.replica.version(), first.replica.version());
            assert_eq!(seat.replica.state(), first.replica.state());
            assert_eq!(&seat.machine.copy, seat.replica.state(), "the parent's copy");
        }
    }
}

/// `+x` or `-x` for one of four elements.
fn set_command(what: u8) -> Vec<u8> {
    vec![if what & 4 == 0 { b'+' } else { b'-' }, b'a' + (what & 3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sets: equal in the end, as a merge of all states that ever were is, restricted to what crashes left.
    #[test]
    fn sets_become_equal(steps in steps(), limits in limits()) {
        let mut group: Group<OrSet<Bytes>> = Group::new(limits);
        for (at, step) in (1..).zip(&steps) {
            group.run(step, set_command, at * 100_000);
        }
        (0..COUNT).for_each(|at| group.sync(at));
        // Nothing is written from here on: what all of them have now is what all of them must have.
        let mut all = OrSet::<Bytes>::default();
        for seat in &group.seats {
            all.merge(seat.replica.state().clone());
        }
        group.settle(1_000_000_000);
        group.assert_equal();
        let held: BTreeSet<&Bytes> = group.seats[0].replica.state().keys().collect();
        prop_assert_eq!(held, all.keys().collect::<BTreeSet<_>>());
        prop_assert_eq!(group.seats[0].replica.version(), &all.version());
    }

    /// Counters, that never forget anything: the sum of what was synced in time counts once.
    #[test]
    fn counters_count_once(steps in steps(), limits in limits()) {
        let mut group: Group<PnCounter> = Group::new(limits);
        // Of each replica: what was added, by the record that has it.
        let mut added: BTreeMap<usize, Vec<(usize, i128)>> = BTreeMap::new();
        for (at, step) in (1..).zip(&steps) {
            if let Step::Write(node, what) = step {
                let record = group.seats[*node].machine.records.len();
                added.entry(*node).or_default().push((record, i128::from(*what as i8)));
            }
            if let Step::Crash(node) = step {
                let durable = group.seats[*node].machine.durable;
                added.entry(*node).or_default().retain(|(record, _)| *record < durable);
            }
            group.run(step, |what| i64::from(what as i8).to_le_bytes().to_vec(), at * 100_000);
        }
        (0..COUNT).for_each(|at| group.sync(at));
        group.settle(1_000_000_000);
        group.assert_equal();
        let sum: i128 = added.values().flatten().map(|(_, by)| by).sum();
        prop_assert_eq!(group.seats[0].replica.state().value(), sum);
    }
}
