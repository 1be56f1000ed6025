//! Scenario `range`: slices of ordered keys split, merge and move under crashes while clients write, read and ask for ranges.
//!
//! One linearizable order for each key, no key lost, each range query complete; each key with one owner at each version of the map.

use keypact_partitioning::placement::{Unit, even_out};
use keypact_partitioning::range::{
    KeyOrder, LoadSample, RangeKey, RangeMap, SplitPolicy, SplitReason, split_by_size,
};
use keypact_partitioning::{Assigned, Map, Member, Slice};
use keypact_protocol::NodeId;
use keypact_simulator::{Random, Scenario, Setup};

use super::partitioning::{
    PartitionClients, PartitionWatch, Report, SOMETIMES, Scheme, Shard, Workload, draw_swarm, setup,
};

/// A map has no more slices than this.
const SLICES_MAX: usize = 24;

/// Range partitioning alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RangeScenario;

/// Ordered keys.
#[derive(Clone, Debug)]
pub(crate) struct RangeScheme {
    first: RangeMap,
    members: Vec<Member>,
    /// By round: each member's weight.
    weights: Vec<Vec<u32>>,
    replicas: usize,
    policy: SplitPolicy,
}

impl Scheme for RangeScheme {
    type At = RangeKey;

    fn position(&self, key: &[u8]) -> RangeKey {
        self.first.order().position(key)
    }

    fn first_map(&self) -> Map<RangeKey> {
        self.first.map().clone()
    }

    fn rounds(&self) -> u64 {
        self.weights.len() as u64
    }

    fn splits(&self, map: &Map<RangeKey>, reports: &[Report<RangeKey>]) -> Vec<RangeKey> {
        let room = SLICES_MAX.saturating_sub(map.parts().len());
        reports.iter().filter_map(|report| report.split_at.clone()).take(room).collect()
    }

    fn merges(&self, round: u64, map: &Map<RangeKey>) -> Vec<RangeKey> {
        let pairs = map.parts().windows(2).filter(|pair| pair[0].replicas == pair[1].replicas);
        let mut lows: Vec<RangeKey> = pairs.map(|pair| pair[1].slice.low().clone()).collect();
        // Every third round one of them, so that something is left to move.
        if round.is_multiple_of(3) && !lows.is_empty() {
            vec![lows.swap_remove(round as usize % lows.len())]
        } else {
            Vec::new()
        }
    }

    fn wanted(&self, round: u64, map: &Map<RangeKey>, reports: &[Report<RangeKey>]) -> Map<RangeKey> {
        let weights = &self.weights[round as usize - 1];
        let members: Vec<Member> =
            self.members.iter().zip(weights).map(|(member, weight)| member.with_weight(*weight)).collect();
        let size = |slice: &Slice<RangeKey>| -> u64 {
            1 + reports
                .iter()
                .filter(|report| slice.contains(&report.low))
                .map(|report| report.bytes)
                .sum::<u64>()
        };
        let unit =
            |part: &Assigned<RangeKey>| Unit { size: size(&part.slice), replicas: part.replicas.clone() };
        let units: Vec<Unit> = map.parts().iter().map(unit).collect();
        let placed = even_out(&units, &members, self.replicas, 10, 8).expect("enough hosts have a weight");
        let parts = map.parts().iter().zip(placed);
        let parts = parts.map(|(part, replicas)| Assigned { slice: part.slice.clone(), replicas });
        Map::new(map.version(), parts.collect()).expect("the same slices")
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn split_at(
        &self,
        slice: &Slice<RangeKey>,
        rows: &[(RangeKey, u64)],
        requests: &[(RangeKey, u64)],
    ) -> Option<RangeKey> {
        let bytes = rows.iter().map(|(_, bytes)| bytes).sum();
        let asked = requests.iter().map(|(_, count)| count).sum();
        match self.policy.reason(bytes, asked)? {
            SplitReason::Size => split_by_size(slice, rows.iter().map(|(key, bytes)| (key, *bytes))),
            SplitReason::Load => {
                let mut sample = LoadSample::new(self.policy.samples_max);
                for (key, count) in requests {
                    for _ in 0..*count {
                        sample.request(|| key.clone());
                    }
                }
                sample.split_point(slice)
            }
        }
    }
}

/// By round each member's weight; at least `least` of them have one.
pub(super) fn draw_weights(members: usize, least: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let rounds = random.between(2, 7);
    let mut round = || {
        let mut weights: Vec<u32> = (0..members).map(|_| random.pick(&[0, 1, 1, 1, 2])).collect();
        while weights.iter().filter(|weight| **weight > 0).count() < least {
            weights[random.index(members)] = 1;
        }
        weights
    };
    (0..rounds).map(|_| round()).collect()
}

fn draw_scheme(nodes: usize, random: &mut Random) -> (RangeScheme, Vec<Vec<u8>>) {
    let order = random.pick(&[KeyOrder::Bytes, KeyOrder::Integer]);
    let members: Vec<Member> = (1..=nodes as u64).map(|id| Member::alone(NodeId(id))).collect();
    let replicas = random.between(1, 2) as usize;
    let count = random.between(12, 40);
    let mut keys: Vec<Vec<u8>> =
        (0..count).map(|number| format!("item:{}", number * 3).into_bytes()).collect();
    keys.push(b"plain".to_vec());
    let mut points: Vec<RangeKey> = (0..random.below(4))
        .map(|_| order.split_point(random.below(count * 3).to_string().as_bytes()))
        .collect();
    points.sort_unstable();
    points.dedup();
    let owners = (0..=points.len()).map(|at| {
        (0..replicas).map(|more| members[(at + more) % members.len()].node).collect::<Vec<NodeId>>()
    });
    let first = RangeMap::new(order, &points, owners.collect()).expect("split points rise");
    let policy = SplitPolicy {
        bytes_max: random.pick(&[200, 1_000, 100_000]),
        requests_per_s_max: random.pick(&[5, 30, 1_000]),
        samples_max: 64,
    };
    let weights = draw_weights(members.len(), replicas, random);
    (RangeScheme { first, members, weights, replicas, policy }, keys)
}

impl Scenario for RangeScenario {
    type Process = Shard<RangeScheme>;
    type Clients = PartitionClients<RangeScheme>;
    type Observer = PartitionWatch<RangeScheme>;

    fn name(&self) -> &'static str {
        "range"
    }

    fn setup(&self, random: &mut Random) -> Setup<Self::Process, Self::Clients, Self::Observer> {
        let swarm = draw_swarm(random);
        let (scheme, keys) = draw_scheme(swarm.nodes, random);
        let mut workload = Workload::draw(keys, random);
        workload.ranges_ppm = random.pick(&[50_000, 300_000]);
        setup(scheme, swarm, workload, random)
    }

    fn sometimes(&self) -> &'static [&'static str] {
        static ALL: [&str; SOMETIMES.len() + 4] = {
            let mut all = [""; SOMETIMES.len() + 4];
            let mut at = 0;
            while at < SOMETIMES.len() {
                all[at] = SOMETIMES[at];
                at += 1;
            }
            all[at] = "slice-split";
            all[at + 1] = "slices-merged";
            all[at + 2] = "range-answered";
            all[at + 3] = "range-refused";
            all
        };
        &ALL
    }
}
