//! Reading and writing histories of list transactions.
//!
//! Ours, one JSON object a line, and EDN as Jepsen and Elle write it:
//!
//! ```text
//! {"process":3,"type":"invoke","time_ns":100,"op":"txn","value":[["append","x",1],["r","y",null]]}
//! {"process":3,"type":"ok","time_ns":180,"value":[["append","x",1],["r","y",[4,5]]]}
//!
//! {:process 3, :type :invoke, :time 100, :f :txn, :value [[:append :x 1] [:r :y nil]]}
//! {:process 3, :type :ok, :time 180, :f :txn, :value [[:append :x 1] [:r :y [4 5]]]}
//! ```
//!
//! `type` is `invoke`, `ok`, `fail` (not applied), or `info` or `unknown`. In `ok` the value has the lists read; without a value they are unknown.
//! Processes that are not whole numbers (`:nemesis`) are skipped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{ListOutcome, ListTransaction, MicroOperation};
use crate::error::{CheckError, HistoryError, Problem};
use crate::format::edn::{self, Edn, Located};
use crate::format::{Format, MAX_HISTORY_BYTES};
use crate::history::{Moment, Value};

/// Reads a file, whose format is told by its first characters.
///
/// # Errors
/// The file can't be read, or the first place that is malformed or impossible.
pub fn read_list_file(path: &Path) -> Result<(Format, Vec<ListTransaction>), CheckError> {
    let in_file = |source| CheckError::File { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(in_file)?;
    let wrong = |problem| CheckError::History(HistoryError::at(1, 1, problem).in_file(path));
    if bytes.len() > MAX_HISTORY_BYTES {
        return Err(wrong(Problem::TooLarge { limit_bytes: MAX_HISTORY_BYTES }));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(Problem::NotText))?;
    read_list_text(&text).map_err(|error| CheckError::History(error.in_file(path)))
}

/// Reads a text, whose format is told by its first characters. O(n).
///
/// # Errors
/// The first place that is malformed or impossible.
pub fn read_list_text(text: &str) -> Result<(Format, Vec<ListTransaction>), HistoryError> {
    let format = Format::detect(text);
    let events = match format {
        Format::Jsonl => json_events(text)?,
        Format::Edn => edn_events(text)?,
        Format::JepsenLog => return Err(HistoryError::at(1, 1, Problem::UnknownType("a log".to_owned()))),
    };
    Ok((format, pair(events)?))
}

/// One line of a history.
struct Event {
    process: u64,
    kind: String,
    operations: Option<Vec<MicroOperation>>,
    time_ns: Option<u64>,
    line: u32,
    column: u32,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    Waiting(usize),
    Lost,
}

fn pair(events: Vec<Event>) -> Result<Vec<ListTransaction>, HistoryError> {
    let mut transactions: Vec<ListTransaction> = Vec::new();
    let mut states: BTreeMap<u64, State> = BTreeMap::new();
    for (position, event) in events.into_iter().enumerate() {
        let (line, column, process) = (event.line, event.column, event.process);
        let wrong = |problem| Err(HistoryError::at(line, column, problem));
        let moment = Moment { position: position as u64, time_ns: event.time_ns, line };
        let state = states.entry(process).or_insert(State::Idle);
        let outcome = match (event.kind.as_str(), *state) {
            ("invoke", State::Waiting(_)) => return wrong(Problem::DoubleInvoke { process }),
            ("invoke", State::Lost) => return wrong(Problem::ProcessReused { process }),
            ("invoke", State::Idle) => {
                let Some(operations) = event.operations else { return wrong(Problem::MissingField("value")) };
                *state = State::Waiting(transactions.len());
                let outcome = ListOutcome::Unknown;
                transactions.push(ListTransaction {
                    process,
                    operations,
                    outcome,
                    invoked: moment,
                    returned: None,
                });
                continue;
            }
            ("ok", _) => ListOutcome::Committed,
            ("fail", _) => ListOutcome::Aborted,
            ("info" | "unknown", _) => ListOutcome::Unknown,
            (other, _) => return wrong(Problem::UnknownType(other.to_owned())),
        };
        let State::Waiting(index) = *state else { return wrong(Problem::ReturnWithoutInvoke { process }) };
        *state = if outcome == ListOutcome::Unknown { State::Lost } else { State::Idle };
        let transaction = &mut transactions[index];
        transaction.outcome = outcome;
        transaction.returned = Some(moment);
        if let (ListOutcome::Committed, Some(answered)) = (outcome, event.operations) {
            let same = answered.len() == transaction.operations.len()
                && answered
                    .iter()
                    .zip(&transaction.operations)
                    .all(|(answered, asked)| answers(answered, asked));
            if !same {
                let (invoked, returned) = ("one transaction".to_owned(), "another one".to_owned());
                return wrong(Problem::OtherOperation { process, invoked, returned });
            }
            transaction.operations = answered;
        }
    }
    Ok(transactions)
}

fn answers(answered: &MicroOperation, asked: &MicroOperation) -> bool {
    match (answered, asked) {
        (MicroOperation::Append { .. }, asked) => answered == asked,
        (MicroOperation::Read { key, .. }, MicroOperation::Read { key: asked, .. }) => key == asked,
        (MicroOperation::Read { .. }, MicroOperation::Append { .. }) => false,
    }
}

fn bad(found: &impl std::fmt::Display, wanted: &'static str) -> Problem {
    Problem::BadField { field: "value", found: found.to_string(), wanted }
}

const WANTED: &str = "a list of [append key element] and [r key list]";

fn json_events(text: &str) -> Result<Vec<Event>, HistoryError> {
    let mut events = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |problem| HistoryError::at(number, 1, problem);
        let json: Json = serde_json::from_str(line).map_err(|error| {
            HistoryError::at(number, error.column().max(1) as u32, Problem::Json(error.to_string()))
        })?;
        let process = json.get("process").ok_or_else(|| wrong(Problem::MissingField("process")))?;
        let Some(process) = process.as_u64() else { continue };
        let kind =
            json.get("type").and_then(Json::as_str).ok_or_else(|| wrong(Problem::MissingField("type")))?;
        let name = json.get("op").or_else(|| json.get("f"));
        if let Some(name) = name.filter(|name| name.as_str() != Some("txn")) {
            return Err(wrong(Problem::UnknownOperation(name.to_string())));
        }
        let operations = match json.get("value") {
            None | Some(Json::Null) => None,
            Some(Json::Array(list)) => {
                Some(list.iter().map(json_operation).collect::<Result<_, _>>().map_err(wrong)?)
            }
            Some(other) => return Err(wrong(bad(other, WANTED))),
        };
        let time_ns = json.get("time_ns").or_else(|| json.get("time")).and_then(Json::as_u64);
        events.push(Event { process, kind: kind.to_owned(), operations, time_ns, line: number, column: 1 });
    }
    Ok(events)
}

