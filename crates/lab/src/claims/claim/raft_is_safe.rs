//! Claim 31.

use std::collections::BTreeSet;

use keypact_protocol::NodeId;
use keypact_simulator::{Loss, MILLISECOND_NS, SECOND_NS};

use crate::RaftScenario;
use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::world::{expect, leader_follower, nodes, priced, raft};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 31,
    part: "coordination",
    text: "Raft is safe: no committed entry is lost",
    how: "five nodes, ten clients that append; ten times the leader is cut off, killed 50 ms later, and loses what its disk had not synced; \
          acknowledged appends that are missing in the end are counted. Beside it whole seeds of scenario `raft`, with all faults and invariants. Control: \
          leader-follower without acknowledgements, three nodes, once the same",
    measure,
};

const SCENARIO_SEEDS: u64 = 20;

/// Acknowledged appends, and how many of them the list lacks.
fn acknowledged_and_lost(samples: &[Sample], list: &[u64]) -> (u64, u64) {
    let kept: BTreeSet<u64> = list.iter().copied().collect();
    let done: Vec<_> = samples.iter().filter(|sample| sample.is_done()).collect();
    let lost = done.iter().filter(|sample| !kept.contains(&sample.element)).count();
    (done.len() as u64, lost as u64)
}

fn appenders() -> Load {
    Load::new([Role::new(Aim::Leader, Task::Append).timeout(100 * MILLISECOND_NS); 10])
}

/// And how many leaders were killed.
fn with_raft(seed: u64) -> (u64, u64, u64) {
    let mut world = raft(priced(5), appenders(), seed, |_| {});
    let mut killed = 0;
    for round in 1..=10 {
        expect(world.run_until(round * SECOND_NS));
        let leads = |node: &NodeId| world.process(*node).is_some_and(|p| p.protocol().term_start().is_some());
        let newest = |node: &NodeId| world.process(*node).map_or(0, |process| process.protocol().term());
        let Some(leader) = nodes(5).into_iter().filter(leads).max_by_key(newest) else { continue };
        let others: Vec<NodeId> = nodes(5).into_iter().filter(|node| *node != leader).collect();
        world.cut_between(&[leader], &others);
        expect(world.run_until(world.now_ns() + 50 * MILLISECOND_NS));
        expect(world.kill(leader, Loss::Unsynced));
        world.mend();
        killed += 1;
        expect(world.run_until(round * SECOND_NS + 700 * MILLISECOND_NS));
        expect(world.revive(leader));
    }
    world.clients_mut().stop();
    expect(world.run_until(15 * SECOND_NS));
    let list = world.process(NodeId(1)).map_or(&[][..], |process| process.machine().list(0));
    let (acknowledged, lost) = acknowledged_and_lost(world.clients().samples(), list);
    (acknowledged, lost, killed)
}

fn with_leader_follower(seed: u64) -> (u64, u64) {
    let mut world = leader_follower(priced(3), 0, NodeId(3), appenders(), seed);
    expect(world.run_until(SECOND_NS + seed % 100 * MILLISECOND_NS));
    // Nobody hears from it any more: what it then acknowledges, nobody else has.
    world.cut_between(&[NodeId(1)], &[NodeId(2), NodeId(3)]);
    expect(world.run_until(world.now_ns() + 50 * MILLISECOND_NS));
    expect(world.kill(NodeId(1), Loss::Unsynced));
    world.mend();
    expect(world.run_until(world.now_ns() + 3 * SECOND_NS));
    world.clients_mut().stop();
    expect(world.run_until(world.now_ns() + SECOND_NS));
    let list = world.process(NodeId(2)).map_or(&[][..], |process| process.machine().list(0));
    acknowledged_and_lost(world.clients().samples(), list)
}

fn sum(runs: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
}

fn measure(effort: Effort) -> Finding {
    let (acknowledged, lost, killed) = effort
        .seeds()
        .map(with_raft)
        .fold((0, 0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1, sum.2 + run.2));
    let (seeds, report) = effort.whole_seeds(&RaftScenario::default(), SCENARIO_SEEDS);
    let violations = report.failures.len();
    let (control_acknowledged, control_lost) = sum(effort.seeds().map(with_leader_follower));
    Finding {
        verdict: Verdict::of(acknowledged > 0 && killed > 0 && lost == 0 && violations == 0),
        because: format!(
            "{lost} of {acknowledged} acknowledged appends are missing, and {violations} of {seeds} seeds break a property"
        ),
        figures: vec![
            Figure::new("leaders killed", killed as f64, "leaders"),
            Figure::new("acknowledged appends", acknowledged as f64, "appends"),
            Figure::new("lost", lost as f64, "appends"),
            Figure::new("seeds of scenario raft", seeds as f64, "seeds"),
            Figure::new("their acknowledged operations", report.operations.ok as f64, "operations"),
            Figure::new("seeds that break a property", violations as f64, "seeds"),
        ],
        control: Control {
            what: "leader-follower with acks 0; the leader is cut off, goes on for 50 ms and dies".into(),
            figures: vec![
                Figure::new("acknowledged appends", control_acknowledged as f64, "appends"),
                Figure::new("lost", control_lost as f64, "appends"),
            ],
            differs: control_lost > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2 + seeds,
    }
}
