//! Histories in EDN, as Jepsen, Knossos and Porcupine's tests write them: maps in a vector, or one after the other.
//!
//! ```text
//! {:process 4, :type :invoke, :f :cas, :value [1 0]}
//! {:process 4, :type :fail, :f :cas, :value [1 0]}
//! {:process 9, :type :invoke, :f :append, :key "k", :value "x"}
//! ```
//!
//! - Processes that are not whole numbers are not clients (`:nemesis`): skipped. Other fields are skipped too.
//! - `:info` and what never returns is of unknown outcome; `:fail` did not take effect (what a failed `:cas` says is an option).
//! - The key is in `:key`, or beside the value, as in `:value [key value]` of Jepsen's independent tests.
//! - A read of nil says nothing, unless the map has a `:key`: then the key did not exist.
//! - `:result` is ours: the length after an append, the number after an addition, the old value of a getset, the count of
//!   removed keys, and `false` for a condition that did not hold, whose `:type` is `:fail`, so that who does not know
//!   `:result` takes it for something that did not happen, which is true.

use std::fmt::Write as _;

use super::edn::{self, Edn, Located, quoted};
use super::{FailedCas, canonical, is_named, other_operation};
use crate::error::{HistoryError, Problem};
use crate::history::{Answer, Call, History, Outcome, Recorder, Value};

/// Reads a history from EDN.
///
/// # Errors
/// The first place that is malformed, or the first event that is impossible.
pub fn read_edn(text: &str, failed_cas: FailedCas) -> Result<History, HistoryError> {
    let mut recorder = Recorder::new();
    let mut keyed = false;
    for form in edn::read_all(text)? {
        let events = match form.form {
            Edn::Sequence(events) => events,
            _ => vec![form],
        };
        for event in events {
            let at = |problem| HistoryError::at(event.line, event.column, problem);
            if let Some(parsed) = parse(&event)? {
                keyed |= parsed.key.is_some() && !parsed.nil_says_nothing;
                parsed.record(&mut recorder, event.line, failed_cas).map_err(at)?;
            }
        }
    }
    let mut history = recorder.into_history();
    history.nil_reads_say_nothing = !keyed;
    Ok(history)
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Kind {
    pub(super) fn from_name(name: &str) -> Result<Kind, Problem> {
        match name {
            "invoke" => Ok(Kind::Invoke),
            "ok" => Ok(Kind::Ok),
            "fail" => Ok(Kind::Fail),
            "info" | "unknown" => Ok(Kind::Info),
            _ => Err(Problem::UnknownType(name.to_owned())),
        }
    }
}

/// An event before it is paired.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) process: u64,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) key: Option<String>,
    pub(super) value: Edn,
    pub(super) result: Option<Edn>,
    pub(super) time_ns: Option<u64>,
    pub(super) nil_says_nothing: bool,
}

fn parse(event: &Located) -> Result<Option<Event>, HistoryError> {
    let at = |form: &Located, problem| HistoryError::at(form.line, form.column, problem);
    let Edn::Map(entries) = &event.form else {
        let (field, found) = ("event", event.form.to_string());
        return Err(at(event, Problem::BadField { field, found, wanted: "a map" }));
    };
    let field = |name: &str| {
        entries
            .iter()
            .find(|(key, _)| matches!(&key.form, Edn::Keyword(key) if key == name))
            .map(|(_, value)| value)
    };
    let needed = |name: &'static str| field(name).ok_or_else(|| at(event, Problem::MissingField(name)));
    let keyword = |name: &'static str| match needed(name)? {
        Located { form: Edn::Keyword(word), .. } => Ok(word.as_str()),
        other => {
            let found = other.form.to_string();
            Err(at(other, Problem::BadField { field: name, found, wanted: "a keyword" }))
        }
    };
    let process = needed("process")?;
    let process = match process.form {
        Edn::Integer(number) => u64::try_from(number).map_err(|_| {
            let found = number.to_string();
            at(process, Problem::BadField { field: "process", found, wanted: "a whole number from 0" })
        })?,
        _ => return Ok(None),
    };
    let kind = Kind::from_name(keyword("type")?).map_err(|problem| at(event, problem))?;
    let name = keyword("f")?;
    let name = canonical(name).ok_or_else(|| at(event, Problem::UnknownOperation(name.to_owned())))?;
    let mut value = field("value").map_or(Edn::Nil, |value| value.form.clone());
    let mut key = field("key").map(|key| text(&key.form));
    let nil_says_nothing = key.is_none();
    if key.is_none()
        && let Some((beside, inner)) = independent(name, &value)
    {
        (key, value) = (Some(beside), inner);
    }
    let time_ns = match field("time").map(|time| &time.form) {
        Some(&Edn::Integer(time)) => u64::try_from(time).ok(),
        _ => None,
    };
    let result = field("result").map(|result| result.form.clone());
    Ok(Some(Event { process, kind, name, key, value, result, time_ns, nil_says_nothing }))
}

