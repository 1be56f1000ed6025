//! Scenarios `total` and `total-raft`: a group that delivers all messages in one order, by a sequencer whom a small catalog on one of the nodes
//! appoints, and over the real Raft.
//!
//! Checked at each step: the same delivery at each index, in every life; by sequencer also one sequencer an epoch and one entry a position.
//! In the end, by the checker: validity, no duplication, total order, FIFO, agreement; and that every member serves, and all are at one index.

mod appointer;
mod recorder;

use std::marker::PhantomData;

use keypact_coordination::raft::{self, Raft};
use keypact_ordering::total::sequencer::{self, SequencerInvariants};
use keypact_ordering::total::{BySequencer, Config, ReplicatedLog, Total};
use keypact_protocol::{Incarnation, NodeId, Protocol};
use keypact_simulator::{
    Counters, FaultKind, FaultSet, Limits, MILLISECOND_NS, Observer, ProcessConfig, ProtocolProcess, Random,
    RecordDisk, SECOND_NS, Scenario, Setup, Swarm, Violation, World,
};

use super::broadcast::{BroadcastClients, BroadcastWork, Inbox, Opened, Opens};
use super::pace::let_laggards_catch_up;
use super::seat::{Seat, SeatConfig};
pub(crate) use appointer::{Appointer, AppointerConfig};
use recorder::Recorder;

/// As [`super::Enveloped`], delivered by all in one order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ordered;

impl Opens for Ordered {
    const ONE_ORDER: bool = true;

    fn open(command: &bytes::Bytes) -> Result<Opened, keypact_protocol::DecodeError> {
        super::Enveloped::open(command)
    }
}

/// Which log is under the order.
pub(crate) trait Kind: Sized + std::fmt::Debug + 'static {
    /// The log.
    type Log: ReplicatedLog;
    /// A member, with whatever stands beside it on its node.
    type Node: Protocol<Config: Clone>;
    /// The scenario's name.
    const NAME: &'static str;
    /// What should be reached over many seeds.
    const SOMETIMES: &'static [&'static str];

    /// Each node's settings.
    fn configs(
        members: &[NodeId],
        swarm: &mut Swarm,
        random: &mut Random,
    ) -> Vec<<Self::Node as Protocol>::Config>;

    /// The member.
    fn total(node: &Self::Node) -> &Total<Self::Log>;

    /// What a life reached of the log, in the order of the last of [`Kind::SOMETIMES`].
    fn reached(node: &Self::Node) -> Vec<u64>;

    /// What must hold over the members' logs.
    fn check(invariants: &mut SequencerInvariants, id: NodeId, node: &Self::Node) -> Result<(), Violation>;
}

/// What an order did, in the order of the names in `sometimes`.
fn order_reached<L: ReplicatedLog>(total: &Total<L>) -> Vec<u64> {
    let life = total.counters();
    vec![life.sessions_opened, life.sessions_refused, life.duplicates, life.misdirected, life.refused]
}

fn draw_order<C>(members: &[NodeId], log: C, random: &mut Random) -> Config<C> {
    let mut config = Config::new(members[0], members.to_vec(), log);
    config.window = random.pick(&[2, 20, 200]);
    config.resend_ms = random.pick(&[30, 100, 400]);
    config.max_batch_bytes = random.pick(&[60, 400, 10_000]);
    config.max_body_bytes = 100;
    config
}

/// By a sequencer.
#[derive(Debug)]
pub(crate) struct SequencerKind;

/// What should be reached: of the order, and of the log under it.
macro_rules! sometimes {
    ($($name:literal,)*) => {
        &["session-opened", "session-refused", "in-the-log-twice",
          "submitted-elsewhere", "refused-at-once", $($name,)*]
    };
}

