//! The worlds of simulated measurements: one protocol, simulated nodes with a price for their work, clients with fixed roles.

use keypact_coordination::raft::{self, Raft};
use keypact_protocol::{GroupId, Incarnation, NodeId};
use keypact_replication::{chain, leader_follower};
use keypact_simulator::{
    Costs, Kv, MICROSECOND_NS, Observer, ProcessConfig, ProtocolProcess, RecordDisk, SECOND_NS, Setup, Swarm,
    Violation, World, key_of_command,
};

use super::load::{Load, Sample};
use crate::scenarios::{AssignerConfig, ChainCatalogConfig, ChainSeat, LeaderFollowerSeat, SeatConfig};

/// What work costs on a simulated node: rough guesses for one core, and a link of one gigabit.
pub(super) const COSTS: Costs = Costs {
    input_ns: 2 * MICROSECOND_NS,
    work_ns: 2 * MICROSECOND_NS,
    send_ns: 3 * MICROSECOND_NS,
    reply_ns: 4 * MICROSECOND_NS,
    link_bytes_per_s: 125_000_000,
    overhead_bytes: 66,
    count_bytes: true,
};

pub(super) type RaftWorld = World<ProtocolProcess<Raft, Kv>, Load, ()>;
pub(super) type ChainWorld = World<ProtocolProcess<ChainSeat, Kv>, Load, ()>;
pub(super) type LeaderFollowerProcess = ProtocolProcess<LeaderFollowerSeat, Kv>;
pub(super) type LeaderFollowerWorld = World<LeaderFollowerProcess, Load, ()>;

/// Nodes 1 to `count`.
pub(super) fn nodes(count: usize) -> Vec<NodeId> {
    (1..=count as u64).map(NodeId).collect()
}

/// A calm world whose work has its price.
pub(super) fn priced(count: usize) -> Swarm {
    Swarm { costs: COSTS, ..Swarm::calm(count) }
}

/// A Raft group, begun and with its clients at work.
pub(super) fn raft(swarm: Swarm, load: Load, seed: u64, tune: impl Fn(&mut raft::Config)) -> RaftWorld {
    let ids = nodes(swarm.nodes);
    let members: Vec<_> = ids.iter().map(|id| (*id, Incarnation(1))).collect();
    let config = |id: &NodeId| {
        let mut config = raft::Config::new(*id, members.clone());
        tune(&mut config);
        ProcessConfig { protocol: config, pending_limit: 100_000 }
    };
    let setup = Setup {
        configs: ids.iter().map(config).collect(),
        disks: ids.iter().map(|_| RecordDisk::default()).collect(),
        clients: load,
        observer: (),
        swarm,
    };
    begun(World::new(setup, seed))
}

/// A leader-follower group led by node 1, with a small catalog on node `catalog_at`.
pub(super) fn leader_follower(
    swarm: Swarm,
    acks: usize,
    catalog_at: NodeId,
    load: Load,
    seed: u64,
) -> LeaderFollowerWorld {
    let members = nodes(swarm.nodes);
    let lease_ns = SECOND_NS / 2;
    let config = |id: &NodeId| {
        let member = leader_follower::Config::new(*id, members.clone(), acks);
        let assigner = AssignerConfig {
            group: leader_follower::SuccessionConfig::new(members.clone(), acks),
            lease_ns,
            drift_bound_ppm: member.drift_bound_ppm,
            force_after_ns: (acks == 0).then_some(lease_ns),
        };
        let catalog = (*id == catalog_at).then_some(assigner);
        ProcessConfig { protocol: SeatConfig { member, catalog_at, catalog }, pending_limit: 100_000 }
    };
    let setup = Setup {
        configs: members.iter().map(config).collect(),
        disks: members.iter().map(|_| RecordDisk::default()).collect(),
        clients: load,
        observer: (),
        swarm,
    };
    begun(World::new(setup, seed))
}

/// A chain, node 1 its head and the last node its tail, with a small catalog on node `catalog_at`.
pub(super) fn chain(swarm: Swarm, catalog_at: NodeId, load: Load, seed: u64) -> ChainWorld {
    chain_watched(swarm, catalog_at, load, (), seed)
}

/// The same, and somebody watches.
pub(super) fn chain_watched<O: Observer<ProtocolProcess<ChainSeat, Kv>>>(
    swarm: Swarm,
    catalog_at: NodeId,
    load: Load,
    observer: O,
    seed: u64,
) -> World<ProtocolProcess<ChainSeat, Kv>, Load, O> {
    let members = nodes(swarm.nodes);
    let group = GroupId(1);
    let config = |id: &NodeId| {
        let mut member = chain::Config::new(*id, group, members.clone());
        member.keys_of = key_of_command;
        let catalog = ChainCatalogConfig {
            group,
            members: members.clone(),
            lease_ns: SECOND_NS / 2,
            drift_bound_ppm: member.drift_bound_ppm,
        };
        let catalog = (*id == catalog_at).then_some(catalog);
        ProcessConfig { protocol: SeatConfig { member, catalog_at, catalog }, pending_limit: 100_000 }
    };
    let setup = Setup {
        configs: members.iter().map(config).collect(),
        disks: members.iter().map(|_| RecordDisk::default()).collect(),
        clients: load,
        observer,
        swarm,
    };
    begun(World::new(setup, seed))
}

fn begun<P, O>(mut world: World<P, Load, O>) -> World<P, Load, O>
where
    P: keypact_simulator::Process,
    Load: keypact_simulator::Clients<P>,
    O: keypact_simulator::Observer<P>,
{
    expect(world.begin());
    world
}

/// Measurements run protocols that are proven elsewhere: what goes wrong here is a bug of the measurement.
pub(super) fn expect(result: Result<(), Violation>) {
    if let Err(violation) = result {
        panic!("a measurement went wrong: {violation}");
    }
}

/// Before this, a measurement only warms up.
pub(super) const WARM_NS: u64 = SECOND_NS / 5;
/// How long it then counts.
pub(super) const COUNT_NS: u64 = SECOND_NS / 5;

/// Operations of these clients that were done within the time that counts, by second.
pub(super) fn per_second(samples: &[Sample], clients: impl Fn(usize) -> bool) -> f64 {
    let counts = |sample: &&Sample| {
        sample.is_done() && clients(sample.client) && (WARM_NS..WARM_NS + COUNT_NS).contains(&sample.ended_ns)
    };
    samples.iter().filter(counts).count() as f64 * SECOND_NS as f64 / COUNT_NS as f64
}
