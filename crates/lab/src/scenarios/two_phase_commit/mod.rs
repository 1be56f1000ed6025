//! Scenario `two-phase-commit`: several coordinators and participants, each a group over a replicated log of its own, leaders that come, go and
//! overlap, and clients with transactions over lists. Judged by the list-append checker, and by invariants over all logs at once.

mod clients;
mod ledger;
mod mail;
mod process;
mod replica;
mod store;
mod watch;

use std::collections::BTreeMap;

use keypact_checker::{ListTransaction, check_list};
use keypact_coordination::two_phase_commit::{CoordinatorConfig, ParticipantConfig, TableLimits};
use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{
    FaultKind, FaultSet, Limits, MILLISECOND_NS, Random, SECOND_NS, Scenario, Setup, Swarm, Violation, World,
};

use clients::{ListClients, Workload};
use watch::TwoPhaseWatch;

pub(crate) use ledger::LedgerConfig;
pub(crate) use process::{MachineConfig, MachineDisk, MachineProcess, Reply, Request};
pub(crate) use replica::{ReplicaConfig, Role};
pub(crate) use store::ListOperation;

/// Several groups of either kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TwoPhaseCommitScenario;

/// The world that it runs in.
pub(crate) type TwoPhaseWorld = World<MachineProcess, ListClients, TwoPhaseWatch>;

/// What should be reached over many seeds.
const SOMETIMES: [&str; 26] = [
    "one-phase",
    "committed",
    "committed-read-only",
    "attempt-aborted",
    "retried",
    "not-applied",
    "uncertain",
    "read-lock-not-held",
    "votes-timed-out",
    "commit-taken-over",
    "presumed-aborted",
    "told-committed",
    "prepared",
    "voted-read-only",
    "refused-locked",
    "refused-otherwise",
    "stale-message",
    "inquired",
    "told-by-peer",
    "participant-aborted",
    "ran-once",
    "read-lock-expired",
    "read-lock-revived",
    "record-void",
    "refusal-logged",
    "deposed",
];

fn draw_coordinator(group: GroupId, random: &mut Random) -> CoordinatorConfig {
    let mut config = CoordinatorConfig::new(group);
    config.max_attempts = random.pick(&[1, 3, 8]);
    config.backoff_ms = random.pick(&[1, 5, 20]);
    config.vote_ms = random.pick(&[100, 400, 1_000]);
    config.transaction_ms = random.pick(&[800, 3_000]);
    config.answer_ms = random.pick(&[1_000, 5_000]);
    config.resend_ms = random.pick(&[20, 100]);
    config.max_transactions = random.pick(&[4, 64]);
    config
}

fn draw_participant(group: GroupId, random: &mut Random) -> ParticipantConfig {
    let mut config = ParticipantConfig::new(group);
    config.inquire_ms = random.pick(&[50, 200, 500]);
    config.read_lock_ms = random.pick(&[100, 400, 2_000]);
    config.max_finished = random.pick(&[16, 500]);
    config.max_transactions = random.pick(&[3, 100]);
    config
}

/// Groups and where they are.
struct Layout {
    coordinators: Vec<(GroupId, Vec<NodeId>)>,
    participants: Vec<GroupId>,
    machines: Vec<MachineConfig>,
    remembered: Vec<(GroupId, TableLimits)>,
}

fn draw_layout(nodes: usize, theme: Theme, random: &mut Random) -> Layout {
    let ids: Vec<NodeId> = (1..=nodes as u64).map(NodeId).collect();
    let machine = MachineConfig { ledgers: Vec::new(), replicas: Vec::new(), places: BTreeMap::new() };
    let mut layout = Layout {
        coordinators: Vec::new(),
        participants: Vec::new(),
        machines: vec![machine; nodes],
        remembered: Vec::new(),
    };
    let (coordinators, participants) = (random.between(1, 2), random.between(2, 4));
    let fences = random.chance(500_000);
    let campaign_ns = random.pick(&[100, 300]) * MILLISECOND_NS;
    let forced_ppm = random.pick(&[0, 20_000, 200_000]);
    let mut coordinator = draw_coordinator(GroupId(0), random);
    if theme == Theme::LateQuestions {
        coordinator.vote_ms = 1_000;
        coordinator.resend_ms = 20;
    }
    let mut participant = draw_participant(GroupId(0), random);
    if theme == Theme::LateQuestions {
        participant.read_lock_ms = 20;
    }
    for number in 1..=coordinators + participants {
        let group = GroupId(number);
        let mut places = ids.clone();
        random.shuffle(&mut places);
        places.truncate(random.between(1, 3).min(nodes as u64) as usize);
        let home = random.pick(&ids);
        let role = if number <= coordinators {
            layout.coordinators.push((group, places.clone()));
            Role::Coordinator(CoordinatorConfig { group, ..coordinator.clone() })
        } else {
            layout.participants.push(group);
            layout.remembered.push((group, participant.table_limits()));
            Role::Participant(ParticipantConfig { group, ..participant.clone() })
        };
        let lease_ns = 3 * campaign_ns;
        let ledger = LedgerConfig { group, replicas: places.clone(), lease_ns, fences };
        layout.machines[home.0 as usize - 1].ledgers.push(ledger);
        let checkpoint_every = random.pick(&[20, 200, u64::MAX / 2]);
        for place in &places {
            let replica =
                ReplicaConfig { group, home, role: role.clone(), campaign_ns, forced_ppm, checkpoint_every };
            layout.machines[place.0 as usize - 1].replicas.push(replica);
        }
        for machine in &mut layout.machines {
            machine.places.insert(group, places.clone());
        }
    }
    layout
}

