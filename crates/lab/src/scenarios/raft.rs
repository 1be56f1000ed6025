//! Scenario `raft`: the protocol alone, behind the gate, with a small state machine, under all faults and all of its invariants.
//!
//! In two of five seeds operators change the members all the time; in one of them nodes lose their disks, too, one at a time until it has
//! caught up.

mod seat;

use keypact_checker::history::Moment;
use keypact_checker::{Answer, Call, History, ModelKind, Operation, Outcome, Value};
use keypact_coordination::raft::{Config, Membership};
use keypact_protocol::{Incarnation, NodeId, ReadLevel};
use keypact_simulator::{
    Agreement, Counters, FaultKind, FaultSet, Kv, KvAnswer, KvClients, KvCommand, KvOperation, KvOutcome,
    KvWork, Limits, MILLISECOND_NS, Observer, ProcessConfig, ProtocolProcess, Random, RecordDisk, SECOND_NS,
    Scenario, Setup, Swarm, Violation, Workload, World,
};

use super::judge::check_history;
use super::pace::let_laggards_catch_up;
use crate::watch::{RAFT_SOMETIMES, RaftWatch};

pub use seat::{Member, MemberConfig, MemberMessage, MemberRecord, MemberRecovering, MemberTimer};

/// The protocol alone.
#[derive(Clone, Debug)]
pub struct RaftScenario {
    /// Cluster sizes to choose from.
    pub nodes: Vec<usize>,
    /// Whether some seeds change the members and lose disks.
    pub changes_members: bool,
}

impl Default for RaftScenario {
    fn default() -> Self {
        RaftScenario { nodes: vec![1, 3, 3, 3, 5, 5], changes_members: true }
    }
}

/// What a seed is about. A mix of everything is seldom deep in one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theme {
    Anything,
    DeposedLeaders,
    ChangingLeaders,
    ChangingMembers,
    LostDisks,
}

type Process = ProtocolProcess<Member, Kv>;

/// One seed's settings, equal on all members.
fn draw_config(
    id: NodeId,
    members: &[(NodeId, Incarnation)],
    drift_max_ppm: u32,
    random: &mut Random,
) -> Config {
    let mut config = Config::new(id, members.to_vec());
    config.heartbeat_ms = random.pick(&[20, 50]);
    config.election_timeout_ms = config.heartbeat_ms * random.pick(&[3, 6]);
    config.election_jitter_ms = random.pick(&[10, config.election_timeout_ms]);
    // Two clocks part by twice what one is off.
    config.drift_bound_ppm = u64::from(drift_max_ppm) * 2 + 100;
    config.lease = random.chance(750_000);
    config.resend_ms = random.pick(&[50, 300]);
    config.max_append_bytes = random.pick(&[100, 1_000, 256 * 1024]);
    config.max_inflight = random.pick(&[1, 4, 64]);
    config.max_inflight_bytes = random.pick(&[2_000, 8 << 20]);
    config.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
    config.max_command_bytes = 200;
    config.disk_hang_ms = 300;
    config
}

/// A mix in which a leader is often deposed without knowing it, while clients wait for its answers: it stands still or is cut off for
/// longer than an election takes, and nothing else disturbs.
fn deposed_leaders(swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    let stops = FaultSet::of(&[FaultKind::Pause]);
    let cuts = FaultSet::of(&[FaultKind::Partition, FaultKind::OneWay, FaultKind::Pause, FaultKind::Suspend]);
    swarm.faults = random.pick(&[stops, cuts]);
    calm_messages(swarm);
    swarm.fault_gap_ns = random.pick(&[300, 600]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[1, 2]) * SECOND_NS;
    swarm.active_max = 1;
    swarm.safety_ns = 30 * SECOND_NS;
    workload.clients = random.between(8, 16) as u32;
    workload.operations = 3_000;
    workload.think_max_ns = random.pick(&[20, 60]) * MILLISECOND_NS;
    workload.timeout_ns = 1_500 * MILLISECOND_NS;
    workload.wander_ppm = random.pick(&[100_000, 300_000]);
    workload.reads_ppm = 500_000;
    workload.levels =
        random.pick(&[&[ReadLevel::Lease][..], &[ReadLevel::Lease, ReadLevel::Linearizable]]).to_vec();
}

/// A mix in which leaders come and go before they get anywhere: what earlier terms left behind is the rule.
fn changing_leaders(swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    let kinds =
        [FaultKind::Crash, FaultKind::Partition, FaultKind::OneWay, FaultKind::Partial, FaultKind::Pause];
    swarm.faults = FaultSet::of(&kinds);
    calm_messages(swarm);
    swarm.crash_after_send_ppm = random.pick(&[1_000, 5_000, 20_000]);
    swarm.fault_gap_ns = random.pick(&[20, 60, 150]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[100, 500]) * MILLISECOND_NS;
    swarm.active_max = random.pick(&[1, 2]);
    swarm.safety_ns = 20 * SECOND_NS;
    workload.clients = random.between(3, 8) as u32;
    workload.operations = 2_000;
    workload.think_max_ns = 10 * MILLISECOND_NS;
    workload.timeout_ns = 100 * MILLISECOND_NS;
    workload.reads_ppm = 100_000;
}