fn json_operation(json: &Json) -> Result<MicroOperation, Problem> {
    let wrong = || bad(json, WANTED);
    let parts = json.as_array().ok_or_else(wrong)?;
    let [name, key, value] = parts.as_slice() else { return Err(wrong()) };
    let key: Arc<str> = match key {
        Json::String(key) => Arc::from(key.as_str()),
        Json::Number(key) => Arc::from(key.to_string()),
        _ => return Err(wrong()),
    };
    match (name.as_str(), value) {
        (Some("append"), element) => Ok(MicroOperation::Append { key, element: json_element(element)? }),
        (Some("r"), Json::Null) => Ok(MicroOperation::Read { key, list: None }),
        (Some("r"), Json::Array(list)) => {
            let list = list.iter().map(json_element).collect::<Result<_, _>>()?;
            Ok(MicroOperation::Read { key, list: Some(list) })
        }
        _ => Err(wrong()),
    }
}

fn json_element(json: &Json) -> Result<Value, Problem> {
    match json {
        Json::String(text) => Ok(Value::text(text)),
        Json::Number(number) => {
            number.as_i64().map(Value::Integer).ok_or_else(|| bad(json, "a 64-bit number"))
        }
        _ => Err(bad(json, "a whole number or a string")),
    }
}

fn edn_events(text: &str) -> Result<Vec<Event>, HistoryError> {
    let mut events = Vec::new();
    for form in edn::read_all(text)? {
        match form.form {
            Edn::Sequence(inner) => {
                for event in &inner {
                    events.extend(edn_event(event)?);
                }
            }
            _ => events.extend(edn_event(&form)?),
        }
    }
    Ok(events)
}

