//! Files in, reports out: what `keypact check` prints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::CheckError;
use crate::format::{FailedCas, Format, ReadOptions, read_file};
use crate::history::{Answer, Call, History, Operation, Outcome, Value};
use crate::linearizable::{Checked, LimitReached, Limits, Verdict, Violation, check};
use crate::model::ModelKind;
use crate::render;

/// What the objects of a history hold at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// What is usual: 0 for a counter; the empty string for keys in EDN, if no read of them ever returned nil; else nil.
    #[default]
    Usual,
    /// This.
    Given(Value),
}

impl Initial {
    /// From the command line: `nil`, a whole number, or a string with or without quotes.
    pub fn parse(text: &str) -> Initial {
        let text = text.trim();
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Initial::Given(match (quoted, text.parse()) {
            (Some(inside), _) => Value::text(inside),
            (None, _) if text == "nil" => Value::Nil,
            (None, Ok(number)) => Value::Integer(number),
            (None, Err(_)) => Value::text(text),
        })
    }

    fn value(&self, kind: &ModelKind, format: Format, history: &History) -> Value {
        match self {
            Initial::Given(value) => value.clone(),
            Initial::Usual if *kind == ModelKind::Kv && format == Format::Edn => {
                let nil = Outcome::Ok(Answer::Value(Value::Nil));
                let absent = |operation: &Operation| operation.call == Call::Read && operation.outcome == nil;
                if history.operations.iter().any(absent) { Value::Nil } else { Value::text("") }
            }
            Initial::Usual => kind.default_initial(),
        }
    }
}

/// How to check a file.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the history is of.
    pub model: ModelKind,
    /// What it holds at first.
    pub initial: Initial,
    /// How to read it.
    pub read: ReadOptions,
    /// What the check may spend.
    pub limits: Limits,
}

impl Options {
    /// This model, and everything else as usual.
    pub fn new(model: ModelKind) -> Options {
        Options { model, initial: Initial::Usual, read: ReadOptions::default(), limits: Limits::default() }
    }

    /// From the `check` column of a table: `linearizable:cas-register(init 0)`. What stands in the brackets beside `init` is
    /// for people. The model `etcd-cas-register` is a `cas-register` whose failed compare-and-sets found another value.
    ///
    /// # Errors
    /// [`CheckError::BadOption`].
    pub fn parse(check: &str, limits: Limits) -> Result<Options, CheckError> {
        let bad = |what, wanted| CheckError::BadOption { what, found: check.to_owned(), wanted };
        let model = check.strip_prefix("linearizable:").ok_or_else(|| bad("check", "linearizable:MODEL"))?;
        let (name, details) = match model.split_once('(') {
            None => (model, None),
            Some((name, rest)) => {
                let inside = rest.strip_suffix(')').ok_or_else(|| bad("check", "a closing bracket"))?;
                (name, Some(inside))
            }
        };
        let (name, failed_cas) = match name.strip_prefix("etcd-") {
            Some(name) => (name, Some(FailedCas::Differed)),
            None => (name, None),
        };
        let wanted = "register, cas-register, etcd-cas-register, counter or kv";
        let model = ModelKind::from_name(name).ok_or_else(|| bad("model", wanted))?;
        let initial = details.and_then(|details| details.rsplit_once("init ")).map(|(_, initial)| initial);
        let initial = initial.map_or(Initial::Usual, Initial::parse);
        Ok(Options { model, initial, read: ReadOptions { format: None, failed_cas }, limits })
    }
}

/// The verdict, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// There is an order that explains all answers.
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// A limit was reached.
    Undecided,
}

/// An operation, for people and other programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationReport {
    /// The client.
    pub process: u64,
    /// The key; empty where there is only one register.
    pub key: String,
    /// What was asked: `cas 1 -> 2`.
    pub call: String,
    /// What was told: `ok`, a value, `unknown`.
    pub answer: String,
    /// Line of the invocation; 0 if there is no file.
    pub line: u32,
    /// Line of the return; `None` if there is none.
    pub returned_line: Option<u32>,
    /// Time of the invocation, nanoseconds.
    pub invoked_ns: Option<u64>,
    /// Time of the return, nanoseconds.
    pub returned_ns: Option<u64>,
}

impl OperationReport {
    fn new(operation: &Operation) -> OperationReport {
        OperationReport {
            process: operation.process,
            key: operation.key.to_string(),
            call: render::call(&operation.call),
            answer: render::answer(operation),
            line: operation.invoked.line,
            returned_line: operation.returned.map(|moment| moment.line),
            invoked_ns: operation.invoked.time_ns,
            returned_ns: operation.returned.and_then(|moment| moment.time_ns),
        }
    }
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ViolationReport {
    /// The key.
    pub key: String,
    /// The first operation that can't be explained.
    pub operation: OperationReport,
    /// Whether it is known to be the first one.
    pub exact: bool,
    /// How many operations can be explained before its return.
    pub explained: usize,
    /// The longest explanation before it: its last operations, in an order that explains them.
    pub explanation_end: Vec<OperationReport>,
    /// A few operations that prove the history wrong.
    pub witness: Vec<OperationReport>,
    /// Whether nothing more can be left out of the witness.
    pub witness_minimal: bool,
    /// All this as text.
    pub text: String,
}

/// How many operations of an explanation are reported.
const EXPLANATION_END: usize = 10;

impl ViolationReport {
    /// The report of a violation.
    pub fn new(violation: &Violation) -> ViolationReport {
        let explained = &violation.explained;
        let end = explained.len().saturating_sub(EXPLANATION_END);
        let witness = violation.witness.operations.iter();
        ViolationReport {
            key: violation.key.to_string(),
            operation: OperationReport::new(&violation.operation),
            exact: violation.exact,
            explained: explained.len(),
            explanation_end: explained[end..].iter().map(OperationReport::new).collect(),
            witness: witness.map(|entry| OperationReport::new(&entry.operation)).collect(),
            witness_minimal: violation.witness.minimal,
            text: render::violation(violation),
        }
    }
}

/// The result of checking one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// Its format.
    pub format: Option<Format>,
    /// The model.
    pub model: &'static str,
    /// What it held at first.
    pub initial: String,
    /// The verdict.
    pub verdict: Judgement,
    /// Why there is no verdict.
    pub reason: Option<String>,
    /// Operations, without those that failed.
    pub operations: usize,
    /// Of those, how many have an unknown outcome.
    pub unknown: usize,
    /// Keys.
    pub keys: usize,
    /// Steps of the search.
    pub steps: u64,
    /// Wall time, milliseconds, without reading.
    pub elapsed_ms: f64,
    /// What is wrong.
    pub violation: Option<ViolationReport>,
}

