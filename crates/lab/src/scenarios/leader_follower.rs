//! Scenario `leader-follower`: the protocol alone, with a small catalog on one of the nodes that changes leaders as the real one will.
//!
//! With acknowledgements (`acks` > 0) clients must see one linearizable order, and nothing acknowledged may be lost. Without, a promotion may
//! lose what was acknowledged; what is checked then: equal entries at equal places of an epoch on all members, nothing applied twice,
//! nothing applied that was refused, and that all become equal in the end. If no promotion was needed, everything is checked.

mod assigner;
mod board;
mod sessions;
mod spans;
mod truth;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use keypact_checker::{ModelKind, Value};
use keypact_protocol::{NodeId, ReadLevel};
use keypact_replication::leader_follower::{Config, SuccessionConfig};
use keypact_simulator::{
    ClientEffects, ClientId, Clients, FaultKind, FaultSet, Kv, KvClients, KvCommand, KvOutcome, KvWork,
    Limits, MILLISECOND_NS, MachineOutcome, MachineReply, MachineRequest, ProcessConfig, ProtocolProcess,
    Random, RecordDisk, SECOND_NS, Scenario, Setup, Swarm, Tally, Violation, Workload, World,
};

use super::judge::check_history;
use super::pace::let_laggards_catch_up;
use super::raft::registers;
use super::seat::{Seat, SeatConfig};
use board::SharedBoard;
use sessions::Sessions;

pub use assigner::Assigner;
pub(crate) use assigner::AssignerConfig;
pub use watch::LeaderFollowerWatch;

/// A member, and its catalog.
pub type LeaderFollowerSeat = Seat<Assigner>;

/// One node.
type Process = ProtocolProcess<LeaderFollowerSeat, Kv>;

/// The protocol alone, and its catalog.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaderFollowerScenario;

/// One seed's settings, equal on all members.
fn draw_config(members: &[NodeId], drift_max_ppm: u32, random: &mut Random) -> Config {
    let most = members.len() - 1;
    let acks = random.pick(&[0, 1, 1, most / 2, most]).min(most);
    let mut config = Config::new(members[0], members.to_vec(), acks);
    config.leader = random.pick(members);
    config.heartbeat_ms = random.pick(&[20, 50]);
    // Two clocks part by twice what one is off.
    config.drift_bound_ppm = u64::from(drift_max_ppm) * 2 + 100;
    config.max_append_bytes = random.pick(&[100, 1_000, 256 * 1024]);
    config.max_inflight_entries = random.pick(&[1, 8, 4_096]);
    config.resend_ms = random.pick(&[50, 300]);
    config.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
    config.tail_limit_bytes = config.checkpoint_after_bytes * random.pick(&[4, 20]);
    config.max_command_bytes = 200;
    config
}

/// The catalog of a group of such members.
fn draw_assigner(member: &Config, lease_ns: u64, random: &mut Random) -> AssignerConfig {
    // Without acknowledgements there is nothing to wait for but the members that can be had; with them an operator may lose patience.
    let forces = member.acks == 0 || random.chance(150_000);
    AssignerConfig {
        group: SuccessionConfig {
            epoch: member.epoch,
            leader: member.leader,
            allowance: random.pick(&[20, 200, 1 << 20]),
            ..SuccessionConfig::new(member.members.clone(), member.acks)
        },
        lease_ns,
        drift_bound_ppm: member.drift_bound_ppm,
        force_after_ns: forces.then_some(lease_ns),
    }
}

