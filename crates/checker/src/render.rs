//! Violations for people: a timeline of the witness, one operation a line.

use std::fmt::Write as _;

use crate::history::{Answer, Call, Operation, Outcome};
use crate::linearizable::Violation;
use crate::witness::WitnessOperation;

/// Columns of the timeline at most.
const TIMELINE_WIDTH: usize = 60;
/// Operations shown at most: the last ones.
const SHOWN: usize = 60;
/// Characters of one operation at most.
const LABEL_WIDTH: usize = 48;

/// What was asked, in a few words.
pub fn call(call: &Call) -> String {
    match call {
        Call::Read => "read".to_owned(),
        Call::Write(value) => format!("write {value}"),
        Call::Append(suffix) => format!("append {suffix:?}"),
        Call::Delete => "del".to_owned(),
        Call::Add(amount) => format!("incr {amount}"),
        Call::GetSet(value) => format!("getset {value}"),
        Call::SetIfAbsent(value) => format!("setnx {value}"),
        Call::CompareAndSet { expected, new } => format!("cas {expected} -> {new}"),
    }
}

/// What was told, in a few words.
pub fn answer(operation: &Operation) -> String {
    match &operation.outcome {
        Outcome::Ok(Answer::Nothing) => "ok".to_owned(),
        Outcome::Ok(Answer::Value(value)) => value.to_string(),
        Outcome::Ok(Answer::Integer(number)) => number.to_string(),
        Outcome::Ok(Answer::Applied(true)) => "done".to_owned(),
        Outcome::Ok(Answer::Applied(false)) => "not done".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
    }
}

/// A violation as a paragraph and a timeline.
pub fn violation(violation: &Violation) -> String {
    let mut text = String::new();
    let wrong = &violation.operation;
    let of_key =
        if violation.key.is_empty() { String::new() } else { format!(" of key {:?}", &*violation.key) };
    let line = if wrong.invoked.line > 0 { format!(" (line {})", wrong.invoked.line) } else { String::new() };
    let witness = &violation.witness;
    let number = witness.operations.len();
    let first = if violation.exact {
        "C"
    } else {
        "(The limits were reached: perhaps an earlier one is to blame.) C"
    };
    let before = if witness.past_left_out {
        "what the value was before them does not matter".to_owned()
    } else {
        format!("the value before them is {}", violation.initial)
    };
    let exactly = if witness.minimal { "" } else { " (shrinking was cut short by the limits)" };
    writeln!(
        text,
        "{first}an't be explained{of_key}: process {} {} => {}{line}.\n\
         Before it returned, {} operations can be explained, in an order that ends with:",
        wrong.process,
        shortened(&call(&wrong.call)),
        shortened(&answer(wrong)),
        violation.explained.len(),
    )
    .and_then(|()| {
        let from = violation.explained.len().saturating_sub(3);
        for operation in &violation.explained[from..] {
            writeln!(text, "  process {} {}", operation.process, label(operation, true))?;
        }
        writeln!(
            text,
            "Enough to show it{exactly}: {number} operation{}; {before}:",
            if number == 1 { "" } else { "s" },
        )
    })
    .expect("strings take all that is written");
    timeline(&mut text, &witness.operations, wrong);
    text
}

fn label(operation: &Operation, answered: bool) -> String {
    let told = if answered { answer(operation) } else { "no answer yet".to_owned() };
    shortened(&format!("{} => {told}", call(&operation.call)))
}

fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LABEL_WIDTH {
        return text.to_owned();
    }
    // Both ends tell more than the beginning alone: values are often appended to.
    let half = (LABEL_WIDTH - 2) / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(length - half).collect();
    format!("{head}..{tail}")
}

fn timeline(text: &mut String, operations: &[WitnessOperation], wrong: &Operation) {
    let from = operations.len().saturating_sub(SHOWN);
    if from > 0 {
        writeln!(text, "  ({from} earlier ones are not shown)").expect("strings take all that is written");
    }
    let shown = &operations[from..];
    let ends = shown.iter().filter(|entry| entry.answered).filter_map(|entry| entry.operation.returned);
    let mut moments: Vec<u64> = shown.iter().map(|entry| entry.operation.invoked.position).collect();
    moments.extend(ends.map(|moment| moment.position));
    moments.sort_unstable();
    let steps = moments.len().max(1);
    let width = (steps * 2).min(TIMELINE_WIDTH);
    let column = |position: u64| moments.partition_point(|&moment| moment < position) * width / steps;
    let labels: Vec<String> = shown.iter().map(|entry| label(&entry.operation, entry.answered)).collect();
    let widest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    for (entry, label) in shown.iter().zip(&labels) {
        let operation = &entry.operation;
        let start = column(operation.invoked.position);
        let end = operation.returned.filter(|_| entry.answered).map(|moment| column(moment.position));
        let bar = match end {
            Some(end) => format!("|{}|", "-".repeat(end.saturating_sub(start + 1))),
            None => format!("|{}...", "-".repeat(width.saturating_sub(start + 1))),
        };
        let mark = if operation == wrong { "  <- can't be explained" } else { "" };
        let gap = " ".repeat(start);
        let line =
            if operation.invoked.line > 0 { operation.invoked.line.to_string() } else { String::new() };
        writeln!(text, "  {:>4}  {label:<widest$}  {line:>7}  {gap}{bar}{mark}", operation.process)
            .expect("strings take all that is written");
    }
}