fn text(form: &Edn) -> String {
    match form {
        Edn::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The key and value of `[key value]`, where the value alone would be no pair, or a pair itself.
fn independent(name: &str, value: &Edn) -> Option<(String, Edn)> {
    let Edn::Sequence(pair) = value else { return None };
    let [key, inner] = pair.as_slice() else { return None };
    let keyed = name != "cas" || matches!(&inner.form, Edn::Sequence(pair) if pair.len() == 2);
    keyed.then(|| (text(&key.form), inner.form.clone()))
}

impl Event {
    /// Hands the event on.
    pub(super) fn record(
        self,
        recorder: &mut Recorder,
        line: u32,
        failed_cas: FailedCas,
    ) -> Result<(), Problem> {
        let Event { process, kind, name, time_ns, .. } = self;
        if kind == Kind::Invoke {
            let call = self.call()?;
            return recorder.invoke(process, self.key.as_deref().unwrap_or(""), call, time_ns, line);
        }
        let pending = recorder.pending(process).ok_or(Problem::ReturnWithoutInvoke { process })?;
        if !is_named(&pending.call, name) {
            return Err(other_operation(process, &pending.call, name));
        }
        let says_false = self.result == Some(Edn::Boolean(false));
        let conditional = matches!(pending.call, Call::CompareAndSet { .. } | Call::SetIfAbsent(_));
        let differed = says_false || (failed_cas == FailedCas::Differed && name == "cas");
        let outcome = match kind {
            Kind::Invoke => unreachable!("invocations are handed on above"),
            Kind::Ok => Outcome::Ok(self.answer(&pending.call)?),
            Kind::Fail if conditional && differed => Outcome::Ok(Answer::Applied(false)),
            Kind::Fail => Outcome::Failed,
            Kind::Info => Outcome::Unknown,
        };
        recorder.finish(process, outcome, time_ns, line)
    }

    fn call(&self) -> Result<Call, Problem> {
        Ok(match self.name {
            "read" => Call::Read,
            "write" => Call::Write(value(&self.value)?),
            "append" => match value(&self.value)? {
                Value::Text(text) => Call::Append(text),
                other => Call::Append(other.to_string().into()),
            },
            "del" => Call::Delete,
            "incr" => Call::Add(amount(&self.value)?),
            "decr" => Call::Add(
                amount(&self.value)?.checked_neg().ok_or_else(|| bad(&self.value, "a smaller number"))?,
            ),
            "getset" => Call::GetSet(value(&self.value)?),
            "setnx" => Call::SetIfAbsent(value(&self.value)?),
            "cas" => {
                let Edn::Sequence(pair) = &self.value else { return Err(bad(&self.value, "[expected new]")) };
                let [expected, new] = pair.as_slice() else { return Err(bad(&self.value, "[expected new]")) };
                Call::CompareAndSet { expected: value(&expected.form)?, new: value(&new.form)? }
            }
            other => return Err(Problem::UnknownOperation(other.to_owned())),
        })
    }

    fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        match call {
            Call::Read if self.value == Edn::Nil && self.nil_says_nothing => Ok(Answer::Nothing),
            Call::Read => Ok(Answer::Value(value(&self.value)?)),
            Call::CompareAndSet { .. } | Call::SetIfAbsent(_) => Ok(Answer::Applied(true)),
            Call::Write(_) => Ok(Answer::Nothing),
            Call::GetSet(_) => match &self.result {
                None => Ok(Answer::Nothing),
                Some(old) => Ok(Answer::Value(value(old)?)),
            },
            Call::Append(_) | Call::Add(_) | Call::Delete => match &self.result {
                None => Ok(Answer::Nothing),
                Some(Edn::Integer(number)) => Ok(Answer::Integer(*number)),
                Some(other) => Err(bad(other, "a whole number")),
            },
        }
    }
}

fn bad(found: &Edn, wanted: &'static str) -> Problem {
    Problem::BadField { field: "value", found: found.to_string(), wanted }
}

fn value(form: &Edn) -> Result<Value, Problem> {
    match form {
        Edn::Nil => Ok(Value::Nil),
        Edn::Integer(number) => Ok(Value::Integer(*number)),
        Edn::Text(text) => Ok(Value::text(text)),
        Edn::Keyword(_) | Edn::Symbol(_) | Edn::Boolean(_) => Ok(Value::text(&form.to_string())),
        Edn::Float(_) | Edn::Sequence(_) | Edn::Map(_) => Err(bad(form, "a whole number, a string or nil")),
    }
}

fn amount(form: &Edn) -> Result<i64, Problem> {
    match form {
        Edn::Nil => Ok(1),
        Edn::Integer(amount) => Ok(*amount),
        other => Err(bad(other, "a whole number")),
    }
}

/// Writes a history in EDN, one map a line: with `:key` if any operation has one, as Porcupine's key-value histories, else
/// as Knossos's register histories. What never returned has no line for it. O(n log n).
pub fn write_edn(history: &History) -> String {
    let keyed = history.operations.iter().any(|operation| !operation.key.is_empty());
    let mut events = Vec::with_capacity(history.operations.len() * 2);
    for operation in &history.operations {
        let (name, argument) = written_call(&operation.call, keyed);
        let line = |kind: &str, value: &str, result: &str| {
            let key = if keyed { format!(", :key {}", quoted(&operation.key)) } else { String::new() };
            format!(
                "{{:process {}, :type {kind}, :f {name}{key}, :value {value}{result}}}\n",
                operation.process
            )
        };
        events.push((operation.invoked.position, line(":invoke", &argument, "")));
        let Some(returned) = operation.returned else { continue };
        let written = match &operation.outcome {
            Outcome::Unknown => line(":info", &argument, ""),
            Outcome::Failed => line(":fail", &argument, ""),
            Outcome::Ok(Answer::Nothing) => line(":ok", &argument, ""),
            Outcome::Ok(Answer::Value(seen)) if operation.call == Call::Read => line(":ok", &form(seen), ""),
            Outcome::Ok(Answer::Value(old)) => line(":ok", &argument, &format!(", :result {}", form(old))),
            Outcome::Ok(Answer::Integer(number)) if operation.call == Call::Read => {
                line(":ok", &number.to_string(), "")
            }
            Outcome::Ok(Answer::Integer(number)) => line(":ok", &argument, &format!(", :result {number}")),
            Outcome::Ok(Answer::Applied(true)) => line(":ok", &argument, ""),
            Outcome::Ok(Answer::Applied(false)) => line(":fail", &argument, ", :result false"),
        };
        events.push((returned.position, written));
    }
    events.sort_unstable_by_key(|(position, _)| *position);
    events.into_iter().fold(String::new(), |mut text, (_, line)| {
        text.write_str(&line).expect("strings take all that is written");
        text
    })
}

fn form(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => quoted(text),
    }
}

fn written_call(call: &Call, keyed: bool) -> (&'static str, String) {
    match call {
        Call::Read if keyed => (":get", "nil".to_owned()),
        Call::Read => (":read", "nil".to_owned()),
        Call::Write(value) if keyed => (":put", form(value)),
        Call::Write(value) => (":write", form(value)),
        Call::Append(suffix) => (":append", quoted(suffix)),
        Call::Delete => (":del", "nil".to_owned()),
        Call::Add(amount) => (":incr", amount.to_string()),
        Call::GetSet(value) => (":getset", form(value)),
        Call::SetIfAbsent(value) => (":setnx", form(value)),
        Call::CompareAndSet { expected, new } => (":cas", format!("[{} {}]", form(expected), form(new))),
    }
}
