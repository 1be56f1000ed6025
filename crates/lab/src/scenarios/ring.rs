//! Scenario `ring`: nodes join a ring and leave it, and their arcs move, under crashes while clients write and read.
//!
//! One linearizable order for each key, no key lost; each key with one owner at each version of the map; a node that joins or leaves moves
//! its own keys only, and in the end every key lies where the ring says; replicas stand on distinct hosts.

use keypact_partitioning::ring::{Point, Ring, RingConfig, Tokens};
use keypact_partitioning::{Map, Member};
use keypact_protocol::NodeId;
use keypact_simulator::{Random, Scenario, Setup};

use super::partitioning::{
    PartitionClients, PartitionWatch, Report, SOMETIMES, Scheme, Shard, Workload, draw_swarm, setup,
};

/// Consistent hashing alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RingScenario;

/// A ring.
#[derive(Clone, Debug)]
pub(crate) struct RingScheme {
    config: RingConfig,
    members: Vec<Member>,
    /// How many of the members are there at first.
    first: usize,
    /// By round: who joins (if it is not there) or leaves.
    changes: Vec<NodeId>,
    replicas: usize,
    /// Points of the keys that clients use.
    probes: Vec<Point>,
}

impl RingScheme {
    /// The ring after so many changes.
    fn ring(&self, round: u64) -> Ring {
        let mut ring = Ring::of(self.config, &self.members[..self.first]).expect("members are different");
        for node in &self.changes[..round as usize] {
            let member = self.members.iter().find(|member| member.node == *node).expect("one of them");
            if ring.join(*member).is_err() {
                ring.leave(*node).expect("who can't join is there");
            }
        }
        ring
    }
}

/// Hosts of those who are there.
fn hosts<'a>(members: impl Iterator<Item = &'a Member>) -> usize {
    let mut domains: Vec<_> = members.map(|member| member.domain).collect();
    domains.sort_unstable();
    domains.dedup();
    domains.len()
}

impl Scheme for RingScheme {
    type At = Point;

    fn position(&self, key: &[u8]) -> Point {
        Point::of(key)
    }

    fn first_map(&self) -> Map<Point> {
        self.ring(0).map(1, self.replicas).expect("somebody is there")
    }

    fn rounds(&self) -> u64 {
        self.changes.len() as u64
    }

    fn wanted(&self, round: u64, map: &Map<Point>, _reports: &[Report<Point>]) -> Map<Point> {
        self.ring(round).map(map.version(), self.replicas).expect("somebody is there")
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn check(&self, round: u64, before: &Map<Point>, after: &Map<Point>) -> Result<(), String> {
        let Some(earlier) = round.checked_sub(1) else { return Ok(()) };
        let (was, is) = (self.ring(earlier), self.ring(round));
        let changed = self.changes[earlier as usize];
        for probe in &self.probes {
            let (from, to) = (before.find(probe).owner(), after.find(probe).owner());
            if is.owner(*probe) != Some(to) {
                return Err(format!("{to} owns {probe:?}, the ring says {:?}", is.owner(*probe)));
            }
            // A plan that was cancelled leaves behind what the next one moves, too.
            let in_place = was.owner(*probe) == Some(from);
            if in_place && from != to && from != changed && to != changed {
                return Err(format!("{probe:?} moved from {from} to {to} because of {changed}"));
            }
        }
        Ok(())
    }
}

fn draw_scheme(nodes: usize, keys: &[Vec<u8>], random: &mut Random) -> RingScheme {
    let per_host = if nodes >= 3 { random.between(1, 2) as u32 } else { 1 };
    let zones = random.between(1, 2) as u32;
    let member = |id: u64, weight| {
        let host = (id as u32 - 1) / per_host;
        Member::alone(NodeId(id)).with_weight(weight).at(host % zones, host)
    };
    let members: Vec<Member> = (1..=nodes as u64).map(|id| member(id, random.between(1, 2) as u32)).collect();
    let first = random.between(1, nodes as u64) as usize;
    let replicas = (random.between(1, 3) as usize).min(hosts(members[..first].iter()));
    let mut there: Vec<Member> = members[..first].to_vec();
    let mut changes = Vec::new();
    for _ in 0..random.between(2, 6) {
        let member = members[random.index(nodes)];
        match there.iter().position(|other| other.node == member.node) {
            None => there.push(member),
            Some(at) => {
                let rest = there.iter().filter(|other| other.node != member.node);
                if hosts(rest) < replicas {
                    continue;
                }
                there.remove(at);
            }
        }
        changes.push(member.node);
    }
    RingScheme {
        config: RingConfig {
            tokens_per_weight: random.between(1, 4) as u32,
            tokens: random.pick(&[Tokens::Random, Tokens::Allocated]),
            seed: random.bits(),
            tokens_max: 1_000,
        },
        members,
        first,
        changes,
        replicas,
        probes: keys.iter().map(|key| Point::of(key)).collect(),
    }
}

impl Scenario for RingScenario {
    type Process = Shard<RingScheme>;
    type Clients = PartitionClients<RingScheme>;
    type Observer = PartitionWatch<RingScheme>;

    fn name(&self) -> &'static str {
        "ring"
    }

    fn setup(&self, random: &mut Random) -> Setup<Self::Process, Self::Clients, Self::Observer> {
        let swarm = draw_swarm(random);
        let keys: Vec<Vec<u8>> =
            (0..random.between(10, 40)).map(|number| format!("key{number}").into_bytes()).collect();
        let scheme = draw_scheme(swarm.nodes, &keys, random);
        let workload = Workload::draw(keys, random);
        setup(scheme, swarm, workload, random)
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}
