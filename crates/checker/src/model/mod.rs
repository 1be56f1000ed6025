//! Sequential specifications: what one client alone would see.

mod counter;
mod kv;
mod register;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::Hash;

use crate::history::{Answer, Call, Value};

pub use counter::{Counter, CounterOp};
pub use kv::{Kv, KvOp};
pub use register::{Register, RegisterOp};

/// A sequential specification of one object. Histories are split by key before a model sees them.
///
/// The hints (`read_only`, `overwrites`, `leaves`, `footprint`) make the search and the witness smaller. The defaults are
/// always right; a wrong hint gives wrong verdicts, so the tests compare every model with one that keeps the defaults.
pub trait Model {
    /// What the object holds.
    type State: Clone + Eq + Hash + fmt::Debug + fmt::Display;
    /// One call together with its answer, or with the fact that the answer is not known.
    type Op: Clone + Eq + Hash + fmt::Debug;

    /// The name people give it by.
    fn name(&self) -> &'static str;

    /// What the object holds before the first operation.
    fn initial(&self) -> Self::State;

    /// The operation of this model that a call with its answer is; `None` for an answer that is not known.
    ///
    /// # Errors
    /// The call or answer is not of this model: its description.
    fn operation(&self, call: &Call, answer: Option<&Answer>) -> Result<Self::Op, String>;

    /// The state after the operation, or `None` if it can't have had its answer in this state.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Bytes that a state takes, by estimate, for the limit on memory.
    fn state_bytes(&self, _state: &Self::State) -> usize {
        size_of::<Self::State>()
    }

    /// Whether the operation leaves every state in which it is possible as it was.
    fn read_only(&self, _op: &Self::Op) -> bool {
        false
    }

    /// Whether the operation is possible in every state and always leaves one and the same.
    fn overwrites(&self, _op: &Self::Op) -> bool {
        false
    }

    /// The one state that the operation leaves whenever it changes anything, if there is one such state.
    fn leaves(&self, _op: &Self::Op) -> Option<Self::State> {
        None
    }

    /// Which values the operation depends on and writes, for the witness.
    fn footprint(&self, _op: &Self::Op) -> Footprint<Self::State> {
        Footprint::Opaque
    }
}

/// What an operation has to do with single values. See [`crate::witness`] for what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Footprint<State> {
    /// Possible exactly in the states `needs` (in all, if `None`); leaves `writes` (what was there, if `None`).
    Values {
        /// The only state in which it is possible or, of an unknown operation, has any effect.
        needs: Option<State>,
        /// The state that it leaves.
        writes: Option<State>,
    },
    /// Anything else.
    Opaque,
}

/// A model chosen at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Read and write.
    Register,
    /// Read, write, compare-and-set.
    CasRegister,
    /// Add and read.
    Counter,
    /// Strings by key: get, set, append, delete, add, getset, setnx, compare-and-set.
    Kv,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 4] =
        [ModelKind::Register, ModelKind::CasRegister, ModelKind::Counter, ModelKind::Kv];

    /// The name people give it by.
    pub fn name(&self) -> &'static str {
        match self {
            ModelKind::Register => "register",
            ModelKind::CasRegister => "cas-register",
            ModelKind::Counter => "counter",
            ModelKind::Kv => "kv",
        }
    }

    /// The model of this name.
    pub fn from_name(name: &str) -> Option<ModelKind> {
        ModelKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What it holds at first unless told otherwise.
    pub fn default_initial(&self) -> Value {
        match self {
            ModelKind::Counter => Value::Integer(0),
            ModelKind::Register | ModelKind::CasRegister | ModelKind::Kv => Value::Nil,
        }
    }
}

/// What people call a call.
pub(crate) fn call_name(call: &Call) -> &'static str {
    match call {
        Call::Read => "read",
        Call::Write(_) => "write",
        Call::Append(_) => "append",
        Call::Delete => "del",
        Call::Add(_) => "incr",
        Call::GetSet(_) => "getset",
        Call::SetIfAbsent(_) => "setnx",
        Call::CompareAndSet { .. } => "cas",
    }
}

/// Bytes of a value, with what it points to.
fn value_bytes(value: &Value) -> usize {
    size_of::<Value>() + if let Value::Text(text) = value { text.len() } else { 0 }
}

/// The message for an answer that a call can't have.
fn odd_answer(call: &Call, answer: &Answer) -> String {
    format!("{} with the answer {answer:?}", call_name(call))
}