/// A mix in which the members change all the time, several at once, while leaders come and go.
fn changing_members(swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    swarm.nodes = random.pick(&[4, 5, 5]);
    let kinds =
        [FaultKind::Crash, FaultKind::Partition, FaultKind::OneWay, FaultKind::Partial, FaultKind::Pause];
    swarm.faults = random.pick(&[FaultSet::of(&kinds), swarm.faults]);
    calm_messages(swarm);
    swarm.fault_gap_ns = random.pick(&[60, 150, 400]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[200, 800]) * MILLISECOND_NS;
    swarm.active_max = random.pick(&[1, 2]);
    swarm.safety_ns = 8 * SECOND_NS;
    workload.clients = random.between(2, 5) as u32;
    workload.operations = 600;
    workload.think_max_ns = random.pick(&[10, 40]) * MILLISECOND_NS;
}

/// A mix in which nodes lose their disks, never a second before the first has caught up: with at most four nodes the world allows one.
fn lost_disks(swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    swarm.nodes = random.pick(&[3, 3, 4]);
    let kinds = [FaultKind::DiskLost, FaultKind::Partition, FaultKind::OneWay];
    let also = [FaultKind::DiskLost, FaultKind::Crash, FaultKind::Partition, FaultKind::Pause];
    swarm.faults = random.pick(&[FaultSet::of(&kinds), FaultSet::of(&also)]);
    calm_messages(swarm);
    swarm.fault_gap_ns = random.pick(&[60, 150, 400]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[400, 1_000]) * MILLISECOND_NS;
    swarm.active_max = random.pick(&[1, 2]);
    swarm.safety_ns = 8 * SECOND_NS;
    workload.clients = random.between(2, 5) as u32;
    workload.operations = 600;
    workload.think_max_ns = random.pick(&[10, 40]) * MILLISECOND_NS;
}

fn calm_messages(swarm: &mut Swarm) {
    swarm.loss_ppm = 0;
    swarm.duplicate_ppm = 0;
    swarm.reorder_ppm = 0;
    swarm.client_loss_ppm = 0;
    swarm.crash_after_send_ppm = 0;
}

impl Scenario for RaftScenario {
    type Process = Process;
    type Clients = KvClients;
    type Observer = (MemberWatch, Agreement);

    fn name(&self) -> &'static str {
        "raft"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, KvClients, Self::Observer> {
        let damage =
            [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull, FaultKind::DiskLost];
        let limits = Limits {
            nodes: self.nodes.clone(),
            // A disk of typed records has no bytes to damage.
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            safety_ns: (SECOND_NS, 12 * SECOND_NS),
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let mut workload = Workload::draw(random);
        let themes = [
            Theme::Anything,
            Theme::DeposedLeaders,
            Theme::ChangingLeaders,
            Theme::ChangingMembers,
            Theme::LostDisks,
        ];
        let theme = random.pick(if self.changes_members { &themes[..] } else { &themes[..3] });
        match theme {
            Theme::Anything => {}
            Theme::DeposedLeaders => deposed_leaders(&mut swarm, &mut workload, random),
            Theme::ChangingLeaders => changing_leaders(&mut swarm, &mut workload, random),
            Theme::ChangingMembers => changing_members(&mut swarm, &mut workload, random),
            Theme::LostDisks => lost_disks(&mut swarm, &mut workload, random),
        }
        let operated = matches!(theme, Theme::ChangingMembers | Theme::LostDisks);
        let ids: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        // The others found the group, these join.
        let spares = if operated { random.below(ids.len() as u64 - 2) as usize } else { 0 };
        let founders = ids.len() - spares;
        let members: Vec<_> = ids[..founders].iter().map(|id| (*id, Incarnation(1))).collect();
        let operator_ms = if operated { random.pick(&[20, 100, 400]) } else { 0 };
        let mut drawn = draw_config(ids[0], &members, swarm.drift_max_ppm, random);
        if theme == Theme::DeposedLeaders {
            drawn.lease = true;
            drawn.election_timeout_ms = drawn.heartbeat_ms * 3;
        }
        if theme == Theme::ChangingLeaders {
            // What an older term left behind then arrives some time before what the new one adds.
            drawn.max_append_bytes = random.pick(&[50, 300]);
            drawn.max_inflight = random.pick(&[1, 4]);
        }
        let_laggards_catch_up(&mut swarm, drawn.max_inflight, drawn.max_append_bytes);
        let configs = ids
            .iter()
            .map(|id| {
                let mut raft = Config { id: *id, ..drawn.clone() };
                if !members.iter().any(|(member, _)| member == id) {
                    raft.members.clear();
                }
                let protocol = MemberConfig { raft, nodes: ids.clone(), operator_ms };
                ProcessConfig { protocol, pending_limit: 256 }
            })
            .collect();
        let disks = ids.iter().map(|_| RecordDisk::with_standing(Member::standing())).collect();
        let watch = RaftWatch::of(&ids, &Membership::founding(&members));
        let clients = KvClients::new(workload);
        Setup { swarm, configs, disks, clients, observer: (MemberWatch::new(watch), Agreement::default()) }
    }

    fn judge(&self, world: &World<Process, KvClients, Self::Observer>) -> Result<u64, Violation> {
        let history = registers(world.clients())?;
        check_history(&history, &ModelKind::CasRegister, &Value::Integer(0))
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}

/// The group's invariants, and what was reached.
#[derive(Debug)]
pub struct MemberWatch {
    raft: RaftWatch,
    reached: [u64; CHANGES.len()],
}

/// What should be reached of changes of members over many seeds.
const CHANGES: [&str; 14] = [
    "change-begun",
    "change-refused",
    "lost-disk-readmitted",
    "configuration-joint",
    "configuration-settled",
    "change-inherited",
    "configuration-undone",
    "configuration-by-snapshot",
    "stepped-down-removed",
    "transfer-told",
    "transfer-given-up",
    "campaign-by-transfer",
    "stranger-refused",
    "life-lost",
];

/// All of them.
static SOMETIMES: [&str; RAFT_SOMETIMES.len() + CHANGES.len()] = {
    let mut all = [""; RAFT_SOMETIMES.len() + CHANGES.len()];
    let mut at = 0;
    while at < all.len() {
        let raft = at < RAFT_SOMETIMES.len();
        all[at] = if raft { RAFT_SOMETIMES[at] } else { CHANGES[at - RAFT_SOMETIMES.len()] };
        at += 1;
    }
    all
};

impl MemberWatch {
    fn new(raft: RaftWatch) -> MemberWatch {
        MemberWatch { raft, reached: [0; CHANGES.len()] }
    }
}

impl Observer<Process> for MemberWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Member>,
    ) -> Result<(), Violation> {
        self.raft.started(node, process.protocol().raft())
    }

