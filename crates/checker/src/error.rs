//! What can be wrong with what we are given to check.

use std::path::PathBuf;

use thiserror::Error;

/// What is wrong at one place of a history.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A process asks while it still waits for an answer.
    #[error("process {process} invokes while its last operation has not returned")]
    DoubleInvoke {
        /// The process.
        process: u64,
    },
    /// A process is told what it never asked.
    #[error("process {process} returns, but has invoked nothing")]
    ReturnWithoutInvoke {
        /// The process.
        process: u64,
    },
    /// A process goes on after an operation of unknown outcome, which may still be running.
    #[error("process {process} is used again after an operation of unknown outcome")]
    ProcessReused {
        /// The process.
        process: u64,
    },
    /// The recorder's clock went backwards.
    #[error("time goes backwards, from {before_ns} ns to {after_ns} ns")]
    TimeBackwards {
        /// The event before, nanoseconds.
        before_ns: u64,
        /// This event, nanoseconds.
        after_ns: u64,
    },
    /// A return names another operation than the invocation did.
    #[error("process {process} invoked {invoked}, but returns from {returned}")]
    OtherOperation {
        /// The process.
        process: u64,
        /// Name of the operation invoked.
        invoked: String,
        /// Name of the operation returned from.
        returned: String,
    },
    /// An event of a type that we don't know.
    #[error("unknown event type {0:?} (invoke, ok, fail, unknown or info)")]
    UnknownType(String),
    /// An event of a broadcast history of a type that we don't know.
    #[error("unknown event type {0:?} (broadcast, deliver, skip, crash, start or rest)")]
    UnknownDeliveryEvent(String),
    /// A broadcast that can't be.
    #[error("{0}")]
    Broadcast(String),
    /// An operation that we don't know.
    #[error("unknown operation {0:?}")]
    UnknownOperation(String),
    /// A field that must be there is not.
    #[error("missing {0}")]
    MissingField(&'static str),
    /// A field that has no meaning here.
    #[error("unknown field {0:?}")]
    UnknownField(String),
    /// A field holds something else than it should.
    #[error("{field}: {found} is not {wanted}")]
    BadField {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Not EDN.
    #[error("not EDN: {0}")]
    Edn(EdnProblem),
    /// A line that is no line of this format.
    #[error("not a line of a Jepsen log")]
    NotALogLine,
    /// Not UTF-8 text.
    #[error("not UTF-8 text")]
    NotText,
    /// Larger than we read.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The model has no such operation.
    #[error("the model {model} has no {operation}")]
    NotInModel {
        /// The model.
        model: &'static str,
        /// The operation.
        operation: String,
    },
}

/// What is wrong with EDN text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EdnProblem {
    /// The text ends inside a form.
    #[error("the text ends inside a form")]
    EndsInside,
    /// A closing bracket that closes nothing, or another kind of bracket.
    #[error("unexpected {0:?}")]
    Unexpected(char),
    /// A map with a key and no value.
    #[error("a map with an odd number of forms")]
    OddMap,
    /// Forms nested deeper than we follow.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// A token that is neither number, keyword nor symbol.
    #[error("bad token {0:?}")]
    BadToken(String),
    /// An escape that strings don't have.
    #[error("bad escape in a string")]
    BadEscape,
}

/// A malformed history, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{line}:{column}: {problem}", file.as_ref().map(|file| format!("{}:", file.display())).unwrap_or_default())]
pub struct HistoryError {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Line, from 1; 0 if the history was never in a file.
    pub line: u32,
    /// Column in characters, from 1; 0 if the history was never in a file.
    pub column: u32,
    /// What is wrong there.
    pub problem: Problem,
}

impl HistoryError {
    /// A problem at a place.
    pub fn at(line: u32, column: u32, problem: Problem) -> HistoryError {
        HistoryError { file: None, line, column, problem }
    }

    /// The same, in this file.
    #[must_use]
    pub fn in_file(mut self, file: &std::path::Path) -> HistoryError {
        self.file = Some(file.to_path_buf());
        self
    }
}

/// Why nothing could be checked. No verdict is implied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The history is malformed, or uses operations that the model does not have.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A model, format, value or limit that we don't know.
    #[error("{what} {found:?}: expected {wanted}")]
    BadOption {
        /// What was to be given.
        what: &'static str,
        /// What was given.
        found: String,
        /// What it can be.
        wanted: &'static str,
    },
    /// A malformed table of expected verdicts.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Expected {
        /// The table.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
        /// What is wrong there.
        problem: String,
    },
}
