//! Scenario `causal`: a group whose members come and go, every one of which broadcasts.
//!
//! One node has the catalog beside it, which takes others out of the view and in again; who was out and comes back begins where the others
//! are. Checked: as in `fifo`, and causal order. Nobody jumps unless somebody was out: what only a member had that left, or that
//! passed over it, is lost to who lacked it.

use keypact_checker::DeliveryOrder;
use keypact_ordering::broadcast::{BroadcastInvariants, Config};
use keypact_ordering::causal::CausalOrder;
use keypact_ordering::clock::ReplicaId;
use keypact_protocol::NodeId;
use keypact_simulator::{
    Counters, Observer, ProcessConfig, ProtocolProcess, Random, RecordDisk, SECOND_NS, Scenario, Setup,
    Swarm, Violation, World,
};

use super::broadcast::{
    BroadcastClients, BroadcastWork, Directed, DirectedConfig, Enveloped, Inbox, Recorder, Views,
};
use super::fifo::{draw_config, limits};

/// One node.
type Process = ProtocolProcess<Directed<CausalOrder>, Inbox<Enveloped>>;

/// The protocol alone, and its catalog.
#[derive(Clone, Copy, Debug, Default)]
pub struct CausalScenario;

impl Scenario for CausalScenario {
    type Process = Process;
    type Clients = BroadcastClients;
    type Observer = CausalWatch;

    fn name(&self) -> &'static str {
        "causal"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, BroadcastClients, CausalWatch> {
        let swarm = Swarm::draw(&limits(vec![2, 3, 3, 4, 5]), random);
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let drawn = draw_config(&members, random);
        let views = Views {
            members: members.clone(),
            stays: random.pick(&members),
            // Half of the seeds keep their members.
            last: random.pick(&[0, 0, 3, 8]),
            period_ms: random.pick(&[50, 200, 400]),
            salt: random.bits(),
        };
        let mut work = BroadcastWork::draw(random);
        // Until then the last view is there, and who was out is in again.
        work.calm_ns = if views.last > 0 { 8 * SECOND_NS } else { 0 };
        let config = |id: &NodeId| DirectedConfig {
            member: Config { id: *id, ..drawn.clone() },
            views: (*id == views.stays).then(|| views.clone()),
        };
        Setup {
            swarm,
            configs: members
                .iter()
                .map(|id| ProcessConfig { protocol: config(id), pending_limit: 256 })
                .collect(),
            disks: members.iter().map(|_| RecordDisk::default()).collect(),
            clients: BroadcastClients::new(work),
            observer: CausalWatch::new(&members, views.clone()),
        }
    }

    fn judge(&self, world: &World<Process, BroadcastClients, CausalWatch>) -> Result<u64, Violation> {
        let recorder = &world.observer().recorder;
        recorder.judge(&[DeliveryOrder::Causal], world.clients())
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &SOMETIMES
    }
}

/// What should be reached over many seeds.
const SOMETIMES: [&str; 10] = [
    "gap-held-back",
    "held-back-for-causes",
    "released",
    "dropped-full",
    "asked-for-missing",
    "repaired",
    "checkpoint-asked",
    "view-changed",
    "begun-anew",
    "stranger-refused",
];

/// The group's invariants, the history, and what was reached.
#[derive(Debug)]
pub struct CausalWatch {
    views: Views,
    /// The newest view that any member has had.
    newest: u64,
    recorder: Recorder,
    invariants: BroadcastInvariants,
    reached: [u64; SOMETIMES.len()],
}

impl CausalWatch {
    /// A group of these members, which will have these views.
    #[must_use]
    pub fn new(members: &[NodeId], views: Views) -> CausalWatch {
        CausalWatch {
            views,
            newest: 0,
            recorder: Recorder::new(members),
            invariants: BroadcastInvariants::default(),
            reached: [0; SOMETIMES.len()],
        }
    }

    fn look(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol().member();
        self.newest = self.newest.max(member.view().number);
        if member.counters().jumps > 0 && !self.views.take_out_any(self.newest) {
            let detail = format!("{node} took undelivered messages for delivered, and nobody was ever out");
            return Err(Violation::new("nobody-jumps-while-all-stay", detail));
        }
        if let Some(jump) = member.last_jump() {
            let to = jump.to.iter().map(|(replica, counter)| (replica.0, counter));
            self.recorder.jump(node, jump.after_index, to);
        }
        self.recorder.deliver::<Enveloped>(node, process.delivered())?;
        self.invariants
            .check::<CausalOrder>(node, member, process.delivered())
            .map_err(|violation| Violation::new(violation.property, violation.detail))
    }
}

impl Observer<Process> for CausalWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Directed<CausalOrder>>,
    ) -> Result<(), Violation> {
        let delivered = process.protocol().member().delivered();
        self.recorder.restarted(node, |stream| delivered.get(ReplicaId(stream)));
        self.look(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Directed<CausalOrder>>,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        let life = process.protocol().member().counters();
        let life = [
            life.held_back_for_gap,
            life.held_back_for_others,
            life.released,
            life.dropped_full,
            life.asked,
            life.repaired,
            life.checkpoints,
            life.views,
            life.jumps,
            life.refused_strangers,
        ];
        for (sum, life) in self.reached.iter_mut().zip(life) {
            *sum += life;
        }
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in SOMETIMES.iter().zip(self.reached) {
            counters.add(name, count);
        }
        counters.add("delivered-again", self.recorder.redelivered());
    }
}
