//! Scenario `fifo`: a group of fixed members, every one of which broadcasts.
//!
//! Checked at each step: one message per name, nothing delivered is forgotten, what is delivered again after a crash is the same, nobody
//! jumps. In the end, by the checker: validity, no duplication, FIFO, agreement; and that every member serves and holds the same.

use keypact_checker::DeliveryOrder;
use keypact_ordering::broadcast::{BroadcastInvariants, Config, Counters as MemberCounters};
use keypact_ordering::fifo::{Fifo, FifoOrder};
use keypact_protocol::NodeId;
use keypact_simulator::{
    Counters, FaultKind, FaultSet, Limits, Observer, ProcessConfig, ProtocolProcess, Random, RecordDisk,
    SECOND_NS, Scenario, Setup, Swarm, Violation, World,
};

use super::broadcast::{BroadcastClients, BroadcastWork, Enveloped, Inbox, Recorder};

/// One member.
type Process = ProtocolProcess<Fifo, Inbox<Enveloped>>;

/// The protocol alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct FifoScenario;

/// What a member of any broadcast group is told, but for its number.
pub(crate) fn draw_config(members: &[NodeId], random: &mut Random) -> Config {
    let mut config = Config::new(members[0], members.to_vec());
    config.status_ms = random.pick(&[10, 40, 100]);
    config.resend_ms = random.pick(&[5, 30, 100]);
    config.window = random.pick(&[4, 30, 200]);
    config.held_back_max = random.pick(&[2, 20, 500]);
    config.max_batch_bytes = random.pick(&[60, 400, 10_000]);
    config.checkpoint_after_bytes = random.pick(&[200, 2_000, 50_000]);
    config
}

/// Disks of typed records have no bytes to damage.
pub(crate) fn limits(nodes: Vec<usize>) -> Limits {
    let damage = [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull];
    Limits {
        nodes,
        faults: FaultSet::ALL.without(FaultSet::of(&damage)),
        safety_ns: (SECOND_NS, 4 * SECOND_NS),
        liveness_ns: 20 * SECOND_NS,
        ..Limits::default()
    }
}

impl Scenario for FifoScenario {
    type Process = Process;
    type Clients = BroadcastClients;
    type Observer = FifoWatch;

    fn name(&self) -> &'static str {
        "fifo"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, BroadcastClients, FifoWatch> {
        let swarm = Swarm::draw(&limits(vec![1, 2, 3, 3, 5]), random);
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let drawn = draw_config(&members, random);
        let config = |id: &NodeId| Config { id: *id, ..drawn.clone() };
        Setup {
            swarm,
            configs: members
                .iter()
                .map(|id| ProcessConfig { protocol: config(id), pending_limit: 256 })
                .collect(),
            disks: members.iter().map(|_| RecordDisk::default()).collect(),
            clients: BroadcastClients::new(BroadcastWork::draw(random)),
            observer: FifoWatch::new(&members),
        }
    }

    fn judge(&self, world: &World<Process, BroadcastClients, FifoWatch>) -> Result<u64, Violation> {
        let recorder = &world.observer().recorder;
        recorder.judge(&[DeliveryOrder::Fifo], world.clients())
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &BROADCAST_SOMETIMES
    }
}

/// What should be reached over many seeds.
pub(crate) const BROADCAST_SOMETIMES: [&str; 8] = [
    "gap-held-back",
    "released",
    "duplicate-dropped",
    "dropped-full",
    "broadcast-refused",
    "asked-for-missing",
    "repaired",
    "checkpoint-asked",
];

/// Sums of what members did, in the order of [`BROADCAST_SOMETIMES`].
pub(crate) fn reached(life: &MemberCounters) -> [u64; BROADCAST_SOMETIMES.len()] {
    [
        life.held_back_for_gap,
        life.released,
        life.duplicates,
        life.dropped_full,
        life.refused,
        life.asked,
        life.repaired,
        life.checkpoints,
    ]
}

/// The group's invariants, the history, and what was reached.
#[derive(Debug)]
pub struct FifoWatch {
    recorder: Recorder,
    invariants: BroadcastInvariants,
    reached: [u64; BROADCAST_SOMETIMES.len()],
}

impl FifoWatch {
    /// A group of these members, none of which has lived yet.
    #[must_use]
    pub fn new(members: &[NodeId]) -> FifoWatch {
        FifoWatch {
            recorder: Recorder::new(members),
            invariants: BroadcastInvariants::default(),
            reached: [0; BROADCAST_SOMETIMES.len()],
        }
    }

    fn look(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol();
        if member.counters().jumps > 0 {
            return Err(Violation::new(
                "nobody-jumps",
                format!("{node} took undelivered messages for delivered"),
            ));
        }
        self.recorder.deliver::<Enveloped>(node, process.delivered())?;
        self.invariants
            .check::<FifoOrder>(node, member, process.delivered())
            .map_err(|violation| Violation::new(violation.property, violation.detail))
    }
}

impl Observer<Process> for FifoWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Fifo>,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Fifo>,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        for (sum, life) in self.reached.iter_mut().zip(reached(process.protocol().counters())) {
            *sum += life;
        }
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in BROADCAST_SOMETIMES.iter().zip(self.reached) {
            counters.add(name, count);
        }
        counters.add("delivered-again", self.recorder.redelivered());
    }
}