    #[inline]
    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Member>,
    ) -> Result<(), Violation> {
        self.raft.stepped(node, process.protocol().raft())
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        let member = process.protocol();
        self.raft.ended(member.raft());
        let (raft, operator) = (member.raft().counters(), member.counts());
        let life = [
            operator.begun,
            operator.refused,
            operator.readmitted,
            raft.joint_configurations,
            raft.settled_configurations,
            raft.changes_inherited,
            raft.configurations_undone,
            raft.configurations_by_snapshot,
            raft.stepped_down_removed,
            raft.transfers_told,
            raft.transfers_given_up,
            raft.campaigns_by_transfer,
            raft.refused_strangers,
            u64::from(member.raft().config().incarnation.0 > 1),
        ];
        for (sum, life) in self.reached.iter_mut().zip(life) {
            *sum += life;
        }
    }

    fn count(&self, counters: &mut Counters) {
        self.raft.count(counters);
        for (name, count) in CHANGES.iter().zip(self.reached) {
            counters.add(name, count);
        }
    }
}

/// The history of the registers. Those of lists and counters, whose answers tell their own order, the clients have judged themselves.
pub(crate) fn registers(clients: &KvClients) -> Result<History, Violation> {
    let first = clients.workload().lists + clients.workload().counters;
    let operations =
        clients.history().iter().enumerate().filter_map(|(index, op)| operation(index, op, first));
    History::merge(operations.collect()).map_err(|problem| Violation::new("history", problem.to_string()))
}

pub(crate) fn operation(index: usize, op: &KvOperation, first_register: u16) -> Option<Operation> {
    let number = |value: i64| Value::Integer(value);
    let (key, call) = match op.work {
        // May be of any moment before.
        KvWork::Read(_, ReadLevel::Stale) => return None,
        KvWork::Read(key, _) => (key, Call::Read),
        KvWork::Write(KvCommand::Set { key, value }) => (key, Call::Write(number(value))),
        KvWork::Write(KvCommand::CompareAndSet { key, expected, value }) => {
            (key, Call::CompareAndSet { expected: number(expected), new: number(value) })
        }
        KvWork::Write(KvCommand::Increment { .. } | KvCommand::Append { .. }) => return None,
    };
    if key < first_register {
        return None;
    }
    let outcome = match (op.outcome, &call) {
        (KvOutcome::Failed, _) => Outcome::Failed,
        (KvOutcome::Unknown, _) => Outcome::Unknown,
        (KvOutcome::Ok(KvAnswer::Number(value)), Call::Read) => Outcome::Ok(Answer::Value(number(value))),
        (KvOutcome::Ok(KvAnswer::Swapped(swapped)), _) => Outcome::Ok(Answer::Applied(swapped)),
        (KvOutcome::Ok(_), _) => Outcome::Ok(Answer::Nothing),
    };
    let moment = |time_ns| Moment { position: 0, time_ns: Some(time_ns), line: 0 };
    Some(Operation {
        // A client that gave an operation up goes on with the next, so each operation is a process of its own.
        process: index as u64,
        key: format!("register{key}").into(),
        call,
        outcome,
        invoked: moment(op.invoked_ns),
        returned: op.returned_ns.map(moment),
    })
}
