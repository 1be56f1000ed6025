//! Scenario `chain`: the protocol alone, with a small catalog on one of the nodes that resplices the chain as the real one will.
//!
//! Every history must be linearizable, reads at every member included, and nothing acknowledged may be lost. Disks are lost within the
//! contract only: of members that do not serve, so that one that does always lives.

mod catalog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keypact_checker::{ModelKind, Value};
use keypact_protocol::{GroupId, NodeId, ReadLevel};
use keypact_replication::chain::{ChainInvariants, Config, MemberState};
use keypact_simulator::{
    Counters, FaultKind, FaultSet, Kv, KvClients, Limits, MILLISECOND_NS, Observer, ProcessConfig,
    ProtocolProcess, Random, RecordDisk, SECOND_NS, Scenario, Setup, Swarm, Violation, Workload, World,
    key_of_command,
};

use super::judge::check_history;
use super::pace::let_laggards_catch_up;
use super::raft::registers;
use super::seat::{Seat, SeatConfig};

pub(crate) use catalog::CatalogConfig;
pub use catalog::ChainCatalog;

/// A member of a chain, and its catalog.
pub type ChainSeat = Seat<ChainCatalog>;

/// One node.
type Process = ProtocolProcess<ChainSeat, Kv>;

/// The protocol alone, and its catalog.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainScenario;

/// What a seed is about. A mix of everything is seldom deep in one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theme {
    Anything,
    /// Members are cut off or stand still for longer than their lease, while clients go on asking them.
    Resplices,
    /// Processes die all the time, all at once too, and lose what was not synced.
    Crashes,
}

/// One seed's settings, equal on all members.
fn draw_config(members: &[NodeId], drift_max_ppm: u32, random: &mut Random) -> Config {
    let mut config = Config::new(members[0], GroupId(7), members.to_vec());
    config.keys_of = key_of_command;
    config.heartbeat_ms = random.pick(&[20, 50]);
    // Two clocks part by twice what one is off.
    config.drift_bound_ppm = u64::from(drift_max_ppm) * 2 + 100;
    config.max_append_bytes = random.pick(&[100, 1_000, 256 * 1024]);
    config.max_inflight_entries = random.pick(&[1, 8, 4_096]);
    config.sync_lag_entries = random.pick(&[0, 2, 100]);
    config.resend_ms = random.pick(&[50, 300]);
    config.read_timeout_ms = random.pick(&[200, 1_000]);
    config.disk_hang_ms = random.pick(&[300, 1_000]);
    config.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
    config.tail_limit_bytes = config.checkpoint_after_bytes * random.pick(&[4, 20]);
    config.max_command_bytes = 200;
    config
}

fn calm_messages(swarm: &mut Swarm) {
    swarm.loss_ppm = 0;
    swarm.duplicate_ppm = 0;
    swarm.reorder_ppm = 0;
    swarm.client_loss_ppm = 0;
}

fn busy_clients(workload: &mut Workload, random: &mut Random) {
    workload.clients = random.between(4, 10) as u32;
    workload.operations = 1_000;
    workload.think_max_ns = random.pick(&[5, 20]) * MILLISECOND_NS;
    workload.timeout_ns = 400 * MILLISECOND_NS;
    workload.wander_ppm = 1_000_000;
    workload.reads_ppm = 500_000;
    workload.levels = vec![ReadLevel::Linearizable];
}

fn shape(theme: Theme, swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    match theme {
        Theme::Anything => return,
        Theme::Resplices => {
            let stops = FaultSet::of(&[FaultKind::Pause, FaultKind::Suspend]);
            let cuts = FaultSet::of(&[
                FaultKind::Partition,
                FaultKind::Partial,
                FaultKind::OneWay,
                FaultKind::Pause,
            ]);
            swarm.faults = random.pick(&[stops, cuts, cuts]);
            swarm.crash_after_send_ppm = 0;
            swarm.fault_gap_ns = random.pick(&[150, 400]) * MILLISECOND_NS;
            swarm.fault_max_ns = random.pick(&[1, 2]) * SECOND_NS;
            swarm.active_max = random.pick(&[1, 2]);
        }
        Theme::Crashes => {
            let deaths = [FaultKind::Crash, FaultKind::CrashAll, FaultKind::UnsyncedLost, FaultKind::Torn];
            swarm.faults = FaultSet::of(&deaths);
            swarm.crash_after_send_ppm = random.pick(&[0, 300]);
            swarm.fault_gap_ns = random.pick(&[100, 300]) * MILLISECOND_NS;
            swarm.sync_ns = swarm.sync_ns.max(MILLISECOND_NS);
        }
    }
    calm_messages(swarm);
    swarm.safety_ns = 8 * SECOND_NS;
    busy_clients(workload, random);
}

impl Scenario for ChainScenario {
    type Process = Process;
    type Clients = KvClients;
    type Observer = ChainWatch;

