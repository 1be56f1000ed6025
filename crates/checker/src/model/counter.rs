//! A counter: add and read.

use super::{Footprint, Model, call_name, odd_answer};
use crate::history::{Answer, Call, Value};

/// The specification. Numbers are 64-bit; an addition that would overflow is impossible.
#[derive(Clone, Debug)]
pub struct Counter {
    /// What it holds at first.
    pub initial: i64,
}

/// An operation on a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// A read, with what it returned; `None` says nothing.
    Read(Option<i64>),
    /// An addition, with the number after it; `None` if the answer does not tell.
    Add {
        /// What was added.
        by: i64,
        /// The number after.
        after: Option<i64>,
    },
}

/// A number, however it was written down. A counter that was never touched reads as nil in Redis: that is 0.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Nil => Some(0),
        Value::Integer(number) => Some(*number),
        Value::Text(text) => text.parse().ok(),
    }
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;

    fn name(&self) -> &'static str {
        "counter"
    }

    fn initial(&self) -> i64 {
        self.initial
    }

    fn operation(&self, call: &Call, answer: Option<&Answer>) -> Result<CounterOp, String> {
        let answer = answer.filter(|&answer| *answer != Answer::Nothing);
        match (call, answer) {
            (Call::Read, None) => Ok(CounterOp::Read(None)),
            (Call::Read, Some(Answer::Integer(seen))) => Ok(CounterOp::Read(Some(*seen))),
            (Call::Read, Some(Answer::Value(value))) => match number(value) {
                Some(seen) => Ok(CounterOp::Read(Some(seen))),
                None => Err(format!("read of {value}, which is no number")),
            },
            (&Call::Add(by), None) => Ok(CounterOp::Add { by, after: None }),
            (&Call::Add(by), Some(&Answer::Integer(after))) => Ok(CounterOp::Add { by, after: Some(after) }),
            (Call::Read | Call::Add(_), Some(other)) => Err(odd_answer(call, other)),
            _ => Err(call_name(call).to_owned()),
        }
    }

    fn step(&self, state: &i64, op: &CounterOp) -> Option<i64> {
        match op {
            CounterOp::Read(seen) => seen.is_none_or(|seen| seen == *state).then_some(*state),
            CounterOp::Add { by, after } => {
                let sum = state.checked_add(*by)?;
                after.is_none_or(|after| after == sum).then_some(sum)
            }
        }
    }

    fn read_only(&self, op: &CounterOp) -> bool {
        matches!(op, CounterOp::Read(_) | CounterOp::Add { by: 0, .. })
    }
    fn leaves(&self, op: &CounterOp) -> Option<i64> {
        match op {
            CounterOp::Read(_) => None,
            CounterOp::Add { after, .. } => *after,
        }
    }

    fn footprint(&self, op: &CounterOp) -> Footprint<i64> {
        match *op {
            CounterOp::Read(needs) => Footprint::Values { needs, writes: None },
            CounterOp::Add { after: None, .. } => Footprint::Opaque,
            CounterOp::Add { by, after: Some(after) } => match after.checked_sub(by) {
                None => Footprint::Opaque,
                before => Footprint::Values { needs: before, writes: Some(after) },
            },
        }
    }
}
