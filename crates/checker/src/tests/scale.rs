//! Histories as large as those of the demo and the simulator, within a number of steps.

use super::generate::{Random, Shape, linearizable};
use crate::history::{Answer, Call, Outcome, Value};
use crate::linearizable::{Checked, LimitReached, Limits, Verdict, check};
use crate::model::ModelKind;

fn shape(operations: usize, keys: u64, unknown_one_in: u64) -> Shape {
    Shape {
        model: ModelKind::Kv,
        operations,
        processes: 64,
        keys,
        unknown_one_in,
        failed_one_in: 50,
        values: 0,
        reads_one_in: 2,
    }
}

fn checked(shape: &Shape, seed: u64, stale_reads: usize) -> Checked {
    let mut history = linearizable(shape, &Value::Nil, &mut Random(seed));
    let mut left = stale_reads;
    // The last reads are told that nothing was ever written.
    for operation in history.operations.iter_mut().rev() {
        if left > 0
            && operation.call == Call::Read
            && operation.outcome != Outcome::Ok(Answer::Value(Value::Nil))
        {
            operation.outcome = Outcome::Ok(Answer::Value(Value::Nil));
            left -= 1;
        }
    }
    check(&history, &shape.model, &Value::Nil, &Limits::steps(30_000_000)).unwrap()
}

#[test]
fn many_keys_many_clients() {
    let checked = checked(&shape(100_000, 1_000, 40), 1, 0);
    assert_eq!(checked.verdict, Verdict::Linearizable);
    assert!(checked.unknown > 500, "{} unknown operations", checked.unknown);
    assert!(checked.steps < 3_000_000, "{} steps", checked.steps);
}

/// All clients at one key: clusters of values make this easy, where trying all orders would never end.
#[test]
fn one_hot_key() {
    for model in [ModelKind::Register, ModelKind::CasRegister] {
        for unknown_one_in in [0, 40] {
            let shape = Shape { model: model.clone(), ..shape(5_000, 1, unknown_one_in) };
            let right = checked(&shape, 2, 0);
            assert_eq!(right.verdict, Verdict::Linearizable, "{model:?}");
            assert!(right.steps < 2_000_000, "{model:?}: {} steps", right.steps);
            let Verdict::NotLinearizable(violation) = checked(&shape, 2, 1).verdict else {
                panic!("{model:?}: a stale read was not found");
            };
            let witness = &violation.witness;
            assert!(violation.exact && witness.minimal && witness.operations.len() <= 3, "{violation:#?}");
        }
    }
}

/// A verdict that takes more than the steps given is none, and the same on every machine.
#[test]
fn too_few_steps_are_undecided() {
    let shape = Shape { values: 3, ..shape(400, 1, 3) };
    let history = linearizable(&shape, &Value::Nil, &mut Random(3));
    let run = || check(&history, &shape.model, &Value::Nil, &Limits::steps(300)).unwrap();
    let checked = run();
    assert!(matches!(&checked.verdict, Verdict::Undecided { why: LimitReached::Steps, .. }), "{checked:?}");
    assert_eq!((checked.steps, run()), (300, checked));
    let no_memory = Limits { memory_bytes: 1, ..Limits::steps(1_000_000) };
    let checked = check(&history, &shape.model, &Value::Nil, &no_memory).unwrap();
    assert!(matches!(checked.verdict, Verdict::Undecided { why: LimitReached::Memory, .. }));
    let no_time = Limits { time: Some(std::time::Duration::ZERO), ..Limits::default() };
    let checked = check(&history, &shape.model, &Value::Nil, &no_time).unwrap();
    assert!(matches!(checked.verdict, Verdict::Undecided { why: LimitReached::Time, .. }));
}
