//! Scenario `hash`: slots move under crashes while clients write and read, two keys of one tag at a time among them.
//!
//! One linearizable order for each key, no key lost; keys of one tag lie together; each key with one owner at each version of the map.

use keypact_partitioning::hash::{SLOTS, Slot, SlotTable};
use keypact_partitioning::placement::{Unit, balance};
use keypact_partitioning::{Map, Member};
use keypact_protocol::NodeId;
use keypact_simulator::{Random, Scenario, Setup};

use super::partitioning::{
    PartitionClients, PartitionWatch, Report, SOMETIMES, Scheme, Shard, Workload, draw_swarm, setup,
};
use super::range::draw_weights;

/// Slots are placed in blocks of so many.
const BLOCK_SLOTS: u16 = 512;

/// Hash partitioning alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HashScenario;

/// Slots.
#[derive(Clone, Debug)]
pub(crate) struct HashScheme {
    members: Vec<Member>,
    /// By round: each member's weight.
    weights: Vec<Vec<u32>>,
    replicas: usize,
}

impl HashScheme {
    fn placed(&self, map: Option<&Map<Slot>>, weights: &[u32]) -> Map<Slot> {
        let members: Vec<Member> =
            self.members.iter().zip(weights).map(|(member, weight)| member.with_weight(*weight)).collect();
        let lows: Vec<Slot> = (0..SLOTS).step_by(usize::from(BLOCK_SLOTS)).filter_map(Slot::new).collect();
        let unit = |low: &Slot| Unit {
            size: u64::from(BLOCK_SLOTS),
            replicas: map.map_or_else(Vec::new, |map| map.find(low).replicas.clone()),
        };
        let units: Vec<Unit> = lows.iter().map(unit).collect();
        let placed = balance(&units, &members, self.replicas).expect("enough hosts have a weight");
        let version = map.map_or(1, Map::version);
        Map::from_lows(version, lows.into_iter().zip(placed).collect()).expect("all slots").coalesced()
    }
}

impl Scheme for HashScheme {
    type At = Slot;

    fn position(&self, key: &[u8]) -> Slot {
        Slot::of(key)
    }

    fn first_map(&self) -> Map<Slot> {
        let nodes: Vec<NodeId> = self.members.iter().map(|member| member.node).collect();
        match self.replicas {
            1 => SlotTable::even(&nodes).expect("a node at least").map().clone(),
            _ => self.placed(None, &vec![1; nodes.len()]),
        }
    }

    fn rounds(&self) -> u64 {
        self.weights.len() as u64
    }

    fn wanted(&self, round: u64, map: &Map<Slot>, _reports: &[Report<Slot>]) -> Map<Slot> {
        self.placed(Some(map), &self.weights[round as usize - 1])
    }

    fn members(&self) -> &[Member] {
        &self.members
    }
}

impl Scenario for HashScenario {
    type Process = Shard<HashScheme>;
    type Clients = PartitionClients<HashScheme>;
    type Observer = PartitionWatch<HashScheme>;

    fn name(&self) -> &'static str {
        "hash"
    }

    fn setup(&self, random: &mut Random) -> Setup<Self::Process, Self::Clients, Self::Observer> {
        let swarm = draw_swarm(random);
        let members: Vec<Member> = (1..=swarm.nodes as u64).map(|id| Member::alone(NodeId(id))).collect();
        let replicas = random.between(1, 2) as usize;
        let weights = draw_weights(members.len(), replicas, random);
        let keys = (0..random.between(10, 40)).map(|number| format!("key{number}").into_bytes()).collect();
        let mut workload = Workload::draw(keys, random);
        // What stands behind the tag is anything, braces too.
        let tails = random.pick(&[[":a", ":b"], [":a", ":b}"], ["}a", "{b}"]]);
        workload.pairs = (0..random.between(1, 6))
            .map(|number| tails.map(|tail| format!("{{t{number}}}{tail}").into_bytes()))
            .collect();
        workload.pairs_ppm = 150_000;
        setup(HashScheme { members, weights, replicas }, swarm, workload, random)
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}
