//! Claim 37.

use std::collections::BTreeSet;

use keypact_crdt::{Lattice, OrSet};
use keypact_ordering::clock::ReplicaId;
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 37,
    part: "coordination",
    text: "CRDT operations commute",
    how: "three replicas add and remove elements of one set and exchange some of it; the deltas of all operations are then applied to an empty \
          set in a hundred random orders. Counted: different results; control: the bare operations in the same orders",
    measure,
};

const OPERATIONS: usize = 60;
const ORDERS: usize = 100;

struct Operation {
    delta: <OrSet<u64> as Lattice>::Delta,
    adds: bool,
    element: u64,
}

fn operations(random: &mut Random) -> Vec<Operation> {
    let mut replicas = vec![OrSet::<u64>::default(); 3];
    let mut done: Vec<Operation> = Vec::new();
    for _ in 0..OPERATIONS {
        let at = random.index(replicas.len());
        let id = ReplicaId(at as u64 + 1);
        let (element, adds) = (random.below(8), random.chance(600_000));
        let set = &mut replicas[at];
        let delta = if adds { set.add(element, id) } else { set.remove(&element, id) };
        done.push(Operation { delta, adds, element });
        if random.chance(300_000) {
            let heard = done[random.index(done.len())].delta.clone();
            replicas[random.index(3)].apply(heard);
        }
    }
    done
}

/// Different results over all orders: of deltas, and of bare operations.
fn run(seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut operations = operations(&mut random);
    let mut sets: Vec<OrSet<u64>> = Vec::new();
    let mut plains: BTreeSet<BTreeSet<u64>> = BTreeSet::new();
    for _ in 0..ORDERS {
        random.shuffle(&mut operations);
        let (mut set, mut plain) = (OrSet::default(), BTreeSet::new());
        for operation in &operations {
            set.apply(operation.delta.clone());
            if operation.adds {
                plain.insert(operation.element);
            } else {
                plain.remove(&operation.element);
            }
        }
        if !sets.contains(&set) {
            sets.push(set);
        }
        plains.insert(plain);
    }
    (sets.len() as u64, plains.len() as u64)
}

fn measure(effort: Effort) -> Finding {
    let runs: Vec<_> = effort.seeds().map(run).collect();
    let most = |pick: fn(&(u64, u64)) -> u64| runs.iter().map(pick).max().unwrap_or(0) as f64;
    let (sets, plains) = (most(|run| run.0), most(|run| run.1));
    Finding {
        verdict: Verdict::of(sets == 1.0),
        because: format!("a hundred orders of the same deltas gave {sets} state, at most"),
        figures: vec![Figure::new("different states of a hundred orders, at most", sets, "states")],
        control: Control {
            what: "the bare adds and removes in the same orders".into(),
            figures: vec![Figure::new("different states of a hundred orders, at most", plains, "states")],
            differs: plains > 1.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds,
    }
}