impl Kind for SequencerKind {
    type Log = BySequencer;
    type Node = Seat<Appointer>;
    const NAME: &'static str = "total";
    const SOMETIMES: &'static [&'static str] = sometimes![
        "passed-over",
        "appointed",
        "epoch-opened",
        "stepped-down",
        "latest-log-fetched",
        "too-far-behind",
        "stale-epoch-refused",
        "not-resumed",
        "gap-told",
        "sent-again",
        "log-conflict",
        "entries-truncated",
        "checkpoint-asked",
        "snapshot-taken-over",
    ];

    fn configs(
        members: &[NodeId],
        swarm: &mut Swarm,
        random: &mut Random,
    ) -> Vec<SeatConfig<Config<sequencer::Config>, AppointerConfig>> {
        let mut log = sequencer::Config::new(members[0], members.to_vec());
        log.heartbeat_ms = random.pick(&[10, 30]);
        log.resend_ms = random.pick(&[20, 60, 200]);
        log.max_batch_bytes = random.pick(&[100, 1_000, 100_000]);
        log.max_inflight = random.pick(&[1, 8, 4_096]);
        log.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
        log.log_limit_bytes = log.checkpoint_after_bytes * random.pick(&[4, 20]);
        log.max_command_bytes = 200;
        let_laggards_catch_up(swarm, log.max_inflight.min(8) as usize, log.max_batch_bytes);
        let drawn = draw_order(members, log, random);
        let appointer = AppointerConfig {
            members: members.to_vec(),
            patience_ns: random.pick(&[100, 200, 400]) * MILLISECOND_NS,
            restless: random.pick(&[0, 5, 40]),
            restless_ns: random.pick(&[50, 150, 400]) * MILLISECOND_NS,
        };
        let catalog_at = random.pick(members);
        let config = |id: &NodeId| {
            let mut member = Config { id: *id, ..drawn.clone() };
            member.log.id = *id;
            SeatConfig { member, catalog_at, catalog: (*id == catalog_at).then(|| appointer.clone()) }
        };
        members.iter().map(config).collect()
    }

    fn total(node: &Seat<Appointer>) -> &Total<BySequencer> {
        node.member()
    }

    fn reached(node: &Seat<Appointer>) -> Vec<u64> {
        let log = node.member().log().counters();
        vec![
            node.member().counters().passed_over,
            node.catalog().map_or(0, |catalog| catalog.appointments),
            log.epochs_opened,
            log.stepped_down,
            log.fetches,
            log.too_far_behind,
            log.refused_stale,
            log.refused_to_resume,
            log.gaps,
            log.resent,
            log.conflicts,
            log.truncated,
            log.checkpoints,
            log.snapshots_installed,
        ]
    }

    fn check(
        invariants: &mut SequencerInvariants,
        id: NodeId,
        node: &Seat<Appointer>,
    ) -> Result<(), Violation> {
        invariants
            .check(id, node.member().log())
            .map_err(|violation| Violation::new(violation.property, violation.detail))
    }
}

/// Raft, as a log to be ordered over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaftLog;

impl ReplicatedLog for RaftLog {
    type Core = Raft;

    fn leader(core: &Raft) -> Option<NodeId> {
        core.leader()
    }
}

/// Over Raft.
#[derive(Debug)]
pub(crate) struct RaftKind;

impl Kind for RaftKind {
    type Log = RaftLog;
    type Node = Total<RaftLog>;
    const NAME: &'static str = "total-raft";
    const SOMETIMES: &'static [&'static str] =
        sometimes!["leader-elected", "checkpoint-asked", "snapshot-taken-over",];

    fn configs(members: &[NodeId], swarm: &mut Swarm, random: &mut Random) -> Vec<Config<raft::Config>> {
        let founders = members.iter().map(|id| (*id, Incarnation(1))).collect();
        let mut log = raft::Config::new(members[0], founders);
        log.heartbeat_ms = 20;
        log.election_timeout_ms = random.pick(&[100, 200]);
        log.election_jitter_ms = log.election_timeout_ms;
        log.max_append_bytes = random.pick(&[100, 1_000, 100_000]);
        log.max_inflight = random.pick(&[1, 8, 64]);
        log.resend_ms = random.pick(&[50, 200]);
        log.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
        log.tail_limit_bytes = log.checkpoint_after_bytes * random.pick(&[4, 20]);
        log.max_command_bytes = 200;
        let_laggards_catch_up(swarm, log.max_inflight, log.max_append_bytes);
        let drawn = draw_order(members, log, random);
        let config = |id: &NodeId| {
            let mut config = Config { id: *id, ..drawn.clone() };
            config.log.id = *id;
            config
        };
        members.iter().map(config).collect()
    }

    fn total(node: &Total<RaftLog>) -> &Total<RaftLog> {
        node
    }

    fn reached(node: &Total<RaftLog>) -> Vec<u64> {
        let log = node.log().counters();
        vec![log.leaderships, log.checkpoints, log.snapshots_installed]
    }

    fn check(_: &mut SequencerInvariants, _: NodeId, _: &Total<RaftLog>) -> Result<(), Violation> {
        // Scenario `raft` looks at the log itself.
        Ok(())
    }
}

