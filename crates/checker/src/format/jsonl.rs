//! Our own format: one JSON object a line, one event a line, in the order in which the events happened.
//!
//! ```text
//! {"process":3,"type":"invoke","time_ns":100,"op":"set","key":"cart:1","value":"a"}
//! {"process":3,"type":"ok","time_ns":180}
//! {"process":4,"type":"invoke","time_ns":190,"op":"cas","key":"cart:1","expected":"a","value":"b"}
//! {"process":4,"type":"unknown","time_ns":900}
//! ```
//!
//! - `process`: the client, a whole number from 0. It has one operation at a time, and none after `unknown`.
//! - `type`: `invoke`; `ok` (it took effect, the answer follows); `fail` (it did not and will not); `unknown` (it may, at any
//!   time, or never; `info` means the same). What never returns is unknown.
//! - `time_ns`: nanoseconds on the recorder's clock; may be left out; never goes backwards. The order of the lines decides.
//! - `op` (in `invoke`; may be repeated in the return): `get` (or `read`), `set` (`write`, `put`), `append`, `del`, `incr` and
//!   `decr`, `getset`, `setnx`, `cas`.
//! - `key`: may be left out where there is only one register.
//! - `value`: in `invoke` what is written, appended, added (1 if left out); in `ok` the answer: what was read or replaced
//!   (`null`: nothing was there), the length after an append, the number after an addition, the count of removed keys,
//!   whether (`true`, `false`) a `cas` or `setnx` took place. All answers but the last may be left out: they say nothing then.
//! - `expected`: what `cas` compares with.
//!
//! Strings and whole numbers are values. Empty lines are skipped.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::{canonical, is_named, other_operation};
use crate::error::{HistoryError, Problem};
use crate::history::{Answer, Call, History, Outcome, Recorder, Value};

const FIELDS: [&str; 7] = ["process", "type", "time_ns", "op", "key", "value", "expected"];

/// Reads a history in our own format, described at the head of this module.
///
/// # Errors
/// The first line that is malformed or impossible.
pub fn read_jsonl(text: &str) -> Result<History, HistoryError> {
    let mut recorder = Recorder::new();
    for (number, line) in text.lines().enumerate() {
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if line.trim().is_empty() {
            continue;
        }
        let event: Map<String, Json> = serde_json::from_str(line).map_err(|error| {
            let mut message = error.to_string();
            if let Some(place) = message.find(" at line ") {
                message.truncate(place);
            }
            HistoryError::at(number, error.column().max(1) as u32, Problem::Json(message))
        })?;
        record(&mut recorder, &event, number).map_err(|(field, problem)| {
            let at = field.and_then(|field| line.find(&format!("\"{field}\"")));
            let column = at.map_or(1, |at| line[..at].chars().count() as u32 + 1);
            HistoryError::at(number, column, problem)
        })?;
    }
    Ok(recorder.into_history())
}

/// A problem, and the field that it is in.
type FieldProblem = (Option<&'static str>, Problem);

fn bad(field: &'static str, found: &Json, wanted: &'static str) -> FieldProblem {
    (Some(field), Problem::BadField { field, found: found.to_string(), wanted })
}

fn record(recorder: &mut Recorder, event: &Map<String, Json>, line: u32) -> Result<(), FieldProblem> {
    if let Some(unknown) = event.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err((None, Problem::UnknownField(unknown.clone())));
    }
    let process = event.get("process").ok_or((None, Problem::MissingField("process")))?;
    let process = process.as_u64().ok_or_else(|| bad("process", process, "a whole number from 0"))?;
    let time_ns = match event.get("time_ns") {
        None | Some(Json::Null) => None,
        Some(time) => Some(time.as_u64().ok_or_else(|| bad("time_ns", time, "a whole number from 0"))?),
    };
    let kind = event.get("type").ok_or((None, Problem::MissingField("type")))?;
    let kind = kind.as_str().ok_or_else(|| bad("type", kind, "a string"))?;
    let name = operation_name(event)?;
    let told = |problem| (Some("process"), problem);
    if kind == "invoke" {
        let name = name.ok_or((None, Problem::MissingField("op")))?;
        let key = match event.get("key") {
            None => "",
            Some(key) => key.as_str().ok_or_else(|| bad("key", key, "a string"))?,
        };
        return recorder.invoke(process, key, call(name, event)?, time_ns, line).map_err(told);
    }
    let Some(pending) = recorder.pending(process) else {
        return Err(told(Problem::ReturnWithoutInvoke { process }));
    };
    if let Some(name) = name
        && !is_named(&pending.call, name)
    {
        return Err((Some("op"), other_operation(process, &pending.call, name)));
    }
    let outcome = match kind {
        "ok" => Outcome::Ok(answer(&pending.call, event)?),
        "fail" => Outcome::Failed,
        "unknown" | "info" => Outcome::Unknown,
        other => return Err((Some("type"), Problem::UnknownType(other.to_owned()))),
    };
    recorder.finish(process, outcome, time_ns, line).map_err(told)
}

fn operation_name(event: &Map<String, Json>) -> Result<Option<&'static str>, FieldProblem> {
    let Some(name) = event.get("op") else { return Ok(None) };
    let name = name.as_str().ok_or_else(|| bad("op", name, "a string"))?;
    let known = canonical(name).ok_or_else(|| (Some("op"), Problem::UnknownOperation(name.to_owned())))?;
    Ok(Some(known))
}