impl Report {
    fn new(model: &ModelKind, initial: &Value, checked: &Checked, elapsed_ms: f64) -> Report {
        let (verdict, reason, violation) = match &checked.verdict {
            Verdict::Linearizable => (Judgement::Linearizable, None, None),
            Verdict::NotLinearizable(violation) => {
                (Judgement::NotLinearizable, None, Some(ViolationReport::new(violation)))
            }
            Verdict::Undecided { key, why } => {
                let limit = match why {
                    LimitReached::Steps => "steps",
                    LimitReached::Time => "time",
                    LimitReached::Memory => "memory",
                };
                (Judgement::Undecided, Some(format!("the limit on {limit} was reached at key {key:?}")), None)
            }
        };
        Report {
            path: None,
            format: None,
            model: model.name(),
            initial: initial.to_string(),
            verdict,
            reason,
            operations: checked.operations,
            unknown: checked.unknown,
            keys: checked.keys,
            steps: checked.steps,
            elapsed_ms,
            violation,
        }
    }
}

/// Checks a history that is in memory.
///
/// # Errors
/// The history uses operations that the model does not have.
pub fn check_history(
    history: &History,
    model: &ModelKind,
    initial: &Value,
    limits: &Limits,
) -> Result<Report, CheckError> {
    let start = Instant::now();
    let checked = check(history, model, initial, limits)?;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    Ok(Report::new(model, initial, &checked, elapsed_ms))
}

/// Checks a file.
///
/// # Errors
/// The file can't be read, is malformed, or uses operations that the model does not have.
pub fn check_file(path: &Path, options: &Options) -> Result<Report, CheckError> {
    let (format, history) = read_file(path, &options.read)?;
    let initial = options.initial.value(&options.model, format, &history);
    let report = check_history(&history, &options.model, &initial, &options.limits);
    let mut report = report.map_err(|error| match error {
        CheckError::History(error) => CheckError::History(error.in_file(path)),
        other => other,
    })?;
    report.path = Some(path.to_path_buf());
    report.format = Some(format);
    Ok(report)
}

/// One line of a table of expected verdicts, checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The file, as the table names it.
    pub path: String,
    /// The check, as the table names it.
    pub check: String,
    /// Whether it is to be linearizable.
    pub valid: bool,
    /// Whether the verdict is the expected one. Undecided counts as wrong, and so does a file that can't be checked.
    pub right: bool,
    /// What was found.
    pub report: Option<Report>,
    /// Why nothing was found.
    pub error: Option<String>,
}

const COLUMNS: [&str; 3] = ["path", "check", "valid"];

/// Checks the files of a table: tab-separated columns `path`, `check`, `valid`; paths relative to the table. `limits` hold
/// for each file; `done` is told of each row when it is finished.
///
/// # Errors
/// The table can't be read or is malformed. What is wrong with a file is in its row.
pub fn check_expected(
    table: &Path,
    limits: &Limits,
    mut done: impl FnMut(&Row),
) -> Result<Vec<Row>, CheckError> {
    let text = std::fs::read_to_string(table)
        .map_err(|source| CheckError::File { path: table.to_path_buf(), source })?;
    let folder = table.parent().unwrap_or(Path::new(""));
    let bad = |line: usize, column: usize, problem: String| CheckError::Expected {
        path: table.to_path_buf(),
        line: line as u32 + 1,
        column: column as u32 + 1,
        problem,
    };
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines.next().map(|(_, line)| line.split('\t').collect()).unwrap_or_default();
    if header != COLUMNS {
        return Err(bad(0, 0, "the columns must be path, check, valid".to_owned()));
    }
    let mut wanted = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[path, check, valid] = fields.as_slice() else {
            return Err(bad(number, 0, format!("{} columns instead of 3", fields.len())));
        };
        let column = line.chars().count() - valid.chars().count();
        let valid = valid
            .trim()
            .parse()
            .map_err(|_| bad(number, column, format!("{valid:?} is not true or false")))?;
        let options = Options::parse(check, *limits)
            .map_err(|error| bad(number, path.chars().count() + 1, error.to_string()))?;
        wanted.push((path, check, valid, options));
    }
    let mut rows = Vec::with_capacity(wanted.len());
    for (path, check, valid, options) in wanted {
        let (report, error) = match check_file(&folder.join(path), &options) {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let expected = if valid { Judgement::Linearizable } else { Judgement::NotLinearizable };
        let right = report.as_ref().is_some_and(|report| report.verdict == expected);
        let row = Row { path: path.to_owned(), check: check.to_owned(), valid, right, report, error };
        done(&row);
        rows.push(row);
    }
    Ok(rows)
}
