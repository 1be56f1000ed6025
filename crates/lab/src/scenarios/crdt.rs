//! Scenario `crdt`: replicas with one of every conflict-free type, which anybody may change anywhere at any time.
//!
//! Deltas travel over a network that loses, doubles and reorders them; a small anti-entropy finds out what was missed, and sends it in parts.
//! Replicas crash and come back with what their disk kept; some lose their disk, and come back under a new identity. After every few
//! changes, and at the end, each state is compared with what the events that made it say (`crdt/ledger.rs`).

pub(super) mod board;
mod clients;
pub(super) mod ledger;
pub(super) mod replica;

use std::rc::Rc;

use keypact_protocol::NodeId;
use keypact_simulator::{
    FaultKind, FaultSet, Limits, MILLISECOND_NS, Random, SECOND_NS, Scenario, Setup, Swarm,
};

pub use clients::{BoardClients, BoardWatch, BoardWork};
pub use replica::{Replica, ReplicaConfig, ReplicaDisk};

/// Keys of the map.
pub(super) const KEYS: u64 = 3;
/// Elements of a set, keys of an inner map.
pub(super) const ITEMS: u64 = 3;

/// Conflict-free types under a small anti-entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrdtScenario;

impl Scenario for CrdtScenario {
    type Process = Replica;
    type Clients = BoardClients;
    type Observer = BoardWatch;

    fn name(&self) -> &'static str {
        "crdt"
    }

    fn setup(&self, random: &mut Random) -> Setup<Replica, BoardClients, BoardWatch> {
        let impossible = [FaultKind::MisdirectedWrite, FaultKind::DiskFull];
        let limits = Limits {
            nodes: vec![2, 3, 3, 4, 5],
            faults: FaultSet::ALL.without(FaultSet::of(&impossible)),
            safety_ns: (SECOND_NS, 4 * SECOND_NS),
            liveness_ns: 20 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        let mut drift_max_ms = 7_200_000;
        if random.chance(200_000) {
            // Clocks that are off by more than what is believed, but don't jump: what is refused is right a little later.
            swarm.faults = swarm.faults.without(FaultSet::of(&[FaultKind::Jump]));
            drift_max_ms = 500;
        }
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let config = ReplicaConfig {
            members: members.clone(),
            ask_ms: random.pick(&[20, 60, 200]),
            drift_max_ms,
            part_bytes_max: random.pick(&[120, 400, 64 * 1024]),
            records_max: random.pick(&[10, 60, 1_000]),
        };
        let work = BoardWork {
            clients: random.between(2, 5) as u32,
            actions: random.between(20, 50) as u32,
            think_max_ns: random.pick(&[2, 20, 60]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[50, 300]) * MILLISECOND_NS,
            takes_ppm: random.pick(&[150_000, 350_000, 500_000]),
            plain_ppm: random.pick(&[100_000, 300_000]),
        };
        let ledger = Rc::default();
        let every = random.pick(&[4, 10]);
        Setup {
            observer: BoardWatch::new(members.len(), every, Rc::clone(&ledger)),
            clients: BoardClients::new(work, ledger),
            configs: vec![config; members.len()],
            disks: members.iter().map(|_| ReplicaDisk::default()).collect(),
            swarm,
        }
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &[
            "delta-taught-nothing",
            "superseded-before-it-came",
            "sent-in-parts",
            "parts-complete",
            "stamp-refused",
            "came-back-with-nothing",
            "snapshot-read",
            "asked-back",
            "removed-nothing",
            "add-won",
            "values-side-by-side",
            "states-evaluated",
            "forgotten-unheard",
        ]
    }
}
