//! Claims 33 and 34: a write that three machines have, by either protocol.

use keypact_protocol::NodeId;
use keypact_simulator::{Loss, MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::transactions::{End, Errand, Group, Transactions, alone, world};
use crate::claims::world::{expect, priced, raft};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const THROUGHPUT: Claim = Claim {
    number: 33,
    part: "coordination",
    text: "Raft has lower throughput than two-phase commit",
    how: "three machines with one disk each, 16 clients one write after the other, no two on one key. Raft: the write is in the log of a majority; \
          two-phase commit: it is a transaction at three participants, one on each machine, with the coordinator on the first. Control: writes of \
          one participant each, one phase, spread over the three machines: no copies",
    measure: throughput,
};

pub(in crate::claims) const RESILIENT: Claim = Claim {
    number: 34,
    part: "coordination",
    text: "Raft is more resilient than two-phase commit",
    how: "the same three machines; each is killed for three seconds, one after the other, and then the first is cut from the second for three seconds, \
          and the second from the third, with two seconds between. Share of the 100 ms in which some write was acknowledged, from the first fault on. \
          Control: no faults",
    measure: resilient,
};

const COORDINATOR: Group = alone(1, &[1]);
const PARTICIPANTS: [Group; 3] = [alone(2, &[1]), alone(3, &[2]), alone(4, &[3])];
const CLIENTS: u32 = 16;
const BEGIN_NS: u64 = SECOND_NS;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Dead(u64),
    Cut(u64, u64),
}

const FAULTS: [Fault; 5] =
    [Fault::Dead(1), Fault::Dead(2), Fault::Dead(3), Fault::Cut(1, 2), Fault::Cut(2, 3)];

/// The same faults for any world.
macro_rules! suffer {
    ($world:expr, $faults:expr) => {{
        for fault in $faults {
            match fault {
                Fault::Dead(node) => expect($world.kill(NodeId(*node), Loss::Unsynced)),
                Fault::Cut(one, other) => $world.cut_between(&[NodeId(*one)], &[NodeId(*other)]),
            }
            expect($world.run_until($world.now_ns() + 3 * SECOND_NS));
            match fault {
                Fault::Dead(node) => expect($world.revive(NodeId(*node))),
                Fault::Cut(..) => $world.mend(),
            }
            expect($world.run_until($world.now_ns() + 2 * SECOND_NS));
        }
    }};
}

/// Which protocol does what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Raft,
    TwoPhase,
    OnePhase,
}

/// When writes were acknowledged, nanoseconds after the beginning.
fn acknowledged(by: By, seed: u64, clients: u32, timeout_ns: u64, faults: &[Fault], run_ns: u64) -> Vec<u64> {
    let ends: Vec<u64> = if by == By::Raft {
        let role = |key| Role::new(Aim::Leader, Task::Increment(key as u16)).timeout(timeout_ns);
        let mut world = raft(priced(3), Load::new((0..clients).map(role)), seed, |_| {});
        expect(world.run_until(BEGIN_NS));
        suffer!(world, faults);
        expect(world.run_until(BEGIN_NS + run_ns));
        let done = world.clients().samples().iter().filter(|sample| sample.is_done());
        done.map(|sample| sample.ended_ns).collect()
    } else {
        let errand = |key| {
            let everywhere = vec![(2, key), (3, key), (4, key)];
            let lists = if by == By::TwoPhase { everywhere } else { vec![(2 + u64::from(key) % 3, key)] };
            Errand { timeout_ns, ..Errand::new(COORDINATOR, lists) }
        };
        let load = Transactions::new((0..clients).map(errand));
        let mut world = world(priced(3), &[COORDINATOR], &PARTICIPANTS, load, seed);
        expect(world.run_until(BEGIN_NS));
        suffer!(world, faults);
        expect(world.run_until(BEGIN_NS + run_ns));
        let done = world.clients().done().iter().filter(|done| done.end == End::Committed);
        done.map(|done| done.ended_ns).collect()
    };
    let inside = ends.into_iter().filter(|at_ns| (BEGIN_NS..BEGIN_NS + run_ns).contains(at_ns));
    inside.map(|at_ns| at_ns - BEGIN_NS).collect()
}

fn throughput(effort: Effort) -> Finding {
    let rate = |by| {
        let one = |seed| acknowledged(by, seed, CLIENTS, SECOND_NS, &[], SECOND_NS / 2).len() as f64 * 2.0;
        median(&effort.seeds().map(one).collect::<Vec<_>>())
    };
    let (raft, two_phase, one_phase) = (rate(By::Raft), rate(By::TwoPhase), rate(By::OnePhase));
    let lower = raft < two_phase;
    Finding {
        verdict: Verdict::of(lower),
        because: format!(
            "Raft acknowledges {raft:.0} writes per second, two-phase commit {two_phase:.0}, on the same machines and disks, with three copies of each"
        ),
        figures: vec![
            Figure::new("Raft", raft, "1/s"),
            Figure::new("two-phase commit at three participants", two_phase, "1/s"),
            Figure::new("Raft / two-phase commit", raft / two_phase, ""),
        ],
        control: Control {
            what: "one participant each, one phase, no copies".into(),
            figures: vec![Figure::new("one phase", one_phase, "1/s")],
            differs: (raft < one_phase) != lower,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 3,
    }
}

/// The share of the 100 ms in which something was acknowledged.
fn available(by: By, seed: u64, faults: &[Fault]) -> f64 {
    const SLICE_NS: u64 = 100 * MILLISECOND_NS;
    // As long as all five faults, in any case.
    let run_ns = FAULTS.len() as u64 * 5 * SECOND_NS;
    let ends = acknowledged(by, seed, 3, 200 * MILLISECOND_NS, faults, run_ns);
    let served: std::collections::BTreeSet<u64> = ends.into_iter().map(|at_ns| at_ns / SLICE_NS).collect();
    served.len() as f64 / (run_ns / SLICE_NS) as f64
}

fn resilient(effort: Effort) -> Finding {
    let share = |by, faults: &[Fault]| {
        median(&effort.seeds().map(|seed| 100.0 * available(by, seed, faults)).collect::<Vec<_>>())
    };
    let (raft, two_phase) = (share(By::Raft, &FAULTS), share(By::TwoPhase, &FAULTS));
    let (calm_raft, calm_two_phase) = (share(By::Raft, &[]), share(By::TwoPhase, &[]));
    Finding {
        verdict: Verdict::of(raft > two_phase + 5.0),
        because: format!(
            "under the same faults Raft acknowledges writes in {raft:.0} % of all 100 ms, two-phase commit over machines without copies in \
             {two_phase:.0} %"
        ),
        figures: vec![
            Figure::new("Raft: served", raft, "%"),
            Figure::new("two-phase commit: served", two_phase, "%"),
        ],
        control: Control {
            what: "no faults".into(),
            figures: vec![
                Figure::new("Raft: served", calm_raft, "%"),
                Figure::new("two-phase commit: served", calm_two_phase, "%"),
            ],
            differs: (calm_raft - calm_two_phase).abs() < 5.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}