fn call(name: &'static str, event: &Map<String, Json>) -> Result<Call, FieldProblem> {
    let written = || value("value", event.get("value"));
    Ok(match name {
        "read" => Call::Read,
        "write" => Call::Write(written()?),
        "append" => match written()? {
            Value::Text(text) => Call::Append(text),
            Value::Integer(number) => Call::Append(number.to_string().into()),
            Value::Nil => return Err(bad("value", &Json::Null, "a string")),
        },
        "del" => Call::Delete,
        "incr" => Call::Add(amount(event)?),
        "decr" => {
            let amount = amount(event)?;
            Call::Add(amount.checked_neg().ok_or_else(|| bad("value", &amount.into(), "a smaller number"))?)
        }
        "getset" => Call::GetSet(written()?),
        "setnx" => Call::SetIfAbsent(written()?),
        "cas" => Call::CompareAndSet { expected: value("expected", event.get("expected"))?, new: written()? },
        _ => return Err((Some("op"), Problem::UnknownOperation(name.to_owned()))),
    })
}

fn amount(event: &Map<String, Json>) -> Result<i64, FieldProblem> {
    match event.get("value") {
        None => Ok(1),
        Some(amount) => amount.as_i64().ok_or_else(|| bad("value", amount, "a whole number")),
    }
}

fn value(field: &'static str, json: Option<&Json>) -> Result<Value, FieldProblem> {
    match json {
        None => Err((None, Problem::MissingField(field))),
        Some(Json::Null) => Ok(Value::Nil),
        Some(Json::String(text)) => Ok(Value::text(text)),
        Some(Json::Number(number)) if number.is_i64() => {
            Ok(Value::Integer(number.as_i64().unwrap_or_default()))
        }
        Some(other) => Err(bad(field, other, "a string, a whole number or null")),
    }
}

fn answer(call: &Call, event: &Map<String, Json>) -> Result<Answer, FieldProblem> {
    let told = event.get("value");
    match call {
        Call::Read | Call::GetSet(_) => match told {
            None => Ok(Answer::Nothing),
            told => Ok(Answer::Value(value("value", told)?)),
        },
        // The value written may be repeated, as in other formats.
        Call::Write(_) => Ok(Answer::Nothing),
        Call::Append(_) | Call::Add(_) | Call::Delete => match told {
            None | Some(Json::Null) => Ok(Answer::Nothing),
            Some(told) => {
                told.as_i64().map(Answer::Integer).ok_or_else(|| bad("value", told, "a whole number"))
            }
        },
        Call::SetIfAbsent(_) | Call::CompareAndSet { .. } => match told {
            None => Err((None, Problem::MissingField("value"))),
            Some(told) => {
                told.as_bool().map(Answer::Applied).ok_or_else(|| bad("value", told, "true or false"))
            }
        },
    }
}

/// Writes a history in our own format; reading gives the same history. O(n log n).
pub fn write_jsonl(history: &History) -> String {
    let mut events = Vec::with_capacity(history.operations.len() * 2);
    for operation in &history.operations {
        let mut line = format!("{{\"process\":{},\"type\":\"invoke\"", operation.process);
        write_time(&mut line, operation.invoked.time_ns);
        write_call(&mut line, &operation.key, &operation.call);
        events.push((operation.invoked.position, line));
        let Some(returned) = operation.returned else { continue };
        let (kind, answer) = match &operation.outcome {
            Outcome::Ok(answer) => ("ok", json_answer(answer)),
            Outcome::Failed => ("fail", None),
            Outcome::Unknown => ("unknown", None),
        };
        let mut line = format!("{{\"process\":{},\"type\":\"{kind}\"", operation.process);
        write_time(&mut line, returned.time_ns);
        write_field(&mut line, "value", answer.as_ref());
        events.push((returned.position, line));
    }
    events.sort_unstable_by_key(|(position, _)| *position);
    let mut text = String::new();
    for (_, line) in events {
        text.push_str(&line);
        text.push_str("}\n");
    }
    text
}

fn write_time(line: &mut String, time_ns: Option<u64>) {
    if let Some(time) = time_ns {
        write!(line, ",\"time_ns\":{time}").expect("strings take all that is written");
    }
}

fn write_field(line: &mut String, name: &str, value: Option<&Json>) {
    if let Some(value) = value {
        write!(line, ",\"{name}\":{value}").expect("strings take all that is written");
    }
}

fn write_call(line: &mut String, key: &str, call: &Call) {
    let (op, value, expected) = match call {
        Call::Read => ("get", None, None),
        Call::Write(value) => ("set", Some(json_value(value)), None),
        Call::Append(suffix) => ("append", Some(Json::from(&**suffix)), None),
        Call::Delete => ("del", None, None),
        Call::Add(amount) => ("incr", Some(Json::from(*amount)), None),
        Call::GetSet(value) => ("getset", Some(json_value(value)), None),
        Call::SetIfAbsent(value) => ("setnx", Some(json_value(value)), None),
        Call::CompareAndSet { expected, new } => ("cas", Some(json_value(new)), Some(json_value(expected))),
    };
    write_field(line, "op", Some(&Json::from(op)));
    if !key.is_empty() {
        write_field(line, "key", Some(&Json::from(key)));
    }
    write_field(line, "expected", expected.as_ref());
    write_field(line, "value", value.as_ref());
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Integer(number) => Json::from(*number),
        Value::Text(text) => Json::from(&**text),
    }
}

fn json_answer(answer: &Answer) -> Option<Json> {
    match answer {
        Answer::Nothing => None,
        Answer::Value(value) => Some(json_value(value)),
        Answer::Integer(number) => Some(Json::from(*number)),
        Answer::Applied(applied) => Some(Json::from(*applied)),
    }
}
