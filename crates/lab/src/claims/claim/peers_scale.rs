//! Claim 5.

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::SECOND_NS;

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::peers::{common, peers};
use crate::claims::world::{WARM_NS, expect, leader_follower, nodes, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 5,
    part: "replication",
    text: "Peer-to-peer scales reads and writes",
    how: "reads/s and writes/s with 3, 5, 9 replicas that are 40 times slower than usual, each asked by 40 clients of its own that read, or \
          increment counters; of writes also how many in a second came to be on all replicas. It scales if nine do twice what three do, with writes \
          counted that all have. Control: the same writers at the leader of a leader-follower group",
    measure,
};

const REPLICAS: [usize; 3] = [3, 5, 9];
const CLIENTS: usize = 40;
/// All nodes alike: fewer operations show the same.
const SLOW: u64 = 40;
const RUN_NS: u64 = 1_000_000_000;
/// Nine replicas are three times three: at least so much of it must be seen.
const SCALES: f64 = 2.0;

/// A second, by what was done in it.
#[derive(Clone, Copy)]
struct Rate {
    done: f64,
    /// Writes that came to be on all replicas.
    everywhere: f64,
}

fn roles(replicas: usize, reads: bool) -> Vec<Role> {
    let role = |client: usize| {
        let node = NodeId((client % replicas) as u64 + 1);
        let task = match reads {
            true => Task::Read(1, ReadLevel::Stale),
            false => Task::Increment(client as u16),
        };
        Role::new(Aim::At(node), task)
    };
    (0..replicas * CLIENTS).map(role).collect()
}

fn done(samples: &[Sample]) -> f64 {
    let counted = samples.iter().filter(|sample| sample.is_done() && sample.ended_ns >= WARM_NS);
    counted.count() as f64 * SECOND_NS as f64 / RUN_NS as f64
}

fn run(replicas: usize, seed: u64, reads: bool) -> Rate {
    let mut world = peers(priced(replicas), Load::new(roles(replicas, reads)), seed, |_| {});
    nodes(replicas).into_iter().for_each(|node| world.slow(node, SLOW));
    expect(world.run_until(WARM_NS));
    let before = common(&world, replicas);
    expect(world.run_until(WARM_NS + RUN_NS));
    let everywhere = (common(&world, replicas) - before) as f64 * SECOND_NS as f64 / RUN_NS as f64;
    Rate { done: done(world.clients().samples()), everywhere }
}

fn led(replicas: usize, seed: u64) -> f64 {
    let role = |client: usize| Role::new(Aim::Leader, Task::Increment(client as u16));
    let load = Load::new((0..replicas * CLIENTS).map(role));
    let mut world = leader_follower(priced(replicas), 0, NodeId(1), load, seed);
    nodes(replicas).into_iter().for_each(|node| world.slow(node, SLOW));
    expect(world.run_until(WARM_NS + RUN_NS));
    done(world.clients().samples())
}

/// By replicas, the median of all seeds of what `of` finds.
fn typical(effort: Effort, of: impl Fn(usize, u64) -> f64) -> Vec<f64> {
    let one = |replicas: &usize| median(&effort.seeds().map(|seed| of(*replicas, seed)).collect::<Vec<_>>());
    REPLICAS.iter().map(one).collect()
}

/// The same of both rates.
fn typical_writes(effort: Effort) -> (Vec<f64>, Vec<f64>) {
    let one = |replicas: &usize| -> (f64, f64) {
        let runs: Vec<Rate> = effort.seeds().map(|seed| run(*replicas, seed, false)).collect();
        let of = |pick: fn(&Rate) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
        (of(|rate| rate.done), of(|rate| rate.everywhere))
    };
    REPLICAS.iter().map(one).unzip()
}

fn figures(reads: &[f64], accepted: &[f64], everywhere: &[f64]) -> Vec<Figure> {
    let row = |(at, replicas): (usize, &usize)| {
        [
            Figure::new(format!("{replicas} replicas: reads"), reads[at], "1/s"),
            Figure::new(format!("{replicas} replicas: writes acknowledged"), accepted[at], "1/s"),
            Figure::new(format!("{replicas} replicas: writes that all have"), everywhere[at], "1/s"),
        ]
    };
    REPLICAS.iter().enumerate().flat_map(row).collect()
}

fn measure(effort: Effort) -> Finding {
    let reads = typical(effort, |replicas, seed| run(replicas, seed, true).done);
    let (accepted, everywhere) = typical_writes(effort);
    let leader = typical(effort, led);
    let growth = |rates: &[f64]| rates[2] / rates[0].max(1.0);
    let (reads_scale, writes_scale) = (growth(&reads) >= SCALES, growth(&everywhere) >= SCALES);
    let control = REPLICAS.iter().zip(&leader);
    Finding {
        verdict: match (reads_scale, writes_scale) {
            (true, true) => Verdict::Holds,
            (false, false) => Verdict::DoesNotHold,
            _ => Verdict::HoldsOnlyIf,
        },
        because: format!(
            "nine replicas answer {:.1} times the reads of three and acknowledge {:.1} times the writes; of writes that all replicas come to have it is \
             {:.1} times: every replica applies every write in the end{}",
            growth(&reads),
            growth(&accepted),
            growth(&everywhere),
            if reads_scale && !writes_scale { ". It holds only if the load is reads" } else { "" }
        ),
        figures: figures(&reads, &accepted, &everywhere),
        control: Control {
            what: "the same writers at the leader of a leader-follower group".into(),
            figures: control
                .map(|(n, rate)| Figure::new(format!("{n} nodes: writes"), *rate, "1/s"))
                .collect(),
            differs: growth(&leader) < SCALES,
        },
        plots: vec![Plot {
            title: "Operations per second".into(),
            x: "replicas".into(),
            y: "operations/s".into(),
            xs: REPLICAS.iter().map(|count| *count as f64).collect(),
            lines: vec![
                Line::new("reads", reads),
                Line::new("writes acknowledged", accepted),
                Line::new("writes that all have", everywhere),
                Line::new("writes at a leader (control)", leader),
            ],
        }],
        seeds: effort.seeds * 9,
    }
}
