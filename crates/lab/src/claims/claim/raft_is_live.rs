//! Claim 32.

use keypact_protocol::NodeId;
use keypact_simulator::{MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, percentile};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::world::{expect, priced, raft};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 32,
    part: "coordination",
    text: "Raft is live: it elects a leader and goes on",
    how: "five nodes are cut into parts of two, two and one for five seconds, so that nobody has a majority; then healed. Time from the healing \
          to the first acknowledged write; control: not healed",
    measure,
};

/// Runs for each of the effort's seeds.
const RUNS: u64 = 10;
/// A cluster that needs longer is not live.
const LIMIT_NS: u64 = 20 * SECOND_NS;

/// Milliseconds from the healing to the first write; `None` if there was none. And writes while it was cut.
fn run(seed: u64, heals: bool) -> (Option<f64>, u64) {
    let writer = Role::new(Aim::Leader, Task::Append).every(5 * MILLISECOND_NS).timeout(50 * MILLISECOND_NS);
    let mut world = raft(priced(5), Load::new([writer; 5]), seed, |_| {});
    expect(world.run_until(2 * SECOND_NS));
    let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(NodeId);
    world.cut_between(&[one, two], &[three, four, five]);
    world.cut_between(&[three, four], &[five]);
    // What was under way may still be answered.
    expect(world.run_until(3 * SECOND_NS));
    let cut_ns = world.now_ns();
    expect(world.run_until(7 * SECOND_NS));
    let healed_ns = world.now_ns();
    if heals {
        world.mend();
    }
    let is_done = |sample: &&Sample| sample.is_done() && sample.ended_ns >= healed_ns;
    while world.now_ns() < healed_ns + LIMIT_NS
        && !world.clients().samples().iter().rev().any(|sample| is_done(&sample))
    {
        expect(world.run_until(world.now_ns() + 50 * MILLISECOND_NS));
    }
    let done = |from_ns: u64, until_ns: u64| {
        let samples = world.clients().samples().iter().filter(|sample| sample.is_done());
        samples
            .filter(move |sample| (from_ns..until_ns).contains(&sample.ended_ns))
            .map(|sample| sample.ended_ns)
    };
    let first =
        done(healed_ns, u64::MAX).min().map(|at_ns| (at_ns - healed_ns) as f64 / MILLISECOND_NS as f64);
    (first, done(cut_ns, healed_ns).count() as u64)
}

fn measure(effort: Effort) -> Finding {
    let seeds = effort.first_seed..effort.first_seed.saturating_add(effort.seeds * RUNS);
    let runs: Vec<_> = seeds.map(|seed| run(seed, true)).collect();
    let times: Vec<f64> = runs.iter().filter_map(|(first, _)| *first).collect();
    let while_cut: u64 = runs.iter().map(|(_, writes)| writes).sum();
    let not_healed = effort.seeds().filter(|seed| run(*seed, false).0.is_some()).count();
    let all = times.len() == runs.len();
    Finding {
        verdict: if all && while_cut == 0 { Verdict::HoldsOnlyIf } else { Verdict::of(all) },
        because: format!(
            "{} of {} runs write again after healing, the slowest after {:.0} ms; while nobody can talk to a majority there were {while_cut} \
             writes: it is live only if a majority can talk",
            times.len(),
            runs.len(),
            percentile(&times, 1.0)
        ),
        figures: vec![
            Figure::new("healed to first write, median", percentile(&times, 0.5), "ms"),
            Figure::new("healed to first write, p99", percentile(&times, 0.99), "ms"),
            Figure::new("writes while nobody had a majority", while_cut as f64, "writes"),
        ],
        control: Control {
            what: "the cut is not healed".into(),
            figures: vec![Figure::new("runs that write again", not_healed as f64, "runs")],
            differs: not_healed == 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * (RUNS + 1),
    }
}
