//! `keypact check`: is a recorded history linearizable, serializable, in order?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use keypact_checker::format::write_edn;
use keypact_checker::report::Judgement;
use keypact_checker::{
    CheckError, DeliveryOrder, DeliveryReport, Initial, Limits, ListReport, ModelKind, Options, ReadOptions,
    Report, Row,
};
use keypact_checker::{check_delivery_file, check_expected, check_file, check_list_file, read_file};

use crate::failure::Failure;
use crate::output::{grouped, note, say, say_json, table};

const AFTER: &str = r#"Examples:
  keypact check --model kv history.jsonl
  keypact check --model cas-register --init 0 --limit 10s jepsen.log
  keypact check --model kv --json *.edn
  keypact check --model kv --to-edn history.edn history.jsonl
  keypact check --model list-append transactions.edn
  keypact check --model total deliveries.jsonl
  keypact check --expected expected.tsv

Models: register (read, write), cas-register (and compare-and-set), counter (add, read), kv (strings by key);
list-append (transactions over lists: strict serializability, with the cycle that disproves it);
fifo, causal, total (deliveries of broadcasts: the order, validity, no duplication, agreement; total says nothing of fifo).
Deliveries are one JSON object a line, the lines of each process in its own order:
  {"process":1,"type":"broadcast","message":"a"}   {"process":2,"type":"deliver","message":"a"}
  {"process":3,"type":"skip","of":1,"upto":4}      it joined behind the first 4 of process 1
  {"process":2,"type":"crash"}   {"process":2,"type":"start"}
  {"type":"rest"}                                  all is quiet: agreement is judged
Formats are told by their content: our own (one JSON object a line), EDN (Jepsen, Knossos), Jepsen logs.
A table of expected verdicts has the columns path, check, valid; an undecided row counts as wrong.
Exit codes: 0 linearizable, strictly serializable, in order (all rows right); 1 not, or undecided; 2 can't be read."#;

/// Check recorded histories for linearizability, strict serializability, or an order of delivery
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Check {
    /// What the history is of
    #[arg(long, value_parser = parse_model, required_unless_present = "expected")]
    model: Option<Model>,
    /// What each object holds at first: a number, a string, or nil [default: nil; of a counter 0]
    #[arg(long, value_name = "VALUE|nil", conflicts_with = "expected", allow_hyphen_values = true)]
    init: Option<String>,
    /// How long each file may take: 500ms, 60s, 5m
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    limit: Duration,
    /// Also write the history in EDN, for other checkers
    #[arg(long, value_name = "OUT", conflicts_with = "expected")]
    to_edn: Option<PathBuf>,
    /// Check all rows of this table against its verdicts
    #[arg(long, value_name = "FILE.tsv", conflicts_with = "model", conflicts_with = "files")]
    expected: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The histories
    #[arg(value_name = "FILE", required_unless_present = "expected")]
    files: Vec<PathBuf>,
}

/// What a history is of: single objects, transactions over lists, or broadcasts.
#[derive(Clone, Debug)]
enum Model {
    Object(ModelKind),
    ListAppend,
    Delivery(DeliveryOrder),
}

fn parse_model(text: &str) -> Result<Model, String> {
    let names = || ModelKind::ALL.iter().map(ModelKind::name).collect::<Vec<_>>().join(", ");
    match text {
        "list-append" => Ok(Model::ListAppend),
        _ => {
            let kind = ModelKind::from_name(text).map(Model::Object);
            let kind = kind.or_else(|| DeliveryOrder::from_name(text).map(Model::Delivery));
            kind.ok_or_else(|| format!("one of {}, list-append, fifo, causal, total", names()))
        }
    }
}

