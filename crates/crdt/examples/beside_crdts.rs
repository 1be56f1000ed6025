//! How many times faster two sets of 10,000 merge than `Orswot` of crate `crdts`, in one run, turn by turn:
//! `cargo run --release -p keypact-crdt --example beside_crdts`.

use std::time::{Duration, Instant};

use crdts::{CmRDT, CvRDT};
use keypact_crdt::{Lattice, OrSet};
use keypact_ordering::clock::ReplicaId;

const ELEMENTS: u64 = 10_000;
const ROUNDS: usize = 21;

fn ours(shared: u64) -> (OrSet<u64>, OrSet<u64>) {
    let mut left = OrSet::default();
    (0..shared).for_each(|element| drop(left.add(element, ReplicaId(1))));
    let mut right = left.clone();
    for element in shared..ELEMENTS {
        left.add(ELEMENTS + element, ReplicaId(1));
        right.add(2 * ELEMENTS + element, ReplicaId(2));
    }
    (left, right)
}

fn theirs(shared: u64) -> (crdts::Orswot<u64, u64>, crdts::Orswot<u64, u64>) {
    let add = |set: &mut crdts::Orswot<u64, u64>, element, actor| {
        let context = set.read_ctx().derive_add_ctx(actor);
        set.apply(set.add(element, context));
    };
    let mut left = crdts::Orswot::new();
    (0..shared).for_each(|element| add(&mut left, element, 1));
    let mut right = left.clone();
    for element in shared..ELEMENTS {
        add(&mut left, ELEMENTS + element, 1);
        add(&mut right, 2 * ELEMENTS + element, 2);
    }
    (left, right)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let result = work();
    (begin.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    for (name, shared) in
        [("no element in common", 0), ("half in common", ELEMENTS / 2), ("all in common", ELEMENTS)]
    {
        let ((left, right), (other_left, other_right)) = (ours(shared), theirs(shared));
        let (mut own_times, mut other_times) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut ours, theirs) = (left.clone(), right.clone());
            let (time, ours) = timed(move || {
                ours.merge(theirs);
                ours
            });
            own_times.push(time);
            let (mut left, right) = (other_left.clone(), other_right.clone());
            let (time, left) = timed(move || {
                left.merge(right);
                left
            });
            other_times.push(time);
            assert_eq!(ours.len(), left.read().val.len(), "both say the same");
        }
        let (own, other) = (median(own_times), median(other_times));
        let ratio = other.as_secs_f64() / own.as_secs_f64();
        println!("{name}: keypact {own:?}, crdts {other:?}, {ratio:.1} times faster");
    }
}
