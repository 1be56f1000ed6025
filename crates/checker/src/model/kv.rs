//! One key that holds a string, with the commands of Redis that our clients use.

use std::sync::Arc;

use super::{Footprint, Model, call_name, odd_answer, value_bytes};
use crate::history::{Answer, Call, Value};

/// The specification. Numbers are the strings that print them; an addition to anything else is impossible (the server
/// answers it with an error, which a history records as a failure).
#[derive(Clone, Debug)]
pub struct Kv {
    /// What every key holds at first.
    pub initial: Value,
}

/// An operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOp {
    /// The value; `None` says nothing.
    Get(Option<Value>),
    /// A blind write.
    Set(Value),
    /// An append, with the length in bytes after it.
    Append {
        /// What is added.
        suffix: Arc<str>,
        /// The length after.
        length: Option<i64>,
    },
    /// A removal, with whether there was something.
    Delete(Option<bool>),
    /// An addition, with the number after it.
    Add {
        /// What is added.
        by: i64,
        /// The number after.
        after: Option<i64>,
    },
    /// A write, with the old value.
    GetSet {
        /// What is written.
        new: Value,
        /// What was there.
        old: Option<Value>,
    },
    /// A write to a key that must not exist, with whether it took place.
    SetIfAbsent {
        /// What is written.
        new: Value,
        /// Whether it was.
        applied: Option<bool>,
    },
    /// A compare-and-set, with whether it took place.
    CompareAndSet {
        /// What must be there.
        expected: Value,
        /// What is written.
        new: Value,
        /// Whether it was.
        applied: Option<bool>,
    },
}

/// Redis keeps numbers as strings.
fn stored(value: &Value) -> Value {
    match value {
        Value::Integer(number) => Value::text(&number.to_string()),
        Value::Nil | Value::Text(_) => value.clone(),
    }
}

/// Whether a condition held: a client that was told anything was told that.
fn applied(call: &Call, answer: Option<&Answer>) -> Result<Option<bool>, String> {
    match answer {
        None => Ok(None),
        Some(&Answer::Applied(applied)) => Ok(Some(applied)),
        Some(&Answer::Integer(count @ 0..=1)) => Ok(Some(count == 1)),
        Some(other) => Err(odd_answer(call, other)),
    }
}

fn integer(call: &Call, answer: Option<&Answer>) -> Result<Option<i64>, String> {
    match answer {
        None => Ok(None),
        Some(&Answer::Integer(number)) => Ok(Some(number)),
        Some(other) => Err(odd_answer(call, other)),
    }
}

fn value(call: &Call, answer: Option<&Answer>) -> Result<Option<Value>, String> {
    match answer {
        None => Ok(None),
        Some(Answer::Value(value)) => Ok(Some(stored(value))),
        Some(other) => Err(odd_answer(call, other)),
    }
}

/// A write that takes place if `condition` holds, and whose answer has to agree with that.
fn conditional(state: &Value, new: &Value, condition: bool, applied: Option<bool>) -> Option<Value> {
    if applied.is_some_and(|applied| applied != condition) {
        return None;
    }
    Some(if condition { new.clone() } else { state.clone() })
}

fn appended(state: &Value, suffix: &str, length: Option<i64>) -> Option<Value> {
    let before = match state {
        Value::Text(text) => text,
        Value::Nil => "",
        Value::Integer(_) => unreachable!("a key holds a string or nothing"),
    };
    let size = before.len() + suffix.len();
    if length.is_some_and(|length| usize::try_from(length) != Ok(size)) {
        return None;
    }
    Some(Value::Text([before, suffix].concat().into()))
}

/// A string that Redis takes for a number: as it would print it, no sign of plus, no leading zero.
fn number(state: &Value) -> Option<i64> {
    match state {
        Value::Nil => Some(0),
        Value::Text(text) => text.parse::<i64>().ok().filter(|number| number.to_string() == **text),
        Value::Integer(_) => unreachable!("a key holds a string or nothing"),
    }
}

impl Model for Kv {
    type State = Value;
    type Op = KvOp;