/// Half of the seeds: the leader stands still or is cut off for longer than its lease, while clients go on asking it.
fn deposed_leaders(swarm: &mut Swarm, workload: &mut Workload, random: &mut Random) {
    let stops = FaultSet::of(&[FaultKind::Pause, FaultKind::Suspend]);
    let cuts = FaultSet::of(&[FaultKind::Partition, FaultKind::Partial, FaultKind::OneWay, FaultKind::Pause]);
    swarm.faults = random.pick(&[stops, cuts, cuts]);
    swarm.loss_ppm = 0;
    swarm.duplicate_ppm = 0;
    swarm.reorder_ppm = 0;
    swarm.client_loss_ppm = 0;
    swarm.crash_after_send_ppm = 0;
    swarm.fault_gap_ns = random.pick(&[300, 600]) * MILLISECOND_NS;
    swarm.fault_max_ns = random.pick(&[1, 2]) * SECOND_NS;
    swarm.active_max = 1;
    swarm.safety_ns = 15 * SECOND_NS;
    workload.clients = random.between(4, 10) as u32;
    workload.operations = 2_000;
    workload.think_max_ns = random.pick(&[10, 40]) * MILLISECOND_NS;
    workload.timeout_ns = 400 * MILLISECOND_NS;
    workload.wander_ppm = random.pick(&[300_000, 1_000_000]);
    workload.reads_ppm = 500_000;
    workload.levels = vec![ReadLevel::Linearizable];
}

impl Scenario for LeaderFollowerScenario {
    type Process = Process;
    type Clients = LeaderFollowerClients;
    type Observer = LeaderFollowerWatch;

