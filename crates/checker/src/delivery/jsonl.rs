//! Histories of broadcasts as text: one JSON object a line. Lines of one process stand in its own order; how lines of different processes are
//! mixed means nothing.
//!
//! ```text
//! {"process":1,"type":"broadcast","message":"a"}
//! {"process":1,"type":"deliver","message":"a"}
//! {"process":2,"type":"deliver","message":"a"}
//! {"process":2,"type":"crash"}
//! {"process":2,"type":"start"}
//! {"process":3,"type":"skip","of":1,"upto":1}
//! {"type":"rest"}
//! ```
//!
//! - `broadcast`: of a message whose name no other has. `deliver`: of any.
//! - `skip`: this process joined, and will not deliver the first `upto` broadcasts of process `of`.
//! - `crash`, `start`: it went down, came back. Who is down at the end owes nothing.
//! - `rest`: nothing is under way any more. Only then agreement is judged.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::{DeliveryEvent, DeliveryHistory};
use crate::error::{HistoryError, Problem};

const FIELDS: [&str; 5] = ["process", "type", "message", "of", "upto"];

/// Reads a history in the format that stands at the head of this module.
///
/// # Errors
/// The first line that is malformed or impossible.
pub fn read_delivery(text: &str) -> Result<DeliveryHistory, HistoryError> {
    let mut history = DeliveryHistory::new();
    for (number, line) in text.lines().enumerate() {
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if line.trim().is_empty() {
            continue;
        }
        let event: Map<String, Json> = serde_json::from_str(line).map_err(|error| {
            HistoryError::at(number, error.column().max(1) as u32, Problem::Json(error.to_string()))
        })?;
        record(&mut history, &event, number).map_err(|problem| HistoryError::at(number, 1, problem))?;
    }
    Ok(history)
}

fn number(event: &Map<String, Json>, field: &'static str) -> Result<u64, Problem> {
    let value = event.get(field).ok_or(Problem::MissingField(field))?;
    let found = || Problem::BadField { field, found: value.to_string(), wanted: "a whole number from 0" };
    value.as_u64().ok_or_else(found)
}

fn text<'a>(event: &'a Map<String, Json>, field: &'static str) -> Result<&'a str, Problem> {
    let value = event.get(field).ok_or(Problem::MissingField(field))?;
    let found = || Problem::BadField { field, found: value.to_string(), wanted: "a string" };
    value.as_str().ok_or_else(found)
}

fn record(history: &mut DeliveryHistory, event: &Map<String, Json>, line: u32) -> Result<(), Problem> {
    if let Some(unknown) = event.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Problem::UnknownField(unknown.clone()));
    }
    let kind = text(event, "type")?;
    if kind == "rest" {
        history.comes_to_rest();
        return Ok(());
    }
    let process = number(event, "process")?;
    history.process(process);
    match kind {
        "broadcast" => {
            history.broadcast(process, text(event, "message")?, line).map_err(Problem::Broadcast)?
        }
        "deliver" => history.deliver(process, text(event, "message")?, line),
        "skip" => history.skip(process, number(event, "of")?, number(event, "upto")?, line),
        "crash" => history.crash(process, line),
        "start" => history.start(process, line),
        other => return Err(Problem::UnknownDeliveryEvent(other.to_owned())),
    }
    Ok(())
}

/// Writes a history, process by process; reading gives an equal one.
#[must_use]
pub fn write_delivery(history: &DeliveryHistory) -> String {
    let mut out = String::new();
    for (process, events) in &history.processes {
        for placed in events {
            let name = |id: usize| Json::from(history.names[id].as_str());
            let rest = match placed.event {
                DeliveryEvent::Broadcast(id) => format!("\"broadcast\",\"message\":{}", name(id)),
                DeliveryEvent::Deliver(id) => format!("\"deliver\",\"message\":{}", name(id)),
                DeliveryEvent::Skip { of, upto } => format!("\"skip\",\"of\":{of},\"upto\":{upto}"),
                DeliveryEvent::Crash => "\"crash\"".to_owned(),
                DeliveryEvent::Start => "\"start\"".to_owned(),
            };
            writeln!(out, "{{\"process\":{process},\"type\":{rest}}}").expect("a string takes all");
        }
    }
    if history.at_rest {
        out.push_str("{\"type\":\"rest\"}\n");
    }
    out
}