fn edn_event(event: &Located) -> Result<Option<Event>, HistoryError> {
    let wrong = |problem| HistoryError::at(event.line, event.column, problem);
    let Edn::Map(entries) = &event.form else { return Err(wrong(bad(&event.form, "a map"))) };
    let field = |name: &str| {
        let named = |key: &Located| matches!(&key.form, Edn::Keyword(key) if key == name);
        entries.iter().find(|(key, _)| named(key)).map(|(_, value)| &value.form)
    };
    let process = match field("process") {
        Some(Edn::Integer(process)) => match u64::try_from(*process) {
            Ok(process) => process,
            Err(_) => return Ok(None),
        },
        Some(_) => return Ok(None),
        None => return Err(wrong(Problem::MissingField("process"))),
    };
    let Some(Edn::Keyword(kind)) = field("type") else { return Err(wrong(Problem::MissingField("type"))) };
    match field("f") {
        None => {}
        Some(Edn::Keyword(name)) if name == "txn" => {}
        Some(other) => return Err(wrong(Problem::UnknownOperation(other.to_string()))),
    }
    let operations = match field("value") {
        None | Some(Edn::Nil) => None,
        Some(Edn::Sequence(list)) => {
            Some(list.iter().map(edn_operation).collect::<Result<_, _>>().map_err(wrong)?)
        }
        Some(other) => return Err(wrong(bad(other, WANTED))),
    };
    let time_ns = match field("time") {
        Some(Edn::Integer(time)) => u64::try_from(*time).ok(),
        _ => None,
    };
    let (line, column) = (event.line, event.column);
    Ok(Some(Event { process, kind: kind.clone(), operations, time_ns, line, column }))
}

fn edn_operation(form: &Located) -> Result<MicroOperation, Problem> {
    let wrong = || bad(&form.form, WANTED);
    let Edn::Sequence(parts) = &form.form else { return Err(wrong()) };
    let [name, key, value] = parts.as_slice() else { return Err(wrong()) };
    let key: Arc<str> = match &key.form {
        Edn::Text(key) | Edn::Keyword(key) | Edn::Symbol(key) => Arc::from(key.as_str()),
        Edn::Integer(key) => Arc::from(key.to_string()),
        _ => return Err(wrong()),
    };
    match (&name.form, &value.form) {
        (Edn::Keyword(name), element) if name == "append" => {
            Ok(MicroOperation::Append { key, element: edn_element(element)? })
        }
        (Edn::Keyword(name), Edn::Nil) if name == "r" => Ok(MicroOperation::Read { key, list: None }),
        (Edn::Keyword(name), Edn::Sequence(list)) if name == "r" => {
            let list = list.iter().map(|element| edn_element(&element.form)).collect::<Result<_, _>>()?;
            Ok(MicroOperation::Read { key, list: Some(list) })
        }
        _ => Err(wrong()),
    }
}

fn edn_element(form: &Edn) -> Result<Value, Problem> {
    match form {
        Edn::Integer(number) => Ok(Value::Integer(*number)),
        Edn::Text(text) | Edn::Keyword(text) => Ok(Value::text(text)),
        _ => Err(bad(form, "a whole number or a string")),
    }
}

/// Writes a history in our own format; reading gives the same transactions. O(n log n).
#[must_use]
pub fn write_list_jsonl(transactions: &[ListTransaction]) -> String {
    let mut lines = Vec::with_capacity(transactions.len() * 2);
    for transaction in transactions {
        let line = |kind: &str, moment: &Moment, value: Option<Json>| {
            let mut line = format!("{{\"process\":{},\"type\":\"{kind}\"", transaction.process);
            if let Some(time) = moment.time_ns {
                write!(line, ",\"time_ns\":{time}").expect("strings take all that is written");
            }
            if let Some(value) = value {
                write!(line, ",\"op\":\"txn\",\"value\":{value}").expect("strings take all that is written");
            }
            line + "}\n"
        };
        let asked = json_of(&transaction.operations, false);
        lines.push((transaction.invoked.position, line("invoke", &transaction.invoked, Some(asked))));
        if let Some(returned) = &transaction.returned {
            let (kind, value) = match transaction.outcome {
                ListOutcome::Committed => ("ok", Some(json_of(&transaction.operations, true))),
                ListOutcome::Aborted => ("fail", None),
                ListOutcome::Unknown => ("unknown", None),
            };
            lines.push((returned.position, line(kind, returned, value)));
        }
    }
    lines.sort_unstable_by_key(|(position, _)| *position);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn json_of(operations: &[MicroOperation], answered: bool) -> Json {
    let element = |value: &Value| match value {
        Value::Nil => Json::Null,
        Value::Integer(number) => Json::from(*number),
        Value::Text(text) => Json::from(&**text),
    };
    let operation = |operation: &MicroOperation| match operation {
        MicroOperation::Append { key, element: appended } => {
            Json::from(vec![Json::from("append"), Json::from(&**key), element(appended)])
        }
        MicroOperation::Read { key, list } => {
            let list = list.as_ref().filter(|_| answered);
            let list = list.map_or(Json::Null, |list| list.iter().map(element).collect());
            Json::from(vec![Json::from("r"), Json::from(&**key), list])
        }
    };
    operations.iter().map(operation).collect()
}