    fn name(&self) -> &'static str {
        "leader-follower"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, LeaderFollowerClients, LeaderFollowerWatch> {
        let damage =
            [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull, FaultKind::DiskLost];
        let limits = Limits {
            nodes: vec![1, 2, 3, 3, 3, 5],
            // A disk of typed records has no bytes to damage.
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            liveness_ns: 20 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let mut workload = Workload::draw(random);
        let mut lease_ms = random.pick(&[150, 400, 1_000]);
        let deposes = random.chance(500_000);
        if deposes {
            deposed_leaders(&mut swarm, &mut workload, random);
            lease_ms = 150;
        }
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let mut drawn = draw_config(&members, swarm.drift_max_ppm, random);
        drawn.renew_ms = lease_ms / 4;
        // Entries are counted, not frames.
        let frame_bytes = if drawn.max_inflight_entries == 1 { 0 } else { drawn.max_append_bytes };
        let_laggards_catch_up(&mut swarm, drawn.max_inflight_entries.min(8) as usize, frame_bytes);
        if deposes && members.len() > 2 {
            // The others can go on without the leader, and do.
            drawn.acks = random.pick(&[0, 1, 1]);
        }
        let catalog_at = random.pick(&members);
        let assigner = draw_assigner(&drawn, lease_ms * MILLISECOND_NS, random);
        // One member alone has nobody to lose anything to.
        let keeps_all = assigner.force_after_ns.is_none() || members.len() == 1;
        let config = |id: &NodeId| SeatConfig {
            member: Config { id: *id, ..drawn.clone() },
            catalog_at,
            catalog: (*id == catalog_at).then(|| assigner.clone()),
        };
        let configs =
            members.iter().map(|id| ProcessConfig { protocol: config(id), pending_limit: 256 }).collect();
        let board = SharedBoard::default();
        let first_key = workload.lists + workload.counters + workload.registers;
        let sessions = random.below(3) as u32;
        let sessions = Sessions::new(workload.clients, first_key, sessions, 200, board.clone());
        let kept_acks = if keeps_all { drawn.acks } else { 0 };
        Setup {
            swarm,
            configs,
            disks: members.iter().map(|_| RecordDisk::default()).collect(),
            observer: LeaderFollowerWatch::new(&members, kept_acks, sessions.keys(), board.clone()),
            clients: LeaderFollowerClients {
                inner: KvClients::new(workload),
                sessions,
                board,
                answered: BTreeMap::new(),
                keeps_all,
                first_epoch: drawn.epoch,
            },
        }
    }

    fn judge(
        &self,
        world: &World<Process, LeaderFollowerClients, LeaderFollowerWatch>,
    ) -> Result<u64, Violation> {
        let clients = world.clients();
        clients.sessions.judge()?;
        let processes = world.observer().members().filter_map(|node| world.process(node));
        for catalog in processes.filter_map(|process| process.protocol().settled_catalog()) {
            world.observer().truth().judge(catalog.group())?;
        }
        if !clients.keeps_all {
            return world.observer().spans().judge(&clients.inner, &clients.answered);
        }
        check_history(&registers(&clients.inner)?, &ModelKind::CasRegister, &Value::Integer(0))
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &watch::SOMETIMES
    }
}

/// Clients of the kv machine, judged by what the policy promises.
#[derive(Debug)]
pub struct LeaderFollowerClients {
    inner: KvClients,
    sessions: Sessions,
    board: SharedBoard,
    /// In which epoch an answer was given, by client and when it came.
    answered: BTreeMap<(u32, u64), u64>,
    /// Nothing acknowledged may be lost.
    keeps_all: bool,
    first_epoch: u64,
}

impl LeaderFollowerClients {
    /// What holds even where a promotion may lose what was acknowledged.
    fn judge_lossy(&self, machine: &Kv) -> Result<(), Violation> {
        let mut refused = BTreeSet::new();
        let mut asked = BTreeSet::new();
        for operation in self.inner.history() {
            if let KvWork::Write(KvCommand::Append { element, .. }) = operation.work {
                asked.insert(element);
                if operation.outcome == KvOutcome::Failed {
                    refused.insert(element);
                }
            }
        }
        for key in 0..self.inner.workload().lists {
            let mut seen = BTreeSet::new();
            for element in machine.list(key) {
                if !seen.insert(*element) {
                    return Err(Violation::new("applied-once", format!("list {key} has {element} twice")));
                }
                if refused.contains(element) || !asked.contains(element) {
                    let detail = format!("list {key} has {element}, which nobody was let to append");
                    return Err(Violation::new("refused-is-not-applied", detail));
                }
            }
        }
        Ok(())
    }
}

type Out = ClientEffects<Process>;

impl Clients<Process> for LeaderFollowerClients {
    fn len(&self) -> u32 {
        Clients::<Process>::len(&self.inner) + self.sessions.len()
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.inner.start(nodes, random, out);
        self.sessions.start(nodes, random, out);
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        if self.sessions.has(client) {
            return self.sessions.wake(now_ns, client, token, random, out);
        }
        self.inner.wake(now_ns, client, token, random, out);
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        from: NodeId,
        reply: MachineReply<Kv>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let epoch = self.board.borrow_mut().answered.remove(&(client, reply.token));
        if self.sessions.has(client) {
            return self.sessions.reply(now_ns, client, &reply, random, out);
        }
        if let Some(epoch) = epoch.filter(|_| matches!(reply.outcome, MachineOutcome::Done(_))) {
            self.answered.insert((client.0, now_ns), epoch);
        }
        self.inner.reply(now_ns, client, from, reply, random, out);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        by: NodeId,
        request: MachineRequest<Kv>,
        random: &mut Random,
        out: &mut Out,
    ) {
        if self.sessions.has(client) {
            return self.sessions.again(now_ns, client, None, random, out);
        }
        self.inner.refused(now_ns, client, by, request, random, out);
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.inner.liveness_begins(now_ns, random, out);
        self.sessions.finish();
    }

    fn satisfied(&self) -> bool {
        Clients::<Process>::satisfied(&self.inner) && self.sessions.satisfied()
    }

    fn waiting_for(&self) -> String {
        Clients::<Process>::waiting_for(&self.inner)
    }

    fn tally(&self) -> Tally {
        Clients::<Process>::tally(&self.inner)
    }

    fn judge(&self, processes: &[&Process]) -> Result<(), Violation> {
        let Some(process) = processes.first() else {
            return Err(Violation::new("liveness", "no process is left"));
        };
        assert!(self.sessions.satisfied(), "all clients were served");
        let never_promoted = processes.iter().all(|p| p.protocol().member().epoch() == self.first_epoch);
        if self.keeps_all || never_promoted {
            return self.inner.judge(processes);
        }
        self.judge_lossy(process.machine())
    }
}
