//! Claims 28, 29 and 30.

use std::collections::BTreeSet;

use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{Loss, MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::transactions::{End, Errand, Group, TransactionWorld, Transactions, alone, world};
use crate::claims::world::{expect, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const BLOCKS: Claim = Claim {
    number: 28,
    part: "coordination",
    text: "Two-phase commit blocks while its coordinator is dead",
    how: "two participants, eight clients that append at both; the coordinator's machine is killed for five seconds. How long promises that were in \
          doubt at that moment go on holding their locks: with a coordinator on one machine, and with one that has a second replica over a log on a \
          third machine, which stands for a majority. Control: nobody is killed",
    measure: blocks,
};

pub(in crate::claims) const PARTITIONS: Claim = Claim {
    number: 29,
    part: "coordination",
    text: "Two-phase commit does not tolerate partitions",
    how: "three participants; the coordinator is cut from the third for four seconds. Commits in the last three of them, of transactions that touch \
          all three, and of those that touch the other two. Control: no cut",
    measure: partitions,
};

pub(in crate::claims) const SLOW: Claim = Claim {
    number: 30,
    part: "coordination",
    text: "Two-phase commit is slow",
    how: "one client, nobody else: the median time of a transaction that writes at two participants, beside one that writes at one (one phase). \
          Control: two writes, both at one participant",
    measure: slow,
};

/// The outage.
const DEAD_NS: u64 = 5 * SECOND_NS;
const ALONE: Group = alone(1, &[1]);
/// Its log is on machine 5; the leader's replica lives on 1 or 4.
const REPLICATED: Group = Group { id: 1, home: 5, places: &[1, 4] };
const TWO: [Group; 2] = [alone(2, &[2]), alone(3, &[3])];

fn in_doubt(world: &TransactionWorld) -> BTreeSet<(u64, u64)> {
    let mut doubts = BTreeSet::new();
    for group in [2, 3] {
        let process = world.process(NodeId(group)).expect("participants live");
        for doubt in process.in_doubt(GroupId(group), world.now_ns()) {
            doubts.insert((group, doubt.attempt.transaction.number));
        }
    }
    doubts
}

/// How many promises are in doubt at the moment, and how long the last of them stays so, milliseconds.
fn held(seed: u64, coordinator: Group, kills: bool) -> (usize, f64) {
    let errands = (0..8).map(|key| Errand::new(coordinator, vec![(2, key), (3, key)]));
    let mut world = world(priced(5), &[coordinator], &TWO, Transactions::new(errands), seed);
    expect(world.run_until(SECOND_NS));
    // Eight clients are seldom all between two transactions.
    for _ in 0..1_000 {
        if !in_doubt(&world).is_empty() {
            break;
        }
        expect(world.run_until(world.now_ns() + MILLISECOND_NS / 10));
    }
    let (begun_ns, promises) = (world.now_ns(), in_doubt(&world));
    let leads =
        |place: &&u64| world.process(NodeId(**place)).is_some_and(|process| process.coordinates(GroupId(1)));
    let leader = NodeId(*coordinator.places.iter().find(leads).expect("a calm group has a leader"));
    if kills {
        expect(world.kill(leader, Loss::Unsynced));
    }
    let mut dead = kills;
    while !in_doubt(&world).is_disjoint(&promises) && world.now_ns() < begun_ns + 20 * SECOND_NS {
        if dead && world.now_ns() >= begun_ns + DEAD_NS {
            expect(world.revive(leader));
            dead = false;
        }
        expect(world.run_until(world.now_ns() + MILLISECOND_NS));
    }
    (promises.len(), (world.now_ns() - begun_ns) as f64 / MILLISECOND_NS as f64)
}

fn blocks(effort: Effort) -> Finding {
    let run = |coordinator, kills| {
        let runs: Vec<_> = effort.seeds().map(|seed| held(seed, coordinator, kills)).collect();
        let promises: usize = runs.iter().map(|run| run.0).sum();
        (promises as f64, median(&runs.iter().map(|run| run.1).collect::<Vec<_>>()))
    };
    let (promises, unreplicated) = run(ALONE, true);
    let (_, replicated) = run(REPLICATED, true);
    let (_, calm) = run(ALONE, false);
    let dead_ms = (DEAD_NS / MILLISECOND_NS) as f64;
    Finding {
        verdict: match (unreplicated >= dead_ms, replicated >= dead_ms) {
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOnlyIf,
            (false, _) => Verdict::DoesNotHold,
        },
        because: format!(
            "a coordinator on one machine that is dead for {dead_ms:.0} ms leaves locks held for {unreplicated:.0} ms; with a second replica, which \
             takes over its log, it is {replicated:.0} ms"
        ),
        figures: vec![
            Figure::new("promises in doubt when it died, all seeds", promises, "promises"),
            Figure::new("locks held, coordinator on one machine", unreplicated, "ms"),
            Figure::new("locks held, coordinator with a second replica", replicated, "ms"),
        ],
        control: Control {
            what: "nobody is killed".into(),
            figures: vec![Figure::new("locks held", calm, "ms")],
            differs: calm < dead_ms / 10.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 3,
    }
}

const THREE: [Group; 3] = [alone(2, &[2]), alone(3, &[3]), alone(4, &[4])];

/// Commits by second, of those that touch all three participants, and of those that touch two.
fn commits_under_a_cut(seed: u64, cut: bool) -> (f64, f64) {
    let all = (0..4).map(|key| Errand::new(ALONE, vec![(2, key), (3, key), (4, key)]));
    let two = (4..8).map(|key| Errand::new(ALONE, vec![(2, key), (3, key)]));
    let mut world = world(priced(4), &[ALONE], &THREE, Transactions::new(all.chain(two)), seed);
    expect(world.run_until(2 * SECOND_NS));
    if cut {
        world.cut_between(&[NodeId(1)], &[NodeId(4)]);
    }
    expect(world.run_until(6 * SECOND_NS));
    // What was asked before the cut may end in its first second.
    let counts = |clients: std::ops::Range<usize>| {
        let done = world.clients().done().iter();
        let inside = done.filter(|done| done.end == End::Committed && done.ended_ns >= 3 * SECOND_NS);
        inside.filter(|done| clients.contains(&done.client)).count() as f64 / 3.0
    };
    (counts(0..4), counts(4..8))
}

fn partitions(effort: Effort) -> Finding {
    let run = |cut| {
        let runs: Vec<_> = effort.seeds().map(|seed| commits_under_a_cut(seed, cut)).collect();
        let of = |pick: fn(&(f64, f64)) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
        (of(|run| run.0), of(|run| run.1))
    };
    let ((all, two), (calm_all, calm_two)) = (run(true), run(false));
    let others_go_on = two >= calm_two / 2.0;
    Finding {
        verdict: match (all > calm_all / 100.0, others_go_on) {
            (true, _) => Verdict::DoesNotHold,
            (false, true) => Verdict::HoldsOnlyIf,
            (false, false) => Verdict::Holds,
        },
        because: format!(
            "with the coordinator cut from a participant, {all:.0} transactions per second that touch it commit ({calm_all:.0} without the cut); of those \
             that do not touch it, {two:.0} ({calm_two:.0})"
        ),
        figures: vec![
            Figure::new("commits that touch the participant cut off", all, "1/s"),
            Figure::new("commits that do not", two, "1/s"),
        ],
        control: Control {
            what: "no cut".into(),
            figures: vec![
                Figure::new("commits that touch that participant", calm_all, "1/s"),
                Figure::new("commits that do not", calm_two, "1/s"),
            ],
            differs: calm_all > 0.0 && all <= calm_all / 100.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}

/// The median time of a transaction on these lists, milliseconds.
fn latency_ms(seed: u64, lists: Vec<(u64, u32)>) -> f64 {
    let load = Transactions::new([Errand::new(ALONE, lists)]);
    let mut world = world(priced(3), &[ALONE], &TWO, load, seed);
    expect(world.run_until(2 * SECOND_NS));
    let committed = world.clients().done().iter().filter(|done| done.end == End::Committed);
    let times: Vec<f64> = committed.map(|done| (done.ended_ns - done.begun_ns) as f64 / 1e6).collect();
    assert!(times.len() > 100, "a lonely client is served");
    median(&times)
}

fn slow(effort: Effort) -> Finding {
    let run = |lists: &[(u64, u32)]| {
        median(&effort.seeds().map(|seed| latency_ms(seed, lists.to_vec())).collect::<Vec<_>>())
    };
    let (one, two, both_at_one) = (run(&[(2, 0)]), run(&[(2, 0), (3, 0)]), run(&[(2, 0), (2, 1)]));
    Finding {
        verdict: Verdict::of(two > one * 1.5),
        because: format!(
            "a transaction over two participants takes {two:.2} ms, {:.1} times one write at one participant ({one:.2} ms)",
            two / one
        ),
        figures: vec![
            Figure::new("two participants, median", two, "ms"),
            Figure::new("one participant, median", one, "ms"),
            Figure::new("two / one", two / one, ""),
        ],
        control: Control {
            what: "two writes, both at one participant".into(),
            figures: vec![
                Figure::new("median", both_at_one, "ms"),
                Figure::new("both at one / one", both_at_one / one, ""),
            ],
            differs: both_at_one < one * 1.5,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 3,
    }
}
