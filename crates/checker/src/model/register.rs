//! A register: read, write, and (if allowed) compare-and-set.

use super::{Footprint, Model, call_name, odd_answer, value_bytes};
use crate::history::{Answer, Call, Value};

/// The specification; with `compare_and_set` it is the model `cas-register`, without it `register`.
#[derive(Clone, Debug)]
pub struct Register {
    /// What it holds at first.
    pub initial: Value,
    /// Whether it has compare-and-set.
    pub compare_and_set: bool,
}

/// An operation on a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// A read, with what it returned; `None` says nothing.
    Read(Option<Value>),
    /// A write.
    Write(Value),
    /// A compare-and-set, with whether it took place; `None` if that is not known.
    CompareAndSet {
        /// What the register had to hold.
        expected: Value,
        /// What it holds then.
        new: Value,
        /// Whether it did.
        applied: Option<bool>,
    },
}

impl Model for Register {
    type State = Value;
    type Op = RegisterOp;

    fn name(&self) -> &'static str {
        if self.compare_and_set { "cas-register" } else { "register" }
    }

    fn initial(&self) -> Value {
        self.initial.clone()
    }

    fn operation(&self, call: &Call, answer: Option<&Answer>) -> Result<RegisterOp, String> {
        let told = answer;
        let answer = answer.filter(|&answer| *answer != Answer::Nothing);
        match (call, answer) {
            (Call::Read, None) => Ok(RegisterOp::Read(None)),
            (Call::Read, Some(Answer::Value(value))) => Ok(RegisterOp::Read(Some(value.clone()))),
            (Call::Write(value), None) => Ok(RegisterOp::Write(value.clone())),
            (Call::CompareAndSet { expected, new }, _) if self.compare_and_set => {
                let applied = match told {
                    None => None,
                    Some(&Answer::Applied(applied)) => Some(applied),
                    Some(other) => return Err(odd_answer(call, other)),
                };
                Ok(RegisterOp::CompareAndSet { expected: expected.clone(), new: new.clone(), applied })
            }
            (Call::Read | Call::Write(_), Some(other)) => Err(odd_answer(call, other)),
            _ => Err(call_name(call).to_owned()),
        }
    }

    fn step(&self, state: &Value, op: &RegisterOp) -> Option<Value> {
        match op {
            RegisterOp::Read(None) => Some(state.clone()),
            RegisterOp::Read(Some(seen)) => (seen == state).then(|| state.clone()),
            RegisterOp::Write(value) => Some(value.clone()),
            RegisterOp::CompareAndSet { expected, new, applied } => match (applied, expected == state) {
                (Some(true) | None, true) => Some(new.clone()),
                (Some(false) | None, false) => Some(state.clone()),
                (Some(true), false) | (Some(false), true) => None,
            },
        }
    }

    fn state_bytes(&self, state: &Value) -> usize {
        value_bytes(state)
    }

    fn read_only(&self, op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Read(_) | RegisterOp::CompareAndSet { applied: Some(false), .. })
    }

    fn overwrites(&self, op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Write(_))
    }

    fn leaves(&self, op: &RegisterOp) -> Option<Value> {
        match op {
            RegisterOp::Read(_) => None,
            RegisterOp::Write(value) => Some(value.clone()),
            RegisterOp::CompareAndSet { new, .. } => Some(new.clone()),
        }
    }

    fn footprint(&self, op: &RegisterOp) -> Footprint<Value> {
        match op {
            RegisterOp::Read(None) => Footprint::Values { needs: None, writes: None },
            RegisterOp::Read(Some(seen)) => Footprint::Values { needs: Some(seen.clone()), writes: None },
            RegisterOp::Write(value) => Footprint::Values { needs: None, writes: Some(value.clone()) },
            RegisterOp::CompareAndSet { applied: Some(false), .. } => Footprint::Opaque,
            RegisterOp::CompareAndSet { expected, new, .. } => {
                Footprint::Values { needs: Some(expected.clone()), writes: Some(new.clone()) }
            }
        }
    }
}
