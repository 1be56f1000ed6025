//! Laws of single parts: the table of epochs says what the log said; a follower's staleness is an upper bound, whatever the network does.

use alloc::collections::BTreeMap;

use keypact_log::Tail;
use keypact_protocol::{Context, Input, ReadLevel, Reply, Request, RequestId};
use keypact_simulator::CollectingSink;
use proptest::prelude::*;

use super::super::Timer;
use super::super::epochs::{EPOCHS_MAX, Epochs};
use super::*;

type Out = CollectingSink<LeaderFollower>;

/// A leader and a follower, each with a clock that began at another time, and what is on its way between them.
struct Pair {
    members: [(LeaderFollower, Out); 2],
    offsets_ns: [u64; 2],
    now_ns: u64,
    on_its_way: Vec<(usize, NodeId, Message)>,
    /// What the leader had made visible, by true time.
    visible: BTreeMap<u64, u64>,
    requests: u64,
}

impl Pair {
    fn new(offsets_ns: [u64; 2]) -> Pair {
        let nodes = vec![NodeId(1), NodeId(2)];
        let member = |id| {
            let config = Config { leader: NodeId(1), ..Config::new(NodeId(id), nodes.clone(), 0) };
            let recovery = LeaderFollower::begin(config, None, id).expect("nothing to read");
            (recovery.finish(), Out::default())
        };
        let mut pair = Pair {
            members: [member(1), member(2)],
            offsets_ns,
            now_ns: 1_000_000,
            on_its_way: Vec::new(),
            visible: BTreeMap::new(),
            requests: 0,
        };
        pair.give(0, Input::Start);
        pair.give(1, Input::Start);
        pair
    }

    fn local_ns(&self, at: usize) -> u64 {
        self.now_ns + self.offsets_ns[at]
    }

    fn give(&mut self, at: usize, input: Input<LeaderFollower>) {
        let context = Context { now_ns: self.local_ns(at), wall_ms: 1 };
        let (member, out) = &mut self.members[at];
        member.handle(input, context, out);
        member.flush(context, out);
        member.handle(Input::Durable(out.lsn), context, out);
        member.flush(context, out);
        member.assert_invariants();
        let from = NodeId(at as u64 + 1);
        for (to, message) in out.sent.drain(..) {
            match message.body {
                // The catalog answers at once, and for long.
                Body::Renew { .. } | Body::Tail { .. } => {}
                _ if to == CATALOG => {}
                _ => self.on_its_way.push((to.0 as usize - 1, from, message)),
            }
        }
        self.visible.insert(self.now_ns, self.members[0].0.commit_index());
    }

    fn grant(&mut self, lease_ns: u64) {
        let body = Body::Grant { sent_ns: self.local_ns(0), lease_ns, allowed: 1 << 40 };
        self.give(0, Input::Message { from: CATALOG, message: Message { epoch: 1, body } });
    }

    fn propose(&mut self) {
        self.requests += 1;
        let (id, command) = (RequestId(self.requests), Draft::copy_of(b"command"));
        self.give(0, Input::Request(Request::Propose { id, command }));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u32),
    Propose,
    Heartbeat,
    Grant(u32),
    /// The one at this place, counted over all that is on its way, arrives; or is lost.
    Arrives(usize),
    Lost(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..5_000_000_u32).prop_map(Step::Wait),
        2 => Just(Step::Propose),
        2 => Just(Step::Heartbeat),
        1 => (1..100_000_000_u32).prop_map(Step::Grant),
        6 => (0..100_usize).prop_map(Step::Arrives),
        1 => (0..100_usize).prop_map(Step::Lost),
    ]
}

