//! Claim 8.

use keypact_protocol::NodeId;
use keypact_replication::gossip::Config;
use keypact_simulator::{Key, MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::peers::{PeerProcess, peers};
use crate::claims::world::{LeaderFollowerProcess, WARM_NS, expect, leader_follower, nodes, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 8,
    part: "replication",
    text: "Peer-to-peer costs more network",
    how: "messages and bytes between nodes per acknowledged write, in two seconds, with 3, 5, 9 nodes and 100 or 2,000 increments a second, spread over \
          the peers or at the leader of a leader-follower group; neither waits for acknowledgements. Peers with defaults (a round each 100 ms, a write \
          pushed to one peer), and peers that push each write to all; digests, heartbeats and frames are in it, and how far the slowest node is behind \
          stands beside it. Peers cost more if they send more messages and more bytes. Control: peers at both ends, such as push nothing and speak \
          once a second, and such as speak to all others each 2 ms",
    measure,
};

const NODES: [usize; 3] = [3, 5, 9];
const WRITES_PER_S: [u64; 2] = [100, 2_000];
const CLIENTS: u64 = 20;
const RUN_NS: u64 = 2 * SECOND_NS;

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Leader,
    Peers,
    Pushing,
    Rare,
    Restless,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Leader => "leader-follower",
            By::Peers => "peers",
            By::Pushing => "peers that push to all",
            By::Rare => "rare rounds",
            By::Restless => "a round each 2 ms",
        }
    }

    fn tune(self, config: &mut Config, others: usize) {
        match self {
            By::Leader | By::Peers => {}
            By::Pushing => config.push_to = others,
            By::Rare => {
                config.push_to = 0;
                config.interval_ms = 1_000;
                config.idle_interval_ms = 1_000;
            }
            By::Restless => {
                config.fan_out = others;
                config.interval_ms = 2;
                config.idle_interval_ms = 2;
            }
        }
    }
}

/// For each write.
#[derive(Clone, Copy)]
struct Cost {
    messages: f64,
    bytes: f64,
    /// How long the slowest node takes to be where all are now.
    behind_ms: f64,
}

impl Cost {
    fn is_more_than(self, other: Cost) -> bool {
        self.messages > other.messages && self.bytes > other.bytes
    }

    fn figures(self, case: &str, by: By) -> [Figure; 3] {
        let name = by.name();
        [
            Figure::new(format!("{case}: {name}, messages per write"), self.messages, ""),
            Figure::new(format!("{case}: {name}, bytes per write"), self.bytes, "B"),
            Figure::new(format!("{case}: {name}, behind by"), self.behind_ms, "ms"),
        ]
    }
}

/// Increments that a follower has applied.
fn applied(follower: &LeaderFollowerProcess) -> u64 {
    (0..CLIENTS).map(|client| follower.machine().number(client as Key) as u64).sum()
}

/// Increments that a peer has applied. Its counters would not do: one that lacks an earlier delta of a writer shows both that writer's old part
/// and its new one.
fn joined(peer: &PeerProcess) -> u64 {
    peer.protocol().version().dot_count()
}

