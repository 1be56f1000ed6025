//! Claim 27.

use std::collections::BTreeSet;

use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{Loss, MILLISECOND_NS, Random, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::transactions::{Errand, Group, Transactions, alone, world};
use crate::claims::world::{expect, priced};
use crate::claims::{Claim, Effort};
use crate::scenarios::TwoPhaseCommitScenario;

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 27,
    part: "coordination",
    text: "Two-phase commit is atomic",
    how: "one coordinator and two participants, each on one machine; eight clients append an element at both. Twenty times a machine drawn at \
          random is killed, loses what its disk had not synced, and comes back; in the end elements that stand at one participant alone are \
          counted. Beside it whole seeds of scenario `two-phase-commit`, with all faults, invariants and the checker. Control: the same clients \
          append at one participant after the other, under the same kills",
    measure,
};

const SCENARIO_SEEDS: u64 = 20;
const COORDINATOR: Group = alone(1, &[1]);
const PARTICIPANTS: [Group; 2] = [alone(2, &[2]), alone(3, &[3])];
const CLIENTS: u32 = 8;

/// Elements at either participant, and how many of them stand at one alone.
fn elements_and_torn(seed: u64, one_by_one: bool) -> (u64, u64) {
    let errand = |key| Errand {
        one_by_one,
        timeout_ns: 200 * MILLISECOND_NS,
        ..Errand::new(COORDINATOR, vec![(2, key), (3, key)])
    };
    let load = Transactions::new((0..CLIENTS).map(errand));
    let mut world = world(priced(3), &[COORDINATOR], &PARTICIPANTS, load, seed);
    let mut random = Random::new(seed);
    for _ in 0..20 {
        let node = NodeId(random.between(1, 3));
        expect(world.run_until(world.now_ns() + random.between(100, 400) * MILLISECOND_NS));
        expect(world.kill(node, Loss::Unsynced));
        expect(world.run_until(world.now_ns() + random.between(50, 500) * MILLISECOND_NS));
        expect(world.revive(node));
    }
    world.clients_mut().stop();
    expect(world.run_until(world.now_ns() + 10 * SECOND_NS));
    let all = |node: u64| -> BTreeSet<u64> {
        let process = world.process(NodeId(node)).expect("everybody lives in the end");
        (0..CLIENTS).flat_map(|key| process.list(GroupId(node), key)).copied().collect()
    };
    let (one, other) = (all(2), all(3));
    (one.union(&other).count() as u64, one.symmetric_difference(&other).count() as u64)
}

fn measure(effort: Effort) -> Finding {
    let sum = |one_by_one| {
        let runs = effort.seeds().map(|seed| elements_and_torn(seed, one_by_one));
        runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
    };
    let ((elements, torn), (control_elements, control_torn)) = (sum(false), sum(true));
    let (seeds, report) = effort.whole_seeds(&TwoPhaseCommitScenario, SCENARIO_SEEDS);
    let violations = report.failures.len();
    Finding {
        verdict: Verdict::of(elements > 0 && torn == 0 && violations == 0),
        because: format!(
            "{torn} of {elements} transactions stand at one participant alone, and {violations} of {seeds} seeds break a property"
        ),
        figures: vec![
            Figure::new("transactions applied anywhere", elements as f64, "transactions"),
            Figure::new("torn", torn as f64, "transactions"),
            Figure::new("seeds of scenario two-phase-commit", seeds as f64, "seeds"),
            Figure::new("their committed transactions", report.operations.ok as f64, "transactions"),
            Figure::new("seeds that break a property", violations as f64, "seeds"),
        ],
        control: Control {
            what: "one participant after the other, each by itself".into(),
            figures: vec![
                Figure::new("elements appended anywhere", control_elements as f64, "elements"),
                Figure::new("at one participant alone", control_torn as f64, "elements"),
            ],
            differs: control_torn > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2 + seeds,
    }
}
