//! Claim 6.

use keypact_protocol::NodeId;
use keypact_simulator::{Loss, MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::peers::peers;
use crate::claims::world::{expect, leader_follower, nodes, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 6,
    part: "replication",
    text: "Peer-to-peer has no single master",
    how: "five replicas, a writer at each; one node is killed, or cut off from the others together with its writer, for three seconds, and each of the five \
          once. Whoever gets no answer for 100 ms asks the next node it can reach. Share of the 100 ms, over all writers, in which a write was \
          acknowledged; the worst node and seed count, and 95 % are asked for. Control: a leader-follower group with one acknowledgement, the leader killed or cut off",
    measure,
};

const REPLICAS: usize = 5;
const FAULT_AT_NS: u64 = SECOND_NS;
const FAULT_NS: u64 = 3 * SECOND_NS;
const SLICE_NS: u64 = 100 * MILLISECOND_NS;
const ENOUGH: f64 = 95.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Dead,
    CutOff,
}

/// A writer at each node. Those on one side of a cut stay there.
fn load(fault: Fault, struck: NodeId) -> Load {
    let (alone, others): (Vec<NodeId>, Vec<NodeId>) =
        nodes(REPLICAS).into_iter().partition(|node| *node == struck);
    let role = |node: NodeId| {
        let role = Role::new(Aim::Leader, Task::Increment(node.0 as u16)).every(10 * MILLISECOND_NS);
        let role = role.timeout(100 * MILLISECOND_NS).at_home(node);
        match fault {
            Fault::Dead => role,
            Fault::CutOff => role.reaching(if node == struck { &alone } else { &others }),
        }
    };
    Load::new(nodes(REPLICAS).into_iter().map(role))
}

/// Percent of the slices of all writers.
fn served(samples: &[Sample]) -> f64 {
    let during = FAULT_AT_NS..FAULT_AT_NS + FAULT_NS;
    let done = samples.iter().filter(|sample| sample.is_done() && during.contains(&sample.ended_ns));
    let slices = done.map(|sample| (sample.client, (sample.ended_ns - FAULT_AT_NS) / SLICE_NS));
    let served = slices.collect::<std::collections::BTreeSet<_>>().len();
    served as f64 * 100.0 / (REPLICAS as u64 * (FAULT_NS / SLICE_NS)) as f64
}

/// The same fault for any world.
macro_rules! suffer {
    ($world:expr, $fault:expr, $struck:expr) => {{
        let mut world = $world;
        expect(world.run_until(FAULT_AT_NS));
        match $fault {
            Fault::Dead => expect(world.kill($struck, Loss::Unsynced)),
            Fault::CutOff => {
                let others: Vec<NodeId> =
                    nodes(REPLICAS).into_iter().filter(|node| *node != $struck).collect();
                world.cut_between(&[$struck], &others);
            }
        }
        expect(world.run_until(FAULT_AT_NS + FAULT_NS));
        served(world.clients().samples())
    }};
}

fn measure(effort: Effort) -> Finding {
    let peer = |fault: Fault| {
        let of = |struck: NodeId| {
            let run =
                |seed| suffer!(peers(priced(REPLICAS), load(fault, struck), seed, |_| {}), fault, struck);
            effort.seeds().map(run).fold(100.0, f64::min)
        };
        nodes(REPLICAS).into_iter().map(of).fold(100.0, f64::min)
    };
    let led = |fault: Fault| {
        let leader = NodeId(1);
        let run = |seed| {
            // The catalog lives on with the majority, as it would with a quorum of its own.
            let world = leader_follower(priced(REPLICAS), 1, NodeId(3), load(fault, leader), seed);
            suffer!(world, fault, leader)
        };
        effort.seeds().map(run).fold(0.0, f64::max)
    };
    let (dead, cut) = (peer(Fault::Dead), peer(Fault::CutOff));
    let (leader_dead, leader_cut) = (led(Fault::Dead), led(Fault::CutOff));
    Finding {
        verdict: Verdict::of(dead >= ENOUGH && cut >= ENOUGH),
        because: format!(
            "with any one of five nodes dead writers are served in at least {dead:.1} % of the time, with any one cut off in {cut:.1} %; with a leader it \
             is at most {leader_dead:.1} % and {leader_cut:.1} %. What both sides of a cut write is merged later, and may conflict (claim 7)"
        ),
        figures: vec![
            Figure::new("peers, the worst one dead: served", dead, "%"),
            Figure::new("peers, the worst one cut off: served", cut, "%"),
        ],
        control: Control {
            what: "leader-follower, the leader dead or cut off".into(),
            figures: vec![
                Figure::new("leader dead: served, at most", leader_dead, "%"),
                Figure::new("leader cut off: served, at most", leader_cut, "%"),
            ],
            differs: leader_dead < ENOUGH && leader_cut < ENOUGH,
        },
        plots: Vec::new(),
        seeds: effort.seeds * (REPLICAS as u64 * 2 + 2),
    }
}
