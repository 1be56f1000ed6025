//! Claim 12.

use keypact_protocol::NodeId;
use keypact_simulator::{Loss, MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::world::{chain, expect, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 12,
    part: "replication",
    text: "A chain whose head fails must be rebuilt before it writes again",
    how: "chains of four, five writers; the head, a middle member or the tail is killed: the longest time without a write in the five seconds \
          after; leases are 500 ms; control: nobody is killed",
    measure,
};

const KILLED_AT_NS: u64 = 2 * SECOND_NS;
const END_NS: u64 = 7 * SECOND_NS;

/// The longest time without a done operation, milliseconds.
fn longest_gap_ms(samples: &[Sample]) -> f64 {
    let ends = samples.iter().filter(|sample| sample.is_done()).map(|sample| sample.ended_ns);
    let mut ends: Vec<u64> = ends.filter(|at_ns| (KILLED_AT_NS..END_NS).contains(at_ns)).collect();
    ends.push(END_NS);
    ends.sort_unstable();
    let (mut last_ns, mut longest_ns) = (KILLED_AT_NS, 0);
    for end_ns in ends {
        longest_ns = longest_ns.max(end_ns - last_ns);
        last_ns = end_ns;
    }
    longest_ns as f64 / 1e6
}

fn gap_ms(killed: Option<u64>, seed: u64) -> f64 {
    let writer = Role::new(Aim::Leader, Task::Append).every(2 * MILLISECOND_NS).timeout(50 * MILLISECOND_NS);
    // The catalog lives on, as it would with a quorum of its own: it is never on the node that is killed.
    let mut world = chain(priced(4), NodeId(3), Load::new([writer; 5]), seed);
    expect(world.run_until(KILLED_AT_NS));
    if let Some(node) = killed {
        expect(world.kill(NodeId(node), Loss::Nothing));
    }
    expect(world.run_until(END_NS));
    longest_gap_ms(world.clients().samples())
}

fn measure(effort: Effort) -> Finding {
    let gap =
        |killed: Option<u64>| median(&effort.seeds().map(|seed| gap_ms(killed, seed)).collect::<Vec<_>>());
    let (head, middle, tail, none) = (gap(Some(1)), gap(Some(2)), gap(Some(4)), gap(None));
    Finding {
        verdict: Verdict::of(head > 100.0),
        because: format!(
            "nobody writes for {head:.0} ms after the head's death; after that of a middle member it is {middle:.0} ms, after that of the tail \
             {tail:.0} ms, as every member must have what is acknowledged"
        ),
        figures: vec![
            Figure::new("head killed: longest time without a write", head, "ms"),
            Figure::new("middle killed", middle, "ms"),
            Figure::new("tail killed", tail, "ms"),
        ],
        control: Control {
            what: "nobody is killed".into(),
            figures: vec![Figure::new("longest time without a write", none, "ms")],
            differs: none < 50.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}
