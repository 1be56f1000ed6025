//! Rounds to convergence and bytes per write, of the protocol itself, in one process:
//! `cargo run --release -p keypact-replication --example gossip_rounds [SEEDS]`.
//!
//! In a round every replica's round timer fires once, and all messages that this gives rise to arrive, but for those that are lost. Disks answer
//! at once. At the beginning at most ten replicas write one element each; a run ends when all replicas have all of it.

use std::collections::VecDeque;

use bytes::Bytes;
use keypact_crdt::OrSet;
use keypact_ordering::clock::DotContext;
use keypact_protocol::*;
use keypact_replication::gossip::{Config, Gossip, Message, Timer, View};
use keypact_simulator::CollectingSink;

type Set = OrSet<Bytes>;
const GROUP: GroupId = GroupId(1);
const ROUNDS_MAX: u32 = 500;

type Out = CollectingSink<Gossip<Set>>;

struct Group {
    replicas: Vec<(Gossip<Set>, Out)>,
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    loss_percent: u64,
    random: u64,
    round: u64,
    messages: u64,
    bytes: u64,
    encoded: Vec<u8>,
}

impl Group {
    fn new(count: u64, loss_percent: u64, seed: u64) -> Group {
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let view = View::of_founders(&nodes);
        let replica = |id: &NodeId| {
            let config = Config { report_ms: 0, ..Config::new(*id, GROUP, view.clone()) };
            let seed = (seed << 32 | id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (Gossip::begin(config, None, seed).expect("a sound configuration").finish(), Out::default())
        };
        let replicas = nodes.iter().map(replica).collect();
        let (in_flight, encoded) = (VecDeque::new(), Vec::new());
        let random = seed.wrapping_mul(0xd134_2543_de82_ef95) | 1;
        Group { replicas, in_flight, loss_percent, random, round: 0, messages: 0, bytes: 0, encoded }
    }

    fn is_lost(&mut self) -> bool {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100 < self.loss_percent
    }

    fn give(&mut self, at: usize, input: Input<Gossip<Set>>) {
        let now_ns = self.round * 100_000_000;
        let context = Context { now_ns, wall_ms: 1_000_000 + now_ns / 1_000_000 };
        let (replica, out) = &mut self.replicas[at];
        replica.handle(input, context, out);
        replica.flush(context, out);
        replica.assert_invariants();
        // Nobody is its parent.
        out.delivered.clear();
        out.replies.clear();
        let from = NodeId(at as u64 + 1);
        let sent: Vec<(NodeId, Message)> = out.sent.drain(..).collect();
        for (to, message) in sent {
            self.encoded.clear();
            message.encode(&mut self.encoded);
            self.messages += 1;
            self.bytes += self.encoded.len() as u64;
            if !self.is_lost() {
                self.in_flight.push_back((from, to, message));
            }
        }
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.in_flight.pop_front() {
            self.give(to.0 as usize - 1, Input::Message { from, message });
        }
    }

    fn write(&mut self, writers: usize, text: &str) {
        let step = self.replicas.len() / writers;
        for writer in 0..writers {
            let command = Draft::copy_of(format!("+{text}{writer}").as_bytes());
            self.give(writer * step, Input::Request(Request::Propose { id: RequestId(0), command }));
        }
    }

    fn one_round(&mut self) {
        self.round += 1;
        for at in 0..self.replicas.len() {
            self.give(at, Input::Timer(Timer::Round));
        }
        self.settle();
    }

    fn is_converged(&self) -> bool {
        let mut all = DotContext::new();
        self.replicas.iter().for_each(|(replica, _)| all.merge(replica.version()));
        self.replicas.iter().all(|(replica, _)| *replica.version() == all)
    }

    /// Rounds until all have all.
    fn converge(&mut self) -> u32 {
        self.settle();
        for round in 0..ROUNDS_MAX {
            if self.is_converged() {
                let first = self.replicas[0].0.state();
                assert!(self.replicas.iter().all(|(replica, _)| replica.state() == first), "equal states");
                return round;
            }
            self.one_round();
        }
        panic!("not converged in {ROUNDS_MAX} rounds");
    }
}

fn main() {
    let seeds: u64 = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    println!(
        "fan-out 1, one push; at most 10 writers, one element of 6 bytes each; {seeds} seeds (10,000 replicas: at most 5)\n"
    );
    println!(
        "| replicas | loss | rounds: median | most | log2 N | median / log2 N | messages per write and replica | bytes per write and replica |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for count in [10_u64, 100, 1_000, 10_000] {
        for loss in [0, 10, 30] {
            let seeds = if count == 10_000 { seeds.min(5) } else { seeds };
            let mut rounds = Vec::new();
            let (mut messages, mut bytes) = (0, 0);
            let writers = count.min(10);
            for seed in 1..=seeds {
                let mut group = Group::new(count, loss, seed);
                group.write(writers as usize, "item-");
                rounds.push(group.converge());
                messages += group.messages;
                bytes += group.bytes;
            }
            rounds.sort_unstable();
            let median = rounds[(rounds.len() - 1) / 2];
            let most = rounds.last().copied().unwrap_or(0);
            let log = (count as f64).log2();
            let per = (seeds * writers * count) as f64;
            println!(
                "| {count} | {loss} % | {median} | {most} | {log:.1} | {:.2} | {:.2} | {:.0} |",
                f64::from(median) / log,
                messages as f64 / per,
                bytes as f64 / per
            );
        }
    }
    println!("\nA stream: in each of 50 rounds every writer writes one element; until all have all\n");
    println!(
        "| replicas | writers | loss | messages per write | bytes per write | bytes per write and replica |"
    );
    println!("|---|---|---|---|---|---|");
    for count in [3_u64, 5, 9, 100] {
        for loss in [0, 10, 30] {
            let writers = count.min(10);
            let mut group = Group::new(count, loss, 1);
            for number in 0..50 {
                group.write(writers as usize, &format!("{number}-"));
                group.one_round();
            }
            group.converge();
            let writes = (50 * writers) as f64;
            let bytes = group.bytes as f64 / writes;
            println!(
                "| {count} | {writers} | {loss} % | {:.1} | {bytes:.0} | {:.0} |",
                group.messages as f64 / writes,
                bytes / count as f64
            );
        }
    }
}