/// What a seed is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theme {
    Anything,
    Contended,
    LateQuestions,
}

/// A mix in which messages come late or twice, nothing else goes wrong, and read locks last hardly longer than a transaction on a quiet network:
/// while one participant has not been asked, or a vote is on its way, another's locks run out, and a late copy of its question takes them again.
fn late_questions(swarm: &mut Swarm, workload: &mut Workload) {
    contended(swarm, workload);
    swarm.faults = FaultSet::of(&[FaultKind::Duplicate, FaultKind::Reorder]);
    swarm.loss_ppm = 0;
    swarm.duplicate_ppm = 200_000;
    swarm.reorder_ppm = 300_000;
    swarm.delay_tail_ns = 60 * MILLISECOND_NS;
    swarm.ordered = false;
    workload.keys = 3;
    workload.reads_ppm = 500_000;
    workload.timeout_ns = 2_000 * MILLISECOND_NS;
}

/// A mix in which little goes wrong, and many want the same few keys: what locks are for.
fn contended(swarm: &mut Swarm, workload: &mut Workload) {
    let calm = FaultSet::of(&[FaultKind::Loss, FaultKind::Duplicate, FaultKind::Reorder, FaultKind::Slow]);
    swarm.faults = swarm.faults.and(calm);
    swarm.client_loss_ppm = 0;
    swarm.crash_after_send_ppm = 0;
    swarm.loss_ppm = swarm.loss_ppm.min(10_000);
    swarm.sync_ns = swarm.sync_ns.min(MILLISECOND_NS);
    workload.clients = 8;
    workload.keys = 4;
    workload.transactions = 500;
    workload.operations_max = 3;
    workload.think_max_ns = 4 * MILLISECOND_NS;
}

impl Scenario for TwoPhaseCommitScenario {
    type Process = MachineProcess;
    type Clients = ListClients;
    type Observer = TwoPhaseWatch;

    fn name(&self) -> &'static str {
        "two-phase-commit"
    }

    fn setup(&self, random: &mut Random) -> Setup<MachineProcess, ListClients, TwoPhaseWatch> {
        let damage = [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull];
        let limits = Limits {
            nodes: vec![2, 3, 3, 4, 5],
            // A disk of typed facts has no bytes to damage.
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            safety_ns: (SECOND_NS, 5 * SECOND_NS),
            liveness_ns: 30 * SECOND_NS,
            fault_max_ns: SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        // A transaction is ten messages in a row and three syncs: on a slower network than this, seeds tell of nothing but time limits.
        swarm.delay_spread_ns = swarm.delay_spread_ns.min(2 * MILLISECOND_NS);
        swarm.sync_ns = swarm.sync_ns.min(2 * MILLISECOND_NS);
        let theme = match random.below(100) {
            0..40 => Theme::Contended,
            40..60 => Theme::LateQuestions,
            _ => Theme::Anything,
        };
        let layout = draw_layout(swarm.nodes, theme, random);
        let mut workload = Workload {
            clients: random.between(3, 8) as u32,
            transactions: random.pick(&[200, 500]),
            keys: random.pick(&[3, 6, 12]),
            appends_per_key: random.pick(&[8, 32]),
            operations_max: random.pick(&[2, 4]),
            reads_ppm: random.pick(&[300_000, 600_000]),
            think_max_ns: random.pick(&[2, 20, 100]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[500, 2_000]) * MILLISECOND_NS,
            coordinators: layout.coordinators.clone(),
            participants: layout.participants.clone(),
        };
        match theme {
            Theme::Contended => contended(&mut swarm, &mut workload),
            Theme::LateQuestions => late_questions(&mut swarm, &mut workload),
            Theme::Anything => {}
        }
        let coordinators: Vec<GroupId> = layout.coordinators.iter().map(|(group, _)| *group).collect();
        Setup {
            disks: layout.machines.iter().map(|_| MachineDisk::default()).collect(),
            configs: layout.machines,
            clients: ListClients::new(workload),
            observer: TwoPhaseWatch::new(&coordinators, &layout.remembered),
            swarm,
        }
    }

    fn judge(&self, world: &TwoPhaseWorld) -> Result<u64, Violation> {
        judge(world.clients().history())?;
        Ok(1)
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}

/// The checker's verdict on what clients were told.
fn judge(history: &[ListTransaction]) -> Result<(), Violation> {
    let checked = check_list(history).map_err(|problem| Violation::new("history", problem.to_string()))?;
    match checked.anomalies.first() {
        None => Ok(()),
        Some(anomaly) => {
            Err(Violation::new("strictly-serializable", format!("{}: {}", anomaly.name, anomaly.text)))
        }
    }
}
