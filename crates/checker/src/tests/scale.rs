//! Histories as large as those of the demo and the simulator, within a number of steps.

use super::generate::{Random, Shape, linearizable};
use crate::history::{Answer, Call, Outcome, Value};
use crate::linearizable::{Checked, Limits, Verdict, check};
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
