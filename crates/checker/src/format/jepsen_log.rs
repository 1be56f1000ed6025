//! Histories in the log of a Jepsen test of one compare-and-set register:
//!
//! ```text
//! INFO  jepsen.util - 3    :invoke :cas    [1 4]
//! INFO  jepsen.util - 3    :fail   :cas    [1 4]
//! ```
//!
//! A process, `:invoke | :ok | :fail | :info`, `:read | :write | :cas`, a value. Lines of other loggers are skipped, and those
//! of processes that are not clients (`:nemesis`). A nil read means that nothing was there.

use super::edn::{self, Edn};
use super::edn_history::{Event, Kind};
use super::{FailedCas, canonical};
use crate::error::{HistoryError, Problem};
use crate::history::{History, Recorder};

const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const LOGGER: &str = "jepsen.util";

/// Reads a history from a log.
///
/// # Errors
/// The first line that is malformed or impossible.
pub fn read_jepsen_log(text: &str, failed_cas: FailedCas) -> Result<History, HistoryError> {
    let mut recorder = Recorder::new();
    for (number, line) in text.lines().enumerate() {
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if line.trim().is_empty() {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        if !LEVELS.contains(&first) {
            return Err(HistoryError::at(number, 1, Problem::NotALogLine));
        }
        let Some(logger) = line.find(LOGGER) else { continue };
        // Older logs have a dash between the logger and the message, newer ones a thread before the logger.
        let rest = &line[logger + LOGGER.len()..];
        let message = rest.trim_start().trim_start_matches("- ");
        let column = line[..line.len() - message.len()].chars().count() as u32;
        let located = |mut error: HistoryError| {
            error.line = number;
            error.column += column;
            error
        };
        let forms = edn::read_all(message).map_err(located)?;
        let at = |place: usize, problem| {
            let form_column = forms.get(place).map_or(1, |form| form.column);
            HistoryError::at(number, column + form_column, problem)
        };
        if let Some(event) = event(&forms).map_err(|(place, problem)| at(place, problem))? {
            event.record(&mut recorder, number, failed_cas).map_err(|problem| at(0, problem))?;
        }
    }
    Ok(recorder.into_history())
}

/// The event of a line; `None` if it is not a client's. An error names the form that it is in.
fn event(forms: &[edn::Located]) -> Result<Option<Event>, (usize, Problem)> {
    let process = match forms.first().map(|form| &form.form) {
        None => return Err((0, Problem::MissingField("process"))),
        Some(&Edn::Integer(process)) => u64::try_from(process).map_err(|_| {
            let (field, found) = ("process", process.to_string());
            (0, Problem::BadField { field, found, wanted: "a whole number from 0" })
        })?,
        Some(_) => return Ok(None),
    };
    let keyword = |place: usize, field: &'static str| match forms.get(place).map(|form| &form.form) {
        None => Err((0, Problem::MissingField(field))),
        Some(Edn::Keyword(name)) => Ok(name.as_str()),
        Some(other) => {
            Err((place, Problem::BadField { field, found: other.to_string(), wanted: "a keyword" }))
        }
    };
    let kind = Kind::from_name(keyword(1, "type")?).map_err(|problem| (1, problem))?;
    let name = keyword(2, "operation")?;
    let name = canonical(name).ok_or_else(|| (2, Problem::UnknownOperation(name.to_owned())))?;
    let value = forms.get(3).map_or(Edn::Nil, |form| form.form.clone());
    if let Some(extra) = forms.get(4)
        && !matches!(kind, Kind::Info | Kind::Fail)
    {
        return Err((4, Problem::UnknownField(extra.form.to_string())));
    }
    // Lines that end early are damage, not an operation without a value.
    if forms.len() < 4 {
        return Err((0, Problem::MissingField("value")));
    }
    Ok(Some(Event {
        process,
        kind,
        name,
        key: None,
        value,
        result: None,
        time_ns: None,
        nil_says_nothing: false,
    }))
}