proptest! {
    /// Clocks that began at any time, messages late, lost and out of order: what was visible so long ago is applied.
    #[test]
    fn staleness_is_an_upper_bound(
        offsets in (0..1_u64 << 40, 0..1_u64 << 40),
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut pair = Pair::new([offsets.0, offsets.1]);
        pair.grant(50_000_000);
        for step in steps {
            match step {
                Step::Wait(ns) => pair.now_ns += u64::from(ns),
                Step::Propose => pair.propose(),
                Step::Heartbeat => pair.give(0, Input::Timer(Timer::Heartbeat)),
                Step::Grant(ns) => pair.grant(u64::from(ns)),
                Step::Arrives(at) if !pair.on_its_way.is_empty() => {
                    let at = at % pair.on_its_way.len();
                    let (to, from, message) = pair.on_its_way.remove(at);
                    pair.give(to, Input::Message { from, message });
                }
                Step::Lost(at) if !pair.on_its_way.is_empty() => {
                    let at = at % pair.on_its_way.len();
                    pair.on_its_way.remove(at);
                }
                Step::Arrives(_) | Step::Lost(_) => {}
            }
            let follower = &pair.members[1].0;
            if let Some(stale_ns) = follower.staleness_ns(pair.local_ns(1)) {
                let then_ns = pair.now_ns.saturating_sub(stale_ns);
                // Strictly before: what became visible in that very moment may have followed.
                let then = pair.visible.range(..then_ns).next_back().map_or(0, |(_, index)| *index);
                prop_assert!(
                    follower.delivered_index() >= then,
                    "{} applied, {then} were visible {stale_ns} ns ago",
                    follower.delivered_index()
                );
            }
        }
    }

    /// The table that a checkpoint keeps says of each index what the entries said, as far back as it reaches.
    #[test]
    fn epochs_are_remembered(
        lengths in proptest::collection::vec((1..4_u64, 1..5_u64), 1..80),
        cuts in proptest::collection::vec(1..20_u64, 1..20),
    ) {
        let mut tail = Tail::new(Position::default(), 0, 1 << 20);
        let mut terms = vec![0];
        let mut term = 0;
        for (rise, length) in lengths {
            term += rise;
            for _ in 0..length {
                let index = terms.len() as u64;
                tail.append(entry(index, term), Lsn(index), None);
                terms.push(term);
            }
        }
        let mut table = Epochs::default();
        let mut base = 0;
        for cut in cuts {
            base = (base + cut).min(terms.len() as u64 - 1);
            let extended = table.extended(&tail, base);
            prop_assert_eq!(Epochs::decode(&extended.encode()), Some(extended.clone()));
            table = extended;
            tail.compact(base);
        }
        let mut different: Vec<u64> = terms[1..=base as usize].to_vec();
        different.dedup();
        let oldest = different[different.len().saturating_sub(EPOCHS_MAX)];
        for index in 1..=base {
            let term = terms[index as usize];
            prop_assert_eq!(table.at(index), (term >= oldest).then_some(term));
        }
    }
}

/// One batch brings a delivery and then a newer epoch: the write's name is the epoch that it was made in (seed 201332 of scenario
/// `leader-follower`: a session read with the newer epoch's name, and missed its own write).
#[test]
fn a_write_is_named_by_its_own_epoch() {
    let mut pair = Pair::new([0, 0]);
    pair.grant(1 << 30);
    pair.propose();
    let leader = &mut pair.members[0].0;
    assert_eq!(leader.delivered_index(), 2);
    pair.give(0, Input::Message { from: CATALOG, message: Message { epoch: 2, body: Body::Seal } });
    let (leader, out) = &mut pair.members[0];
    assert_eq!((leader.epoch(), leader.token(2)), (2, Some((1, 2))));
    // By that name it is found; by another it is not yet anywhere.
    for (epoch, reply) in [(1, Reply::ReadFrom { id: RequestId(9), index: 2 }), (2, refused())] {
        let read = Request::Read { id: RequestId(9), level: ReadLevel::Session { epoch, index: 2 } };
        leader.handle(Input::Request(read), Context::default(), out);
        assert_eq!(out.replies.pop(), Some(reply));
    }
}

fn refused() -> Reply {
    Reply::Refused { id: RequestId(9), why: keypact_protocol::Refusal::NotYet }
}

#[test]
fn a_table_that_is_none_of_ours_is_refused() {
    let table = |starts: &[(u64, u64)]| {
        Epochs::decode(&postcard::to_allocvec(&starts.to_vec()).expect("a vector takes any table")).is_some()
    };
    assert!(table(&[(1, 1), (4, 9)]) && Epochs::decode(b"").is_some());
    assert!(!table(&[(4, 1), (4, 9)]) && !table(&[(1, 9), (4, 9)]) && !table(&[(4, 1), (1, 9)]));
    let many: Vec<(u64, u64)> = (1..=EPOCHS_MAX as u64 + 1).map(|at| (at, at)).collect();
    assert!(!table(&many) && Epochs::decode(b"\x09").is_none());
}
