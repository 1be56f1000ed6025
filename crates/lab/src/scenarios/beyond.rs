//! Scenario `beyond`: whole nodes under more than the contract allows. Durable bits turn on any number of disks, and clocks run apart by far
//! more than the drift bound, while reads don't rely on clocks.
//!
//! What is promised then: a node that finds damage refuses to start, so perhaps nobody serves in the end; whatever is answered by those that
//! do serve is right. Damage is told for certain up to the last durable record that a later one confirms; only there do bits turn.

use keypact_checker::ModelKind;
use keypact_node::Reads;
use keypact_simulator::{Limits, Random, SECOND_NS, Scenario, Setup, Swarm, Violation, World};

use super::judge::check_history;
use super::node::{FAULTS, draw_setups};
use crate::node_clients::{NodeClients, NodeWorkload};
use crate::node_process::{NodeDisk, NodeProcess};
use crate::node_watch::NodeWatch;

/// Whole nodes under more than they must bear.
#[derive(Clone, Copy, Debug, Default)]
pub struct BeyondScenario;

/// How far clocks may be off, when the nodes expect next to nothing: a tenth.
const DRIFT_MAX_PPM: u32 = 100_000;

impl Scenario for BeyondScenario {
    type Process = NodeProcess;
    type Clients = NodeClients;
    type Observer = NodeWatch;

    fn name(&self) -> &'static str {
        "beyond"
    }

    fn setup(&self, random: &mut Random) -> Setup<NodeProcess, NodeClients, NodeWatch> {
        let limits = Limits {
            nodes: vec![1, 3, 3, 5],
            faults: FAULTS,
            drift_max_ppm: DRIFT_MAX_PPM,
            safety_ns: (SECOND_NS, 6 * SECOND_NS),
            liveness_ns: 5 * SECOND_NS,
            beyond: true,
            ..Limits::default()
        };
        let swarm = Swarm::draw(&limits, random);
        assert!(swarm.beyond, "a mix is within its limits, these too");
        let mut configs = draw_setups(swarm.nodes, 0, random);
        for config in &mut configs {
            config.node.reads = Reads::ReadIndex;
        }
        let disks = configs.iter().map(|_| NodeDisk::new()).collect();
        let observer = NodeWatch::new(swarm.nodes, swarm.nodes, swarm.drift_max_ppm);
        let clients = NodeClients::new(NodeWorkload::draw(random));
        Setup { swarm, configs, disks, clients, observer }
    }

    fn judge(&self, world: &World<NodeProcess, NodeClients, NodeWatch>) -> Result<u64, Violation> {
        let kind = ModelKind::Kv;
        check_history(&world.clients().history()?, &kind, &kind.default_initial())
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &["start-refused", "not-served-in-the-end", "recovered-from-log", "read-index", "leader-changed"]
    }
}