/// How many of the writes that are acknowledged the slowest node lacks, looked at every 10 ms: the mean.
macro_rules! cost {
    ($world:expr, $applied:expr, $count:expr, $writes_per_s:expr) => {{
        let mut world = $world;
        let ids = nodes($count);
        let work = |world: &_| -> (u64, u64) {
            let of = |node: &NodeId| {
                let work = keypact_simulator::World::work(world, *node);
                (work.messages, work.bytes)
            };
            ids.iter().map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        expect(world.run_until(WARM_NS));
        let before = work(&world);
        let (mut lacking, mut looks) = (0, 0);
        for at_ns in (WARM_NS..=WARM_NS + RUN_NS).step_by(10 * MILLISECOND_NS as usize) {
            expect(world.run_until(at_ns));
            let known = world.clients().samples().iter().filter(|sample| sample.is_done()).count() as u64;
            let processes = ids.iter().map(|node| world.process(*node).expect("nobody dies here"));
            let least = processes.map($applied).min().expect("there are nodes");
            lacking += known.saturating_sub(least);
            looks += 1;
        }
        let after = work(&world);
        let writes = done(world.clients().samples());
        let behind_s = lacking as f64 / f64::from(looks) / $writes_per_s as f64;
        Cost {
            messages: (after.0 - before.0) as f64 / writes,
            bytes: (after.1 - before.1) as f64 / writes,
            behind_ms: behind_s * 1_000.0,
        }
    }};
}

fn done(samples: &[Sample]) -> f64 {
    let done = samples.iter().filter(|sample| sample.is_done() && sample.ended_ns >= WARM_NS).count();
    assert!(done > 0, "something was written");
    done as f64
}

fn run(by: By, count: usize, writes_per_s: u64, seed: u64) -> Cost {
    let role = |client: u64| {
        let aim = match by {
            By::Leader => Aim::Leader,
            _ => Aim::At(NodeId(client % count as u64 + 1)),
        };
        Role::new(aim, Task::Increment(client as u16)).every(CLIENTS * SECOND_NS / writes_per_s)
    };
    let load = Load::new((0..CLIENTS).map(role));
    match by {
        By::Leader => {
            let world = leader_follower(priced(count), 0, NodeId(1), load, seed);
            cost!(world, applied, count, writes_per_s)
        }
        _ => {
            let world = peers(priced(count), load, seed, |config| by.tune(config, count - 1));
            cost!(world, joined, count, writes_per_s)
        }
    }
}

fn typical(effort: Effort, by: By, count: usize, writes_per_s: u64) -> Cost {
    let runs: Vec<Cost> = effort.seeds().map(|seed| run(by, count, writes_per_s, seed)).collect();
    let of = |pick: fn(&Cost) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
    Cost {
        messages: of(|cost| cost.messages),
        bytes: of(|cost| cost.bytes),
        behind_ms: of(|cost| cost.behind_ms),
    }
}

fn measure(effort: Effort) -> Finding {
    let (mut figures, mut control) = (Vec::new(), Vec::new());
    let (mut more, mut cases) = (Vec::new(), 0);
    let (mut rare_is_more, mut restless_is_more) = (0, 0);
    for count in NODES {
        for rate in WRITES_PER_S {
            let cost = |by: By| typical(effort, by, count, rate);
            let case = format!("{count} nodes, {rate} writes/s");
            let leader = cost(By::Leader);
            figures.extend(leader.figures(&case, By::Leader));
            for by in [By::Peers, By::Pushing] {
                let peers = cost(by);
                figures.extend(peers.figures(&case, by));
                cases += 1;
                if peers.is_more_than(leader) {
                    more.push(format!("{case}, {}", by.name()));
                }
            }
            let (rare, restless) = (cost(By::Rare), cost(By::Restless));
            control.extend(rare.figures(&case, By::Rare));
            control.extend(restless.figures(&case, By::Restless));
            rare_is_more += usize::from(rare.is_more_than(leader));
            restless_is_more += usize::from(restless.is_more_than(leader));
        }
    }
    let both = "more messages and more bytes for a write than a leader and its followers";
    Finding {
        verdict: match more.len() {
            0 => Verdict::DoesNotHold,
            all if all == cases => Verdict::Holds,
            _ => Verdict::HoldsOnlyIf,
        },
        because: match more.len() {
            0 => format!(
                "in none of {cases} cases do peers send {both}; what it costs is how often they speak: with a round each 2 ms they send more in \
                 {restless_is_more} of {} cases",
                cases / 2
            ),
            all if all == cases => format!("peers send {both} in every case"),
            some => format!("peers send {both} only in {some} of {cases} cases: {}", more.join("; ")),
        },
        figures,
        control: Control {
            what: "peers that push nothing and speak once a second, and peers that speak to all others each 2 ms".into(),
            figures: control,
            // What is measured must be able to come out either way.
            differs: rare_is_more == 0 && restless_is_more > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * (NODES.len() * WRITES_PER_S.len() * 5) as u64,
    }
}