    fn name(&self) -> &'static str {
        "kv"
    }

    fn initial(&self) -> Value {
        stored(&self.initial)
    }

    fn operation(&self, call: &Call, answer: Option<&Answer>) -> Result<KvOp, String> {
        let told = answer;
        let answer = answer.filter(|&answer| *answer != Answer::Nothing);
        Ok(match call {
            Call::Read => KvOp::Get(value(call, answer)?),
            Call::Write(new) => match (new, answer) {
                (Value::Nil, _) => return Err(format!("{} of nil", call_name(call))),
                (_, Some(other)) => return Err(odd_answer(call, other)),
                (new, None) => KvOp::Set(stored(new)),
            },
            Call::Append(suffix) => {
                KvOp::Append { suffix: Arc::clone(suffix), length: integer(call, answer)? }
            }
            Call::Delete => KvOp::Delete(applied(call, answer)?),
            Call::Add(by) => KvOp::Add { by: *by, after: integer(call, answer)? },
            Call::GetSet(new) => KvOp::GetSet { new: stored(new), old: value(call, answer)? },
            Call::SetIfAbsent(new) => KvOp::SetIfAbsent { new: stored(new), applied: applied(call, told)? },
            Call::CompareAndSet { expected, new } => KvOp::CompareAndSet {
                expected: stored(expected),
                new: stored(new),
                applied: applied(call, told)?,
            },
        })
    }

    fn step(&self, state: &Value, op: &KvOp) -> Option<Value> {
        let same = || state.clone();
        match op {
            KvOp::Get(seen) => seen.as_ref().is_none_or(|seen| seen == state).then(same),
            KvOp::Set(new) => Some(new.clone()),
            KvOp::Append { suffix, length } => appended(state, suffix, *length),
            KvOp::Delete(existed) => conditional(state, &Value::Nil, *state != Value::Nil, *existed),
            KvOp::Add { by, after } => {
                // An addition of unknown outcome to what is no number was refused by the server: no effect.
                let sum = number(state).and_then(|before| before.checked_add(*by));
                match (sum, after) {
                    (None, None) => Some(same()),
                    (None, Some(_)) => None,
                    (Some(sum), after) => {
                        after.is_none_or(|after| after == sum).then(|| Value::text(&sum.to_string()))
                    }
                }
            }
            KvOp::GetSet { new, old } => old.as_ref().is_none_or(|old| old == state).then(|| new.clone()),
            KvOp::SetIfAbsent { new, applied } => conditional(state, new, *state == Value::Nil, *applied),
            KvOp::CompareAndSet { expected, new, applied } => {
                conditional(state, new, state == expected, *applied)
            }
        }
    }

    fn state_bytes(&self, state: &Value) -> usize {
        value_bytes(state)
    }

    fn read_only(&self, op: &KvOp) -> bool {
        matches!(
            op,
            KvOp::Get(_)
                | KvOp::Delete(Some(false))
                | KvOp::SetIfAbsent { applied: Some(false), .. }
                | KvOp::CompareAndSet { applied: Some(false), .. }
        )
    }

    fn overwrites(&self, op: &KvOp) -> bool {
        matches!(op, KvOp::Set(_) | KvOp::Delete(None) | KvOp::GetSet { old: None, .. })
    }

    fn leaves(&self, op: &KvOp) -> Option<Value> {
        match op {
            KvOp::Get(_) | KvOp::Append { .. } | KvOp::Add { after: None, .. } => None,
            KvOp::Add { after: Some(after), .. } => Some(Value::text(&after.to_string())),
            KvOp::Delete(_) => Some(Value::Nil),
            KvOp::Set(new)
            | KvOp::GetSet { new, .. }
            | KvOp::SetIfAbsent { new, .. }
            | KvOp::CompareAndSet { new, .. } => Some(new.clone()),
        }
    }

    fn footprint(&self, op: &KvOp) -> Footprint<Value> {
        let values = |needs: Option<&Value>, writes: Option<&Value>| Footprint::Values {
            needs: needs.cloned(),
            writes: writes.cloned(),
        };
        match op {
            KvOp::Get(seen) => values(seen.as_ref(), None),
            KvOp::Set(new) => values(None, Some(new)),
            KvOp::Delete(None) => values(None, Some(&Value::Nil)),
            KvOp::Delete(Some(false)) => values(Some(&Value::Nil), None),
            KvOp::GetSet { new, old } => values(old.as_ref(), Some(new)),
            KvOp::SetIfAbsent { new, applied: Some(true) | None } => values(Some(&Value::Nil), Some(new)),
            KvOp::CompareAndSet { expected, new, applied: Some(true) | None } => {
                values(Some(expected), Some(new))
            }
            // A number after that is the amount itself may have been added to 0 or to nothing.
            KvOp::Add { by, after: Some(after) } if after != by => match after.checked_sub(*by) {
                None => Footprint::Opaque,
                Some(before) => {
                    let [before, after] = [before, *after].map(|number| Value::text(&number.to_string()));
                    values(Some(&before), Some(&after))
                }
            },
            KvOp::Append { .. } | KvOp::Add { .. } | KvOp::Delete(Some(true)) => Footprint::Opaque,
            KvOp::SetIfAbsent { applied: Some(false), .. }
            | KvOp::CompareAndSet { applied: Some(false), .. } => Footprint::Opaque,
        }
    }
}
