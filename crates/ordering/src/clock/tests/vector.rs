//! A vector clock is the set of the first n events of each replica.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use proptest::prelude::*;

use super::dot;
use crate::clock::{Causality, DotContext, LamportClock, ReplicaId, VectorClock};

fn clocks() -> impl Strategy<Value = VectorClock> {
    prop::collection::vec((0_u64..5, 0_u64..4), 0..6)
        .prop_map(|entries| entries.into_iter().map(|(replica, count)| (ReplicaId(replica), count)).collect())
}

fn events(clock: &VectorClock) -> BTreeSet<(u64, u64)> {
    clock.iter().flat_map(|(replica, count)| (1..=count).map(move |counter| (replica.0, counter))).collect()
}

proptest! {
    #[test]
    fn two_clocks_as_two_sets(a in clocks(), b in clocks()) {
        let (left, right) = (events(&a), events(&b));
        let mut merged = a.clone();
        merged.merge(&b);
        prop_assert_eq!(events(&merged), &left | &right);
        prop_assert_eq!(events(&a.meet(&b)), &left & &right);
        prop_assert_eq!(a.contains_all(&b), left.is_superset(&right));
        let expected = match (left.is_superset(&right), right.is_superset(&left)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        };
        prop_assert_eq!(a.compare(&b), expected);
        prop_assert_eq!(a.partial_cmp(&b).is_none(), expected == Causality::Concurrent);
        prop_assert_eq!(a == b, expected == Causality::Equal);
    }

    #[test]
    fn merging_is_a_join(a in clocks(), b in clocks(), c in clocks()) {
        let join = |left: &VectorClock, right: &VectorClock| {
            let mut joined = left.clone();
            joined.merge(right);
            joined
        };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(&join(&a, &a), &a);
        prop_assert!(join(&a, &b).contains_all(&a));
        // The same events as dots: one order, two representations.
        prop_assert_eq!(DotContext::from(&join(&a, &b)), DotContext::from(&a).union(&DotContext::from(&b)));
    }

    /// A random run of messages: the vector clocks say exactly what "happened before" says, Lamport's agree with it one way.
    #[test]
    fn clocks_tell_what_happened_before(steps in prop::collection::vec((0_u64..3, 0_usize..12), 1..40)) {
        let mut clocks: BTreeMap<u64, (VectorClock, LamportClock)> = BTreeMap::new();
        // Of each event: its clock, its Lamport time, and the events before it, kept by hand.
        let mut log: Vec<(VectorClock, u64, BTreeSet<usize>)> = Vec::new();
        let mut latest: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        for (at, (replica, heard)) in steps.into_iter().enumerate() {
            let (vector, lamport) = clocks.entry(replica).or_default();
            let causes = latest.entry(replica).or_default();
            if let Some((sent, time, before)) = log.get(heard) {
                // It hears what was sent with an earlier event, late, again, or from itself.
                vector.merge(sent);
                lamport.observe(*time).expect("times are small");
                causes.extend(before);
                causes.insert(heard);
            }
            vector.increment(ReplicaId(replica));
            let time = lamport.tick();
            log.push((vector.clone(), time, causes.clone()));
            causes.insert(at);
        }
        for (later, (vector, time, causes)) in log.iter().enumerate() {
            for (earlier, (before, before_time, _)) in log.iter().enumerate().take(later) {
                prop_assert_eq!(before < vector, causes.contains(&earlier));
                if causes.contains(&earlier) {
                    prop_assert!(before_time < time);
                }
            }
        }
    }
}

#[test]
fn events_come_one_by_one() {
    let mut clock = VectorClock::new();
    let first = clock.increment(ReplicaId(3));
    assert_eq!(first, dot(3, 1));
    assert!(clock.is_next(dot(3, 2)) && !clock.is_next(dot(3, 3)) && !clock.is_next(first));
    assert!(clock.is_next(dot(9, 1)), "a replica that is not known has seen nothing");
    assert!(!clock.observe(first), "seen before");
    assert!(clock.observe(dot(3, 7)) && clock.get(ReplicaId(3)) == 7);
    clock.forget(ReplicaId(3));
    assert!(clock.is_empty());
}