/// `500ms`, `60s`, `5m`; a bare number means seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| String::from("a number with ms, s or m"))?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    let milliseconds = milliseconds.filter(|ms| *ms > 0).ok_or("a number above 0 with ms, s or m")?;
    Ok(Duration::from_millis(milliseconds))
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let limits = Limits { time: Some(self.limit), ..Limits::default() };
        match (&self.expected, &self.model) {
            (Some(table), _) => self.table(table, &limits),
            (None, Some(Model::Object(model))) => self.files(model, limits),
            (None, Some(Model::ListAppend)) => self.lists(),
            (None, Some(Model::Delivery(order))) => self.deliveries(*order),
            (None, None) => unreachable!("the command line requires one of them"),
        }
    }

    fn files(&self, model: &ModelKind, limits: Limits) -> Result<(), Failure> {
        if self.to_edn.is_some() && self.files.len() > 1 {
            return Err(Failure::cannot("--to-edn takes one history: name one file"));
        }
        let initial = self.init.as_deref().map_or(Initial::Usual, Initial::parse);
        let options = Options { model: model.clone(), initial, read: ReadOptions::default(), limits };
        let mut reports = Vec::with_capacity(self.files.len());
        for file in &self.files {
            if let Some(out) = &self.to_edn {
                write_as_edn(file, out, &options.read)?;
            }
            let report = check_file(file, &options).map_err(Failure::cannot)?;
            if !self.json {
                say_report(file, &report);
            }
            reports.push(report);
        }
        let wrong = reports.iter().filter(|report| report.verdict != Judgement::Linearizable).count();
        if self.json {
            say_json(&serde_json::json!({ "files": reports.len(), "wrong": wrong, "reports": reports }))?;
        }
        match wrong {
            0 => Ok(()),
            wrong => Err(Failure {
                code: 1,
                text: silent_or(self.json, || {
                    format!("{wrong} of {} not linearizable, or undecided", reports.len())
                }),
            }),
        }
    }

    fn lists(&self) -> Result<(), Failure> {
        if self.to_edn.is_some() || self.init.is_some() {
            return Err(Failure::cannot(
                "--to-edn and --init are not for list-append: lists are empty at first",
            ));
        }
        let mut reports = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let report = check_list_file(file).map_err(Failure::cannot)?;
            if !self.json {
                say_list_report(&report);
            }
            reports.push(report);
        }
        let wrong = reports.iter().filter(|report| !report.is_valid()).count();
        if self.json {
            say_json(&serde_json::json!({ "files": reports.len(), "wrong": wrong, "reports": reports }))?;
        }
        match wrong {
            0 => Ok(()),
            wrong => {
                let text = || format!("{wrong} of {} not strictly serializable", reports.len());
                Err(Failure { code: 1, text: silent_or(self.json, text) })
            }
        }
    }

    fn deliveries(&self, order: DeliveryOrder) -> Result<(), Failure> {
        if self.to_edn.is_some() || self.init.is_some() {
            return Err(Failure::cannot("--to-edn and --init are not for histories of broadcasts"));
        }
        let mut reports = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let report = check_delivery_file(file, order).map_err(Failure::cannot)?;
            if !self.json {
                say_delivery_report(&report);
            }
            reports.push(report);
        }
        let wrong = reports.iter().filter(|report| !report.is_valid()).count();
        if self.json {
            say_json(&serde_json::json!({ "files": reports.len(), "wrong": wrong, "reports": reports }))?;
        }
        match wrong {
            0 => Ok(()),
            wrong => {
                let text = || format!("{wrong} of {} not in {} order", reports.len(), order.name());
                Err(Failure { code: 1, text: silent_or(self.json, text) })
            }
        }
    }

    fn table(&self, path: &Path, limits: &Limits) -> Result<(), Failure> {
        let start = Instant::now();
        let rows = check_expected(path, limits, |row| {
            if !self.json && !row.right {
                note(format!(
                    "WRONG {}: {}",
                    row.path,
                    row.error.as_deref().unwrap_or("another verdict than expected")
                ));
            }
        });
        let rows = rows.map_err(Failure::cannot)?;
        let right = rows.iter().filter(|row| row.right).count();
        if self.json {
            say_json(&serde_json::json!({
                "rows": rows, "right": right, "wrong": rows.len() - right, "seconds": start.elapsed().as_secs_f64(),
            }))?;
        } else {
            let shown: Vec<Vec<String>> = rows.iter().map(row_cells).collect();
            say(table(
                &["", "expected", "verdict", "ms", "operations", "file"],
                &["ms", "operations"],
                &shown,
            ));
            say(format!("\n{right} of {} rows right, in {:.1} s", rows.len(), start.elapsed().as_secs_f64()));
        }
        match rows.len() - right {
            0 => Ok(()),
            wrong => Err(Failure { code: 1, text: silent_or(self.json, || format!("{wrong} rows wrong")) }),
        }
    }
}

