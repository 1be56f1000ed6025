//! Claim 9.

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::{KvAnswer, MICROSECOND_NS, MILLISECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::load::{Aim, Ended, Load, Role, Sample, Task};
use crate::claims::world::{COUNT_NS, WARM_NS, chain, expect, priced};
use crate::claims::{Claim, Effort};
use crate::scenarios::ChainScenario;

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 9,
    part: "replication",
    text: "Chain replication is strongly consistent",
    how: "seeds of scenario `chain`, with all faults: every history must be linearizable, reads at every member included, and nothing \
          acknowledged lost; control: members that answer from what they have applied, without asking the tail",
    measure,
};

const RUNS: u64 = 40;

fn number(sample: &Sample) -> Option<i64> {
    match sample.ended {
        Ended::Done(KvAnswer::Number(number)) => Some(number),
        _ => None,
    }
}

/// Reads at the head and in the middle, and those that miss what a write or read had been told before they began.
fn stale_reads(level: ReadLevel, seed: u64) -> (u64, u64) {
    let reader = |node| Role::new(Aim::At(NodeId(node)), Task::Read(1, level)).every(700 * MICROSECOND_NS);
    let writer = Role::new(Aim::Leader, Task::Increment(1)).every(MILLISECOND_NS);
    let mut world = chain(priced(3), NodeId(1), Load::new([writer, reader(1), reader(2)]), seed);
    expect(world.run_until(WARM_NS + 5 * COUNT_NS));
    let samples = world.clients().samples();
    // The highest value that anybody had been told by then, at the end of each operation; in the order of ends.
    let mut highest = 0;
    let mut told: Vec<(u64, i64)> = Vec::new();
    for sample in samples {
        highest = highest.max(number(sample).unwrap_or(0));
        told.push((sample.ended_ns, highest));
    }
    assert!(told.is_sorted(), "operations are noted as they end, and the counter only grows");
    let mut counts = (0, 0);
    for read in samples.iter().filter(|sample| sample.client > 0 && sample.begun_ns >= WARM_NS) {
        let Some(seen) = number(read) else { continue };
        let before = told.partition_point(|(ended_ns, _)| *ended_ns < read.begun_ns);
        counts.0 += 1;
        counts.1 += u64::from(before.checked_sub(1).is_some_and(|last| told[last].1 > seen));
    }
    counts
}

fn measure(effort: Effort) -> Finding {
    let (seeds, report) = effort.whole_seeds(&ChainScenario, RUNS);
    let sum = |level: ReadLevel| {
        let runs = effort.seeds().map(|seed| stale_reads(level, seed));
        runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
    };
    let (asked, bare) = (sum(ReadLevel::Linearizable), sum(ReadLevel::Stale));
    let violations = report.failures.len();
    Finding {
        verdict: Verdict::of(violations == 0 && asked.0 > 0 && asked.1 == 0 && report.histories > 0),
        because: format!(
            "{violations} of {seeds} seeds break a property; {} histories were judged, and {} of {} reads were stale",
            report.histories, asked.1, asked.0
        ),
        figures: vec![
            Figure::new("seeds", seeds as f64, "seeds"),
            Figure::new("acknowledged operations", report.operations.ok as f64, "operations"),
            Figure::new("seeds that break a property", violations as f64, "seeds"),
            Figure::new("stale reads at head and middle", asked.1 as f64, "reads"),
        ],
        control: Control {
            what: "members answer from what they have applied".into(),
            figures: vec![
                Figure::new("reads at head and middle", bare.0 as f64, "reads"),
                Figure::new("stale", bare.1 as f64, "reads"),
            ],
            differs: bare.1 > 0,
        },
        plots: Vec::new(),
        seeds: seeds + effort.seeds * 2,
    }
}
