//! The same random runs on our types and on those of crate `crdts`: three replicas that change and merge must read the same throughout.
//!
//! Maps are not compared: theirs keeps an element under a key that was removed by somebody who had seen it, if another was added meanwhile.

use crdts::{CmRDT, CvRDT};
use keypact_crdt::{GCounter, Lattice, LwwRegister, MvRegister, OrSet, PnCounter};
use keypact_ordering::clock::{HybridStamp, ReplicaId};
use proptest::prelude::*;

const REPLICAS: usize = 3;

/// At one replica, with a number that chooses what; or a merge into one from another.
#[derive(Clone, Debug)]
enum Step {
    Change { at: usize, remove: bool, value: u8 },
    Merge { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..REPLICAS, prop::bool::weighted(0.3), 0_u8..6)
            .prop_map(|(at, remove, value)| Step::Change { at, remove, value }),
        2 => (0..REPLICAS, 0..REPLICAS).prop_map(|(from, to)| Step::Merge { from, to }),
    ];
    prop::collection::vec(step, 1..60)
}

fn replica(at: usize) -> ReplicaId {
    ReplicaId(at as u64 + 1)
}

/// Runs the steps on both; after each, `same` compares the replica that has changed.
fn side_by_side<O: Lattice, T: CvRDT + Clone + Default>(
    steps: &[Step],
    mut change: impl FnMut(&mut O, &mut T, usize, bool, u8),
    same: impl Fn(&O, &T) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut ours = vec![O::default(); REPLICAS];
    let mut theirs = vec![T::default(); REPLICAS];
    for step in steps {
        let at = match *step {
            Step::Change { at, remove, value } => {
                change(&mut ours[at], &mut theirs[at], at, remove, value);
                at
            }
            Step::Merge { from, to } => {
                let (state, other) = (ours[from].clone(), theirs[from].clone());
                ours[to].merge(state);
                theirs[to].merge(other);
                to
            }
        };
        same(&ours[at], &theirs[at])?;
    }
    Ok(())
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort();
    values
}

proptest! {
    #[test]
    fn grow_only_counter(steps in steps()) {
        side_by_side(
            &steps,
            |ours: &mut GCounter, theirs: &mut crdts::GCounter<u64>, at, _, value| {
                ours.increment(u64::from(value), replica(at)).expect("far from full");
                for _ in 0..value {
                    theirs.apply(theirs.inc(at as u64));
                }
            },
            |ours, theirs| {
                prop_assert_eq!(ours.value().to_string(), theirs.read().to_string());
                Ok(())
            },
        )?;
    }

    #[test]
    fn counter(steps in steps()) {
        side_by_side(
            &steps,
            |ours: &mut PnCounter, theirs: &mut crdts::PNCounter<u64>, at, remove, value| {
                let by = if remove { -i64::from(value) } else { i64::from(value) };
                ours.add(by, replica(at)).expect("far from full");
                for _ in 0..value {
                    let op = if remove { theirs.dec(at as u64) } else { theirs.inc(at as u64) };
                    theirs.apply(op);
                }
            },
            |ours, theirs| {
                prop_assert_eq!(ours.value().to_string(), theirs.read().to_string());
                Ok(())
            },
        )?;
    }

    #[test]
    fn last_writer_wins(steps in steps()) {
        let mut time = 0;
        side_by_side(
            &steps,
            |ours: &mut LwwRegister<u64>, theirs: &mut crdts::LWWReg<u64, u64>, at, remove, _| {
                // Now and then a writer is late, and loses.
                time += 3;
                let now = if remove && time > 20 { time - 20 } else { time };
                ours.assign(now, HybridStamp { wall_ms: now, count: 0 }, replica(at));
                theirs.update(now, now);
            },
            |ours, theirs| {
                prop_assert_eq!(ours.value().copied().unwrap_or(0), theirs.val);
                Ok(())
            },
        )?;
    }

    #[test]
    fn multi_value(steps in steps()) {
        let mut number = 0;
        side_by_side(
            &steps,
            |ours: &mut MvRegister<u64>, theirs: &mut crdts::MVReg<u64, u64>, at, _, _| {
                number += 1;
                ours.assign(number, replica(at));
                let context = theirs.read_ctx().derive_add_ctx(at as u64);
                theirs.apply(theirs.write(number, context));
            },
            |ours, theirs| {
                prop_assert_eq!(sorted(ours.values().copied()), sorted(theirs.read().val));
                Ok(())
            },
        )?;
    }

    #[test]
    fn observed_remove_set(steps in steps()) {
        side_by_side(
            &steps,
            |ours: &mut OrSet<u64>, theirs: &mut crdts::Orswot<u64, u64>, at, remove, value| {
                let value = u64::from(value);
                if remove {
                    ours.remove(&value, replica(at));
                    let context = theirs.contains(&value).derive_rm_ctx();
                    theirs.apply(theirs.rm(value, context));
                } else {
                    ours.add(value, replica(at));
                    let context = theirs.read_ctx().derive_add_ctx(at as u64);
                    theirs.apply(theirs.add(value, context));
                }
            },
            |ours, theirs| {
                prop_assert_eq!(ours.keys().copied().collect::<Vec<_>>(), sorted(theirs.read().val));
                Ok(())
            },
        )?;
    }
}