/// With JSON the verdict is in it, and nothing more needs to be said.
fn silent_or(json: bool, text: impl Fn() -> String) -> String {
    if json { String::new() } else { text() }
}

fn write_as_edn(file: &Path, out: &Path, read: &ReadOptions) -> Result<(), Failure> {
    let (_, history) = read_file(file, read).map_err(Failure::cannot)?;
    let in_file = |source| CheckError::File { path: out.to_path_buf(), source };
    std::fs::write(out, write_edn(&history)).map_err(in_file).map_err(Failure::cannot)
}

fn judgement(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Linearizable => "linearizable",
        Judgement::NotLinearizable => "not linearizable",
        Judgement::Undecided => "undecided",
    }
}

fn row_cells(row: &Row) -> Vec<String> {
    let mark = if row.right { "right" } else { "WRONG" };
    let expected = if row.valid { "linearizable" } else { "not linearizable" };
    let (verdict, ms, operations) = match &row.report {
        Some(report) => (
            judgement(report.verdict),
            format!("{:.1}", report.elapsed_ms),
            grouped(report.operations as u64),
        ),
        None => ("-", "-".to_owned(), "-".to_owned()),
    };
    vec![mark.to_owned(), expected.to_owned(), verdict.to_owned(), ms, operations, row.path.clone()]
}

fn say_report(file: &Path, report: &Report) {
    say(format!(
        "{}: {}{}\n  {} operations ({} of unknown outcome) on {} keys, model {}, at first {}, {}, {:.1} ms",
        file.display(),
        judgement(report.verdict),
        report.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
        grouped(report.operations as u64),
        grouped(report.unknown as u64),
        grouped(report.keys as u64),
        report.model,
        report.initial,
        report.format.map_or("", |format| format.name()),
        report.elapsed_ms,
    ));
    if let Some(violation) = &report.violation {
        let text: Vec<String> = violation.text.lines().map(|line| format!("  {line}")).collect();
        say(text.join("\n"));
    }
}

fn say_list_report(report: &ListReport) {
    let names = match report.anomalies.as_slice() {
        [] => "strictly serializable".to_owned(),
        names => format!("not strictly serializable: {}", names.join(", ")),
    };
    say(format!(
        "{}: {names}\n  {} transactions ({} of unknown outcome, {} not applied) on {} keys, {} dependencies, model {}, {}, {:.1} ms",
        report.path.display(),
        grouped((report.committed + report.unknown + report.aborted) as u64),
        grouped(report.unknown as u64),
        grouped(report.aborted as u64),
        grouped(report.keys as u64),
        grouped(report.edges as u64),
        report.model,
        report.format.name(),
        report.elapsed_ms,
    ));
    for witness in &report.witnesses {
        let text: Vec<String> = witness.text.lines().map(|line| format!("    {line}")).collect();
        say(format!("  {}\n{}", witness.name, text.join("\n")));
    }
}

fn say_delivery_report(report: &DeliveryReport) {
    let verdict = match &report.violation {
        None => format!("in {} order", report.model),
        Some(violation) => format!("not in {} order: {}", report.model, violation.property),
    };
    let rest = if report.at_rest { "" } else { "; not at rest, so agreement was not judged" };
    say(format!(
        "{}: {verdict}\n  {} deliveries of {} messages at {} processes, {:.1} ms{rest}",
        report.path.display(),
        grouped(report.deliveries as u64),
        grouped(report.messages as u64),
        grouped(report.processes as u64),
        report.elapsed_ms,
    ));
    if let Some(violation) = &report.violation {
        say(format!("  {}", violation.witness));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("7", 7_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "0s", "5h", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
