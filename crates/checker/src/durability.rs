//! What was acknowledged is there in the end: a check for workloads in which every write has a value of its own.
//!
//! Weaker than linearizability, but linear in time, and it says *which* writes were lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::history::{Answer, Call, History, Operation, Outcome, Value};

/// An acknowledged write that is not in the final state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostWrite {
    /// The write.
    pub operation: Operation,
    /// What its key holds in the end.
    pub found: Value,
}

/// The acknowledged writes that are not in the final state `last`, by key (a key that is not there holds nothing).
///
/// - An append is lost if its text, which no other text may contain, is nowhere in the value.
/// - A write, getset, or conditional write that took place is lost if its key does not hold its value, and neither that
///   of any other write that may have come later: one that was not known to have returned before it was invoked. A
///   removal counts as a write of nil.
/// - Additions are not judged.
///
/// Reads don't matter. O(n log n + bytes of the appended values · appends of their key).
pub fn lost_writes(history: &History, last: &BTreeMap<Arc<str>, Value>) -> Vec<LostWrite> {
    let mut lost = Vec::new();
    for (key, operations) in history.by_key() {
        let found = last.get(&key).cloned().unwrap_or_default();
        let appends = operations.iter().any(|operation| matches!(operation.call, Call::Append(_)));
        let missing: Vec<&Operation> = if appends {
            lost_appends(&operations, &found)
        } else {
            overwritten_by_nobody(&operations, &found)
        };
        let report = |operation: &Operation| LostWrite { operation: operation.clone(), found: found.clone() };
        lost.extend(missing.into_iter().map(report));
    }
    lost
}

fn lost_appends<'a>(operations: &[&'a Operation], found: &Value) -> Vec<&'a Operation> {
    let text = if let Value::Text(text) = found { text } else { "" };
    let is_lost = |operation: &&&Operation| match (&operation.call, &operation.outcome) {
        (Call::Append(suffix), Outcome::Ok(_)) => !text.contains(&**suffix),
        _ => false,
    };
    operations.iter().filter(is_lost).copied().collect()
}

/// The value that an operation leaves if it takes place.
fn written(call: &Call) -> Option<Value> {
    match call {
        Call::Write(value) | Call::GetSet(value) | Call::SetIfAbsent(value) => Some(value.clone()),
        Call::CompareAndSet { new, .. } => Some(new.clone()),
        Call::Delete => Some(Value::Nil),
        Call::Read | Call::Append(_) | Call::Add(_) => None,
    }
}

fn overwritten_by_nobody<'a>(operations: &[&'a Operation], found: &Value) -> Vec<&'a Operation> {
    // Some write left what was found. All that it may follow are excused: those invoked before the last of such writes
    // could have taken effect.
    let took_place = |operation: &Operation| {
        !matches!(operation.outcome, Outcome::Ok(Answer::Applied(false)) | Outcome::Failed)
    };
    let leaves_found = |operation: &&&Operation| {
        took_place(operation) && written(&operation.call).is_some_and(|value| value == *found)
    };
    let latest = (operations.iter().filter(leaves_found))
        .map(|operation| match (&operation.outcome, operation.returned) {
            (Outcome::Ok(_), Some(returned)) => returned.position,
            _ => u64::MAX,
        })
        .max();
    // Additions can leave anything: a key with one that was not refused is not judged.
    let adds = operations.iter().any(|operation| matches!(operation.call, Call::Add(_)));
    let is_lost = |operation: &&&Operation| {
        !adds
            && took_place(operation)
            && matches!(operation.outcome, Outcome::Ok(_))
            && written(&operation.call).is_some()
            && latest.is_none_or(|latest| operation.invoked.position > latest)
    };
    operations.iter().filter(is_lost).copied().collect()
}

/// The values of acknowledged writes that are not among `last`: for sets, queues, lists of unique values.
pub fn lost_values<'a>(
    acknowledged: impl IntoIterator<Item = &'a Value>,
    last: impl IntoIterator<Item = &'a Value>,
) -> BTreeSet<&'a Value> {
    let last: BTreeSet<&Value> = last.into_iter().collect();
    acknowledged.into_iter().filter(|value| !last.contains(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Recorder;

    fn text(value: &str) -> Value {
        Value::text(value)
    }

    fn history(events: &[(u64, Call, Option<Outcome>)]) -> History {
        let mut recorder = Recorder::new();
        for (process, call, outcome) in events {
            recorder.invoke(*process, "k", call.clone(), None, 0).unwrap();
            if let Some(outcome) = outcome {
                recorder.finish(*process, outcome.clone(), None, 0).unwrap();
            }
        }
        recorder.into_history()
    }

    fn lost(events: &[(u64, Call, Option<Outcome>)], last: Value) -> Vec<Call> {
        let last = BTreeMap::from([(Arc::from("k"), last)]);
        lost_writes(&history(events), &last).into_iter().map(|lost| lost.operation.call).collect()
    }

    const OK: Option<Outcome> = Some(Outcome::Ok(Answer::Nothing));

    #[test]
    fn an_append_has_to_be_somewhere() {
        let [a, b, c] = ["<a>", "<b>", "<c>"].map(|suffix| Call::Append(suffix.into()));
        let events = [(0, a, OK), (1, b.clone(), OK), (2, c, None)];
        assert_eq!(lost(&events, text("<a><b>")), []);
        assert_eq!(lost(&events, text("<a><c>")), [b]);
        assert_eq!(lost(&events, Value::Nil).len(), 2);
    }

    #[test]
    fn the_last_write_has_to_be_there() {
        let [one, two] = ["1", "2"].map(|value| Call::Write(text(value)));
        let events = [(0, one.clone(), OK), (0, two.clone(), OK)];
        assert_eq!(lost(&events, text("2")), []);
        assert_eq!(lost(&events, Value::Nil), [one.clone(), two.clone()]);
        assert_eq!(lost(&[events[0].clone(), events[1].clone()], text("1")).len(), 1);
        // An unknown write or removal may come at any time.
        let events = [(0, one.clone(), None), (1, two.clone(), OK), (2, Call::Delete, None)];
        assert_eq!(lost(&events, text("1")), []);
        assert_eq!(lost(&events, Value::Nil), []);
        assert_eq!(lost(&events, text("3")), [two]);
        let refused = Some(Outcome::Ok(Answer::Applied(false)));
        assert_eq!(lost(&[(0, Call::SetIfAbsent(text("1")), refused)], Value::Nil), []);
    }

    #[test]
    fn sets_of_values() {
        let [a, b, c] = ["a", "b", "c"].map(text);
        assert_eq!(lost_values([&a, &b], [&a, &c]), BTreeSet::from([&b]));
        assert!(lost_values([&a, &b], [&b, &a]).is_empty());
    }
}