    fn name(&self) -> &'static str {
        "chain"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, KvClients, ChainWatch> {
        // A disk of typed records has no bytes to damage; it may be lost whole.
        let damage =
            [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull, FaultKind::DiskLost];
        let limits = Limits {
            nodes: vec![1, 2, 3, 3, 3, 4, 5],
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            liveness_ns: 20 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let mut workload = Workload::draw(random);
        let theme = random.pick(&[Theme::Anything, Theme::Resplices, Theme::Crashes]);
        shape(theme, &mut swarm, &mut workload, random);
        let lease_ms = if theme == Theme::Anything { random.pick(&[150, 400, 1_000]) } else { 150 };
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let mut drawn = draw_config(&members, swarm.drift_max_ppm, random);
        drawn.renew_ms = lease_ms / 4;
        // Entries are counted, not frames.
        let frame_bytes = if drawn.max_inflight_entries == 1 { 0 } else { drawn.max_append_bytes };
        let_laggards_catch_up(&mut swarm, drawn.max_inflight_entries.min(8) as usize, frame_bytes);
        let catalog_at = random.pick(&members);
        let mut order = members.clone();
        let catalog = CatalogConfig {
            group: drawn.group,
            members: {
                order.rotate_left(random.index(members.len()));
                order
            },
            lease_ns: lease_ms * MILLISECOND_NS,
            drift_bound_ppm: drawn.drift_bound_ppm,
        };
        let config = |id: &NodeId| SeatConfig {
            member: Config { id: *id, ..drawn.clone() },
            catalog_at,
            catalog: (*id == catalog_at).then(|| catalog.clone()),
        };
        let observer = ChainWatch::new(&members, catalog_at);
        Setup {
            swarm,
            configs: members
                .iter()
                .map(|id| ProcessConfig { protocol: config(id), pending_limit: 256 })
                .collect(),
            disks: observer.losable.iter().map(|flag| RecordDisk::losable(flag.clone())).collect(),
            clients: KvClients::new(workload),
            observer,
        }
    }

    fn judge(&self, world: &World<Process, KvClients, ChainWatch>) -> Result<u64, Violation> {
        check_history(&registers(world.clients())?, &ModelKind::CasRegister, &Value::Integer(0))
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}

/// What should be reached over many seeds.
const SOMETIMES: [&str; 30] = [
    "promoted",
    "began-to-sync",
    "synced-reported",
    "stale-epoch-refused",
    "coming-epoch-refused",
    "earlier-life-refused",
    "refused-past-lease",
    "renewal-held-back",
    "tail-read",
    "clean-read",
    "tail-asked",
    "read-given-up",
    "gap-found",
    "entries-resent",
    "entries-truncated",
    "checkpoint-asked",
    "snapshot-sent",
    "snapshot-taken-over",
    "member-removed",
    "several-removed-at-once",
    "head-removed",
    "middle-removed",
    "tail-removed",
    "syncing-member-removed",
    "all-gone",
    "last-server-began-again",
    "serving-member-restarted",
    "resync-during-writes",
    "disk-lost",
    "entries-committed",
];

/// The group's invariants, what was reached, and which disks may be lost.
#[derive(Debug)]
pub struct ChainWatch {
    invariants: ChainInvariants,
    catalog_at: NodeId,
    /// By member. Set while the catalog knows, durably, that it does not serve, and could not begin the group again.
    losable: Vec<Arc<AtomicBool>>,
    losses: Vec<u64>,
    reached: [u64; SOMETIMES.len()],
}

impl ChainWatch {
    /// A group of these members, none of which has lived yet, with its catalog on one of them.
    #[must_use]
    pub fn new(members: &[NodeId], catalog_at: NodeId) -> ChainWatch {
        ChainWatch {
            invariants: ChainInvariants::new(members),
            catalog_at,
            losable: members.iter().map(|_| Arc::default()).collect(),
            losses: vec![0; members.len()],
            reached: [0; SOMETIMES.len()],
        }
    }

    fn check(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        if node == self.catalog_at
            && let Some(layout) = process.protocol().settled_catalog().map(ChainCatalog::layout)
        {
            for member in layout.members.iter().filter(|member| member.node != self.catalog_at) {
                let idle = matches!(member.state, MemberState::Waiting | MemberState::Offline);
                self.losable[member.node.0 as usize - 1].store(idle, Ordering::Relaxed);
            }
        }
        self.invariants
            .check(node, process.protocol().member())
            .map_err(|violation| Violation { property: violation.property, detail: violation.detail })
    }
}

impl Observer<Process> for ChainWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        disk: &RecordDisk<ChainSeat>,
    ) -> Result<(), Violation> {
        self.losses[node.0 as usize - 1] = disk.losses();
        self.invariants.restarted(node);
        self.check(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<ChainSeat>,
    ) -> Result<(), Violation> {
        self.check(node, process)
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        let seat = process.protocol();
        let member = seat.member().counters();
        let catalog = seat.catalog().map(|catalog| catalog.reached).unwrap_or_default();
        let life = [
            member.promoted,
            member.syncs,
            member.synced_reports,
            member.refused_stale,
            member.refused_ahead,
            member.refused_other_life,
            member.refused_past_lease,
            member.disk_hangs,
            member.tail_reads,
            member.clean_reads,
            member.asked_reads,
            member.reads_given_up,
            member.gaps,
            member.resent,
            member.truncated_entries,
            member.checkpoints,
            member.snapshots_sent,
            member.snapshots_installed,
            catalog.removed,
            catalog.several_removed,
            catalog.head_removed,
            catalog.middle_removed,
            catalog.tail_removed,
            catalog.syncing_removed,
            catalog.all_gone,
            catalog.began_again,
            catalog.restarted,
            member.counted_under_way,
        ];
        for (sum, life) in self.reached.iter_mut().zip(life) {
            *sum += life;
        }
    }

    fn count(&self, counters: &mut Counters) {
        let mut reached = self.reached;
        let [.., lost, committed] = &mut reached;
        *lost = self.losses.iter().sum();
        *committed = self.invariants.committed();
        for (name, count) in SOMETIMES.iter().zip(reached) {
            counters.add(name, count);
        }
    }
}
