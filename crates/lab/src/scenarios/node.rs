//! Scenario `node`: whole nodes with clients, on simulated disks, under all faults.

use keypact_checker::ModelKind;
use keypact_node::{Member, NodeConfig, Reads};
use keypact_protocol::NodeId;
use keypact_simulator::{
    FaultKind, FaultSet, Limits, MILLISECOND_NS, Random, SECOND_NS, Scenario, Setup, Swarm, Violation, World,
};
use keypact_storage::WalOptions;

use super::judge::check_history;
use crate::node_clients::{NodeClients, NodeWorkload};
use crate::node_process::{NodeDisk, NodeProcess, NodeSetup};
use crate::node_watch::NodeWatch;

/// Whole nodes with clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeScenario;

/// Faults that leave what is promised to the clients whole. Bits turn on a minority of disks; a node that finds it stays down.
pub(crate) const FAULTS: FaultSet = FaultSet::ALL.without(FaultSet::of(&[
    FaultKind::MisdirectedWrite,
    FaultKind::DiskFull,
    // Folders are lost in seeds of their own.
    FaultKind::DiskLost,
]));

/// Members of a simulated cluster.
pub(crate) fn members(nodes: usize) -> Vec<Member> {
    let member = |id: u64| Member {
        id,
        incarnation: 1,
        resp: format!("n{id}:7001"),
        peer: format!("n{id}:7101"),
        http: format!("n{id}:7201"),
    };
    (1..=nodes as u64).map(member).collect()
}

/// One seed's settings of all nodes.
pub(crate) fn draw_setups(nodes: usize, drift_max_ppm: u32, random: &mut Random) -> Vec<NodeSetup> {
    let reads = random.pick(&[Reads::Lease, Reads::Lease, Reads::ReadIndex]);
    let election_timeout_ms = random.pick(&[150, 300, 1_000]);
    let checkpoint_after_bytes = random.pick(&[2_000, 20_000, 1 << 20]);
    let wal = WalOptions {
        segment_bytes: random.pick(&[4_096, 16_384, 65_536]),
        frame_bytes_max: random.pick(&[1_024, 4_096, 65_536]),
        seed: random.bits(),
        ..WalOptions::default()
    };
    (1..=nodes as u64)
        .map(|id| {
            let mut node = NodeConfig::new(NodeId(id), members(nodes));
            node.hash_key = [7; 16];
            node.reads = reads;
            node.election_timeout_ms = election_timeout_ms;
            node.election_jitter_ms = election_timeout_ms;
            node.heartbeat_ms = election_timeout_ms / 6;
            // Two clocks part by twice what one is off.
            node.drift_bound_ppm = u64::from(drift_max_ppm) * 2 + 100;
            node.disk_hang_ms = 600;
            node.hold_ms = 1_500;
            node.forward_timeout_ms = 1_500;
            node.session_limit = 64;
            node.value_limit_bytes = 1 << 20;
            node.checkpoint_after_bytes = checkpoint_after_bytes;
            node.tail_limit_bytes = 8 << 20;
            let log_long_bytes = 4 * wal.segment_bytes;
            NodeSetup { node, wal, log_long_bytes, operator_ms: 0 }
        })
        .collect()
}

/// What a seed is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theme {
    Anything,
    TornWrites,
    RottenLogs,
    ChangingMembers,
    LostFolders,
}

/// Processes die while their log is being written, again and again: records of several sectors, slow syncs, little else.
fn torn_writes(swarm: &mut Swarm, workload: &mut NodeWorkload, random: &mut Random) {
    swarm.faults = FaultSet::of(&[FaultKind::Crash, FaultKind::Torn]);
    // Rare enough that leaders get to write; most crashes come just after something was sent, which is when a leader's own write is under way.
    swarm.fault_gap_ns = SECOND_NS;
    swarm.crash_after_send_ppm = random.pick(&[1_000, 4_000]);
    swarm.safety_ns = 6 * SECOND_NS;
    swarm.fault_max_ns = SECOND_NS / 5;
    swarm.sync_ns = random.pick(&[2, 8]) * MILLISECOND_NS;
    (swarm.loss_ppm, swarm.duplicate_ppm, swarm.reorder_ppm, swarm.client_loss_ppm) = (0, 0, 0, 0);
    workload.clients = workload.clients.max(3);
    // Enough to do until the faults end, and values that stay short where they are appended to.
    workload.operations = 5_000;
    workload.think_max_ns = 0;
    workload.reads_ppm = 100_000;
    workload.keys = [1, 0, 6];
    workload.padding = 0;
    workload.register_padding = 1_500;
}

/// A bit turns in the log of a node, which then dies and comes back; little else. What it finds must not be taken for a torn end.
fn rotten_logs(swarm: &mut Swarm, workload: &mut NodeWorkload, random: &mut Random) {
    swarm.faults = FaultSet::of(&[FaultKind::BitRot, FaultKind::Crash]);
    swarm.fault_gap_ns = SECOND_NS / 2;
    swarm.crash_after_send_ppm = 0;
    swarm.safety_ns = 6 * SECOND_NS;
    (swarm.loss_ppm, swarm.duplicate_ppm, swarm.reorder_ppm, swarm.client_loss_ppm) = (0, 0, 0, 0);
    workload.operations = 1_000;
    workload.think_max_ns = random.pick(&[2, 10]) * MILLISECOND_NS;
}

