//! Reading histories from text, in whatever format they come.

pub mod edn;
pub mod edn_history;
pub mod jepsen_log;
pub mod jsonl;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::error::{CheckError, HistoryError, Problem};
use crate::history::{Call, History};

pub use edn_history::{read_edn, write_edn};
pub use jepsen_log::read_jepsen_log;
pub use jsonl::{read_jsonl, write_jsonl};

/// The largest history that we read, bytes.
pub const MAX_HISTORY_BYTES: usize = 1 << 30;

/// A format of histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Ours: one JSON object a line. See [`jsonl`].
    Jsonl,
    /// EDN maps, in a vector or one after the other, as Jepsen and Knossos write them. See [`edn_history`].
    Edn,
    /// Lines of a Jepsen log. See [`jepsen_log`].
    JepsenLog,
}

impl Format {
    /// The name people give it by.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Edn => "edn",
            Format::JepsenLog => "jepsen-log",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        [Format::Jsonl, Format::Edn, Format::JepsenLog].into_iter().find(|format| format.name() == name)
    }

    /// The format that a text is in, by its first characters: a JSON object has a quoted name in its braces, EDN opens
    /// a vector, list, map, tag or comment, and all else has to be a log.
    pub fn detect(text: &str) -> Format {
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '\u{feff}');
        match text.chars().next() {
            None => Format::Jsonl,
            Some('{') if text[1..].trim_start().starts_with(['"', '}']) => Format::Jsonl,
            Some('{' | '[' | '(' | ';' | '#') => Format::Edn,
            Some(_) => Format::JepsenLog,
        }
    }
}

/// What a compare-and-set that failed says, where the format has one word for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailedCas {
    /// Nothing: it did not take effect. The custom of EDN histories.
    SaysNothing,
    /// The register did not hold the value expected. The custom of the Jepsen logs of etcd.
    Differed,
}

/// How to read a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format; from the content, if `None`.
    pub format: Option<Format>,
    /// What a failed compare-and-set says; the custom of the format, if `None`. In our own format both can be said.
    pub failed_cas: Option<FailedCas>,
}

/// Reads a history from text.
///
/// # Errors
/// The first place where it is malformed.
pub fn read_text(text: &str, options: &ReadOptions) -> Result<(Format, History), HistoryError> {
    if text.len() > MAX_HISTORY_BYTES {
        return Err(HistoryError::at(1, 1, Problem::TooLarge { limit_bytes: MAX_HISTORY_BYTES }));
    }
    let format = options.format.unwrap_or_else(|| Format::detect(text));
    let history = match format {
        Format::Jsonl => read_jsonl(text)?,
        Format::Edn => read_edn(text, options.failed_cas.unwrap_or(FailedCas::SaysNothing))?,
        Format::JepsenLog => read_jepsen_log(text, options.failed_cas.unwrap_or(FailedCas::Differed))?,
    };
    Ok((format, history))
}

/// Reads a history from a file.
///
/// # Errors
/// The file can't be read, or is malformed.
pub fn read_file(path: &Path, options: &ReadOptions) -> Result<(Format, History), CheckError> {
    let in_file = |source| CheckError::File { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(in_file)?.len();
    if size > MAX_HISTORY_BYTES as u64 {
        let problem = Problem::TooLarge { limit_bytes: MAX_HISTORY_BYTES };
        return Err(HistoryError::at(1, 1, problem).in_file(path).into());
    }
    let bytes = std::fs::read(path).map_err(in_file)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let (line, column) = place(&bytes[..error.valid_up_to()]);
        HistoryError::at(line, column, Problem::NotText).in_file(path)
    })?;
    Ok(read_text(text, options).map_err(|error| error.in_file(path))?)
}

/// Line and column of what comes after these bytes.
fn place(before: &[u8]) -> (u32, u32) {
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    let characters = String::from_utf8_lossy(&before[start..]).chars().count();
    (lines as u32 + 1, characters as u32 + 1)
}

/// What operations are called in files, in all formats; the first of each line is what we write.
const NAMES: [(&str, &[&str]); 9] = [
    ("read", &["read", "get"]),
    ("write", &["write", "set", "put"]),
    ("append", &["append"]),
    ("del", &["del", "delete"]),
    ("incr", &["incr", "incrby", "increment", "inc", "add"]),
    ("decr", &["decr", "decrby", "decrement", "dec"]),
    ("getset", &["getset"]),
    ("setnx", &["setnx"]),
    ("cas", &["cas", "compare-and-set"]),
];

/// The first name of an operation, given any of its names.
fn canonical(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(first, _)| *first)
}

/// Whether a canonical name is one that this call can go by.
fn is_named(call: &Call, canonical: &str) -> bool {
    let name = crate::model::call_name(call);
    name == canonical || (name == "incr" && canonical == "decr")
}

/// The refusal of an event that returns from another operation than was invoked.
fn other_operation(process: u64, invoked: &Call, returned: &str) -> Problem {
    let invoked = crate::model::call_name(invoked).to_owned();
    Problem::OtherOperation { process, invoked, returned: returned.to_owned() }
}
