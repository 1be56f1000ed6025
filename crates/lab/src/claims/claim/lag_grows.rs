//! Claim 4.

use keypact_protocol::NodeId;
use keypact_simulator::SECOND_NS;

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::world::{WARM_NS, expect, leader_follower, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 4,
    part: "replication",
    text: "Lag grows under high load",
    how: "a follower that applies 40 times slower than its leader; its capacity is measured first, then the writes it lacks after 1 and after \
          3 s of load at 10 to 120 % of it; control: a follower as fast as its leader, under the same writes",
    measure,
};

const LOADS_PERCENT: [u64; 6] = [10, 40, 70, 90, 110, 120];
/// How many times slower the follower is.
const SLOW: u64 = 40;
const CLIENTS: u64 = 100;

/// Entries that follower 2 lacks at these times, under so many writes a second.
fn lags(writes_per_s: u64, slow: u64, seed: u64) -> [f64; 2] {
    let interval_ns = CLIENTS * SECOND_NS / writes_per_s.max(1);
    let role = |client: u64| Role::new(Aim::Leader, Task::Increment(client as u16)).every(interval_ns);
    let load = Load::new((0..CLIENTS).map(role));
    let mut world = leader_follower(priced(2), 0, NodeId(1), load, seed);
    world.slow(NodeId(2), slow);
    let lag = |at_ns: u64, world: &mut crate::claims::world::LeaderFollowerWorld| {
        expect(world.run_until(at_ns));
        let applied = |node| world.process(NodeId(node)).map_or(0, |process| process.applied_index());
        applied(1).saturating_sub(applied(2)) as f64
    };
    [lag(WARM_NS + SECOND_NS, &mut world), lag(WARM_NS + 3 * SECOND_NS, &mut world)]
}

/// What the follower applies in a second when there is always more: the leader is given more than it can take.
fn capacity(seed: u64) -> u64 {
    let role = |client: u64| Role::new(Aim::Leader, Task::Increment(client as u16));
    let mut world = leader_follower(priced(2), 0, NodeId(1), Load::new((0..CLIENTS).map(role)), seed);
    world.slow(NodeId(2), SLOW);
    expect(world.run_until(WARM_NS));
    let before = world.process(NodeId(2)).map_or(0, |process| process.applied_index());
    expect(world.run_until(WARM_NS + 2 * SECOND_NS));
    let after = world.process(NodeId(2)).map_or(0, |process| process.applied_index());
    (after - before) / 2
}

fn measure(effort: Effort) -> Finding {
    let full = median(&effort.seeds().map(|seed| capacity(seed) as f64).collect::<Vec<_>>()) as u64;
    let run = |slow: u64| -> Vec<[f64; 2]> {
        let of = |percent: &u64| {
            let runs: Vec<_> = effort.seeds().map(|seed| lags(full * percent / 100, slow, seed)).collect();
            [0, 1].map(|at| median(&runs.iter().map(|run| run[at]).collect::<Vec<_>>()))
        };
        LOADS_PERCENT.iter().map(of).collect()
    };
    let (slow, fast) = (run(SLOW), run(1));
    let mut figures = vec![Figure::new("the follower's capacity", full as f64, "writes/s")];
    for (percent, [early, late]) in LOADS_PERCENT.iter().zip(&slow) {
        figures.push(Figure::new(format!("{percent} %: lag after 1 s"), *early, "entries"));
        figures.push(Figure::new(format!("{percent} %: lag after 3 s"), *late, "entries"));
    }
    // By more than chance: a fiftieth of what was written in between.
    let grows = |percent: u64, run: &[f64; 2]| run[1] - run[0] > (full * percent / 100) as f64 * 2.0 / 50.0;
    let grown = |run: &[[f64; 2]]| -> Vec<bool> {
        LOADS_PERCENT.iter().zip(run).map(|(percent, run)| grows(*percent, run)).collect()
    };
    let (slow_grows, fast_grows) = (grown(&slow), grown(&fast));
    // From this load on it grows at every one measured.
    let first = slow_grows.iter().rposition(|grew| !grew).map_or(0, |last_steady| last_steady + 1);
    let from = LOADS_PERCENT.get(first);
    Finding {
        verdict: match first {
            0 => Verdict::Holds,
            _ if from.is_some() => Verdict::HoldsOnlyIf,
            _ => Verdict::DoesNotHold,
        },
        because: match from {
            Some(percent) if first == 0 => {
                format!("lag goes on growing from {percent} % of what the follower can apply on")
            }
            Some(percent) => format!(
                "lag goes on growing only if the load is at least {percent} % of what the follower can apply; below that it stays"
            ),
            None => "lag does not go on growing, even above what the follower can apply".into(),
        },
        figures,
        control: Control {
            what: "a follower as fast as its leader".into(),
            figures: vec![
                Figure::new("120 %: lag after 1 s", fast[5][0], "entries"),
                Figure::new("120 %: lag after 3 s", fast[5][1], "entries"),
            ],
            differs: !fast_grows.contains(&true),
        },
        plots: vec![Plot {
            title: "Entries that the follower lacks after 3 s".into(),
            x: "load, % of its capacity".into(),
            y: "entries".into(),
            xs: LOADS_PERCENT.iter().map(|percent| *percent as f64).collect(),
            lines: vec![
                Line::new("slow follower", slow.iter().map(|run| run[1]).collect()),
                Line::new("fast follower (control)", fast.iter().map(|run| run[1]).collect()),
            ],
        }],
        seeds: effort.seeds * 13,
    }
}
