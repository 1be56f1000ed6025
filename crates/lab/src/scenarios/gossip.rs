//! Scenario `gossip`: replicas that all take writes, with a small catalog on one of the nodes that lets them leave and come back.
//!
//! Clients write and delete at any replica. Replicas crash, are cut off, lose their disks, are drained and admitted again, and are expelled when they
//! are silent for too long. Checked: what each replica shows, against the events that it has applied and what each of these had seen
//! (`crdt/ledger.rs`); equal versions, equal states; that a write is on as many disks as its acknowledgement says; and in the end
//! that all are equal, and that no acknowledged write is missing but those of which every copy was lost with a disk, or dropped by who came
//! back too late.

mod clients;
mod copies;
mod roll;
mod shelf;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;

use keypact_protocol::{GroupId, Incarnation, NodeId};
use keypact_replication::gossip::{Config, Record, RosterConfig, View};
use keypact_simulator::{
    FaultKind, FaultSet, Limits, MILLISECOND_NS, ProcessConfig, ProtocolProcess, Random, RecordDisk,
    SECOND_NS, Scenario, Setup, Standing, Swarm,
};

use super::seat::{Seat, SeatConfig, SeatRecord};
use clients::{GossipClients, GossipWork};
use roll::{Roll, RollConfig};
use shelf::Shelf;
use watch::GossipWatch;

/// One node.
type Process = ProtocolProcess<Seat<Roll>, Shelf>;

const GROUP: GroupId = GroupId(9);

/// The protocol alone, and its catalog.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GossipScenario;

/// One seed's settings, equal on all replicas.
fn draw_config(members: &[NodeId], random: &mut Random) -> Config {
    let most = members.len() - 1;
    let mut config = Config::new(members[0], GROUP, View::of_founders(members));
    config.fan_out = random.pick(&[1, 1, 2]);
    config.interval_ms = random.pick(&[10, 40, 150]);
    config.idle_interval_ms = config.interval_ms * random.pick(&[1, 4]);
    config.report_ms = random.pick(&[10, 40, 100]);
    config.push_to = random.pick(&[0, 1, 1, 2]);
    config.budget_bytes = random.pick(&[60, 400, 64 * 1024]);
    config.recent_bytes_max = random.pick(&[0, 300, 100_000]);
    config.transfers_max = random.pick(&[1, 4]);
    config.transfer_timeout_ms = random.pick(&[50, 300]);
    config.acks = random.pick(&[0, 0, 1, most]).min(most);
    config.ack_timeout_ms = random.pick(&[50, 400]);
    config.held_max = random.pick(&[4, 100]);
    config.max_command_bytes = 200;
    config.checkpoint_after_bytes = random.pick(&[200, 3_000, 100_000]);
    config.drift_max_ms = random.pick(&[500, 7_200_000]);
    config
}

/// What an empty disk begins with.
fn standing() -> Standing<Seat<Roll>> {
    Standing {
        first_record: |losses| SeatRecord::Member(Record::Folder { folder: Incarnation(losses) }),
        caught_up: |seat| seat.member().serves(),
        takes_part: |_| true,
    }
}

impl Scenario for GossipScenario {
    type Process = Process;
    type Clients = GossipClients;
    type Observer = GossipWatch;

    fn name(&self) -> &'static str {
        "gossip"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, GossipClients, GossipWatch> {
        // A disk of typed records has no bytes to damage; it may be lost whole.
        let damage = [FaultKind::BitRot, FaultKind::MisdirectedWrite, FaultKind::DiskFull];
        let limits = Limits {
            nodes: vec![2, 3, 3, 4, 5],
            faults: FaultSet::ALL.without(FaultSet::of(&damage)),
            safety_ns: (SECOND_NS, 4 * SECOND_NS),
            liveness_ns: 30 * SECOND_NS,
            ..Limits::default()
        };
        let mut swarm = Swarm::draw(&limits, random);
        if random.chance(300_000) {
            // Disks are lost again and again, and little else happens.
            swarm.faults = FaultSet::of(&[FaultKind::DiskLost, FaultKind::Crash, FaultKind::UnsyncedLost]);
            swarm.fault_gap_ns = random.pick(&[60, 200]) * MILLISECOND_NS;
            swarm.crash_after_send_ppm = 0;
            (swarm.loss_ppm, swarm.duplicate_ppm, swarm.reorder_ppm) = (0, 0, 0);
        }
        let members: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let drawn = draw_config(&members, random);
        let catalog_at = random.pick(&members);
        let roll = RollConfig {
            roster: RosterConfig {
                group: GROUP,
                retention_ns: random.pick(&[200, 600, 3_000, 3_600_000]) * MILLISECOND_NS,
                serving_min: members.len() / 2 + 1,
                acks: drawn.acks,
                replicas_max: 1_000,
            },
            members: members.clone(),
            stays: catalog_at,
            last: random.pick(&[0, 0, 2, 6]),
            period_ms: random.pick(&[100, 300]),
            salt: random.bits(),
        };
        let config = |id: &NodeId| SeatConfig {
            member: Config { id: *id, ..drawn.clone() },
            catalog_at,
            catalog: (*id == catalog_at).then(|| roll.clone()),
        };
        // The catalog is one process here; its disk is never lost.
        let disk = |id: &NodeId| match *id == catalog_at {
            true => RecordDisk::default(),
            false => RecordDisk::with_standing(standing()),
        };
        let book = Rc::new(RefCell::default());
        Setup {
            swarm,
            configs: members
                .iter()
                .map(|id| ProcessConfig { protocol: config(id), pending_limit: 256 })
                .collect(),
            disks: members.iter().map(disk).collect(),
            clients: GossipClients::new(GossipWork::draw(random), Rc::clone(&book)),
            observer: GossipWatch::new(drawn.acks, random.pick(&[3, 8]), book),
        }
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &watch::SOMETIMES
    }
}