/// One node.
type Process<K> = ProtocolProcess<<K as Kind>::Node, Inbox<Ordered>>;

/// The order over one kind of log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TotalScenario<K>(PhantomData<fn() -> K>);

impl<K> Default for TotalScenario<K> {
    fn default() -> Self {
        TotalScenario(PhantomData)
    }
}

impl<K: Kind> Scenario for TotalScenario<K> {
    type Process = Process<K>;
    type Clients = BroadcastClients;
    type Observer = TotalWatch<K>;

    fn name(&self) -> &'static str {
        K::NAME
    }

    fn setup(&self, random: &mut Random) -> Setup<Process<K>, BroadcastClients, TotalWatch<K>> {
        // A disk of typed records has no bytes to damage.
        let damage =
            [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull, FaultKind::DiskLost];
        let limits = Limits {
            nodes: vec![1, 2, 3, 3, 3, 5],
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            safety_ns: (SECOND_NS, 4 * SECOND_NS),
            liveness_ns: 20 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let configs = K::configs(&members, &mut swarm, random);
        let mut work = BroadcastWork::draw(random);
        work.lively_timeout_ns = 3 * SECOND_NS;
        Setup {
            swarm,
            configs: configs
                .into_iter()
                .map(|protocol| ProcessConfig { protocol, pending_limit: 256 })
                .collect(),
            disks: members.iter().map(|_| RecordDisk::default()).collect(),
            clients: BroadcastClients::new(work),
            observer: TotalWatch::new(&members),
        }
    }

    fn judge(&self, world: &World<Process<K>, BroadcastClients, TotalWatch<K>>) -> Result<u64, Violation> {
        world.observer().recorder.judge(world.clients())
    }

    fn sometimes(&self) -> &'static [&'static str] {
        K::SOMETIMES
    }
}

/// The group's invariants, the history, and what was reached.
#[derive(Debug)]
pub(crate) struct TotalWatch<K> {
    recorder: Recorder,
    invariants: SequencerInvariants,
    reached: Vec<u64>,
    kind: PhantomData<K>,
}

impl<K: Kind> TotalWatch<K> {
    fn new(members: &[NodeId]) -> TotalWatch<K> {
        TotalWatch {
            recorder: Recorder::new(members),
            invariants: SequencerInvariants::default(),
            reached: vec![0; K::SOMETIMES.len()],
            kind: PhantomData,
        }
    }

    fn look(&mut self, id: NodeId, process: &Process<K>) -> Result<(), Violation> {
        K::check(&mut self.invariants, id, process.protocol())?;
        self.recorder.deliver(id, process.delivered(), process.applied_index())
    }
}

impl<K: Kind> Observer<Process<K>> for TotalWatch<K> {
    fn started(
        &mut self,
        _now_ns: u64,
        id: NodeId,
        process: &Process<K>,
        _disk: &RecordDisk<K::Node>,
    ) -> Result<(), Violation> {
        self.look(id, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        id: NodeId,
        process: &Process<K>,
        _disk: &RecordDisk<K::Node>,
    ) -> Result<(), Violation> {
        self.look(id, process)
    }

    fn ended(&mut self, _id: NodeId, process: &Process<K>) {
        let node = process.protocol();
        let life: Vec<u64> = order_reached(K::total(node)).into_iter().chain(K::reached(node)).collect();
        assert!(life.len() == self.reached.len(), "each name has its number");
        for (sum, life) in self.reached.iter_mut().zip(life) {
            *sum += life;
        }
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in K::SOMETIMES.iter().zip(&self.reached) {
            counters.add(name, *count);
        }
        counters.add("delivered-again", self.recorder.redelivered);
        counters.add("passed-over-by-snapshot", self.recorder.passed_over);
    }
}