/// Nodes come and go by operators' wish, and leadership is handed over, while leaders come and go by themselves.
fn changing_members(swarm: &mut Swarm, workload: &mut NodeWorkload, random: &mut Random) {
    swarm.nodes = random.pick(&[4, 5, 5]);
    let kinds =
        [FaultKind::Crash, FaultKind::Partition, FaultKind::OneWay, FaultKind::Partial, FaultKind::Pause];
    swarm.faults = random.pick(&[FaultSet::of(&kinds), swarm.faults]);
    let_members_change(swarm, workload, random);
}

/// Nodes lose their folders, never a second before the first votes again: with at most four nodes the world allows one.
fn lost_folders(swarm: &mut Swarm, workload: &mut NodeWorkload, random: &mut Random) {
    swarm.nodes = random.pick(&[3, 3, 4]);
    let kinds = [FaultKind::DiskLost, FaultKind::Partition, FaultKind::OneWay];
    let also = [FaultKind::DiskLost, FaultKind::Crash, FaultKind::Partition, FaultKind::Pause];
    swarm.faults = random.pick(&[FaultSet::of(&kinds), FaultSet::of(&also)]);
    let_members_change(swarm, workload, random);
}

fn let_members_change(swarm: &mut Swarm, workload: &mut NodeWorkload, random: &mut Random) {
    (swarm.loss_ppm, swarm.duplicate_ppm, swarm.reorder_ppm, swarm.client_loss_ppm) = (0, 0, 0, 0);
    swarm.crash_after_send_ppm = 0;
    swarm.fault_gap_ns = random.pick(&[200, 500, 1_200]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[200, 800]) * MILLISECOND_NS;
    swarm.active_max = random.pick(&[1, 2]);
    swarm.safety_ns = 10 * SECOND_NS;
    workload.operations = 600;
    workload.think_max_ns = random.pick(&[10, 40]) * MILLISECOND_NS;
    workload.moves_on = true;
}

/// The first `founders` form the cluster; the others know them, and ask to be let in.
fn let_join(configs: &mut [NodeSetup], founders: usize) {
    let founding = members(founders);
    for (config, own) in configs.iter_mut().zip(members(64)) {
        config.node.members = founding.clone();
        if config.node.id.0 > founders as u64 {
            config.node.members.push(own);
            config.node.founder = false;
        }
    }
}

impl Scenario for NodeScenario {
    type Process = NodeProcess;
    type Clients = NodeClients;
    type Observer = NodeWatch;

    fn name(&self) -> &'static str {
        "node"
    }

    fn setup(&self, random: &mut Random) -> Setup<NodeProcess, NodeClients, NodeWatch> {
        let limits = Limits {
            nodes: vec![1, 3, 3, 3, 5],
            faults: FAULTS,
            safety_ns: (SECOND_NS, 6 * SECOND_NS),
            liveness_ns: 20 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let mut workload = NodeWorkload::draw(random);
        let (anything, torn) = (Theme::Anything, Theme::TornWrites);
        let (members, folders) = (Theme::ChangingMembers, Theme::LostFolders);
        let theme =
            random.pick(&[anything, anything, anything, torn, torn, Theme::RottenLogs, members, folders]);
        match theme {
            Theme::Anything => {}
            Theme::ChangingMembers => changing_members(&mut swarm, &mut workload, random),
            Theme::LostFolders => lost_folders(&mut swarm, &mut workload, random),
            Theme::TornWrites => torn_writes(&mut swarm, &mut workload, random),
            Theme::RottenLogs => rotten_logs(&mut swarm, &mut workload, random),
        }
        let mut configs = draw_setups(swarm.nodes, swarm.drift_max_ppm, random);
        let mut founders = swarm.nodes;
        if matches!(theme, Theme::ChangingMembers | Theme::LostFolders) {
            founders -= random.below(swarm.nodes as u64 - 2) as usize;
            let_join(&mut configs, founders);
            let operator_ms = random.pick(&[50, 200]);
            configs.iter_mut().for_each(|config| config.operator_ms = operator_ms);
        }
        let disks = configs.iter().map(|_| NodeDisk::new()).collect();
        let observer = NodeWatch::new(swarm.nodes, founders, swarm.drift_max_ppm);
        let clients = NodeClients::new(workload);
        Setup { swarm, configs, disks, clients, observer }
    }

    fn judge(&self, world: &World<NodeProcess, NodeClients, NodeWatch>) -> Result<u64, Violation> {
        let kind = ModelKind::Kv;
        check_history(&world.clients().history()?, &kind, &kind.default_initial())
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &NODE_SOMETIMES
    }
}

/// What whole nodes should reach over many seeds.
pub(crate) const NODE_SOMETIMES: [&str; 31] = [
    "forwarded",
    "redirected",
    "uncertain",
    "no-quorum",
    "read-after-own-write",
    "tick",
    "idle-tick",
    "leader-clock-too-far-ahead",
    "checkpoint",
    "snapshot-installed",
    "log-segments-changed",
    "recovered-from-log",
    "states-compared",
    "start-refused",
    "leader-elected",
    "leader-changed",
    "vote-withheld",
    "stepped-down-no-quorum",
    "conflict-reported",
    "snapshot-sent",
    "lease-read",
    "read-index",
    "member-step",
    "asked-to-join",
    "lost-folder-readmitted",
    "removed-and-knows",
    "votes-in-a-later-life",
    "order-begun",
    "order-refused",
    "node-added",
    "node-removed",
];
