//! What `keypact check --model list-append` prints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::{Edge, check_list, read_list_file};
use crate::error::{CheckError, HistoryError, Problem};
use crate::format::Format;

/// The result of checking one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListReport {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// `list-append`.
    pub model: &'static str,
    /// `strictly-serializable`, or `not-strictly-serializable`.
    pub verdict: &'static str,
    /// The names of what is wrong, each once.
    pub anomalies: Vec<&'static str>,
    /// Transactions that were applied.
    pub committed: usize,
    /// Of unknown outcome.
    pub unknown: usize,
    /// Not applied.
    pub aborted: usize,
    /// Keys.
    pub keys: usize,
    /// Dependencies found.
    pub edges: usize,
    /// Wall time, milliseconds, without reading.
    pub elapsed_ms: f64,
    /// What is wrong, each with its proof.
    pub witnesses: Vec<ListWitness>,
}

/// One anomaly, for people and other programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListWitness {
    /// Its name.
    pub name: &'static str,
    /// Lines of the invocations of its transactions, in the cycle's order if it is one.
    pub lines: Vec<u32>,
    /// The kinds of the cycle's edges: `["wr", "rw"]`.
    pub edges: Vec<&'static str>,
    /// The proof as text.
    pub text: String,
}

impl ListReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.witnesses.is_empty()
    }
}

/// Checks a file.
///
/// # Errors
/// The file can't be read, is malformed, or appends an element twice.
pub fn check_list_file(path: &Path) -> Result<ListReport, CheckError> {
    let (format, transactions) = read_list_file(path)?;
    let start = Instant::now();
    let checked = check_list(&transactions).map_err(|problem| {
        let found = problem.to_string();
        let problem = Problem::BadField { field: "value", found, wanted: "a history of unique elements" };
        CheckError::History(HistoryError::at(1, 1, problem).in_file(path))
    })?;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    let witnesses: Vec<ListWitness> = checked
        .anomalies
        .iter()
        .map(|anomaly| ListWitness {
            name: anomaly.name,
            lines: anomaly.transactions.iter().map(|index| transactions[*index].invoked.line).collect(),
            edges: anomaly.cycle.iter().map(edge_name).collect(),
            text: anomaly.text.clone(),
        })
        .collect();
    let mut names: Vec<&'static str> = witnesses.iter().map(|witness| witness.name).collect();
    names.sort_unstable();
    names.dedup();
    Ok(ListReport {
        path: path.to_path_buf(),
        format,
        model: "list-append",
        verdict: if names.is_empty() { "strictly-serializable" } else { "not-strictly-serializable" },
        anomalies: names,
        committed: checked.committed,
        unknown: checked.unknown,
        aborted: checked.aborted,
        keys: checked.keys,
        edges: checked.edges,
        elapsed_ms,
        witnesses,
    })
}

fn edge_name(edge: &Edge) -> &'static str {
    match edge.kind {
        super::EdgeKind::Ww => "ww",
        super::EdgeKind::Wr => "wr",
        super::EdgeKind::Rw => "rw",
        super::EdgeKind::Rt => "rt",
    }
}
