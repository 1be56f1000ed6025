//! What the scenarios `range`, `hash` and `ring` share: nodes that own slices of keys, one of which also keeps the catalog and carries out
//! plans; clients that write, read and ask for ranges; and who watches them.
//!
//! The catalog is on one node only and its disk is sound: it stands for a replicated one. Each slice is moved with one copy, its owner's; how
//! further copies are moved is the replication's business, here only their places are checked.

mod catalog;
mod clients;
mod disk;
mod history;
mod message;
mod owner;
mod process;
mod watch;

use std::fmt::Debug;

use keypact_partitioning::{Map, Member, Position, Slice};
use keypact_protocol::NodeId;
use keypact_simulator::{FaultKind, FaultSet, Limits, MILLISECOND_NS, Random, SECOND_NS, Setup, Swarm};

pub(crate) use clients::{PartitionClients, Workload};
pub(crate) use disk::PlainDisk;
pub(crate) use message::Report;
pub(crate) use process::{Shard, ShardConfig};
pub(crate) use watch::{PartitionWatch, SOMETIMES};

/// A way to partition, and what is done to its map.
pub(crate) trait Scheme: Clone + Debug + Send + Sync + 'static {
    /// Where keys lie.
    type At: Position;

    /// A key's place.
    fn position(&self, key: &[u8]) -> Self::At;

    /// The map that all begin with.
    fn first_map(&self) -> Map<Self::At>;

    /// How many plans there are.
    fn rounds(&self) -> u64;

    /// Boundaries to add before the plan of this round.
    fn splits(&self, map: &Map<Self::At>, reports: &[Report<Self::At>]) -> Vec<Self::At> {
        let _ = (map, reports);
        Vec::new()
    }

    /// Boundaries to take away before the plan of this round.
    fn merges(&self, round: u64, map: &Map<Self::At>) -> Vec<Self::At> {
        let _ = (round, map);
        Vec::new()
    }

    /// Where everything should lie after this round, counted from 1. Depends on nothing else: a catalog that restarts asks again.
    fn wanted(&self, round: u64, map: &Map<Self::At>, reports: &[Report<Self::At>]) -> Map<Self::At>;

    /// All nodes, and where they stand.
    fn members(&self) -> &[Member];

    /// What only this scheme promises of the map once a round's plan is over.
    fn check(&self, round: u64, before: &Map<Self::At>, after: &Map<Self::At>) -> Result<(), String> {
        let _ = (round, before, after);
        Ok(())
    }

    /// Where an owner would split a slice with these keys (with their bytes) and these requests since the last report.
    fn split_at(
        &self,
        slice: &Slice<Self::At>,
        rows: &[(Self::At, u64)],
        requests: &[(Self::At, u64)],
    ) -> Option<Self::At> {
        let _ = (slice, rows, requests);
        None
    }
}

/// One seed's swarm. No disk of typed records can be damaged.
pub(crate) fn draw_swarm(random: &mut Random) -> Swarm {
    let damage = [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull];
    let limits = Limits {
        nodes: vec![2, 3, 4, 4, 5],
        faults: FaultSet::ALL.without(FaultSet::of(&damage)),
        safety_ns: (SECOND_NS, 5 * SECOND_NS),
        liveness_ns: 20 * SECOND_NS,
        ..Limits::default()
    };
    let mut swarm = Swarm::draw(&limits, random);
    if random.chance(500_000) {
        // Half of the seeds: little but crashes, so that plans get far and are met in the middle.
        let kinds = [FaultKind::Crash, FaultKind::CrashAll, FaultKind::UnsyncedLost, FaultKind::Torn];
        swarm.faults = FaultSet::of(&kinds);
        swarm.loss_ppm = 0;
        swarm.reorder_ppm = 0;
        swarm.client_loss_ppm = 0;
        swarm.fault_gap_ns = random.pick(&[100, 300]) * MILLISECOND_NS;
        swarm.crash_after_send_ppm = random.pick(&[0, 3_000, 20_000]);
    }
    // A plan has many steps, each of which takes some ways and syncs. Where those are slow, a seed would tell of its own arithmetic.
    swarm.delay_spread_ns = swarm.delay_spread_ns.min(2 * MILLISECOND_NS);
    swarm.sync_ns = swarm.sync_ns.min(MILLISECOND_NS);
    swarm
}

/// The whole world of one seed.
pub(crate) fn setup<S: Scheme>(
    scheme: S,
    swarm: Swarm,
    workload: Workload,
    random: &mut Random,
) -> Setup<Shard<S>, PartitionClients<S>, PartitionWatch<S>> {
    let nodes: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
    let catalog_at = random.pick(&nodes);
    let config = ShardConfig {
        catalog_at,
        nodes: nodes.clone(),
        tick_ns: random.pick(&[10, 30, 80]) * MILLISECOND_NS,
        round_gap_ns: random.pick(&[20, 150, 400]) * MILLISECOND_NS,
        throttle: keypact_partitioning::placement::Throttle {
            steps_max: random.pick(&[1, 2, 8]),
            steps_per_node_max: random.pick(&[1, 4]),
            bytes_per_s: random.pick(&[20_000, 1 << 30]),
        },
        scheme: scheme.clone(),
    };
    Setup {
        configs: nodes.iter().map(|_| config.clone()).collect(),
        disks: nodes.iter().map(|_| PlainDisk::default()).collect(),
        observer: PartitionWatch::new(&scheme, &workload.keys, catalog_at),
        clients: PartitionClients::new(scheme, workload),
        swarm,
    }
}
